"""Run: how one unit is tried — cache, call, await, time limit — in a thread, on an event loop, or as a job for a pool.

Three ways to call, one way to end: what an outcome means is `settlement`'s. The loop over plain units in a thread is
written for speed, since its cost is paid by every unit of every graph; whatever a unit does not ask for it does not pass.
"""

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs

from qp_core.cache import MISS, Cache, UncacheableError
from qp_core.clock import Clock, Timer, Timers
from qp_core.context import ContextHome, ExecutionContext
from qp_core.crew import Crew, Worker
from qp_core.errors import PluginError, UnitTimeoutError, WorkerLostError
from qp_core.fallback import Substitute
from qp_core.frontier import LOST, Frontier
from qp_core.job import Job, JobOutcome
from qp_core.ledger import CANCELED, FAILED, TIMEOUT, Ledger
from qp_core.loop import LoopThread, awaited, driven, is_awaitable, is_coroutine_function
from qp_core.settlement import AnyUnit, Policies, Settlement
from qp_core.telemetry import Listeners, UnitStarted

_log = logging.getLogger("qp_core")

_HIT: Any = object()
_CANCELLATIONS = (asyncio.CancelledError, concurrent.futures.CancelledError)
_LOOP_TURN_S = 0.005  # how long units that never wait may keep an event loop from everything else

