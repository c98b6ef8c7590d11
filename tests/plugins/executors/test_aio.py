"""Coroutine functions on an event loop, other functions in a bounded number of threads beside it."""

import asyncio
import contextvars
import threading

import pytest

from qp_core import LoopThread, QuantumPartitioner, UnitState, Worker
from qp_plugins.executors import aio as module
from qp_plugins.executors.aio import AsyncExecutor, _SideThreads, qp_executors

PATIENCE_S = 30
"""Only ever spent by a test that fails."""


def wide(count, unit, **options):
    """A partitioner of independent units."""
    partitioner = QuantumPartitioner(**options)
    for number in range(count):
        partitioner.add_unit(unit, name=f"u{number}")
    return partitioner


def run_threads(result):
    """The threads of a run that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"qp-{result.report.run_id[:8]}")]


class Together:
    """A coroutine function that returns only when so many run at the same time."""

    def __init__(self, parties):
        self._missing = parties
        self._all = asyncio.Event()

    async def __call__(self, ctx):
        """Wait for the others."""
        self._missing -= 1
        if not self._missing:
            self._all.set()
        await self._all.wait()
        return id(asyncio.get_running_loop())


def test_coroutines_run_without_bound_on_one_loop(nothing_left_over):
    """Five hundred that wait for each other end, in one thread that is not the caller's."""
    result = wide(500, Together(500)).execute({}, "async")
    assert result.ok
    assert len(set(result.values())) == 1
    assert result.report.max_workers is None


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_a_bound_holds_for_coroutines_too(waits):
    """Seven at once, and with enough work that many."""
    now, most = 0, 0

    async def unit(ctx):
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(waits):
            await asyncio.sleep(0)
        now -= 1

    assert wide(100, unit, max_workers=7).execute({}, "async").ok
    assert most == (7 if waits else 1)


def test_functions_run_in_threads_beside_the_loop(meeting):
    """As many as there are workers: three that wait for each other end, and the loop goes on meanwhile."""
    partitioner = wide(3, meeting(3), max_workers=4)

    async def on_the_loop(ctx):
        await asyncio.sleep(0)
        return threading.get_ident()

    partitioner.add_unit(on_the_loop, name="coroutine")
    result = partitioner.execute({}, "async")
    assert result.ok
    assert len(set(result.values())) == 4
    assert threading.get_ident() not in result.values()


def test_threads_beside_the_loop_are_bounded_where_coroutines_are_not(counted):
    """Without a bound of the caller's, by what suits the plan."""
    result = wide(60, counted).execute({}, "async")
    assert result.ok
    assert counted.most <= 64


def test_a_function_that_returns_a_coroutine_is_awaited_on_the_loop():
    """Only its result tells, so it is called in a thread first."""

    async def value(ctx):
        await asyncio.sleep(0)
        return "awaited", threading.get_ident()

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: value(ctx), name="unit")  # noqa: PLW0108 - the lambda is what is tried
    partitioner.add_unit(value, name="direct")
    result = partitioner.execute({}, "async")
    assert result["unit"] == result["direct"] == ("awaited", result["direct"][1])


def test_a_coroutine_has_a_task_of_its_own_while_it_waits():
    """`asyncio.timeout`, task groups and `current_task` work as they always do.

    All five wait at the same time: the task of one that waits no more may go on with another.
    """
    tasks, all_wait = [], asyncio.Barrier(5)

    async def unit(ctx):
        tasks.append(asyncio.current_task())
        await all_wait.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            found = group.create_task(asyncio.sleep(0, ctx.unit_id))
        return found.result()

    result = wide(5, unit).execute({}, "async")
    assert result == {f"u{number}": f"u{number}" for number in range(5)}
    assert len(set(tasks)) == 5


@pytest.mark.parametrize("steps", [0, 2])
def test_context_variables_are_each_units_own(steps):
    """Also across its waits; the caller's are seen and not changed."""
    variable = contextvars.ContextVar("variable")
    variable.set("outer")

    async def unit(ctx):
        before = variable.get()
        variable.set(ctx.unit_id)
        for _ in range(steps):
            await asyncio.sleep(0)
        return before, variable.get()

    result = wide(10, unit).execute({}, "async")
    assert all(value == ("outer", unit_id) for unit_id, value in result.items())
    assert variable.get() == "outer"


def test_execute_works_inside_a_running_loop_which_it_blocks(unhurried):
    """In a notebook cell, say; the units run on a loop in another thread."""

    async def main():
        return threading.get_ident(), wide(3, Together(3)).execute({}, "async")

    here, result = asyncio.run(main())
    assert result.ok
    assert here not in result.values()
    assert run_threads(result) == []


