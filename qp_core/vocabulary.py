"""The words that every other module uses: states, modes, type aliases, and what counts as a coroutine.

What a state or a mode *means* is written in `run` and `executor`.
"""

import inspect
import types
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import argparse

    from typing_extensions import TypeVar

    # With defaults (PEP 696), so that `QuantumPartitioner()` needs no annotation; `typing` has them from Python 3.13 on.
    T = TypeVar("T", default=Any)
    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
    """What a unit is given: the context."""
    R = TypeVar("R")
    """What a unit returns."""

UnitId: TypeAlias = str
"""The name of a unit: any non-empty string. An alias, not a NewType, so that plain literals type-check."""

UnitFunction: TypeAlias = Callable[[Any], R] | Callable[[Any], Awaitable[R]]
"""What a unit runs: called with the unit's context; a coroutine function or an awaitable result is awaited."""


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling this only makes a coroutine, so that the call itself cannot block.

    Returns:
        False also for functions of which only the result tells (decorated, or returning an awaitable).
    """
    if type(function) is types.FunctionType:
        return bool(function.__code__.co_flags & inspect.CO_COROUTINE)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def is_awaitable(value: object) -> bool:
    """Whether a unit's result has to be awaited first: a coroutine, a future, or anything else with `__await__`."""
    return hasattr(type(value), "__await__")


OnFailure: TypeAlias = Literal["return", "raise"]
"""What `execute` does when units failed: return what there is, or raise an ExceptionGroup."""


class UnitState(Enum):
    """Where a unit stands in one run; each unit ends in exactly one of the last five."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"
    TIMEOUT = "timeout"

    @property
    def is_final(self) -> bool:
        """Whether a unit in this state is done with the run."""
        return self not in {UnitState.PENDING, UnitState.RUNNING}

    @property
    def is_failure(self) -> bool:
        """Whether the unit itself went wrong: it raised, or ran out of time."""
        return self in {UnitState.FAILED, UnitState.TIMEOUT}


class ExecutionMode(Enum):
    """Where the units of a run are executed; each value is the name of the executor plugin that answers it."""

    SEQUENTIAL = "sequential"
    PROCESS = "process"
    THREAD = "thread"
    ASYNC = "async"
    CUSTOM = "custom"


class Command(Protocol):
    """A subcommand of the `qp` command."""

    help: str
    """One line for the list of commands."""

    def configure(self, parser: "argparse.ArgumentParser") -> None:
        """Add the command's arguments to its parser."""
        ...

    def run(self, args: "argparse.Namespace") -> int:
        """Do it.

        Returns:
            The exit code: 0 done, 1 not done, 2 used wrongly.
        """
        ...
