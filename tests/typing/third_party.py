"""What somebody else writes: each class satisfies its protocol without knowing it, and each hook has the right shape."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qp_core import (
    MISS,
    Cache,
    Clock,
    Command,
    ExecutionPlan,
    Executor,
    ExecutorFactory,
    QuantumPartitioner,
    QuantumUnit,
    RetryPolicy,
    Run,
    RunFinished,
    Strategy,
    Substitute,
    SystemClock,
    UnitFinished,
    UnitId,
    hookimpl,
)
from qp_core.testing import (
    FakeClock,
    Recorder,
    check_cache,
    check_executor,
    check_fallback,
    check_observer,
    check_strategy,
)


class Inline:
    """An executor."""

    def run(self, run: Run) -> None:
        run.begin(None)
        run.work_here(run.new_worker())


class Bounded(Inline):
    """An executor that says how many workers it has."""

    def workers(self, asked: int | None, plan: ExecutionPlan) -> int | None:
        return asked or len(plan)


class LastFirst:
    """A strategy."""

    def order(self, plan: ExecutionPlan) -> Sequence[UnitId]:
        return list(plan.index)[::-1]


class AsTheyCome:
    """A strategy without an opinion."""

    def order(self, plan: ExecutionPlan) -> None:
        return


class Shelf:
    """A cache."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self._kept.get(key, MISS)

    def put(self, key: str, value: Any) -> None:
        self._kept[key] = value

    def delete(self, key: str) -> None:
        self._kept.pop(key, None)

    def stats(self) -> Mapping[str, int]:
        return {"entries": len(self._kept), "hits": 0, "misses": 0}


class Counting:
    """An observer: any object with methods named like observe hooks."""

    ended = 0

    def qp_unit_finished(self, event: UnitFinished) -> None:
        self.ended += event.state.is_final

    def qp_run_finished(self, event: RunFinished) -> None:
        print(event.report.wall_s)


class Hello:
    """A command."""

    help = "say hello"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name")

    def run(self, args: argparse.Namespace) -> int:
        print(args.name)
        return 0


# Each name is annotated with the protocol: an assignment that mypy refuses is a protocol that nobody can satisfy.
executor: Executor = Inline()
bounded: Executor = Bounded()
factory: ExecutorFactory = lambda custom: Inline()  # noqa: E731 - a factory is often one
strategy: Strategy = LastFirst()
as_they_come: Strategy = AsTheyCome()
cache: Cache = Shelf()
command: Command = Hello()
clock: Clock = FakeClock()
other_clock: Clock = SystemClock()


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    return {"inline": lambda _: Inline(), "bounded": lambda _: Bounded()}


@hookimpl
def qp_strategies() -> Mapping[str, Callable[[], Strategy]]:
    return {"last_first": LastFirst, "as_they_come": AsTheyCome}


@hookimpl
def qp_caches() -> Mapping[str, Callable[[], Cache]]:
    return {"shelf": Shelf}


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    return {"counting": Counting}


@hookimpl
def qp_commands() -> Mapping[str, Command]:
    return {"hello": Hello()}


@hookimpl(trylast=True)
def qp_fallback(unit: QuantumUnit[Any, Any], error: BaseException) -> Substitute | None:
    return Substitute(None) if isinstance(error, LookupError) and unit.metadata.get("optional") else None


@hookimpl
def qp_choose_strategy(plan: ExecutionPlan) -> str | None:
    return "priority" if len(plan) > 1 else None


def used_by_name_and_as_objects(partitioner: QuantumPartitioner) -> None:
    partitioner.execute({}, "inline", strategy="last_first", cache="shelf", telemetry=["counting"])
    partitioner.execute({}, custom_executor=Inline(), cache=Shelf(), telemetry=[Counting(), Recorder()])
    with ThreadPoolExecutor() as pool:
        partitioner.execute({}, custom_executor=pool)
    partitioner.add_unit(print, retries=2, retry=RetryPolicy(on=(OSError,), base_s=0.5), fallback=lambda ctx, error: 0)
    QuantumPartitioner(clock=FakeClock(), seed=1)


def tried_with_the_kits() -> None:
    check_executor(Inline)
    check_strategy(LastFirst)
    check_cache(Shelf)
    check_observer(Counting)
    check_fallback(sys.modules[__name__])
