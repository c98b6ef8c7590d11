"""Another attempt (R4): how often, after what wait, for which errors; and that a unit that waits holds no worker."""

import asyncio
import random
import threading

import pytest

from qp_core import PluginError, QuantumPartitioner, RetryPolicy
from qp_core.telemetry import UnitRetrying
from qp_core.testing import FakeClock, Recorder
from tests.core.engine import PATIENCE_S, in_every_lane, in_every_mode, in_parallel_modes, states_of, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left_over")


class Flaky:
    """A unit that fails a number of times; the errors and calls are counted outside the engine.

    Args:
        times: How often it fails.
        error: Makes the error of attempt n, from 1.
    """

    def __init__(self, times, error=None):
        self._times = times
        self._error = error or (lambda attempt: ValueError(f"attempt {attempt}"))
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, ctx):
        """Fail or succeed."""
        with self._lock:
            self.calls += 1
            calls = self.calls
        if calls <= self._times:
            raise self._error(calls)
        return f"result of attempt {calls}"


def expected_wait(attempt):
    """The seed's wait after an attempt, without jitter."""
    return min(2**attempt * 0.1, 5)


# ---- how often


@in_every_lane
@pytest.mark.parametrize(("retries", "fails"), [(0, 0), (0, 1), (1, 1), (1, 2), (3, 2), (3, 9)])
def test_a_unit_is_tried_as_often_as_it_fails_and_at_most_once_more_than_it_has_retries(lane, retries, fails, clock):
    """The attempts are those that the unit itself has counted."""
    flaky = Flaky(fails)
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(flaky), name="a", retries=retries)
    result = partitioner.execute({})
    attempts = min(fails, retries) + 1
    assert flaky.calls == attempts
    assert result.report.units["a"].attempts == attempts
    assert partitioner.units["a"].attempt == attempts
    if fails <= retries:
        assert result == {"a": f"result of attempt {attempts}"}
    else:
        assert str(result.failed["a"]) == f"attempt {attempts}"
        assert states_of(result) == {"a": "failed"}


@in_every_lane
def test_the_error_of_an_attempt_is_gone_when_a_later_one_succeeds(lane, clock):
    """In the result, the record and the unit."""
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(Flaky(2)), name="a", retries=2)
    result = partitioner.execute({})
    assert result.ok
    assert result.errors == {}
    assert result.report.units["a"].error is None
    assert partitioner.units["a"].error is None


@in_every_lane
def test_the_last_error_counts_and_says_which_attempt_it_was(lane, clock):
    """Three attempts."""
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(Flaky(9)), name="a", retries=2)
    error = partitioner.execute({}).failed["a"]
    assert str(error) == "attempt 3"
    assert error.__notes__ == ["raised by unit 'a', attempt 3"]


@in_every_lane
def test_each_attempt_has_a_context_of_its_own_that_knows_its_number(lane, clock):
    """What a failed attempt wrote and measured is not there in the next, nor in the report."""
    seen = []

    def unit(ctx):
        seen.append((ctx.attempt, ctx.get("written"), dict(ctx.metrics), ctx.environment["attempt"]))
        if ctx.attempt < 3:
            ctx["written"] = ctx.attempt
            ctx.record_metric("measured", ctx.attempt)
            raise ValueError
        ctx["other"] = 1

    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(unit), name="a", retries=5)
    record = partitioner.execute({}).report.units["a"]
    assert seen == [(1, None, {}, 1), (2, None, {}, 2), (3, None, {}, 3)]
    assert (record.writes, dict(record.metrics)) == (("other",), {})


@in_every_lane
def test_dependents_are_skipped_only_after_the_last_attempt(lane, clock):
    """A (fails once) -> b runs; c (fails always) -> d is skipped."""
    partitioner = lane.partitioner({"b": len, "d": len}, {"b": ["a"], "d": ["c"]}, clock=clock)
    partitioner.add_unit(lane.unit(Flaky(1)), name="a", retries=1)
    partitioner.add_unit(lane.unit(Flaky(9)), name="c", retries=1)
    result = partitioner.execute({})
    assert states_of(result) == {"b": "completed", "d": "skipped", "a": "completed", "c": "failed"}


@in_every_lane
@pytest.mark.parametrize(
    "kind", [SystemExit, GeneratorExit, asyncio.CancelledError, BaseException], ids=lambda kind: kind.__name__
)
def test_what_is_no_exception_is_never_tried_again(lane, kind, clock):
    """Whatever the retries, whatever the policy says."""
    flaky = Flaky(9, lambda attempt: kind("out"))
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(flaky), name="a", retries=3)
    result = partitioner.execute({})
    assert flaky.calls == 1
    assert type(result.failed["a"]) is kind
    assert clock.jumps == []


