"""Run: what the end of an attempt means — another attempt, a stand-in, or the end of the unit and what follows for others.

Whoever claims a unit first settles it; then observers are told, and only then do dependents become ready. So observers hear
of every unit once, and of a dependency before its dependents. What is claimed is ended whatever happens in between: an
observer may raise SystemExit, and the run must still come to its end.
"""

import contextlib
import functools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from qp_core.clock import Clock, Timers
from qp_core.errors import PluginError, told
from qp_core.fallback import Substitute
from qp_core.frontier import LOST, NOBODY, Frontier
from qp_core.ledger import CANCELED, COMPLETED, PENDING, STATES, Ledger
from qp_core.telemetry import Listeners, UnitFinished, UnitRetrying
from qp_core.unit import QuantumUnit
from qp_core.vocabulary import UnitId

AnyUnit = QuantumUnit[Any, Any]


class Policies(Protocol):
    """What plugins decide while a run goes on. Each may raise `PluginError`, which ends the run."""

    def cache_key(self, unit: AnyUnit, context: Mapping[str, Any]) -> str | None:
        """The key of a unit's result; None where it is not to be cached."""
        ...

    def fallback(self, unit: AnyUnit, error: BaseException, attempt: int, context: Any) -> Substitute | None:
        """What stands in for a failed unit."""
        ...


def _name_unit(error: BaseException, unit_id: UnitId, attempts: int) -> None:
    # In an ExceptionGroup or a traceback far away, the exception itself must say whose it is.
    note = f"raised by unit {unit_id!r}" + (f", attempt {attempts}" if attempts > 1 else "")
    with contextlib.suppress(Exception):  # whatever the user's exception has for notes
        if note not in getattr(error, "__notes__", ()):
            add_note(error, note)


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a unit's exception, if it takes any: it may be frozen, such as a dataclass."""
    with contextlib.suppress(Exception):
        error.add_note(note)


def _asked_wait(unit: AnyUnit, attempts: int, error: BaseException, rng: random.Random) -> float:
    # `retry_after` is the user's: what it raises or answers must not look like an error of the engine.
    try:
        wait = unit.retry.wait_s(attempts, error, rng)
    except Exception as raised:
        problem = f"raised {told(raised)} for unit {unit.id!r}"
        raise PluginError("RetryPolicy", "retry_after", problem) from raised
    if not wait < math.inf:
        problem = f"answered {wait!r} for unit {unit.id!r}; answer seconds, or None"
        raise PluginError("RetryPolicy", "retry_after", problem)
    return wait


