"""Metrics: when each unit began and ended, as one plain dict."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from qp_core import ErrorSummary, RunFinished, RunStarted, UnitFinished, UnitId, UnitStarted, UnitState, hookimpl


@attrs.frozen
class _Entry:
    """What is kept of an event: no results, which a run may want to free, and no errors."""

    event: str  # start, complete, error, or end for what is neither
    unit: UnitId
    at: float  # on the run's monotonic clock, as is `started`
    started: float | None = None
    error: str | None = None


class Metrics:
    """Measures one run. While it goes on only a list grows; the dict is made when it is asked for."""

    def __init__(self) -> None:
        self._start_utc: float | None = None
        self._total = 0
        self._over: RunFinished | None = None
        self._entries: list[_Entry] = []

    def qp_run_started(self, event: RunStarted) -> None:
        """Note the start."""
        self._start_utc, self._total = event.started_utc, len(event.plan)

    def qp_unit_started(self, event: UnitStarted) -> None:
        """Note the start of an attempt."""
        self._entries.append(_Entry("start", event.unit_id, event.at))

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Note how a unit ended."""
        kind, error = "end", None
        if event.state is UnitState.COMPLETED:
            kind = "complete"
        elif event.state.is_failure:
            summary = ErrorSummary.of(event.error)
            kind, error = "error", "" if summary is None else summary.text
        self._entries.append(_Entry(kind, event.unit_id, event.ended, event.started, error))

    def qp_run_finished(self, event: RunFinished) -> None:
        """Note the end."""
        self._over = event

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured, made anew at each call.

        `start_time` and `end_time` (seconds since the epoch), `total_duration`, `total_units`, `completed_units`, `failed_units`,
        `unit_times` (by id: `start`, `end`, `duration` of the last attempt, and `error` as text) and `execution_trace` (`event`, `unit`,
        `time`, `error`). Every time is the run's start since the epoch plus monotonic seconds, so that differences are durations.
        """
        report = None if self._over is None else self._over.report
        shift = self._shift()
        counts = Counter(entry.event for entry in self._entries)
        return {
            "start_time": self._start_utc,
            "end_time": None if report is None else report.started_utc + report.wall_s,
            "total_duration": None if report is None else report.wall_s,
            "unit_times": self._unit_times(shift),
            "total_units": self._total,
            "completed_units": counts["complete"],
            "failed_units": counts["error"],
            "execution_trace": [
                {"event": entry.event, "unit": entry.unit, "time": entry.at + shift}
                | ({} if entry.error is None else {"error": entry.error})
                for entry in self._entries
                if entry.event != "end"
            ],
        }

    def _shift(self) -> float:
        """What turns monotonic seconds into seconds since the epoch; 0 while the run goes on."""
        if self._over is None or not self._entries:
            return 0.0
        report = self._over.report
        for entry in self._entries:
            began = None if entry.started is None else report.units[entry.unit].started_s
            if entry.started is not None and began is not None:  # the run's own clock says both
                return report.started_utc + began - entry.started
        # No unit ran to tell it exactly: the run was over right after its last event.
        return report.started_utc + report.wall_s - self._entries[-1].at

    def _unit_times(self, shift: float) -> dict[UnitId, dict[str, Any]]:
        times: dict[UnitId, dict[str, Any]] = {}
        for entry in self._entries:
            if entry.event == "start":
                times[entry.unit] = {"start": entry.at + shift}
            elif entry.unit in times:  # else it never ran, and has no times
                unit = times[entry.unit]
                if entry.started is not None:  # in a pool, later than it was handed out
                    unit["start"] = entry.started + shift
                unit["end"] = entry.at + shift
                unit["duration"] = unit["end"] - unit["start"]
                if entry.error is not None:
                    unit["error"] = entry.error
        return times


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    """Offer `metrics`."""
    return {"metrics": Metrics}
