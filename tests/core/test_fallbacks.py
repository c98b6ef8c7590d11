"""What stands in for a unit whose last attempt failed (R6): values, functions, units, chains; when it is asked for, and what is kept."""

import asyncio
import contextvars
import threading

import pytest

from qp_core import ExecutionError, QuantumPartitioner, QuantumUnit, UnitTimeoutError, current_context
from qp_core.telemetry import UnitFinished
from qp_core.testing import Recorder
from tests.core.engine import PATIENCE_S, Hanging, in_every_lane, in_every_mode, in_parallel_modes, states_of

pytestmark = pytest.mark.usefixtures("nothing_left_over")


def broken(ctx):
    """A unit that fails."""
    raise ValueError("broken")


def refuses(ctx, error):
    """A fallback that fails."""
    raise LookupError("no fallback either")


async def refuses_later(ctx, error):
    """A coroutine that fails."""
    await asyncio.sleep(0)
    raise LookupError("no fallback either")


async def answers_later(ctx, error):
    """A coroutine."""
    await asyncio.sleep(0)
    return "later"


def answers(ctx, error):
    """A function."""
    return f"instead of {error}"


async def unit_function(ctx):
    """A unit's coroutine function."""
    await asyncio.sleep(0)
    return f"{ctx['given']} by a unit"


class Missing:
    """Compares with nothing."""

    __eq__ = None
    __hash__ = None


# ---- what may stand in


@in_every_lane
@pytest.mark.parametrize("value", [None, 0, "", False, [], Missing()], ids=lambda value: type(value).__name__)
def test_a_fallback_value_counts_whatever_it_is(lane, value):
    """Also None: what matters is that the key is there. Bad -> after gets it."""
    seen = []
    partitioner = lane.partitioner({"after": lambda ctx: seen.append(ctx["bad"])}, {"after": ["bad"]})
    partitioner.add_unit(lane.unit(broken), name="bad", metadata={"fallback_value": value})
    result = partitioner.execute({})
    assert result.ok
    assert dict.__getitem__(result, "bad") is value
    assert seen == [value]


@in_every_lane
@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        pytest.param(answers, "instead of broken", id="function"),
        pytest.param(lambda ctx, error: None, None, id="function_that_answers_none"),
        pytest.param(answers_later, "later", id="coroutine_function"),
        pytest.param(lambda ctx, error: answers_later(ctx, error), "later", id="function_that_returns_a_coroutine"),  # noqa: PLW0108 - that is the case
        pytest.param(QuantumUnit("other", lambda ctx: ctx["given"]), "given", id="unit"),
        pytest.param(QuantumUnit("other", unit_function), "given by a unit", id="unit_of_a_coroutine_function"),
        pytest.param([refuses, answers], "instead of broken", id="second_of_a_list"),
        pytest.param((refuses_later, answers_later), "later", id="second_of_a_tuple_of_coroutine_functions"),
        pytest.param([refuses_later, refuses, answers], "instead of broken", id="function_after_a_coroutine_function"),
        pytest.param([refuses, QuantumUnit("o", broken), answers_later, answers], "later", id="first_that_answers"),
    ],
)
def test_what_stands_in_gives_the_result(lane, fallback, expected):
    """The unit is completed, its error is kept, and the record says how it came about."""
    recorder = Recorder()
    partitioner = lane.partitioner({"after": lambda ctx: ctx["bad"]}, {"after": ["bad"]})
    partitioner.add_unit(lane.unit(broken), name="bad", fallback=fallback)
    result = partitioner.execute({"given": "given"}, telemetry=[recorder])
    assert result == {"after": expected, "bad": expected}
    assert result.ok
    assert result.failed == {}
    assert str(result.errors["bad"]) == "broken"
    record = result.report.units["bad"]
    assert (record.state.value, record.used_fallback, record.error.text) == ("completed", True, "broken")
    assert result.report.units["after"].used_fallback is False
    assert (partitioner.units["bad"].result, str(partitioner.units["bad"].error)) == (expected, "broken")
    ends = {event.unit_id: event for event in recorder.events if isinstance(event, UnitFinished)}
    assert (ends["bad"].value, ends["bad"].used_fallback, str(ends["bad"].error)) == (expected, True, "broken")


