"""Time limits (R5): what is stopped, what can only be given up, and that neither holds up a run, changes it late, or lies about it."""

import asyncio
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pytest

from qp_core import MISS, PluginError, QuantumPartitioner, RetryPolicy, UnitState, UnitTimeoutError, available_cores
from qp_core.crew import Crew
from qp_core.telemetry import UnitFinished, UnitRetrying, UnitStarted
from qp_core.testing import Recorder
from tests.core.engine import (
    PATIENCE_S,
    Hanging,
    in_every_lane,
    in_every_mode,
    in_parallel_modes,
    states_of,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left_over")

AT_ONCE = RetryPolicy(base_s=0)


@pytest.fixture
def hanging(clock):
    """A unit that hangs, and sets the clock forward by 10 s once it runs; let go when the test is over."""
    made = Hanging(clock, 10.0)
    yield made
    made.free.set()


class Waiting:
    """A coroutine function that waits until it is cancelled, and sets the clock forward once it runs.

    Args:
        clock: The fake clock.
        after_s: How far.
        swallows: Whether it goes on when it is cancelled, until it is let go.
    """

    def __init__(self, clock, after_s=10.0, *, swallows=False):
        self._clock = clock
        self._after_s = after_s
        self._swallows = swallows
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.free = threading.Event()

    async def __call__(self, ctx):
        """Wait."""
        self.begun.set()
        self._clock.advance(self._after_s)
        while not self.free.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                self.cancelled.set()
                if not self._swallows:
                    raise
        return "too late"


# ---- functions


@in_every_mode
def test_a_function_that_runs_out_of_time_is_given_up_and_reported_as_still_running(mode, clock, hanging, caplog):
    """Hangs -> after is skipped; beside completes, although there is one worker; the run is over while the unit still runs."""
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hanging, name="hangs", timeout=5)
    partitioner.add_unit(len, ["hangs"], "after")
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"hangs": "timeout", "after": "skipped", "beside": "completed"}
    error = result.failed["hangs"]
    assert isinstance(error, UnitTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.unit_id, error.limit_s, error.abandoned) == ("hangs", 5, True)
    assert result.report.abandoned == ("hangs",)
    record = result.report.units["hangs"]
    assert (record.abandoned, record.attempts, record.worker is not None) == (True, 1, True)
    assert record.duration_s == pytest.approx(10)
    assert not hanging.ended.acquire(blocking=False)
    assert "1 units could not be stopped and may still be running: 'hangs'" in caplog.messages


@in_every_mode
def test_a_unit_that_was_given_up_and_has_ended_since_is_not_reported_as_still_running(mode, clock):
    """Hangs is let go by beside, which runs in its place. Its error tells of the moment at which it was given up, its record of the end."""
    free, threads = threading.Event(), []

    def hang(ctx):
        threads.append(threading.current_thread())
        clock.advance(10)
        free.wait(PATIENCE_S)

    def beside(ctx):
        free.set()
        threads[0].join(PATIENCE_S)

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hang, name="hangs", timeout=5)
    partitioner.add_unit(beside, name="beside")
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"hangs": "timeout", "beside": "completed"}
    assert (result.report.abandoned, result.failed["hangs"].abandoned) == ((), True)


@in_every_mode
def test_what_a_given_up_unit_returns_late_is_dropped(mode, clock, hanging):
    """The run's result and report are what they were."""
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)

    def unit(ctx):
        late = hanging(ctx)
        ctx.record_metric("late", 1)
        ctx["late"] = 1
        return late

    partitioner.add_unit(unit, name="hangs", timeout=5)
    result = partitioner.execute({}, mode)
    before = (dict(result), states_of(result), result.report.to_data(), partitioner.units["hangs"].result)
    hanging.free.set()
    assert hanging.ended.acquire(timeout=PATIENCE_S)
    for thread in threading.enumerate():
        if thread.name.startswith("qp-"):
            thread.join(PATIENCE_S)
    assert (dict(result), states_of(result), result.report.to_data(), partitioner.units["hangs"].result) == before


