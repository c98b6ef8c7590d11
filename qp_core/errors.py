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
│  └─ UncacheableError (TypeError)      what a result depends on has no content to tell it apart by
├─ SettingsError (ValueError)           a setting that cannot be understood
└─ MissingExtraError (ImportError)      an optional library is absent; prints the pip command

Each class words itself; who raises passes facts. What a user's unit raised is never one of these: it is kept as it is.
"""

import difflib
import heapq
import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from qp_core.vocabulary import UnitId, UnitState

# Positional fields and a __dict__: the one form that pickles whole, notes included.
_error = attrs.define(eq=False, slots=False, match_args=False)
_SHOWN = 8  # names listed before "and n more"
_LONGEST = 200  # characters of one value in a message; the error's attributes hold it whole
_LOOKED_AT, _COMPARED = 10_000, 100  # names: read, and compared letter by letter (some ms each where they are long)


def shown(value: object) -> str:
    """A value for a message: its repr, cut in the middle where that is long.

    Returns:
        One piece of text, also where the value's own `__repr__` raises.
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything, and must not hide the error that is being worded
        return f"<{type(value).__qualname__} that cannot be shown>"
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]} ({len(text)} characters)"


def told(error: BaseException) -> str:
    """An exception for a message: its class and text.

    Returns:
        One piece of text, also where the exception's own `__str__` raises.
    """
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything, and must not spoil the message
        return f"{type(error).__name__} (its __str__ raised {type(broken).__name__})"


def refuse_class(given: object, what: str, methods: Iterable[str]) -> None:
    """Refuse a class where an instance of it was meant; one whose methods need none (static ones, say) will do.

    Raises:
        TypeError: It is such a class; the message says how to make one of it.
    """
    if isinstance(given, type) and any(
        inspect.isfunction(inspect.getattr_static(given, method, None)) for method in methods
    ):
        msg = f"{what} is the class {given.__name__}; give an instance: {given.__name__}()"
        raise TypeError(msg)


def name_list(names: Iterable[object]) -> str:
    """Names for a message: quoted, the first eight, then how many more.

    Returns:
        `'a', 'b' and 3 more`, or `none`.
    """
    listed = list(names)
    head = ", ".join(shown(name) for name in listed[:_SHOWN])
    return f"{head} and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else head or "none"


def nearest(name: object, known: Iterable[str]) -> list[str]:
    """The names that look most like a wrong one, best first.

    Costs O(names), and less than a second whatever they are: of the first 10,000, only the 100 that begin and end most
    like the wrong one are compared letter by letter.

    Returns:
        Up to three names; empty where nothing is near.
    """
    if not isinstance(name, str):
        return []
    wrong = name[:_LONGEST]

    def shared_ends(candidate: str) -> int:
        return _shared(wrong, candidate) + _shared(wrong[::-1], candidate[: -_LONGEST - 1 : -1])

    likely = heapq.nlargest(_COMPARED, itertools.islice(known, _LOOKED_AT), key=shared_ends)
    return difflib.get_close_matches(wrong, likely, n=3)


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _around(name: object, known: Iterable[str]) -> list[str]:
    """The names that the wrong one is a part of, whatever the case of its letters."""
    if not isinstance(name, str) or not name:
        return []
    part = name[:_LONGEST].casefold()
    return list(itertools.islice((one for one in known if part in one.casefold()), 3))


def _hint(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(shown(one) for one in near)}?" if near else ""


class QuantumPartitionerError(Exception):
    """Anything that this library raises on purpose."""


class GraphError(QuantumPartitionerError, ValueError):
    """The units that you gave cannot be run as a graph."""


@_error
class DuplicateUnitError(GraphError):
    """You added a unit under an id that is taken."""

    unit_id: UnitId

    def __str__(self) -> str:
        return f"unit {shown(self.unit_id)} is already there; give this one another name"


@_error
class MissingDependencyError(GraphError):
    """You named a dependency that no unit of the graph provides."""

    unit_id: UnitId
    dependency: object
    suggestions: Sequence[str] = ()
    argument: bool = False
    """Whether `unit_id` is no unit, but the argument of `execute` that names the missing one."""

    def __str__(self) -> str:
        who = f"{self.unit_id} names" if self.argument else f"unit {shown(self.unit_id)} needs"
        if not isinstance(self.dependency, str):
            named = self.unit_id if self.argument else "dependencies"
            return f"{who} {shown(self.dependency)}, which is no unit id; {named} are ids (strings)"
        unneeded = "the name" if self.argument else "the dependency"
        return f"{who} {shown(self.dependency)}, which is not in the graph; " + (
            _hint(self.suggestions) or f"add that unit, or take {unneeded} away"
        )


