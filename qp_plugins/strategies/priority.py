"""Priority: the highest `unit.priority` among the ready units first; equals in the order added."""

from collections.abc import Callable, Mapping, Sequence

from qp_core import ExecutionPlan, Strategy, UnitId, hookimpl


class Priority:
    """Highest first. O(n log n) once a run."""

    def order(self, plan: ExecutionPlan) -> Sequence[UnitId]:
        """All units, highest priority first."""
        return [unit.id for unit in sorted(plan.nodes, key=lambda unit: -unit.priority)]


@hookimpl
def qp_strategies() -> Mapping[str, Callable[[], Strategy]]:
    """Offer `priority`."""
    return {"priority": Priority}
