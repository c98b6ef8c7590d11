"""Claims of the pages that their examples do not show."""

import asyncio
import signal
import threading

import pytest

from qp_core import CachingQuantumPartitioner, QuantumPartitioner, select_optimal_workers
from qp_core.testing import Recorder

PATIENCE_S = 30  # only ever spent by a test that fails


def test_a_unit_that_ran_out_of_time_counts_its_attempts():
    """failures.md: an attempt that timed out is a failed attempt; so the record has two of them, a start and a duration."""
    release = threading.Event()
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: release.wait(PATIENCE_S), name="stuck", timeout=0.02, retries=1)
    record = partitioner.execute({}).report.units["stuck"]
    release.set()
    assert record.attempts == 2
    assert record.started_s is not None
    assert record.duration_s >= 0.02


def test_an_observer_does_not_change_the_order_of_a_run():
    """strategies.md: under fifo a worker goes on with a unit that it has just made ready, whoever watches.

    first -> second    other
    """
    orders = []
    for telemetry in ([], [Recorder()]):
        started = []
        partitioner = QuantumPartitioner(max_workers=1)
        partitioner.add_unit(lambda ctx, started=started: started.append("first"), name="first")
        partitioner.add_unit(lambda ctx, started=started: started.append("second"), ["first"], "second")
        partitioner.add_unit(lambda ctx, started=started: started.append("other"), name="other")
        partitioner.execute({}, telemetry=telemetry)
        orders.append(started)
    assert orders == [["first", "second", "other"]] * 2


def test_async_mode_has_no_bound_unless_one_is_set():
    """running.md: a hundred coroutines wait for each other at the same time."""

    async def meet(ctx):
        await asyncio.wait_for(ctx["barrier"].wait(), PATIENCE_S)

    async def main():
        partitioner = QuantumPartitioner(default_execution_mode="async")
        for number in range(100):
            partitioner.add_unit(meet, name=f"meet_{number}")
        return await partitioner.execute_async({"barrier": asyncio.Barrier(100)})

    assert asyncio.run(main()).ok


def test_coroutines_of_a_thread_run_share_one_loop():
    """running.md: elsewhere than in async mode, the run's coroutines share one loop."""

    async def loop_of(ctx):
        return asyncio.get_running_loop()

    partitioner = QuantumPartitioner(max_workers=4)
    for number in range(4):
        partitioner.add_unit(loop_of, name=f"unit_{number}")
    assert len(set(partitioner.execute({}).values())) == 1


def test_sequential_units_with_a_limit_share_one_thread_beside_the_calling_one():
    """running.md and design.md: a thread cannot give up on itself."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    for number in range(3):
        partitioner.add_unit(lambda ctx: threading.get_ident(), name=f"unit_{number}")
    assert set(partitioner.execute({}).values()) == {threading.get_ident()}
    (beside,) = set(partitioner.execute({}, deadline=PATIENCE_S).values())
    assert beside != threading.get_ident()


def test_fail_fast_cancels_coroutines_and_lets_functions_end():
    """running.md: beside the unit that fails run a coroutine, which is cancelled, and a function, which is not.

    fails    waits    ends    never (one worker too few)
    """
    function_runs, canceled = threading.Event(), threading.Event()

    async def fails(ctx):
        await asyncio.wait_for(ctx["both run"].wait(), PATIENCE_S)
        raise ValueError("first")

    async def waits(ctx):
        await asyncio.get_running_loop().run_in_executor(None, function_runs.wait, PATIENCE_S)
        try:
            await ctx["both run"].wait()
            await asyncio.Event().wait()
        finally:
            canceled.set()

    def ends(ctx):
        function_runs.set()
        canceled.wait(PATIENCE_S)
        return "done"

    partitioner = QuantumPartitioner(max_workers=3, default_execution_mode="async")
    for function in (fails, waits, ends):
        partitioner.add_unit(function, name=function.__name__)
    partitioner.add_unit(lambda ctx: "never", name="never")
    results = asyncio.run(partitioner.execute_async({"both run": asyncio.Barrier(2)}, fail_fast=True))
    states = {unit_id: record.state.value for unit_id, record in results.report.units.items()}
    assert states == {"fails": "failed", "waits": "canceled", "ends": "completed", "never": "canceled"}


def test_signal_handlers_of_the_program_are_left_alone():
    """running.md: signals are taken over only where the program has no handler of its own, and given back afterwards."""
    seen = []

    def handlers(ctx):
        seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))

    partitioner = QuantumPartitioner()
    partitioner.add_unit(handlers, name="look")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    own = lambda number, frame: None  # noqa: E731 - a handler is a value here
    try:
        signal.signal(signal.SIGTERM, own)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        partitioner.execute({})
        assert seen[0][1] is own
        assert seen[0][0] is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_workers_are_asked_for_only_where_none_are_given():
    """strategies.md: `select_optimal_workers` says how many threads, unless `max_workers` does."""
    partitioner = QuantumPartitioner()
    for number in range(50):
        partitioner.add_unit(lambda ctx: None, name=f"unit_{number}")
    plan = partitioner.build_execution_plan()
    assert partitioner.execute({}).report.max_workers == select_optimal_workers(partitioner.units, plan)
    assert partitioner.execute({}, max_workers=3).report.max_workers == 3
    assert partitioner.execute({}, "async").report.max_workers is None
    assert partitioner.execute({}, "sequential", 8).report.max_workers == 1


@pytest.mark.parametrize("metadata", [{}, {"fallback_value": "stand-in"}], ids=["failed", "by fallback"])
def test_neither_failures_nor_fallbacks_are_cached(metadata):
    """caching.md: a unit that failed is called again by the next run, also where something stood in."""
    fails = iter([True, False])

    def flaky(ctx):
        if next(ctx["fails"]):
            raise ValueError("once")
        return "value"

    partitioner = CachingQuantumPartitioner()
    partitioner.add_unit(flaky, name="flaky", metadata={"cacheable": True, "cache_keys": ["key"], **metadata})
    assert partitioner.execute({"fails": fails, "key": 1}).get("flaky") == metadata.get("fallback_value")
    assert partitioner.execute({"fails": fails, "key": 1}) == {"flaky": "value"}


def test_a_mapping_is_copied_once_and_never_deep():
    """context.md: a run does not see what the caller's mapping becomes meanwhile; objects inside it are shared."""
    shared = []
    mapping = {"shared": shared, "n": 1}

    def change(ctx):
        mapping["n"] = 2
        ctx["shared"].append(ctx.unit_id)

    partitioner = QuantumPartitioner()
    partitioner.add_unit(change, name="change")
    partitioner.add_unit(lambda ctx: ctx["n"], ["change"], "look")
    assert partitioner.execute(mapping)["look"] == 1
    assert shared == ["change"]
