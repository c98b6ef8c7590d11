"""Run: coroutines of units — driven inside a task that is there already, or on a loop in a thread of its own."""

import asyncio
import inspect
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextvars import Context
from typing import Any


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling this only makes a coroutine, so that the call itself cannot block.

    Returns:
        False also for functions of which only the result tells (decorated, or returning an awaitable).
    """
    if type(function) is types.FunctionType:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def is_awaitable(value: object) -> bool:
    """Whether a unit's result has to be awaited first: a coroutine, a future, or anything else with `__await__`."""
    return hasattr(type(value), "__await__")


async def awaited(value: Awaitable[Any]) -> Any:
    """Await anything awaitable, as the coroutine that a task must be made of."""
    return await value


@types.coroutine
def driven(variables: Context, coroutine: Coroutine[Any, Any, Any], future: Any) -> Generator[Any, Any, Any]:
    """Await the rest of a coroutine inside the current task, but in context variables of its own.

    One task runs many units this way: a unit that never waits costs no task, and still sees a real current task.

    Args:
        variables: The context variables to run it in.
        coroutine: The coroutine, which has made its first step.
        future: What that step yielded.

    Yields:
        What the coroutine yields to the event loop.

    Returns:
        Its result.
    """
    while True:
        try:
            sent = yield future
        except BaseException as error:  # noqa: BLE001 - whatever the loop throws in (a cancellation) is the unit's to handle
            step, argument = coroutine.throw, error
        else:
            step, argument = coroutine.send, sent
        try:
            future = variables.run(step, argument)
        except StopIteration as end:
            return end.value


class LoopThread:
    """An event loop in a daemon thread of its own: for coroutines where no loop is running, or where it must not be blocked."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The thread's identity, as `threading.get_ident` gives it there."""
        return self._thread.ident

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def submit(self, value: Awaitable[Any], variables: Context) -> "Future[Any]":
        """Await something on the loop.

        Args:
            value: What to await.
            variables: The context variables to do it in.

        Returns:
            A future of its result; cancelling it cancels the task.
        """
        return variables.run(asyncio.run_coroutine_threadsafe, awaited(value), self.loop)

    def close(self, grace_s: float) -> bool:
        """Cancel what is left, let async generators finish, stop the loop and join its thread.

        Args:
            grace_s: The longest wait for tasks that do not end when they are cancelled.

        Returns:
            False where a task did not end: then the thread may be left behind; it does not keep the interpreter alive.
        """
        ended = asyncio.run_coroutine_threadsafe(_dismiss(grace_s), self.loop)
        try:
            clean = ended.result(2 * grace_s)
        except TimeoutError:
            clean = False  # the loop itself is blocked by a unit
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(grace_s)
        if self._thread.is_alive():
            return False
        self.loop.close()
        return clean


async def _dismiss(grace_s: float) -> bool:
    """Cancel every other task of the running loop and wait for it; whether all of them ended."""
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    clean = await dismiss(others, grace_s)
    await loop.shutdown_asyncgens()
    return clean


async def dismiss(tasks: "set[asyncio.Task[Any]]", grace_s: float) -> bool:
    """Cancel tasks of the running loop and wait for them.

    Args:
        tasks: The tasks.
        grace_s: The longest wait.

    Returns:
        Whether all of them ended.
    """
    for task in tasks:
        task.cancel()
    if not tasks:
        return True
    _, stubborn = await asyncio.wait(tasks, timeout=grace_s)
    for task in stubborn:
        # They are reported as abandoned; asyncio's own message would come at some random time later.
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - asyncio offers no other way
    return not stubborn
