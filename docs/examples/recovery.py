"""`execute_with_recovery`: retries and fallbacks are fine, a unit that has neither is an error.

    read_defaults, read_site, read_user ──> merged

Settings from three files: one is there, one is missing, one is still being written by another program.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from qp_core import ExecutionContext, ExecutionError, QuantumPartitioner, RetryPolicy, UnitRetrying

LAYERS = ("defaults", "site", "user")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in one file."""
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings


def merged(ctx: ExecutionContext) -> dict[str, Any]:
    """All settings; later files win."""
    return {key: value for layer in LAYERS for key, value in ctx[f"read_{layer}"].items()}


def make_partitioner(folder: Path) -> QuantumPartitioner[dict[str, Any], Any]:
    """One unit a file. A half-written one is worth another attempt, a missing one is not."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner()
    for layer in LAYERS:
        partitioner.add_unit(
            fn=lambda ctx, path=folder / f"{layer}.json": read_settings(path),  # noqa: ARG005 - the context is not needed
            name=f"read_{layer}",
            retries=3,
            retry=RetryPolicy(on=json.JSONDecodeError, base_s=0.01),
        )
    partitioner.add_unit(fn=merged, dependencies=[f"read_{layer}" for layer in LAYERS], name="merged")
    return partitioner


class OtherProgram:
    """Finishes writing the user's file once somebody has stumbled over it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def qp_unit_retrying(self, event: UnitRetrying) -> None:
        """Hear of an attempt that failed."""
        print(f"Retrying {event.unit_id} after {type(event.error).__name__}")
        self._path.write_text('{"colour": "green"}', encoding="utf-8")


def main(mode: str = "thread") -> None:
    """Without a fallback, by hand, and with one."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here they are the point
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "defaults.json").write_text('{"colour": "red", "size": 3}', encoding="utf-8")
        (folder / "user.json").write_text('{"colour": "gre', encoding="utf-8")
        partitioner = make_partitioner(folder)

        try:
            partitioner.execute_with_recovery({}, execution_mode=mode, telemetry=[OtherProgram(folder / "user.json")])
        except ExecutionError as error:
            print(f"Failed: {error.failed_tasks}, {type(error.errors['read_site']).__name__}")
            print(f"Completed: {sorted(error.partial_results)}")
            known = {**error.partial_results, "read_site": {}}
            results = partitioner.execute_with_recovery({}, execution_mode=mode, known=known)
            print(f"Completed by hand: {results['merged']}")

        partitioner.units["read_site"].metadata["fallback_value"] = {"size": 4}
        results = partitioner.execute_with_recovery({}, execution_mode=mode)
        print(f"With a fallback: {results['merged']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