@in_every_mode
def test_what_a_given_up_unit_returns_while_the_run_goes_on_is_dropped(mode, clock, hanging):
    """Hangs (late) and waits: waits ends only after the late one has returned."""
    partitioner = QuantumPartitioner(max_workers=2, clock=clock)
    partitioner.add_unit(hanging, name="hangs", timeout=5)
    partitioner.add_unit(len, ["hangs"], "after")

    def waits(ctx):
        hanging.free.set()
        assert hanging.ended.acquire(timeout=PATIENCE_S)

    partitioner.add_unit(waits, ["beside"], "waits")
    # Nothing but the end of `hangs` by its timeout lets this one end.
    given_up = threading.Event()
    partitioner.add_unit(lambda ctx: None if mode == "sequential" else wait_for(given_up), name="beside")
    partitioner.on_unit_error = lambda unit_id, error: given_up.set()
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"hangs": "timeout", "after": "skipped", "waits": "completed", "beside": "completed"}
    assert "hangs" not in result


@in_every_lane
def test_a_unit_that_is_in_time_is_left_alone(lane, clock):
    """Four seconds of five, and without end of infinitely many."""

    def slow(ctx):
        clock.advance(4)
        return "in time"

    partitioner = lane.partitioner({}, clock=clock, max_workers=1)
    partitioner.add_unit(lane.unit(slow), name="a", timeout=5)
    partitioner.add_unit(lane.unit(slow), name="b", timeout=float("inf"))
    result = partitioner.execute({})
    assert result == {"a": "in time", "b": "in time"}
    assert result.report.abandoned == ()


@in_every_lane
def test_time_that_a_unit_waits_for_its_turn_does_not_count(lane, clock):
    """One worker: slow takes 100 s, then queued has 5 s of its own."""

    def slow(ctx):
        clock.advance(100)

    partitioner = lane.partitioner({"slow": slow}, clock=clock, max_workers=1)
    for number in range(3):
        partitioner.add_unit(lane.unit(lambda ctx: clock.advance(4)), name=f"queued{number}", timeout=5)
    assert states_of(partitioner.execute({})) == dict.fromkeys(("slow", "queued0", "queued1", "queued2"), "completed")


def test_time_that_a_function_waits_for_a_thread_beside_the_loop_does_not_count(clock):
    """Functions in all threads hang until a canary (50 s) has run out of time; queued has 5 s, from when it gets a thread."""
    free = threading.Event()
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.on_unit_error = lambda unit_id, error: free.set()
    begun, canary = threading.Barrier(available_cores() * 2), Waiting(clock, 0)

    def holds(ctx):
        if begun.wait(PATIENCE_S) == 0:
            wait_for(canary.begun)
            clock.advance(100)
        wait_for(free)

    for number in range(available_cores() * 2):
        partitioner.add_unit(holds, name=f"holds{number}")
    partitioner.add_unit(len, name="queued", timeout=5)
    partitioner.add_unit(canary, name="canary", timeout=50)
    result = partitioner.execute({}, "async")
    assert {name for name, state in states_of(result).items() if state != "completed"} == {"canary"}


@in_every_mode
def test_a_hanging_attempt_is_followed_by_another_on_another_worker(mode, clock, hanging):
    """The second succeeds: the unit is completed, without an error, and still reported as running somewhere."""
    calls, recorder = [], Recorder()

    def unit(ctx):
        calls.append(ctx.attempt)
        return hanging(ctx) if ctx.attempt == 1 else "second"

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(unit, name="a", timeout=5, retries=3)
    partitioner.add_unit(lambda ctx: ctx["a"], ["a"], "b")
    result = partitioner.execute({}, mode, telemetry=[recorder])
    assert result == {"a": "second", "b": "second"}
    assert calls == [1, 2]
    record = result.report.units["a"]
    assert (record.attempts, record.error, record.abandoned) == (2, None, True)
    retrying = [event for event in recorder.events if isinstance(event, UnitRetrying)]
    assert [type(event.error) for event in retrying] == [UnitTimeoutError]
    assert recorder.finished() == ["a", "b"]


