"""Coroutines of units: what they raise, who waits for them, and a loop in a thread of its own."""

import asyncio
import contextvars
import gc
import threading

import pytest

from qp_core.loop import LoopThread, Raised, opened, task_of
from tests.core.engine import PATIENCE_S, wait_for

GRACE_S = 0.05


async def coroutine_function(_=None):
    """A plain one."""
    return "done"


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


# ---- values that leave a task


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration], ids=lambda kind: kind.__name__
)
def test_what_a_coroutine_raises_leaves_its_task_as_a_value(kind):
    """Else asyncio would let some of these stop the loop, or refuse them."""

    async def main():
        error = kind("out")

        class Raises:
            def __await__(self):
                yield
                raise error

        task = task_of(asyncio.get_running_loop(), Raises(), contextvars.copy_context())
        carried = await task
        # Python itself makes a RuntimeError of a StopIteration that leaves a coroutine.
        return carried.error is error or (kind is StopIteration and isinstance(carried.error, RuntimeError))

    assert asyncio.run(main())


def test_only_a_cancellation_leaves_a_task_as_an_exception():
    """So that whoever waits for the task knows."""

    async def main():
        task = task_of(asyncio.get_running_loop(), asyncio.sleep(PATIENCE_S), contextvars.copy_context())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_task_that_is_cancelled_before_it_begins_closes_its_coroutine():
    """Else Python would warn that it was never awaited."""

    async def main():
        coroutine = coroutine_function()
        task = task_of(asyncio.get_running_loop(), coroutine, contextvars.copy_context())
        task.cancel()
        await asyncio.wait({task})
        return coroutine.cr_frame

    assert asyncio.run(main()) is None


def test_a_value_is_opened_or_raised():
    """Also None."""
    assert opened(None) is None
    error = LookupError()
    with pytest.raises(LookupError) as raised:
        opened(Raised(error))
    assert raised.value is error


# ---- a loop in a thread


def test_a_loop_thread_awaits_anything_awaitable(loop_thread):
    """A coroutine, and an object with `__await__`."""
    variables = contextvars.copy_context()
    assert loop_thread.submit(coroutine_function(), variables).result() == "done"
    assert loop_thread.submit(Awaitable(), variables).result() == "awaited"


def test_a_loop_thread_runs_in_the_given_variables_and_in_its_own_thread(loop_thread):
    """Contextvars travel with the coroutine."""
    variable = contextvars.ContextVar("variable", default="outside")

    async def unit():
        return variable.get(), threading.get_ident()

    variables = contextvars.copy_context()
    variables.run(variable.set, "inside")
    assert loop_thread.submit(unit(), variables).result() == ("inside", loop_thread.ident)
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
    with pytest.raises(asyncio.CancelledError):
        future.result()


def test_dismissing_cancels_what_is_left_and_closing_joins_the_thread(loop_thread):
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
    assert loop_thread.dismiss(PATIENCE_S)
    assert log == ["cleaned up"]
    with pytest.raises(asyncio.CancelledError):
        future.result()
    assert loop_thread.close(PATIENCE_S)
    assert loop_thread.loop.is_closed()
    assert not loop_thread._thread.is_alive()


def test_dismissing_lets_async_generators_finish(loop_thread):
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

    left = loop_thread.submit(unit(), contextvars.copy_context()).result()
    assert loop_thread.dismiss(PATIENCE_S)
    assert log == ["finished"]
    del left


@pytest.mark.slow
def test_a_task_that_does_not_end_keeps_nobody_waiting(loop_thread):
    """It swallows its cancellation: the loop is closed all the same, who waits is told, and asyncio says nothing later."""
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
    assert not loop_thread.dismiss(GRACE_S)
    assert loop_thread.close(PATIENCE_S)
    assert not loop_thread._thread.is_alive()
    assert loop_thread.loop.is_closed()
    with pytest.raises(asyncio.CancelledError):
        future.result()
    gc.collect()


def test_who_cleans_up_after_a_cancellation_is_not_cancelled_again(loop_thread):
    """Dismissing waits for it."""
    cleaning, log = threading.Event(), []

    async def unit():
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cleaning.set()
            await asyncio.sleep(0.01)
            log.append("cleaned up")

    waits = threading.Event()

    async def begun():
        waits.set()
        await unit()

    awaited = loop_thread.submit(begun(), contextvars.copy_context())
    wait_for(waits)
    awaited.cancel()
    wait_for(cleaning)
    assert loop_thread.dismiss(PATIENCE_S)
    assert log == ["cleaned up"]


def test_who_cancels_again_does_not_disturb_what_cleans_up(loop_thread):
    """It knows already: a worker that was told while it began to wait tells what it waits for once more."""
    waits, cleaning, told_again, log = threading.Event(), threading.Event(), asyncio.Event(), []

    async def unit():
        waits.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cleaning.set()
            await told_again.wait()
            log.append("cleaned up")

    awaited = loop_thread.submit(unit(), contextvars.copy_context())
    wait_for(waits)
    awaited.cancel()
    wait_for(cleaning)
    awaited.cancel()
    loop_thread.loop.call_soon_threadsafe(told_again.set)
    with pytest.raises(asyncio.CancelledError):
        awaited.result()
    assert log == ["cleaned up"]


def test_what_is_submitted_to_a_closed_loop_is_as_good_as_cancelled(loop_thread):
    """And its coroutine closed, so that Python does not warn."""
    assert loop_thread.close(PATIENCE_S)
    coroutine = coroutine_function()
    with pytest.raises(asyncio.CancelledError):
        loop_thread.submit(coroutine, contextvars.copy_context()).result()
    assert coroutine.cr_frame is None
    assert not loop_thread.dismiss(PATIENCE_S)


def test_what_is_submitted_is_known_before_it_begins_and_may_be_cancelled_already(loop_thread):
    """It never begins then."""
    log = []

    async def unit():
        log.append("begun")

    awaited = loop_thread.submit(unit(), contextvars.copy_context(), lambda awaited: awaited.cancel())
    with pytest.raises(asyncio.CancelledError):
        awaited.result()
    assert log == []


def test_what_is_cancelled_before_it_begins_never_does(loop_thread):
    """The loop is busy meanwhile."""
    busy, free, log = threading.Event(), threading.Event(), []

    async def blocks():
        busy.set()
        free.wait(PATIENCE_S)

    async def unit():
        log.append("begun")

    loop_thread.submit(blocks(), contextvars.copy_context())
    wait_for(busy)
    awaited = loop_thread.submit(unit(), contextvars.copy_context())
    awaited.cancel()
    free.set()
    with pytest.raises(asyncio.CancelledError):
        awaited.result()
    assert log == []


def test_closing_gives_up_a_loop_that_is_blocked(loop_thread, recwarn, caplog):
    """The unit sleeps in its coroutine: the thread is left behind, ends later, and leaves no open loop and no warning."""
    waits, free = threading.Event(), threading.Event()
    gc.collect()  # what other tests have left to be warned of
    recwarn.clear()
    caplog.clear()

    async def blocks():
        waits.set()
        free.wait(PATIENCE_S)

    loop_thread.submit(blocks(), contextvars.copy_context())
    wait_for(waits)
    assert not loop_thread.dismiss(GRACE_S)
    assert not loop_thread.close(GRACE_S)
    assert loop_thread._thread.is_alive()
    free.set()
    loop_thread._thread.join(PATIENCE_S)
    assert not loop_thread._thread.is_alive()
    assert loop_thread.loop.is_closed()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []
    assert [record.message for record in caplog.records] == []
