"""Run: the workers of a run, and those that had to be given up."""

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from qp_core.budget import Budget
from qp_core.clock import Timer
from qp_core.context import ExecutionContext, running
from qp_core.frontier import Frontier

if TYPE_CHECKING:
    import asyncio


class Enclosing(Protocol):
    """A run, as far as its workers and the runs nested in their units need to know it."""

    budget: Budget
    stopping: Any  # a `Stopping`, which knows this module

    @property
    def over(self) -> bool:
        """Whether every unit has ended."""
        ...


class Cancelable(Protocol):
    """What a worker waits for while a coroutine of its unit runs elsewhere."""

    def cancel(self) -> object:
        """Cancel the coroutine; from any thread, without waiting."""
        ...


@attrs.define(eq=False)
class Worker:
    """What runs one unit of a run at a time: a thread, a task on an event loop, or a place in a pool.

    Attributes:
        number: Unique in its run; an abandoned worker's number is never given again.
        run: The run it works for.
        variables: The context variables that its units start from; each unit runs in a copy.
        context: The context of the unit that it runs now; None between units.
        outside: That context, while the engine is at work for the unit and not the unit itself: Ctrl-C is not to be raised there.
        inner: Who runs, in this same thread, the units of a run that is nested in its unit.
        started: When its present attempt began.
        awaiting: What it waits for, where a coroutine of its unit runs in a task of its own.
        still_busy: Whether it still runs its unit; asked of abandoned workers when the run is over.
        let_go: Called when it is given up, to let go of the thread that its unit keeps.
        task: The task that it is, on an event loop.
        awaits: For each type of result that it has met, whether such a result is to be awaited: on some versions of Python, asking a type
            for `__await__` that has none takes as long as a fifth of a plain unit.
        timer: What will end its unit's time, for a place in a pool.
        key: Where the unit's result will be cached, for a place in a pool.
        abandoned: Whether it was given up, together with the unit that it runs.
        told: Whether what it waits for was cancelled then.
        falls_back: Whether the last attempt of its unit has failed, so that its time cannot run out any more.
    """

    number: int
    run: Enclosing
    variables: contextvars.Context
    context: ExecutionContext | None = None
    outside: ExecutionContext | None = None
    inner: "Worker | None" = None
    started: float = 0.0
    awaiting: Cancelable | None = None
    still_busy: Callable[[], bool] | None = None
    let_go: Callable[[], object] | None = None
    task: "asyncio.Task[None] | None" = None
    awaits: dict[type, bool] = attrs.Factory(dict)
    timer: Timer | None = None
    key: str | None = None
    abandoned: bool = False
    told: bool = False
    falls_back: bool = False
    _lent: Budget | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it still runs its unit, as far as anybody can tell."""
        still_busy, task = self.still_busy, self.task  # once: the worker takes them away when its unit ends
        if still_busy is not None:
            return still_busy()
        return task is not None and not task.done()

    def lend(self, *, bounded: bool) -> Budget | None:
        """The budget of a run that is nested in this worker's unit: the unit's own slot, shared by all that are nested in it.

        Args:
            bounded: Whether the nested run has a bound of its own.

        Returns:
            None where neither that run nor this worker's has a bound.
        """
        outer = self.run.budget
        if outer.unbounded and not bounded:
            return None
        outer = outer.for_nested()
        with outer.lock:
            if self._lent is None:
                self._lent = Budget(1, outer)
            return self._lent


class Crew:
    """The workers of one run.

    Args:
        frontier: The run's, which counts them.
    """

    most_abandoned = 64
    """So many workers that cannot be stopped are given up and replaced; then the run is halted, for each may hold a thread for ever."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._variables = contextvars.copy_context()
        self._lock = threading.Lock()
        self._count = 0
        self._workers: dict[int, Worker] = {}
        self.stopping = False
        """Whether the coroutines of this run are cancelled; one that comes later is to be cancelled by who awaits it."""
        self.given_up: list[tuple[int, Worker]] = []
        """The units that were given up, each with its worker."""
        self._stuck: list[Worker] = []

    def new(self, run: Enclosing) -> Worker:
        """Make a worker with a number of its own.

        Args:
            run: The run that it works for.

        Returns:
            The worker.
        """
        variables = self._variables.copy()
        with self._lock:
            number = self._count
            self._count += 1
            worker = self._workers[number] = Worker(number, run, variables)
        variables.run(running.set, worker)
        return worker

    def leave(self, worker: Worker) -> None:
        """A worker goes for good; one that was given up has gone before."""
        with self._lock:
            gone = self._workers.pop(worker.number, None) is None
        if not gone:
            _part(worker)
            self._frontier.leave()

    def disband(self) -> None:
        """Let go of all workers that have ended."""
        with self._lock:
            workers = list(self._workers.values())
            self._workers.clear()
        for worker in workers:
            _part(worker)

    def tasks(self) -> "set[asyncio.Task[None]]":
        """The tasks of the workers that are tasks, given up or not.

        Returns:
            A new set.
        """
        with self._lock:
            workers = [*self._workers.values(), *(worker for _, worker in self.given_up)]
        return {worker.task for worker in workers if worker.task is not None}

    def told(self) -> "set[asyncio.Task[None]]":
        """The tasks that wait for one which was cancelled when their worker was given up, and that may be cleaning up.

        Returns:
            A new set.
        """
        with self._lock:
            return {worker.task for _, worker in self.given_up if worker.told and worker.task is not None}

    def of_number(self, number: int) -> Worker | None:
        """The worker of that number.

        Returns:
            None where it has left.
        """
        with self._lock:
            return self._workers.get(number)

    def cancel_awaiting(self) -> None:
        """Cancel the coroutines that threads wait for; those that tasks wait for are cancelled with them."""
        with self._lock:
            workers = [worker for worker in self._workers.values() if worker.task is None]
        for worker in workers:
            awaiting = worker.awaiting
            if awaiting is not None:
                awaiting.cancel()

    def give_up(self, worker: Worker, unit: int, *, stoppable: bool) -> bool:
        """Count a worker no longer, since its unit may go on running, and let another come in its place.

        Args:
            worker: The worker; it finds out when its unit ends.
            unit: The unit that it runs.
            stoppable: Whether the unit was told to stop, so that it will hardly go on for ever.

        Returns:
            False where too many are busy that cannot be stopped.
        """
        worker.abandoned = True
        worker.context = None
        awaiting = worker.awaiting  # either we see it now, or the worker sees that it was given up
        if awaiting is not None:
            worker.told = True
            if not self.stopping:  # else it was cancelled before, and may be cleaning up
                awaiting.cancel()
        with self._lock:
            gone = self._workers.pop(worker.number, None) is None
            self.given_up.append((unit, worker))
            if not stoppable:
                self._stuck.append(worker)
                if len(self._stuck) >= self.most_abandoned:
                    self._stuck = [one for one in self._stuck if one.is_busy]
            too_many = len(self._stuck) >= self.most_abandoned
        let_go = worker.let_go  # once: the worker takes it away when its unit ends, at this very moment perhaps
        if let_go is not None:
            let_go()
        if not gone:
            self._frontier.leave()
        return not too_many


def _part(worker: Worker) -> None:
    # Its variables, its task and its future hold the worker; as rings they would keep the run, and with it all results, until a
    # full collection.
    worker.variables = contextvars.Context()
    worker.context = worker.outside = worker.task = worker.still_busy = worker.let_go = None
