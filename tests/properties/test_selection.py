"""`outputs` runs what is needed and nothing else, and lets go of what nobody needs any more; `known` units do not run."""

import threading
import weakref
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import QuantumPartitioner, UnitState
from tests.properties.bodies import partitioner_of
from tests.properties.checks import check_order, numbers
from tests.properties.journal import Given, Journal
from tests.properties.lanes import STRATEGIES, every_lane
from tests.properties.oracle import Expected, digraph, graph_of
from tests.strategies import examples, graphs, shuffled, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")


@every_lane()
@examples(0.6)
@given(work=works(), strategy=st.sampled_from(STRATEGIES), data=st.data())
def test_outputs_run_exactly_their_ancestors_and_known_units_do_not_run(lane, work, strategy, data):
    """With any outputs and any known results: who runs, what comes of it, and which results are kept.

    What only known units would need does not run either.
    """
    some = st.sets(st.sampled_from(range(len(work)))) if len(work) else st.just(set())
    outputs = data.draw(st.one_of(st.none(), some), label="outputs")
    known = dict.fromkeys(data.draw(some, label="known"), -7)
    journal = Journal()
    result = lane.run(
        partitioner_of(work, lane.kind),
        {"given": Given(journal)},
        strategy=strategy,
        outputs=None if outputs is None else [f"u{number}" for number in outputs],
        known={f"u{number}": value for number, value in known.items()},
    )
    expected = Expected(work, known=known)
    part = set(range(len(work)))
    if outputs is not None:
        dag = graph_of(work)
        dag.remove_edges_from(list(dag.in_edges(known)))  # nothing is needed for what is known
        part = outputs.union(*(nx.ancestors(dag, number) for number in outputs))
    check_order(work, journal)
    assert journal.calls() == Counter({number: expected.calls[number] for number in part if expected.calls[number]})
    assert numbers(result.report.units) == sorted(part)
    assert {number: result.report.units[f"u{number}"].state for number in part} == {
        number: expected.states[number] for number in part
    }
    kept = part if outputs is None else outputs
    assert dict(result) == {f"u{number}": expected.values[number] for number in kept if number in expected.values}
    assert {number for number in part if result.report.units[f"u{number}"].known} == set(known) & part
    for number in part - kept:
        if expected.states[number] is UnitState.COMPLETED:
            with pytest.raises(KeyError, match="freed after its last use"):
                result[f"u{number}"]


PATIENCE_S = 30  # only ever spent by a test that fails


class Token:
    """A result whose end can be seen."""


@given(data=st.data(), graph=graphs(), strategy=st.sampled_from(STRATEGIES))
def test_with_outputs_a_result_is_let_go_after_its_last_use(data, graph, strategy):
    """In sequential mode: when a unit begins, only results that are outputs, or that somebody still needs, are alive."""
    needs = data.draw(shuffled(graph))
    outputs = data.draw(st.sets(st.sampled_from(range(len(needs))), min_size=1)) if needs else set()
    dag = digraph(needs)
    alive, ended, wrong = {}, set(), []

    def body(number):
        def run(context):
            for other, reference in alive.items():
                wanted = other in outputs or any(user not in ended for user in dag.successors(other) if user in part)
                if reference() is not None and not wanted:
                    wrong.append((number, other))
            ended.add(number)
            token = Token()
            alive[number] = weakref.ref(token)
            return token

        return run

    part = outputs.union(*(nx.ancestors(dag, number) for number in outputs))
    partitioner = QuantumPartitioner()
    for number, found in enumerate(needs):
        partitioner.add_unit(body(number), [f"u{need}" for need in found], f"u{number}")
    result = partitioner.execute({}, "sequential", strategy=strategy, outputs=[f"u{number}" for number in outputs])
    assert ended == part
    assert wrong == []
    assert {number for number, reference in alive.items() if reference() is not None} == outputs
    assert set(result) == {f"u{number}" for number in outputs}


def test_a_result_whose_only_user_was_skipped_while_it_was_made_is_let_go():
    """The failure skips `out` before `slow` has ended; then nobody will ever use what `slow` returns.

    bad, slow -> out
    """
    skipped, kept = threading.Event(), []

    class Watch:
        """Notices that `out` was skipped."""

        def qp_unit_finished(self, event):
            if event.unit_id == "out":
                skipped.set()

    def slow(context):
        assert skipped.wait(PATIENCE_S)
        token = Token()
        kept.append(weakref.ref(token))
        return token

    def bad(context):
        raise ValueError

    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(bad, name="bad")
    partitioner.add_unit(slow, name="slow")
    partitioner.add_unit(lambda context: None, ["bad", "slow"], "out")
    result = partitioner.execute({}, "thread", outputs=["out"], telemetry=[Watch()])
    assert result == {}
    assert result.report.units["slow"].state is UnitState.COMPLETED
    assert kept[0]() is None
