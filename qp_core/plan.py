"""Plan: units that have been checked and frozen into a graph that can run.

A plan knows which unit waits for which, and can draw itself. It does not know in which order ready units will run
(`strategy`), nor where (`executor`).
"""

import operator
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

import attrs

from qp_core import graph
from qp_core.errors import CircularDependency, CircularDependencyError, GraphError, missing_dependency, shown
from qp_core.unit import QuantumUnit, durations
from qp_core.vocabulary import UnitId

PLAN_SCHEMA = 1
"""Version of what `ExecutionPlan.to_data` writes; raised when a field changes its meaning."""

AnyUnit = QuantumUnit[Any, Any]


@attrs.frozen(eq=False)
class PlanShape:
    """Which units there are and what they need, by id, without the units themselves: what a report keeps of a plan.

    Attributes:
        index: The number of each unit.
        needs: For each unit, the numbers of those it depends on.
    """

    index: Mapping[UnitId, int]
    needs: Sequence[Sequence[int]]

    @cached_property
    def ids(self) -> tuple[UnitId, ...]:
        """The id of each number."""
        return tuple(self.index)

    def dependencies_of(self, number: int) -> tuple[UnitId, ...]:
        """The ids that a unit depends on."""
        return tuple(self.ids[need] for need in self.needs[number])


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ExecutionPlan:
    """A checked, unchanging graph of units, made by `ExecutionPlan.of` or `QuantumPartitioner.build_execution_plan`.

    Units are numbered in the order in which they were added ("plan order"); `needs` and `children` speak in these
    numbers, everything else in ids. What is only for people to look at (levels, sets, pictures) is made when it is
    asked for.

    Attributes:
        nodes: The units in plan order.
        index: The number of each unit.
        needs: For each unit, the numbers of those it depends on.
        children: For each unit, the numbers of those that depend on it.
        order: The numbers in an order in which each unit comes after all that it needs.
    """

    nodes: tuple[AnyUnit, ...]
    index: Mapping[UnitId, int]
    needs: Sequence[Sequence[int]]
    children: Sequence[Sequence[int]]
    order: Sequence[int]

    @classmethod
    def of(
        cls, units: Mapping[UnitId, AnyUnit], circular: type[CircularDependency] = CircularDependencyError
    ) -> "ExecutionPlan":
        """Check units and freeze them into a plan.

        Time and memory are O(n + e) for n units and e dependencies.

        Args:
            units: The units by id.
            circular: The class of error for a ring.

        Returns:
            The plan; a later change of the mapping does not touch it.

        Raises:
            GraphError: What stands under an id is no unit, or one of another id.
            MissingDependencyError: A unit names a dependency that is not there.
            CircularDependency: Units wait for each other; raised as the class given.
        """
        index = {unit_id: number for number, unit_id in enumerate(units)}
        nodes = tuple(units.values())
        if not all(issubclass(kind, QuantumUnit) for kind in set(map(type, nodes))):
            _raise_no_unit(units)
        needs: list[Sequence[int]] = []
        forward = False  # whether some unit needs one that was added after it: without that there is no ring, and no need to sort
        find = index.__getitem__
        for number, unit_id, unit in zip(index.values(), index, nodes, strict=True):
            if unit.id != unit_id:
                msg = f"unit {shown(unit.id)} stands under the id {shown(unit_id)}; use its own id as the key"
                raise GraphError(msg)
            if not unit.dependencies:
                needs.append(())
                continue
            try:
                need = tuple(map(find, unit.dependencies))
            except (KeyError, TypeError):
                _raise_missing(unit, index)
            needs.append(need)
            forward = forward or max(need) >= number
        children = graph.children_of(needs, index.values())
        order: Sequence[int] = range(len(nodes))
        if forward:
            order = graph.topological_order(needs, children)
            if len(order) < len(nodes):
                raise circular(tuple(nodes[number].id for number in graph.find_cycle(needs) or ()))
        return cls(nodes=nodes, index=index, needs=needs, children=children, order=order)

    def is_of(self, units: Mapping[UnitId, AnyUnit]) -> bool:
        """Whether a mapping still holds the units that the plan was made of, in their order.

        What is inside the units is not looked at: that would cost a tenth of running them, where this costs a hundredth.

        Returns:
            False where a unit was added, removed or replaced.
        """
        same = len(units) == len(self.nodes)
        return same and not any(map(operator.is_not, self.nodes, units.values()))

    def restricted_to(self, outputs: Iterable[UnitId], known: Container[UnitId] = ()) -> "ExecutionPlan":
        """The part of the plan that the given units need.

        Args:
            outputs: Ids of this plan.
            known: Units whose results are known: nothing is needed for them.

        Returns:
            A plan of the outputs and their ancestors, as far as these are not needed for known units only.

        Raises:
            MissingDependencyError: An output is no unit of the plan.
        """  # noqa: DOC501 - raised as a function makes it
        asked: list[object] = [*outputs]  # whatever the annotation says
        wanted = []
        for output in asked:
            if not isinstance(output, str) or output not in self.index:
                raise missing_dependency("outputs", output, self.index, argument=True)
            wanted.append(self.index[output])
        needs = [() if unit.id in known else need for unit, need in zip(self.nodes, self.needs, strict=True)]
        kept = sorted(graph.reachable(needs, wanted))
        place = {number: new for new, number in enumerate(kept)}
        nodes = tuple(self.nodes[number] for number in kept)
        part = [tuple(place[need] for need in needs[number]) for number in kept]
        return ExecutionPlan(
            nodes=nodes,
            index={unit.id: number for number, unit in enumerate(nodes)},
            needs=part,
            children=graph.children_of(part),
            order=[place[number] for number in self.order if number in place],
        )

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<ExecutionPlan of {self.unit_count} units, {self.max_level} levels>"

    @cached_property
    def shape(self) -> PlanShape:
        """The plan without its units."""
        return PlanShape(self.index, self.needs)

    @property
    def units(self) -> dict[UnitId, AnyUnit]:
        """The units by id, in plan order (a new dict: changing it changes no plan)."""
        return dict(zip(self.index, self.nodes, strict=True))

    @property
    def unit_count(self) -> int:
        """How many units there are."""
        return len(self.nodes)

    @cached_property
    def execution_order(self) -> list[list[UnitId]]:
        """The levels: units of one level do not depend on each other; within a level, in the order added.

        For people to look at: a run does not wait for levels.
        """
        depth = graph.levels_of(self.needs, self.order)
        levels: list[list[UnitId]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for level, unit in zip(depth, self.nodes, strict=True):
            levels[level].append(unit.id)
        return levels

    @property
    def levels(self) -> list[list[UnitId]]:
        """The same as `execution_order`."""
        return self.execution_order

    @property
    def max_level(self) -> int:
        """How many levels there are."""
        return len(self._widths)

    @property
    def max_parallel_units(self) -> int:
        """The size of the largest level; 0 for the empty plan."""
        return max(self._widths, default=0)

    @cached_property
    def _widths(self) -> list[int]:
        # Not from execution_order: a chain of a million units would pay for a million lists.
        depth = graph.levels_of(self.needs, self.order)
        widths = [0] * (max(depth, default=-1) + 1)
        for level in depth:
            widths[level] += 1
        return widths

    @cached_property
    def dependencies(self) -> dict[UnitId, set[UnitId]]:
        """For each unit, the ids it depends on."""
        return self._by_id(self.needs)

    @cached_property
    def dependents(self) -> dict[UnitId, set[UnitId]]:
        """For each unit, the ids that depend on it."""
        return self._by_id(self.children)

    def _by_id(self, edges: graph.Adjacency) -> dict[UnitId, set[UnitId]]:
        nodes = self.nodes
        return {unit.id: {nodes[number].id for number in others} for unit, others in zip(nodes, edges, strict=True)}

    @cached_property
    def critical_path(self) -> list[UnitId]:
        """The longest chain of units, weighed by `metadata["expected_duration"]` (1 each where there is none)."""
        return self.longest_chain(durations(self.nodes))

    def longest_chain(self, weight: Sequence[float]) -> list[UnitId]:
        """The chain that takes longest, given what each unit takes.

        Args:
            weight: One number a unit, in plan order.

        Returns:
            Ids from the first unit of the chain to the last.
        """
        return [self.nodes[number].id for number in graph.critical_path(self.needs, self.order, weight)]

    def visualize(self) -> str:
        """The graph in GraphViz's DOT language.

        Ids are only ever labels, quoted and escaped, so that no id can add to the picture. A character that cannot be seen is
        drawn as its code, such as u{202e} after a backslash.

        Returns:
            A `digraph` with one line a unit and one a dependency; an edge points from what is needed to what needs it.
        """
        lines = ["digraph plan {", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
        lines += (f'  n{number} [label="{_dot_text(unit.id)}"];' for number, unit in enumerate(self.nodes))
        lines += self._edges("  n{} -> n{};")
        return "\n".join([*lines, "}", ""])

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart.

        Ids are only ever labels, in quotes, with everything that could mean something to Mermaid as character codes.

        Returns:
            A `flowchart` with one line a unit and one a dependency.
        """
        lines = ["flowchart LR"]
        lines += (f'  n{number}["{_mermaid_text(unit.id)}"]' for number, unit in enumerate(self.nodes))
        lines += self._edges("  n{} --> n{}")
        return "\n".join([*lines, ""])

    def _edges(self, form: str) -> list[str]:
        # dict.fromkeys: a dependency named twice is one edge
        return [form.format(need, number) for number, needs in enumerate(self.needs) for need in dict.fromkeys(needs)]

    def to_data(self) -> dict[str, Any]:
        """The plan's shape as plain data for JSON: no functions, metadata or results.

        Returns:
            `{"schema": 1, "units": [{"id", "function", "dependencies", "timeout", "retries", "priority"}, ...]}`.
        """
        return {
            "schema": PLAN_SCHEMA,
            "units": [
                {
                    "id": unit.id,
                    "function": function_name(unit.function),
                    "dependencies": [self.nodes[need].id for need in needs],
                    "timeout": unit.timeout,
                    "retries": unit.retries,
                    "priority": unit.priority,
                }
                for unit, needs in zip(self.nodes, self.needs, strict=True)
            ],
        }


def _raise_no_unit(units: Mapping[UnitId, object]) -> NoReturn:
    unit_id, other = next(pair for pair in units.items() if not isinstance(pair[1], QuantumUnit))
    msg = f"under the id {shown(unit_id)} stands {shown(other)}, which is no QuantumUnit; use add_unit"
    raise GraphError(msg)


def _raise_missing(unit: AnyUnit, index: Mapping[UnitId, int]) -> NoReturn:
    dependencies: list[object] = [*unit.dependencies]  # a list may have been changed in place
    for dependency in dependencies:
        if not isinstance(dependency, str) or dependency not in index:
            raise missing_dependency(unit.id, dependency, index)
    raise AssertionError(unit.id)  # pragma: no cover - only called where one is missing


def function_name(function: Callable[..., Any]) -> str:
    """Where a function is from, for people to read.

    Returns:
        `module:qualified.name` (of some builtin methods, which know no module, the name alone); of a partial or an instance,
        that of what is called in the end.
    """
    inner: object = getattr(function, "func", function)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    module = getattr(named, "__module__", None)
    return f"{module}:{named.__qualname__}" if module else named.__qualname__


def _dot_text(text: str) -> str:
    # In a quoted string, DOT knows \", in a label also \n, \\ and the character entities of HTML; what cannot be printed would
    # break the format of lines, or turn the direction of the text.
    return "".join(
        _DOT_ESCAPES.get(char) or (char if char.isprintable() else f"\\\\u{{{ord(char):x}}}") for char in text
    )


_DOT_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "&": "&amp;"}

_MERMAID_PLAIN = re.compile(r"[^\W_]|(?<=[^\W_])[ _-](?=[^\W_])")


def _mermaid_text(text: str) -> str:
    # Inside quotes Mermaid knows no escapes but character codes. It takes labels for Markdown and looks for "style ...:" in whole
    # lines, so little stays as it is: letters, digits, and what stands between two of them without a meaning.
    plain = {match.start() for match in _MERMAID_PLAIN.finditer(text)}
    return "".join(char if place in plain else f"#{ord(char)};" for place, char in enumerate(text))
