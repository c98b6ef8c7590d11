"""Metrics: when each unit began and ended, as one plain dict."""

from collections.abc import Callable, Mapping
from typing import Any

from qp_core import ErrorSummary, RunFinished, RunStarted, UnitFinished, UnitId, UnitStarted, UnitState, hookimpl


class Metrics:
    """Measures one run. While it goes on only a list grows; the dict is made when it is asked for."""

    def __init__(self) -> None:
        self._run: RunStarted | None = None
        self._over: RunFinished | None = None
        self._events: list[UnitStarted | UnitFinished] = []

    def qp_run_started(self, event: RunStarted) -> None:
        """Keep it."""
        self._run = event

    def qp_unit_started(self, event: UnitStarted) -> None:
        """Keep it."""
        self._events.append(event)

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Keep it."""
        self._events.append(event)

    def qp_run_finished(self, event: RunFinished) -> None:
        """Keep it."""
        self._over = event

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured, made anew at each call.

        `start_time` and `end_time` (seconds since the epoch), `total_duration`, `total_units`, `completed_units`, `failed_units`,
        `unit_times` (by id: `start`, `end`, `duration` of the last attempt, and `error` as text) and `execution_trace` (`event`, `unit`,
        `time`, `error`). Every time is the run's start since the epoch plus monotonic seconds, so that differences are durations.
        """
        run, over = self._run, self._over
        shift = self._shift()
        ends = [event for event in self._events if isinstance(event, UnitFinished)]
        return {
            "start_time": None if run is None else run.started_utc,
            "end_time": None if over is None else over.report.started_utc + over.report.wall_s,
            "total_duration": None if over is None else over.report.wall_s,
            "unit_times": self._unit_times(shift),
            "total_units": 0 if run is None else len(run.plan),
            "completed_units": sum(event.state is UnitState.COMPLETED for event in ends),
            "failed_units": sum(event.state.is_failure for event in ends),
            "execution_trace": [entry for event in self._events if (entry := _trace(event, shift)) is not None],
        }

    def _shift(self) -> float:
        """What turns monotonic seconds into seconds since the epoch; 0 while the run goes on."""
        if self._over is None or not self._events:
            return 0.0
        report = self._over.report
        for event in self._events:
            if isinstance(event, UnitFinished) and event.started is not None:
                began = report.units[event.unit_id].started_s
                if began is not None:  # the run's own clock says both
                    return report.started_utc + began - event.started
        last = self._events[-1]  # no unit ran to tell it exactly: the run was over right after its last event
        return report.started_utc + report.wall_s - (last.at if isinstance(last, UnitStarted) else last.ended)

    def _unit_times(self, shift: float) -> dict[UnitId, dict[str, Any]]:
        times: dict[UnitId, dict[str, Any]] = {}
        for event in self._events:
            if isinstance(event, UnitStarted):
                times[event.unit_id] = {"start": event.at + shift}
            elif event.unit_id in times:  # else it never ran, and has no times
                entry = times[event.unit_id]
                if event.started is not None:  # in a pool, later than it was handed out
                    entry["start"] = event.started + shift
                entry["end"] = event.ended + shift
                entry["duration"] = entry["end"] - entry["start"]
                if event.state.is_failure:
                    entry["error"] = _text(event)
        return times


def _trace(event: UnitStarted | UnitFinished, shift: float) -> dict[str, Any] | None:
    if isinstance(event, UnitStarted):
        return {"event": "start", "unit": event.unit_id, "time": event.at + shift}
    if event.state is UnitState.COMPLETED:
        return {"event": "complete", "unit": event.unit_id, "time": event.ended + shift}
    if event.state.is_failure:
        return {"event": "error", "unit": event.unit_id, "time": event.ended + shift, "error": _text(event)}
    return None


def _text(event: UnitFinished) -> str:
    summary = ErrorSummary.of(event.error)
    return "" if summary is None else summary.text


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    """Offer `metrics`."""
    return {"metrics": Metrics}
