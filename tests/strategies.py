"""Hypothesis strategies that all tests share: graphs of every shape, units that misbehave in every way, odd ids and contexts.

A graph is what `qp_core.graph` takes: for each node the nodes that it needs, each node after what it needs. A `Work` is a graph
whose nodes say what they do, in any order. New kinds of misbehaviour join `parts`, and every property meets them.
"""

import random
from collections import ChainMap
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs
from hypothesis import settings
from hypothesis import strategies as st

Needs: TypeAlias = tuple[tuple[int, ...], ...]

COMPUTED = "computed"
"""What a unit returns that returns no constant: a number made of its dependencies' results."""

FALSY = (None, 0, False, "", (), 0.0)
"""Results that a careless `if result:` would lose."""

FALLBACKS = ("value", "function", "unit", "chain", "coroutine", "raises", "coroutine_raises")
"""The kinds of fallback a unit may have; those that end in `raises` have no answer."""

ALWAYS = 1_000
"""More failures than any unit has attempts."""


def examples(share):
    """Settings for a test whose examples cost more, or less, than most.

    Returns:
        Settings with that share of the profile's examples, at least one.
    """
    return settings(max_examples=max(1, round(settings.default.max_examples * share)))


# ---- graphs: each node after what it needs


@st.composite
def chains(draw, max_size=12):
    """0 -> 1 -> 2 -> ..."""
    size = draw(st.integers(1, max_size))
    return tuple((node - 1,) if node else () for node in range(size))


@st.composite
def diamonds(draw, max_count=3, max_width=4):
    """Top -> several -> bottom = the next top -> ..."""
    needs = [()]
    for _ in range(draw(st.integers(1, max_count))):
        top, width = len(needs) - 1, draw(st.integers(2, max_width))
        needs += [(top,)] * width
        needs.append(tuple(range(top + 1, top + 1 + width)))
    return tuple(needs)


@st.composite
def wide_graphs(draw, max_width=16):
    """Many units side by side, with or without one before and one after all of them."""
    before, width, after = draw(st.booleans()), draw(st.integers(1, max_width)), draw(st.booleans())
    needs = [()] * before + [(0,) if before else ()] * width
    return (*needs, tuple(range(int(before), len(needs)))) if after else tuple(needs)


@st.composite
def layered_graphs(draw, max_layers=4, max_width=4):
    """Layers of units, each needing some of the layer before."""
    needs, layer = [], []
    for _ in range(draw(st.integers(1, max_layers))):
        first, width = len(needs), draw(st.integers(1, max_width))
        some = st.sets(st.sampled_from(layer)) if layer else st.just(())
        needs += [tuple(sorted(draw(some))) for _ in range(width)]
        layer = range(first, first + width)
    return tuple(needs)


def stencil(width, steps):
    """Each unit needs the three nearest of the step before.

    Returns:
        A graph of `width * steps` nodes.
    """
    return tuple(
        tuple((step - 1) * width + near for near in (place - 1, place, place + 1) if 0 <= near < width) if step else ()
        for step in range(steps)
        for place in range(width)
    )


@st.composite
def random_dags(draw, max_size=12, max_needs=4):
    """Any graph without a ring, also the empty one."""
    size = draw(st.integers(0, max_size))
    return tuple(
        tuple(sorted(draw(st.sets(st.integers(0, node - 1), max_size=max_needs)))) if node else ()
        for node in range(size)
    )


@st.composite
def large_dags(draw, max_size=150, max_needs=4):
    """Graphs too large to draw edge by edge: from a seed, so they do not shrink well."""
    size = draw(st.integers(2, max_size))
    rng = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311 - a graph, not a secret
    reach = draw(st.sampled_from([3, 10, max_size]))  # how far back needs lie: long thin graphs, and short wide ones
    return tuple(
        tuple(
            sorted(
                rng.sample(range(max(0, node - reach), node), min(rng.randint(0, max_needs), node, reach)),
            ),
        )
        for node in range(size)
    )


def graphs():
    """A graph of any shape.

    Returns:
        The strategy.
    """
    return st.one_of(
        random_dags(),
        layered_graphs(),
        diamonds(),
        wide_graphs(),
        chains(),
        st.builds(stencil, st.integers(1, 4), st.integers(1, 4)),
    )


@st.composite
def digraphs(draw, max_size=10, max_edges=20):
    """Any edges between any nodes, rings and self-loops included."""
    size = draw(st.integers(1, max_size))
    node = st.integers(0, size - 1)
    edges = draw(st.sets(st.tuples(node, node), max_size=max_edges))
    return tuple(tuple(sorted(need for need, by in edges if by == node)) for node in range(size))