@in_every_mode
def test_a_unit_whose_every_attempt_hangs_ends_after_the_last(mode, clock, hanging):
    """Three attempts, each given up; the one worker is replaced each time."""
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hanging, name="hangs", timeout=5, retries=2)
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"hangs": "timeout", "beside": "completed"}
    assert result.report.units["hangs"].attempts == 3
    assert [hanging.begun.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


@in_every_mode
def test_an_attempt_that_fails_late_does_not_disturb_the_next(mode, clock):
    """The first attempt is given up, and raises while the second runs: only the second counts."""
    second_runs, first_raised, asked = threading.Event(), threading.Event(), []

    def unit(ctx):
        if ctx.attempt == 1:
            clock.advance(10)
            ctx.record_metric("attempt", 1)
            wait_for(second_runs)
            first_raised.set()
            raise ValueError("late")
        second_runs.set()
        wait_for(first_raised)
        time.sleep(0.01)  # for the engine to make something of it
        ctx.record_metric("attempt", 2)
        return "second"

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(unit, name="a", timeout=5, retries=1, fallback=lambda ctx, error: asked.append(error))
    result = partitioner.execute({}, mode)
    assert result == {"a": "second"}
    record = result.report.units["a"]
    assert (dict(record.metrics), record.error, record.attempts, asked) == ({"attempt": 2}, None, 2, [])


@in_parallel_modes
def test_a_last_attempt_that_succeeds_late_does_not_take_the_error_away(mode, clock, hanging):
    """The first attempt raises, the second is given up; beside waits until it has returned all the same."""
    given_up = threading.Event()

    def unit(ctx):
        if ctx.attempt == 1:
            raise ValueError("first")
        return hanging(ctx)

    def beside(ctx):
        wait_for(given_up)
        hanging.free.set()
        assert hanging.ended.acquire(timeout=PATIENCE_S)
        time.sleep(0.01)  # for the engine to make something of it

    partitioner = QuantumPartitioner(max_workers=2, clock=clock)
    partitioner.on_unit_error = lambda unit_id, error: given_up.set()
    partitioner.add_unit(unit, name="a", timeout=5, retries=1, retry=AT_ONCE)
    partitioner.add_unit(beside, name="beside")
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"a": "timeout", "beside": "completed"}
    assert isinstance(result.failed["a"], UnitTimeoutError)
    assert result.report.units["a"].attempts == 2


@in_every_mode
def test_a_worker_that_is_given_up_is_replaced_however_often(mode, clock):
    """Ten units hang one after another, with one worker; the last unit still runs."""
    hanging = Hanging(clock, 10.0)
    try:
        partitioner = QuantumPartitioner(max_workers=1, clock=clock)
        for number in range(10):
            partitioner.add_unit(hanging, name=f"hangs{number}", timeout=5)
        partitioner.add_unit(lambda ctx: "last", name="last")
        result = partitioner.execute({}, mode)
        assert result == {"last": "last"}
        assert Counter(states_of(result).values()) == {"timeout": 10, "completed": 1}
        assert len(result.report.abandoned) == 10
    finally:
        hanging.free.set()


@in_every_mode
def test_when_too_many_units_hang_the_run_is_halted(mode, clock, hanging, monkeypatch):
    """Each holds a thread, perhaps for ever: after three (64 in earnest) the rest is cancelled."""
    monkeypatch.setattr(Crew, "most_abandoned", 3)
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    for number in range(10):
        partitioner.add_unit(hanging, name=f"hangs{number}", timeout=5)
    result = partitioner.execute({}, mode)
    # A fourth may have begun in the moment between the last giving up, which makes room for a worker, and the halt.
    assert Counter(states_of(result).values()) in ({"timeout": 3, "canceled": 7}, {"timeout": 4, "canceled": 6})
    assert result.report.stopped == "too many units could not be stopped"


@in_every_mode
def test_units_that_hang_but_end_are_not_too_many(mode, clock, monkeypatch):
    """Given up, they end soon after: ten of them, with a limit of three."""
    monkeypatch.setattr(Crew, "most_abandoned", 3)
    free, threads = [threading.Event() for _ in range(10)], []

    def unit(number, ctx):
        for earlier in range(number):  # given up before: let it go, and see its thread end
            free[earlier].set()
            threads[earlier].join(PATIENCE_S)
            assert not threads[earlier].is_alive()
        threads.append(threading.current_thread())
        clock.advance(10)
        wait_for(free[number])

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    for number in range(10):
        partitioner.add_unit(lambda ctx, number=number: unit(number, ctx), name=f"u{number}", timeout=5)
    result = partitioner.execute({}, mode)
    free[-1].set()
    assert Counter(states_of(result).values()) == {"timeout": 10}
    assert result.report.stopped is None


# ---- coroutines


