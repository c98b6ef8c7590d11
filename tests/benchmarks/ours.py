"""Our engine as a contender, through its public interface alone: add_unit, build_execution_plan, execute, results read back.

The only module here that imports the library, so that the references run without it.
"""

# ruff: noqa: D102  # the protocol Contender tells what the methods do

from __future__ import annotations

from typing import Any, ClassVar

from qp_core import ExecutionMode, QuantumPartitioner
from tests.benchmarks.bodies import body_of_context
from tests.benchmarks.graphs import Graph
from tests.benchmarks.references import WORKERS


class Ours:
    """`QuantumPartitioner` in one mode; `build` adds and plans, `run` executes and reads the sinks back."""

    title: ClassVar[str] = "ours"
    mode: ClassVar[ExecutionMode]
    options: ClassVar[dict[str, Any]] = {}
    """Further arguments of every `add_unit`."""

    def start(self) -> None: ...

    def prepare(self, graph: Graph, body: str, size: int, *, callables_first: bool) -> None:
        self.graph, self.body, self.size = graph, body, size
        self.names = [f"u{node}" for node in range(len(graph.deps))]
        self.needs = [[self.names[dep] for dep in deps] for deps in graph.deps]
        self.functions = self.callables() if callables_first else None

    def callables(self) -> list[Any]:
        return [body_of_context(self.body, needs, self.size) for needs in self.needs]

    def partitioner(self) -> QuantumPartitioner[Any, Any]:
        return QuantumPartitioner()

    def build(self) -> QuantumPartitioner[Any, Any]:
        functions = self.callables() if self.functions is None else self.functions
        partitioner, options = self.partitioner(), self.options
        for name, function, needs in zip(self.names, functions, self.needs, strict=True):
            partitioner.add_unit(fn=function, dependencies=needs, name=name, **options)
        partitioner.build_execution_plan()
        return partitioner

    def run(self, built: QuantumPartitioner[Any, Any]) -> list[int]:
        names = self.names
        self.result = built.execute({}, execution_mode=self.mode, max_workers=WORKERS)
        return [self.result[names[sink]] for sink in self.graph.sinks]

    def check(self) -> None:
        """Compare every unit's result, not the sinks' alone.

        Raises:
            ValueError: A result is missing or wrong.
        """
        if list(self.result.items()) != list(zip(self.names, self.graph.values, strict=True)):
            msg = "wrong results"
            raise ValueError(msg)

    def stop(self) -> None: ...


class Sequential(Ours):
    mode = ExecutionMode.SEQUENTIAL


class Thread(Ours):
    mode = ExecutionMode.THREAD


class Process(Ours):
    mode = ExecutionMode.PROCESS


class Async(Ours):
    mode = ExecutionMode.ASYNC


class ThreadWithRetry(Thread):
    """Each unit may be retried, and never is."""

    options: ClassVar = {"retries": 2}


class ThreadWithTimeout(Thread):
    """Each unit has a timeout that does not fire."""

    options: ClassVar = {"timeout": 60.0}


class ThreadWithCallbacks(Thread):
    """Two callbacks hear of each unit: its start and its end."""

    def partitioner(self) -> QuantumPartitioner[Any, Any]:
        partitioner: QuantumPartitioner[Any, Any] = QuantumPartitioner()
        partitioner.on_unit_start = lambda _unit_id: None
        partitioner.on_unit_complete = lambda _unit_id, _result: None
        return partitioner


OURS: dict[str, type[Ours]] = {
    "ours-sequential": Sequential,
    "ours-thread": Thread,
    "ours-process": Process,
    "ours-async": Async,
    "ours-thread+retry": ThreadWithRetry,
    "ours-thread+timeout": ThreadWithTimeout,
    "ours-thread+callbacks": ThreadWithCallbacks,
}
