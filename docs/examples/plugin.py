"""A plugin: a strategy that others ask for by name, an observer that hears of every run, and a fallback of last resort.

Installed plugins are found through an entry point of the group `quantum_partitioner`. In `pyproject.toml` of a
distribution with a module `qp_shortest_first` it would be:

    [project.entry-points.quantum_partitioner]
    "shortest-first" = "qp_shortest_first"

(`docs/examples/qp-shortest-first` is such a distribution.) Here the module is the program itself, and its entry point is made by
hand. Run it with another name for the strategy to see what there is.
"""

import importlib.metadata
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qp_core import (
    ExecutionContext,
    ExecutionPlan,
    Plugins,
    QuantumPartitioner,
    QuantumUnit,
    RunFinished,
    Strategy,
    Substitute,
    UnitFinished,
    UnitId,
    hookimpl,
)
from qp_core.testing import check_strategy


class ShortestFirst:
    """Of the units that are ready, the one that is expected to take least goes first."""

    def order(self, plan: ExecutionPlan) -> Sequence[UnitId]:
        """All units, by `metadata["expected_duration"]` (1 where there is none)."""
        return [unit.id for unit in sorted(plan.nodes, key=lambda unit: unit.metadata.get("expected_duration", 1))]


@hookimpl
def qp_strategies() -> Mapping[str, Callable[[], Strategy]]:
    """Provide a name, and what makes the strategy."""
    return {"shortest_first": ShortestFirst}


@hookimpl
def qp_fallback(unit: QuantumUnit[Any, Any], attempt: int) -> Substitute | None:
    """Decide what stands in for a failed unit that says it is optional; plugins take what arguments they need."""
    return Substitute(f"none, after {attempt} attempt") if unit.metadata.get("optional") else None


@hookimpl
def qp_unit_finished(event: UnitFinished) -> None:
    """Observe the end of each unit."""
    print(f"  {event.unit_id}: {event.state.value}{', by fallback' if event.used_fallback else ''}")


@hookimpl
def qp_run_finished(event: RunFinished) -> None:
    """Observe the end of the run."""
    print(f"  {len(event.report.units)} units, {event.report.strategy}")


def with_this_plugin() -> Plugins:
    """What is installed, and this module."""
    group = "quantum_partitioner"
    mine = importlib.metadata.EntryPoint("shortest-first", __name__, group)
    return Plugins(entry_points=[*importlib.metadata.entry_points(group=group), mine])


def make_partitioner(plugins: Plugins | None = None) -> QuantumPartitioner[dict[str, Any], Any]:
    """Three units that say how long they will take, one of which is optional and fails."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(plugins=plugins)
    for name, seconds in (("long", 0.03), ("short", 0.01), ("middle", 0.02)):
        partitioner.add_unit(
            lambda ctx, name=name: ctx["texts"][name],
            name=name,
            metadata={"expected_duration": seconds, "optional": name == "middle"},
        )

    def together(ctx: ExecutionContext) -> str:
        return ", ".join(f"{name}: {ctx[name]}" for name in ("short", "middle", "long"))

    partitioner.add_unit(together, ["long", "short", "middle"], name="together")
    return partitioner


def main(strategy: str = "shortest_first") -> None:
    """Run with the plugin, one unit at a time so that the order shows."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)
    plugins = with_this_plugin()
    partitioner = make_partitioner(plugins)
    results = partitioner.execute({"texts": {"long": "a", "short": "b"}}, "sequential", strategy=strategy)
    print(results["together"])
    (info,) = [info for info in plugins.listing() if info.name == "shortest-first"]
    print(f"{info.name} from {info.source}: {info.state}")
    check_strategy(ShortestFirst)
    print("It keeps the contract of strategies.")


if __name__ == "__main__":
    main(*sys.argv[1:])