# ---- after what wait


@in_every_lane
def test_waits_double_up_to_five_seconds_and_are_shortened_by_a_quarter_at_most(lane, clock):
    """min(2**attempt * 0.1, 5) s, with jitter."""
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(Flaky(8)), name="a", retries=8)
    assert partitioner.execute({}).ok
    assert len(clock.jumps) == 8
    for attempt, waited in enumerate(clock.jumps, start=1):
        assert 0.75 * expected_wait(attempt) <= waited <= expected_wait(attempt) + 1e-9


@in_every_mode
def test_the_same_seed_gives_the_same_waits_and_another_gives_others(mode):
    """A run can be repeated."""

    def waits(seed):
        clock = FakeClock()
        partitioner = QuantumPartitioner(clock=clock, seed=seed)
        partitioner.add_unit(Flaky(4), retries=4)
        partitioner.execute({}, mode)
        return clock.jumps

    assert waits(1) == waits(1)
    assert waits(1) != waits(2)


@in_every_lane
def test_units_wait_beside_each_other(lane, clock):
    """Five units that fail at the same time are all back after one wait, not after five."""
    partitioner = lane.partitioner({}, clock=clock, max_workers=1)
    for number in range(5):
        partitioner.add_unit(lane.unit(Flaky(3)), name=f"u{number}", retries=3)
    assert partitioner.execute({}).ok
    assert sum(clock.jumps) <= 1.01 * sum(expected_wait(attempt) for attempt in (1, 2, 3))


@in_every_lane
def test_a_unit_that_waits_holds_no_worker(lane, clock):
    """One worker: while `first` waits for its second attempt, `other` runs."""
    log, flaky = [], Flaky(1)

    def first(ctx):
        log.append("first")
        return flaky(ctx)

    partitioner = lane.partitioner({}, clock=clock, max_workers=1)
    partitioner.add_unit(lane.unit(first), name="first", retries=1)
    partitioner.add_unit(lane.unit(lambda ctx: log.append("other")), name="other")
    assert partitioner.execute({}).ok
    assert log == ["first", "other", "first"]


@in_parallel_modes
def test_a_unit_that_waits_lets_another_run_for_as_long_as_that_takes(mode):
    """One worker and the real clock: `other` ends only when the second attempt is due, and keeps the worker until then."""
    due, flaky = threading.Event(), Flaky(1)

    class Watch:
        """Hears of the wait."""

        def qp_unit_retrying(self, event):
            """Let `other` go when the wait is over."""
            threading.Timer(event.wait_s * 2, due.set).start()

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(flaky, name="first", retries=1, retry=RetryPolicy(base_s=0.001))
    partitioner.add_unit(lambda ctx: wait_for(due), name="other")
    result = partitioner.execute({}, mode, telemetry=[Watch()])
    assert result.ok
    assert flaky.calls == 2


def test_observers_hear_of_every_wait(clock):
    """Its attempt, error and length; the jumps of the clock are the same."""
    recorder = Recorder()
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(Flaky(3), name="a", retries=5)
    partitioner.execute({}, "sequential", telemetry=[recorder])
    heard = [event for event in recorder.events if isinstance(event, UnitRetrying)]
    assert [(event.unit_id, event.attempt, str(event.error)) for event in heard] == [
        ("a", attempt, f"attempt {attempt}") for attempt in (1, 2, 3)
    ]
    assert [event.wait_s for event in heard] == pytest.approx(clock.jumps)


# ---- policies


@in_every_lane
def test_only_the_errors_that_the_policy_names_are_tried_again(lane, clock):
    """A KeyError is a LookupError; a ValueError is not."""
    policy = RetryPolicy(on=LookupError)
    named, other = Flaky(2, KeyError), Flaky(2)
    mixed = Flaky(2, lambda attempt: KeyError(attempt) if attempt == 1 else ValueError(attempt))
    partitioner = lane.partitioner({}, clock=clock)
    for name, flaky in {"named": named, "other": other, "mixed": mixed}.items():
        partitioner.add_unit(lane.unit(flaky), name=name, retries=5, retry=policy)
    result = partitioner.execute({})
    assert states_of(result) == {"named": "completed", "other": "failed", "mixed": "failed"}
    assert (named.calls, other.calls, mixed.calls) == (3, 1, 2)


class Busy(Exception):  # noqa: N818 - a server's answer
    """Come back later."""

    def __init__(self, retry_after):
        super().__init__(retry_after)
        self.retry_after = retry_after


