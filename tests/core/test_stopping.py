"""Runs that are stopped before their end: cancelled, by the first failure, by a deadline; Ctrl-C is in test_interrupt."""

import asyncio
import contextvars
import threading
import time
from collections import Counter

import pytest

from qp_core import QuantumPartitioner, RetryPolicy, UnitFailedError, UnitTimeoutError
from qp_core.clock import SystemClock
from qp_core.telemetry import UnitStarted
from qp_core.testing import FakeClock, Recorder
from qp_plugins.executors.aio import AsyncExecutor
from qp_plugins.executors.sequential import SequentialExecutor
from qp_plugins.executors.threads import ThreadExecutor
from tests.core.engine import (
    PATIENCE_S,
    Hanging,
    in_every_lane,
    in_every_mode,
    in_parallel_modes,
    said,
    states_of,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left_over")

EXECUTORS = {"sequential": SequentialExecutor, "thread": ThreadExecutor, "async": AsyncExecutor}


class Watched:
    """An executor that lets the test have its run before it begins.

    Args:
        mode: What it stands for.
        first: Called with the run before it begins.
    """

    def __init__(self, mode, first=None):
        self._executor = EXECUTORS[mode]()
        self._first = first
        self.current = None
        if hasattr(self._executor, "workers"):
            self.workers = self._executor.workers

    def run(self, run):
        """Run."""
        self.current = run
        if self._first is not None:
            self._first(run)
        self._executor.run(run)

    def execute(self, partitioner, meanwhile):
        """Execute a partitioner, while another thread does something.

        Returns:
            The result.
        """
        other = threading.Thread(target=meanwhile, daemon=True)
        other.start()
        result = partitioner.execute({}, custom_executor=self)
        other.join(PATIENCE_S)
        return result

    def cancel_when(self, begun):
        """Cancel the run that is going on, when something has begun and had the time to wait."""
        wait_for(begun)
        time.sleep(0.005)
        self.current.cancel()


def broken(ctx):
    """A unit that fails."""
    raise ValueError("broken")


# ---- cancelling


@in_every_lane
def test_a_run_that_is_cancelled_before_it_begins_runs_nothing(lane):
    """Every unit is cancelled, each is told of, and reading one says why there is nothing."""
    log, recorder = [], Recorder()
    partitioner = lane.partitioner({"a": log.append, "b": log.append}, {"b": ["a"]})
    result = partitioner.execute(
        {}, custom_executor=Watched(lane.mode, lambda run: run.cancel("enough")), telemetry=[recorder]
    )
    assert log == []
    assert states_of(result) == {"a": "canceled", "b": "canceled"}
    assert (result.report.stopped, result.ok, result.failed, dict(result)) == ("enough", False, {}, {})
    assert recorder.finished() == ["a", "b"]
    with pytest.raises(UnitFailedError, match=r"'a' has no result: it was canceled.*enough"):
        result["a"]


@in_every_lane
def test_a_unit_that_runs_when_its_run_is_cancelled_may_end(lane):
    """It cancels the run itself: it completes, a dependent and an independent unit are cancelled."""
    partitioner = lane.partitioner(
        {"a": lambda ctx: watched.current.cancel(), "b": len, "c": len}, {"b": ["a"]}, max_workers=1
    )
    watched = Watched(lane.mode)
    result = partitioner.execute({}, custom_executor=watched)
    assert states_of(result) == {"a": "completed", "b": "canceled", "c": "canceled"}
    assert result == {"a": None}
    assert result.report.stopped == "canceled"


@in_every_mode
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_a_function_is_not_disturbed_by_a_cancellation(mode, limited):
    """The run waits for it, and has its result."""
    runs, free = threading.Event(), threading.Event()

    def function(ctx):
        runs.set()
        wait_for(free)
        return "whole"

    watched = Watched(mode)
    partitioner = QuantumPartitioner()
    partitioner.add_unit(function, name="a", timeout=3 * PATIENCE_S if limited else None)
    partitioner.add_unit(len, ["a"], "b")

    def cancel():
        wait_for(runs)
        watched.current.cancel()
        free.set()

    result = watched.execute(partitioner, cancel)
    assert states_of(result) == {"a": "completed", "b": "canceled"}
    assert result == {"a": "whole"}


@in_every_mode
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
@pytest.mark.parametrize("kind", ["coroutine_function", "returns_a_coroutine"])
def test_a_coroutine_is_cancelled_with_its_run(mode, limited, kind):
    """It may clean up; it is tried no more; it is CANCELED and not FAILED."""
    runs, log = threading.Event(), []

    async def coroutine(ctx):
        runs.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    def function(ctx):
        return coroutine(ctx)

    watched = Watched(mode)
    partitioner = QuantumPartitioner()
    unit = coroutine if kind == "coroutine_function" else function
    partitioner.add_unit(unit, name="a", retries=3 if limited else 0, timeout=3 * PATIENCE_S if limited else None)
    partitioner.add_unit(len, ["a"], "b")

    result = watched.execute(partitioner, lambda: watched.cancel_when(runs))
    assert states_of(result) == {"a": "canceled", "b": "canceled"}
    assert log == ["cleaned up"]
    assert result.report.abandoned == ()


@in_every_mode
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_a_coroutine_that_cleans_up_is_not_cancelled_again_with_its_run(mode, limited):
    """It has been told; the second time comes while it waits for the end of what it does last."""
    runs, cleaning, log, told_again = threading.Event(), threading.Event(), [], []

    async def coroutine(ctx):
        told_again.append((asyncio.get_running_loop(), again := asyncio.Event()))
        runs.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cleaning.set()
            await again.wait()
            log.append("cleaned up")

    watched = Watched(mode)
    partitioner = QuantumPartitioner()
    partitioner.add_unit(coroutine, name="a", timeout=3 * PATIENCE_S if limited else None)

    def cancel():
        wait_for(runs)
        watched.current.cancel()
        wait_for(cleaning)
        watched.current.cancel()
        ((loop, again),) = told_again
        loop.call_soon_threadsafe(again.set)

    result = watched.execute(partitioner, cancel)
    assert states_of(result) == {"a": "canceled"}
    assert log == ["cleaned up"]


@in_every_mode
def test_a_coroutine_that_does_not_let_itself_be_cancelled_completes(mode):
    """What it returns counts."""
    runs = threading.Event()

    async def coroutine(ctx):
        runs.set()
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            return "all the same"

    watched = Watched(mode)
    partitioner = QuantumPartitioner()
    partitioner.add_unit(coroutine, name="a")

    result = watched.execute(partitioner, lambda: watched.cancel_when(runs))
    assert result == {"a": "all the same"}


@in_every_lane
def test_cancelling_again_or_too_late_changes_nothing(lane):
    """The first reason counts; a run that is over is not stopped."""

    def twice(ctx):
        watched.current.cancel("first")
        watched.current.cancel("second")

    watched = Watched(lane.mode)
    partitioner = lane.partitioner({"a": twice, "b": len}, {"b": ["a"]})
    assert partitioner.execute({}, custom_executor=watched).report.stopped == "first"
    watched = Watched(lane.mode)
    result = lane.partitioner({"a": len}).execute({}, custom_executor=watched)
    watched.current.cancel("late")
    assert result.ok
    assert result.report.stopped is None


@in_every_lane
def test_a_unit_that_waits_for_another_attempt_is_cancelled_with_the_attempts_it_has_made(lane, clock):
    """One; its error is kept; nothing waits for the time of the second."""
    recorder, watched = Recorder(), Watched(lane.mode)

    class Cancels:
        """Cancels the run as soon as the unit waits."""

        def qp_unit_retrying(self, event):
            """Cancel."""
            watched.current.cancel()

    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(broken), name="a", retries=5)
    result = partitioner.execute({}, custom_executor=watched, telemetry=[recorder, Cancels()])
    assert states_of(result) == {"a": "canceled"}
    assert result.report.units["a"].attempts == 1
    assert str(result.errors["a"]) == "broken"
    assert recorder.finished() == ["a"]
    assert clock.jumps == []


