"""Every end of a run is clean: after a thousand runs nothing is left over, and what a run held dies with its result."""

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections import Counter

import psutil
import pytest

from qp_core import CachingQuantumPartitioner, QuantumPartitioner, RetryPolicy, UnitFailedError
from qp_core.testing import FakeClock, Recorder

PATIENCE_S = 20
"""How long threads wait for each other; only ever spent by a test that fails."""

every_mode = pytest.mark.parametrize(
    "mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)
in_this_process = pytest.mark.parametrize("mode", ["sequential", "thread", "async"])


class Thing:
    """Something that can be watched dying."""


class OwnError(Exception):
    """An exception that can be watched too."""


def fails(ctx):
    """A unit that raises."""
    raise OwnError(ctx.unit_id)


# ---- after a thousand runs


def left_over():
    """How much there is of what a process can leak and a program would feel: threads, file descriptors, children, loops."""
    gc.collect()
    process = psutil.Process()
    kinds = [
        (one, type(one)) for one in gc.get_objects()
    ]  # not by isinstance, which asks the object: a dead proxy would raise
    loops = [one for one, kind in kinds if issubclass(kind, asyncio.AbstractEventLoop)]
    return Counter({
        **Counter(f"thread {thread.name}" for thread in threading.enumerate()),
        "descriptors": process.num_fds() if os.name == "posix" else process.num_handles(),
        "children": len(process.children(recursive=True)),
        "loops": sum(not loop.is_closed() for loop in loops),
    })


def handlers():
    """The handlers of both signals that a run may take."""
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def more_than(before):
    """What there is more than there was, once threads and processes that are about to end have ended.

    What there is less was left over by something else, and has gone meanwhile.

    Args:
        before: What `left_over` said.

    Returns:
        How much more, by what.
    """
    ends = time.monotonic() + PATIENCE_S
    while (more := left_over() - before) and time.monotonic() < ends:
        time.sleep(0.01)
    return dict(more)


def busy_graph(mode):
    """A little of everything: functions, coroutine functions, a failure with its cone, a retry, a limit, a fallback, a listener.

    a -> b -> c, f -> g beside
    """
    partitioner = QuantumPartitioner(2, mode)

    async def coroutine(ctx):
        await asyncio.sleep(0)
        return len(ctx)

    def second_time(ctx):
        if ctx.attempt == 1:
            raise OSError

    partitioner.add_unit(lambda ctx: [ctx["n"]] * 50, name="a")
    partitioner.add_unit(coroutine, ["a"], "b")
    partitioner.add_unit(lambda ctx: ctx["b"], ["b"], "c", timeout=1000)
    partitioner.add_unit(fails, name="f")
    partitioner.add_unit(fails, ["f"], "g")
    partitioner.add_unit(second_time, name="h", retries=1, retry=RetryPolicy(base_s=0))
    partitioner.add_unit(fails, name="i", fallback=lambda ctx, _: coroutine(ctx))
    return partitioner


def our_objects():
    """How many objects there are of each class of ours and of asyncio's; those of others may be a tracer's or the test runner's."""
    kinds = (type(one) for one in gc.get_objects())
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith(("qp_", "asyncio")))


