"""Coroutines as units, beside plain functions: on the running loop, as a stream, and from code that is not async.

    define_0 ... define_20 ──> glossary

Each `define` asks a small server on this machine, which answers only when several questions are open; `glossary` is a plain
function, and runs in a thread beside the loop.
"""

import asyncio
import functools
import logging
import sys
from pydoc_data.topics import topics
from typing import Any, Self

from qp_core import ExecutionContext, ExecutionMode, QuantumPartitioner

N_TERMS = 21


class TopicServer:
    """Answers the name of a topic with its first line, once so many questions are open; a name it does not know it never answers."""

    def __init__(self, together: int) -> None:
        self._together = asyncio.Barrier(together)
        self._serving: list[asyncio.Task[Any]] = []
        self.asked = asyncio.Event()
        self.open = 0
        self.most_open = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._serving)  # each ends when its client has gone

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._serving.append(task)
        name = (await reader.readline()).decode().strip()
        self.asked.set()
        if name in topics:
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            await self._together.wait()
            self.open -= 1
            writer.write(topics[name].strip().splitlines()[0].encode() + b"\n")
        await reader.read()  # until the client goes
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
    """A coroutine function for each term, and a plain function."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(
        default_execution_mode=ExecutionMode.ASYNC
    )
    for i, name in enumerate(sorted(topics)[:N_TERMS]):
        partitioner.add_unit(functools.partial(define, name), name=f"define_{i}", metadata={"resource_type": "async"})
    partitioner.add_unit(glossary, [f"define_{i}" for i in range(N_TERMS)], name="glossary")
    return partitioner


async def on_the_loop() -> None:
    """Everything runs on the loop that is running here."""
    partitioner = make_partitioner()
    for together in (N_TERMS, 3):
        async with TopicServer(together) as server:
            results = await partitioner.execute_async({"port": server.port}, max_workers=together)
            print(f"max_workers={together}: {results['glossary']} terms, {server.most_open} questions open at once")

    async with TopicServer(1) as server:
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
