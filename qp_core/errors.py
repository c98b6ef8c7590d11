"""Everything this library raises on purpose, as one tree.

QuantumPartitionerError
├─ GraphError (ValueError)              the units cannot be run as they were given
│  ├─ DuplicateUnitError                an id is taken
│  ├─ MissingDependencyError            a dependency that nobody provides; names the nearest
│  └─ CircularDependency                units wait for each other; holds the path (the TaskMap layer's name)
│     └─ CircularDependencyError        the same from a partitioner: both names catch it
├─ UnknownNameError (ValueError)        no executor, strategy, cache ... of that name; lists what there is
├─ ContextError (TypeError)             what was given as the context cannot be one
├─ UndeclaredDependencyError (KeyError) a unit read a result that it does not depend on
├─ UnitError                            carries unit_id
│  ├─ UnitFailedError (KeyError)        a failed or skipped unit's key was read; __cause__ is the unit's own exception
│  ├─ UnitTimeoutError (TimeoutError)   the limit, and whether the unit was abandoned still running
│  └─ WorkerLostError                   what ran the unit is gone
├─ TaskError                            errors, partial_results, failed_tasks
│  └─ ExecutionError                    the same from `execute_with_recovery`
├─ PluginError                          plugin, distribution, hook
│  └─ PluginConflictError               two plugins provide one name
├─ CacheError                           a cache cannot be used as asked
├─ SettingsError (ValueError)           a setting that cannot be understood
└─ MissingExtraError (ImportError)      an optional library is absent; prints the pip command

Each class words itself; who raises passes facts. What a user's unit raised is never one of these: it is kept as it is.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from qp_core.vocabulary import UnitId, UnitState

_error = attrs.define(
    eq=False, slots=False
)  # positional fields and a __dict__: the one form that pickles whole, notes included
_SHOWN = 8  # names listed before "and n more"


def name_list(names: Iterable[object]) -> str:
    """Names for a message: quoted, the first eight, then how many more.

    Returns:
        `'a', 'b' and 3 more`, or `none`.
    """
    listed = list(names)
    head = ", ".join(repr(name) for name in listed[:_SHOWN])
    return f"{head} and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else head or "none"


def nearest(name: object, known: Iterable[str]) -> list[str]:
    """The names that look most like a wrong one, best first.

    Costs O(names) with a large factor, so it looks at 10,000 names at the most.

    Returns:
        Up to three names; empty where nothing is near.
    """
    some = [candidate for candidate, _ in zip(known, range(10_000), strict=False)]
    return difflib.get_close_matches(str(name)[:200], some, n=3)


def _did_you_mean(name: object, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ""


class QuantumPartitionerError(Exception):
    """Anything that this library raises on purpose."""


class GraphError(QuantumPartitionerError, ValueError):
    """The units that you gave cannot be run as a graph."""


@_error
class DuplicateUnitError(GraphError):
    """You added a unit under an id that is taken."""

    unit_id: UnitId

    def __str__(self) -> str:
        return f"unit {self.unit_id!r} is already there; give this one another name"


@_error
class MissingDependencyError(GraphError):
    """You named a dependency that no unit of the graph provides."""

    unit_id: UnitId
    dependency: object
    suggestions: Sequence[str] = ()

    def __str__(self) -> str:
        hint = " or ".join(repr(name) for name in self.suggestions)
        if not isinstance(self.dependency, str):
            return (
                f"unit {self.unit_id!r} needs {self.dependency!r}, which is no unit id; dependencies are ids (strings)"
            )
        return f"unit {self.unit_id!r} needs {self.dependency!r}, which is not in the graph; " + (
            f"did you mean {hint}?" if hint else "add that unit, or take the dependency away"
        )


def missing_dependency(unit_id: UnitId, dependency: object, known: Iterable[str]) -> MissingDependencyError:
    """Make the error for a dependency that is not there, with the nearest of the known names."""
    return MissingDependencyError(unit_id, dependency, tuple(nearest(dependency, known)))


@_error
class CircularDependency(GraphError):  # noqa: N818 - the name is the seed's
    """You made units wait for each other in a ring."""

    path: Sequence[UnitId]

    def __str__(self) -> str:
        steps = list(self.path)
        if steps[0] == steps[1]:
            return f"unit {steps[0]!r} depends on itself; take the dependency away"
        shown = steps if len(steps) <= _SHOWN else [*steps[: _SHOWN - 2], "…", *steps[-2:]]
        ring = " -> ".join("…" if step == "…" else repr(step) for step in shown)
        return f"circular dependency of {len(steps) - 1} units: {ring} (each needs the next); cut one of them"


class CircularDependencyError(CircularDependency):
    """You gave a partitioner units that wait for each other in a ring."""


@_error
class UnknownNameError(QuantumPartitionerError, ValueError):
    """You named a plugin that is not there."""

    kind: str
    name: object
    known: Sequence[str] = ()

    def __str__(self) -> str:
        hint = _did_you_mean(self.name, self.known)
        return f"there is no {self.kind} named {self.name!r}; there are: {name_list(self.known)}{hint}"


@_error
class ContextError(QuantumPartitionerError, TypeError):
    """You gave `execute` something that cannot be a context."""

    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.advice}"


@_error
class UndeclaredDependencyError(QuantumPartitionerError, KeyError):
    """Your unit read the result of a unit that it does not depend on."""

    unit_id: UnitId
    read: str

    def __str__(self) -> str:
        return f"unit {self.unit_id!r} reads the result of {self.read!r} without depending on it; add {self.read!r} to its dependencies"


class UnitError(QuantumPartitionerError):
    """Something about one unit; `unit_id` says which."""

    unit_id: UnitId


@_error
class UnitFailedError(UnitError, KeyError):
    """You read the result of a unit that has none."""

    unit_id: UnitId
    state: UnitState
    reason: str
    root: UnitId | None = None

    def __str__(self) -> str:
        text = f"unit {self.unit_id!r} has no result: it was {self.state.value}"
        if self.state.is_failure:
            text = f"unit {self.unit_id!r} has no result: {'it ran out of time' if self.state is UnitState.TIMEOUT else 'it failed'}"
        if self.root is not None:
            text += f" because unit {self.root!r} did not complete"
        return (
            f"{text} ({self.reason}); see .report for what happened"
            if self.reason
            else f"{text}; see .report for what happened"
        )


@_error
class UnitTimeoutError(UnitError, TimeoutError):
    """Your unit took longer than its limit."""

    unit_id: UnitId
    limit_s: float
    abandoned: bool = False
    of: str = "timeout"

    def __str__(self) -> str:
        text = f"unit {self.unit_id!r} ran out of time (its {self.of} is {self.limit_s:g} s)"
        if self.abandoned:
            text += "; a thread cannot be stopped, so it was abandoned and may still be running"
        return text


@_error
class WorkerLostError(UnitError):
    """What ran your unit went away before the unit had ended."""

    unit_id: UnitId
    reason: str

    def __str__(self) -> str:
        return f"the worker that ran unit {self.unit_id!r} was lost: {self.reason}"


@_error
class TaskError(QuantumPartitionerError):
    """Tasks of yours failed."""

    errors: Mapping[UnitId, BaseException]
    partial_results: Mapping[UnitId, Any]
    failed_tasks: Sequence[UnitId]

    def __str__(self) -> str:
        first = next(iter(self.errors.items()), None)
        told = f" ({first[0]!r} raised {first[1]!r})" if first else ""
        return (
            f"{len(self.partial_results)} completed, failed: {name_list(self.failed_tasks)}{told}"
            "; .errors has every error, .partial_results what completed"
        )


class ExecutionError(TaskError):
    """Units of yours failed, and had no fallback."""


@_error
class PluginError(QuantumPartitionerError):
    """A plugin did what its seam does not allow."""

    plugin: str
    hook: str
    problem: str
    distribution: str | None = None

    def __str__(self) -> str:
        origin = f" (from {self.distribution})" if self.distribution else ""
        return f"plugin {self.plugin!r}{origin}, {self.hook}: {self.problem}"


class PluginConflictError(PluginError):
    """Two plugins provide the same name."""


@_error
class CacheError(QuantumPartitionerError):
    """A cache cannot be used as you asked."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@_error
class SettingsError(QuantumPartitionerError, ValueError):
    """A setting of yours cannot be understood."""

    name: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"setting {self.name} is {self.value!r}; expected {self.expected}"


@_error
class MissingExtraError(QuantumPartitionerError, ImportError):
    """You asked for something that needs an optional library."""

    feature: str
    extra: str

    def __str__(self) -> str:
        return f"{self.feature} needs an optional library; pip install 'quantum-partitioner[{self.extra}]'"
