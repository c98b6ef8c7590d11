"""The words that everything else uses."""

import functools
import pickle

import pytest

from qp_core.plugins import Plugins
from qp_core.vocabulary import ExecutionMode, UnitState, is_awaitable, is_coroutine_function


def test_the_states_are_the_seeds():
    """Names, values and order."""
    assert [(state.name, state.value) for state in UnitState] == [
        ("PENDING", "pending"),
        ("RUNNING", "running"),
        ("COMPLETED", "completed"),
        ("FAILED", "failed"),
        ("SKIPPED", "skipped"),
        ("CANCELED", "canceled"),
        ("TIMEOUT", "timeout"),
    ]


def test_the_modes_are_the_seeds():
    """Names, values and order."""
    assert [(mode.name, mode.value) for mode in ExecutionMode] == [
        ("SEQUENTIAL", "sequential"),
        ("PROCESS", "process"),
        ("THREAD", "thread"),
        ("ASYNC", "async"),
        ("CUSTOM", "custom"),
    ]


@pytest.mark.parametrize("state", UnitState)
def test_a_unit_ends_in_one_of_the_last_five_states(state):
    """Those after PENDING and RUNNING."""
    assert state.is_final is (state not in {UnitState.PENDING, UnitState.RUNNING})


@pytest.mark.parametrize("state", UnitState)
def test_only_two_ends_are_the_units_own_failure(state):
    """It raised, or ran out of time; what was skipped or canceled has done nothing wrong."""
    assert state.is_failure is (state in {UnitState.FAILED, UnitState.TIMEOUT})


@pytest.mark.parametrize("member", [*UnitState, *ExecutionMode], ids=str)
def test_members_stay_themselves_in_another_process(member):
    """So that `is` holds there too."""
    assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize("mode", ExecutionMode)
def test_every_mode_is_the_name_of_an_executor_that_is_there(mode):
    """The core knows none of them by name; the enum is the one list."""
    assert mode.value in Plugins.installed().provided("executors")


async def coroutine(context):
    """Waits for nothing."""


def plain(context):
    """Returns something to be awaited."""
    return coroutine(context)


class Called:
    async def __call__(self, context):
        """Waits for nothing."""

    async def method(self, context):
        """Waits for nothing."""

    def plain(self, context):
        """Returns something to be awaited."""
        return coroutine(context)


class Awaited:
    def __await__(self):
        return iter(())


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (coroutine, True),
        (Called(), True),
        (Called().method, True),
        (functools.partial(coroutine), True),
        (plain, False),
        (Called().plain, False),
        (Called, False),
        (functools.partial(plain), False),
        (len, False),
        (functools.cache(coroutine), False),
    ],
    ids=[
        "coroutine function",
        "instance",
        "bound method",
        "partial",
        "function",
        "plain method",
        "class",
        "plain partial",
        "builtin",
        "wrapped in C",
    ],
)
def test_what_is_known_to_be_a_coroutine_function(function, known):
    """Of others only the result tells whether it has to be awaited."""
    assert is_coroutine_function(function) is known


def test_what_has_to_be_awaited():
    """A coroutine, or whatever else says so; not the function that makes one, nor a class of such things."""
    made = plain(None)
    assert is_awaitable(made)
    made.close()
    assert is_awaitable(Awaited())
    assert not any(map(is_awaitable, (coroutine, Awaited, None, 5, [], Called())))
