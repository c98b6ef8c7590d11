"""Executions inside of units: they share the outer run's budget, lend their slot to it, and always come to an end."""

import functools
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import QuantumPartitioner
from tests.properties.bodies import partitioner_of
from tests.properties.checks import check_order
from tests.properties.journal import Given, Journal
from tests.properties.lanes import STRATEGIES
from tests.properties.oracle import Expected
from tests.strategies import examples, graphs, of_graph, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

PATIENCE_S = 60  # only ever spent by a test that fails
MODES = ("sequential", "thread", "async")


class Leaf(Journal):
    """A run's own journal, which also tells one that all runs of a nest share."""

    def __init__(self, name, shared):
        super().__init__()
        self._name = name
        self._shared = shared

    def enter(self, number):
        """A unit that executes nothing itself has been called."""
        self._shared.enter((self._name, number))
        return super().enter(number)

    def leave(self, number):
        """It is about to end."""
        super().leave(number)
        self._shared.leave((self._name, number))


def nest(work_of, mode, levels, shared, found, name):
    """The function of a unit that executes a work, beside whose units there is one that does the same, and so on.

    Args:
        work_of: Makes a work.
        mode: Where the works run.
        levels: How many levels of executions there are, from this unit on.
        shared: The journal of all units that execute nothing.
        found: Where each run's work, journal and result are left.
        name: Whose function it is.

    Returns:
        A function.
    """
    work = work_of()
    deeper = nest(work_of, mode, levels - 1, shared, found, f"{name}.deeper") if levels > 1 else None

    def execute(context):
        journal, inner = Leaf(name, shared), partitioner_of(work)
        if deeper is not None:
            inner.add_unit(deeper, name="deeper")
        found.append((work, journal, inner.execute({"given": Given(journal)}, mode)))

    return execute


def finished(call):
    """Call something that might wait for ever, in a thread.

    Returns:
        What it returns.
    """
    ends = []
    thread = threading.Thread(target=lambda: ends.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert ends, "the nest of runs has come to a standstill, or raised"
    return ends[0]


@given(
    outer=graphs(),
    works=st.lists(works(), min_size=1, max_size=4),
    modes=st.tuples(st.sampled_from(MODES), st.sampled_from(MODES)),
    workers=st.integers(1, 4),
    levels=st.integers(1, 3),
    strategy=st.sampled_from(STRATEGIES),
)
def test_executions_in_units_share_the_budget_of_the_outermost(outer, works, modes, workers, levels, strategy):
    """Units that do the work itself are never more at once than the outermost run was granted, and every run ends as it should."""
    shared, found = Journal(), []
    outer_mode, inner_mode = modes
    supply = itertools.cycle(works)
    partitioner = QuantumPartitioner(max_workers=workers)
    for number, needs in enumerate(outer):
        function = nest(functools.partial(next, supply), inner_mode, levels, shared, found, f"u{number}")
        partitioner.add_unit(function, [f"u{need}" for need in needs], f"u{number}")
    result = finished(lambda: partitioner.execute({}, outer_mode, strategy=strategy))
    result.raise_for_failures()
    assert len(found) == len(outer) * levels
    for work, journal, inner in found:
        expected = Expected(work)
        check_order(work, journal)
        assert journal.calls() == {number: count for number, count in expected.calls.items() if count}
        assert {number: inner.report.units[f"u{number}"].state for number in range(len(work))} == expected.states
        assert [inner[f"u{number}"] for number in expected.values] == list(expected.values.values())
    bound = 1 if outer_mode == "sequential" else workers
    assert shared.most_at_once() <= bound


@examples(2)
@given(workers=st.integers(1, 3), width=st.integers(1, 6), inner=st.integers(1, 6), mode=st.sampled_from(MODES[1:]))
def test_an_inner_run_uses_what_the_outer_one_leaves_free(workers, width, inner, mode):
    """Wide works inside of a few units: as many at once as allowed, if there are so many at all."""
    shared, found = Journal(), []
    meet = threading.Barrier(min(workers, inner), timeout=PATIENCE_S)

    def body(context):
        shared.enter(context.unit_id)
        meet.wait()
        shared.leave(context.unit_id)

    def execute(context):
        inside = QuantumPartitioner(max_workers=workers)
        for number in range(meet.parties * inner):
            inside.add_unit(body, name=f"{context.unit_id}.{number}")
        found.append(inside.execute({}, mode))

    partitioner = QuantumPartitioner(max_workers=workers)
    for number, needs in enumerate(of_graph([(number - 1,) if number else () for number in range(width)]).parts):
        partitioner.add_unit(execute, [f"u{need}" for need in needs.needs], f"u{number}")
    finished(lambda: partitioner.execute({}, mode)).raise_for_failures()
    for result in found:
        result.raise_for_failures()
    assert shared.most_at_once() == meet.parties or workers > meet.parties
    assert shared.most_at_once() <= workers