@in_parallel_modes
def test_a_retry_that_comes_due_in_a_cancelled_run_counts_no_attempt(mode, clock):
    """While another unit still runs, its time comes: it has made one attempt, not two."""
    waits, watched = threading.Event(), Watched(mode)

    def holds(ctx):
        wait_for(waits)
        watched.current.cancel()
        clock.advance(100)
        time.sleep(0.01)  # for the timer

    class Watch:
        """Hears of the wait."""

        def qp_unit_retrying(self, event):
            """Go on."""
            waits.set()

    partitioner = QuantumPartitioner(max_workers=2, clock=clock)
    partitioner.add_unit(broken, name="a", retries=5)
    partitioner.add_unit(holds, name="b")
    result = partitioner.execute({}, custom_executor=watched, telemetry=[Watch()])
    assert states_of(result) == {"a": "canceled", "b": "completed"}
    assert result.report.units["a"].attempts == 1


@in_every_lane
def test_a_unit_that_fails_in_a_cancelled_run_is_not_tried_again(lane, clock):
    """It has failed, with its fallback asked as ever."""

    def fails(ctx):
        watched.current.cancel()
        raise ValueError("broken")

    watched = Watched(lane.mode)
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(fails), name="a", retries=5)
    result = partitioner.execute({}, custom_executor=watched)
    assert states_of(result) == {"a": "failed"}
    assert clock.jumps == []
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(fails), name="a", retries=5, metadata={"fallback_value": 1})
    watched = Watched(lane.mode)
    assert partitioner.execute({}, custom_executor=watched) == {"a": 1}