@pytest.mark.usefixtures("unhurried")
@in_every_mode
@pytest.mark.parametrize("kind", ["coroutine_function", "returns_a_coroutine"])
def test_a_coroutine_that_runs_out_of_time_is_cancelled(mode, kind, clock):
    """It is told, it ends, and nothing is reported as still running."""
    waiting = Waiting(clock)
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)

    def returns_a_coroutine(ctx):
        return waiting(ctx)

    function = waiting if kind == "coroutine_function" else returns_a_coroutine
    partitioner.add_unit(function, name="waits", timeout=5)
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"waits": "timeout", "beside": "completed"}
    assert waiting.cancelled.is_set()
    assert result.failed["waits"].abandoned is False
    assert result.report.abandoned == ()


@in_every_mode
@pytest.mark.slow
def test_a_coroutine_that_swallows_its_cancellation_is_reported_as_still_running(mode, clock):
    """It goes on for as long as its loop does."""
    waiting = Waiting(clock, swallows=True)
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(waiting, name="waits", timeout=5)
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, mode)
    wait_for(waiting.cancelled)
    waiting.free.set()
    assert states_of(result) == {"waits": "timeout", "beside": "completed"}
    assert result.report.abandoned == ("waits",)


@in_every_mode
def test_a_coroutine_that_ends_well_though_cancelled_has_run_out_of_time_all_the_same(mode, clock):
    """What it returns then comes too late."""

    async def unit(ctx):
        clock.advance(10)
        try:
            await asyncio.sleep(PATIENCE_S)
        except asyncio.CancelledError:
            return "too late"

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(unit, name="a", timeout=5)
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"a": "timeout"}
    assert result == {}


@pytest.mark.usefixtures("unhurried")
@in_every_mode
def test_a_coroutine_may_clean_up_when_its_time_is_up(mode, clock):
    """With further awaits."""
    log = []

    async def unit(ctx):
        clock.advance(10)
        try:
            await asyncio.sleep(PATIENCE_S)
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned up")

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(unit, name="a", timeout=5)
    partitioner.execute({}, mode)
    assert log == ["cleaned up"]


@pytest.mark.usefixtures("unhurried")
@in_every_mode
def test_a_cancelled_coroutine_is_followed_by_another_attempt(mode, clock):
    """The first waits for ever, the second does not."""
    waiting = Waiting(clock)

    async def unit(ctx):
        return await waiting(ctx) if ctx.attempt == 1 else "second"

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(unit, name="a", timeout=5, retries=1)
    result = partitioner.execute({}, mode)
    assert result == {"a": "second"}
    assert result.report.units["a"].attempts == 2
    assert waiting.cancelled.is_set()


@pytest.mark.usefixtures("unhurried")
@in_parallel_modes
def test_coroutines_that_could_be_stopped_are_never_too_many(mode, clock, monkeypatch):
    """Twenty run out of time, with a limit of three for those that cannot be stopped."""
    monkeypatch.setattr(Crew, "most_abandoned", 3)
    partitioner = QuantumPartitioner(max_workers=5, clock=clock)
    for number in range(20):
        partitioner.add_unit(Waiting(clock), name=f"u{number}", timeout=5)
    result = partitioner.execute({}, mode)
    assert Counter(states_of(result).values()) == {"timeout": 20}
    assert (result.report.stopped, result.report.abandoned) == (None, ())


@in_every_mode
def test_a_function_that_hangs_before_it_returns_a_coroutine_leaves_nothing_behind(mode, clock, hanging):
    """It is given up; later it returns a coroutine, which nobody awaits any more, nor warns of, nor makes a loop for."""
    made = []

    async def coroutine():
        """Never runs."""

    def unit(ctx):
        hanging(ctx)
        made.append(coroutine())
        return made[0]

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(unit, name="a", timeout=5)
    result = partitioner.execute({}, mode)
    assert result.report.abandoned == ("a",)
    hanging.free.set()
    ends = time.monotonic() + PATIENCE_S
    while (not made or made[0].cr_frame is not None) and time.monotonic() < ends:
        time.sleep(0.001)
    assert made[0].cr_frame is None, "the coroutine was not closed"


@in_every_mode
def test_a_policy_that_breaks_as_a_unit_runs_out_of_time_ends_the_run(mode, clock, hanging):
    """The hanging unit is given up there and then, so nothing waits for it."""
    policy = RetryPolicy(retry_after=lambda error: 1 / 0)
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hanging, name="hangs", timeout=5, retries=1, retry=policy)
    partitioner.add_unit(len, name="later")
    with pytest.raises(PluginError, match="'RetryPolicy', retry_after: raised ZeroDivisionError"):
        partitioner.execute({}, mode)
    assert states_of(partitioner.last_result) == {"hangs": "canceled", "later": "canceled"}
    assert partitioner.last_result.report.abandoned == ("hangs",)


