"""Async: coroutine functions run on an event loop, other functions in a bounded number of threads beside it.

A task runs many units: only when one waits is another task made. So a unit that never waits costs no task, and the number
of tasks is the number of units that wait at the same time.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from qp_core import (
    ExecutionPlan,
    Executor,
    ExecutorFactory,
    LoopThread,
    Run,
    Worker,
    dismiss,
    hookimpl,
    select_optimal_workers,
)


class AsyncExecutor:
    """Runs units on the run's own loop (`execute_async`), else on a loop in a thread of its own, so that the caller's is never nested."""

    def workers(self, asked: int | None, plan: ExecutionPlan) -> int | None:  # noqa: ARG002 - the protocol's shape
        """As many as was asked for; without bound if nothing was: coroutines that wait cost little."""
        return asked

    def run(self, run: Run) -> None:
        """Run every unit; tasks that can be stopped are stopped."""
        own = LoopThread(f"qp-{run.run_id[:8]}-loop") if run.loop is None else None
        loop = own.loop if own is not None else run.loop
        if loop is None:  # pragma: no cover - one of them is there
            return
        sides = _SideThreads(run.max_workers or select_optimal_workers(run.plan.units, run.plan), run.run_id)
        tasks = _Tasks(run, loop, sides)
        try:
            run.begin(tasks.spawn, eager=False, stop=tasks.stop)
            run.attend()
        finally:
            if own is None:
                with contextlib.suppress(
                    RuntimeError, TimeoutError
                ):  # the caller's loop was closed, or a unit blocks it
                    asyncio.run_coroutine_threadsafe(dismiss(run.tasks(), _MOMENT_S), loop).result(2 * _MOMENT_S)
            else:
                own.close(_MOMENT_S)
            sides.close()


_MOMENT_S = 0.25  # how long cancelled tasks have to end


class _Tasks:
    """The worker tasks of one run."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, sides: "_SideThreads") -> None:
        self._run = run
        self._loop = loop
        self._sides = sides

    def spawn(self) -> None:
        """Start a worker; from any thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._start()
        else:
            self._loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        worker = self._run.new_worker()
        worker.task = self._loop.create_task(self._run.work_async(worker, self._off_loop), context=worker.variables)

    def stop(self) -> None:
        """Cancel what runs; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        for task in self._run.tasks():
            task.cancel()

    def _off_loop(self, call: Callable[[], Any], worker: Worker) -> "asyncio.Future[Any]":
        future = self._sides.submit(call)
        worker.still_busy = future.running
        return asyncio.wrap_future(future, loop=self._loop)


class _SideThreads:
    """A bounded number of daemon threads for functions that block.

    Not a ThreadPoolExecutor: the interpreter joins that one's threads when it ends, and would wait for ever for an
    abandoned unit.
    """

    def __init__(self, limit: int, run_id: str) -> None:
        self._limit = limit
        self._name = f"qp-{run_id[:8]}-side"
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._lock:
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._limit:
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._calls.put((future, call))
        return future

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
                    future.set_exception(error)
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        """End the threads that are idle; one that is stuck in an abandoned unit ends with the process."""
        with self._lock:
            threads, idle = list(self._threads), self._idle
        for _ in threads:
            self._calls.put(None)
        if idle == len(threads):
            for thread in threads:
                thread.join()


def _make(_: Any) -> Executor:
    return AsyncExecutor()


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    """Offer `async`."""
    return {"async": _make}
