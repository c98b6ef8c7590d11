"""Async: coroutine functions run on an event loop, other functions in a bounded number of threads beside it.

A task runs many units: only when one waits is another task made. So a unit that never waits costs no task, and the number
of tasks is the number of units that wait at the same time.
"""

import asyncio
import contextlib
import functools
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

from qp_core import (
    ExecutionPlan,
    Executor,
    ExecutorFactory,
    LoopThread,
    Run,
    Substitute,
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
                dismiss(loop, run.tasks, _MOMENT_S, told=run.told)
            else:
                own.dismiss(_MOMENT_S)
                own.close(_MOMENT_S)
            sides.close()


_MOMENT_S = 0.15  # how long cancelled tasks have to end


class _Tasks:
    """The worker tasks of one run."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, sides: "_SideThreads") -> None:
        self._run = run
        self._loop = loop
        self._sides = sides
        self._told: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()

    def spawn(self) -> None:
        """Start a worker; from any thread."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if not here:
            self._loop.call_soon_threadsafe(self._start)
        elif self._loop.get_task_factory() is None:
            self._start()
        else:  # it may begin the task at once, here, under the frontier's lock
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        worker = self._run.new_worker()
        # The loop holds the task until it begins, and from then on its worker does.
        self._loop.create_task(self._run.work_async(worker, self._off_loop), context=worker.variables)

    def stop(self) -> None:
        """Cancel what runs; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # Once: whoever is stopped again (Ctrl-C after a failure, or twice) does not disturb what cleans up.
        for task in self._run.tasks() - self._run.told() - set(self._told):
            self._told.add(task)
            task.cancel()

    def _off_loop(self, call: Callable[[], Any], worker: Worker) -> "asyncio.Future[Any]":
        submitted = self._sides.submit(call)
        worker.still_busy = submitted.future.running
        worker.let_go = functools.partial(self._sides.abandon, submitted)
        if worker.abandoned:  # before there was anything to let go
            self._sides.abandon(submitted)
        return asyncio.wrap_future(submitted.future, loop=self._loop)


class _SideThreads:
    """A bounded number of daemon threads for functions that block.

    Not a ThreadPoolExecutor: the interpreter joins that one's threads when it ends, and would wait for ever for an abandoned unit; and
    an abandoned one would count as one of the bounded number for ever.

    State, under the lock: `queued` calls that no thread has taken; `idle` threads, those being started included; `threads`, without those
    that are stuck in an abandoned call; `running` calls, without the abandoned ones; `closed`, after which no call begins.
    """

    def __init__(self, limit: int, run_id: str) -> None:
        self._limit = limit
        self._name = f"qp-{run_id[:8]}-side"
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = self._idle = self._started = 0
        self._threads: set[threading.Thread] = set()
        self._running: set[_Call] = set()
        self._closed = False

    def submit(self, function: Callable[[], Any]) -> "_Call":
        """Have a function called in one of the threads; one that comes too late even for the run is cancelled."""
        call = _Call(function)
        with self._lock:
            if self._closed:
                call.future.cancel()
                return call
            self._queued += 1
            try:
                self._start_if_short()
            except RuntimeError:
                self._queued -= 1
                raise
            self._calls.put(call)
        return call

    def _start_if_short(self) -> None:
        if self._queued > self._idle and len(self._threads) < self._limit:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread": go on with those there are
                if self._threads:
                    return
                raise
            self._threads.add(thread)
            self._started += 1
            self._idle += 1

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            with self._lock:
                self._queued -= 1
                if self._closed or not call.future.set_running_or_notify_cancel():
                    del call
                    continue
                self._idle -= 1
                self._running.add(call)
                call.thread = threading.current_thread()
            outcome = call.function()
            is_back = self._is_back_from(call)
            if not is_back:
                _discard(outcome)
            call.future.set_result(outcome)
            del call, outcome  # a thread that waits must not keep a result alive
            if not is_back:
                return

    def _is_back_from(self, call: "_Call") -> bool:
        with self._lock:
            if call.thread is None:  # it was abandoned, and this thread replaced
                return False
            call.thread = None
            self._running.remove(call)
            self._idle += 1  # before anybody can know that the call is over
            return True

    def abandon(self, call: "_Call") -> None:
        """Do without the thread that runs a call, and let another come in its place; or, if it has not begun, do without the call."""
        if call.future.cancel():
            return
        with self._lock:
            if call.thread is not None:
                self._part_with(call, call.thread)
                self._start_if_short()

    def _part_with(self, call: "_Call", thread: threading.Thread) -> None:
        self._threads.remove(thread)
        self._running.remove(call)
        call.thread = None

    def close(self) -> None:
        """End the threads, when the run is over; one that is stuck in an abandoned call ends with that, or with the process."""
        with self._lock:
            self._closed = True
            # Nobody waits for these calls any more, even if who gives their units up has not come to abandon them yet.
            for call in [*self._running]:
                if call.thread is not None:
                    self._part_with(call, call.thread)
            threads = list(self._threads)
            for _ in threads:
                self._calls.put(None)
        for thread in threads:
            thread.join()


def _discard(outcome: object) -> None:
    """Close a coroutine that nobody will await, since the unit or fallback that made it was given up."""
    value = outcome.value if isinstance(outcome, Substitute) else outcome
    if isinstance(value, Coroutine):
        value.close()


class _Call:
    """A function on its way to a thread; `thread` is the one that runs it, unless the call was abandoned."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.future: Future[Any] = Future()
        self.thread: threading.Thread | None = None


def _make(_: Any) -> Executor:
    return AsyncExecutor()


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    """Offer `async`."""
    return {"async": _make}
