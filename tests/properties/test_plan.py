"""Plans agree with networkx about levels, critical paths, relatives and rings."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import (
    CircularDependency,
    CircularDependencyError,
    ExecutionPlan,
    MissingDependencyError,
    QuantumPartitioner,
    QuantumUnit,
    build_graph,
    graph,
)
from tests.properties.checks import numbers
from tests.properties.oracle import digraph
from tests.strategies import digraphs, examples, graphs, large_dags, odd_ids, shuffled

ANY_DAG = st.one_of(graphs(), large_dags()).flatmap(shuffled)


def plan_of(needs, durations=()):
    """A plan of units `u0`, `u1`, ...

    Returns:
        The plan.
    """
    partitioner = QuantumPartitioner()
    for number, found in enumerate(needs):
        metadata = {"expected_duration": durations[number]} if durations else None
        partitioner.add_unit(lambda context: None, [f"u{need}" for need in found], f"u{number}", metadata=metadata)
    return partitioner.build_execution_plan()


@examples(4)
@given(needs=ANY_DAG)
def test_levels_are_the_topological_generations_in_the_order_added(needs):
    """Also: no unit of a level depends on another one, and the counts are those of the levels."""
    plan = plan_of(needs)
    generations = [sorted(level) for level in nx.topological_generations(digraph(needs))]
    assert [numbers(level) for level in plan.levels] == generations
    assert plan.execution_order == plan.levels
    assert plan.max_level == len(generations)
    assert plan.max_parallel_units == max(map(len, generations), default=0)
    assert plan.unit_count == len(needs)


@examples(4)
@given(needs=ANY_DAG)
def test_relatives_are_those_of_networkx(needs):
    """Dependencies, dependents, ancestors, descendants, and an order in which each unit comes after what it needs."""
    plan, dag = plan_of(needs), digraph(needs)
    assert {number: set(numbers(plan.dependencies[f"u{number}"])) for number in dag} == {
        number: set(dag.predecessors(number)) for number in dag
    }
    assert {number: set(numbers(plan.dependents[f"u{number}"])) for number in dag} == {
        number: set(dag.successors(number)) for number in dag
    }
    place = {number: place for place, number in enumerate(plan.order)}
    assert sorted(plan.order) == sorted(dag)
    assert all(place[need] < place[number] for need, number in dag.edges)
    for number in list(dag)[:20]:
        assert graph.reachable(plan.children, [number]) == nx.descendants(dag, number) | {number}
        assert graph.reachable(plan.needs, [number]) == nx.ancestors(dag, number) | {number}


@examples(4)
@given(needs=ANY_DAG, data=st.data())
def test_the_critical_path_is_a_heaviest_chain(needs, data):
    """Weighed by whatever the units are expected to take: it is a chain from end to end, and networkx finds none that is heavier."""
    duration = st.one_of(st.integers(0, 9), st.floats(0, 1e6))
    weights = data.draw(st.lists(duration, min_size=len(needs), max_size=len(needs)))
    plan, dag = plan_of(needs, weights), digraph(needs)
    path = numbers(plan.critical_path)
    assert all(dag.has_edge(*step) for step in nx.utils.pairwise(path))
    weighed = nx.DiGraph()
    weighed.add_nodes_from(["end", *dag])
    weighed.add_weighted_edges_from(
        (number, after, weights[number]) for number in dag for after in (*dag.successors(number), "end")
    )
    heaviest = nx.dag_longest_path_length(weighed) if needs else 0
    assert sum(weights[number] for number in path) == pytest.approx(heaviest)
    ranks = graph.upward_ranks(plan.children, plan.order, weights)
    assert max(ranks, default=0) == pytest.approx(heaviest)
    assert all(
        ranks[number]
        == pytest.approx(weights[number] + max((ranks[after] for after in dag.successors(number)), default=0))
        for number in dag
    )


@examples(8)
@given(needs=digraphs())
def test_a_ring_is_found_where_there_is_one_and_the_path_is_a_ring(needs):
    """Any edges at all: an error exactly where networkx sees a cycle, and the path in it goes round once along real edges."""
    dag = digraph(needs)
    if nx.is_directed_acyclic_graph(dag):
        assert len(plan_of(needs)) == len(needs)
        return
    with pytest.raises(CircularDependencyError) as caught:
        plan_of(needs)
    with pytest.raises(CircularDependency) as caught_too:
        build_graph({f"u{number}": [f"u{need}" for need in found] for number, found in enumerate(needs)})
    assert type(caught_too.value) is CircularDependency
    for error in (caught.value, caught_too.value):
        path = numbers(error.path)
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1
        assert all(dag.has_edge(need, number) for number, need in nx.utils.pairwise(path))


@examples(2)
@given(needs=ANY_DAG, data=st.data())
def test_a_plan_restricted_to_outputs_is_what_they_need(needs, data):
    """The outputs and their ancestors, with the same edges, in the same order."""
    wanted = data.draw(st.sets(st.sampled_from(range(len(needs)))) if needs else st.just(set()))
    dag = digraph(needs)
    kept = wanted.union(*(nx.ancestors(dag, number) for number in wanted))
    part = plan_of(needs).restricted_to(f"u{number}" for number in wanted)
    assert numbers(part.units) == sorted(kept)
    assert {(need, number) for number in kept for need in numbers(part.dependencies[f"u{number}"])} == set(
        dag.subgraph(kept).edges
    )


@given(ids=st.lists(odd_ids(), min_size=1, unique=True), data=st.data())
def test_any_ids_make_a_plan_run_and_draw(ids, data):
    """A chain of units with odd ids: as many nodes and edges in the drawings as there are, and every result under its id."""
    partitioner = QuantumPartitioner()
    for before, unit_id in zip([None, *ids], ids, strict=False):
        partitioner.add_unit(lambda context: context.unit_id, [before] if before else [], unit_id)
    plan = partitioner.build_execution_plan()
    assert [unit_id for level in plan.levels for unit_id in level] == ids
    assert partitioner.execute({}, "sequential") == {unit_id: unit_id for unit_id in ids}
    for drawing, arrow in ((plan.visualize(), " -> "), (plan.to_mermaid(), " --> ")):
        lines = drawing.split("\n")
        assert sum(line.lstrip().startswith("n") and arrow in line for line in lines) == len(ids) - 1
        assert sum(line.lstrip().startswith("n") and "[" in line for line in lines) == len(ids) + (arrow == " -> ")


@examples(2)
@given(needs=graphs(), data=st.data())
def test_a_dependency_that_is_not_there_is_named(needs, data):
    """Take a unit that others need away: the error names one of those others, and the missing one."""
    dag = digraph(needs)
    needed = [number for number in dag if dag.out_degree(number)]
    if not needed:
        return
    gone = data.draw(st.sampled_from(needed))
    units = {
        f"u{number}": QuantumUnit(f"u{number}", print, [f"u{need}" for need in found])
        for number, found in enumerate(needs)
        if number != gone
    }
    with pytest.raises(MissingDependencyError) as caught:
        ExecutionPlan.of(units)
    assert caught.value.dependency == f"u{gone}"
    assert int(caught.value.unit_id[1:]) in dag.successors(gone)
