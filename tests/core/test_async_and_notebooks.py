"""R9: the same calls work in plain code, inside a running loop and in a notebook, with functions and coroutine functions alike."""

import ast
import asyncio
import contextlib
import contextvars
import functools
import inspect
import json
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from qp_core import ExecutionMode, QuantumPartitioner, UnitState

pytestmark = pytest.mark.usefixtures("nothing_left_over")

PATIENCE_S = 20
"""How long threads wait for each other; only ever spent by a test that fails."""

every_mode = pytest.mark.parametrize(
    "mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)
in_this_process = pytest.mark.parametrize("mode", ["sequential", "thread", "async"])


async def double(ctx):
    """A coroutine function that really waits."""
    await asyncio.sleep(0)
    return 2 * ctx["n"]


def plus_one(ctx):
    """A plain function."""
    return ctx["double"] + 1


def mixed(mode):
    """A coroutine function -> a function."""
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(double, name="double")
    partitioner.add_unit(plus_one, ["double"], "plus")
    return partitioner


# ---- everywhere


@every_mode
def test_execute_runs_functions_and_coroutine_functions_in_plain_code(mode):
    """In every mode."""
    assert mixed(mode).execute({"n": 3}) == {"double": 6, "plus": 7}


@every_mode
def test_execute_works_inside_a_running_loop(mode):
    """It blocks that loop and uses another one for coroutines."""

    async def main():
        return mixed(mode).execute({"n": 3})

    assert asyncio.run(main()) == {"double": 6, "plus": 7}


@every_mode
def test_execute_async_is_awaited(mode):
    """With the same arguments and the same result."""

    async def main():
        return await mixed("thread").execute_async({"n": 3}, execution_mode=ExecutionMode(mode))

    result = asyncio.run(main())
    assert result == {"double": 6, "plus": 7}
    assert result.report.mode == mode


class Called:
    """An object whose call is a coroutine function."""

    async def __call__(self, ctx):
        """Wait and answer."""
        await asyncio.sleep(0)
        return "called"


class Future:
    """Something that can be awaited and is no coroutine."""

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


async def two_arguments(word, ctx):
    """For a partial."""
    await asyncio.sleep(0)
    return word


AWAITABLES = [
    pytest.param(lambda _: Future(), "awaited", id="awaitable_object"),
    pytest.param(lambda ctx: two_arguments("lambda", ctx), "lambda", id="function_that_returns_a_coroutine"),
    pytest.param(functools.partial(two_arguments, "partial"), "partial", id="partial"),
    pytest.param(Called(), "called", id="callable_object"),
]


@in_this_process
@pytest.mark.parametrize(("function", "expected"), AWAITABLES)
def test_whatever_can_be_awaited_is_awaited(mode, function, expected):
    """Not only what was written with `async def`."""
    partitioner = QuantumPartitioner(default_execution_mode=mode)
    partitioner.add_unit(function, name="a")
    assert partitioner.execute({}) == {"a": expected}


# ---- where things run


def test_coroutines_of_an_awaited_async_run_run_on_the_very_loop():
    """So that they may use what belongs to it; functions run in threads beside it."""

    async def where(_):
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.current_thread(), asyncio.current_task() is not None

    partitioner = QuantumPartitioner(default_execution_mode="async")
    partitioner.add_unit(where, name="coroutine")
    partitioner.add_unit(lambda _: threading.current_thread(), name="function")

    async def main():
        result = await partitioner.execute_async({})
        assert result["coroutine"] == (asyncio.get_running_loop(), threading.current_thread(), True)
        assert result["function"] is not threading.current_thread()

    asyncio.run(main())


@in_this_process
def test_coroutines_of_a_blocking_run_run_on_another_loop(mode):
    """The caller's is blocked. It is one loop for all of them, in a thread of its own."""

    async def where(_):
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.current_thread().name

    partitioner = QuantumPartitioner(2, mode)
    for _ in range(4):
        partitioner.add_unit(where)

    async def main():
        places = set(partitioner.execute({}).values())
        ((loop, name),) = places
        assert loop is not asyncio.get_running_loop()
        assert name.startswith("qp-")

    asyncio.run(main())


def test_functions_in_async_mode_run_in_a_bounded_number_of_threads():
    """Thirty units, three threads."""
    partitioner = QuantumPartitioner(3, "async")
    names = set()
    most, at_once, lock = [0], [0], threading.Lock()

    def blocks(_):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        names.add(threading.current_thread().name)
        time.sleep(0.001)
        with lock:
            at_once[0] -= 1

    for _ in range(30):
        partitioner.add_unit(blocks)
    assert partitioner.execute({}).ok
    assert 1 <= len(names) <= 3
    assert most[0] <= 3


def test_an_awaited_run_leaves_its_loop_to_others():
    """The unit ends only because another task of the loop lets it."""
    go = threading.Event()
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda _: go.wait(PATIENCE_S), name="a")

    async def main():
        run = asyncio.create_task(partitioner.execute_async({}))
        await asyncio.sleep(0.01)
        assert not run.done()
        go.set()
        return await run

    assert asyncio.run(main()) == {"a": True}


