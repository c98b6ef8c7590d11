"""How a run is stopped before its end: Ctrl-C, a deadline, the first failure, and a stream that is left.

    first ──> second ──> hang ──> last          other

`hang` would wait for ever; nobody waits for it longer than was said. There is one worker, and `other` is the least urgent, so it is not
reached before the run stops.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import Any

from qp_core import ExecutionContext, QuantumPartitioner

NEVER = threading.Event()


def done(_: ExecutionContext) -> str:
    """Do nothing much."""
    return "done"


def second(ctx: ExecutionContext) -> str:
    """Do what the context says, if anything."""
    if "at_second" in ctx:
        ctx["at_second"]()
    return "done"


def hang(ctx: ExecutionContext) -> None:
    """Do what the context says, if anything, and wait for ever."""
    if "at_hang" in ctx:
        ctx["at_hang"]()
    NEVER.wait()


async def hang_politely(_: ExecutionContext) -> None:
    """Wait for ever, but so that it can be stopped."""
    try:
        await asyncio.Event().wait()
    finally:
        print("  a coroutine is told, and can clean up")


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """A chain, and a unit beside it that comes last."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(done, name="first")
    partitioner.add_unit(second, ["first"], name="second")
    partitioner.add_unit(hang, ["second"], name="hang")
    partitioner.add_unit(done, ["hang"], name="last")
    partitioner.add_unit(done, name="other", priority=-1)
    return partitioner


def show(partitioner: QuantumPartitioner[dict[str, Any], Any]) -> None:
    """What became of each unit."""
    result = partitioner.last_result
    if result is None:
        return
    for unit_id, record in result.report.units.items():
        print(f"  {unit_id}: {record.state.value}{', still running' if record.abandoned else ''}")
    print(f"  stopped: {result.report.stopped}, kept: {partitioner.get_partial_results()}")


def press_ctrl_c() -> None:
    """What the terminal does, to this very program."""
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Four ways, and one with coroutines."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of what could not be stopped
    partitioner = make_partitioner()

    print("Ctrl-C, then a grace of 0.1 s:")
    try:
        partitioner.execute({"at_hang": press_ctrl_c}, strategy="priority", grace=0.1)
    except KeyboardInterrupt:
        show(partitioner)

    print("A deadline of 3 s:")
    partitioner.execute({}, strategy="priority", deadline=3.0)
    show(partitioner)

    print("The first failure:")
    partitioner.execute({"at_second": lambda: 1 / 0}, strategy="priority", fail_fast=True)
    show(partitioner)

    print("A stream that is left:")
    hangs = threading.Event()
    for unit_id, _ in partitioner.stream({"at_hang": hangs.set}, strategy="priority", grace=0.1):
        if unit_id == "second":
            hangs.wait()  # or it would depend on the moment whether that unit had begun
            break
    show(partitioner)

    print("Coroutines, and a deadline of 3 s:")
    partitioner.units["hang"].function = hang_politely
    results = partitioner.execute({}, execution_mode="async", strategy="priority", deadline=3.0)
    print(f"  { {state.value: count for state, count in results.report.counts.items()} }")


if __name__ == "__main__":
    main(*sys.argv[1:])
