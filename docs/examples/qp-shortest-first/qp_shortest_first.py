"""Of the units that are ready, the one that is expected to take least goes first."""

from collections.abc import Callable, Mapping, Sequence

from qp_core import ExecutionPlan, Strategy, UnitId, hookimpl


class ShortestFirst:
    """Orders by `metadata["expected_duration"]`, in seconds; a unit without it counts as 1."""

    def order(self, plan: ExecutionPlan) -> Sequence[UnitId]:
        """All units, the shortest first; equals stay in the order added."""
        return [unit.id for unit in sorted(plan.nodes, key=lambda unit: unit.metadata.get("expected_duration", 1))]


@hookimpl
def qp_strategies() -> Mapping[str, Callable[[], Strategy]]:
    """Provide a name, and what makes the strategy for one run."""
    return {"shortest_first": ShortestFirst}
