"""Run: coroutines of units on event loops — in a task that is there already, in one of their own, or on a loop in a thread beside.

What a coroutine raises leaves its task as a value (`Raised`), never as an exception: asyncio lets SystemExit and
KeyboardInterrupt stop the whole loop, and futures refuse StopIteration. This module and `attempt_async` are the only ones that
need asyncio, and are imported with the first coroutine: it takes longer to import than all of the core.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import Context
from typing import Any

import attrs

_TURNS = 5  # of a loop: more than it takes for a task to be cancelled and its callbacks to be called


@attrs.frozen
class Raised:
    """An exception on its way out of a task or thread, as a value."""

    error: BaseException


def opened(value: Any) -> Any:
    """Take what came out of a task or thread.

    Returns:
        The value, if it was one.

    Raises:
        BaseException: What was raised in there.
    """
    if type(value) is Raised:
        raise value.error
    return value


async def contained(value: Awaitable[Any]) -> Any:
    """Await anything awaitable, as the coroutine that a task is made of; only its being cancelled leaves the task as an exception.

    Returns:
        The result, or `Raised`.

    Raises:
        CancelledError: The task was cancelled.
    """
    try:
        return await value
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - carried on by `opened`
        return Raised(error)


def task_of(loop: asyncio.AbstractEventLoop, value: Awaitable[Any], variables: Context) -> "asyncio.Task[Any]":
    """Await something in a task of its own, on the running loop.

    Args:
        loop: The loop.
        value: What to await there.
        variables: The context variables to do it in.

    Returns:
        The task; its result is to be `opened`.
    """
    task = loop.create_task(contained(value), context=variables)
    if asyncio.iscoroutine(value):
        # Does nothing where the coroutine has run. Where its task was cancelled before the first step, Python would say that nobody awaited it.
        task.add_done_callback(lambda _: value.close())
    return task


class Awaited:
    """Something that is awaited in a task on the loop of a `LoopThread`; cancelled and waited for from any thread.

    Args:
        loop: The loop.
        value: What to await there.
        variables: The context variables to do it in.
        forget: Called when it has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        value: Awaitable[Any],
        variables: Context,
        forget: "Callable[[Awaited], object]",
    ) -> None:
        self._loop = loop
        self._value = value
        self._variables = variables
        self._forget = forget
        self._ended: Future[Any] = Future()
        self._task: asyncio.Task[Any] | None = None
        self._unwanted = False

    def start(self) -> None:
        """Begin; on the loop."""
        self._task = task_of(self._loop, self._value, self._variables)
        self._task.add_done_callback(self._end)
        if self._unwanted:
            self._task.cancel()

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._forget(self)
        self._ended.set_result(Raised(asyncio.CancelledError()) if task.cancelled() else task.result())

    def lose(self) -> None:
        """The loop is closed, and nothing will end there any more: whoever waits must not wait for ever."""
        if asyncio.iscoroutine(self._value):
            with contextlib.suppress(RuntimeError, ValueError):  # it refuses, or is the one that blocks the loop
                self._value.close()
        self._ended.set_result(Raised(asyncio.CancelledError()))

    def cancel(self) -> None:
        """Cancel the task, once. Returns at once; `result` returns when the task has really ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs there
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._unwanted:  # once: further times would disturb it as it cleans up
            self._task.cancel()
        self._unwanted = True

    def result(self) -> Any:
        """Wait for the end, in a thread that may block.

        Returns:
            The result.

        Raises:
            BaseException: What was raised instead.
        """
        return opened(self._ended.result())


class LoopThread:
    """An event loop in a daemon thread of its own: for coroutines where no loop is running, or where it must not be blocked."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._open: set[Awaited] | None = set()  # None when the loop is closed
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # "can't start new thread"
            self.loop.close()
            raise

    @property
    def ident(self) -> int | None:
        """The thread's identity, as `threading.get_ident` gives it there."""
        return self._thread.ident

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self._sweep()
            with self._lock:
                left, self._open = self._open or set(), None
            self.loop.close()
            for awaited in left:
                awaited.lose()

    def _sweep(self) -> None:
        """Cancel what was begun after everything had been dismissed, and let it end if it ends at once."""
        for _ in range(_TURNS):
            left = asyncio.all_tasks(self.loop)
            for task in left:
                if not task.cancelling():
                    task.cancel()
                # asyncio's own message would come at some random time later.
                task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - it offers no other way
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()  # a turn also where no task is left: what is to follow their ends is still to be done
            if not left and not asyncio.all_tasks(self.loop):
                return

    def submit(
        self, value: Awaitable[Any], variables: Context, beforehand: "Callable[[Awaited], object]" = bool
    ) -> Awaited:
        """Await something on the loop; from any thread. Where the loop is closed, it is as good as cancelled.

        Args:
            value: What to await.
            variables: The context variables to do it in.
            beforehand: Called with what is returned, before it can begin.

        Returns:
            What can be waited for and cancelled.
        """
        awaited = Awaited(self.loop, value, variables, self._forget)
        beforehand(awaited)
        with self._lock:
            if self._open is not None:
                self._open.add(awaited)
                self.loop.call_soon_threadsafe(awaited.start)
                return awaited
        awaited.lose()
        return awaited

    def _forget(self, awaited: Awaited) -> None:
        with self._lock:
            if self._open is not None:
                self._open.discard(awaited)

    def dismiss(self, grace_s: float) -> bool:
        """Cancel what is left, and let async generators finish; see `dismiss`."""
        return dismiss(self.loop, lambda: asyncio.all_tasks(self.loop), grace_s, generators=True)

    def close(self, grace_s: float) -> bool:
        """Stop the loop and join its thread.

        Args:
            grace_s: The longest wait.

        Returns:
            False where a unit blocks the loop: then the thread is left behind; it does not keep the interpreter alive.
        """
        with contextlib.suppress(RuntimeError):  # it is closed already
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(grace_s)
        return not self._thread.is_alive()