def test_a_thousand_coroutines_wait_at_the_same_time():
    """Async mode has no bound unless one is given: they all meet."""
    here, all_here = [0], asyncio.Event()

    async def meet(_):
        here[0] += 1
        if here[0] == 1000:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), PATIENCE_S)

    partitioner = QuantumPartitioner(default_execution_mode="async")
    for _ in range(1000):
        partitioner.add_unit(meet)
    assert partitioner.execute({}).ok


colour = contextvars.ContextVar("colour", default="none")


@in_this_process
@pytest.mark.parametrize("awaited", [False, True], ids=["execute", "execute_async"])
def test_context_variables_of_the_caller_reach_every_unit_and_nothing_comes_back(mode, awaited):
    """Functions and coroutine functions; what a unit sets, no other one sees."""

    def look(_):
        seen = colour.get()
        colour.set("spoilt")
        return seen

    async def look_async(_):
        await asyncio.sleep(0)
        return look(_)

    partitioner = QuantumPartitioner(1, mode)
    for _ in range(3):
        partitioner.add_unit(look)
        partitioner.add_unit(look_async)

    async def main():
        colour.set("red")
        result = await partitioner.execute_async({}) if awaited else partitioner.execute({})
        return set(result.values()), colour.get()

    assert asyncio.run(main()) == ({"red"}, "red")


# ---- many at once, and one inside the other


@in_this_process
def test_many_awaited_runs_of_one_partitioner_do_not_mix(mode):
    """Each has its own context and its own results."""
    partitioner = mixed(mode)

    async def main():
        return await asyncio.gather(*(partitioner.execute_async({"n": n}) for n in range(20)))

    results = asyncio.run(main())
    assert results == [{"double": 2 * n, "plus": 2 * n + 1} for n in range(20)]
    assert len({result.report.run_id for result in results}) == 20


@pytest.mark.parametrize("inner_mode", ["sequential", "thread", "async"])
@pytest.mark.parametrize("outer_mode", ["sequential", "thread", "async"])
def test_runs_inside_units_share_one_slot_and_do_not_deadlock(outer_mode, inner_mode):
    """Blocking inside a function, awaited inside a coroutine, and blocking inside a coroutine; one worker."""
    inner = mixed(inner_mode)
    outer = QuantumPartitioner(1, outer_mode)

    async def awaits(_):
        return dict(await inner.execute_async({"n": 1}))

    async def blocks(_):
        return dict(inner.execute({"n": 1}))

    outer.add_unit(lambda _: dict(inner.execute({"n": 1})), name="function")
    outer.add_unit(awaits, name="awaits")
    outer.add_unit(blocks, name="blocks")

    async def main():
        return await outer.execute_async({})

    expected = {name: {"double": 2, "plus": 3} for name in ("function", "awaits", "blocks")}
    assert outer.execute({}) == expected
    assert asyncio.run(main()) == expected


def test_a_program_may_run_one_loop_after_another():
    """Nothing of a run stays tied to the loop that is gone."""
    partitioner = mixed("async")
    for n in range(5):
        assert asyncio.run(partitioner.execute_async({"n": n}))["double"] == 2 * n


# ---- cancelling


class Waiting:
    """Done -> waits -> never: the second waits until it is let go or cancelled.

    Args:
        mode: Where they run; in async mode it is a coroutine.
    """

    def __init__(self, mode):
        self.begun, self.free = threading.Event(), threading.Event()
        self.cancelled = []
        self.partitioner = QuantumPartitioner(2, mode)
        self.partitioner.add_unit(lambda _: "kept", name="done")
        self.partitioner.add_unit(self._coroutine if mode == "async" else self._function, ["done"], "waits")
        self.partitioner.add_unit(lambda _: None, ["waits"], "never")

    def _function(self, _):
        self.begun.set()
        self.free.wait(PATIENCE_S)

    async def _coroutine(self, _):
        self.begun.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            self.cancelled.append(True)
            raise

    async def began(self):
        """Wait until it waits."""
        assert await asyncio.to_thread(self.begun.wait, PATIENCE_S)

    def check(self):
        """What had completed is kept, and nothing followed."""
        report = self.partitioner.last_result.report
        assert self.partitioner.get_partial_results() == {"done": "kept"}
        assert report.units["waits"].state is UnitState.CANCELED
        assert report.units["never"].state in {UnitState.CANCELED, UnitState.SKIPPED}


