"""Run: one execution of one plan, with all of its state; nothing of it lives in units or partitioners.

An executor drives a run with three verbs: `begin` (how workers are started), `work` (what each worker does until the run is
over) and `attend` (what the thread that waits for the run does: keep its time, take its messages). Every change of a unit's
state passes through the frontier.
"""

import functools
import logging
import os
import random
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs

from qp_core import attempt_thread
from qp_core.attempt import Attempts, OffLoop, is_cancellation
from qp_core.budget import Budget, Unbounded
from qp_core.cache import Cache
from qp_core.clock import Clock, Inbox, SystemClock, Timers
from qp_core.context import ContextHome, running
from qp_core.crew import Crew, Worker
from qp_core.errors import PluginError, UnitTimeoutError, name_list
from qp_core.frontier import LOST, NONE_READY, Frontier
from qp_core.job import Job, JobOutcome
from qp_core.ledger import Ledger
from qp_core.plan import ExecutionPlan
from qp_core.report import ExecutionResult, RunReport
from qp_core.settlement import Policies, Settlement
from qp_core.stopping import Stopping
from qp_core.telemetry import Listeners, RunFinished, RunStarted
from qp_core.vocabulary import UnitId, UnitState

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("qp_core")

INTERRUPT = object()
"""What a signal handler puts into a run's inbox."""

_OVER = object()


@attrs.frozen(kw_only=True)
class RunOptions:
    """How one execution is to go: the arguments of `execute`, checked.

    Attributes:
        mode: The executor's name.
        strategy: The strategy's name.
        max_workers: The most units at once; None is no bound.
        deadline_s: The most seconds for the whole run.
        fail_fast: Whether the first failure cancels the rest.
        grace_s: How long running units may go on after Ctrl-C.
        known: Results that are known beforehand.
        outputs: Which results are kept (the plan is restricted to what they need); None keeps all.
    """

    mode: str
    strategy: str = "fifo"
    max_workers: int | None = None
    deadline_s: float | None = None
    fail_fast: bool = False
    grace_s: float = 1.0
    known: Mapping[UnitId, Any] = attrs.Factory(dict)
    outputs: tuple[UnitId, ...] | None = None