@in_every_mode
def test_a_run_that_is_cancelled_while_an_async_fallback_waits_comes_to_its_end(mode):
    """The unit keeps its own error."""
    asked = threading.Event()

    async def waits(ctx, error):
        asked.set()
        await asyncio.sleep(PATIENCE_S)

    watched = Watched(mode)
    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(broken, name="a", fallback=waits)
    partitioner.add_unit(len, ["a"], "b")

    result = watched.execute(partitioner, lambda: watched.cancel_when(asked))
    states = states_of(result)
    assert states["a"] == "canceled"
    assert states["b"] in {"canceled", "skipped"}
    assert str(result.errors["a"]) == "broken"


@pytest.mark.parametrize("way", ["turn", "variable"])
def test_a_run_that_is_cancelled_between_two_units_of_a_loop_comes_to_its_end(way):
    """The worker has just taken its next unit, and lets others have their turn, or hands on to another task."""
    variable = contextvars.ContextVar("variable", default=0)

    class Slow(SystemClock):
        """Every look at it lasts 10 ms, so that after each unit it is somebody else's turn."""

        looks = 0

        def now(self):
            """Look."""
            self.looks += 1
            return 1_000.0 + self.looks / 100

    def cancel_after_the_third(run):
        complete, completed = run._frontier.complete, []

        def completes(*arguments):
            following = complete(*arguments)
            completed.append(following)
            if len(completed) == 3:
                run.cancel()
            return following

        run._frontier.complete = completes

    async def unit(ctx):
        if way == "variable":
            variable.set(1)

    partitioner = QuantumPartitioner(max_workers=1, clock=Slow())
    for _ in range(10):
        partitioner.add_unit(unit)
    result = partitioner.execute({}, custom_executor=Watched("async", cancel_after_the_third))
    assert result.report.stopped == "canceled"
    assert Counter(states_of(result).values())["completed"] in {3, 4}
    assert set(states_of(result).values()) == {"completed", "canceled"}