def dismiss(
    loop: asyncio.AbstractEventLoop,
    tasks: "Callable[[], set[asyncio.Task[Any]]]",
    grace_s: float,
    *,
    told: "Callable[[], set[asyncio.Task[Any]]]" = set,
    generators: bool = False,
) -> bool:
    """Cancel tasks of a loop that runs in another thread, and wait for them.

    Args:
        loop: The loop.
        tasks: Which tasks; called on the loop.
        grace_s: The longest wait, first for those that know already, then for those that are cancelled.
        told: Which of them wait only for a task that was cancelled before, and may be cleaning up; called on the loop.
        generators: Whether to let the loop's async generators finish too.

    Returns:
        Whether all of them ended; False also where the loop is closed or blocked.
    """
    ended: Future[bool] = Future()

    def begin() -> None:
        if ended.set_running_or_notify_cancel():
            job = loop.create_task(_dismissed(tasks(), told(), grace_s, generators=generators))
            job.add_done_callback(lambda job: ended.set_result(not job.cancelled() and job.result()))

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError:  # the loop is closed
        return False
    try:
        return ended.result(3 * grace_s)
    except TimeoutError:
        ended.cancel()
        return False


async def _dismissed(
    tasks: "set[asyncio.Task[Any]]", told: "set[asyncio.Task[Any]]", grace_s: float, *, generators: bool
) -> bool:
    # Who is cleaning up after a cancellation is not disturbed by another one.
    ending = told | {task for task in tasks if task.cancelling()}
    if ending:
        await asyncio.wait(ending, timeout=grace_s)
    stubborn = {task for task in tasks if not task.done()}
    for task in stubborn:
        task.cancel()
    if stubborn:
        _, stubborn = await asyncio.wait(stubborn, timeout=grace_s)
    for task in stubborn:
        # They are reported as abandoned; asyncio's own message would come at some random time later.
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - asyncio offers no other way
    if generators:
        await asyncio.get_running_loop().shutdown_asyncgens()
    return not stubborn
