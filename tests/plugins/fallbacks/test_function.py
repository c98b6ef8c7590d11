"""`unit.fallback`: functions, units, and lists of these."""

import asyncio

import pytest

from qp_core import ExecutionContext, QuantumPartitioner, QuantumUnit, UnitState
from qp_plugins.fallbacks.function import qp_fallback

MODES = ["sequential", "thread", "async"]


def fail(ctx):
    """A unit that fails."""
    msg = "broken"
    raise ValueError(msg)


def refuse(ctx, error):
    """A fallback that fails too."""
    msg = f"no stand-in for {error}"
    raise LookupError(msg)


async def refuse_later(ctx, error):
    """The same as a coroutine."""
    await asyncio.sleep(0)
    refuse(ctx, error)


async def later(ctx, error):
    """A fallback that waits before it answers."""
    await asyncio.sleep(0)
    return f"later than {error}"


def executed(fallback, mode="thread", context=None):
    """Run one failing unit with this fallback."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(fail, name="unit", fallback=fallback)
    return partitioner.execute({} if context is None else context, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        pytest.param(lambda ctx, error: f"instead of {error}", "instead of broken", id="function"),
        pytest.param(lambda ctx, error: None, None, id="none"),
        pytest.param(later, "later than broken", id="coroutine function"),
        pytest.param(QuantumUnit("spare", lambda ctx: f"spare with {ctx['n']}"), "spare with 3", id="unit"),
        pytest.param([refuse, lambda ctx, error: "second"], "second", id="list"),
        pytest.param((refuse, refuse, later), "later than broken", id="tuple ending in a coroutine"),
        pytest.param([refuse_later, lambda ctx, error: "second"], "second", id="coroutine that fails, then a function"),
        pytest.param([refuse_later, refuse_later, later], "later than broken", id="coroutines one after another"),
        pytest.param([refuse_later, refuse, QuantumUnit("spare", lambda ctx: 0)], 0, id="everything"),
    ],
)
def test_the_first_choice_that_gives_a_value_stands_in(mode, fallback, expected):
    """In every mode."""
    result = executed(fallback, mode, {"n": 3})
    assert result == {"unit": expected}
    assert result.report.units["unit"].used_fallback
    assert str(result.errors["unit"]) == "broken"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("fallback", "notes"),
    [
        pytest.param(refuse, ["its fallback refuse raised LookupError: no stand-in for broken"], id="function"),
        pytest.param([], [], id="no choice at all"),
        pytest.param(
            [QuantumUnit("spare", fail), refuse],
            [
                "its fallback 'spare' raised ValueError: broken",
                "its fallback refuse raised LookupError: no stand-in for broken",
            ],
            id="list",
        ),
    ],
)
def test_a_fallback_that_gives_nothing_leaves_its_unit_failed_with_its_own_error(mode, fallback, notes):
    """What the fallbacks raised is noted on it, in their order."""
    result = executed(fallback, mode)
    assert result.report.units["unit"].state is UnitState.FAILED
    error = result.failed["unit"]
    assert (type(error), str(error)) == (ValueError, "broken")
    assert [note for note in error.__notes__ if "fallback" in note] == notes


@pytest.mark.parametrize("mode", MODES)
def test_a_coroutine_that_fails_as_the_last_choice_leaves_its_unit_failed(mode):
    """The core notes what it raised."""
    result = executed([refuse, refuse_later], mode)
    error = result.failed["unit"]
    assert str(error) == "broken"
    told = [note for note in error.__notes__ if "fallback" in note]
    assert len(told) == 2
    assert all("LookupError: no stand-in for broken" in note for note in told)


def test_a_fallback_sees_what_its_unit_saw():
    """The caller's keys, the results of the dependencies, and the error."""
    partitioner, seen = QuantumPartitioner(), []
    partitioner.add_unit(lambda ctx: 20, name="before")
    partitioner.add_unit(
        fail, ["before"], "unit", fallback=lambda ctx, error: seen.append((ctx["n"], ctx["before"], error))
    )
    result = partitioner.execute({"n": 1})
    assert seen == [(1, 20, result.errors["unit"])]


def test_a_unit_without_fallback_gets_none():
    """None is no list and no function, and nothing is noted."""
    error = ValueError("broken")
    assert qp_fallback(QuantumUnit("unit", fail), error, {}) is None
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("mode", MODES)
def test_what_earlier_choices_raised_is_noted_also_where_a_later_one_answers(mode):
    """In their order, the coroutine's too."""
    error = executed([refuse, refuse_later, lambda ctx, error: 1], mode).errors["unit"]
    assert [note.split()[2] for note in error.__notes__ if "fallback" in note] == ["refuse", "refuse_later"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda coroutine: coroutine, id="function"),
        pytest.param(lambda coroutine: QuantumUnit("spare", coroutine), id="unit"),
    ],
)
def test_a_coroutine_function_is_called_only_when_it_is_awaited(make):
    """A run that is stopped before that leaves no coroutine that nobody has awaited."""
    called = []

    async def spare(ctx, error=None):
        called.append(ctx)
        return "spare"

    answer = qp_fallback(QuantumUnit("unit", fail, fallback=make(spare)), ValueError(), {"n": 1})
    assert called == []

    async def await_it():
        return await answer.value

    assert asyncio.run(await_it()) == "spare"
    assert called == [{"n": 1}]


def test_ctrl_c_in_a_fallback_is_no_failure_of_the_fallback():
    """What is no Exception goes up."""

    def interrupted(ctx, error):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qp_fallback(QuantumUnit("unit", fail, fallback=[interrupted, lambda ctx, error: 1]), ValueError(), {})


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_function_that_returns_a_coroutine_is_followed_by_the_others(mode):
    """What it returns is awaited, and fails; the next choice stands in. fails."""

    async def falls():
        await asyncio.sleep(0)
        raise LookupError

    partitioner = QuantumPartitioner(1, mode)
    partitioner.add_unit(
        lambda ctx: 1 / 0, name="fails", fallback=[lambda ctx, error: falls(), lambda ctx, error: "second"]
    )
    result = partitioner.execute({})
    assert result == {"fails": "second"}
    assert result.report.units["fails"].used_fallback


def test_a_coroutine_that_nobody_comes_to_await_is_closed_with_its_substitute():
    """Else Python would say that it was never awaited, when a run ends just then."""

    async def value():
        return 1

    unit = QuantumUnit("a", str, fallback=[lambda ctx, error: value(), lambda ctx, error: 2])
    substitute = qp_fallback(unit, ValueError(), ExecutionContext())
    substitute.value.close()
    assert asyncio.run(_finished(qp_fallback(unit, ValueError(), ExecutionContext()).value)) == 1


async def _finished(value):
    return await value