def test_execute_async_runs_coroutines_on_the_callers_own_loop(nothing_left_over):
    """So what belongs to that loop (a session, a lock) can be used in units, and other tasks go on."""

    async def main():
        lock, others = asyncio.Lock(), []

        async def unit(ctx):
            async with lock:
                await asyncio.sleep(0)
            return asyncio.get_running_loop()

        async def other():
            for turn in range(5):
                others.append(turn)
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        result = await wide(4, unit).execute_async({}, execution_mode="async")
        await beside
        return asyncio.get_running_loop(), result, others

    loop, result, others = asyncio.run(main())
    assert set(result.values()) == {loop}
    assert others == [0, 1, 2, 3, 4]


def test_units_that_never_wait_let_others_on_the_loop_have_their_turn():
    """A task beside them gets its turn before all of them have run."""

    async def main():
        ran, seen = 0, []

        async def unit(ctx):
            nonlocal ran
            ran += 1
            end = asyncio.get_running_loop().time() + 0.0005
            while asyncio.get_running_loop().time() < end:
                pass

        async def watch():
            while True:
                seen.append(ran)
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        await wide(100, unit).execute_async({}, execution_mode="async")
        watcher.cancel()
        return seen

    assert any(0 < count < 100 for count in asyncio.run(main()))


def test_cancelling_the_awaiting_task_cancels_its_coroutines(unhurried, nothing_left_over):
    """And waits until they have ended; what waits for them does not run."""
    ended = []

    async def main():
        begun = asyncio.Semaphore(0)

        async def hang(ctx):
            begun.release()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(ctx.unit_id)

        partitioner = wide(3, hang)
        partitioner.add_unit(lambda ctx: None, ["u0"], "after")
        task = asyncio.create_task(partitioner.execute_async({}, execution_mode="async", grace=0.01))
        for _ in range(3):
            await begun.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return partitioner.last_result

    result = asyncio.run(main())
    assert sorted(ended) == ["u0", "u1", "u2"]
    assert result.report.counts == {UnitState.CANCELED: 4}


def test_a_coroutine_that_runs_out_of_time_is_cancelled(clock, unhurried, nothing_left_over):
    """It can be stopped: nothing is abandoned, and the others go on."""
    cancelled = []

    async def hang(ctx):
        try:
            clock.advance(2)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(ctx.unit_id)
            raise

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(hang, name="hang", timeout=1)
    partitioner.add_unit(lambda ctx: "done", name="other")
    result = partitioner.execute({}, "async")
    assert result == {"other": "done"}
    assert result.report.units["hang"].state is UnitState.TIMEOUT
    assert result.report.abandoned == ()
    assert cancelled == ["hang"]


def test_a_function_that_runs_out_of_time_is_abandoned_in_its_thread(clock, patience, unhurried):
    """It cannot be stopped; the thread beside the loop stays behind until the unit ends, and no longer."""
    free = threading.Event()

    def hang(ctx):
        clock.advance(2)
        free.wait(patience)

    partitioner = QuantumPartitioner(clock=clock, max_workers=2)
    partitioner.add_unit(hang, name="hang", timeout=1)
    partitioner.add_unit(lambda ctx: "done", name="other")
    result = partitioner.execute({}, "async")
    assert result == {"other": "done"}
    assert result.report.abandoned == ("hang",)
    left = run_threads(result)
    assert len(left) == 1
    free.set()
    left[0].join(patience)
    assert not left[0].is_alive()


def test_functions_that_wait_for_a_thread_run_out_of_time_too(clock, patience):
    """More of them than threads, and each that begins hangs: every one is out of time, and only those that began are abandoned."""
    units = 9
    free, over = threading.Event(), threading.Event()
    begun = []

    def hang(ctx):
        begun.append(ctx.unit_id)
        free.wait(patience)

    def let_time_pass():
        while not over.wait(0.01):
            clock.advance(2)

    partitioner = QuantumPartitioner(clock=clock, max_workers=3)
    for number in range(units):
        partitioner.add_unit(hang, name=f"u{number}", timeout=1)
    thread = threading.Thread(target=let_time_pass)
    thread.start()
    try:
        result = partitioner.execute({}, "async")
    finally:
        over.set()
        free.set()
    for left in (thread, *run_threads(result)):
        left.join(patience)
    assert result.report.counts == {UnitState.TIMEOUT: units}
    assert set(result.report.abandoned) <= set(begun)
    assert len(begun) == len(set(begun))


def test_threads_beside_the_loop_end_with_the_run_also_before_a_call_that_hangs_is_abandoned(patience):
    """Who gives units up may be another thread, and later: no thread is waited for that hangs, and no call begins any more."""
    begun, free, called = threading.Event(), threading.Event(), []

    def hang():
        begun.set()
        free.wait(patience)

    sides = _SideThreads(1, "the run's id")
    hanging = sides.submit(hang)
    assert begun.wait(patience)
    (stuck,) = [thread for thread in threading.enumerate() if thread.name == "qp-the run'-side-0"]
    sides.submit(lambda: called.append("too late"))
    sides.close()
    assert stuck.is_alive()
    sides.abandon(hanging)  # only now
    free.set()
    stuck.join(patience)
    assert not stuck.is_alive()
    assert hanging.future.done()
    assert called == []