@pytest.mark.usefixtures("unhurried")
@in_this_process
def test_cancelling_the_awaiting_task_cancels_the_run(mode):
    """CancelledError comes out when the run is over: its coroutine has seen it too, and no task is left."""
    waiting = Waiting(mode)

    async def main():
        task = asyncio.create_task(waiting.partitioner.execute_async({}, grace=0.05))
        await waiting.began()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    waiting.free.set()
    waiting.check()
    assert waiting.cancelled == ([True] if mode == "async" else [])


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("mode", ["thread", "async"])
def test_cancelling_twice_ends_the_run_at_once(mode):
    """Though the grace is an hour."""
    waiting = Waiting(mode)

    async def main():
        task = asyncio.create_task(waiting.partitioner.execute_async({}, grace=3600))
        await waiting.began()
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    waiting.free.set()
    waiting.check()


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_a_time_limit_around_an_awaited_run_works_as_around_anything(mode):
    """`asyncio.timeout` raises TimeoutError, after the run is over."""
    waiting = Waiting(mode)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await waiting.partitioner.execute_async({}, grace=0.05)

    asyncio.run(main())
    waiting.free.set()
    if waiting.begun.is_set():
        waiting.check()


def test_a_failing_sibling_in_a_task_group_takes_the_run_along():
    """The group waits for it, and reports only the sibling."""
    waiting = Waiting("async")

    async def fails():
        await waiting.began()
        msg = "sibling"
        raise LookupError(msg)

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(waiting.partitioner.execute_async({}, grace=0.05))
            group.create_task(fails())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert [str(error) for error in caught.value.exceptions] == ["sibling"]
    waiting.check()


def test_cancelling_one_awaited_run_leaves_the_others_alone():
    """They share a partitioner and a loop."""
    partitioner = QuantumPartitioner(default_execution_mode="async")

    async def wait(ctx):
        await asyncio.sleep(PATIENCE_S if ctx["n"] == 1 else 0.05)
        return ctx["n"]

    partitioner.add_unit(wait, name="a")

    async def main():
        tasks = [asyncio.create_task(partitioner.execute_async({"n": n}, grace=0.01)) for n in range(3)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert (first, third) == ({"a": 0}, {"a": 2})
    assert isinstance(second, asyncio.CancelledError)


# ---- loops that go away


def test_a_loop_that_is_closed_meanwhile_does_not_hold_a_run_of_threads():
    """Nobody awaits it any more; it goes to its end, and its result is there."""
    waiting = Waiting("thread")
    loop = asyncio.new_event_loop()
    task = loop.create_task(waiting.partitioner.execute_async({}))
    loop.run_until_complete(waiting.began())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    waiting.free.set()
    ends = time.monotonic() + PATIENCE_S
    while waiting.partitioner.last_result is None and time.monotonic() < ends:
        time.sleep(0.005)
    assert waiting.partitioner.last_result.ok
    task._log_destroy_pending = False
    task.get_coro().close()


@pytest.mark.slow
def test_a_program_whose_loop_is_closed_meanwhile_still_ends(tmp_path):
    """In async mode the coroutines are stuck for ever with their loop: the thread that waits for them does not hold the interpreter."""
    code = """
        import asyncio, threading
        from qp_core import QuantumPartitioner
        begun = threading.Event()
        async def stuck(ctx):
            begun.set()
            await asyncio.sleep(300)
        partitioner = QuantumPartitioner(default_execution_mode="async")
        partitioner.add_unit(stuck)
        loop = asyncio.new_event_loop()
        task = loop.create_task(partitioner.execute_async({}))
        while not begun.is_set():
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        print('"closed"')
    """
    assert run_python(code) == "closed"


def run_python(code, *, through="-c", expect=0):
    """Run a program in a new process.

    Returns:
        What it printed, as JSON.
    """
    text = textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", text] if through == "-c" else [sys.executable, "-"],
        input=text if through == "stdin" else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout)


# ---- notebooks