@pytest.mark.slow
@in_every_lane
def test_wherever_a_run_is_cancelled_it_comes_to_its_end(lane):
    """A hundred runs, cancelled from another thread a little later each; every unit is in a final state, told of once."""
    for number in range(100):
        begun, recorder = threading.Event(), Recorder()
        watched = Watched(lane.mode, lambda run, begun=begun: begun.set())
        partitioner = lane.partitioner(
            {f"u{unit}": lambda ctx: None for unit in range(12)},
            {f"u{unit}": [f"u{unit - 1}"] for unit in range(1, 12) if unit % 4},
            max_workers=3,
        )
        partitioner.add_unit(lane.unit(broken), name="flaky", retries=3, retry=RetryPolicy(base_s=0))

        def cancel(begun=begun, watched=watched, number=number):
            wait_for(begun)
            time.sleep(number * 0.00002)
            watched.current.cancel()

        canceller = threading.Thread(target=cancel, daemon=True)
        canceller.start()
        result = partitioner.execute({}, custom_executor=watched, telemetry=[recorder] if number % 2 else [])
        canceller.join(PATIENCE_S)
        assert all(record.state.is_final for record in result.report.units.values())
        assert Counter(recorder.finished()) == (Counter(list(partitioner.units)) if number % 2 else Counter())


# ---- by the first failure


@in_every_lane
def test_the_first_failure_cancels_what_has_not_begun(lane, caplog):
    """Good -> bad -> after, and later: after is skipped because of bad, later is cancelled."""
    log = []
    partitioner = lane.partitioner(
        {"good": lambda ctx: 1, "bad": broken, "after": log.append, "later": log.append},
        {"bad": ["good"], "after": ["bad"]},
        max_workers=1,
    )
    # `later` is added last and would be next after `good`, were a worker not to go on with what it has made ready.
    result = partitioner.execute({}, fail_fast=True)
    assert states_of(result) == {"good": "completed", "bad": "failed", "after": "skipped", "later": "canceled"}
    assert result.report.stopped == "fail_fast"
    assert result.skipped == {"after": "bad"}
    assert log == []
    assert said(caplog) == ["1 of 4 units failed: 'bad'; 1 skipped because of them, 1 canceled (fail_fast)"]


@in_parallel_modes
def test_units_that_run_when_another_fails_may_end(mode):
    """Functions do; coroutines are cancelled."""
    runs = threading.Barrier(3)
    failed = threading.Event()

    def function(ctx):
        runs.wait(PATIENCE_S)
        wait_for(failed)
        return "whole"

    async def coroutine(ctx):
        await asyncio.get_running_loop().run_in_executor(None, runs.wait, PATIENCE_S)
        await asyncio.sleep(PATIENCE_S)

    def fails(ctx):
        runs.wait(PATIENCE_S)
        time.sleep(0.005)  # for the coroutine to wait
        raise ValueError

    class Watch:
        """Hears of the failure."""

        def qp_unit_finished(self, event):
            """Let the function go."""
            if event.unit_id == "later":
                failed.set()

    partitioner = QuantumPartitioner(max_workers=3)
    for name, unit in {"function": function, "coroutine": coroutine, "fails": fails, "later": len}.items():
        partitioner.add_unit(unit, name=name)
    result = partitioner.execute({}, mode, fail_fast=True, telemetry=[Watch()])
    assert states_of(result) == {
        "function": "completed",
        "coroutine": "canceled",
        "fails": "failed",
        "later": "canceled",
    }


@in_every_lane
def test_only_what_has_failed_for_good_stops_a_run(lane, clock):
    """Neither a failed attempt that is followed by another, nor a failure that a fallback stands in for."""
    tried = []

    def flaky(ctx):
        tried.append(1)
        if len(tried) < 3:
            raise ValueError

    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(flaky), name="flaky", retries=2)
    partitioner.add_unit(lane.unit(broken), name="stood in for", metadata={"fallback_value": 1})
    partitioner.add_unit(lane.unit(len), ["flaky", "stood in for"], "last")
    result = partitioner.execute({}, fail_fast=True)
    assert result.ok
    assert result.report.stopped is None


