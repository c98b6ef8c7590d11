"""Metrics: when each unit began and ended, as one plain dict."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from qp_core import RunFinished, RunStarted, UnitFinished, UnitId, UnitStarted, UnitState, hookimpl


class Metrics:
    """Measures one run.

    Attributes:
        metrics: `start_time` and `end_time` (seconds since the epoch), `total_duration`, `total_units`, `completed_units`,
            `failed_units`, `unit_times` (by id: `start`, `end`, `duration`, and `error` as text) and `execution_trace` (`event`, `unit`,
            `time`). Every time is the run's start since the epoch plus monotonic seconds, so that differences are durations.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {
            "start_time": None,
            "end_time": None,
            "unit_times": {},
            "total_units": 0,
            "completed_units": 0,
            "failed_units": 0,
            "execution_trace": [],
        }
        self._shift = 0.0

    def qp_run_started(self, event: RunStarted) -> None:
        """Begin."""
        self.metrics["start_time"] = event.started_utc
        self.metrics["total_units"] = len(event.plan)

    def qp_unit_started(self, event: UnitStarted) -> None:
        """Note the start of an attempt; the last one's stays."""
        if not self._shift:
            self._shift = max(time.time(), self.metrics["start_time"]) - event.at
        self.metrics["unit_times"][event.unit_id] = {"start": event.at + self._shift}
        self._trace("start", event.unit_id, event.at)

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Note how a unit ended; one that never ran has no times."""
        times = self.metrics["unit_times"].get(event.unit_id)
        if times is not None:
            times["end"] = event.ended + self._shift
            times["duration"] = times["end"] - times["start"]
        if event.state is UnitState.COMPLETED:
            self.metrics["completed_units"] += 1
            self._trace("complete", event.unit_id, event.ended)
        elif event.state.is_failure:
            self.metrics["failed_units"] += 1
            if times is not None:
                times["error"] = str(event.error)
            self._trace("error", event.unit_id, event.ended, error=str(event.error))

    def _trace(self, event: str, unit_id: UnitId, at: float, **more: str) -> None:
        self.metrics["execution_trace"].append({"event": event, "unit": unit_id, "time": at + self._shift, **more})

    def qp_run_finished(self, event: RunFinished) -> None:
        """End."""
        self.metrics["total_duration"] = event.report.wall_s
        self.metrics["end_time"] = event.report.started_utc + event.report.wall_s


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    """Offer `metrics`."""
    return {"metrics": Metrics}