class Run:
    """One execution: what executors drive, and what can be stopped before its end.

    Args:
        plan: What runs.
        context: The caller's context: a mapping, or anything else, which units then get as it is.
        options: How.
        policies: Whom to ask for cache keys and fallbacks.
        order: Unit numbers, most urgent first; None is the order of arrival.
        listeners: Whom to tell.
        cache: Where results may be found; None caches nothing.
        clock: Where time comes from.
        rng: Where jitter comes from.

    Attributes:
        run_id: Unique.
        plan: What runs.
        options: How.
        clock: Where time comes from.
        budget: How many may run at once, shared with the runs around this one.
        loop: The event loop that units should run on in async mode; None where the executor makes one.
        stopping: What ends it early.
        inbox: Messages to the thread that waits for the run.
        here: The worker that runs units in the thread that waits for the run; None where other threads do.
        may_be_left: Whether somebody waits for the run who may leave before it is over: who reads a stream, or an awaiting task.
    """

    def __init__(
        self,
        plan: ExecutionPlan,
        context: Any,
        options: RunOptions,
        *,
        policies: Policies,
        order: Sequence[int] | None = None,
        listeners: Listeners | None = None,
        cache: Cache | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.run_id = os.urandom(16).hex()
        self.plan = plan
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.may_be_left = False
        self.here: Worker | None = None
        self.inbox: Inbox = Inbox()
        self._timers = Timers(self.clock, self.inbox)
        self._listeners = listeners or Listeners({})
        outer = _unit_around()
        self.budget: Budget = Unbounded() if options.max_workers is None else Budget(options.max_workers)
        if outer is not None:
            self.budget = outer.lend(bounded=options.max_workers is not None) or self.budget
        self._over = False
        self._zero = self.clock.now()
        self._started_utc = self.clock.utc()
        self._ledger, self._frontier = self._laid_out(order)
        self._crew = Crew(self._frontier)
        rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._settlement = Settlement(
            run_id=self.run_id,
            ledger=self._ledger,
            frontier=self._frontier,
            timers=self._timers,
            clock=self.clock,
            listeners=self._listeners,
            policies=policies,
            rng=rng,
            on_failure=functools.partial(self.cancel, "fail_fast") if options.fail_fast else None,
        )
        self.stopping = Stopping(
            plan=plan,
            frontier=self._frontier,
            settlement=self._settlement,
            crew=self._crew,
            timers=self._timers,
            inbox=self.inbox,
            clock=self.clock,
            deadline_s=options.deadline_s,
            grace_s=options.grace_s,
            outer=outer,
        )
        self._attempts = self._made_attempts(context, policies, cache)

    def _laid_out(self, order: Sequence[int] | None) -> tuple[Ledger, Frontier]:
        plan, options = self.plan, self.options
        ledger = Ledger(plan)
        known = [plan.index[unit_id] for unit_id in options.known]
        for number in known:
            ledger.values[number] = options.known[plan.nodes[number].id]
            ledger.note(number, known=True)
        keep = None
        if options.outputs is not None:
            ledger.frees = True
            keep = {plan.index[unit_id] for unit_id in options.outputs}
        on_over = functools.partial(self.inbox.put, _OVER)
        return ledger, Frontier(ledger, order, self.budget, known=known, keep=keep, on_over=on_over)

    def _made_attempts(self, context: Any, policies: Policies, cache: Cache | None) -> Attempts:
        fits = isinstance(context, Mapping)
        environment = {
            "run_id": self.run_id,
            "execution_mode": self.options.mode,
            "max_workers": self.options.max_workers,
        }
        return Attempts(
            run_id=self.run_id,
            ledger=self._ledger,
            frontier=self._frontier,
            settlement=self._settlement,
            crew=self._crew,
            timers=self._timers,
            clock=self.clock,
            listeners=self._listeners,
            policies=policies,
            cache=cache,
            home=ContextHome(
                plan=self.plan, given=dict(context) if fits else {}, values=self._ledger.values, environment=environment
            ),
            argument=context,
            fits=fits,
            stopping=self.stopping,
            may_expire=self.options.deadline_s is not None,
        )

    # ---- what executors call

    @property
    def max_workers(self) -> int | None:
        """The most units at once; None is no bound."""
        return self.options.max_workers

    @property
    def limited(self) -> bool:
        """Whether a unit of this run may have to be given up while it runs, so that it must not run in the thread that waits."""
        return (
            self.may_be_left
            or self.options.deadline_s is not None
            or any(unit.timeout is not None for unit in self.plan.nodes)
        )

    def begin(
        self, spawn: Callable[[], None] | None, *, eager: bool = True, stop: Callable[[], None] | None = None
    ) -> None:
        """Let the run go: from here on units are handed out.

        Args:
            spawn: Starts one more worker and returns at once (it may `post`); None where the caller is the only worker.
            eager: See `Frontier.begin`.
            stop: Stops units that are running, where that can be done (cancels tasks); called from any thread.
        """
        if self._listeners.hear(RunStarted):
            options = self.options
            self._listeners.tell(
                RunStarted(
                    run_id=self.run_id,
                    plan=self.plan,
                    mode=options.mode,
                    strategy=options.strategy,
                    max_workers=options.max_workers,
                    started_utc=self._started_utc,
                )
            )
        for unit_id in self.options.known:
            self._settlement.tell_finished(self.plan.index[unit_id])
        self.stopping.begin(stop, self._zero)
        self._frontier.begin(spawn, _bound(self.options.max_workers), eager=eager)

    def new_worker(self) -> Worker:
        """Make a worker; each thread, task or place that runs units has one of its own.

        Returns:
            The worker; `leave` when it goes.
        """
        return self._crew.new(self)

    def tasks(self) -> "set[asyncio.Task[None]]":
        """The tasks of the workers that are tasks (see `Worker.task`), given up or not."""
        return self._crew.tasks()

    def told(self) -> "set[asyncio.Task[None]]":
        """Those of them whose unit was cancelled when it was given up; to cancel them would disturb it as it cleans up."""
        return self._crew.told()

    def leave(self, worker: Worker) -> None:
        """A worker goes, since nothing is ready for it; another may be called later."""
        self._crew.leave(worker)

    def attend(self) -> None:
        """Keep the run's time and take its messages until every unit has ended; called by the thread that waits for the run."""
        while not self._over:
            try:
                self._attend_once()
            except BaseException as error:
                if self.stopping.out_of_patience:
                    raise
                # The units are given up here and now: an executor that let this through would wait for them as it cleans up.
                again = self.stopping.broken is not None
                self.stopping.break_off(error)
                if again:
                    raise

    def _attend_once(self) -> None:
        try:
            message = self._timers.wait(self._idle)
        except KeyboardInterrupt:  # from a signal handler that is not ours
            if self.stopping.out_of_patience:
                raise
            self.stopping.note_signal()
            message = INTERRUPT
        if message is _OVER:
            self._over = True
        elif message is INTERRUPT:
            self.stopping.interrupt()
        elif callable(message):
            message()

    def _idle(self) -> bool:
        return self._frontier.idle

    def post(self, action: Callable[[], None]) -> None:
        """Have the attending thread do something; may be called from anywhere, also from `spawn`."""
        self.inbox.put(action)

    def work(self, worker: Worker) -> None:
        """Run units in this thread until the run is over, sleeping while none is ready."""
        try:
            number = self._frontier.take_or_sleep(worker.number)
            while number >= 0 and attempt_thread.run_ready(self._attempts, worker, number) != LOST:
                number = self._frontier.take_or_sleep(worker.number)
        except BaseException as error:  # noqa: BLE001 - nothing may be lost in a thread; `finish` raises it
            self.stopping.break_off(error)

    def work_here(self, worker: Worker) -> None:
        """Run everything in this thread, which is also the one that waits for the run."""
        self.here = worker
        outer = self.stopping.outer
        if (
            outer is not None and threading.current_thread() is threading.main_thread()
        ):  # no signal is handled anywhere else
            outer.inner = worker
        try:
            while not self._over:
                number = self._frontier.take(worker.number)
                if number >= 0:
                    attempt_thread.run_ready(self._attempts, worker, number)
                else:
                    self._attend_once()
        except BaseException as error:  # `finish` raises it, after the report is made
            if self.stopping.out_of_patience:
                raise
            self.stopping.break_off(error)
            self.attend()
        finally:
            self.here = None

    async def work_async(self, worker: Worker, off_loop: OffLoop) -> None:
        """Run units on the current event loop until none is ready; then the worker leaves.

        Args:
            worker: The current task's.
            off_loop: Runs a blocking call elsewhere.
        """
        from asyncio import current_task  # noqa: PLC0415 - with the first coroutine: it takes long to import

        from qp_core import attempt_async  # noqa: PLC0415 - likewise

        # Known as a task only from here on: one that is cancelled before it has begun would not even leave.
        worker.task = current_task()
        try:
            await attempt_async.serve(self._attempts, worker, off_loop)
        except BaseException as error:  # noqa: BLE001 - nothing may be lost in a task; `finish` raises it
            if self._frontier.halted is None or not is_cancellation(error):
                self.stopping.break_off(error)
        self._crew.leave(worker)

    def take(self, worker: Worker) -> int:
        """Take a ready unit for a place in a pool; the place leaves where there is none.

        Returns:
            The unit's number, or `NONE_READY`.
        """
        number = self._frontier.take(worker.number)
        if number == NONE_READY:
            self._crew.leave(worker)
        return number

    def job(self, worker: Worker, number: int) -> Job | int:
        """One attempt of a unit, to be called in a pool; see `attempt_thread.job`. The place leaves where nothing is ready for it."""
        job = attempt_thread.job(self._attempts, worker, number)
        if job == NONE_READY:
            self._crew.leave(worker)
        return job

    def job_done(self, worker: Worker, number: int, outcome: JobOutcome | BaseException) -> int:
        """Settle what a job came to; see `attempt_thread.job_done`. The place leaves where nothing is ready for it."""
        following = attempt_thread.job_done(self._attempts, worker, number, outcome)
        if following == NONE_READY:
            self._crew.leave(worker)
        return following

    def cancel(self, reason: str = "canceled") -> None:
        """Hand out nothing more, and cancel what has not begun; see `Stopping.cancel`.

        May be called from any thread, and again. Returns without waiting.
        """
        self.stopping.cancel(reason)

    @property
    def over(self) -> bool:
        """Whether every unit has ended."""
        return self._frontier.over

    @property
    def stuck(self) -> bool:
        """Whether a unit had to be given up and still runs somewhere."""
        return any(worker.is_busy for _, worker in self._crew.given_up)

    # ---- the end

    def finish(self) -> ExecutionResult[Any]:
        """Close the run after its executor has returned.

        Returns:
            What came of it.
        """
        outer = self.stopping.outer
        if not self._frontier.over:
            still = [self.plan.nodes[number].id for number in self._frontier.at_work()]
            problem = f"returned before the run was over (still running: {name_list(still)})"
            self.stopping.break_off(PluginError(self.options.mode, "Executor.run", problem))
        self._frontier.disband()
        self._attempts.dismiss(self.stopping.last_moment_s)
        self.stopping.end()
        self._note_abandoned()
        self._attempts.close(self.stopping.last_moment_s)
        report = RunReport.of(
            self._ledger,
            self._zero,
            run_id=self.run_id,
            mode=self.options.mode,
            strategy=self.options.strategy,
            max_workers=self.options.max_workers,
            started_utc=self._started_utc,
            wall_s=self.clock.now() - self._zero,
            stopped=self._frontier.halted,
        )
        result: ExecutionResult[Any] = ExecutionResult(self._ledger, report)
        self._ledger.close()
        if self._listeners.hear(RunFinished):
            self._listeners.tell(RunFinished(run_id=self.run_id, report=report))
        _warn_of(report)
        if not self._crew.given_up:
            self._part()
        if outer is not None:
            outer.inner = None
        return result

    def _note_abandoned(self) -> None:
        for number, worker in self._crew.given_up:
            if worker.is_busy:
                error = self._ledger.notes_of(number).error
                if isinstance(error, UnitTimeoutError):
                    error.abandoned = True  # it was told to stop, and did not
                self._ledger.note(number, abandoned=True)

    def _part(self) -> None:
        # Rings of objects would keep the run, and with it every result, until a full collection.
        self._crew.disband()
        self._settlement.part()
        self._frontier.close()
        self._timers.clear()

    def raise_what_broke(self) -> None:
        """Raise what ended the run from outside its units: an engine's or plugin's error, or Ctrl-C.

        Raises:
            BaseException: What broke it.
            KeyboardInterrupt: The user pressed Ctrl-C, or the process was told to end.
        """
        if self.stopping.broken is not None:
            raise self.stopping.broken
        if self.stopping.signals:
            raise KeyboardInterrupt


def _unit_around() -> Worker | None:
    """The worker in whose unit this code runs. What a unit leaves behind (a task, a thread) still has its variables, but is no part of it."""
    outer = running.get()
    is_inside = isinstance(outer, Worker) and outer.context is not None and not outer.run.over
    return cast("Worker", outer) if is_inside else None


def _bound(max_workers: int | None) -> int:
    return sys.maxsize if max_workers is None else max_workers


def _warn_of(report: RunReport) -> None:
    failed = report.in_state(UnitState.FAILED, UnitState.TIMEOUT)
    if failed:
        canceled = report.counts.get(UnitState.CANCELED, 0)
        _log.warning(
            "%d of %d units failed: %s; %d skipped because of them%s",
            len(failed),
            len(report.units),
            name_list(failed),
            report.counts.get(UnitState.SKIPPED, 0),
            f", {canceled} canceled ({report.stopped})" if canceled else "",
        )
    if report.abandoned:
        _log.warning(
            "%d units could not be stopped and may still be running: %s",
            len(report.abandoned),
            name_list(report.abandoned),
        )
