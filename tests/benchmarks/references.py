"""The references: what a hand-written loop, the standard library and dask take for the same graph.

A contender turns a graph and a body into something of its own (`build`), and runs that (`run`), which returns the values of the
sinks. Pools and their warming (`start`) are never timed. Everything a contender keeps after a run stays alive in `built`.
"""

# ruff: noqa: D102  # the protocol Contender tells what the methods do

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from graphlib import TopologicalSorter
from typing import Any, ClassVar, Protocol

from tests.benchmarks.bodies import body_of_values
from tests.benchmarks.graphs import Graph

WORKERS = 2


class Contender(Protocol):
    """Something that runs a graph."""

    title: ClassVar[str]

    def start(self) -> None:
        """Start what outlives a run; never timed."""

    def prepare(self, graph: Graph, body: str, size: int, *, callables_first: bool) -> None:
        """Take the graph and the body; never timed.

        Args:
            graph: What to run.
            body: A kind of `bodies`.
            size: Bytes to hash, of the body `sha`.
            callables_first: Make the callables now; else they are made, and timed, in `build`.
        """

    def build(self) -> Any:
        """Make what the contender runs."""

    def run(self, built: Any) -> list[int]:
        """Run it once; the values of the sinks."""

    def stop(self) -> None:
        """Stop what `start` started."""


class Reference:
    """What the references share: one body for all nodes, and no pool."""

    title: ClassVar[str]
    graph: Graph
    body: Callable[..., Any]

    def start(self) -> None: ...

    def prepare(self, graph: Graph, body: str, size: int, *, callables_first: bool) -> None:
        del callables_first  # one shared function: nothing to make
        self.graph, self.body = graph, body_of_values(body, size)

    def stop(self) -> None: ...


class BareLoop(Reference):
    """A for loop in topological order, with a dict of results."""

    title = "bare loop"

    def build(self) -> list[tuple[int, Callable[..., Any], tuple[int, ...]]]:
        return [(node, self.body, deps) for node, deps in enumerate(self.graph.deps)]

    def run(self, built: list[tuple[int, Callable[..., Any], tuple[int, ...]]]) -> list[int]:
        results: dict[int, int] = {}
        for node, fn, deps in built:
            results[node] = fn(*[results[dep] for dep in deps])
        return [results[sink] for sink in self.graph.sinks]


class GraphlibLoop(Reference):
    """A loop over `graphlib.TopologicalSorter`: add and prepare in `build`, get_ready and done in `run`."""

    title = "graphlib loop"

    def prepare(self, graph: Graph, body: str, size: int, *, callables_first: bool) -> None:
        super().prepare(graph, body, size, callables_first=callables_first)
        self.names = [f"u{node}" for node in range(len(graph.deps))]
        self.needs = [[self.names[dep] for dep in deps] for deps in graph.deps]
        self.needs_of = dict(zip(self.names, self.needs, strict=True))

    def build(self) -> TopologicalSorter[str]:
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for name, needs in zip(self.names, self.needs, strict=True):
            sorter.add(name, *needs)
        sorter.prepare()
        return sorter

    def run(self, built: TopologicalSorter[str]) -> list[int]:
        results: dict[str, int] = {}
        needs_of, body = self.needs_of, self.body
        while built.is_active():
            ready = built.get_ready()
            for name in ready:
                results[name] = body(*[results[need] for need in needs_of[name]])
            built.done(*ready)
        return [results[self.names[sink]] for sink in self.graph.sinks]


class Callbacks(Reference):
    """Counters and `Executor.submit` from done-callbacks: the engine people write by hand."""

    title = "callbacks"
    pool: Executor

    def start(self) -> None:
        self.pool = ThreadPoolExecutor(WORKERS)
        list(self.pool.map(abs, range(4)))

    def build(self) -> tuple[list[list[int]], list[int], dict[int, int]]:
        return self.graph.children(), [len(deps) for deps in self.graph.deps], {}

    def run(self, built: tuple[list[list[int]], list[int], dict[int, int]]) -> list[int]:
        children, left, results = built
        deps, submit, body = self.graph.deps, self.pool.submit, self.body
        n_left, lock, over = len(deps), threading.Lock(), threading.Event()
        errors: list[BaseException] = []

        def finish(node: int, future: Future[int]) -> None:
            nonlocal n_left
            if error := future.exception():
                errors.append(error)
                over.set()
                return
            results[node] = future.result()
            ready = []
            with lock:
                n_left -= 1
                is_last = not n_left
                for child in children[node]:
                    left[child] -= 1
                    if not left[child]:
                        ready.append(child)
            for child in ready:
                go(child)
            if is_last:
                over.set()

        def go(node: int) -> None:
            future = submit(body, *[results[dep] for dep in deps[node]])
            future.add_done_callback(lambda done, node=node: finish(node, done))  # type: ignore[misc]  # the default is the binding

        for node in [node for node, needs in enumerate(deps) if not needs]:
            go(node)
        over.wait()
        if errors:
            raise errors[0]
        return [results[sink] for sink in self.graph.sinks]

    def stop(self) -> None:
        self.pool.shutdown()