@in_every_mode
def test_a_unit_that_ends_while_its_timeout_is_being_judged_has_ended(mode, clock):
    """The coordinator asks the policy about the timeout; in this moment the unit completes: that counts."""
    hanging, completed = Hanging(clock, 10.0), threading.Event()

    class Asked(type(Exception)):
        """Whether an error is one of these is found out in the middle of the judgement."""

        def __instancecheck__(cls, error):
            if isinstance(error, UnitTimeoutError):
                hanging.free.set()
                wait_for(completed)
            return False

    class Never(Exception, metaclass=Asked):  # noqa: N818 - no error at all
        """No error is one."""

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.on_unit_complete = lambda unit_id, value: completed.set()
    partitioner.add_unit(hanging, name="a", timeout=5, retries=1, retry=RetryPolicy(on=Never))
    result = partitioner.execute({}, mode)
    assert result == {"a": "too late"}
    assert result.report.abandoned == ()


# ---- what is told


@in_every_mode
def test_the_end_of_a_unit_that_ran_out_of_time_is_told_once(mode, clock, hanging):
    """Also where it ends late by itself."""
    recorder = Recorder()
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hanging, name="hangs", timeout=5)
    partitioner.add_unit(len, ["hangs"], "after")
    partitioner.execute({}, mode, telemetry=[recorder])
    hanging.free.set()
    assert hanging.ended.acquire(timeout=PATIENCE_S)
    ends = [event for event in recorder.events if isinstance(event, UnitFinished)]
    assert [(end.unit_id, end.state.value, end.attempts) for end in ends] == [
        ("hangs", "timeout", 1),
        ("after", "skipped", 0),
    ]
    assert (ends[1].cause, type(ends[0].error)) == ("hangs", UnitTimeoutError)
    assert ends[0].ended - ends[0].started == pytest.approx(10)


# ---- races


@pytest.mark.slow
@in_parallel_modes
@pytest.mark.parametrize("coroutines", [False, True], ids=["functions", "coroutines"])
def test_a_unit_that_ends_as_its_time_is_up_is_settled_once(mode, coroutines):
    """Random graphs whose units take about as long as they may: every state fits, nothing hangs, nobody hears twice."""
    rng = random.Random(11)  # noqa: S311 - a test's choice, not a secret
    seen = Counter()
    for _ in range(12):
        partitioner, over = QuantumPartitioner(max_workers=4), threading.Event()
        for number in range(16):
            takes_s = rng.uniform(0.0005, 0.0025)

            def function(ctx, takes_s=takes_s, number=number):
                time.sleep(takes_s)
                return number

            async def coroutine(ctx, takes_s=takes_s, number=number):
                await asyncio.sleep(takes_s)
                return number

            partitioner.add_unit(
                coroutine if coroutines else function,
                [f"u{need}" for need in rng.sample(range(number), min(number, rng.randint(0, 2)))],
                f"u{number}",
                timeout=0.0015,
                retries=rng.randint(0, 1),
                retry=AT_ONCE,
                metadata={"fallback_value": "fallback"} if rng.random() < 0.2 else None,
            )
        # However busy the machine is, one ends in time, and one does not.
        partitioner.add_unit(lambda ctx: 16, name="u16")
        partitioner.add_unit(lambda ctx, over=over: over.wait(PATIENCE_S), name="u17", timeout=0.0015)
        recorder = Recorder()
        result = partitioner.execute({}, mode, telemetry=[recorder] if rng.random() < 0.5 else [])
        over.set()
        states = states_of(result)
        seen.update(states.values())
        for name, unit in partitioner.units.items():
            record = result.report.units[name]
            if states[name] == "completed":
                assert result[name] == ("fallback" if record.used_fallback else int(name[1:]))
                assert (record.error is not None) == record.used_fallback
            elif states[name] == "timeout":
                assert isinstance(result.failed[name], UnitTimeoutError)
            else:
                assert states[name] == "skipped"
                assert states[record.cause] == "timeout"
            for need in unit.dependencies:
                assert states[name] == "skipped" or states[need] == "completed"
        if recorder.events:
            assert Counter(recorder.finished()) == Counter(list(partitioner.units))
    assert seen["completed"]
    assert seen["timeout"]


