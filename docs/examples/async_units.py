"""Coroutines as units, beside plain functions: on the running loop, as a stream, and from code that is not async.

    define_0 ... define_19 ──> glossary

Each `define` asks a small server on this machine, which answers slowly; `glossary` is a plain function, and runs in a thread
beside the loop.
"""

import asyncio
import functools
import logging
import sys
from pydoc_data.topics import topics
from typing import Any, Self

from qp_core import ExecutionContext, ExecutionMode, QuantumPartitioner

N_TERMS = 20
ANSWERS_AFTER_S = 0.05


class TopicServer:
    """Answers the name of a topic with its first line; a name that it does not know it never answers."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most_waiting = 0
        self.asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        self.asked.set()
        try:
            name = (await reader.readline()).decode().strip()
            if name in topics:
                await asyncio.sleep(ANSWERS_AFTER_S)
                writer.write(topics[name].strip().splitlines()[0].encode() + b"\n")
            await reader.read()  # until the client goes
        finally:
            self.waiting -= 1
            writer.close()


async def define(name: str, ctx: ExecutionContext) -> str:
    """Ask the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ctx["port"])
    try:
        writer.write(f"{name}\n".encode())
        return (await reader.readline()).decode().strip()
    finally:  # also when the unit is cancelled
        writer.close()


def glossary(ctx: ExecutionContext) -> int:
    """How many lines came."""
    return len(ctx.unit_results)


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """Twenty coroutines and a function."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(
        default_execution_mode=ExecutionMode.ASYNC
    )
    for i, name in enumerate(sorted(topics)[:N_TERMS]):
        partitioner.add_unit(functools.partial(define, name), name=f"define_{i}", metadata={"resource_type": "async"})
    partitioner.add_unit(glossary, [f"define_{i}" for i in range(N_TERMS)], name="glossary")
    return partitioner


async def on_the_loop() -> None:
    """Everything runs on the loop that is running here."""
    async with TopicServer() as server:
        partitioner = make_partitioner()
        results = await partitioner.execute_async({"port": server.port})
        print(f"{results['glossary']} terms, {server.most_waiting} questions open at once")
        print(f"fewer than one after another: {results.report.wall_s < N_TERMS * ANSWERS_AFTER_S}")

        server.most_waiting = 0
        await partitioner.execute_async({"port": server.port}, max_workers=3)
        print(f"with max_workers=3: {server.most_waiting}")

        ended = [unit_id async for unit_id, _ in partitioner.astream({"port": server.port})]
        print(f"streamed {len(ended)} ends, the last one {ended[-1]}")

        stuck: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(default_execution_mode=ExecutionMode.ASYNC)
        stuck.add_unit(functools.partial(define, "no such topic"), name="unanswered", timeout=0.1)
        results = await stuck.execute_async({"port": server.port})
        print(f"unanswered: {stuck.units['unanswered'].state.value}, still running: {list(results.report.abandoned)}")

        stuck.units["unanswered"].timeout = None
        server.asked.clear()
        waiting = asyncio.create_task(stuck.execute_async({"port": server.port}, grace=0.1))
        await server.asked.wait()
        waiting.cancel()
        try:
            await waiting
        except asyncio.CancelledError:
            print(f"cancelled from outside: {stuck.units['unanswered'].state.value}")


def without_a_loop() -> None:
    """`execute` makes a loop of its own where none is running."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner()

    async def doubled(ctx: ExecutionContext) -> int:
        await asyncio.sleep(0)
        return 2 * int(ctx["n"])

    partitioner.add_unit(doubled, name="doubled")
    for mode in ("async", "thread", "sequential", "process"):
        print(f"{mode}: {partitioner.execute({'n': 21}, mode)['doubled']}")


def main() -> None:
    """In async code, then in plain code."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here they are the point
    asyncio.run(on_the_loop())
    without_a_loop()


if __name__ == "__main__":
    main(*sys.argv[1:])
