"""What mypy must refuse: each line has the mistake that its comment names; a comment too many is an error too."""

from collections.abc import Sequence
from typing import Any, TypedDict

from qp_core import (
    Cache,
    ExecutionContext,
    ExecutionPlan,
    Executor,
    QuantumPartitioner,
    QuantumUnit,
    RetryPolicy,
    Run,
    Strategy,
    TaskMap,
    UnitRecord,
    UnitState,
)
from qp_core.testing import check_cache, check_strategy


class Inputs(TypedDict):
    path: str


def name(ctx: ExecutionContext) -> str:
    return str(ctx["path"])


async def name_later(ctx: ExecutionContext) -> str:
    return str(ctx["path"])


def slips_in_a_partitioner(partitioner: QuantumPartitioner[Inputs, int]) -> None:
    partitioner.add_unit(name)  # type: ignore[arg-type] # its results are no ints
    partitioner.add_unit(name_later)  # type: ignore[arg-type] # nor are they when awaited
    partitioner.add_unit(lambda ctx: str(ctx))  # type: ignore[arg-type] # nor a lambda's  # noqa: PLW0108 - the lambda is what is tried
    partitioner.add_unit("name")  # type: ignore[arg-type] # a name is no function
    partitioner.add_unit(len, [1])  # type: ignore[list-item] # dependencies are ids
    partitioner.add_unit(len, timeout="5")  # type: ignore[arg-type] # seconds are numbers
    partitioner.add_unit(len, retries=1.5)  # type: ignore[arg-type] # attempts are counted
    partitioner.add_unit(len, None, "a", None, 0, {}, 3)  # type: ignore[call-arg] # what the seed lacks is keyword-only
    partitioner.add_unit(fn=len, depends_on=["a"])  # type: ignore[call-arg] # there is no such argument


def slips_in_an_execution(partitioner: QuantumPartitioner[Inputs, int]) -> None:
    partitioner.execute()  # type: ignore[call-arg] # there is no run without a context
    partitioner.execute({"pth": "a"})  # type: ignore[typeddict-item] # the context is `Inputs`
    partitioner.execute({"path": "a"}, failfast=True)  # type: ignore[call-arg] # fail_fast
    partitioner.execute({"path": "a"}, deadline="1 s")  # type: ignore[arg-type] # seconds are numbers
    partitioner.execute({"path": "a"}, on_failure="ignore")  # type: ignore[arg-type] # return or raise
    text: str = partitioner.execute({"path": "a"})["count"]  # type: ignore[assignment] # results are ints
    print(text)


def slips_in_callbacks(partitioner: QuantumPartitioner[Inputs, int]) -> None:
    def on_start() -> None: ...
    def on_error(unit_id: str) -> None: ...

    partitioner.on_unit_start = on_start  # type: ignore[assignment] # it is called with an id
    partitioner.on_unit_error = on_error  # type: ignore[assignment] # and this with the error too


def slips_with_records(record: UnitRecord, plan: ExecutionPlan, unit: QuantumUnit[Any, int]) -> None:
    record.state = UnitState.FAILED  # type: ignore[misc] # records are frozen
    plan.nodes = ()  # type: ignore[misc] # plans too
    unit.state = "failed"  # type: ignore[assignment] # a state is a UnitState
    print(record.durations)  # type: ignore[attr-defined] # duration_s
    RetryPolicy(OSError)  # type: ignore[call-arg] # policies have keywords only
    TaskMap({"a": 1})  # type: ignore[dict-item] # a task has a function


class NoRun:
    """No executor: it cannot run."""

    def execute(self, run: Run) -> None: ...


class Numbers:
    """No strategy: it answers numbers."""

    def order(self, plan: ExecutionPlan) -> Sequence[int]:
        return list(plan.order)


class Forgetful:
    """No cache: nothing can be deleted, and keys are numbers."""

    def get(self, key: int) -> Any: ...
    def put(self, key: int, value: Any) -> None: ...


executor: Executor = NoRun()  # type: ignore[assignment] # run is missing
strategy: Strategy = Numbers()  # type: ignore[assignment] # ids, not numbers
cache: Cache = Forgetful()  # type: ignore[assignment] # keys are strings


def slips_with_kits() -> None:
    check_strategy(Numbers)  # type: ignore[arg-type] # ids, not numbers
    check_cache(Forgetful)  # type: ignore[arg-type] # keys are strings
