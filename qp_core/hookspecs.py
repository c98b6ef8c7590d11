"""Every hook, in the order in which a run reaches them. This is the whole menu for authors of plugins.

Three kinds: *provide* hooks are asked once, when their names are needed; of *decide* hooks the first answer counts; *observe*
hooks hear what happens and answer nothing. A plugin takes any subset of the arguments, so adding one is compatible,
renaming or removing is not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pluggy

from qp_core.cache import Cache
from qp_core.executor import ExecutorFactory
from qp_core.fallback import Substitute
from qp_core.plan import ExecutionPlan
from qp_core.strategy import Strategy
from qp_core.telemetry import RunFinished, RunStarted, UnitFinished, UnitRetrying, UnitStarted
from qp_core.unit import QuantumUnit
from qp_core.vocabulary import Command

PROJECT = "quantum_partitioner"
"""pluggy's project name, and the group of the entry points."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks the functions of a plugin that implement hooks."""


@hookspec
def qp_commands() -> Mapping[str, Command]:  # type: ignore[empty-body] # a specification, like those below
    """Offer subcommands of the `qp` command.

    Kind: provide.
    Called: once a process, when the command starts.

    Returns:
        Names, each with its command.
    """


@hookspec
def qp_executors() -> Mapping[str, ExecutorFactory]:  # type: ignore[empty-body]
    """Offer executors.

    Kind: provide.
    Called: once a process, before the first run.

    Returns:
        Names (as given to `execution_mode`), each with what makes an executor for one run. It is called with the caller's
        `custom_executor`, or None.
    """


@hookspec
def qp_strategies() -> Mapping[str, Callable[[], Strategy]]:  # type: ignore[empty-body]
    """Offer strategies.

    Kind: provide.
    Called: once a process, before the first run.

    Returns:
        Names (as given to `strategy`), each with what makes a strategy for one run.
    """


@hookspec
def qp_caches() -> Mapping[str, Callable[[], Cache]]:  # type: ignore[empty-body]
    """Offer caches.

    Kind: provide.
    Called: once a process, when a partitioner first wants a cache.

    Returns:
        Names (as given to `cache`), each with what makes a cache.
    """


@hookspec
def qp_observers() -> Mapping[str, Callable[..., object]]:  # type: ignore[empty-body]
    """Offer observers that somebody asks for by name, unlike the observe hooks of a plugin, which hear of every run.

    Kind: provide.
    Called: once a process, when a run first wants an observer.

    Returns:
        Names (as given to `telemetry`), each with what makes an observer for one run: an object whose methods are named like
        observe hooks.
    """


@hookspec(firstresult=True)
def qp_choose_strategy(plan: ExecutionPlan) -> str | None:
    """Choose the strategy of a run for which the caller named none.

    Kind: decide. The first answer that is not None counts; without one it is `fifo`. A plugin that raises ends the run.
    Called: once a run, before it begins, in the thread that called `execute`.

    Args:
        plan: What will run.

    Returns:
        The name of a strategy, or None for no answer.
    """


@hookspec
def qp_run_started(event: RunStarted) -> None:
    """Hear that a run begins.

    Kind: observe. A plugin that raises is switched off for this run and named once in the log.
    Called: once a run, in the coordinating process, before the first unit is handed out.

    Args:
        event: The plan, and how it will run.
    """


@hookspec(firstresult=True)
def qp_cache_key(unit: QuantumUnit[Any, Any], context: Mapping[str, Any]) -> str | None:
    """Say under which key a unit's result is cached.

    Kind: decide. The first answer that is not None counts; without one it is `cache_key`'s. A plugin that raises ends the run.
    Called: once an attempt of each unit with `metadata["cacheable"]`, where the run has a cache, in the thread of the attempt.

    Args:
        unit: The unit; read only.
        context: What it is about to be called with.

    Returns:
        A key that says all that the result depends on, or None for no answer.
    """


@hookspec
def qp_unit_started(event: UnitStarted) -> None:
    """Hear that an attempt of a unit begins.

    Kind: observe. A plugin that raises is switched off for this run and named once in the log.
    Called: once an attempt, in the coordinating process, in the thread of the attempt; one event at a time in a run.

    Args:
        event: Which unit, which attempt, and when.
    """


@hookspec
def qp_unit_retrying(event: UnitRetrying) -> None:
    """Hear that an attempt failed and another will follow.

    Kind: observe. A plugin that raises is switched off for this run and named once in the log.
    Called: once a failed attempt that is not the last, in the coordinating process.

    Args:
        event: What was raised, and how long the unit will wait.
    """


@hookspec(firstresult=True)
def qp_fallback(unit: QuantumUnit[Any, Any], error: BaseException, attempt: int, context: Any) -> Substitute | None:
    """Offer a value for a unit whose last attempt failed.

    Kind: decide. The first answer that is not None counts. A plugin that raises ends the run with `PluginError`; a *user's* fallback
    that raises is no plugin error: answer with an awaitable, or add a note to `error` and answer None.
    Called: once a failed unit, in the coordinating process, in the thread that settles the unit.

    Args:
        unit: The unit; read only.
        error: What the last attempt raised.
        attempt: Attempts made, from 1.
        context: What the unit was called with: its context, or the caller's own object where that is no mapping.

    Returns:
        `Substitute(value)`, whose value may be None or an awaitable; or None for no answer.
    """


@hookspec
def qp_unit_finished(event: UnitFinished) -> None:
    """Hear of a unit's end: completed, cached, by fallback, failed, timed out, skipped or cancelled.

    Kind: observe. A plugin that raises is switched off for this run and named once in the log.
    Called: once for each unit of a run, in the coordinating process, before any unit that depends on it starts.

    Args:
        event: How it ended.
    """


@hookspec
def qp_run_finished(event: RunFinished) -> None:
    """Hear that a run is over.

    Kind: observe. A plugin that raises is named once in the log.
    Called: once a run, in the coordinating process, after the last unit's end.

    Args:
        event: The report.
    """
