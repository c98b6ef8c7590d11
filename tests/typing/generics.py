"""What mypy infers: `QuantumPartitioner[T, R]` carries the context's type in and the results' type out."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict, assert_type

from qp_core import (
    CachingQuantumPartitioner,
    ExecutionContext,
    ExecutionMode,
    ExecutionPlan,
    ExecutionResult,
    QuantumPartitioner,
    QuantumUnit,
    RunReport,
    TaskMap,
    UnitFinished,
    UnitRecord,
    UnitState,
    build_graph,
    run_async,
    run_parallel,
    run_parallel_threads,
    run_tasks,
)


class Inputs(TypedDict):
    path: str


def count(ctx: ExecutionContext) -> int:
    return len(ctx["path"])


async def count_later(ctx: ExecutionContext) -> int:
    return len(ctx["path"])


def name(ctx: ExecutionContext) -> str:
    return str(ctx["path"])


def without_annotation() -> None:
    assert_type(QuantumPartitioner(max_workers=4), QuantumPartitioner[Any, Any])
    assert_type(CachingQuantumPartitioner(), CachingQuantumPartitioner[Any, Any])
    assert_type(QuantumPartitioner().execute({}), ExecutionResult[Any])


def with_annotation(partitioner: QuantumPartitioner[Inputs, int]) -> None:
    unit = partitioner.add_unit(count, name="count")
    assert_type(unit, QuantumUnit[Inputs, int])
    assert_type(unit.result, int | None)
    assert_type(unit.error, BaseException | None)
    assert_type(unit.state, UnitState)
    assert_type(unit.execution_time, float | None)
    assert_type(partitioner.units, dict[str, QuantumUnit[Inputs, int]])

    result = partitioner.execute({"path": "a"})
    assert_type(result, ExecutionResult[int])
    assert_type(result["count"], int)
    assert_type(result.ok, bool)
    assert_type(result.failed, dict[str, BaseException])
    assert_type(result.report, RunReport)
    assert_type(result.report.units["count"], UnitRecord)
    assert_type(partitioner.get_partial_results(), dict[str, int])
    assert_type(partitioner.get_failed_units(), dict[str, BaseException])
    assert_type(partitioner.completed_units, set[str])
    assert_type(partitioner.last_result, ExecutionResult[int] | None)
    assert_type(partitioner.build_execution_plan(), ExecutionPlan)


def every_way_to_execute(partitioner: QuantumPartitioner[Inputs, int], inputs: Inputs) -> None:
    assert_type(partitioner.execute(inputs, ExecutionMode.THREAD, 4), ExecutionResult[int])
    assert_type(partitioner.execute(inputs, "thread", fail_fast=True, deadline=5), ExecutionResult[int])
    assert_type(partitioner.execute_with_strategy(inputs, "priority"), ExecutionResult[int])
    assert_type(partitioner.execute_with_monitoring(inputs, max_workers=2), ExecutionResult[int])
    assert_type(partitioner.execute_with_recovery(inputs, outputs=["a"]), ExecutionResult[int])
    assert_type(partitioner.stream(inputs), Iterator[tuple[str, UnitFinished]])
    assert_type(partitioner.astream(inputs), AsyncIterator[tuple[str, UnitFinished]])


async def inside_a_loop(partitioner: QuantumPartitioner[Inputs, int], inputs: Inputs) -> None:
    assert_type(await partitioner.execute_async(inputs, execution_mode="async"), ExecutionResult[int])
    async for unit_id, end in partitioner.astream(inputs):
        assert_type(unit_id, str)
        assert_type(end.state, UnitState)


def whatever_can_be_called(partitioner: QuantumPartitioner[Inputs, int]) -> None:
    """Functions, coroutine functions, lambdas with and without bound arguments, methods, objects."""

    class Counter:
        def __call__(self, ctx: ExecutionContext) -> int:
            return count(ctx)

        async def later(self, ctx: ExecutionContext) -> int:
            return count(ctx)

    partitioner.add_unit(count)
    partitioner.add_unit(count_later)
    partitioner.add_unit(lambda ctx: len(ctx["path"]))
    partitioner.add_unit(lambda ctx, more=1: len(ctx["path"]) + more)
    partitioner.add_unit(lambda ctx: count_later(ctx))  # noqa: PLW0108 - the lambda is what is tried
    partitioner.add_unit(Counter())
    partitioner.add_unit(Counter().later)
    partitioner.add_unit(len)


def units_by_themselves() -> None:
    assert_type(QuantumUnit("count", count), QuantumUnit[Any, int])
    assert_type(QuantumUnit("name", name, ["count"]), QuantumUnit[Any, str])
    assert_type(QuantumUnit("name", lambda ctx: ctx["path"]).can_execute({"count"}), bool)


def contexts(ctx: ExecutionContext) -> None:
    assert_type(ctx["path"], Any)
    assert_type(ctx.get_dependency_result("count"), Any)
    assert_type(ctx.unit_results, dict[str, Any])
    assert_type(ctx.attempt, int)
    ctx.record_metric("rows", 3)


def task_maps() -> None:
    tasks = TaskMap({"load": (lambda ctx: [1], []), "count": (count, ["load"]), "later": count_later})
    assert_type(tasks.run({}), ExecutionResult[Any])
    assert_type(run_tasks(tasks, {}), ExecutionResult[Any])
    assert_type(run_parallel(tasks, {}, max_workers=2), ExecutionResult[Any])
    assert_type(run_parallel_threads(tasks, {}), ExecutionResult[Any])
    assert_type(run_async(tasks, {}), ExecutionResult[Any])
    assert_type(build_graph({"load": [], "count": ["load"]}).levels, list[list[str]])