@in_every_mode
def test_a_timeout_is_a_failure_too(mode, clock):
    """The unit after it in the queue is cancelled."""
    hanging = Hanging(clock, 10.0)
    try:
        partitioner = QuantumPartitioner(max_workers=1, clock=clock)
        partitioner.add_unit(hanging, name="hangs", timeout=5)
        partitioner.add_unit(len, name="later")
        result = partitioner.execute({}, mode, fail_fast=True)
        assert states_of(result) == {"hangs": "timeout", "later": "canceled"}
    finally:
        hanging.free.set()


# ---- by a deadline


@in_every_mode
def test_a_deadline_ends_what_runs_and_cancels_what_waits(mode, clock):
    """Running -> after, and queued: it bounds the whole run, waiting in the queue included."""
    hanging, recorder = Hanging(clock, 60.0), Recorder()
    try:
        partitioner = QuantumPartitioner(max_workers=1, clock=clock)
        partitioner.add_unit(hanging, name="running")
        partitioner.add_unit(len, ["running"], "after")
        partitioner.add_unit(len, name="queued", timeout=1_000)
        result = partitioner.execute({}, mode, deadline=50, telemetry=[recorder])
        states = states_of(result)
        assert (states["running"], states["queued"]) == ("timeout", "canceled")
        assert states["after"] == "canceled"
        assert result.report.stopped == "deadline"
        assert result.report.abandoned == ("running",)
        error = result.failed["running"]
        assert isinstance(error, UnitTimeoutError)
        assert (error.limit_s, error.abandoned) == (50, True)
        assert "deadline" in str(error)
        record = result.report.units["running"]
        assert (record.attempts, record.duration_s) == (1, pytest.approx(60))
        assert Counter(recorder.finished()) == {"running": 1, "after": 1, "queued": 1}
    finally:
        hanging.free.set()


@pytest.mark.usefixtures("unhurried")
@in_every_mode
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_a_deadline_cancels_coroutines(mode, limited, clock):
    """They end, and nothing is reported as still running."""
    cancelled = threading.Event()

    async def coroutine(ctx):
        clock.advance(60)
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            cancelled.set()

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(coroutine, name="a", timeout=1_000 if limited else None)
    result = partitioner.execute({}, mode, deadline=50)
    assert states_of(result) == {"a": "timeout"}
    assert cancelled.is_set()
    assert result.failed["a"].abandoned is False
    assert result.report.abandoned == ()


@in_every_lane
def test_a_deadline_that_is_not_reached_changes_nothing(lane, clock):
    """Also where units wait for other attempts meanwhile."""
    tried = []

    def flaky(ctx):
        tried.append(1)
        if len(tried) < 3:
            raise ValueError

    partitioner = lane.partitioner({"b": lambda ctx: 1}, clock=clock)
    partitioner.add_unit(lane.unit(flaky), name="a", retries=2)
    result = partitioner.execute({}, deadline=100)
    assert result == {"b": 1, "a": None}
    assert result.report.stopped is None
    assert sum(clock.jumps) < 1


@in_every_lane
def test_a_deadline_ends_waits_for_other_attempts(lane, clock):
    """The next attempt would be due after 500 s; the run is over after 50."""
    partitioner = lane.partitioner({}, clock=clock)
    policy = RetryPolicy(base_s=500, cap_s=500)
    partitioner.add_unit(lane.unit(broken), name="a", retries=3, retry=policy)
    partitioner.add_unit(lane.unit(len), ["a"], "b")
    result = partitioner.execute({}, deadline=50)
    assert set(states_of(result).values()) == {"canceled"}
    assert result.report.units["a"].attempts == 1
    assert str(result.errors["a"]) == "broken"
    assert sum(clock.jumps) == pytest.approx(50)
    assert result.report.wall_s == pytest.approx(50)