@pytest.mark.slow
@in_parallel_modes
def test_with_units_given_up_there_are_never_more_at_work_than_the_bound(mode):
    """Units that end about when their time is up: those not given up are at most two at once, as their observer counts them."""

    class AtWork:
        """Counts units between their start and their end."""

        def __init__(self):
            self.now = set()
            self.most = 0

        def qp_unit_started(self, event):
            """One more."""
            self.now.add(event.unit_id)
            self.most = max(self.most, len(self.now))

        def qp_unit_retrying(self, event):
            """One less."""
            self.now.discard(event.unit_id)

        def qp_unit_finished(self, event):
            """One less."""
            self.now.discard(event.unit_id)

    rng = random.Random(3)  # noqa: S311 - a test's choice, not a secret
    for _ in range(10):
        partitioner = QuantumPartitioner(max_workers=2)
        for number in range(20):
            takes_s = rng.uniform(0.0005, 0.0025)

            async def coroutine(ctx, takes_s=takes_s):
                await asyncio.sleep(takes_s)

            partitioner.add_unit(coroutine, name=f"u{number}", timeout=0.0015)
        at_work = AtWork()
        partitioner.execute({}, mode, telemetry=[at_work])
        assert at_work.most <= 2


# ---- the very moment


class SlowCache:
    """Has nothing, and is asked until it is let go; the clock is set forward meanwhile."""

    def __init__(self, clock, after_s):
        self._clock = clock
        self._after_s = after_s
        self.free = threading.Event()

    def get(self, key):
        """Wait."""
        self._clock.advance(self._after_s)
        self.free.wait(PATIENCE_S)
        return MISS

    def put(self, key, value):
        """Keep nothing."""


@in_every_lane
@pytest.mark.parametrize(
    "telemetry", [pytest.param([], id="nobody listens"), pytest.param(["recorder"], id="recorded")]
)
def test_a_unit_that_was_only_handed_out_when_the_deadline_passed_never_begins(lane, clock, telemetry):
    """Its cache was being asked; nothing was tried, so nothing is counted, and its function is not called later either."""
    called, recorder, cache = [], Recorder(), SlowCache(clock, 100)
    partitioner = QuantumPartitioner(1, lane.mode, clock=clock)
    partitioner.add_unit(lane.unit(called.append), name="a", metadata={"cacheable": True})
    result = partitioner.execute({}, deadline=50, cache=cache, telemetry=[recorder for _ in telemetry])
    record = result.report.units["a"]
    assert (record.state, record.attempts, record.started_s) == (UnitState.TIMEOUT, 0, None)
    cache.free.set()
    for thread in threading.enumerate():
        if thread.name.startswith(f"qp-{result.report.run_id[:8]}"):
            thread.join(PATIENCE_S)
    assert called == []
    assert [type(event).__name__ for event in recorder.events if isinstance(event, UnitStarted)] == []


# ---- the program ends


PROGRAM = """
    import sys, threading
    from qp_core import QuantumPartitioner
    from qp_core.testing import FakeClock

    clock = FakeClock()

    def hangs(ctx):
        clock.advance(10)
        threading.Event().wait()

    async def coroutine(ctx):
        clock.advance(1000)
        threading.Event().wait()  # blocks its loop, so that not even a cancellation reaches it

    partitioner = QuantumPartitioner(max_workers=2, clock=clock)
    partitioner.add_unit(hangs, name="hangs", timeout=5)
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    mode, kind = sys.argv[1:]
    if kind == "coroutine":
        partitioner.add_unit(coroutine, ["beside"], "blocks")
    result = partitioner.execute({}, mode, deadline=500 if kind == "coroutine" else None)
    print(result, sorted(result.report.abandoned))
"""


@pytest.mark.slow
@in_every_mode
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_unit_that_hangs_for_ever_does_not_keep_the_program_alive(mode, kind, tmp_path):
    """The program prints its result and ends with 0, and says nothing on its way out."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    ended = subprocess.run(
        [sys.executable, program, mode, kind], capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False
    )
    abandoned = ["blocks", "hangs"] if kind == "coroutine" else ["hangs"]
    assert ended.stdout == f"{{'beside': 'beside'}} {abandoned}\n"
    said = [line for line in ended.stderr.splitlines() if "units" not in line]
    assert (ended.returncode, said) == (0, [])
