"""Pure algorithms on numbered graphs, against definitions and against naive searches of small random graphs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import graph
from tests.strategies import graphs, shuffled

DIAMOND = ((), (0,), (0,), (1, 2))


@st.composite
def shuffled_graphs(draw):
    """Acyclic; a node may need one with a higher number."""
    return draw(shuffled(draw(graphs())))


def chains_from(needs, node):
    """Every chain of dependencies that ends in a node (naive: exponential)."""
    if not needs[node]:
        return [(node,)]
    return [(*chain, node) for need in needs[node] for chain in chains_from(needs, need)]


def every_chain(needs):
    """Every chain from a node without dependencies to any node; of small graphs only."""
    return [chain for node in range(len(needs)) for chain in chains_from(needs, node)]


def small(needs):
    """Whether the naive searches end soon."""
    return sum(len(dependencies) for dependencies in needs) <= 25


# ---- edges turned round


@given(shuffled_graphs())
def test_children_are_the_needs_turned_round(needs):
    """Each edge once, in ascending order."""
    children = graph.children_of(needs)
    assert [list(found) for found in children] == [
        [node for node in range(len(needs)) for need in needs[node] if need == above] for above in range(len(needs))
    ]


def test_children_of_the_empty_graph():
    """None."""
    assert graph.children_of(()) == []


def test_a_dependency_named_twice_is_counted_twice():
    """So that who counts down a node's needs comes out at zero."""
    assert [list(found) for found in graph.children_of(((), (0, 0, 0)))] == [[1, 1, 1], []]


def test_children_may_be_numbers_that_are_there_already():
    """The very objects, so that a million edges share them."""
    nodes = [int(f"{1_000 + number}") - 1_000 for number in range(4)]
    nodes[3] = int("1003") - 1_000
    children = graph.children_of(DIAMOND, nodes)
    assert [list(found) for found in children] == [[1, 2], [3], [3], []]
    assert children[1][0] is nodes[3]


# ---- order


@given(shuffled_graphs())
def test_every_node_is_ordered_after_what_it_needs(needs):
    """Each once."""
    order = graph.topological_order(needs, graph.children_of(needs))
    place = {node: place for place, node in enumerate(order)}
    assert sorted(order) == list(range(len(needs)))
    assert all(place[need] < place[node] for node in range(len(needs)) for need in needs[node])


def test_nodes_that_do_not_wait_for_each_other_stand_breadth_first():
    """In the order of their numbers: 0, 1 and 4 need nothing, and 3 waits for 1, 2 for 3."""
    needs = ((), (), (3,), (1,), ())
    assert graph.topological_order(needs, graph.children_of(needs)) == [0, 1, 4, 3, 2]


@given(shuffled_graphs(), st.data())
def test_what_is_in_a_ring_or_behind_one_cannot_be_ordered(needs, data):
    """A back edge is added to a graph without a ring; the naive answer is who can reach itself, or reach one who can."""
    if not needs:
        return
    chain = data.draw(st.sampled_from(every_chain(needs) if small(needs) else [(0,)]))
    ringed = [list(dependencies) for dependencies in needs]
    ringed[chain[0]].append(chain[-1])
    stuck = {node for node in range(len(needs)) if set(chain) & graph.reachable(ringed, (node,))}
    order = graph.topological_order(ringed, graph.children_of(ringed))
    assert set(order) == set(range(len(needs))) - stuck


# ---- rings


@given(shuffled_graphs())
def test_a_graph_without_a_ring_has_none(needs):
    """None, not an empty list."""
    assert graph.find_cycle(needs) is None


@given(shuffled_graphs(), st.data())
def test_the_ring_that_is_found_is_one(needs, data):
    """Each node of the path needs the next, the last is the first, and no other comes twice."""
    if not needs:
        return
    chain = data.draw(st.sampled_from(every_chain(needs) if small(needs) else [(0,)]))
    ringed = [list(dependencies) for dependencies in needs]
    ringed[chain[0]].append(chain[-1])
    path = graph.find_cycle(ringed)
    assert path[0] == path[-1]
    assert len(set(path)) == len(path) - 1
    assert all(after in ringed[before] for before, after in itertools.pairwise(path))


@pytest.mark.parametrize(
    ("needs", "path"),
    [
        (((0,),), [0, 0]),
        (((1,), (0,)), [0, 1, 0]),
        (((), (0, 3), (1,), (2,)), [1, 3, 2, 1]),
        (((1,), (2,), (3,), (2,)), [2, 3, 2]),
        (((1,), (1,), (3,), (2,)), [1, 1]),
    ],
    ids=["itself", "two", "three behind one", "nodes that lead into the ring are not in it", "the first of two"],
)
def test_the_path_of_a_ring(needs, path):
    """Found from the first node that cannot be ordered."""
    assert graph.find_cycle(needs) == path


def test_a_ring_of_many_nodes_needs_no_stack():
    """20,000 nodes, each of which needs the next."""
    n = 20_000
    assert len(graph.find_cycle([((node + 1) % n,) for node in range(n)])) == n + 1


# ---- levels