class Settlement:
    """Settles the units of one run.

    Args:
        run_id: For the events.
        ledger: What is settled.
        frontier: Who is told.
        timers: Where units wait for another attempt.
        clock: Whose time counts.
        listeners: The observers.
        policies: Who offers fallbacks.
        rng: Where jitter comes from.
        on_failure: Called when a unit has failed for good, before its cone is counted as ended; None for nothing.
    """

    def __init__(
        self,
        *,
        run_id: str,
        ledger: Ledger,
        frontier: Frontier,
        timers: Timers,
        clock: Clock,
        listeners: Listeners,
        policies: Policies,
        rng: random.Random,
        on_failure: Callable[[], None] | None,
    ) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self._frontier = frontier
        self._timers = timers
        self._clock = clock
        self._listeners = listeners
        self._policies = policies
        self._rng = rng
        self._on_failure = on_failure

    def value(self, number: int, worker: int, value: Any, started: float = 0.0, **notes: Any) -> int:
        """End a unit with a result.

        Args:
            number: The unit.
            worker: Who ran it.
            value: Its result.
            started: When the attempt began; 0.0 keeps what is noted.
            **notes: What is worth noting (`cached`, `used_fallback`, `error`, `metrics`, `writes`).

        Returns:
            The next unit for this worker, `NONE_READY`, or `LOST` where somebody else has settled it.
        """
        if not self._frontier.claim(number, worker, COMPLETED, value, started, self._clock.now(), notes):
            return LOST
        try:
            self.tell_finished(number)
        except BaseException:  # an observer raised what nobody may stop: the worker goes, but its unit is ended
            self._frontier.release(number, NOBODY)
            raise
        return self._frontier.release(number, worker)

    def failure(
        self,
        number: int,
        worker: int | None,
        error: BaseException,
        state: int,
        started: float = 0.0,
        **notes: Any,
    ) -> bool:
        """End a unit without a result, and skip what waits for it.

        Args:
            number: The unit.
            worker: Who ran it; None where the coordinator takes it from whoever runs it.
            error: Why.
            state: The code of its last state.
            started: When the attempt began; 0.0 keeps what is noted.
            **notes: What is worth noting beside the error.

        Returns:
            False where somebody else has settled it.
        """
        if not self._frontier.claim(number, worker, state, None, started, self._clock.now(), {"error": error, **notes}):
            return False
        _name_unit(error, self._ledger.plan.nodes[number].id, self._ledger.notes_of(number).attempts)
        try:
            self.tell_finished(number)
        finally:
            self._end_with_cone(number, state)
        return True

    def _end_with_cone(self, number: int, state: int) -> None:
        skipped = self._frontier.skip_cone(number)
        try:
            for child in skipped:
                self.tell_finished(child)
            if self._on_failure is not None and state != CANCELED:
                self._on_failure()
        finally:
            self._frontier.end([number, *skipped])

    def retry(self, number: int, worker: int, error: BaseException, started: float, **notes: Any) -> bool | None:
        """Have a unit tried again after a failed attempt, if it is to be.

        Args:
            number: The unit.
            worker: Who ran it.
            error: What the attempt raised.
            started: When it began; 0.0 keeps what is noted.
            **notes: What is worth noting beside the error.

        Returns:
            None where no attempt will follow, and the unit is still to be settled; else whether it was this worker's to settle.
        """
        wait = self._wait_before_retry(number, error, started)
        return None if wait is None else self._wait(number, worker, error, started, wait, notes)

    def _wait_before_retry(self, number: int, error: BaseException, started: float) -> float | None:
        unit, notes = self._ledger.plan.nodes[number], self._ledger.notes_of(number)
        if notes.attempts > unit.retries or self._frontier.halted is not None or not isinstance(error, unit.retry.on):
            return None
        wait = _asked_wait(unit, notes.attempts, error, self._rng)
        limit = unit.retry.stop_after_s
        first = notes.first_started or started or self._ledger.started[number]
        if limit is not None and self._clock.now() + wait - first > limit:
            return None
        return wait

    def _wait(
        self,
        number: int,
        worker: int,
        error: BaseException,
        started: float,
        wait: float,
        notes: Mapping[str, Any],
    ) -> bool:
        if not self._frontier.claim(
            number, worker, PENDING, None, started, self._clock.now(), {"error": error, **notes}
        ):
            return False
        attempts = self._ledger.notes_of(number).attempts
        try:
            if self._listeners.hear(UnitRetrying):
                unit_id = self._ledger.plan.nodes[number].id
                self._listeners.tell(
                    UnitRetrying(run_id=self._run_id, unit_id=unit_id, attempt=attempts, error=error, wait_s=wait)
                )
        finally:
            if self._frontier.withdraw(number):  # the run was halted between the decision and the claim
                self._end_canceled([number])
            else:
                self._timers.add(self._clock.now() + wait, functools.partial(self._frontier.requeue, number))
        return True

    def halt(self, reason: str) -> None:
        """Hand out nothing more, and cancel every unit that has not begun."""
        canceled = self._frontier.halt(reason)
        if canceled:
            self._end_canceled(canceled)

    def _end_canceled(self, canceled: Sequence[int]) -> None:
        try:
            for number in canceled:
                self.tell_finished(number)
        finally:
            self._frontier.end(canceled)

    def part(self) -> None:
        """Let go of the run, when it is over."""
        self._on_failure = None

    def tell_finished(self, number: int) -> None:
        """Tell the observers of a unit's end."""
        if not self._listeners.hear(UnitFinished):
            return
        ledger = self._ledger
        notes, ran, cause = ledger.notes_of(number), ledger.ran(number), ledger.causes.get(number)
        self._listeners.tell(
            UnitFinished(
                run_id=self._run_id,
                unit_id=ledger.plan.nodes[number].id,
                state=STATES[ledger.states[number]],
                value=ledger.values[number],
                error=notes.error,
                attempts=notes.attempts if ran else 0,
                started=ledger.started[number] if ran else None,
                ended=ledger.ended[number] or self._clock.now(),
                cause=None if cause is None else ledger.plan.nodes[cause].id,
                cached=notes.cached,
                used_fallback=notes.used_fallback,
            )
        )