@in_every_mode
def test_what_has_completed_before_a_deadline_is_kept(mode, clock):
    """And what a given up unit does later is not."""
    hanging = Hanging(clock, 60.0)
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)

    def late(ctx):
        hanging(ctx)
        ctx.record_metric("late", 1)
        return "late"

    partitioner.add_unit(lambda ctx: "done", name="done")
    partitioner.add_unit(late, ["done"], "late")
    result = partitioner.execute({}, mode, deadline=50)
    hanging.free.set()
    assert hanging.ended.acquire(timeout=PATIENCE_S)
    for thread in threading.enumerate():
        if thread.name.startswith("qp-"):
            thread.join(PATIENCE_S)
    assert result == {"done": "done"}
    assert states_of(result)["late"] == "timeout"
    assert dict(result.report.units["late"].metrics) == {}


@in_every_lane
def test_a_unit_that_a_deadline_ends_just_before_it_begins_does_not_begin(lane):
    """Its worker has taken it, and looks at the clock: observers hear of its end, and of no start after that."""
    ended, log, recorder = threading.Event(), [], Recorder()

    class Late(FakeClock):
        """In the first worker that looks at it, the deadline passes."""

        armed = True

        def now(self):
            """Look."""
            if self.armed and threading.current_thread().name.startswith("qp-"):
                self.armed = False
                self.advance(100)
                wait_for(ended)
            return super().now()

    class Watch:
        """Hears of the end."""

        def qp_unit_finished(self, event):
            """Let the worker go on."""
            if event.unit_id == "a":
                ended.set()

    partitioner = lane.partitioner({"a": log.append}, max_workers=1, clock=Late())
    result = partitioner.execute({}, deadline=50, telemetry=[recorder, Watch()])
    for thread in threading.enumerate():
        if thread.name.startswith("qp-"):
            thread.join(PATIENCE_S)
    assert states_of(result) == {"a": "timeout"}
    assert log == []
    assert [event for event in recorder.events if isinstance(event, UnitStarted)] == []
    assert (result.report.units["a"].attempts, result.report.units["a"].started_s) == (0, None)


def test_a_deadline_begins_with_the_run_not_with_its_first_unit():
    """The clock is set forward between."""
    clock, halted = FakeClock(), threading.Event()

    class Watch:
        """Hears of the end of what waits."""

        def qp_unit_finished(self, event):
            """Let the other end."""
            if event.unit_id == "b":
                halted.set()

    watched = Watched("thread", lambda run: clock.advance(60))
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(lambda ctx: wait_for(halted), name="a")
    partitioner.add_unit(len, ["a"], "b")
    result = partitioner.execute({}, custom_executor=watched, deadline=50, telemetry=[Watch()])
    assert states_of(result)["b"] == "canceled"
    assert result.report.stopped == "deadline"


@pytest.mark.slow
@in_parallel_modes
def test_wherever_a_deadline_falls_the_run_comes_to_its_end(mode):
    """Sixty runs of functions and coroutines on the real clock, each with a deadline a little later."""
    for number in range(60):
        partitioner, recorder = QuantumPartitioner(max_workers=3), Recorder()

        async def coroutine(ctx):
            await asyncio.sleep(0.0005)

        def function(ctx):
            time.sleep(0.0005)

        for unit in range(10):
            partitioner.add_unit(
                coroutine if unit % 2 else function,
                [f"u{unit - 2}"] if unit % 3 and unit > 1 else [],
                f"u{unit}",
                retries=unit % 2,
            )
        result = partitioner.execute({}, mode, deadline=0.0002 + number * 0.00008, telemetry=[recorder])
        assert all(record.state.is_final for record in result.report.units.values())
        assert Counter(recorder.finished()) == Counter(list(partitioner.units))
        # Both, where the last unit completes between the end of the handing out and the moment when what still runs is given up.
        assert result.report.stopped == "deadline" or (result.ok and result.report.stopped is None)