@in_every_lane
@pytest.mark.parametrize(
    "fallback",
    [
        pytest.param(refuses, id="function"),
        pytest.param(refuses_later, id="coroutine_function"),
        pytest.param(QuantumUnit("other", lambda ctx: ctx["absent"]), id="unit"),
        pytest.param([refuses, refuses_later, QuantumUnit("other", broken)], id="list"),
        pytest.param([], id="empty_list"),
        pytest.param(None, id="none"),
    ],
)
def test_where_nothing_stands_in_the_unit_has_failed_with_its_own_error(lane, fallback):
    """What the fallbacks raised is noted on it."""
    partitioner = lane.partitioner({"after": len, "beside": lambda ctx: 1}, {"after": ["bad"]})
    partitioner.add_unit(lane.unit(broken), name="bad", fallback=fallback)
    result = partitioner.execute({})
    assert states_of(result) == {"after": "skipped", "beside": "completed", "bad": "failed"}
    error = result.failed["bad"]
    assert str(error) == "broken"
    choices = [] if fallback is None else fallback if isinstance(fallback, list) else [fallback]
    assert sum("fallback" in note for note in error.__notes__) == len(choices)
    assert result.report.units["bad"].used_fallback is False


@in_every_lane
@pytest.mark.parametrize(
    ("kind", "coroutine"),
    [
        pytest.param(SystemExit, False, id="SystemExit_of_a_function"),
        pytest.param(SystemExit, True, id="SystemExit_of_a_coroutine"),
        pytest.param(KeyboardInterrupt, True, id="KeyboardInterrupt_of_a_coroutine"),
    ],
)
def test_whatever_a_fallback_raises_stays_with_its_unit(lane, kind, coroutine):
    """Also what would end a thread, a loop or the program."""

    def leaves(ctx, error):
        raise kind("out")

    async def leaves_later(ctx, error):
        raise kind("out")

    partitioner = lane.partitioner({"beside": lambda ctx: 1})
    partitioner.add_unit(lane.unit(broken), name="bad", fallback=leaves_later if coroutine else leaves)
    result = partitioner.execute({})
    assert states_of(result) == {"beside": "completed", "bad": "failed"}
    assert str(result.failed["bad"]) == "broken"
    assert any(kind.__name__ in note for note in result.failed["bad"].__notes__)


@in_every_lane
def test_a_fallback_value_goes_before_other_fallbacks(lane):
    """As the cheapest."""
    asked = []
    partitioner = lane.partitioner({})
    partitioner.add_unit(
        lane.unit(broken), name="bad", metadata={"fallback_value": 5}, fallback=lambda ctx, error: asked.append(1)
    )
    assert partitioner.execute({}) == {"bad": 5}
    assert asked == []


# ---- when


@in_every_lane
def test_a_fallback_is_asked_once_after_the_last_attempt(lane, clock):
    """Three attempts, and none of the fallback's business before."""
    log = []

    def unit(ctx):
        log.append(f"attempt {ctx.attempt}")
        raise ValueError(ctx.attempt)

    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(
        lane.unit(unit), name="a", retries=2, fallback=lambda ctx, error: log.append(f"fallback for {error}")
    )
    result = partitioner.execute({})
    assert log == ["attempt 1", "attempt 2", "attempt 3", "fallback for 3"]
    assert result.report.units["a"].attempts == 3
    assert str(result.errors["a"]) == "3"


@in_every_lane
def test_a_fallback_is_not_asked_where_an_attempt_succeeds(lane, clock):
    """The second does."""
    asked, tried = [], []

    def unit(ctx):
        tried.append(1)
        if len(tried) == 1:
            raise ValueError
        return "second"

    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(unit), name="a", retries=2, fallback=lambda ctx, error: asked.append(1))
    result = partitioner.execute({})
    assert result == {"a": "second"}
    assert asked == []
    assert result.report.units["a"].used_fallback is False


