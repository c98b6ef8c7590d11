"""Coroutines of units: what is awaited, how one runs inside a task that is there already, and a loop in a thread of its own."""

import asyncio
import contextvars
import functools
import gc
import threading

import pytest

from qp_core.loop import LoopThread, awaited, dismiss, driven, is_awaitable, is_coroutine_function
from tests.core.engine import PATIENCE_S, wait_for

GRACE_S = 0.05


async def coroutine_function(_=None):
    """A plain one."""
    return "done"


def plain_function(_=None):
    """Returns an awaitable; calling it may block."""
    return coroutine_function()


class Callable:
    """An object that is called."""

    def __call__(self, _):
        """Not async."""

    async def method(self, _):
        """A method."""


class AsyncCallable:
    """An object whose call makes a coroutine."""

    async def __call__(self, _):
        """Async."""
        return "called"


async def async_generator(_):
    """Makes an async generator, which cannot be awaited."""
    yield 1


class Awaitable:
    """Awaitable without being a coroutine."""

    def __await__(self):
        """Give way once."""
        yield
        return "awaited"


@pytest.fixture
def loop_thread():
    """A loop in a thread of its own."""
    made = LoopThread("qp-test-loop")
    yield made
    if made._thread.is_alive():
        made.close(PATIENCE_S)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(coroutine_function, True, id="async_def"),
        pytest.param(functools.partial(coroutine_function, 1), True, id="partial"),
        pytest.param(functools.partial(functools.partial(coroutine_function), 1), True, id="partial_of_partial"),
        pytest.param(Callable().method, True, id="bound_method"),
        pytest.param(AsyncCallable(), True, id="async_call"),
        pytest.param(plain_function, False, id="def_that_returns_a_coroutine"),
        pytest.param(lambda _: coroutine_function(), False, id="lambda_that_returns_a_coroutine"),
        pytest.param(functools.wraps(coroutine_function)(plain_function), False, id="decorated"),
        pytest.param(Callable(), False, id="call"),
        pytest.param(AsyncCallable, False, id="class"),
        pytest.param(async_generator, False, id="async_generator_function"),
        pytest.param(print, False, id="builtin"),
    ],
)
def test_a_coroutine_function_is_told_by_itself_alone(function, expected):
    """Of the others only the result tells: they may block when they are called."""
    assert is_coroutine_function(function) is expected


def test_what_can_be_awaited_is_awaitable():
    """Coroutines, futures, and whatever has `__await__`; no function, no class, no generator."""
    coroutine = coroutine_function()
    assert is_awaitable(coroutine)
    assert is_awaitable(Awaitable())
    assert not any(is_awaitable(value) for value in (None, coroutine_function, Awaitable, async_generator(1), 5, "x"))
    coroutine.close()


def test_a_driven_coroutine_runs_in_its_own_variables_and_the_current_task():
    """From its first step to its last; the task's own variables stay as they were."""
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []

    async def unit():
        seen.append((variable.get(), asyncio.current_task()))
        variable.set("changed")
        await asyncio.sleep(0)
        seen.append((variable.get(), asyncio.current_task()))
        return "result"

    async def main():
        own = contextvars.copy_context()
        own.run(variable.set, "inside")
        coroutine = unit()
        first = own.run(coroutine.send, None)
        result = await driven(own, coroutine, first)
        return result, variable.get(), asyncio.current_task()

    result, outside, task = asyncio.run(main())
    assert (result, outside) == ("result", "outside")
    assert seen == [("inside", task), ("changed", task)]


def test_what_a_driven_coroutine_raises_comes_out():
    """After it has waited."""

    async def unit():
        await asyncio.sleep(0)
        raise LookupError("lost")

    async def main():
        own, coroutine = contextvars.copy_context(), unit()
        await driven(own, coroutine, own.run(coroutine.send, None))

    with pytest.raises(LookupError, match="lost"):
        asyncio.run(main())


def test_a_cancellation_reaches_the_driven_coroutine_which_may_refuse_it():
    """It is thrown in where the coroutine waits."""
    seen = []

    async def unit():
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            seen.append("cancelled")
        await asyncio.sleep(0)
        return "went on"

    async def main():
        own, coroutine = contextvars.copy_context(), unit()
        future = own.run(coroutine.send, None)
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        return await driven(own, coroutine, future)

    assert asyncio.run(main()) == "went on"
    assert seen == ["cancelled"]


