"""Around: who watches a run, and what they are told — one frozen record an event.

Observers cannot hurt a run: one that raises is switched off for that run and named once in the log. They are called one at
a time and in order (a unit's end always before its dependents' starts), in the coordinating process, in the thread where the
event happens; so a slow observer slows the run. With none, an event costs nothing: the run does not even make the record.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from qp_core.errors import refuse_class, told
from qp_core.lock import YieldingLock
from qp_core.plan import ExecutionPlan
from qp_core.report import RunReport
from qp_core.vocabulary import UnitId, UnitState

_log = logging.getLogger("qp_core")


@attrs.frozen(kw_only=True)
class RunStarted:
    """A run is about to hand out its first unit."""

    run_id: str
    plan: ExecutionPlan
    mode: str
    strategy: str
    max_workers: int | None
    started_utc: float


@attrs.frozen(kw_only=True)
class UnitStarted:
    """An attempt of a unit begins; `at` is in monotonic seconds."""

    run_id: str
    unit_id: UnitId
    attempt: int
    at: float


@attrs.frozen(kw_only=True)
class UnitRetrying:
    """An attempt of a unit failed, and another will be made after `wait_s` seconds."""

    run_id: str
    unit_id: UnitId
    attempt: int
    error: BaseException
    wait_s: float


@attrs.frozen(kw_only=True)
class UnitFinished:
    """A unit came to an end: one such record for each unit of a run.

    Attributes:
        run_id: The run.
        unit_id: The unit.
        state: Where it ended.
        value: Its result, where it completed.
        error: What its last attempt raised; also where a fallback stood in.
        attempts: Attempts made.
        started: When the last one began, in monotonic seconds; None where none was made.
        ended: When the unit ended.
        cause: For a skipped unit, the failed unit that is the root cause.
        cached: Whether the value came from a cache.
        used_fallback: Whether a fallback stood in.
    """

    run_id: str
    unit_id: UnitId
    state: UnitState
    value: Any
    error: BaseException | None
    attempts: int
    started: float | None
    ended: float
    cause: UnitId | None = None
    cached: bool = False
    used_fallback: bool = False


@attrs.frozen(kw_only=True)
class RunFinished:
    """A run is over; every unit has ended, and no further event comes."""

    run_id: str
    report: RunReport


Event: TypeAlias = RunStarted | UnitStarted | UnitRetrying | UnitFinished | RunFinished

HOOK_OF: dict[type[Event], str] = {
    RunStarted: "qp_run_started",
    UnitStarted: "qp_unit_started",
    UnitRetrying: "qp_unit_retrying",
    UnitFinished: "qp_unit_finished",
    RunFinished: "qp_run_finished",
}
"""Which hook is told of which event."""

Listener: TypeAlias = tuple[str, Callable[[Any], object]]
"""Who listens (a name for the log) and what is called with the event."""


class Listeners:
    """The observers of one run, looked up once.

    Args:
        by_event: For each kind of event, who is told.
    """

    def __init__(self, by_event: dict[type[Event], Sequence[Listener]]) -> None:
        self._by_event = {kind: tuple(listeners) for kind, listeners in by_event.items() if listeners}
        # An RLock: an observer may cancel the run, and the cancellations are events too.
        self._lock = YieldingLock(threading.RLock())

    def __bool__(self) -> bool:
        return bool(self._by_event)

    def hear(self, kind: type[Event]) -> bool:
        """Whether anybody listens to this kind of event, so that others need not be made.

        Returns:
            True where somebody does.
        """
        return kind in self._by_event

    def tell(self, event: Event, unless: Callable[[], bool] | None = None) -> bool:
        """Tell the listeners of one event; one that raises is told nothing more in this run.

        Args:
            event: The event.
            unless: Asked when it is this event's turn, whether it is out of date by now.

        Returns:
            False where it was.
        """
        with self._lock:
            if unless is not None and unless():
                return False
            for listener in self._by_event.get(type(event), ()):
                try:
                    listener[1](event)
                except Exception as error:  # noqa: BLE001 - an observer may raise anything, and must not hurt the run
                    self._drop(listener[0])
                    self._warn(listener[0], error, HOOK_OF[type(event)])
                except BaseException:  # it ends the run; told of what ends with that, it would only raise again
                    self._drop(listener[0])
                    raise
        return True

    def _drop(self, name: str) -> None:
        self._by_event = {
            kind: kept
            for kind, listeners in self._by_event.items()
            if (kept := tuple(one for one in listeners if one[0] != name))
        }

    @staticmethod
    def _warn(name: str, error: Exception, hook: str) -> None:
        _log.warning(
            "observer %r raised in %s and is switched off for this run: %s",
            name,
            hook,
            told(error),
            exc_info=error,
        )


def listeners_of(name: str, observer: object) -> dict[type[Event], Listener]:
    """What one observer object listens to: its methods that are named like observe hooks.

    Args:
        name: What the log calls it.
        observer: Any object with methods such as `qp_unit_finished(event)`.

    Returns:
        A listener for each kind of event that it wants to hear of.

    Raises:
        TypeError: It has a method `qp_...` that is no observe hook, or none at all; or it is a class.
    """
    known = {hook: kind for kind, hook in HOOK_OF.items()}
    named = [attribute for attribute in dir(observer) if attribute.startswith("qp_")]
    wrong = [attribute for attribute in named if attribute not in known]
    if wrong or not named:
        problem = f"has {wrong[0]!r}" if wrong else "has no observe hook"
        msg = f"observer {name!r} {problem}; the observe hooks are: {', '.join(known)}"
        raise TypeError(msg)
    refuse_class(observer, "an observer", named)
    return {known[attribute]: (name, getattr(observer, attribute)) for attribute in named}