@in_every_lane
def test_a_skipped_unit_has_no_fallback(lane):
    """It never ran."""
    partitioner = lane.partitioner({"bad": broken})
    partitioner.add_unit(lane.unit(len), ["bad"], "after", metadata={"fallback_value": 5})
    assert states_of(partitioner.execute({})) == {"bad": "failed", "after": "skipped"}


@in_every_lane
def test_a_fallback_stands_in_for_whatever_was_raised(lane):
    """Also for what is no Exception."""

    def leaves(ctx):
        raise SystemExit(3)

    partitioner = lane.partitioner({})
    partitioner.add_unit(lane.unit(leaves), name="a", fallback=lambda ctx, error: type(error).__name__)
    assert partitioner.execute({}) == {"a": "SystemExit"}


# ---- a part of its unit


@in_every_lane
@pytest.mark.parametrize("kind", ["function", "coroutine_function"])
def test_a_fallback_sees_what_its_unit_saw(lane, kind):
    """The dependencies' results, the caller's context variables, and itself as the running unit."""
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("the caller's")

    def sees(ctx, error):
        return ctx["before"], ctx["given"], variable.get(), current_context().unit_id

    async def sees_later(ctx, error):
        await asyncio.sleep(0)
        return sees(ctx, error)

    partitioner = lane.partitioner({"before": lambda ctx: "before"})
    partitioner.add_unit(lane.unit(broken), ["before"], "bad", fallback=sees if kind == "function" else sees_later)
    assert partitioner.execute({"given": 1})["bad"] == ("before", 1, "the caller's", "bad")


@in_every_lane
def test_what_a_unit_measured_before_it_failed_is_kept(lane):
    """With the fallback's own measure."""

    def unit(ctx):
        ctx.record_metric("tried", 1)
        raise ValueError

    def fallback(ctx, error):
        ctx.record_metric("stood in", 2)

    partitioner = lane.partitioner({})
    partitioner.add_unit(lane.unit(unit), name="a", fallback=fallback)
    assert dict(partitioner.execute({}).report.units["a"].metrics) == {"tried": 1, "stood in": 2}


# ---- after a timeout


@in_every_mode
@pytest.mark.parametrize("fallback", [answers, answers_later, [refuses_later, answers]], ids=["def", "async", "list"])
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_fallback_stands_in_for_a_unit_that_ran_out_of_time(mode, fallback, kind, clock):
    """Hangs -> after: asked once, also when the hanging unit raises later."""
    asked, hanging = [], Hanging(clock, 10.0)

    def function(ctx):
        hanging(ctx)
        raise ValueError("late")

    async def coroutine(ctx):
        clock.advance(10.0)
        await asyncio.sleep(PATIENCE_S)

    def counts(ctx, error):
        asked.append(error)
        raise LookupError("only counts")

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    unit = function if kind == "function" else coroutine
    chain = [counts, *(fallback if isinstance(fallback, list) else [fallback])]
    partitioner.add_unit(unit, name="hangs", timeout=5, fallback=chain)

    def after(ctx):
        hanging.free.set()
        if kind == "function":
            assert hanging.ended.acquire(timeout=PATIENCE_S)
        return ctx["hangs"]

    partitioner.add_unit(after, ["hangs"], "after")
    result = partitioner.execute({}, mode)
    assert result["after"] == ("later" if fallback is answers_later else f"instead of {result.errors['hangs']}")
    assert result.ok
    assert isinstance(result.errors["hangs"], UnitTimeoutError)
    assert result.report.units["hangs"].used_fallback is True
    assert [type(error) for error in asked] == [UnitTimeoutError]