@st.composite
def shuffled(draw, needs):
    """The same graph with its nodes numbered anyhow, so that units may be added before what they need."""
    place = draw(st.one_of(st.just(list(range(len(needs)))), st.permutations(range(len(needs)))))
    moved = [()] * len(needs)
    for node, found in enumerate(needs):
        moved[place[node]] = tuple(place[need] for need in found)
    return tuple(moved)


# ---- units


@attrs.frozen(kw_only=True, repr=False)
class Part:
    """What one unit needs and does.

    Attributes:
        needs: The numbers of the parts that it needs; one may stand there twice.
        fails: How many attempts raise before one succeeds.
        retries: How many further attempts it is granted.
        returns: What it returns; `COMPUTED`, or a constant.
        fallback: One of `FALLBACKS`; None for none.
        priority: Under the `priority` strategy.
        pauses: How often it lets others go first: a coroutine gives way to its loop, a function to other threads.
    """

    needs: tuple[int, ...] = ()
    fails: int = 0
    retries: int = 0
    returns: Any = COMPUTED
    fallback: str | None = None
    priority: float = 0
    pauses: int = 0

    def __repr__(self):
        facts = {field.name: getattr(self, field.name) for field in attrs.fields(Part)}
        told = (
            f"{field.name}={facts[field.name]!r}" for field in attrs.fields(Part) if facts[field.name] != field.default
        )
        return f"Part({', '.join(told)})"

    def _repr_pretty_(self, printer, _cycle):
        printer.text(repr(self))  # Hypothesis would print every field on a line of its own


@attrs.frozen
class Work:
    """Parts that need each other, in the order in which they are added."""

    parts: tuple[Part, ...]

    @property
    def ids(self):
        """The id of each part."""
        return [f"u{number}" for number in range(len(self.parts))]

    def __len__(self):
        return len(self.parts)


def of_graph(needs, **every):
    """Parts that do nothing but need each other, or all the same.

    Returns:
        A work.
    """
    return Work(tuple(Part(needs=found, **every) for found in needs))


@st.composite
def parts(draw, needs, *, faults):
    """A part with these needs that behaves well most of the time."""
    if needs and draw(st.integers(0, 7)) == 7:
        needs = (*needs, needs[0])  # named twice
    facts = {
        "returns": draw(st.sampled_from([COMPUTED, COMPUTED, *FALSY])),
        "priority": draw(st.sampled_from([0, 0, 1, 2, -1, 0.5, float("inf")])),
        "pauses": draw(st.integers(0, 2)),
    }
    if faults and draw(st.integers(0, 3)) == 3:
        facts["fails"] = draw(st.sampled_from([1, 2, ALWAYS]))
        facts["fallback"] = draw(st.sampled_from([None, None, *FALLBACKS]))
    if faults:
        facts["retries"] = draw(st.sampled_from([0, 0, 1, 3]))
    return Part(needs=needs, **facts)


@st.composite
def works(draw, graph=None, *, faults=True):
    """A graph of units of all kinds.

    Args:
        draw: Hypothesis's.
        graph: The strategy of its shape; any shape if None.
        faults: Whether units may fail.
    """
    needs = draw(shuffled(draw(graph or graphs())))
    return Work(tuple(draw(parts(found, faults=faults)) for found in needs))


@st.composite
def large_works(draw, *, faults=True):
    """A large graph; its parts come from a seed too."""
    needs = draw(large_dags())
    rng = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311 - a test's choice, not a secret
    often = draw(st.sampled_from([0.0, 0.02, 0.2])) if faults else 0.0
    found = [
        Part(
            needs=needed,
            fails=rng.choice([1, 2, ALWAYS]) if rng.random() < often else 0,
            retries=rng.choice([0, 1, 3]) if often else 0,
            fallback=rng.choice([None, *FALLBACKS]) if often else None,
            priority=rng.randint(-2, 2),
            pauses=rng.choice([0, 0, 1]),
        )
        for needed in needs
    ]
    return Work(tuple(found))


# ---- ids and contexts


def odd_ids():
    """Ids that some format would trip over.

    Returns:
        The strategy.
    """
    odd = [
        '"',
        "\\",
        "]",
        "a b",
        "line\nbreak",
        "\t",
        "%",
        "->",
        "{x}",
        "<b>",
        "🦆",
        "שלום",
        "\u202e",
        "None",
        "0",
        "_",
        "x" * 10_000,
    ]
    return st.one_of(st.text(min_size=1), st.sampled_from(odd))


def mappings(keys):
    """Mappings of every kind around the same keys.

    Args:
        keys: A dict.

    Returns:
        The strategy.
    """
    return st.sampled_from([
        dict(keys),
        {**keys, 0: "a key that is no string"},
        MappingProxyType(dict(keys)),
        ChainMap({}, dict(keys)),
    ])
