"""How many workers, which mode, which order: let the units say what they are, and ask.

read_0 ... read_5 ──> merge         what a unit is, its metadata says: "cpu", "io" or "async"
"""

import sys
from pydoc_data.topics import topics
from typing import Any

from qp_core import (
    ExecutionContext,
    ExecutionMode,
    QuantumPartitioner,
    UnitId,
    UnknownNameError,
    available_cores,
    select_execution_strategy,
    select_optimal_workers,
)

NAMES = ("with", "while", "try", "lambda", "if", "for")


def make_partitioner(resource_type: str) -> QuantumPartitioner[dict[str, Any], Any]:
    """Six units of one kind, and one that waits for them; shorter texts are more urgent."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner()
    for i, name in enumerate(NAMES):
        partitioner.add_unit(
            lambda ctx, name=name: len(ctx["topics"][name]),
            name=f"read_{i}",
            metadata={"resource_type": resource_type},
            priority=-len(topics[name]),
        )
    partitioner.add_unit(merge, [f"read_{i}" for i in range(len(NAMES))], name="merge")
    return partitioner


def merge(ctx: ExecutionContext) -> int:
    """All characters."""
    return sum(ctx.unit_results.values())


def main() -> None:
    """Ask for workers and mode, then run in the order of priority."""
    cores = available_cores()
    for resource_type, per_core in (("cpu", 1), ("io", 2), ("async", 2)):
        partitioner = make_partitioner(resource_type)
        plan = partitioner.build_execution_plan()
        workers = select_optimal_workers(partitioner.units, plan)
        mode = select_execution_strategy(partitioner.units)
        rule = workers == min(plan.max_parallel_units, per_core * cores)
        print(
            f"{resource_type}: mode {mode.value}, {per_core} workers a core but no more than units in a level: {rule}"
        )

    started: list[UnitId] = []
    partitioner = make_partitioner("io")
    partitioner.on_unit_start = started.append
    results = partitioner.execute_with_strategy({"topics": topics}, "priority", execution_mode=ExecutionMode.SEQUENTIAL)
    by_length = sorted(range(len(NAMES)), key=lambda i: len(topics[NAMES[i]]))
    print(f"shortest first: {started == [*(f'read_{i}' for i in by_length), 'merge']}")
    print(f"{results.report.strategy}, {results['merge'] == sum(len(topics[name]) for name in NAMES)}")

    try:
        partitioner.execute_with_strategy({"topics": topics}, "prioritiy")
    except UnknownNameError as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