@in_every_mode
@pytest.mark.parametrize("fallback", [refuses, refuses_later], ids=["def", "async"])
def test_a_fallback_that_fails_leaves_a_unit_out_of_time(mode, fallback, clock):
    """TIMEOUT, not FAILED; and the run goes on."""
    hanging = Hanging(clock, 10.0)
    try:
        partitioner = QuantumPartitioner(max_workers=1, clock=clock)
        partitioner.add_unit(hanging, name="hangs", timeout=5, fallback=fallback)
        partitioner.add_unit(lambda ctx: "beside", name="beside")
        result = partitioner.execute({}, mode)
        assert states_of(result) == {"hangs": "timeout", "beside": "completed"}
        assert isinstance(result.failed["hangs"], UnitTimeoutError)
        assert any("no fallback either" in note for note in result.failed["hangs"].__notes__)
    finally:
        hanging.free.set()


@in_parallel_modes
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_slow_fallback_after_a_timeout_holds_up_no_other_timeout(mode, kind, clock):
    """The fallback of the first waits until the second, whose limit is longer, has run out of time as well."""
    second_ended, hanging = threading.Event(), Hanging()

    def slow(ctx, error):
        clock.advance(100)
        assert second_ended.wait(PATIENCE_S)
        return "slow"

    async def slow_coroutine(ctx, error):
        clock.advance(100)
        for _ in range(int(PATIENCE_S / 0.001)):
            if second_ended.is_set():
                return "slow"
            await asyncio.sleep(0.001)
        raise TimeoutError

    both = threading.Barrier(2)

    def first(ctx):
        both.wait(PATIENCE_S)
        clock.advance(10)
        return hanging(ctx)

    def second(ctx):
        both.wait(PATIENCE_S)
        return hanging(ctx)

    try:
        partitioner = QuantumPartitioner(max_workers=3, clock=clock)
        fallback = slow if kind == "function" else slow_coroutine
        partitioner.add_unit(first, name="first", timeout=5, fallback=fallback)
        partitioner.add_unit(second, name="second", timeout=50)
        partitioner.on_unit_error = lambda unit_id, error: second_ended.set()
        result = partitioner.execute({}, mode)
        assert states_of(result) == {"first": "completed", "second": "timeout"}
        assert result["first"] == "slow"
    finally:
        hanging.free.set()


@in_parallel_modes
def test_a_deadline_ends_a_fallback_too(mode, clock):
    """It hangs as its unit did."""
    hanging, stands_in = Hanging(clock, 10.0), Hanging(clock, 100.0)
    try:
        partitioner = QuantumPartitioner(max_workers=1, clock=clock)
        partitioner.add_unit(hanging, name="hangs", timeout=5, fallback=lambda ctx, error: stands_in(ctx))
        result = partitioner.execute({}, mode, deadline=50)
        assert states_of(result) == {"hangs": "timeout"}
        assert result.report.stopped == "deadline"
        assert result.report.abandoned == ("hangs",)
    finally:
        hanging.free.set()
        stands_in.free.set()


# ---- insisting


@in_every_lane
def test_recovery_is_content_with_fallbacks(lane):
    """Every unit has a result."""
    partitioner = lane.partitioner({"good": lambda ctx: 1})
    partitioner.add_unit(lane.unit(broken), name="bad", metadata={"fallback_value": None})
    assert partitioner.execute_with_recovery({}) == {"good": 1, "bad": None}


@in_every_lane
def test_recovery_raises_where_a_failed_unit_has_no_fallback(lane):
    """With what there is."""
    partitioner = lane.partitioner({"good": lambda ctx: 1, "bad": broken, "after": len}, {"after": ["bad"]})
    partitioner.add_unit(lane.unit(broken), name="stand_in", metadata={"fallback_value": 2})
    with pytest.raises(ExecutionError) as raised:
        partitioner.execute_with_recovery({})
    assert raised.value.partial_results == {"good": 1, "stand_in": 2}
    assert raised.value.failed_tasks == ["bad"]
    assert str(raised.value.errors["bad"]) == "broken"
