"""The words that everything else uses."""

import pickle

import pytest

from qp_core.plugins import Plugins
from qp_core.vocabulary import ExecutionMode, UnitState


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