@given(shuffled_graphs())
def test_a_level_is_one_past_the_deepest_dependency(needs):
    """By definition; 0 without dependencies."""
    levels = graph.levels_of(needs, graph.topological_order(needs, graph.children_of(needs)))
    for node, dependencies in enumerate(needs):
        assert levels[node] == 1 + max((levels[need] for need in dependencies), default=-1)


# ---- paths


@given(shuffled_graphs().filter(small), st.randoms(use_true_random=False))
def test_the_critical_path_is_the_heaviest_chain(needs, rng):
    """Against a search of all chains; weights may be zero."""
    weight = [float(rng.randrange(4)) for _ in needs]
    order = graph.topological_order(needs, graph.children_of(needs))
    path = graph.critical_path(needs, order, weight)
    if not needs:
        assert path == []
        return
    assert tuple(path) in every_chain(needs)
    assert sum(weight[node] for node in path) == max(sum(weight[node] for node in one) for one in every_chain(needs))


@pytest.mark.parametrize(
    ("needs", "weight", "path"),
    [
        ((), (), []),
        (((),), (0.0,), [0]),
        (DIAMOND, (1, 1, 1, 1), [0, 1, 3]),
        (DIAMOND, (1, 1, 5, 1), [0, 2, 3]),
        (((), (), ()), (1, 3, 3), [1]),
        (DIAMOND, (0, 0, 0, 0), [0]),
        (((), (), (0, 1)), (0, 0, 1), [0, 2]),
    ],
    ids=["empty", "one", "equals: the first", "heavier", "the last node that comes first", "no weight", "free needs"],
)
def test_the_critical_path_among_equals(needs, weight, path):
    """The same every time."""
    assert graph.critical_path(needs, range(len(needs)), weight) == path


@given(shuffled_graphs().filter(small), st.randoms(use_true_random=False))
def test_the_upward_rank_is_the_heaviest_way_to_the_end(needs, rng):
    """Itself included; against a search of all chains downwards."""
    weight = [float(rng.randrange(4)) for _ in needs]
    children = graph.children_of(needs)
    ranks = graph.upward_ranks(children, graph.topological_order(needs, children), weight)
    for node in range(len(needs)):
        assert ranks[node] == max(sum(weight[one] for one in chain) for chain in chains_from(children, node))


@given(shuffled_graphs(), st.data())
def test_what_can_be_reached(needs, data):
    """Start included: ancestors by needs, descendants by children; each the other's mirror."""
    start = data.draw(st.sets(st.sampled_from(range(len(needs))))) if needs else set()
    ancestors = graph.reachable(needs, start)
    found, more = set(), set(start)
    while more:
        found |= more
        more = {need for node in more for need in needs[node]} - found
    assert ancestors == found
    children = graph.children_of(needs)
    for node in range(len(needs)):
        assert (node in ancestors) is bool(graph.reachable(children, (node,)) & start)


# ---- cost


class Counted(list):
    """Counts what is taken out of it."""

    taken = 0

    def __iter__(self):
        for item in super().__iter__():
            Counted.taken += 1
            yield item

    def __getitem__(self, place):
        Counted.taken += 1
        return super().__getitem__(place)


def taken_by(work, needs):
    """How often something is taken out of a graph's lists."""
    counted = Counted(Counted(dependencies) for dependencies in needs)
    Counted.taken = 0
    work(counted)
    return Counted.taken


def chain(n):
    """0 -> 1 -> 2 ..."""
    return [(node - 1,) if node else () for node in range(n)]


def fan(n):
    """One, then many, then one."""
    return [(), *[(0,)] * (n - 2), tuple(range(1, n - 1))]


def ladder(n):
    """Each needs the two before it."""
    return [tuple(range(max(0, node - 2), node)) for node in range(n)]


WORK = {
    "children": graph.children_of,
    "order": lambda needs: graph.topological_order(needs, graph.children_of(needs)),
    "no ring": graph.find_cycle,
    "levels": lambda needs: graph.levels_of(needs, range(len(needs))),
    "critical path": lambda needs: graph.critical_path(needs, range(len(needs)), [1.0] * len(needs)),
    "upward ranks": lambda needs: graph.upward_ranks(needs, range(len(needs))[::-1], [1.0] * len(needs)),
    "reachable": lambda needs: graph.reachable(needs, (len(needs) - 1,)),
    "ring": lambda needs: graph.find_cycle(Counted(Counted([*one, len(needs) - 1]) for one in needs)),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
@pytest.mark.parametrize("shape", [chain, fan, ladder], ids=lambda shape: shape.__name__)
def test_the_cost_grows_with_the_graph_and_no_faster(work, shape):
    """Ten times the graph, ten times the work: counted, not timed."""
    small_cost, large_cost = taken_by(work, shape(100)), taken_by(work, shape(1_000))
    assert small_cost > 0
    assert large_cost <= 11 * small_cost + 100


@pytest.mark.slow
def test_many_children_of_one_node_cost_as_much_as_those_of_many():
    """What grows must not be copied each time: to copy a million children that often would outlast the test's time by far."""
    n = 1_000_000
    children = graph.children_of([(), *[(0,)] * n])
    assert (len(children[0]), children[0][0], children[0][-1]) == (n, 1, n)
