"""Highest priority first."""

import math

import pytest

from qp_core import QuantumPartitioner
from qp_plugins.strategies.priority import Priority, qp_strategies


def units(*priorities):
    """A partitioner of independent units with these priorities, named after their place, that note their order."""
    partitioner, ran = QuantumPartitioner(), []
    for place, priority in enumerate(priorities):
        name = str(place)
        partitioner.add_unit(lambda ctx, name=name: ran.append(name), name=name, priority=priority)
    return partitioner, ran


@pytest.mark.parametrize(
    ("priorities", "expected"),
    [
        pytest.param((), "", id="none"),
        pytest.param((1, 2, 3), "210", id="rising"),
        pytest.param((0, 0, 0), "012", id="equal"),
        pytest.param((1, 5, 1, 5), "1302", id="equals in the order added"),
        pytest.param((-1, 0, -2), "102", id="negative"),
        pytest.param((0.5, math.inf, 1e300, -math.inf), "1203", id="infinite"),
        pytest.param((10**400, 1, 10**400 + 1), "201", id="larger than any float"),
    ],
)
def test_units_are_ordered_by_priority_and_then_by_the_order_added(priorities, expected):
    """A stable sort: what is equal stays as it was."""
    partitioner, _ = units(*priorities)
    assert "".join(Priority().order(partitioner.build_execution_plan())) == expected


def test_a_run_takes_the_most_urgent_ready_unit_first():
    """With one worker, the order of the ranks is the order of the run."""
    partitioner, ran = units(1, 3, 2)
    partitioner.execute_with_strategy({}, "priority", "sequential")
    assert ran == ["1", "2", "0"]


def test_priority_never_makes_a_unit_wait_for_another():
    """Low -> next(9) beside middle(5): next goes before middle as soon as low, which it needs, is done."""
    partitioner, ran = QuantumPartitioner(), []
    for name, needs, priority in (("low", [], 6), ("middle", [], 5), ("next", ["low"], 9)):
        partitioner.add_unit(lambda ctx, name=name: ran.append(name), needs, name, priority=priority)
    partitioner.execute_with_strategy({}, "priority", "sequential")
    assert ran == ["low", "next", "middle"]


def test_the_strategy_is_provided_under_its_name():
    """As `execute(strategy="priority")` asks for it."""
    assert qp_strategies() == {"priority": Priority}
