"""What the tests of the core share: the lanes in which every ruling holds, patience, units that hang until they are let go, a measure of work."""

import functools
import gc
import sys
import threading

import attrs
import pytest

from qp_core import QuantumPartitioner

PATIENCE_S = 60
"""How long threads wait for each other; only ever spent by a test that fails."""


@attrs.frozen
class Lane:
    """A mode, and whether units are coroutine functions in it.

    Attributes:
        mode: What `execute` is told.
        coroutines: Whether `unit` makes coroutine functions.
    """

    mode: str
    coroutines: bool = False

    def unit(self, function):
        """A function as a unit of this lane."""
        if not self.coroutines:
            return function

        @functools.wraps(function)
        async def coroutine(ctx):
            return function(ctx)

        return coroutine

    def partitioner(self, functions, needs=None, **options):
        """A partitioner of units by name.

        Args:
            functions: Functions by id.
            needs: Dependencies by id; none where a unit is not named.
            **options: For the partitioner.

        Returns:
            It.
        """
        made = QuantumPartitioner(default_execution_mode=self.mode, **options)
        for name, function in functions.items():
            made.add_unit(self.unit(function), (needs or {}).get(name), name)
        return made


LANES = {
    "sequential": Lane("sequential"),
    "sequential_coroutines": Lane("sequential", coroutines=True),
    "thread": Lane("thread"),
    "thread_coroutines": Lane("thread", coroutines=True),
    "async": Lane("async"),
    "async_coroutines": Lane("async", coroutines=True),
}

in_every_lane = pytest.mark.parametrize("lane", [pytest.param(lane, id=name) for name, lane in LANES.items()])
"""Run a test in every mode, with functions and with coroutine functions."""

in_every_mode = pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
"""Run a test in every mode."""

in_parallel_modes = pytest.mark.parametrize("mode", ["thread", "async"])
"""Run a test in the modes that run units at the same time."""


class Hanging:
    """A unit that runs until it is let go; a function, so it cannot be stopped.

    Args:
        clock: A fake clock to set forward once it runs; None for none.
        after_s: How far.
    """

    def __init__(self, clock=None, after_s=0.0):
        self._clock = clock
        self._after_s = after_s
        self.begun = threading.Semaphore(0)
        self.free = threading.Event()
        self.ended = threading.Semaphore(0)

    def __call__(self, ctx):
        """Run on."""
        self.begun.release()
        if self._clock is not None:
            self._clock.advance(self._after_s)
        self.free.wait(PATIENCE_S)
        self.ended.release()
        return "too late"


class Loud(str):
    """An id that runs a line of Python wherever it is compared or looked up, so that `steps_of` counts a search through a list too.

    A unit keeps a plain copy of its own id, and the ids of its dependencies as they are.
    """

    __slots__ = ()

    def __eq__(self, other):
        return str.__eq__(self, other)

    def __hash__(self):
        return str.__hash__(self)


def steps_of(work):
    """How much work something is, as lines of Python that run in this thread: no clock, and the same on every machine.

    Args:
        work: Called with nothing.

    Returns:
        The count. What is done in C counts as nothing but for the ids that it compares, where these are `Loud`.
    """
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    gc.disable()  # what others have left to be cleaned up is not this work
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def said(caplog):
    """What the library has logged so far, and nobody else: asyncio may complain of what another test has left, whenever that is collected.

    Returns:
        Messages.
    """
    return [record.getMessage() for record in caplog.records if record.name == "qp_core"]


def wait_for(event):
    """Wait for another thread; fails the test where it does not come."""
    assert event.wait(PATIENCE_S), "another thread did not come"


def states_of(result):
    """Where each unit of a run ended.

    Returns:
        The values of the states by id.
    """
    return {unit_id: record.state.value for unit_id, record in result.report.units.items()}
