"""Run: the workers of a run, and those that had to be given up."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

import attrs

from qp_core.budget import Budget
from qp_core.clock import Timer
from qp_core.context import ExecutionContext, running
from qp_core.frontier import Frontier


class Enclosing(Protocol):
    """A run, as far as its workers and the runs nested in their units need to know it."""

    budget: Budget

    def enclose(self, nested: Any) -> None:
        """A run begins inside one of this run's units."""
        ...

    def discharge(self, nested: Any) -> None:
        """That run is over."""
        ...


@attrs.define(eq=False)
class Worker:
    """What runs one unit of a run at a time: a thread, a task on an event loop, or a place in a pool.

    Attributes:
        number: Unique in its run; an abandoned worker's number is never given again.
        run: The run it works for.
        variables: The context variables that its units start from; each unit runs in a copy.
        context: The context of the unit that it runs now; None between units.
        awaiting: What it waits for, where a coroutine of its unit runs elsewhere.
        still_busy: Whether it still runs its unit; asked of abandoned workers when the run is over.
        task: The task that it is, on an event loop.
        timer: What will end its unit's time, for a place in a pool.
        key: Where the unit's result will be cached, for a place in a pool.
        abandoned: Whether it was given up, together with the unit that it runs.
    """

    number: int
    run: Enclosing
    variables: contextvars.Context
    context: ExecutionContext | None = None
    awaiting: "Future[Any] | None" = None
    still_busy: Callable[[], bool] | None = None
    task: "asyncio.Task[None] | None" = None
    timer: Timer | None = None
    key: str | None = None
    abandoned: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether it still runs its unit, as far as anybody can tell."""
        if self.still_busy is not None:
            return self.still_busy()
        return self.task is not None and not self.task.done()

    @property
    def budget(self) -> Budget:
        """The run's budget, for a run that is nested in this worker's unit."""
        return self.run.budget


class Crew:
    """The workers of one run.

    Args:
        run: The run.
        frontier: Its frontier, which counts them.
    """

    most_abandoned = 64
    """So many workers are given up and replaced; then the run is halted, for each may hold a thread for ever."""

    def __init__(self, run: Enclosing, frontier: Frontier) -> None:
        self._run = run
        self._frontier = frontier
        self._variables = contextvars.copy_context()
        self._lock = threading.Lock()
        self._count = 0
        self._workers: dict[int, Worker] = {}
        self.given_up: list[tuple[int, Worker]] = []
        """The units that were given up, each with its worker."""

    def new(self) -> Worker:
        """Make a worker with a number of its own.

        Returns:
            The worker.
        """
        variables = self._variables.copy()
        with self._lock:
            number = self._count
            self._count += 1
            worker = self._workers[number] = Worker(number, self._run, variables)
        variables.run(running.set, worker)
        return worker

    def leave(self, worker: Worker) -> None:
        """A worker goes for good; one that was given up has gone before."""
        with self._lock:
            gone = self._workers.pop(worker.number, None) is None
        if not gone:
            self._frontier.leave()

    def tasks(self) -> "set[asyncio.Task[None]]":
        """The tasks of the workers that are tasks, given up or not.

        Returns:
            A new set.
        """
        with self._lock:
            workers = [*self._workers.values(), *(worker for _, worker in self.given_up)]
        return {worker.task for worker in workers if worker.task is not None}

    def of_number(self, number: int) -> Worker | None:
        """The worker of that number.

        Returns:
            None where it has left.
        """
        with self._lock:
            return self._workers.get(number)

    def cancel_awaiting(self) -> None:
        """Cancel the coroutines that workers wait for."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            awaiting = worker.awaiting
            if awaiting is not None:
                awaiting.cancel()

    def give_up(self, worker: Worker, unit: int, *, replace: bool) -> bool:
        """Count a worker no longer, since its unit cannot be stopped, and let another come in its place.

        Args:
            worker: The worker; it finds out when its unit ends.
            unit: The unit that it runs.
            replace: Whether another may come.

        Returns:
            False where too many have been given up already.
        """
        worker.abandoned = True
        worker.context = None
        with self._lock:
            self._workers.pop(worker.number, None)
            self.given_up.append((unit, worker))
            too_many = len(self.given_up) >= self.most_abandoned
        self._frontier.leave()
        if replace and not too_many:
            self._frontier.help()
        return not too_many
