"""Error handling and recovery: retries, a fallback value, a timeout, and what is left after a failure.

    fetch_data ──> process_data

The "API" is a file that another program may not have written yet, so that nothing here needs a network.
"""

import json
import logging
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from qp_core import ExecutionContext, QuantumPartitioner, UnitRetrying

WRITES_AFTER = 2
"""The failed attempt after which the other program writes the feed."""


def fetch_data_from_api(ctx: ExecutionContext) -> dict[str, Any]:
    """Read the feed; FileNotFoundError while it is not there."""
    data: dict[str, Any] = json.loads(Path(ctx["feed"]).read_text(encoding="utf-8"))
    return data


def process_with_error_handling(ctx: ExecutionContext) -> dict[str, Any]:
    """Work on what was fetched, also if that is the fallback."""
    data = ctx["fetch_data"]
    if data["status"] == "error":
        return {"processed": False}
    return {"processed": True, "result": sum(data["data"])}


def wait_for_nobody(ctx: ExecutionContext) -> bytes:  # noqa: ARG001 - a unit is given its context
    """Read from a connection on which nobody ever writes."""
    near, far = socket.socketpair()
    with near, far:
        return near.recv(1)


class Publisher:
    """The other program: writes the feed when the second attempt to read it has failed."""

    def __init__(self, feed: Path) -> None:
        self._feed = feed

    def qp_unit_retrying(self, event: UnitRetrying) -> None:
        """Hear of an attempt that failed."""
        print(
            f"  attempt {event.attempt} of {event.unit_id}: {type(event.error).__name__}, again in {event.wait_s:.1f} s"
        )
        if event.attempt == WRITES_AFTER:
            self._feed.write_text(json.dumps({"status": "ok", "data": [20, 22]}), encoding="utf-8")


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """Two units; the first may be tried four times, and has something to fall back on."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(max_workers=4)
    partitioner.add_unit(
        fn=fetch_data_from_api,
        dependencies=[],
        name="fetch_data",
        retries=3,
        timeout=5.0,
        metadata={"fallback_value": {"status": "error", "data": []}, "resource_type": "io"},
    )
    partitioner.add_unit(fn=process_with_error_handling, dependencies=["fetch_data"], name="process_data")
    return partitioner


def main(mode: str = "thread") -> None:
    """Four endings of the same plan."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here they are the point
    partitioner = make_partitioner()
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "feed.json"

        print("The feed comes late:")
        results = partitioner.execute({"feed": feed}, execution_mode=mode, telemetry=[Publisher(feed)])
        print(f"  {results['process_data']} after {results.report.units['fetch_data'].attempts} attempts")

        print("The feed never comes:")
        partitioner.units["fetch_data"].retries = 0
        results = partitioner.execute({"feed": feed.with_name("absent.json")}, execution_mode=mode)
        fetched = results.report.units["fetch_data"]
        print(f"  {results['process_data']}, fallback used: {fetched.used_fallback}, error kept: {fetched.error.type}")  # type: ignore[union-attr] # it failed, so there is one

        print("A unit takes too long:")
        partitioner.add_unit(fn=wait_for_nobody, name="wait", timeout=0.2)
        partitioner.add_unit(fn=lambda ctx: ctx["wait"], dependencies=["wait"], name="after_wait")
        results = partitioner.execute({"feed": feed}, execution_mode=mode)
        print(f"  ok: {results.ok}")
        print(f"  partial results: {partitioner.get_partial_results()['process_data']}")
        print(
            f"  failed units: { {name: type(error).__name__ for name, error in partitioner.get_failed_units().items()} }"
        )
        print(f"  skipped, because of: {results.skipped}")

        print("The same, raised:")
        try:
            partitioner.execute({"feed": feed}, execution_mode=mode, on_failure="raise")
        except ExceptionGroup as error:
            print(f"  Execution failed: {error}")
            print(f"  {error.exceptions[0]}")
            print(f"  partial results: {sorted(partitioner.get_partial_results())}")
            print(f"  failed units: {sorted(partitioner.get_failed_units())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
