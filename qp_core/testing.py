"""For authors of plugins, and for our own tests: a clock that jumps, a recorder, and the contracts of each seam.

The contracts are plain functions that raise AssertionError with the broken rule in words.
"""

import inspect
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from qp_core.cache import MISS, Cache
from qp_core.clock import Inbox, received
from qp_core.context import ExecutionContext
from qp_core.errors import PluginError
from qp_core.executor import Executor
from qp_core.fallback import Substitute
from qp_core.partitioner import QuantumPartitioner
from qp_core.plan import ExecutionPlan
from qp_core.strategy import Strategy, checked_order
from qp_core.telemetry import (
    Event,
    RunFinished,
    RunStarted,
    UnitFinished,
    UnitRetrying,
    UnitStarted,
    listeners_of,
)
from qp_core.unit import QuantumUnit
from qp_core.vocabulary import UnitId, UnitState

__all__ = [
    "FakeClock",
    "Recorder",
    "check_cache",
    "check_executor",
    "check_fallback",
    "check_observer",
    "check_strategy",
]


class FakeClock:
    """A clock that stands still, and jumps to the next due time when no unit is running.

    A retry that waits five seconds costs a test nothing. A unit that is to run out of time calls `advance` itself, or has
    another thread call it.

    Args:
        start: Where its monotonic seconds begin; above 0, since 0.0 means "never" in a ledger.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._lock = threading.Lock()
        self._now = start
        self._seen = threading.local()
        self.jumps: list[float] = []
        """How far each jump went, in seconds."""

    def now(self) -> float:
        """Monotonic seconds."""
        with self._lock:
            return self._look()

    def _look(self) -> float:
        self._seen.at = self._now
        return self._now

    def utc(self) -> float:
        """Seconds since the epoch."""
        return 1_700_000_000.0 + self.now()

    def advance(self, seconds: float) -> None:
        """Let time pass; whoever waits for that time finds out at once."""
        with self._lock:
            self._now += seconds
            self._look()

    def wait(self, inbox: Inbox, timeout_s: float | None, idle: Callable[[], bool]) -> object | None:
        """Wait for a message; where only time can bring the run on, jump.

        Args:
            inbox: Where messages arrive.
            timeout_s: The longest wait in seconds, from when the calling thread last looked at the clock: what time others let pass
                between that look and this call has passed, and is not waited for again. None is for ever.
            idle: Whether no unit is running.

        Returns:
            The message, or None.
        """
        if timeout_s is None:
            return received(inbox)
        with self._lock:
            ends = getattr(self._seen, "at", self._now) + timeout_s
        look_s = 0.0
        while True:
            try:
                return inbox.get(timeout=look_s)
            except queue.Empty:
                look_s = _LOOK_S
            with self._lock:
                if self._look() >= ends:
                    return None
                if idle() and inbox.empty():
                    self.jumps.append(ends - self._now)
                    self._now = ends
                    self._look()
                    return None


# A unit that completes tells the waiting thread nothing, so that one has to look whether some still run.
_LOOK_S = 0.0005


class Recorder:
    """An observer that keeps every event in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def qp_run_started(self, event: RunStarted) -> None:
        """Keep it."""
        self.events.append(event)

    def qp_unit_started(self, event: UnitStarted) -> None:
        """Keep it."""
        self.events.append(event)

    def qp_unit_retrying(self, event: UnitRetrying) -> None:
        """Keep it."""
        self.events.append(event)

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Keep it."""
        self.events.append(event)

    def qp_run_finished(self, event: RunFinished) -> None:
        """Keep it."""
        self.events.append(event)

    def finished(self) -> list[UnitId]:
        """The units that have ended, in order.

        Returns:
            Ids.
        """
        return [event.unit_id for event in self.events if isinstance(event, UnitFinished)]


def _diamonds(count: int, function: Callable[[Any], Any], joined: Callable[[Any], Any]) -> QuantumPartitioner[Any, Any]:
    """`count` diamonds in a row, each unit a number that proves what it was given.

    .. code-block:: text

        top_0 -> left_0, right_0 -> bottom_0 -> top_1 -> ...

    Returns:
        A partitioner.
    """
    partitioner: QuantumPartitioner[Any, Any] = QuantumPartitioner(max_workers=2)
    before: list[UnitId] = []
    for number in range(count):
        top, left, right, bottom = (f"{part}_{number}" for part in ("top", "left", "right", "bottom"))
        partitioner.add_unit(function, before, top)
        partitioner.add_unit(function, [top], left)
        partitioner.add_unit(function, [top], right)
        partitioner.add_unit(joined, [left, right], bottom)
        before = [bottom]
    return partitioner


def _sum_of_needs(context: Any) -> int:
    total: int = 1 + sum(context.unit_results.values())
    return total


def _raise(context: Any) -> None:
    msg = f"{context['who']} is meant to fail"
    raise ValueError(msg)


def check_executor(make: Callable[[], Executor]) -> None:
    """The contract of an executor: every unit ends once, after what it needs, with the right result; failures stay in their cone.

    Args:
        make: Makes a new executor.

    Raises:
        AssertionError: The executor breaks a rule; the message says which.
    """
    expected = _diamonds(5, _sum_of_needs, _sum_of_needs).execute({}, execution_mode="sequential")
    recorder = Recorder()
    partitioner = _diamonds(5, _sum_of_needs, _sum_of_needs)
    result = partitioner.execute({}, custom_executor=make(), telemetry=[recorder])
    _demand(result == expected, f"results differ from sequential ones: {result} instead of {expected}")
    first = type(recorder.events[0]).__name__
    _demand(first == "RunStarted", f"it must call run.begin before anything else; the first event was {first}")
    order = recorder.finished()
    _demand(sorted(order) == sorted(expected), f"each unit must end once; ended were {order}")
    position = {unit_id: place for place, unit_id in enumerate(order)}
    for unit_id, unit in partitioner.units.items():
        for need in unit.dependencies:
            _demand(position[need] < position[unit_id], f"{unit_id!r} ended before {need!r}, which it needs")
    failing = _diamonds(2, _sum_of_needs, _raise).execute({"who": "bottom"}, custom_executor=make())
    states = {unit_id: record.state for unit_id, record in failing.report.units.items()}
    _demand(states["bottom_0"] is UnitState.FAILED, f"a unit that raises must be failed, not {states['bottom_0']}")
    _demand(states["left_0"] is UnitState.COMPLETED, "a failure must not touch what does not depend on it")
    _demand(
        states["bottom_1"] is UnitState.SKIPPED,
        f"what depends on a failed unit must be skipped, not {states['bottom_1']}",
    )
    empty: QuantumPartitioner[Any, Any] = QuantumPartitioner()
    _demand(empty.execute({}, custom_executor=make()) == {}, "the empty graph must give an empty result")


def check_strategy(make: Callable[[], Strategy]) -> None:
    """The contract of a strategy: None, or every unit once, and the same answer for the same plan.

    Args:
        make: Makes a new strategy.

    Raises:
        AssertionError: The strategy breaks a rule; the message says which.
    """
    for plan in (_plan_of(()), _plan_of(("a",)), _diamonds(5, _sum_of_needs, _sum_of_needs).build_execution_plan()):
        first, second = (make().order(plan) for _ in range(2))
        try:
            checked_order(type(make()).__name__, first, plan)
        except PluginError as error:
            raise AssertionError(str(error)) from error
        _demand(first == second, f"the same plan was ordered in two ways: {first} and {second}")


def _plan_of(names: Sequence[UnitId]) -> ExecutionPlan:
    partitioner: QuantumPartitioner[Any, Any] = QuantumPartitioner()
    for name in names:
        partitioner.add_unit(_sum_of_needs, name=name)
    return partitioner.build_execution_plan()


def check_cache(make: Callable[[], Cache]) -> None:
    """The contract of a cache: what was put is found, also None; what was not put or was deleted is `MISS`; counts are right.

    Args:
        make: Makes a new, empty cache.

    Raises:
        AssertionError: The cache breaks a rule; the message says which.
    """
    cache = make()
    _demand(cache.get("absent") is MISS, "a key that was never put must give MISS")
    for key, value in (("none", None), ("falsy", 0), ("list", [1, 2]), ("none", "changed")):
        cache.put(key, value)
        _demand(cache.get(key) == value, f"{key!r} must give {value!r} after it was put")
    cache.delete("list")
    cache.delete("absent")
    _demand(cache.get("list") is MISS, "a deleted key must give MISS")
    stats = cache.stats()
    _demand(
        (stats["entries"], stats["hits"], stats["misses"]) == (2, 4, 2),
        f"2 entries, 4 hits and 2 misses expected, not {dict(stats)}",
    )


def check_observer(make: Callable[[], object]) -> None:
    """The contract of an observer: it has observe hooks and no other, and raises at none of the events that a run can tell.

    Args:
        make: Makes a new observer, for one run.

    Raises:
        AssertionError: The observer breaks a rule; the message says which.
    """
    told = _events_of(_every_end)
    for events in ([], _events_of(_no_units), told, [_given_up(event) for event in told]):
        observer = make()
        try:
            heard = listeners_of(type(observer).__name__, observer)
        except TypeError as error:
            raise AssertionError(str(error)) from error
        for event in events:
            listener = heard.get(type(event))
            if listener is None:
                continue
            try:
                listener[1](event)
            except Exception as error:
                msg = f"it raised {type(error).__name__}: {error} at {event!r}"
                raise AssertionError(msg) from error


def _events_of(add_units: Callable[[QuantumPartitioner[Any, Any]], None]) -> list[Event]:
    """What a run tells.

    Returns:
        The events, in order.
    """
    recorder = Recorder()
    partitioner: QuantumPartitioner[Any, Any] = QuantumPartitioner(clock=FakeClock())
    add_units(partitioner)
    partitioner.execute({"who": "bad"}, "sequential", telemetry=[recorder])
    return recorder.events


def _no_units(_: QuantumPartitioner[Any, Any]) -> None:
    """The empty graph has a beginning and an end too."""


def _every_end(partitioner: QuantumPartitioner[Any, Any]) -> None:
    partitioner.add_unit(_sum_of_needs, name="good")
    partitioner.add_unit(_raise, name="mended", metadata={"fallback_value": None})
    partitioner.add_unit(_raise, name="bad", retries=1)
    partitioner.add_unit(_sum_of_needs, ["bad"], "skipped")


def _given_up(event: Event) -> Event:
    """The same event where units ran out of time or were cancelled, for which a run would have to be stopped."""
    if isinstance(event, UnitFinished):
        if event.state is UnitState.FAILED:
            return attrs.evolve(event, state=UnitState.TIMEOUT, error=TimeoutError("late"))
        if event.state is UnitState.SKIPPED:
            return attrs.evolve(event, state=UnitState.CANCELED, cause=None)
    return event


def check_fallback(plugin: object) -> None:
    """The contract of a fallback plugin: for a unit that asks for none it answers None, it never raises, and changes no unit.

    Args:
        plugin: A module or an object with the hook `qp_fallback`.

    Raises:
        AssertionError: The plugin breaks a rule; the message says which.
    """
    hook: Callable[..., object] | None = getattr(plugin, "qp_fallback", None)
    if hook is None:
        msg = "it has no hook qp_fallback"
        raise AssertionError(msg)
    taken = list(inspect.signature(hook).parameters)
    for error in (ValueError("broken"), KeyError(), TimeoutError("late"), SystemExit(3)):
        for attempt in (1, 4):
            unit: QuantumUnit[Any, Any] = QuantumUnit("plain", _raise, metadata={"key": "value"})
            given = {"unit": unit, "error": error, "attempt": attempt, "context": ExecutionContext({"who": "plain"})}
            unknown = [name for name in taken if name not in given]
            _demand(not unknown, f"qp_fallback takes {unknown}; the hook has {list(given)}")
            try:
                answer = hook(**{name: given[name] for name in taken})
            except Exception as raised:
                msg = f"it raised {type(raised).__name__}: {raised} for {error!r}"
                raise AssertionError(msg) from raised
            kind = "Substitute" if isinstance(answer, Substitute) else repr(answer)
            _demand(answer is None, f"it answered {kind} for a unit that asks for no fallback")
            _demand(unit.metadata == {"key": "value"} and unit.fallback is None, "it changed the unit")


def _demand(holds: bool, rule: str) -> None:  # noqa: FBT001 - the private spelling of assert, which -O takes away
    if not holds:
        raise AssertionError(rule)
