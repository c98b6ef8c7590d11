"""Run: the steps in which one unit is tried — cache, begin, time limit, outcome, fallback — whoever calls it.

Three ways to call (in a thread or as a job for a pool: `attempt_thread`; on an event loop: `attempt_async`), one way to end: what an
outcome means is `settlement`'s. Whatever a unit does not ask for it does not pass.

An attempt that runs out of time is ended by the coordinator, which only takes the unit from its worker: whether a fallback
stands in is found out by the worker that the unit is passed on to, since that may take long. Whatever the first worker still does
with the unit comes too late, and changes nothing.
"""

import concurrent.futures
import functools
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from qp_core.cache import MISS, Cache, UncacheableError
from qp_core.clock import Clock, Timer, Timers
from qp_core.context import ContextHome, ExecutionContext
from qp_core.crew import Crew, Worker
from qp_core.errors import PluginError, UnitTimeoutError, told
from qp_core.fallback import Substitute
from qp_core.frontier import LOST, Frontier
from qp_core.ledger import CANCELED, FAILED, TIMEOUT, Ledger
from qp_core.settlement import AnyUnit, Policies, Settlement, add_note
from qp_core.stopping import Stopping
from qp_core.telemetry import Listeners, UnitStarted

if TYPE_CHECKING:
    import asyncio

    from qp_core.loop import LoopThread

_log = logging.getLogger("qp_core")

HIT: Any = object()
"""In place of a cache key: the result was found, and the unit is settled."""

OffLoop: TypeAlias = "Callable[[Callable[[], Any], Worker], asyncio.Future[Any]]"
"""Runs a blocking call of a worker elsewhere, and returns a future of its result on the current loop."""


def is_cancellation(error: BaseException) -> bool:
    """Whether an error is asyncio's or a pool's way to say that something was cancelled."""
    asyncio = sys.modules.get("asyncio")  # what nobody has imported nobody has raised
    return isinstance(error, concurrent.futures.CancelledError) or (
        asyncio is not None and isinstance(error, asyncio.CancelledError)
    )


@attrs.frozen
class Failure:
    """An attempt that failed.

    Attributes:
        error: What it raised.
        context: Its context.
        started: When it began.
        state: The code of the state that its unit ends in, if nothing follows.
    """

    error: BaseException
    context: ExecutionContext
    started: float
    state: int = FAILED