class ProcessCallbacks(Callbacks):
    """`Callbacks` over processes."""

    title = "processes, callbacks"

    def start(self) -> None:
        self.pool = ProcessPoolExecutor(WORKERS)
        list(self.pool.map(abs, range(4)))


class Submit(Reference):
    """`ThreadPoolExecutor.submit` and `result`; a node waits for its dependencies' futures, which stand before it in the queue."""

    title = "bare submit"

    def start(self) -> None:
        self.pool: Executor = ThreadPoolExecutor(WORKERS)
        list(self.pool.map(abs, range(4)))

    def build(self) -> None: ...

    def run(self, built: None) -> list[int]:
        del built
        futures: list[Future[int]] = []
        body, submit = self.body, self.pool.submit

        def node(deps: tuple[int, ...]) -> int:
            return body(*[futures[dep].result() for dep in deps])  # type: ignore[no-any-return]  # bodies return ints

        for deps in self.graph.deps:
            futures.append(submit(node, deps) if deps else submit(body))  # noqa: PERF401  # a node reads the futures before it
        return [futures[sink].result() for sink in self.graph.sinks]

    def stop(self) -> None:
        self.pool.shutdown()


class ProcessSubmit(Reference):
    """`ProcessPoolExecutor.submit` and `result`, of graphs without edges."""

    title = "processes, submit"

    def start(self) -> None:
        self.pool = ProcessPoolExecutor(WORKERS)
        list(self.pool.map(abs, range(4)))

    def build(self) -> None: ...

    def run(self, built: None) -> list[int]:
        del built
        body, submit = self.body, self.pool.submit
        return [future.result() for future in [submit(body) for _ in self.graph.deps]]

    def stop(self) -> None:
        self.pool.shutdown()


class TaskPerNode(Reference):
    """asyncio, one task a node, each awaiting the tasks of its dependencies."""

    title = "a task a node"
    eager = False

    def build(self) -> None: ...

    def run(self, built: None) -> list[int]:
        del built
        deps_of, body = self.graph.deps, self.body

        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            if self.eager:
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # 3.12 and later
            tasks: list[asyncio.Task[int]] = []

            async def node(deps: tuple[int, ...]) -> int:
                return await body(*[await tasks[dep] for dep in deps])  # type: ignore[no-any-return]  # bodies return ints

            for deps in deps_of:
                tasks.append(loop.create_task(node(deps)))  # noqa: PERF401  # an eager node reads the tasks before it
            return [await tasks[sink] for sink in self.graph.sinks]

        return asyncio.run(main())


class EagerTaskPerNode(TaskPerNode):
    """`TaskPerNode` with the eager task factory of 3.12."""

    title = "an eager task a node"
    eager = True


class DaskThreaded(Reference):
    """`dask.threaded.get` on a raw graph."""

    title = "dask threaded"

    def start(self) -> None:
        from dask.threaded import get  # noqa: PLC0415  # the other references run without it

        self.get = get

    def build(self) -> dict[int, tuple[Any, ...]]:
        return {node: (self.body, *deps) for node, deps in enumerate(self.graph.deps)}

    def run(self, built: dict[int, tuple[Any, ...]]) -> list[int]:
        return list(self.get(built, self.graph.sinks, num_workers=WORKERS))


REFERENCES: dict[str, type[Contender]] = {
    "loop": BareLoop,
    "graphlib": GraphlibLoop,
    "callbacks": Callbacks,
    "submit": Submit,
    "process-callbacks": ProcessCallbacks,
    "process-submit": ProcessSubmit,
    "asyncio": TaskPerNode,
    "asyncio-eager": EagerTaskPerNode,
    "dask": DaskThreaded,
}