def missing_dependency(
    unit_id: UnitId, dependency: object, known: Iterable[str], *, argument: bool = False
) -> MissingDependencyError:
    """Make the error for a dependency that is not there, with the nearest of the known names."""
    return MissingDependencyError(unit_id, dependency, tuple(nearest(dependency, known)), argument)


@_error
class CircularDependency(GraphError):  # noqa: N818 - the name is the seed's
    """You made units wait for each other in a ring."""

    path: Sequence[UnitId]

    def __str__(self) -> str:
        steps = [shown(step) for step in self.path]
        if len(set(self.path)) == 1:
            return f"unit {steps[0]} depends on itself; take the dependency away"
        told = steps if len(steps) <= _SHOWN else [*steps[: _SHOWN - 2], "…", *steps[-2:]]
        return (
            f"circular dependency of {len(steps) - 1} units: {' -> '.join(told)} (each needs the next); cut one of them"
        )


class CircularDependencyError(CircularDependency):
    """You gave a partitioner units that wait for each other in a ring."""


@_error
class UnknownNameError(QuantumPartitionerError, ValueError):
    """You named a plugin that is not there."""

    kind: str
    name: object
    known: Sequence[str] = ()

    def __str__(self) -> str:
        hint = _hint(nearest(self.name, self.known) or _around(self.name, self.known))
        text = f"there is no {self.kind} named {shown(self.name)}; there are: {name_list(self.known)}"
        return f"{text}; {hint}" if hint else text


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
        read = shown(self.read)
        return f"unit {shown(self.unit_id)} reads the result of {read} without depending on it; add {read} to its dependencies"


@_error
class UnitError(QuantumPartitionerError):
    """Something about one unit; `unit_id` says which."""

    unit_id: UnitId

    def __str__(self) -> str:
        return f"something is wrong with unit {shown(self.unit_id)}"


@_error
class UnitFailedError(UnitError, KeyError):
    """You read the result of a unit that has none."""

    state: UnitState
    reason: str
    root: UnitId | None = None

    def __str__(self) -> str:
        happened = {UnitState.TIMEOUT: "it ran out of time", UnitState.FAILED: "it failed"}
        text = f"unit {shown(self.unit_id)} has no result: {happened.get(self.state, f'it was {self.state.value}')}"
        if self.root is not None:
            text += f" because unit {shown(self.root)} did not complete"
        if self.reason:
            text += f" ({self.reason})"
        return f"{text}; see .report for what happened"


@_error
class UnitTimeoutError(UnitError, TimeoutError):
    """Your unit took longer than its limit; `abandoned` is what could be said when its time was up, the unit's record what came of it."""

    limit_s: float
    abandoned: bool = False
    of: str = "timeout"

    def __str__(self) -> str:
        text = f"unit {shown(self.unit_id)} ran out of time (its {self.of} is {self.limit_s:g} s)"
        if self.abandoned:
            return f"{text}; it could not be stopped, so it was abandoned and may still be running"
        return f"{text}; allow more time, or give the unit less to do"


@_error
class WorkerLostError(UnitError):
    """What ran your unit went away before the unit had ended."""

    reason: str

    def __str__(self) -> str:
        text = f"the worker that ran unit {shown(self.unit_id)} was lost: {self.reason}"
        return f"{text}; look for a crash in native code, or for a kill because memory ran short"


@_error
class TaskError(QuantumPartitionerError):
    """Tasks of yours failed."""

    errors: Mapping[UnitId, BaseException]
    partial_results: Mapping[UnitId, Any]
    failed_tasks: Sequence[UnitId]

    def __str__(self) -> str:
        first = next(iter(self.errors.items()), None)
        told = f" ({shown(first[0])} raised {shown(first[1])})" if first else ""
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


class UncacheableError(CacheError, TypeError):
    """Something that your unit's result depends on has no content that tells it apart from another."""


@_error
class SettingsError(QuantumPartitionerError, ValueError):
    """A setting of yours cannot be understood."""

    name: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"setting {self.name} is {shown(self.value)}; expected {self.expected}"


@_error
class MissingExtraError(QuantumPartitionerError, ImportError):
    """You asked for something that needs an optional library."""

    feature: str
    extra: str

    def __str__(self) -> str:
        return f"{self.feature} needs an optional library; pip install 'quantum-partitioner[{self.extra}]'"
