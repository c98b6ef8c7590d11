"""One attempt as an object that a pool can call: in this process as it is, in another one as bytes; nothing that goes wrong on the way hurts the pool."""

import asyncio
import contextvars
import pickle

import pytest

from qp_core import ExecutionContext
from qp_core.job import Job, JobOutcome


def job_of(function, argument=None, *, variables=None, **keys):
    """A job that is called with its context unless it is given another argument."""
    context = ExecutionContext(keys)
    return Job("unit", function, context if argument is None else argument, context, variables)


def travelled(thing):
    """What comes out on the other side."""
    return pickle.loads(pickle.dumps(thing))


async def later(ctx):
    """A coroutine function."""
    await asyncio.sleep(0)
    return ctx["n"] + 1


def fails(ctx):
    """A unit that fails."""
    raise LookupError("lost")


class Unpicklable:
    """Cannot travel."""

    def __reduce__(self):
        raise TypeError("stays here")


class Explosive:
    """Can travel, but not arrive."""

    def __reduce__(self):
        return explode, ()


def explode():
    """What unpickling runs into."""
    raise OSError("gone off")


class Awkward(Exception):  # noqa: N818 - what matters is that it does not survive pickling
    """An exception that cannot be unpickled: it needs two arguments and keeps one."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second


# ---- here


def test_a_job_calls_its_unit_with_the_context():
    """Result, metrics and writes are in the outcome, with times that fit."""

    def unit(ctx):
        ctx["written"] = 1
        ctx.record_metric("metric", 2)
        return ctx["n"] + 1

    outcome = job_of(unit, n=1)()
    assert (outcome.value, outcome.error, outcome.trace) == (2, None, "")
    assert (outcome.metrics, outcome.writes) == ({"metric": 2}, {"written": 1})
    assert 0 < outcome.started <= outcome.ended


def test_a_job_passes_on_an_argument_that_is_no_context():
    """As it is."""
    given = object()
    assert job_of(lambda argument: argument, given)().value is given


@pytest.mark.parametrize("function", [later, lambda ctx: later(ctx)], ids=["async_def", "returns_a_coroutine"])  # noqa: PLW0108 - that is the case
def test_a_job_awaits_what_is_to_be_awaited(function):
    """On a loop of its own."""
    assert job_of(function, n=1)().value == 2


@pytest.mark.parametrize("kind", [LookupError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopIteration])
@pytest.mark.parametrize("coroutine", [False, True], ids=["function", "coroutine"])
def test_a_job_never_raises(kind, coroutine):
    """Whatever its unit raises is in the outcome, and with a traceback."""

    def function(ctx):
        raise kind("out")

    async def coroutine_function(ctx):
        raise kind("out")

    outcome = job_of(coroutine_function if coroutine else function)()
    # Python itself makes a RuntimeError of a StopIteration that leaves a coroutine.
    assert type(outcome.error) is (RuntimeError if coroutine and kind is StopIteration else kind)
    assert outcome.value is None
    assert f"{kind.__name__}: out" in outcome.trace
    assert outcome.error.__traceback__ is not None


def test_a_job_runs_in_the_context_variables_it_was_given():
    """Its coroutine too; they stay behind when it travels."""
    variable = contextvars.ContextVar("variable", default="default")
    variables = contextvars.copy_context()
    variables.run(variable.set, "given")

    async def unit(ctx):
        return variable.get()

    assert job_of(lambda ctx: variable.get(), variables=variables)().value == "given"
    assert job_of(unit, variables=variables)().value == "given"
    assert job_of(lambda ctx: variable.get())().value == "default"


# ---- elsewhere


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(len, 1, id="builtin"),
        pytest.param(lambda ctx: ctx["n"] * 2, 2, id="lambda"),
        pytest.param(later, 2, id="coroutine_function"),
    ],
)
def test_a_job_travels_with_its_function_and_context(function, expected):
    """Lambdas and closures by value."""
    assert travelled(job_of(function, n=1))().value == expected


def test_a_closure_takes_along_what_it_reaches():
    """A variable of the function around it."""
    more = [10]
    assert travelled(job_of(lambda ctx: ctx["n"] + more[0], n=1))().value == 11


def test_a_travelled_context_is_still_the_argument():
    """What the unit writes is seen on the way back."""

    def unit(ctx):
        ctx["written"] = 1

    assert travelled(job_of(unit, n=1))().writes == {"written": 1}


def test_an_argument_that_is_no_context_travels_beside_it():
    """A tuple."""
    assert travelled(job_of(lambda argument: argument, (1, 2)))().value == (1, 2)


def test_a_job_that_cannot_be_unpickled_fails_its_unit_where_it_was_to_run():
    """And not the pool's worker that unpickles it."""
    job = job_of(lambda ctx: 1)
    job.context["explosive"] = Explosive()
    outcome = travelled(job)()
    assert str(outcome.error) == "gone off"
    assert outcome.error.__notes__ == ["unit 'unit' could not be unpickled where it was to run"]
    assert "gone off" in outcome.trace


def test_a_job_that_cannot_be_pickled_says_so_to_whoever_gives_it_to_the_pool():
    """Before anything runs."""
    job = job_of(lambda ctx: 1)
    job.context["lock"] = Unpicklable()
    with pytest.raises(TypeError, match="stays here"):
        pickle.dumps(job)


# ---- and back


def test_an_outcome_travels_back():
    """With its value, times, metrics, and of writes the keys."""
    outcome = travelled(JobOutcome({"x": 1}, None, 1.0, 2.0, {"m": 1}, {"w": [1]}))
    assert (outcome.value, outcome.error, outcome.started, outcome.ended) == ({"x": 1}, None, 1.0, 2.0)
    assert outcome.metrics == {"m": 1}
    assert list(outcome.writes) == ["w"]


def test_an_exception_travels_back_with_its_traceback_as_text():
    """The object itself loses it."""
    outcome = travelled(job_of(fails)())
    assert (type(outcome.error), str(outcome.error)) == (LookupError, "lost")
    assert outcome.error.__traceback__ is None
    assert "in fails" in outcome.trace


@pytest.mark.parametrize("value", [Unpicklable(), Explosive()], ids=["cannot_leave", "cannot_arrive"])
def test_a_result_that_cannot_come_back_is_the_units_failure(value):
    """It says which part of the way it could not go."""
    outcome = travelled(job_of(lambda ctx: value)())
    assert outcome.value is None
    assert type(outcome.error) is RuntimeError
    assert "its result could not be brought back" in str(outcome.error)


def test_an_exception_that_cannot_come_back_is_told_in_words():
    """Its class, its text, and what is wrong with it."""

    def unit(ctx):
        raise Awkward("first", "second")

    outcome = travelled(job_of(unit)())
    assert type(outcome.error) is RuntimeError
    assert "Awkward: first" in str(outcome.error)
    assert "could not be brought back" in str(outcome.error)
    assert "in unit" in outcome.trace
