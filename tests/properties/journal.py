"""What units did, written down by the units themselves: the engine has no hand in it."""

import contextlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from qp_core import ExecutionContext, current_context


class Journal:
    """Who entered and who left, in the order in which it happened, under a lock."""

    def __init__(self):
        self._lock = threading.Lock()
        self._steps = []
        self._attempts = Counter()

    def enter(self, number):
        """A unit's function has been called.

        Returns:
            How often by now.
        """
        with self._lock:
            self._steps.append((number, True))
            self._attempts[number] += 1
            return self._attempts[number]

    def leave(self, number):
        """A unit's function is about to end."""
        with self._lock:
            self._steps.append((number, False))

    def steps(self):
        """Everything so far.

        Returns:
            Pairs of a unit's number and whether it entered.
        """
        with self._lock:
            return list(self._steps)

    def calls(self):
        """How often each unit was called.

        Returns:
            A Counter by number.
        """
        return Counter(number for number, entered in self.steps() if entered)

    def entered(self):
        """The units in the order in which they were called.

        Returns:
            Numbers; one that was called twice stands there twice.
        """
        return [number for number, entered in self.steps() if entered]

    def most_at_once(self):
        """The most units that were inside their functions at the same time.

        Returns:
            A count.
        """
        inside = most = 0
        for _, entered in self.steps():
            inside += 1 if entered else -1
            most = max(most, inside)
        return most


class FileJournal(Journal):
    """The same for units in other processes: lines appended to a file, which the system keeps in order."""

    def __init__(self, path):
        self._path = os.fspath(path)

    def _append(self, line):
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def enter(self, number):
        """Append it; no unit is called twice at once, so its own lines count its calls."""
        self._append(f"+{number}\n")
        return self.calls()[number]

    def leave(self, number):
        """Append it."""
        self._append(f"-{number}\n")

    def steps(self):
        """Read them."""
        try:
            with open(self._path) as file:  # noqa: PTH123 - the path is a string that pickles small
                return [(int(line[1:]), line[0] == "+") for line in file]
        except FileNotFoundError:
            return []


@contextlib.contextmanager
def file_journal():
    """A journal for units in other processes.

    Yields:
        The journal; its file is gone afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield FileJournal(Path(folder, "journal"))


@attrs.frozen
class Given:
    """What a test gives to every unit, in a mapping or as the context itself.

    Attributes:
        journal: Where units write down what they do.
        salt: Goes into every result, so that results of two runs cannot be mistaken for each other.
        faulty: Whether units that can fail do.
        hook: Called with a unit's number from inside its function; for tests that interfere there.
    """

    journal: Journal
    salt: int = 0
    faulty: bool = True
    hook: Any = None

    @staticmethod
    def of(context):
        """Find what was given.

        Returns:
            The object.
        """
        return context["given"] if isinstance(context, Mapping) else context


def results_of_needs(context, ids):
    """What a unit's dependencies returned, read in both ways.

    Args:
        context: What the unit was called with.
        ids: The ids of what it depends on.

    Returns:
        One value for each id.

    Raises:
        AssertionError: The context holds other results, or none.
    """
    own = context if isinstance(context, ExecutionContext) else current_context()
    if set(own.unit_results) != set(ids):
        msg = f"{sorted(ids)} are declared, {sorted(own.unit_results)} are there"
        raise AssertionError(msg)
    values = [own.get_dependency_result(unit_id) for unit_id in ids]
    if [own[unit_id] for unit_id in ids] != values:
        msg = f"the keys {ids} hold something else than the results {values}"
        raise AssertionError(msg)
    return values
