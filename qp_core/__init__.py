"""QuantumPartitioner's core: define units, plan them, order them, run them, report.

Read it in that order: `unit`, `plan`, `strategy`, `run` (with `frontier`, `attempt`, `settlement`), `report`; `partitioner` is the
face of all of them. What a third party could have written is a plugin and not in here.
"""

from typing import TYPE_CHECKING, Any

from qp_core.cache import MISS, Cache, UncacheableError, cache_key, stable_hash
from qp_core.clock import Clock, SystemClock
from qp_core.context import ExecutionContext, current_context
from qp_core.crew import Worker
from qp_core.errors import (
    CacheError,
    CircularDependency,
    CircularDependencyError,
    ContextError,
    DuplicateUnitError,
    ExecutionError,
    GraphError,
    MissingDependencyError,
    MissingExtraError,
    PluginConflictError,
    PluginError,
    QuantumPartitionerError,
    SettingsError,
    TaskError,
    UndeclaredDependencyError,
    UnitError,
    UnitFailedError,
    UnitTimeoutError,
    UnknownNameError,
    WorkerLostError,
)
from qp_core.executor import Executor, ExecutorFactory
from qp_core.fallback import Substitute
from qp_core.frontier import NONE_READY
from qp_core.hookspecs import hookimpl, hookspec
from qp_core.job import Job, JobOutcome
from qp_core.partitioner import CachingQuantumPartitioner, QuantumPartitioner
from qp_core.plan import ExecutionPlan
from qp_core.plugins import PluginInfo, Plugins
from qp_core.report import ErrorSummary, ExecutionResult, RunReport, UnitRecord
from qp_core.run import Run, RunOptions
from qp_core.settings import Settings
from qp_core.strategy import Strategy, available_cores, select_execution_strategy, select_optimal_workers
from qp_core.taskmap import TaskMap, build_graph, run_async, run_parallel, run_parallel_threads, run_tasks
from qp_core.telemetry import RunFinished, RunStarted, UnitFinished, UnitRetrying, UnitStarted
from qp_core.unit import QuantumUnit, RetryPolicy
from qp_core.vocabulary import Command, ExecutionMode, UnitId, UnitState, is_awaitable

if TYPE_CHECKING:
    from qp_core.loop import LoopThread, dismiss

__all__ = [
    "MISS",
    "NONE_READY",
    "Cache",
    "CacheError",
    "CachingQuantumPartitioner",
    "CircularDependency",
    "CircularDependencyError",
    "Clock",
    "Command",
    "ContextError",
    "DuplicateUnitError",
    "ErrorSummary",
    "ExecutionContext",
    "ExecutionError",
    "ExecutionMode",
    "ExecutionPlan",
    "ExecutionResult",
    "Executor",
    "ExecutorFactory",
    "GraphError",
    "Job",
    "JobOutcome",
    "LoopThread",
    "MissingDependencyError",
    "MissingExtraError",
    "PluginConflictError",
    "PluginError",
    "PluginInfo",
    "Plugins",
    "QuantumPartitioner",
    "QuantumPartitionerError",
    "QuantumUnit",
    "RetryPolicy",
    "Run",
    "RunFinished",
    "RunOptions",
    "RunReport",
    "RunStarted",
    "Settings",
    "SettingsError",
    "Strategy",
    "Substitute",
    "SystemClock",
    "TaskError",
    "TaskMap",
    "UncacheableError",
    "UndeclaredDependencyError",
    "UnitError",
    "UnitFailedError",
    "UnitFinished",
    "UnitId",
    "UnitRecord",
    "UnitRetrying",
    "UnitStarted",
    "UnitState",
    "UnitTimeoutError",
    "UnknownNameError",
    "Worker",
    "WorkerLostError",
    "available_cores",
    "build_graph",
    "cache_key",
    "current_context",
    "dismiss",
    "hookimpl",
    "hookspec",
    "is_awaitable",
    "run_async",
    "run_parallel",
    "run_parallel_threads",
    "run_tasks",
    "select_execution_strategy",
    "select_optimal_workers",
    "stable_hash",
]


def __getattr__(name: str) -> Any:
    # What needs asyncio is imported by those who do: it takes longer to import than all of the core.
    if name in {"LoopThread", "dismiss"}:
        from qp_core import loop  # noqa: PLC0415

        return getattr(loop, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