def test_a_loop_thread_awaits_anything_awaitable(loop_thread):
    """A coroutine, and an object with `__await__`."""
    variables = contextvars.copy_context()
    assert loop_thread.submit(coroutine_function(), variables).result(PATIENCE_S) == "done"
    assert loop_thread.submit(Awaitable(), variables).result(PATIENCE_S) == "awaited"


def test_a_loop_thread_runs_in_the_given_variables_and_in_its_own_thread(loop_thread):
    """Contextvars travel with the coroutine."""
    variable = contextvars.ContextVar("variable", default="outside")

    async def unit():
        return variable.get(), threading.get_ident()

    variables = contextvars.copy_context()
    variables.run(variable.set, "inside")
    assert loop_thread.submit(unit(), variables).result(PATIENCE_S) == ("inside", loop_thread.ident)
    assert loop_thread.ident != threading.get_ident()


def test_cancelling_a_future_of_a_loop_thread_cancels_the_task(loop_thread):
    """Where it waits."""
    waits, cancelled = threading.Event(), threading.Event()

    async def unit():
        waits.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cancelled.set()

    future = loop_thread.submit(unit(), contextvars.copy_context())
    wait_for(waits)
    future.cancel()
    wait_for(cancelled)


def test_closing_cancels_what_is_left_and_joins_the_thread(loop_thread):
    """Tasks may clean up."""
    waits, log = threading.Event(), []

    async def unit():
        waits.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    future = loop_thread.submit(unit(), contextvars.copy_context())
    wait_for(waits)
    assert loop_thread.close(PATIENCE_S)
    assert log == ["cleaned up"]
    assert future.cancelled()
    assert loop_thread.loop.is_closed()
    assert not loop_thread._thread.is_alive()


def test_closing_lets_async_generators_finish(loop_thread):
    """A generator that was left in the middle."""
    log = []

    async def numbers():
        try:
            yield 1
        finally:
            log.append("finished")

    async def unit():
        async for _ in (left := numbers()):
            return left
        return None

    left = loop_thread.submit(unit(), contextvars.copy_context()).result(PATIENCE_S)
    assert loop_thread.close(PATIENCE_S)
    assert log == ["finished"]
    del left


def test_closing_says_where_a_task_did_not_end(loop_thread):
    """It swallows its cancellation; the loop is closed all the same, and asyncio says nothing later."""
    waits = threading.Event()

    async def stubborn():
        waits.set()
        while True:
            try:
                await asyncio.sleep(PATIENCE_S)
            except asyncio.CancelledError:
                continue

    future = loop_thread.submit(stubborn(), contextvars.copy_context())
    wait_for(waits)
    assert not loop_thread.close(GRACE_S)
    assert not loop_thread._thread.is_alive()
    assert loop_thread.loop.is_closed()
    assert not future.done()
    gc.collect()


def test_closing_gives_up_a_loop_that_is_blocked(loop_thread, recwarn, caplog):
    """The unit sleeps in its coroutine: the thread is left behind, ends later, and leaves no open loop and no warning."""
    waits, free = threading.Event(), threading.Event()

    async def blocks():
        waits.set()
        free.wait(PATIENCE_S)

    loop_thread.submit(blocks(), contextvars.copy_context())
    wait_for(waits)
    assert not loop_thread.close(GRACE_S)
    assert loop_thread._thread.is_alive()
    free.set()
    loop_thread._thread.join(PATIENCE_S)
    assert not loop_thread._thread.is_alive()
    assert loop_thread.loop.is_closed()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
    assert [record.message for record in caplog.records] == []


def test_dismissing_waits_for_tasks_to_end():
    """And says whether all did."""

    async def main():
        async def unit():
            try:
                await asyncio.sleep(PATIENCE_S)
            finally:
                await asyncio.sleep(0)

        async def stubborn():
            try:
                await asyncio.sleep(PATIENCE_S)
            except asyncio.CancelledError:
                await asyncio.sleep(PATIENCE_S)

        tasks = {asyncio.ensure_future(unit()) for _ in range(3)}
        await asyncio.sleep(0)
        clean = await dismiss(tasks, PATIENCE_S)
        other = asyncio.ensure_future(stubborn())
        await asyncio.sleep(0)
        unclean = await dismiss({other}, GRACE_S)
        other.cancel()
        return clean, all(task.cancelled() for task in tasks), unclean, await dismiss(set(), 0)

    assert asyncio.run(main()) == (True, True, False, True)


def test_anything_awaitable_can_be_made_a_task():
    """A task must be made of a coroutine."""

    async def main():
        return await asyncio.create_task(awaited(Awaitable()))

    assert asyncio.run(main()) == "awaited"
