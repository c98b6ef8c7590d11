"""Run: how a run ends before its last unit has — cancelled, interrupted, out of time, or broken off — and the runs in its units with it.

Each way is made of the same three steps, and they differ in what comes when: *halt* (hand out nothing more, and cancel what has
not begun), *stop* (cancel coroutines that run, and ask the executor to stop what it can), and *give up* (end units that go on
running, without their workers).
"""

import functools
import threading
from collections.abc import Callable

from qp_core.clock import Clock, Inbox, Timers
from qp_core.crew import Crew, Worker
from qp_core.errors import UnitTimeoutError
from qp_core.frontier import Frontier
from qp_core.ledger import CANCELED, TIMEOUT
from qp_core.plan import ExecutionPlan
from qp_core.settlement import Settlement

_PATIENCE = 2  # signals that are answered by winding the run up
_WINDING_UP_S = 1.0  # how long that may take, beside the grace


class Stopping:
    """What stops one run. Everything may be called from any thread, and waits for nothing but observers that are being told.

    Args:
        plan: What runs.
        frontier: What is halted.
        settlement: Where units that are given up are ended.
        crew: Whose units those are.
        timers: Where the grace and the deadline wait.
        inbox: Where what the attending thread has to do is put.
        clock: Whose time counts.
        deadline_s: The most seconds for the whole run; None is no bound.
        grace_s: How long running units may go on after the first interrupt.
        outer: The worker in whose unit this run is nested; None for one that is not.

    Attributes:
        inbox: As given.
        outer: As given; None again when the run is over.
        broken: What ended the run from outside its units; None where nothing did.
        signals: How often Ctrl-C or SIGTERM came.
        guarded: Whether these are told to the run; if not, a KeyboardInterrupt may come out of any unit in the main thread.
    """

    last_moment_s = 0.15
    """How long cancelled tasks have to end by themselves before their units are given up."""

    def __init__(
        self,
        *,
        plan: ExecutionPlan,
        frontier: Frontier,
        settlement: Settlement,
        crew: Crew,
        timers: Timers,
        inbox: Inbox,
        clock: Clock,
        deadline_s: float | None,
        grace_s: float,
        outer: Worker | None,
    ) -> None:
        self._plan = plan
        self._frontier = frontier
        self._settlement = settlement
        self._crew = crew
        self._timers = timers
        self.inbox = inbox
        self._clock = clock
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self.outer = outer
        self._stop: Callable[[], None] | None = None
        self._interrupted = False
        self._signaled = 0.0
        self._nested: set[Stopping] = set()
        self._nested_lock = threading.Lock()
        self.broken: BaseException | None = None
        self.signals = 0
        self.guarded = threading.current_thread() is not threading.main_thread()

    # ---- the run's

    def begin(self, stop: Callable[[], None] | None, zero: float) -> None:
        """The run begins.

        Args:
            stop: The executor's: stops units that are running, where that can be done (cancels tasks).
            zero: When the run began.
        """
        self._stop = stop
        if self._deadline_s is not None:
            self._timers.add(zero + self._deadline_s, self._deadline_passed)
        if self.outer is not None:
            self.outer.run.stopping.enclose(self)

    def end(self) -> None:
        """The run is over."""
        self._stop = None
        if self.outer is not None:
            self.outer.run.stopping.discharge(self)
            self.outer = None

    # ---- the ways to stop

    def cancel(self, reason: str = "canceled") -> None:
        """Hand out nothing more, and cancel what has not begun; coroutines that run are cancelled, functions run to their end."""
        self._settlement.halt(reason)
        self._stop_running()

    def interrupt(self, reason: str = "interrupted") -> None:
        """Ctrl-C: the first time, running units may go on for the grace; the second time, stop at once."""
        if self._interrupted:
            self._stop_and_give_up()
            return
        self.halt_aside(reason)
        self._timers.add(self._clock.now() + self._grace_s, self._stop_and_give_up)

    def halt_aside(self, reason: str = "interrupted") -> None:
        """The same as the first `interrupt`, from a thread beside the one that runs the units and has no time to attend."""
        self._interrupted = True
        self.halt_with_inside(reason)
        for nested in self._inside():
            nested.inbox.put(nested.interrupt)

    def break_off(self, error: BaseException) -> None:
        """End the run at once, because something beside its units went wrong; the first such error is kept in `broken`."""
        if self.broken is None:
            self.broken = error
        self._settlement.halt("broken off")
        self._give_up_running("the run was broken off")
        self._stop_running()

    def _deadline_passed(self) -> None:
        self._settlement.halt("deadline")
        self._give_up_running("deadline", TIMEOUT)
        self._stop_running()

    # ---- their steps

    def halt_with_inside(self, reason: str) -> None:
        """Hand out nothing more, neither here nor in the runs nested in units of this one."""
        self._settlement.halt(reason)
        for nested in self._inside():
            nested.halt_with_inside(reason)

    def _stop_running(self) -> None:
        # First: who begins to wait looks at this after it has said what it waits for, so either it is seen here or sees that it is to stop.
        self._crew.stopping = True
        if self._stop is not None:
            self._stop()
        self._crew.cancel_awaiting()
        for nested in self._inside():
            nested.cancel(self._frontier.halted or "canceled")

    def _stop_and_give_up(self) -> None:
        self._stop_running()
        # Tasks that were cancelled may end by themselves; threads can make no use of the time.
        moment = self.last_moment_s if self._stop is not None else 0.0
        give_up = functools.partial(self._give_up_running, "the run was interrupted")
        self._timers.add(self._clock.now() + moment, give_up)

    def _give_up_running(self, why: str, state: int = CANCELED) -> None:
        from asyncio import CancelledError  # noqa: PLC0415 - asyncio takes longer to import than all of the core

        for number in self._frontier.at_work():
            unit_id = self._plan.nodes[number].id
            worker = self._crew.of_number(self._frontier.owner(number))
            # A coroutine can be stopped: one that a thread or a task awaits beside, or one in a worker's task (a function beside a
            # loop has a thread that is `still_busy`).
            stoppable = worker is not None and (
                worker.awaiting is not None or (self._stop is not None and worker.still_busy is None)
            )
            error: BaseException = CancelledError(f"unit {unit_id!r} was given up, because {why}")
            if state == TIMEOUT:
                error = UnitTimeoutError(unit_id, self._deadline_s or 0.0, not stoppable, f"run's {why}")
            started = 0.0 if worker is None or worker.context is None else worker.started
            if self._settlement.failure(number, None, error, state, started) and worker is not None:
                self._crew.give_up(worker, number, stoppable=stoppable)

    # ---- runs inside this one's units

    def enclose(self, nested: "Stopping") -> None:
        """A run begins inside one of this run's units: what stops this one stops it too."""
        with self._nested_lock:
            self._nested.add(nested)
        if self._frontier.halted is not None:
            nested.cancel(self._frontier.halted)

    def discharge(self, nested: "Stopping") -> None:
        """A run inside one of this run's units is over."""
        with self._nested_lock:
            self._nested.discard(nested)

    def _inside(self) -> "list[Stopping]":
        with self._nested_lock:
            return list(self._nested)

    def stop_inside(self, worker: Worker) -> None:
        """A worker was given up: stop the runs that are nested in its unit."""
        for nested in self._inside():
            if nested.outer is worker:
                nested.cancel("the unit around it was given up")

    # ---- signals

    def note_signal(self) -> None:
        """Ctrl-C or SIGTERM came; called from signal handlers, so it takes no lock."""
        if not self.signals:
            self._signaled = self._clock.now()
        self.signals += 1

    @property
    def out_of_patience(self) -> bool:
        """Whether Ctrl-C was pressed a third time although the run should be gone: something holds it up, and it is left as it is."""
        late = self._clock.now() - self._signaled > self._grace_s + _WINDING_UP_S
        return self.signals > _PATIENCE and late

    def meant_by_user(self) -> bool:
        """Whether a KeyboardInterrupt that came out of a unit is the user's Ctrl-C, and so the run's end; else the unit raised it by itself."""
        in_main = threading.current_thread() is threading.main_thread()  # no signal handler raises anywhere else
        if self.signals or (in_main and not self.guarded):
            self.note_signal()
            self._settlement.halt("interrupted")
            return True
        return False