OffLoop: TypeAlias = Callable[[Callable[[], Any], Worker], "asyncio.Future[Any]"]
"""Runs a blocking call of a worker elsewhere, and returns a future of its result on the current loop."""


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
        interrupted: Called with a KeyboardInterrupt that came out of a unit; says whether the user meant the run.
        too_many_abandoned: Called when too many workers had to be given up.
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
    interrupted: Callable[[], bool]
    too_many_abandoned: Callable[[], None]
    _loop_thread: LoopThread | None = None
    _lock: threading.Lock = attrs.Factory(threading.Lock)

    # ---- in a thread

    def run_ready(self, worker: Worker, number: int) -> int:
        """Run this unit in the calling thread, then one that became ready, and so on until none is.

        Args:
            worker: The thread's.
            number: A unit that was taken.

        Returns:
            `NONE_READY`, or `LOST` where the worker was given up with its unit.
        """
        nodes, now, complete = self.ledger.plan.nodes, self.clock.now, self.frontier.complete
        home, variables, who = self.home, worker.variables, worker.number
        new, fits, argument = ExecutionContext.__new__, self.fits, self.argument
        plain = self.cache is None and not self.listeners
        while number >= 0:
            unit = nodes[number]
            if not plain or unit.timeout is not None or unit.retries:
                number = self._in_thread(worker, number, unit)
                continue
            context = new(ExecutionContext).bound(home, number)
            started = now()
            try:
                worker.context = context
                value = variables.copy().run(unit.function, context if fits else argument)
                if hasattr(type(value), "__await__"):
                    value = self._await_elsewhere(worker, value)
                worker.context = None
            except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
                number = self._failed(worker, number, error, context, started)
                continue
            ended = now()
            if context.notes is not None:
                self._note_context(number, context)
            number = complete(number, who, value, started, ended)
        return number

    def _in_thread(self, worker: Worker, number: int, unit: AnyUnit) -> int:
        context, key = self._prepare(worker, number, unit)
        if key is _HIT:
            return self._next(worker)
        started = self._announce(number, unit, context)
        timer = self._limit(worker, number, unit)
        try:
            value = worker.variables.copy().run(unit.function, context if self.fits else self.argument)
            if is_awaitable(value):
                value = self._await_elsewhere(worker, value)
            worker.context = None
        except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
            return self._failed(worker, number, error, context, started)
        finally:
            if timer is not None:
                self.timers.cancel(timer)
        return self._succeeded(worker, number, value, context, started, key)

    def _await_elsewhere(self, worker: Worker, value: Awaitable[Any]) -> Any:
        """Wait in this thread for something to be awaited, on an event loop that all such units of the run share."""
        with self._lock:
            if self._loop_thread is None:
                self._loop_thread = LoopThread(f"qp-{self.run_id[:8]}-loop")
        future = worker.awaiting = self._loop_thread.submit(value, worker.variables.copy())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            worker.awaiting = None

    # ---- on an event loop

    async def serve_loop(self, worker: Worker, off_loop: OffLoop) -> None:
        """Run ready units on the current event loop until none is.

        A unit's first step is made right here, in its own context variables but in the worker's task; one that never waits needs no
        more. The task is the unit's as long as it waits, and room is made for another worker.

        Args:
            worker: The current task's.
            off_loop: Where functions that block are run.
        """
        nodes, now, complete = self.ledger.plan.nodes, self.clock.now, self.frontier.complete
        home, variables, who = self.home, worker.variables, worker.number
        new, fits, argument = ExecutionContext.__new__, self.fits, self.argument
        plain = self.cache is None and not self.listeners
        number = self.frontier.arrive(who)
        ended = now()
        turn_ends = ended + _LOOP_TURN_S
        while number >= 0:
            unit = nodes[number]
            if not plain or unit.timeout is not None or unit.retries or not is_coroutine_function(unit.function):
                number = await self._on_loop(worker, number, unit, off_loop)
                ended = now()
                turn_ends = ended + _LOOP_TURN_S
            else:
                context = worker.context = new(ExecutionContext).bound(home, number)
                started = now()
                try:
                    coroutine: Any = unit.function(context if fits else argument)
                    own = variables.copy()
                    try:
                        future = own.run(coroutine.send, None)
                    except StopIteration as end:
                        value = end.value
                    else:
                        self.frontier.help()
                        value = await driven(own, coroutine, future)
                        turn_ends = now() + _LOOP_TURN_S  # it waited, so others have had their turn
                except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
                    number = await self._failed_on_loop(worker, number, error, context, started)
                    continue
                ended = now()
                if context.notes is not None:
                    self._note_context(number, context)
                number = complete(number, who, value, started, ended)
            if number >= 0 and ended > turn_ends:
                # Others on this loop get their turn; the unit that was just taken waits for it too.
                await asyncio.sleep(0)
                turn_ends = now() + _LOOP_TURN_S

    async def _on_loop(self, worker: Worker, number: int, unit: AnyUnit, off_loop: OffLoop) -> int:
        context, key = self._prepare(worker, number, unit)
        if key is _HIT:
            return self._next(worker)
        started = self._announce(number, unit, context)
        timer = None
        try:
            task = self._start_beside(worker, unit, context if self.fits else self.argument, off_loop)
            if unit.timeout is not None:
                cancel = None
                if isinstance(task, asyncio.Task):
                    cancel = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
                timer = self._limit(worker, number, unit, cancel)
            self.frontier.help()
            value = await task
            if is_awaitable(value):
                value = await asyncio.get_running_loop().create_task(awaited(value), context=worker.variables.copy())
        except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
            return await self._failed_on_loop(worker, number, error, context, started)
        finally:
            if timer is not None:
                self.timers.cancel(timer)
        return self._succeeded(worker, number, value, context, started, key)

    @staticmethod
    def _start_beside(worker: Worker, unit: AnyUnit, argument: Any, off_loop: OffLoop) -> "asyncio.Future[Any]":
        """Start a unit in a task or thread of its own, because it blocks or may have to be given up."""
        variables = worker.variables.copy()
        if is_coroutine_function(unit.function):
            coroutine: Any = unit.function(argument)
            return asyncio.get_running_loop().create_task(coroutine, context=variables)
        return off_loop(functools.partial(variables.run, unit.function, argument), worker)

    async def _failed_on_loop(
        self, worker: Worker, number: int, error: BaseException, context: ExecutionContext, started: float
    ) -> int:
        substitute = self._verdict(worker, number, error, context, started)
        if isinstance(substitute, Substitute) and is_awaitable(substitute.value):
            try:
                substitute = Substitute(await substitute.value)
            except Exception as raised:  # noqa: BLE001 - a fallback that fails leaves its unit failed
                return self._after(worker, self._fallback_failed(worker, number, error, raised, started))
        return self._stand_in(worker, number, substitute, started, error)

    # ---- as a job for a pool

    def job(self, worker: Worker, number: int) -> Job | None:
        """One attempt of a unit, to be called in a pool.

        Args:
            worker: The place in the pool.
            number: A unit that was taken.

        Returns:
            The job; None where the result was in the cache and the unit is settled already.
        """
        unit = self.ledger.plan.nodes[number]
        context, key = self._prepare(worker, number, unit)
        if key is _HIT:
            return None
        worker.key = key
        self._announce(number, unit, context)
        worker.timer = self._limit(worker, number, unit)
        return Job(unit.id, unit.function, context if self.fits else self.argument, context, worker.variables.copy())

    def job_done(self, worker: Worker, number: int, outcome: JobOutcome | BaseException) -> int:
        """Settle what a job came to.

        Args:
            worker: The place in the pool.
            number: The unit.
            outcome: What the job returned, or what the pool raised instead.

        Returns:
            The next unit for this place, `NONE_READY`, or `LOST` where the place was given up.
        """
        timer, worker.timer = worker.timer, None
        if timer is not None:
            self.timers.cancel(timer)
        context = worker.context
        if context is None:
            return LOST
        if isinstance(outcome, BaseException):
            error = outcome
            if isinstance(outcome, concurrent.futures.BrokenExecutor):
                error = WorkerLostError(self.ledger.plan.nodes[number].id, f"{type(outcome).__name__}: {outcome}")
                error.__cause__ = outcome
            return self._failed(worker, number, error, context, 0.0)
        if outcome.metrics or outcome.writes:
            self.ledger.note(number, metrics=outcome.metrics, writes=outcome.writes)
        if outcome.error is None:
            return self._succeeded(worker, number, outcome.value, context, outcome.started, worker.key)
        if outcome.error.__traceback__ is None:
            outcome.error.add_note(f"in the worker:\n{outcome.trace}")
        return self._failed(worker, number, outcome.error, context, outcome.started)

    # ---- before the call

    def _prepare(self, worker: Worker, number: int, unit: AnyUnit) -> tuple[ExecutionContext, Any]:
        """The context of the next attempt, and the cache key: None without one, `_HIT` where the unit is settled already."""
        context = worker.context = ExecutionContext.__new__(ExecutionContext).bound(
            self.home, number, self.ledger.notes_of(number).attempts
        )
        if self.cache is None or not unit.get_metadata("cacheable", False):
            return context, None
        return context, self._look_up(self.cache, number, unit, context)

    def _look_up(self, cache: Cache, number: int, unit: AnyUnit, context: ExecutionContext) -> Any:
        try:
            key = self.policies.cache_key(
                unit, context if self.fits else {"context": self.argument, **context.unit_results}
            )
        except UncacheableError as error:
            _log.warning("%s", error)
            return None
        if key is None:
            return None
        value = _asked(cache, "get", unit, key)
        if value is MISS:
            return key
        self.settlement.value(number, None, value, cached=True)
        return _HIT

    def _announce(self, number: int, unit: AnyUnit, context: ExecutionContext) -> float:
        started = self.clock.now()
        if context.attempt == 1 and unit.retry.stop_after_s is not None:
            self.ledger.note(number, first_started=started)
        if self.listeners.hear(UnitStarted):
            self.listeners.tell(UnitStarted(run_id=self.run_id, unit_id=unit.id, attempt=context.attempt, at=started))
        return started

    def _limit(
        self, worker: Worker, number: int, unit: AnyUnit, cancel: Callable[[], object] | None = None
    ) -> Timer | None:
        if unit.timeout is None:
            return None
        return self.timers.add(
            self.clock.now() + unit.timeout, functools.partial(self._expire, worker, number, unit.timeout, cancel)
        )

    def _expire(self, worker: Worker, number: int, limit_s: float, cancel: Callable[[], object] | None) -> None:
        """The coordinator's: an attempt has used up its time."""
        context, awaiting = worker.context, worker.awaiting
        if context is None or self.frontier.owner(number) != worker.number:
            return  # it has ended in this very moment
        stop = cancel if awaiting is None else awaiting.cancel
        error = UnitTimeoutError(self.ledger.plan.nodes[number].id, limit_s, stop is None)
        verdict = self.settlement.attempt_failed(number, worker.number, error, TIMEOUT, 0.0, context)
        if isinstance(verdict, Substitute):
            value = self._await_elsewhere(worker, verdict.value) if is_awaitable(verdict.value) else verdict.value
            verdict = self.settlement.value(number, worker.number, value, error=error, used_fallback=True)
        if verdict and not self.crew.give_up(worker, number, replace=True):
            self.too_many_abandoned()
        if stop is not None:
            stop()

    # ---- after the call

    def _succeeded(
        self, worker: Worker, number: int, value: Any, context: ExecutionContext, started: float, key: str | None
    ) -> int:
        if key is not None and self.cache is not None:
            _asked(self.cache, "put", self.ledger.plan.nodes[number], key, value)
        if context.notes is not None:
            self._note_context(number, context)
        if context.attempt > 1:
            self.ledger.note(number, error=None)
        if not self.listeners:
            worker.context = None
            return self.frontier.complete(number, worker.number, value, started, self.clock.now())
        return self._after(worker, self.settlement.value(number, worker.number, value, started))

    def _failed(
        self, worker: Worker, number: int, error: BaseException, context: ExecutionContext, started: float
    ) -> int:
        substitute = self._verdict(worker, number, error, context, started)
        if isinstance(substitute, Substitute) and is_awaitable(substitute.value):
            try:
                substitute = Substitute(self._await_elsewhere(worker, substitute.value))
            except Exception as raised:  # noqa: BLE001 - a fallback that fails leaves its unit failed
                return self._after(worker, self._fallback_failed(worker, number, error, raised, started))
        return self._stand_in(worker, number, substitute, started, error)

    def _verdict(
        self, worker: Worker, number: int, error: BaseException, context: ExecutionContext, started: float
    ) -> Substitute | bool:
        if isinstance(error, PluginError):
            raise error
        if context.notes is not None:
            self._note_context(number, context)
        if isinstance(error, KeyboardInterrupt) and self.interrupted():
            return self.settlement.failure(number, worker.number, error, CANCELED, started)
        if isinstance(error, _CANCELLATIONS) and self.frontier.halted is not None:
            return self.settlement.failure(number, worker.number, error, CANCELED, started)
        return self.settlement.attempt_failed(number, worker.number, error, FAILED, started, context)

    def _stand_in(
        self,
        worker: Worker,
        number: int,
        verdict: Substitute | bool,  # noqa: FBT001 - one answer of two kinds
        started: float,
        error: BaseException,
    ) -> int:
        if isinstance(verdict, Substitute):
            verdict = self.settlement.value(
                number, worker.number, verdict.value, started, error=error, used_fallback=True
            )
        return self._after(worker, verdict)

    def _fallback_failed(
        self, worker: Worker, number: int, error: BaseException, raised: Exception, started: float
    ) -> bool:
        error.add_note(f"its fallback raised {type(raised).__name__}: {raised}")
        return self.settlement.failure(number, worker.number, error, FAILED, started)

    def _after(self, worker: Worker, settled: bool) -> int:  # noqa: FBT001 - private, and its only question
        return self._next(worker) if settled else LOST

    def _next(self, worker: Worker) -> int:
        worker.context = None
        return self.frontier.take(worker.number)

    def _note_context(self, number: int, context: ExecutionContext) -> None:
        writes, metrics = context.writes(), context.metrics
        if writes or metrics:
            self.ledger.note(number, writes=writes, metrics=metrics)

    def close(self, grace_s: float) -> None:
        """Stop the event loop of coroutines, if there is one."""
        with self._lock:
            thread, self._loop_thread = self._loop_thread, None
        if thread is not None:
            thread.close(grace_s)


def _asked(cache: Cache, method: str, unit: AnyUnit, *arguments: Any) -> Any:
    try:
        return getattr(cache, method)(*arguments)
    except Exception as error:
        problem = f"raised {type(error).__name__}: {error} for unit {unit.id!r}"
        raise PluginError(type(cache).__name__, f"Cache.{method}", problem) from error
