"""Report: what a run says of itself when it is over.

Values are kept in `ExecutionResult`, never in the report: a report is data, may be stored, and holds no results.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import attrs

from qp_core import codec, graph
from qp_core.errors import UnitFailedError, name_list, nearest, told
from qp_core.ledger import COMPLETED, FREED, STATES, Ledger
from qp_core.unit import NOTHING_YET, Outcome
from qp_core.vocabulary import R, UnitId, UnitState

REPORT_SCHEMA = 1
"""Version of what `RunReport.to_data` writes; raised when a field changes its meaning."""


class ErrorSummary(NamedTuple):
    """An exception as data."""

    type: str
    text: str

    @classmethod
    def of(cls, error: BaseException | None) -> "ErrorSummary | None":
        """Sum up an exception.

        Returns:
            Its class and text; None for None.
        """
        if error is None:
            return None
        try:
            text = str(error)
        except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything, and must not spoil the report
            text = f"<its __str__ raised {type(broken).__name__}>"
        kind = type(error)
        return cls(
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}", text
        )


@attrs.frozen(kw_only=True)
class UnitRecord:
    """What one run says of one unit.

    Attributes:
        id: The unit.
        state: Where it ended.
        dependencies: What it waited for.
        attempts: Attempts made; 0 where it never ran.
        started_s: When its last attempt began, in seconds after the run's start.
        duration_s: How long that attempt took.
        worker: The number of the worker that ran it, from 0.
        error: What the last attempt raised; also kept where a fallback stood in.
        cause: For a skipped unit, the failed unit that is the root cause.
        used_fallback: Whether a fallback stood in.
        cached: Whether the result came from a cache.
        known: Whether the caller gave the result beforehand.
        abandoned: Whether it could not be stopped and may still be running.
        metrics: What the unit recorded.
        writes: The keys it wrote into its context, without their values.
    """

    id: UnitId
    state: UnitState
    dependencies: tuple[UnitId, ...] = ()
    attempts: int = 0
    started_s: float | None = None
    duration_s: float | None = None
    worker: int | None = None
    error: ErrorSummary | None = None
    cause: UnitId | None = None
    used_fallback: bool = False
    cached: bool = False
    known: bool = False
    abandoned: bool = False
    metrics: Mapping[str, Any] = attrs.Factory(dict)
    writes: tuple[str, ...] = ()


class _LedgerRecords(Mapping[UnitId, UnitRecord]):
    """The records of a ledger, each made when it is read: a run of a million units keeps columns, not objects."""

    def __init__(self, ledger: Ledger, zero: float) -> None:
        self.ledger = ledger
        self._zero = zero

    def __len__(self) -> int:
        return len(self.ledger.shape.index)

    def __iter__(self) -> Iterator[UnitId]:
        return iter(self.ledger.shape.index)

    def __contains__(self, unit_id: object) -> bool:
        return unit_id in self.ledger.shape.index

    def __getitem__(self, unit_id: UnitId) -> UnitRecord:
        ledger = self.ledger
        number = ledger.shape.index[unit_id]
        notes = ledger.notes_of(number)
        ran = ledger.ran(number)
        state = STATES[ledger.states[number]]
        cause = ledger.causes.get(number)
        return UnitRecord(
            id=unit_id,
            state=state,
            dependencies=ledger.shape.dependencies_of(number),
            attempts=notes.attempts if ran else 0,
            started_s=ledger.started[number] - self._zero if ran else None,
            duration_s=ledger.ended[number] - ledger.started[number] if ran else None,
            worker=ledger.workers[number] if ran else None,
            error=ErrorSummary.of(notes.error),
            cause=None if cause is None else ledger.shape.ids[cause],
            used_fallback=notes.used_fallback,
            cached=notes.cached,
            known=notes.known,
            abandoned=notes.abandoned,
            metrics=dict(notes.metrics),
            writes=notes.writes,
        )

    def __repr__(self) -> str:
        return f"<records of {len(self)} units>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The ledger stays behind, also in a copy: it holds a lock.
        return dict, (dict(self),)


@attrs.frozen(kw_only=True)
class RunReport:
    """What a run says of itself. Data: it can be stored and read back (`to_data`, `from_data`).

    Attributes:
        run_id: Unique for each run.
        mode: The executor's name.
        strategy: The strategy's name.
        max_workers: The most units that could run at once; None is no bound.
        started_utc: Seconds since the epoch.
        wall_s: Seconds from start to end.
        units: One record a unit, by id, in plan order.
        stopped: Why the run was stopped before its end (`canceled`, `deadline`, `interrupted`, `fail_fast`); None if it was not.
        schema: Version of the data form.
    """

    run_id: str
    mode: str
    strategy: str
    max_workers: int | None
    started_utc: float
    wall_s: float
    units: Mapping[UnitId, UnitRecord] = attrs.field(repr=False)
    stopped: str | None = None
    schema: int = REPORT_SCHEMA

    @classmethod
    def of(cls, ledger: Ledger, zero: float, **facts: Any) -> "RunReport":
        """Make the report of a finished run.

        Args:
            ledger: Its columns; not changed any more.
            zero: When it began, on the ledger's clock.
            **facts: The fields beside `units`.

        Returns:
            The report.
        """
        return cls(units=_LedgerRecords(ledger, zero), **facts)

    @cached_property
    def counts(self) -> dict[UnitState, int]:
        """How many units ended in each state; states without units are left out."""
        if isinstance(self.units, _LedgerRecords):
            found = Counter(self.units.ledger.states)
            return {STATES[code]: found[code] for code in sorted(found)}
        return dict(Counter(record.state for record in self.units.values()))

    def in_state(self, *states: UnitState) -> tuple[UnitId, ...]:
        """The units that ended in one of the given states, in plan order.

        Returns:
            Ids.
        """
        if not any(state in self.counts for state in states):
            return ()
        if isinstance(self.units, _LedgerRecords):
            # Without a record a unit: this is asked after every run that has failures.
            ledger, codes = self.units.ledger, {STATES.index(state) for state in states}
            found = zip(ledger.shape.index, ledger.states, strict=True)
            return tuple(unit_id for unit_id, code in found if code in codes)
        return tuple(unit_id for unit_id, record in self.units.items() if record.state in states)

    @property
    def abandoned(self) -> tuple[UnitId, ...]:
        """Units that could not be stopped, and may still be running."""
        if not any(
            state in self.counts
            for state in (UnitState.TIMEOUT, UnitState.CANCELED, UnitState.FAILED, UnitState.COMPLETED)
        ):
            return ()
        if isinstance(self.units, _LedgerRecords):
            ledger = self.units.ledger
            return tuple(ledger.shape.ids[number] for number, notes in sorted(ledger.notes.items()) if notes.abandoned)
        return tuple(unit_id for unit_id, record in self.units.items() if record.abandoned)

    @cached_property
    def busy_s(self) -> float:
        """The durations of all units together, in seconds: the wall time of one perfect worker."""
        return sum(record.duration_s or 0.0 for record in self.units.values())

    @cached_property
    def critical_path(self) -> list[UnitId]:
        """The chain of units that took longest, by measured durations."""
        ids = list(self.units)
        index = {unit_id: number for number, unit_id in enumerate(ids)}
        records = [self.units[unit_id] for unit_id in ids]
        needs = [[index[need] for need in record.dependencies if need in index] for record in records]
        order = graph.topological_order(needs, graph.children_of(needs))
        return [
            ids[number]
            for number in graph.critical_path(needs, order, [record.duration_s or 0.0 for record in records])
        ]

    @property
    def critical_path_s(self) -> float:
        """The durations along the critical path, in seconds: no number of workers is faster than that."""
        return sum(self.units[unit_id].duration_s or 0.0 for unit_id in self.critical_path)

    @property
    def speedup(self) -> float:
        """Busy time over wall time: how many workers were busy on average."""
        return self.busy_s / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def parallel_efficiency(self) -> float:
        """Speed-up over the number of workers (without a bound: over the speed-up that the critical path allows); 1 is perfect."""
        workers = self.max_workers
        if workers is None:
            workers = max(1, round(self.busy_s / self.critical_path_s)) if self.critical_path_s > 0 else 1
        return self.speedup / workers

    def to_data(self) -> dict[str, Any]:
        """The report as plain data for JSON.

        Returns:
            The fields by name; metrics as they are, of what a unit wrote only the keys.
        """
        data: dict[str, Any] = codec.to_data(attrs.evolve(self, units={}))
        for unit_id, record in self.units.items():
            # Metrics stay as they are: the converter would take them apart, and some (a dict with tuples as keys) it cannot.
            data["units"][unit_id] = {
                **codec.to_data(attrs.evolve(record, metrics={})),
                "metrics": dict(record.metrics),
            }
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "RunReport":
        """Read a report back.

        Returns:
            A report equal to the one that was written.
        """
        return codec.from_data(data, cls)


class ExecutionResult(dict[UnitId, R]):
    """What `execute` returns: the result of every unit that completed, by id, in plan order.

    Reading the key of a unit that did not complete raises `UnitFailedError` (a KeyError) with the unit's own exception as
    `__cause__`.

    Attributes:
        report: What happened, unit by unit.
        errors: What units raised, by id, in plan order; also of units whose fallback stood in.
    """

    __slots__ = ("_ledger", "errors", "report")
    report: RunReport
    errors: dict[UnitId, BaseException]
    _ledger: Ledger | None

    def __init__(self, ledger: Ledger, report: RunReport) -> None:
        ids, states, values = ledger.shape.index, ledger.states, ledger.values
        pairs = zip(ids, values, strict=True)
        if states.count(COMPLETED) == len(states) and not ledger.frees:
            super().__init__(pairs)
        else:
            done = (state == COMPLETED and value is not FREED for state, value in zip(states, values, strict=True))
            super().__init__(pair for pair, there in zip(pairs, done, strict=True) if there)
        self.report = report
        self.errors = {
            ledger.shape.ids[number]: notes.error
            for number, notes in sorted(ledger.notes.items())
            if notes.error is not None
        }
        self._ledger = ledger

    @property
    def ok(self) -> bool:
        """Whether every unit completed."""
        return self.report.counts.get(UnitState.COMPLETED, 0) == len(self.report.units)

    @property
    def failed(self) -> dict[UnitId, BaseException]:
        """The exceptions of the units that failed or ran out of time, by id, in plan order."""
        return {unit_id: self.errors[unit_id] for unit_id in self.report.in_state(UnitState.FAILED, UnitState.TIMEOUT)}

    @property
    def skipped(self) -> dict[UnitId, UnitId]:
        """The units that did not run because another failed, with that unit, in plan order."""
        return {unit_id: self.report.units[unit_id].cause or "" for unit_id in self.report.in_state(UnitState.SKIPPED)}

    def raise_for_failures(self) -> None:
        """Raise what went wrong, if anything did.

        Raises:
            BaseExceptionGroup: The exceptions of all failed units, in plan order (an `ExceptionGroup` unless a unit raised
                something like SystemExit); each carries a note that names its unit.
        """
        failed = self.failed
        if failed:
            msg = f"{len(failed)} of {len(self.report.units)} units failed"
            raise BaseExceptionGroup(msg, list(failed.values()))

    def outcome_of(self, unit_id: UnitId) -> Outcome:
        """One unit's outcome, as the attributes of `QuantumUnit` show it.

        Returns:
            `NOTHING_YET` for a unit that was not part of this run.
        """
        ledger = self._ledger
        number = None if ledger is None else ledger.shape.index.get(unit_id)
        if ledger is None or number is None:
            return NOTHING_YET
        ran = ledger.ran(number)
        notes = ledger.notes_of(number)
        return Outcome(
            state=STATES[ledger.states[number]],
            result=dict.get(self, unit_id),
            error=notes.error,
            start_time=ledger.started[number] if ran else None,
            end_time=ledger.ended[number] if ran else None,
            attempt=notes.attempts if ran else 0,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # The ledger stays behind here too.
        return ExecutionResult.__new__, (ExecutionResult,), (self.report, self.errors), None, iter(self.items())

    def __setstate__(self, state: tuple[RunReport, dict[UnitId, BaseException]]) -> None:
        self.report, self.errors = state
        self._ledger = None

    def __missing__(self, unit_id: UnitId) -> NoReturn:
        record = self.report.units.get(unit_id)
        if record is None:
            error = KeyError(unit_id)
            near = nearest(unit_id, self.report.units)
            error.add_note("there was no such unit" + (f"; did you mean {name_list(near)}?" if near else ""))
            raise error
        if record.state is UnitState.COMPLETED:
            msg = f"the result of {unit_id!r} was freed after its last use; name it in outputs=[...] to keep it"
            raise KeyError(msg)
        cause = self.errors.get(record.cause or unit_id)
        reason = self.report.stopped or "" if cause is None else told(cause)
        raise UnitFailedError(unit_id, record.state, reason, record.cause) from cause
