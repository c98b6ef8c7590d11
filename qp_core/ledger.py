"""Run: the state of every unit while a run goes on, in columns; what the report is read from afterwards."""

from array import array
from collections.abc import Mapping
from typing import Any

import attrs

from qp_core.lock import YieldingLock
from qp_core.plan import ExecutionPlan
from qp_core.vocabulary import UnitState

STATES = tuple(UnitState)
"""A state's code in a ledger is its place here."""
PENDING, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELED, TIMEOUT = range(len(STATES))


class _Freed:
    """Stands where a result was that nobody needs any more."""

    def __repr__(self) -> str:
        return "<freed>"


FREED = _Freed()


@attrs.define(eq=False)
class UnitNotes:
    """What is worth noting of a unit beside its times; most units of a large run have none."""

    attempts: int = 1
    error: BaseException | None = None
    used_fallback: bool = False
    cached: bool = False
    known: bool = False
    abandoned: bool = False
    first_started: float = 0.0
    metrics: Mapping[str, Any] = attrs.Factory(dict)
    writes: tuple[str, ...] = ()


NO_NOTES = UnitNotes()
"""Notes of a unit of which there is nothing to note; never changed."""


_NO_PLAN = ExecutionPlan.of({})


class Ledger:
    """The state of every unit of one run, in columns: about 40 bytes a unit.

    The frontier writes it, under its lock. Times are the clock's monotonic seconds.

    Attributes:
        plan: The plan that runs; let go when the run is over.
        shape: The plan without its units, which stays: a result must not hold functions, nor the partitioner that holds the result.
        states: A code per unit, an index into `STATES`.
        values: A result per unit; taken away when the run is over.
        started: When the last attempt began; 0.0 where none did.
        ended: When the unit ended.
        workers: The number of the worker that ran it.
        notes: What else there is to say, by unit number.
        causes: For a skipped unit, the number of the unit that failed.
        frees: Whether results are let go after their last use.
    """

    __slots__ = (
        "_notes_lock",
        "causes",
        "ended",
        "frees",
        "notes",
        "plan",
        "shape",
        "started",
        "states",
        "values",
        "workers",
    )

    def __init__(self, plan: ExecutionPlan) -> None:
        n = len(plan)
        self.plan = plan
        self.shape = plan.shape
        self.states = bytearray(n)
        self.values: list[Any] = [None] * n
        self.started = array("d", bytes(8 * n))
        self.ended = array("d", bytes(8 * n))
        self.workers = array("i", bytes(4 * n))
        self.notes: dict[int, UnitNotes] = {}
        self.causes: dict[int, int] = {}
        self.frees = False
        self._notes_lock = YieldingLock()

    def note(self, number: int, **changes: Any) -> None:
        """Change the notes of a unit. The notes have a lock of their own: they are touched by several threads, but seldom."""
        with self._notes_lock:
            notes = self.notes.get(number)
            if notes is None:
                notes = self.notes[number] = UnitNotes()
            for name, value in changes.items():
                setattr(notes, name, value)

    def notes_of(self, number: int) -> UnitNotes:
        """The notes of a unit, only to be read.

        Returns:
            The unit's notes; blank ones where there is nothing to note.
        """
        with self._notes_lock:
            return self.notes.get(number, NO_NOTES)

    def close(self) -> None:
        """Let go of what only a run needs; the report has the rest, and the result the values."""
        self.plan = _NO_PLAN
        self.values.clear()  # and not a new list: an exception that somebody keeps holds the frames that hold this one

    def ran(self, number: int) -> bool:
        """Whether an attempt of the unit was begun.

        Returns:
            False also for a cached or known result.
        """
        return self.ended[number] > 0.0 and self.started[number] > 0.0
