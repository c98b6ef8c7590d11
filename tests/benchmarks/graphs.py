"""The graph families of the benchmarks, after Task Bench (Slaughter et al., SC20), with the values that a right run returns.

A node is an index; its dependencies are smaller indices, so every graph stands in topological order. The value of a node is
`(1 + sum of its dependencies' values) & MASK`, which shows that every result arrived where it was due.
"""

from __future__ import annotations

import random
from itertools import chain as flatten

import attrs

MASK = (1 << 61) - 1
FAMILIES = ("trivial", "chain", "tree", "fan", "stencil", "random")


@attrs.frozen(kw_only=True, eq=False)
class Graph:
    """A family's graph of n nodes, and what a right run of it returns."""

    family: str
    deps: list[tuple[int, ...]]
    values: list[int]
    sinks: list[int]

    @property
    def expected(self) -> list[int]:
        """The values of the nodes that nobody depends on, in order."""
        return [self.values[sink] for sink in self.sinks]

    def children(self) -> list[list[int]]:
        """Give each node's dependents, in order."""
        out: list[list[int]] = [[] for _ in self.deps]
        for node, deps in enumerate(self.deps):
            for dep in deps:
                out[dep].append(node)
        return out


def make_graph(family: str, n: int, *, width: int = 32, seed: int = 1) -> Graph:
    """Build a graph of n nodes.

    Args:
        family: One of `FAMILIES`.
        n: How many nodes, at least 3.
        width: Nodes a row, of `stencil` and `random`.
        seed: Of `random`; the same seed gives the same graph.
    """
    deps = _FAMILY[family](n, width, seed)
    values: list[int] = []
    for needs in deps:
        values.append((1 + sum(values[dep] for dep in needs)) & MASK)
    used = set(flatten.from_iterable(deps))
    return Graph(family=family, deps=deps, values=values, sinks=[node for node in range(n) if node not in used])


def _trivial(n: int, _width: int, _seed: int) -> list[tuple[int, ...]]:
    return [()] * n


def _chain(n: int, _width: int, _seed: int) -> list[tuple[int, ...]]:
    return [(), *((node,) for node in range(n - 1))]


def _tree(n: int, _width: int, _seed: int) -> list[tuple[int, ...]]:
    """Reduce (n + 1) // 2 leaves by pairs; with an even n, one leaf stands alone."""
    n_leaves = (n + 1) // 2
    deps: list[tuple[int, ...]] = [()] * n_leaves
    level = list(range(n_leaves))
    while len(level) > 1 and len(deps) < n:
        above = []
        for left, right in zip(level[::2], level[1::2], strict=False):
            deps.append((left, right))
            above.append(len(deps) - 1)
        level = above + level[len(above) * 2 :]
    return deps + [()] * (n - len(deps))


def _fan(n: int, _width: int, _seed: int) -> list[tuple[int, ...]]:
    """One node, n - 2 that depend on it, one that depends on all of these."""
    return [(), *[(0,)] * (n - 2), tuple(range(1, n - 1))]


def _stencil(n: int, width: int, _seed: int) -> list[tuple[int, ...]]:
    """Rows of `width`; position p needs p - 1, p and p + 1 of the row before."""
    deps: list[tuple[int, ...]] = []
    for node in range(n):
        row, place = divmod(node, width)
        before = (row - 1) * width
        deps.append(tuple(before + p for p in (place - 1, place, place + 1) if 0 <= p < width) if row else ())
    return deps


def _random(n: int, width: int, seed: int) -> list[tuple[int, ...]]:
    """Rows of `width`; each node needs one to four nodes of the two rows before."""
    rng = random.Random(seed)  # noqa: S311  # a benchmark's graph, no secret
    deps: list[tuple[int, ...]] = []
    for node in range(n):
        row = node // width
        low, high = max(0, (row - 2) * width), row * width
        picks = {rng.randrange(low, high) for _ in range(rng.randint(1, 4))} if row else set()
        deps.append(tuple(sorted(picks)))
    return deps


_FAMILY = {"trivial": _trivial, "chain": _chain, "tree": _tree, "fan": _fan, "stencil": _stencil, "random": _random}
