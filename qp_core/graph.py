"""Pure algorithms on graphs whose nodes are 0 .. n-1, given as `needs[i]`: the nodes that node i waits for.

Everything is iterative (a chain of a million nodes needs no stack) and O(nodes + edges). Nothing here knows what a
unit is.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

Adjacency: TypeAlias = Sequence[Sequence[int]]
"""For each node, the nodes at the other end of its edges."""


def children_of(needs: Adjacency, nodes: Iterable[int] | None = None) -> list[Sequence[int]]:
    """Turn the edges round: for each node, the nodes that wait for it.

    Args:
        needs: The graph.
        nodes: The numbers 0 .. n-1, for who has them as objects already: a million edges then share a million integers.

    Returns:
        One sequence a node, in ascending order; nodes without children share one empty tuple.
    """
    children: list[Any] = [()] * len(needs)
    for node, dependencies in zip(range(len(needs)) if nodes is None else nodes, needs, strict=True):
        for dependency in dependencies:
            known = children[dependency]
            # A list only from the second child on: for one, a tuple is smaller by a third.
            if not known:
                children[dependency] = (node,)
            elif type(known) is tuple:
                children[dependency] = [*known, node]
            else:
                known.append(node)
    return children


def topological_order(needs: Adjacency, children: Adjacency) -> list[int]:
    """An order in which every node comes after all that it needs; shorter than the graph where there is a cycle.

    Nodes that do not wait for each other stand breadth first, in the order of their numbers.

    Returns:
        The nodes that can be ordered.

    References:
        Kahn (1962), "Topological sorting of large networks".
    """
    left = [len(dependencies) for dependencies in needs]
    order = [node for node, count in enumerate(left) if not count]
    for node in order:  # grows while it is read: it is its own queue
        for child in children[node]:
            left[child] -= 1
            if not left[child]:
                order.append(child)
    return order


def find_cycle(needs: Adjacency) -> list[int] | None:
    """One ring of nodes that wait for each other.

    Returns:
        `[a, b, ..., a]` where each needs the next, or None where the graph has no cycle.
    """
    ordered = set(topological_order(needs, children_of(needs)))
    node = next((node for node in range(len(needs)) if node not in ordered), None)
    if node is None:
        return None
    # A node that cannot be ordered needs another such node: following these must come back to one seen before.
    position: dict[int, int] = {}
    path: list[int] = []
    while node not in position:
        position[node] = len(path)
        path.append(node)
        node = next(dependency for dependency in needs[node] if dependency not in ordered)
    return [*path[position[node] :], node]


def levels_of(needs: Adjacency, order: Iterable[int]) -> list[int]:
    """How deep each node lies: 0 without dependencies, else one past its deepest dependency.

    Args:
        needs: The graph.
        order: Its nodes, each after what it needs.

    Returns:
        One number a node.
    """
    level = [0] * len(needs)
    for node in order:
        dependencies = needs[node]
        if dependencies:
            level[node] = 1 + max(map(level.__getitem__, dependencies))
    return level


def critical_path(needs: Adjacency, order: Iterable[int], weight: Sequence[float]) -> list[int]:
    """The heaviest chain of nodes; the time that no number of workers can beat.

    Args:
        needs: The graph.
        order: Its nodes, each after what it needs.
        weight: What each node costs, 0 or more.

    Returns:
        The chain from its first node to its last. Among equals, the one whose last node comes first in `order`.
    """
    total = [0.0] * len(needs)
    before = [-1] * len(needs)
    last, heaviest = -1, -1.0
    for node in order:
        start, via = 0.0, -1
        for dependency in needs[node]:
            if via < 0 or total[dependency] > start:
                start, via = total[dependency], dependency
        total[node] = start + weight[node]
        before[node] = via
        if total[node] > heaviest:
            last, heaviest = node, total[node]
    path = []
    while last >= 0:
        path.append(last)
        last = before[last]
    return path[::-1]


def upward_ranks(children: Adjacency, order: Sequence[int], weight: Sequence[float]) -> list[float]:
    """For each node, the heaviest chain from it to the end of the graph, itself included.

    Returns:
        One number a node.

    References:
        Topcuoglu, Hariri, Wu (2002), "Performance-effective and low-complexity task scheduling", the upward rank.
    """
    rank = [0.0] * len(children)
    for node in reversed(order):
        rank[node] = weight[node] + max((rank[child] for child in children[node]), default=0.0)
    return rank


def reachable(edges: Adjacency, start: Iterable[int]) -> set[int]:
    """The start nodes and everything that their edges lead to.

    With `needs` these are the ancestors, with children the descendants.

    Returns:
        The nodes, start included.
    """
    seen = set(start)
    todo = list(seen)
    while todo:
        for node in edges[todo.pop()]:
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return seen