@attrs.define(eq=False)
class Attempts:
    """Makes the attempts of one run.

    Attributes:
        run_id: For the events.
        ledger: What is written.
        frontier: Where units come from.
        settlement: Where outcomes go.
        crew: The workers.
        timers: Where time limits wait.
        clock: Whose time counts.
        listeners: The observers.
        policies: Who makes cache keys.
        cache: Where results may be found; None caches nothing.
        home: What the contexts have in common.
        argument: What units are called with where the caller's context is no mapping.
        fits: Whether the caller's context is a mapping, so that units are called with their own context.
        stopping: What ends the run early.
        may_expire: Whether the run has a deadline, so that it has to be known which attempts have begun.
    """

    run_id: str
    ledger: Ledger
    frontier: Frontier
    settlement: Settlement
    crew: Crew
    timers: Timers
    clock: Clock
    listeners: Listeners
    policies: Policies
    cache: Cache | None
    home: ContextHome
    argument: Any
    fits: bool
    stopping: Stopping
    may_expire: bool
    _expired: dict[int, Failure] = attrs.Factory(dict)
    _loop_thread: "LoopThread | None" = None
    _closed: bool = False
    _lock: threading.Lock = attrs.Factory(threading.Lock)

    @property
    def plain(self) -> bool:
        """Whether a unit may be all there is to an attempt: nobody listens, nothing is cached, and there is no deadline."""
        return self.cache is None and not self.listeners and not self.may_expire

    # ---- before the call

    def passed_on(self, number: int) -> Failure | None:
        """The last attempt of a unit that was taken from another worker, since it had run out of time.

        Returns:
            None for a unit that is to be tried.
        """
        # Filled before `Frontier.pass_on`, and whoever takes that unit does so under the same lock: so it is seen here.
        if not self._expired:
            return None
        with self._lock:
            return self._expired.pop(number, None)

    def open(self, worker: Worker, number: int, unit: AnyUnit) -> tuple[ExecutionContext, str | None] | int:
        """Begin the next attempt.

        Returns:
            Its context, and the key under which the result is to be cached; or, where the result was in the cache, the next unit
            for this worker.
        """
        notes = self.ledger.notes_of(number)
        worker.falls_back = False
        worker.started = 0.0  # until it is announced
        context = worker.outside = ExecutionContext.__new__(ExecutionContext).bound(
            self.home, number, notes.attempts if notes.error is None else notes.attempts + 1
        )
        worker.context = context  # after `outside`, which says that the unit has not begun
        if self.cache is None or not unit.get_metadata("cacheable", default=False):
            return context, None
        key = self._key(unit, context)
        if key is None:
            return context, None
        value = _asked(self.cache, "get", unit, key)
        if value is MISS:
            return context, key
        worker.context = None
        return self.settlement.value(number, worker.number, value, cached=True)

    def _key(self, unit: AnyUnit, context: ExecutionContext) -> str | None:
        try:
            return self.policies.cache_key(
                unit,
                context if self.fits else {"": self.argument, **context.unit_results},  # no id is empty
            )
        except UncacheableError as error:
            _log.warning("%s", error)
            return None

    def announce(self, worker: Worker, number: int, unit: AnyUnit, context: ExecutionContext) -> bool:
        """Say that an attempt begins.

        Returns:
            False where the unit has been ended meanwhile, by a deadline: then it does not begin, for observers have heard of its end.
        """
        started = self.clock.now()
        attempt = context.attempt
        notes: dict[str, Any] = {}
        if attempt > 1:  # counted when it begins: an attempt that was only due is none
            notes["attempts"] = attempt
        elif unit.retry.stop_after_s is not None:
            notes["first_started"] = started
        begin = functools.partial(self.frontier.begin_attempt, number, worker.number, started, notes)
        if self.listeners.hear(UnitStarted):
            event = UnitStarted(run_id=self.run_id, unit_id=unit.id, attempt=attempt, at=started)
            begun = self.listeners.tell(event, unless=lambda: not begin())
        else:
            begun = begin()
        worker.started = started
        return begun

    def limit(self, worker: Worker, number: int, unit: AnyUnit) -> Timer | None:
        """Have an attempt ended when its time is up.

        Returns:
            The timer, to be cancelled when the attempt is over; None where there is no limit.
        """
        if unit.timeout is None:
            return None
        return self.timers.add(
            worker.started + unit.timeout, functools.partial(self._expire, worker, number, unit.timeout)
        )

    def _expire(self, worker: Worker, number: int, limit_s: float) -> None:
        """The coordinator's: an attempt has used up its time."""
        context, awaiting = worker.context, worker.awaiting
        if context is None or self.frontier.owner(number) != worker.number:
            return  # it has ended in this very moment
        error = UnitTimeoutError(self.ledger.plan.nodes[number].id, limit_s, awaiting is None)
        taken = self.settlement.retry(number, worker.number, error, worker.started)
        if taken is None:
            with self._lock:
                if worker.falls_back:
                    return  # the attempt has failed by itself in this very moment
                self._expired[number] = Failure(error, context, worker.started, TIMEOUT)
                taken = self.frontier.pass_on(number, worker.number)
                if not taken:
                    del self._expired[number]
        if not taken:
            return
        if not self.crew.give_up(worker, number, stoppable=awaiting is not None):
            self.stopping.cancel("too many units could not be stopped")
        self.stopping.stop_inside(worker)

    # ---- while it goes on

    def await_elsewhere(self, worker: Worker, value: Awaitable[Any]) -> Any:
        """Wait in this thread for something to be awaited, on an event loop that all such units of the run share.

        Returns:
            What it gives.

        Raises:
            BaseException: What it raises.
            CancelledError: It came too late even for the run.
            RuntimeError: The loop's thread cannot be started.
            KeyboardInterrupt: Ctrl-C, in this thread.
        """
        from qp_core.loop import LoopThread  # noqa: PLC0415 - with the first coroutine

        try:
            with self._lock:
                if self._loop_thread is None and not self._closed:
                    self._loop_thread = LoopThread(f"qp-{self.run_id[:8]}-loop")
                thread = self._loop_thread
        except RuntimeError:  # "can't start new thread"
            _refuse(value)
            raise
        if thread is None:  # it comes too late even for the run
            _refuse(value)
            raise concurrent.futures.CancelledError
        # Before the coroutine begins it is known what can be cancelled: else its timeout would call it unstoppable.
        waiting = thread.submit(value, worker.variables.copy(), functools.partial(setattr, worker, "awaiting"))
        if worker.abandoned or self.crew.stopping:  # before there was anything to cancel
            waiting.cancel()
        try:
            return waiting.result()
        except KeyboardInterrupt:  # of this thread, perhaps, and not of the coroutine
            waiting.cancel()
            raise
        finally:
            worker.awaiting = None

    # ---- after the call

    def succeeded(
        self, worker: Worker, number: int, value: Any, context: ExecutionContext, key: str | None = None
    ) -> int:
        """End a unit whose attempt returned a value.

        Returns:
            The next unit for this worker, `NONE_READY`, or `LOST`.
        """
        if key is not None and self.cache is not None and self.frontier.owner(number) == worker.number:
            _asked(self.cache, "put", self.ledger.plan.nodes[number], key, value)
        worker.context = None
        notes = _notes_of(context)
        if not notes and not self.listeners:
            return self.frontier.complete(number, worker.number, value, worker.started, self.clock.now())
        if notes:
            notes["error"] = None  # that of an earlier attempt
        return self.settlement.value(number, worker.number, value, worker.started, **notes)

    def judge(self, worker: Worker, number: int, failure: Failure) -> bool | None:
        """Decide what a failed attempt means, short of a fallback.

        Returns:
            None where the last attempt has failed, and the unit is still to be ended; else whether it was this worker's to settle.
        """
        if self.frontier.owner(number) != worker.number:
            return False
        error, started, notes = failure.error, failure.started, _notes_of(failure.context)
        _trim(error)
        stopped = isinstance(error, KeyboardInterrupt) and self.stopping.meant_by_user()
        if stopped or (self.frontier.halted is not None and is_cancellation(error)):
            return self.settlement.failure(number, worker.number, error, CANCELED, started, **notes)
        settled = self.settlement.retry(number, worker.number, error, started, **notes)
        if settled is None:
            with self._lock:  # either its time runs out before this, or not at all: there is one fallback
                if self.frontier.owner(number) != worker.number:
                    return False
                worker.falls_back = True
        return settled

    def offered(self, worker: Worker, number: int, failure: Failure) -> Substitute | None:
        """Ask for what stands in for a unit whose last attempt failed, as a part of that unit.

        Returns:
            The substitute, whose value may still have to be awaited.
        """
        attempts = self.ledger.notes_of(number).attempts
        worker.context, worker.outside = failure.context, None
        try:
            return worker.variables.copy().run(
                self.policies.fallback,
                self.ledger.plan.nodes[number],
                failure.error,
                attempts,
                failure.context if self.fits else self.argument,
            )
        finally:
            worker.outside = failure.context

    def without_fallback(self, failure: Failure, raised: BaseException) -> Failure:
        """What a failure comes to whose fallback failed too: it is noted on its error what that raised.

        Returns:
            The failure; that of a cancelled unit, where the fallback was cancelled with the run.
        """
        if isinstance(raised, KeyboardInterrupt):
            self.stopping.meant_by_user()
        add_note(failure.error, f"its fallback raised {told(raised)}")
        canceled = self.frontier.halted is not None and is_cancellation(raised)
        return attrs.evolve(failure, state=CANCELED) if canceled else failure

    def end(self, worker: Worker, number: int, failure: Failure, substitute: Substitute | None) -> int:
        """End a unit whose last attempt failed: with a substitute, or without a result.

        Returns:
            The next unit for this worker, `NONE_READY`, or `LOST`.
        """
        error, started, notes = failure.error, failure.started, _notes_of(failure.context)
        if substitute is None:
            settled = self.settlement.failure(number, worker.number, error, failure.state, started, **notes)
            return self.after(worker, settled)
        worker.context = None
        notes = {**notes, "error": error, "used_fallback": True}
        return self.settlement.value(number, worker.number, substitute.value, started, **notes)

    def after(self, worker: Worker, settled: bool) -> int:  # noqa: FBT001 - its only question
        """Go on after a unit: with the next, unless it was somebody else's to settle.

        Returns:
            The next unit for this worker, `NONE_READY`, or `LOST`.
        """
        if not settled:
            return LOST
        worker.context = None
        return self.frontier.take(worker.number)

    # ---- the end

    def dismiss(self, grace_s: float) -> None:
        """Cancel what is left on the event loop for coroutines, if there is one."""
        with self._lock:
            thread = self._loop_thread
        if thread is not None:
            thread.dismiss(grace_s)

    def close(self, grace_s: float) -> None:
        """Stop that event loop."""
        with self._lock:
            self._closed = True
            thread = self._loop_thread
        if thread is not None:
            thread.close(grace_s)


def _refuse(value: Awaitable[Any]) -> None:
    """Do not await something; where it is a coroutine, nobody is to say that it was never awaited."""
    if isinstance(value, Coroutine):
        value.close()


def _notes_of(context: ExecutionContext) -> dict[str, Any]:
    """What an attempt leaves to be noted: metrics and writes, if any; of a further attempt always, in place of the former's."""
    if context.notes is None:
        return {}
    metrics, writes = context.metrics, context.written()
    return {"metrics": metrics, "writes": writes} if context.attempt > 1 or metrics or writes else {}


def _asked(cache: Cache, method: str, unit: AnyUnit, *arguments: Any) -> Any:
    try:
        return getattr(cache, method)(*arguments)
    except Exception as error:
        problem = f"raised {told(error)} for unit {unit.id!r}"
        raise PluginError(type(cache).__name__, f"Cache.{method}", problem) from error


def _trim(error: BaseException) -> None:
    """Take the engine's frames off the front of a unit's traceback: nobody wants to read them, and they hold the whole run."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("qp_core."):
        trace = trace.tb_next
    error.with_traceback(trace)  # not by assigning: an exception of the user may be frozen
