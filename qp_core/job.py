"""Run: one attempt of one unit as an object that any pool can call, in this process or another."""

import contextvars
import pickle
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from qp_core.context import ExecutionContext
from qp_core.report import ErrorSummary
from qp_core.vocabulary import UnitId, is_awaitable


@attrs.frozen
class JobOutcome:
    """What a job says when it is over. Times are monotonic seconds of the machine that ran it."""

    value: Any
    error: BaseException | None
    started: float
    ended: float
    metrics: dict[str, Any]
    writes: dict[str, Any]
    trace: str = ""
    """The traceback as text: the object's own does not survive pickling."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By value where need be, as the job came: a result may be of a class that only the main module defines. What cannot
        # travel (in either half of the way) is this unit's failure; left to the pool, it would be the pool's, and so everybody's.
        import cloudpickle

        told = _told(self.error)
        try:
            packed = cloudpickle.dumps((self.value, self.error, self.metrics, dict.fromkeys(self.writes)))
        except Exception as problem:  # noqa: BLE001 - what is pickled is the user's, and may raise anything
            packed = pickle.dumps((None, _in_words(told, problem), {}, {}))
        return _outcome, (packed, self.started, self.ended, self.trace, told)


@attrs.define(eq=False)
class Job:
    """One attempt of one unit.

    In the same process it is called as it is. Only when a pool pickles it does it become bytes: by reference where pickle
    can, by value (cloudpickle) where it cannot, so that lambdas and closures travel too; what runs there is no part of the
    run, so context variables stay behind.

    Attributes:
        unit_id: For error messages.
        function: The unit's.
        argument: What it is called with; often the context itself.
        context: The unit's context.
        variables: The context variables to run in; None for those of the place where it is called.
    """

    unit_id: UnitId
    function: Callable[[Any], Any]
    argument: Any
    context: ExecutionContext
    variables: contextvars.Context | None

    def __call__(self) -> JobOutcome:
        """Make the attempt; whatever the unit raises is in the outcome."""
        value: Any = None
        error: BaseException | None = None
        started = time.monotonic()
        try:
            value = self._run(self.function, self.argument)
            if is_awaitable(value):
                value = self._run(_awaited, value)
        except BaseException as raised:  # noqa: BLE001 - whatever a unit raises is its outcome, and must not hurt the pool
            value, error = None, raised  # not the coroutine that raised: it could not travel back
        trace = "" if error is None else "".join(traceback.format_exception(error))
        return JobOutcome(
            value, error, started, time.monotonic(), dict(self.context.metrics), self.context.writes(), trace
        )

    def _run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        return function(argument) if self.variables is None else self.variables.run(function, argument)

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        same = self.argument is self.context
        packed = cloudpickle.dumps((self.function, None if same else self.argument, self.context))
        return _PackedJob, (self.unit_id, packed, same)


def _awaited(value: Awaitable[Any]) -> Any:
    import asyncio  # noqa: PLC0415 - with the first coroutine

    from qp_core.loop import contained, opened  # noqa: PLC0415 - likewise

    return opened(asyncio.run(contained(value)))


@attrs.frozen
class _PackedJob:
    """A job after its way into a pool: opened only where it is called, so that what cannot be opened fails its unit and not the pool."""

    unit_id: UnitId
    packed: bytes
    same: bool

    def __call__(self) -> JobOutcome:
        try:
            function, argument, context = pickle.loads(self.packed)  # noqa: S301 - from this run's own pool
        except BaseException as error:  # noqa: BLE001 - what is unpickled is the user's, and may raise anything
            error.add_note(f"unit {self.unit_id!r} could not be unpickled where it was to run")
            now = time.monotonic()
            return JobOutcome(None, error, now, now, {}, {}, "".join(traceback.format_exception(error)))
        return Job(self.unit_id, function, context if self.same else argument, context, None)()


def _outcome(packed: bytes, started: float, ended: float, trace: str, told: str) -> JobOutcome:
    try:
        value, error, metrics, writes = pickle.loads(packed)  # noqa: S301 - from this run's own pool
    except BaseException as problem:  # noqa: BLE001 - what is unpickled is the user's, and may raise anything
        value, error, metrics, writes = None, _in_words(told, problem), {}, {}
    return JobOutcome(value, error, started, ended, metrics, writes, trace)


def _told(error: BaseException | None) -> str:
    summary = ErrorSummary.of(error)
    return "" if summary is None else f"{summary.type}: {summary.text}"


def _in_words(told: str, problem: BaseException) -> BaseException:
    """What stands for an outcome that could not be pickled or unpickled."""
    lost = "its result could not be brought back" if not told else f"it raised {told}, which could not be brought back"
    return RuntimeError(f"{lost}, because of {_told(problem)}")