@pytest.mark.parametrize("most", [0, 1])
def test_where_no_further_thread_can_be_started_functions_run_in_those_there_are(monkeypatch, most):
    """The unit for which there is none at all fails, and says why; the loop has its thread."""

    class Scarce(threading.Thread):
        started = 0

        def start(self):
            if "side" in self.name:
                if Scarce.started == most:
                    msg = "can't start new thread"
                    raise RuntimeError(msg)
                Scarce.started += 1
            super().start()

    monkeypatch.setattr(threading, "Thread", Scarce)
    result = wide(5, lambda ctx: ctx.unit_id, max_workers=3).execute({}, "async")
    monkeypatch.undo()
    assert len(result) == (5 if most else 0)
    assert {str(error) for error in result.failed.values()} == (set() if most else {"can't start new thread"})


def test_the_deadline_stops_coroutines(clock, unhurried, nothing_left_over):
    """Each is cancelled; none is reported as still running."""
    begun, ended = [], []

    async def hang(ctx):
        begun.append(ctx.unit_id)
        if len(begun) == 3:
            clock.advance(60)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ctx.unit_id)

    result = wide(3, hang, clock=clock).execute({}, "async", deadline=50)
    assert result.report.counts == {UnitState.TIMEOUT: 3}
    assert sorted(ended) == ["u0", "u1", "u2"]
    assert result.report.abandoned == ()


def test_a_call_of_a_worker_that_was_given_up_already_is_let_go():
    """It had decided to ask for a fallback when the deadline passed: there was no thread to let go of yet."""
    loop = LoopThread("qp-test")
    sides = module._SideThreads(1, "test")
    tasks = module._Tasks(None, loop.loop, sides)
    called, worker = [], Worker(0, None, contextvars.copy_context(), abandoned=True)
    busy, free = threading.Event(), threading.Event()
    sides.submit(lambda: (busy.set(), free.wait(PATIENCE_S)))
    assert busy.wait(PATIENCE_S)

    async def ask():
        return tasks._off_loop(lambda: called.append(1), worker)

    asyncio.run_coroutine_threadsafe(ask(), loop.loop).result(PATIENCE_S)
    free.set()
    sides.close()
    assert loop.close(PATIENCE_S)
    assert called == []


def test_what_units_raise_stays_in_its_cone():
    """Also what is no Exception; the loop survives."""

    async def fail(ctx):
        await asyncio.sleep(0)
        raise SystemExit(3)

    partitioner = wide(2, Together(2))
    partitioner.add_unit(fail, name="fail")
    partitioner.add_unit(lambda ctx: None, ["fail"], "after")
    result = partitioner.execute({}, "async")
    assert {unit_id: record.state.value for unit_id, record in result.report.units.items()} == {
        "u0": "completed",
        "u1": "completed",
        "fail": "failed",
        "after": "skipped",
    }


def test_a_unit_that_cancels_itself_fails_alone():
    """Nobody has asked the run to stop."""

    async def cancel(ctx):
        raise asyncio.CancelledError

    partitioner = wide(2, Together(2))
    partitioner.add_unit(cancel, name="cancel")
    result = partitioner.execute({}, "async")
    assert result.report.units["cancel"].state is UnitState.FAILED
    assert len(result) == 2


def test_a_long_chain_of_coroutines_needs_no_stack():
    """Two thousand in a row, half of which wait."""
    partitioner = QuantumPartitioner()

    async def unit(ctx):
        if int(ctx.unit_id) % 2:
            await asyncio.sleep(0)

    for number in range(2_000):
        partitioner.add_unit(unit, [str(number - 1)] if number else [], str(number))
    assert partitioner.execute({}, "async").ok


def test_its_workers_are_without_bound_unless_one_is_given():
    """And it is provided as `async`."""
    plan = QuantumPartitioner().build_execution_plan()
    assert AsyncExecutor().workers(None, plan) is None
    assert AsyncExecutor().workers(3, plan) == 3
    assert isinstance(qp_executors()["async"](None), AsyncExecutor)


@pytest.mark.slow
def test_a_loop_that_is_closed_over_a_run_leaves_no_thread_waiting(program):
    """The caller gives up: its loop ends with the run in the middle. The program ends, and asyncio has nothing to complain about."""
    done = program(
        """
        import asyncio, threading
        from qp_core import QuantumPartitioner

        async def hang(ctx):
            await asyncio.Event().wait()

        async def main():
            partitioner = QuantumPartitioner()
            partitioner.add_unit(hang, name="hang")
            task = asyncio.ensure_future(partitioner.execute_async({}, execution_mode="async", grace=0.05))
            await asyncio.sleep(0.05)
            return task

        asyncio.run(main())
        print("over", [thread.name for thread in threading.enumerate() if not thread.daemon])
        """
    )
    assert done.out.split() == ["over", "['MainThread']"]
    assert not [word for word in ("Traceback", "destroyed", "never awaited") if word in done.err]