def check_nothing_accumulates(run, times):
    """Neither what `left_over` counts, nor objects, nor memory."""
    for n in range(times // 10):  # what is loaded or pooled once is there now
        run(n)
    before, objects, set_before = left_over(), our_objects(), handlers()
    rss = psutil.Process().memory_info().rss
    for n in range(times):
        run(n)
    assert more_than(before) == {}
    assert handlers() == set_before
    more = {name: count for name, count in (our_objects() - objects).items() if count > times / 10}
    assert more == {}
    assert psutil.Process().memory_info().rss - rss < 16 * 2**20


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_engine")
@in_this_process
@pytest.mark.parametrize("way", ["new", "same"])
def test_a_thousand_runs_leave_nothing_over(mode, way):
    """Of new partitioners, and of one and the same."""
    kept = busy_graph(mode)

    def run(n):
        partitioner = kept if way == "same" else busy_graph(mode)
        result = partitioner.execute({"n": n}, telemetry=[Recorder()], deadline=1000)
        assert len(result) == 5

    check_nothing_accumulates(run, 1000)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_engine", "unhurried")
@in_this_process
def test_a_thousand_runs_on_one_loop_leave_nothing_over(mode):
    """Awaited, streamed to the end, streamed halfway, and cancelled; on the loop itself neither."""
    partitioner = busy_graph(mode)

    async def one(n):
        if n % 4 == 0:
            assert len(await partitioner.execute_async({"n": n})) == 5
        elif n % 4 == 1:
            assert len([end async for end in partitioner.astream({"n": n})]) == 7
        elif n % 4 == 2:
            stream = partitioner.astream({"n": n})
            await anext(stream)
            await stream.aclose()
        else:
            task = asyncio.create_task(partitioner.execute_async({"n": n}))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    async def many():
        for n in range(20):
            await one(n)
        assert len(asyncio.all_tasks()) == 1

    check_nothing_accumulates(lambda _: asyncio.run(many()), 50)


@pytest.mark.slow
def test_runs_in_processes_leave_no_process_behind():
    """But for the fork server and its tracker, which are there once for all runs."""
    partitioner = QuantumPartitioner(2, "process")
    partitioner.add_unit(lambda ctx: ctx["n"], name="a")
    partitioner.add_unit(lambda ctx: ctx["a"], ["a"], "b")

    def run(n):
        assert partitioner.execute({"n": n}) == {"a": n, "b": n}

    others = set(psutil.Process().children())  # what other tests have left behind is theirs
    run(0)
    before, set_before = left_over(), handlers()
    for n in range(15):
        run(n)
    assert more_than(before) == {}
    assert handlers() == set_before
    ours = set(psutil.Process().children()) - others
    assert len(ours) <= 2


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_engine")
@in_this_process
def test_runs_that_end_badly_leave_nothing_over(mode):
    """Broken off by a policy, cut by a deadline, stopped by the first failure, refused before they began."""

    class Broken:
        def get(self, key):
            raise OSError(key)

        def put(self, key, value):
            raise OSError(key)

    def run(n):
        partitioner = busy_graph(mode)
        partitioner.add_unit(fails, ["a"], "cached", metadata={"cacheable": True})
        if n % 4 == 0:
            with pytest.raises(Exception, match="'Broken'"):
                partitioner.execute({"n": n}, cache=Broken())
        elif n % 4 == 1:
            partitioner.units["h"].retry = RetryPolicy(base_s=500, cap_s=500)
            assert partitioner.execute({"n": n}, deadline=0.001).report.stopped == "deadline"
        elif n % 4 == 2:
            assert not partitioner.execute({"n": n}, fail_fast=True).ok
        else:
            with pytest.raises(ValueError, match="max_workers"):
                partitioner.execute({"n": n}, max_workers=0)

    check_nothing_accumulates(run, 300)


def test_units_that_were_given_up_leave_nothing_over_once_they_have_ended():
    """Their threads end by themselves."""
    QuantumPartitioner().execute({})  # what is loaded or pooled once is there now
    before = left_over()
    free = threading.Event()
    clock = FakeClock()
    partitioner = QuantumPartitioner(4, clock=clock)

    def long(_):
        clock.advance(10)
        free.wait(PATIENCE_S)

    for _ in range(3):
        partitioner.add_unit(long, timeout=5)
    result = partitioner.execute({})
    assert len(result.report.abandoned) == 3
    free.set()
    assert more_than(before) == {}


# ---- what dies with a result


def gone(*references):
    """Whether everything that is watched has died, once garbage was collected and threads that are ending have ended."""
    ends = time.monotonic() + PATIENCE_S
    while any(reference() is not None for reference in references) and time.monotonic() < ends:
        gc.collect()
        time.sleep(0.001)
    return all(reference() is None for reference in references)


@every_mode
@pytest.mark.parametrize("clean", [True, False], ids=["all_well", "with_failures"])
def test_a_result_that_is_dropped_takes_its_values_and_its_context_along(mode, clean):
    """Of a partitioner that is dropped too."""
    given = Thing()
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(lambda _: Thing(), name="value")
    partitioner.add_unit(len, ["value"], "uses")
    if not clean:
        partitioner.add_unit(fails, ["value"], "fails")
        partitioner.add_unit(fails, ["fails"], "skipped")
    result = partitioner.execute({"given": given})
    watched = [weakref.ref(given), weakref.ref(result["value"]), weakref.ref(partitioner)]
    if not clean:
        with pytest.raises(UnitFailedError):
            result["skipped"]
        watched.append(weakref.ref(result.failed["fails"]))
    del given, result, partitioner
    assert gone(*watched)


@in_this_process
def test_a_new_run_takes_the_place_of_the_old_one(mode):
    """A partitioner holds the result of the run that finished last, and no other."""
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(lambda _: Thing(), name="value")
    given = Thing()
    watched = [weakref.ref(partitioner.execute({"given": given})["value"]), weakref.ref(given)]
    del given
    assert partitioner.units["value"].result is watched[0]()
    partitioner.execute({})
    assert gone(*watched)


@in_this_process
def test_the_coroutine_of_an_awaited_run_holds_nothing(mode):
    """Neither does a stream that was read to its end, nor one that was left."""
    partitioner = QuantumPartitioner(2, mode)

    async def make(_):
        await asyncio.sleep(0)
        return Thing()

    partitioner.add_unit(make, name="value")
    partitioner.add_unit(lambda _: 1, ["value"], "uses")

    async def main():
        given = Thing()
        found = [weakref.ref(given), weakref.ref((await partitioner.execute_async({"given": given}))["value"])]
        async for _, end in partitioner.astream({"given": given}):
            if isinstance(end.value, Thing):
                found.append(weakref.ref(end.value))
        del end
        stream = partitioner.astream({"given": given})
        found.append(weakref.ref((await anext(stream))[1].value))
        await stream.aclose()
        return found

    watched = asyncio.run(main())
    assert len(watched) == 4
    partitioner.execute({}, known={"value": 1})
    assert gone(*watched)


@in_this_process
def test_what_a_unit_wrote_into_its_context_dies_with_the_run(mode):
    """The report keeps the key, not the value."""
    watched = []

    def writes(ctx):
        own = Thing()
        watched.append(weakref.ref(own))
        ctx["own"] = own

    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(writes, name="a")
    result = partitioner.execute({})
    assert result.report.units["a"].writes == ("own",)
    assert gone(*watched)


@in_this_process
def test_a_freed_result_is_gone_before_the_run_is_over(mode):
    """A -> b -> c, outputs=[c]: when c runs, nobody holds a's result any more."""
    watched = []

    def make(_):
        value = Thing()
        watched.append(weakref.ref(value))
        return value

    partitioner = QuantumPartitioner(1, mode)
    partitioner.add_unit(make, name="a")
    partitioner.add_unit(lambda ctx: ctx["a"] is watched[0](), ["a"], "b")
    partitioner.add_unit(lambda _: gone(*watched), ["b"], "c")
    assert partitioner.execute({}, outputs=["c"]) == {"c": True}


@pytest.mark.usefixtures("quiet_engine")  # the log of the test keeps the traceback, and with it the observer
def test_an_observer_is_let_go_with_the_run():
    """Also one that was switched off."""

    class Raises(Recorder):
        def qp_unit_finished(self, event):
            raise ValueError

    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda _: 1)
    observers = [Recorder(), Raises()]
    watched = [weakref.ref(observer) for observer in observers]
    partitioner.execute({}, telemetry=observers)
    observers.clear()
    assert gone(*watched)


def test_a_cache_holds_results_and_nothing_else():
    """The run, its context and its partitioner die."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    given = Thing()
    partitioner.add_unit(lambda _: Thing(), name="a", metadata={"cacheable": True, "cache_keys": ["n"]})
    value = weakref.ref(partitioner.execute({"n": 1, "given": given})["a"])
    watched = [weakref.ref(given), weakref.ref(partitioner)]
    cache = partitioner.cache
    del given, partitioner
    assert gone(*watched)
    assert value() is not None
    del cache
    assert gone(value)