@in_every_lane
@pytest.mark.parametrize("asked", [30, 7.5], ids=["int", "float"])
def test_an_error_that_asks_for_a_longer_wait_gets_it(lane, asked, clock):
    """`Retry-After`."""
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(Flaky(1, lambda attempt: Busy(asked))), retries=1)
    assert partitioner.execute({}).ok
    assert clock.jumps == pytest.approx([asked])


@pytest.mark.parametrize("asked", [0, 0.01, -5, None, "soon", float("nan"), float("inf")], ids=repr)
def test_an_error_that_asks_for_less_or_nonsense_gets_the_usual_wait(asked, clock):
    """0.15 to 0.2 s after the first attempt."""
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(Flaky(1, lambda attempt: Busy(asked)), retries=1)
    assert partitioner.execute({}, "sequential").ok
    assert 0.15 <= sum(clock.jumps) <= 0.2 + 1e-9


@in_every_lane
def test_no_attempt_begins_later_than_the_policy_allows(lane, clock):
    """Waits of 1, 1, 1 ... s without jitter: within 3.5 s there is time for three more attempts of no length."""
    flaky = Flaky(99)
    policy = RetryPolicy(base_s=1, cap_s=1, jitter=0, stop_after_s=3.5)
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(flaky), name="a", retries=50, retry=policy)
    result = partitioner.execute({})
    assert flaky.calls == 4
    assert str(result.failed["a"]) == "attempt 4"
    assert sum(clock.jumps) == pytest.approx(3)


@in_every_lane
def test_the_time_that_attempts_take_counts_too(lane, clock):
    """Attempts of 1 s with waits of 1 s: a third one would begin after 4 s, past the 3.5 allowed."""
    flaky = Flaky(99)

    def slow(ctx):
        clock.advance(1)
        return flaky(ctx)

    policy = RetryPolicy(base_s=1, cap_s=1, jitter=0, stop_after_s=3.5)
    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(slow), name="a", retries=50, retry=policy)
    partitioner.execute({})
    assert flaky.calls == 2


@in_every_lane
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(lambda error: 1 / 0, "raised ZeroDivisionError", id="raises"),
        pytest.param(lambda error: "soon", "raised TypeError", id="text"),
        pytest.param(lambda error: float("inf"), "answered inf", id="never"),
    ],
)
def test_a_policy_that_breaks_ends_the_run_and_is_named(lane, answer, problem, clock):
    """Nothing hangs; what had completed is kept."""
    partitioner = lane.partitioner({"done": lambda ctx: 1}, clock=clock, max_workers=1)
    partitioner.add_unit(lane.unit(Flaky(9)), ["done"], "a", retries=2, retry=RetryPolicy(retry_after=answer))
    partitioner.add_unit(lane.unit(len), ["a"], "b")
    with pytest.raises(PluginError, match=f"'RetryPolicy', retry_after: {problem}.* for unit 'a'"):
        partitioner.execute({})
    assert partitioner.get_partial_results() == {"done": 1}
    assert all(record.state.is_final for record in partitioner.last_result.report.units.values())


# ---- many


@in_parallel_modes
def test_attempts_are_exact_when_many_units_fail_at_once(mode):
    """Fifty units without any wait, four workers, the real clock; each is counted by itself."""
    rng = random.Random(7)  # noqa: S311 - a test's choice, not a secret
    policy = RetryPolicy(base_s=0)
    partitioner = QuantumPartitioner(max_workers=4)
    flaky = {}
    for number in range(50):
        name, needs = f"u{number}", [f"u{need}" for need in rng.sample(range(number), min(number, rng.randint(0, 2)))]
        flaky[name] = Flaky(rng.randint(0, 4))
        partitioner.add_unit(flaky[name], needs, name, retries=4, retry=policy)
    result = partitioner.execute({}, mode)
    assert result.ok
    for name, unit in flaky.items():
        assert unit.calls == unit._times + 1 == result.report.units[name].attempts


@pytest.mark.parametrize("workers", [1, 2, None])
def test_a_retry_that_is_due_as_the_last_worker_leaves_is_not_lost(workers):
    """Coroutines without any wait between attempts, on one loop: in each run some timer fires while a worker goes."""
    policy = RetryPolicy(base_s=0)
    ended = threading.Event()

    def many_runs():
        for _ in range(40):
            partitioner = QuantumPartitioner(max_workers=workers)
            for _ in range(3):
                flaky = Flaky(2)

                async def unit(ctx, flaky=flaky):
                    return flaky(ctx)

                partitioner.add_unit(unit, retries=2, retry=policy)
            assert partitioner.execute({}, "async").ok
        ended.set()

    threading.Thread(target=many_runs, daemon=True).start()
    assert ended.wait(PATIENCE_S)
