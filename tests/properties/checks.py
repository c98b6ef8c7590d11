"""What must hold after every run, whatever ran and wherever."""

from collections import Counter

import networkx as nx

from qp_core import UnitState
from tests.properties.bodies import Fault
from tests.properties.oracle import graph_of


def numbers(ids):
    """The numbers in ids such as `u7`.

    Returns:
        A list.
    """
    return [int(unit_id[1:]) for unit_id in ids]


def check_run(work, expected, journal, result, *, bound=None):
    """Everything that a run that nobody stopped must have done, against the oracle.

    Args:
        work: What ran.
        expected: What the oracle says.
        journal: What the units wrote down.
        result: What the engine says.
        bound: The most units at once.
    """
    check_order(work, journal)
    assert journal.calls() == Counter({number: count for number, count in expected.calls.items() if count})
    assert bound is None or journal.most_at_once() <= bound
    check_states(work, expected, result)
    check_values(expected, result)
    check_failures(work, expected, result)
    check_cone(work, result)


def check_order(work, journal):
    """No unit began before all calls of its dependencies had ended, and no unit ran twice at once."""
    inside, last_left, first_entered = set(), {}, {}
    for step, (number, entered) in enumerate(journal.steps()):
        if entered:
            assert number not in inside
            inside.add(number)
            first_entered.setdefault(number, step)
        else:
            inside.remove(number)
            last_left[number] = step
    assert not inside
    for number, step in first_entered.items():
        for need in work.parts[number].needs:
            assert last_left.get(need, -1) < step


def check_states(work, expected, result):
    """Each unit ended in the state that it should have, and states partition the units."""
    records = result.report.units
    assert list(records) == work.ids
    assert {number: record.state for number, record in enumerate(records.values())} == expected.states
    assert all(record.state.is_final for record in records.values())
    assert sum(result.report.counts.values()) == len(work)
    by_state = [set(result.report.in_state(state)) for state in UnitState]
    assert sum(map(len, by_state)) == len(set().union(*by_state)) == len(work)
    assert result.ok == (set(expected.states.values()) <= {UnitState.COMPLETED})


def check_values(expected, result):
    """The results are those of the oracle, of the same types, in plan order."""
    ids = [f"u{number}" for number in sorted(expected.values)]
    assert list(result) == ids
    found = [(type(result[unit_id]), result[unit_id]) for unit_id in ids]
    assert found == [(type(expected.values[number]), expected.values[number]) for number in sorted(expected.values)]


def check_failures(work, expected, result):
    """Errors are the units' own, of the last attempt; attempts are counted exactly; fallbacks are marked."""
    for number, unit_id in enumerate(work.ids):
        record, error = result.report.units[unit_id], result.errors.get(unit_id)
        assert record.attempts == expected.calls[number]
        fault = expected.last_fault.get(number)
        assert (error is None) == (fault is None)
        if fault is not None:
            assert type(error) is Fault
            assert (error.number, error.attempt) == (number, fault)
        assert record.used_fallback == (fault is not None and record.state is UnitState.COMPLETED)
    assert list(result.failed) == [f"u{number}" for number in sorted(expected.numbers(UnitState.FAILED))]


def check_cone(work, result):
    """What was skipped is what depends on what failed, no more and no less, and each names a failed unit that it depends on."""
    graph = graph_of(work)
    failed = numbers(result.report.in_state(UnitState.FAILED, UnitState.TIMEOUT))
    cone = set().union(*(nx.descendants(graph, number) for number in failed)) if failed else set()
    assert set(numbers(result.skipped)) == cone - set(failed)
    for number, root in zip(numbers(result.skipped), numbers(result.skipped.values()), strict=True):
        assert root in failed
        assert root in nx.ancestors(graph, number)
