"""Advanced execution control: a default mode that one call overrides, callbacks, and measurements.

    load_data ─┬─> pack_zlib ─┬─> compare
               ├─> pack_bz2  ─┤
               └─> pack_lzma ─┘

The partitioner runs in processes unless told otherwise. The program runs twice: first in the mode given (threads, as in
the original of this example), then in the default mode.
"""

import bz2
import lzma
import sys
import time
import zlib
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

from qp_core import ExecutionContext, ExecutionMode, ExecutionResult, QuantumPartitioner, UnitId

PACKERS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "zlib": (zlib.compress, zlib.decompress),
    "bz2": (bz2.compress, bz2.decompress),
    "lzma": (lzma.compress, lzma.decompress),
}


def load_data(ctx: ExecutionContext) -> bytes:
    """All texts as bytes."""
    return "\n".join(ctx["input_data"].values()).encode()


def pack_with(packer: str) -> Callable[[ExecutionContext], int]:
    """A unit that packs the bytes, checks that they can be unpacked, and returns the size: a closure, which travels to processes too."""
    pack, unpack = PACKERS[packer]

    def packed_size(ctx: ExecutionContext) -> int:
        packed = pack(ctx["load_data"])
        if unpack(packed) != ctx["load_data"]:
            msg = f"{packer} lost something"
            raise ValueError(msg)
        return len(packed)

    return packed_size


def compare(ctx: ExecutionContext) -> str:
    """The packer with the smallest result."""
    sizes = {unit_id: size for unit_id, size in ctx.unit_results.items() if unit_id.startswith("pack_")}
    return min(sizes, key=sizes.__getitem__).removeprefix("pack_")


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """The units, with processes as the default."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(
        max_workers=8, default_execution_mode=ExecutionMode.PROCESS
    )
    partitioner.add_unit(fn=load_data, name="load_data")
    for packer in PACKERS:
        partitioner.add_unit(
            fn=pack_with(packer),
            dependencies=["load_data"],
            name=f"pack_{packer}",
            metadata={"resource_type": "cpu"},
        )
    partitioner.add_unit(fn=compare, dependencies=[f"pack_{packer}" for packer in PACKERS], name="compare")
    return partitioner


def run_measured(
    partitioner: QuantumPartitioner[dict[str, Any], Any], mode: ExecutionMode | None
) -> ExecutionResult[Any]:
    """Run with callbacks that measure, and print what they found."""
    metrics: dict[UnitId, dict[str, float]] = {}

    def start_monitor(unit_id: UnitId) -> None:
        metrics[unit_id] = {"start_time": time.monotonic()}

    def end_monitor(unit_id: UnitId, result: object) -> None:  # noqa: ARG001 - the callback's shape
        metrics[unit_id]["end_time"] = time.monotonic()
        metrics[unit_id]["duration"] = metrics[unit_id]["end_time"] - metrics[unit_id]["start_time"]

    partitioner.on_unit_start = start_monitor
    partitioner.on_unit_complete = end_monitor

    results = partitioner.execute(
        context={"input_data": topics},
        execution_mode=mode,  # None is the partitioner's default
        max_workers=4,  # overrides the partitioner's 8
    )

    total_time = sum(measured["duration"] for measured in metrics.values())
    path_time = results.report.critical_path_s  # the seed takes the longest unit for it, which is less
    print(f"Mode: {results.report.mode}, at most {results.report.max_workers} units at once")
    print(f"Total execution time: {total_time:.2f}s")
    print(f"Critical path time: {path_time:.2f}s")
    print(f"Parallelism efficiency: {total_time / path_time:.2f}x")
    print(
        f"Critical path: {len(results.report.critical_path)} units, the last one {results.report.critical_path[-1]!r}"
    )
    print(f"Smallest: {results['compare']}")
    return results


def main(mode: str = "thread") -> None:
    """Override the default mode, then use it."""
    partitioner = make_partitioner()
    overridden = run_measured(partitioner, ExecutionMode(mode))
    default = run_measured(partitioner, None)
    print(f"Same results in both modes: {overridden == default}")


if __name__ == "__main__":
    main(*sys.argv[1:])
