"""`execute_with_monitoring`: who ran when, for how long, and what failed.

parse_json, parse_csv, parse_difflib, parse_textwrap ──> largest      parse_absent fails by itself
"""

import ast
import importlib.util
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from qp_core import ExecutionContext, QuantumPartitioner

MODULES = ("json", "csv", "difflib", "textwrap")


def count_functions(module: str) -> int:
    """How many functions a module of the standard library defines; it is read, not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        msg = f"there is no module {module!r}"
        raise LookupError(msg)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """One unit a module, one that compares them, and one for a module that does not exist."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(max_workers=4)
    for module in (*MODULES, "absent"):
        partitioner.add_unit(fn=lambda ctx, m=module: count_functions(m), name=f"parse_{module}")  # noqa: ARG005 - the context is not needed

    def largest(ctx: ExecutionContext) -> str:
        return max(ctx.unit_results, key=ctx.unit_results.__getitem__).removeprefix("parse_")

    partitioner.add_unit(fn=largest, dependencies=[f"parse_{module}" for module in MODULES], name="largest")
    return partitioner


def main(mode: str = "thread") -> None:
    """Run, then read the metrics."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here one is the point
    partitioner = make_partitioner()
    results = partitioner.execute_with_monitoring({}, execution_mode=mode)
    print(f"Most functions: {results['largest']} ({results['parse_' + results['largest']]})")

    metrics = partitioner.last_execution_metrics
    print(f"Units: {metrics['total_units']}, completed {metrics['completed_units']}, failed {metrics['failed_units']}")
    print(f"Total duration: {metrics['total_duration']:.3f} s")
    slowest = max(times["duration"] for times in metrics["unit_times"].values())
    print(f"Slowest unit: {slowest:.3f} s")
    for entry in metrics["execution_trace"]:
        if entry["event"] == "error":
            print(f"Error in {entry['unit']}: {entry['error']}")
    print(f"Events: {dict(Counter(entry['event'] for entry in metrics['execution_trace']))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
