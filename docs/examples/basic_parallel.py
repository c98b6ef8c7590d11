"""Basic parallel execution: four units, two of which do not wait for each other.

    load_data ─┬─> process_data ──┬─> store_results
               └─> validate_data ─┘

What is loaded are the topics of the language reference that Python carries along for `help()`. Run it with a mode:
`python docs/examples/basic_parallel.py thread` (or sequential, async, process).
"""

import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from qp_core import ExecutionContext, QuantumPartitioner

LONG_WORD = 8
SHORT_TOPIC = 5


def load_data(ctx: ExecutionContext) -> dict[str, list[str]]:
    """The words of each topic."""
    return {name: re.findall(r"[a-z]+", text.lower()) for name, text in ctx["input_data"].items()}


def process_data(ctx: ExecutionContext) -> list[tuple[str, int]]:
    """The long words that are used most, over all topics."""
    counts = Counter(word for words in ctx["load_data"].values() for word in words if len(word) >= LONG_WORD)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]


def validate_data(ctx: ExecutionContext) -> dict[str, Any]:
    """How many topics there are, and which are too short to be whole."""
    loaded = ctx["load_data"]
    return {
        "topics": len(loaded),
        "too_short": sorted(name for name, words in loaded.items() if len(words) < SHORT_TOPIC),
    }


def store_results(ctx: ExecutionContext) -> str:
    """Write both results into a file."""
    report = {"words": ctx["process_data"], "checks": ctx["validate_data"]}
    Path(ctx["target"]).write_text(json.dumps(report), encoding="utf-8")
    return str(ctx["target"])


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """The four units; also for `qp plan` and `qp run`."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(max_workers=4)
    partitioner.add_unit(fn=load_data, dependencies=[], name="load_data")
    partitioner.add_unit(fn=process_data, dependencies=["load_data"], name="process_data")
    partitioner.add_unit(fn=validate_data, dependencies=["load_data"], name="validate_data")
    partitioner.add_unit(fn=store_results, dependencies=["process_data", "validate_data"], name="store_results")
    return partitioner


def main(mode: str = "thread") -> None:
    """Plan, run, and look at the results."""
    partitioner = make_partitioner()
    plan = partitioner.build_execution_plan()
    print(f"Execution levels: {plan.levels}")
    print(f"Critical path: {plan.critical_path}")

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.json"
        results = partitioner.execute({"input_data": topics, "target": target}, execution_mode=mode)
        stored = json.loads(target.read_text(encoding="utf-8"))

    word, count = results["process_data"][0]
    print(f"Long word used most: {word} ({count})")
    print(f"Topics checked: {results['validate_data']['topics']}, too short: {results['validate_data']['too_short']}")
    print(f"Stored what was found: {stored['checks'] == results['validate_data']}")
    print(f"{len(results)} units, wall time {results.report.wall_s:.3f} s, mode {results.report.mode}")


if __name__ == "__main__":
    main(*sys.argv[1:])
