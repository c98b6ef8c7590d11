"""Run: what a unit sees — the caller's mapping and the results of its declared dependencies.

Each attempt of a unit has a context of its own: what it writes there reaches the report and no other unit. (Objects
*inside* the context are shared as they are; nothing is copied deep.)
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol, Self

import attrs

from qp_core.errors import UndeclaredDependencyError, name_list, shown
from qp_core.plan import ExecutionPlan
from qp_core.vocabulary import UnitId


@attrs.define(eq=False)
class ContextHome:
    """What the contexts of one run have in common; made by the run.

    Attributes:
        plan: The plan that is running.
        given: The caller's mapping, copied once; empty where the caller gave no mapping.
        values: Results by unit number; a dependency's is there before its dependents start.
        environment: What is known of the run: `run_id`, `execution_mode`, `max_workers`.
        ids: The plan's, one look-up nearer.
        needs: The plan's, one look-up nearer.
    """

    plan: ExecutionPlan
    given: dict[Any, Any]
    values: list[Any]
    environment: dict[str, Any]
    ids: Sequence[UnitId] = attrs.field(init=False)
    needs: Sequence[Sequence[int]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ids, self.needs = self.plan.shape.ids, self.plan.needs


@attrs.define(eq=False)
class ContextNotes:
    """What a context holds beside its keys; made when the first of it is needed."""

    attempt: int = 1
    written: bool = False
    before: dict[Any, Any] | None = None
    """What was there before the first write, in a context that has no home to ask."""
    away: tuple[str, ...] = ()
    """The keys that were written in another process; what was written stays there."""
    metrics: dict[str, Any] = attrs.Factory(dict)
    environment: dict[str, Any] | None = None
    unit_results: dict[UnitId, Any] | None = None


_put, _get = dict.__setitem__, dict.__getitem__


class ExecutionContext(dict[str, Any]):
    """A dict of what a unit may use: `ctx["key"]` of the caller's mapping, `ctx["unit"]` of a declared dependency.

    Args:
        mapping: Keys and values, as for `dict`.
        unit_results: Results of dependencies, also added as keys.
        metrics: Metrics recorded so far.
        environment: What is known of the run.
    """

    # Three slots and no __init__ of Python's on the hot path: a run makes one context a unit (see `bound`).
    __slots__ = ("_home", "_number", "notes")
    _home: ContextHome | None
    _number: int
    notes: ContextNotes | None
    """The engine's: what is held beside the keys; None while there is nothing."""

    def __init__(
        self,
        mapping: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        /,
        *,
        unit_results: Mapping[UnitId, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(mapping)
        results = dict(unit_results or {})
        super().update(results)
        self._home = None
        self._number = -1
        self.notes = ContextNotes(
            metrics=dict(metrics or {}), environment=dict(environment or {}), unit_results=results
        )

    def bound(self, home: ContextHome, number: int, attempt: int = 1) -> Self:
        """Make a blank context (from `__new__`) the context of one attempt of one unit; the engine's.

        Returns:
            Itself, with the caller's keys and the results of the unit's dependencies.
        """
        self._home = home
        self._number = number
        self.notes = None if attempt == 1 else ContextNotes(attempt=attempt)
        if home.given:
            dict.update(self, home.given)
        needs = home.needs[number]
        if needs:
            ids, values = home.ids, home.values
            for need in needs:
                _put(self, ids[need], values[need])
        return self

    def rebound(self, unit_results: dict[UnitId, Any], attempt: int) -> Self:
        """Take over what a context held in another process; the engine's.

        Returns:
            Itself.
        """
        notes = self._noted()
        notes.unit_results = unit_results
        notes.attempt = attempt
        return self

    def take_back(self, metrics: Mapping[str, Any], writes: Iterable[str]) -> None:
        """Take over what the unit has left in this context, or in its copy in another process; the engine's."""
        if metrics or writes:
            notes = self._noted()
            notes.metrics.update(metrics)
            notes.away = tuple(writes)

    def _noted(self) -> ContextNotes:
        if self.notes is None:
            self.notes = ContextNotes()
        return self.notes

    @property
    def unit_id(self) -> UnitId | None:
        """The unit that this context was made for; None for one made by hand."""
        if self._home is not None:
            return self._home.plan.nodes[self._number].id
        known: UnitId | None = self.environment.get("unit_id")  # in another process
        return known

    @property
    def attempt(self) -> int:
        """Which attempt of the unit this is, from 1."""
        return 1 if self.notes is None else self.notes.attempt

    @property
    def unit_results(self) -> dict[UnitId, Any]:
        """The results of the declared dependencies by id, whatever has been written over their keys."""
        notes = self._noted()
        if notes.unit_results is None:
            notes.unit_results = self._declared()
        return notes.unit_results

    def _declared(self) -> dict[UnitId, Any]:
        if self._home is None:
            return {}
        ids, values, needs = self._home.ids, self._home.values, self._home.needs[self._number]
        if values:
            return {ids[need]: values[need] for need in needs}
        return {
            ids[need]: _get(self, ids[need]) for need in needs if ids[need] in self
        }  # the run is over: what it has itself

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics that this attempt has recorded; they reach the report."""
        return self._noted().metrics

    @property
    def environment(self) -> dict[str, Any]:
        """What is known of the run: `run_id`, `execution_mode`, `max_workers`, `unit_id`, `attempt`."""
        notes = self._noted()
        if notes.environment is None:
            notes.environment = {}
            if self._home is not None:
                notes.environment |= self._home.environment
                notes.environment |= {"unit_id": self.unit_id, "attempt": self.attempt}
        return notes.environment

    def get_dependency_result(self, unit_id: UnitId) -> Any:
        """The result of a dependency.

        Args:
            unit_id: A declared dependency.

        Returns:
            Its result, whatever has been written over its key.

        Raises:
            KeyError: The unit is no declared dependency (`UndeclaredDependencyError` where it is a unit at all).
        """
        results = self.unit_results
        if unit_id in results:
            return results[unit_id]
        return self._raise_missing(unit_id)

    def record_metric(self, name: str, value: Any) -> None:
        """Record a metric of this unit for the report; the last value of a name stays."""
        self.metrics[name] = value

    def _check_declared(self, key: object) -> None:
        if (
            self._home is not None
            and self.unit_id is not None
            and isinstance(key, str)
            and key in self._home.plan.index
        ):
            raise UndeclaredDependencyError(self.unit_id, key)

    def _raise_missing(self, key: object) -> NoReturn:
        self._check_declared(key)
        error = KeyError(key)
        if self.unit_id is not None:
            error.add_note(
                f"unit {shown(self.unit_id)} reads the keys of the caller's context, and the results of its own dependencies:"
                f" {name_list(self.unit_results)}"
            )
        raise error

    def __missing__(self, key: str) -> NoReturn:
        self._raise_missing(key)

    def get(self, key: str, default: Any = None) -> Any:
        """`dict.get`, but an undeclared unit's result is an error here too (as in `pop` and `setdefault`), never the default.

        Returns:
            The value, or the default.
        """
        if key not in self:
            self._check_declared(key)
        return super().get(key, default)

    # What writes says so, so that a unit which writes nothing pays nothing when it ends.

    def _write(self) -> None:
        notes = self._noted()
        if self._home is None and not notes.written:
            notes.before = dict(self)
        notes.written = True

    def __setitem__(self, key: str, value: Any) -> None:
        self._write()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._write()
        super().__delitem__(key)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc] # typeshed's overloads of __or__ cannot be met by one signature
        self._write()
        return super().__ior__(other)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """`dict.update`."""
        self._write()
        super().update(*args, **kwargs)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """`dict.setdefault`.

        Returns:
            The value that is there now.
        """
        if key in self:
            return self[key]
        self._check_declared(key)
        self._write()
        return super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """`dict.pop`.

        Returns:
            The value that was there, or the default.
        """
        if key not in self:
            self._check_declared(key)
        self._write()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """`dict.popitem`.

        Returns:
            The pair that was there.
        """
        self._write()
        return super().popitem()

    def clear(self) -> None:
        """`dict.clear`."""
        self._write()
        super().clear()

    def writes(self) -> dict[str, Any]:
        """The keys that the unit has set to something else than it was given.

        Returns:
            New or changed keys with their values; removed keys do not appear.
        """
        if self.notes is None or not self.notes.written:
            return {}
        before = self.notes.before
        if before is None:
            before = {} if self._home is None else {**self._home.given, **self._declared()}
        return {key: value for key, value in self.items() if key not in before or before[key] is not value}

    def written(self) -> tuple[str, ...]:
        """The keys of `writes`, and those that were written in another process.

        Returns:
            Each once.
        """
        writes = tuple(self.writes())
        away = () if self.notes is None else self.notes.away
        return tuple(dict.fromkeys((*writes, *away))) if away else writes

    def __reduce__(self) -> tuple[Any, ...]:
        # Into a worker process go the keys and the declared results, not the plan.
        return _rebuilt, (dict(self), self.unit_results, dict(self.metrics), self.environment)


def _rebuilt(
    keys: dict[str, Any], results: dict[str, Any], metrics: dict[str, Any], environment: dict[str, Any]
) -> ExecutionContext:
    return ExecutionContext(keys, metrics=metrics, environment=environment).rebound(
        results, environment.get("attempt") or 1
    )


class RunsUnits(Protocol):
    """What runs one unit at a time: a worker of a run."""

    context: ExecutionContext | None


running: ContextVar[RunsUnits | None] = ContextVar("qp_running", default=None)
"""The worker that runs the current code; how a nested execution knows whom it is part of."""


def current_context() -> ExecutionContext:
    """The context of the unit that is running here; for functions that were not given it.

    Returns:
        The context; its `unit_results` are there also where the caller's context is no mapping.

    Raises:
        LookupError: No unit is running here.
    """
    worker = running.get()
    if worker is None or worker.context is None:
        msg = "no unit is running here; current_context() is for functions that a unit calls"
        raise LookupError(msg)
    return worker.context