@pytest.mark.slow
@pytest.mark.parametrize("through", ["-c", "stdin"])
def test_a_program_without_a_file_runs_in_every_mode(through):
    """A notebook's main module has no file that a worker process could import: what it defines travels by value."""
    code = """
        import json
        from dataclasses import dataclass
        from qp_core import QuantumPartitioner

        @dataclass
        class Point:
            x: int

        def moved(ctx):
            return Point(ctx["point"].x + 1)

        async def read(ctx):
            return ctx["moved"].x

        partitioner = QuantumPartitioner(2)
        partitioner.add_unit(moved, name="moved")
        partitioner.add_unit(read, ["moved"], "read")
        partitioner.add_unit(lambda ctx: ctx["read"] * 10, ["read"], "lambda")
        print(json.dumps([
            partitioner.execute({"point": Point(1)}, mode)["lambda"]
            for mode in ("sequential", "thread", "async", "process")
        ]))
    """
    assert run_python(code, through=through) == [20, 20, 20, 20]


CELLS = [
    "from qp_core import QuantumPartitioner",
    "async def double(ctx):\n    import asyncio\n    await asyncio.sleep(0)\n    return 2 * ctx['n']",
    "p = QuantumPartitioner(2)\n_ = p.add_unit(double, name='double')\n_ = p.add_unit(lambda c: c['double'] + 1, ['double'], 'plus')",
    "told.append(dict(p.execute({'n': 1})))",
    "told.append(dict(await p.execute_async({'n': 2})))",
    "told.append(dict(p.execute({'n': 3}, execution_mode='async')))",
    "told.append(dict(await p.execute_async({'n': 4}, execution_mode='async')))",
    "async for unit_id, end in p.astream({'n': 5}):\n    told.append(end.value)",
    "for unit_id, end in p.stream({'n': 6}):\n    told.append(end.value)",
    "task = __import__('asyncio').create_task(p.execute_async({'n': 7}, execution_mode='async'))",
    "told.append(dict(await task))",
]


def test_the_cells_of_a_notebook_run_one_after_another_in_its_loop():
    """As Jupyter does it: each cell is compiled with top-level await allowed, and runs as a coroutine of one loop."""
    told = []

    async def notebook():
        names = {"told": told, "__name__": "__main__"}
        for cell in CELLS:
            code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)  # noqa: S307 - this is what a notebook does
            if inspect.isawaitable(running):
                await running

    asyncio.run(notebook())
    assert told == [
        {"double": 2, "plus": 3},
        {"double": 4, "plus": 5},
        {"double": 6, "plus": 7},
        {"double": 8, "plus": 9},
        10,
        11,
        12,
        13,
        {"double": 14, "plus": 15},
    ]


def test_an_execution_in_a_thread_of_a_loop_works():
    """`asyncio.to_thread(partitioner.execute, ...)`, many at once."""
    partitioner = mixed("async")

    async def main():
        return await asyncio.gather(*(asyncio.to_thread(partitioner.execute, {"n": n}) for n in range(8)))

    assert [result["plus"] for result in asyncio.run(main())] == [2 * n + 1 for n in range(8)]


@in_this_process
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_failures_look_the_same_wherever_they_happen(mode, kind):
    """The unit's own exception, in its own function, whatever ran it."""

    def breaks(ctx):
        raise LookupError(ctx.unit_id)

    async def breaks_later(ctx):
        await asyncio.sleep(0)
        raise LookupError(ctx.unit_id)

    partitioner = QuantumPartitioner(default_execution_mode=mode)
    partitioner.add_unit(breaks if kind == "function" else breaks_later, name="a")

    async def main():
        return await partitioner.execute_async({})

    for result in (partitioner.execute({}), asyncio.run(main())):
        error = result.failed["a"]
        assert repr(error) == "LookupError('a')"
        frame = error.__traceback__
        while frame.tb_next is not None:
            frame = frame.tb_next
        assert frame.tb_frame.f_code.co_name in {"breaks", "breaks_later"}


def test_wrong_arguments_of_an_awaited_run_are_raised_when_it_is_awaited():
    """And not in some other thread."""
    partitioner = mixed("thread")

    async def main():
        with pytest.raises(ValueError, match="max_workers"):
            await partitioner.execute_async({"n": 1}, max_workers=0)
        with (
            pytest.raises(RuntimeError, match="no running event loop"),
            contextlib.closing(partitioner.execute_async({"n": 1})) as unawaited,
        ):
            await asyncio.to_thread(unawaited.send, None)

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_a_unit_that_raises_keyboardinterrupt_itself_fails_alone_in_an_awaited_run(mode):
    """Its thread is not the main one, so it was no signal."""

    def interrupts(_):
        raise KeyboardInterrupt

    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(interrupts, name="a")
    partitioner.add_unit(lambda _: 1, name="b")
    try:
        result = asyncio.run(partitioner.execute_async({}))
    except KeyboardInterrupt:
        pytest.fail("it stopped the whole run")
    assert result == {"b": 1}
    assert result.report.units["a"].state is UnitState.FAILED
