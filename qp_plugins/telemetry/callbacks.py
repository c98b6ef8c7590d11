"""Callbacks: `on_unit_start`, `on_unit_complete` and `on_unit_error` of a partitioner."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from qp_core import ErrorSummary, RunFinished, UnitFinished, UnitId, UnitStarted, UnitState, hookimpl

_log = logging.getLogger("qp_core")  # where the run names observers that raise, too


class Callbacks:
    """Calls up to three functions. One that raises is switched off for that run and named in the log; the others go on.

    Args:
        on_start: Called with the id when an attempt begins.
        on_complete: Called with the id and the result.
        on_error: Called with the id and the error of a unit that failed or ran out of time.
    """

    def __init__(
        self,
        on_start: Callable[[UnitId], object] | None = None,
        on_complete: Callable[[UnitId, Any], object] | None = None,
        on_error: Callable[[UnitId, BaseException], object] | None = None,
    ) -> None:
        self._callbacks = {"on_unit_start": on_start, "on_unit_complete": on_complete, "on_unit_error": on_error}
        self._off: frozenset[tuple[str, str]] = frozenset()  # run and callback; replaced, since two runs may share this
        self._lock = threading.Lock()

    def qp_unit_started(self, event: UnitStarted) -> None:
        """Pass on a start."""
        self._call(event.run_id, "on_unit_start", event.unit_id)

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Pass on a result or an error; what was skipped or cancelled is neither."""
        if event.state is UnitState.COMPLETED:
            self._call(event.run_id, "on_unit_complete", event.unit_id, event.value)
        elif event.state.is_failure and event.error is not None:
            self._call(event.run_id, "on_unit_error", event.unit_id, event.error)

    def qp_run_finished(self, event: RunFinished) -> None:
        """Forget what was switched off."""
        if self._off:
            with self._lock:
                self._off = frozenset(off for off in self._off if off[0] != event.run_id)

    def _call(self, run_id: str, name: str, *facts: Any) -> None:
        callback = self._callbacks[name]
        if callback is None or (self._off and (run_id, name) in self._off):
            return
        try:
            callback(*facts)
        except Exception as error:  # noqa: BLE001 - a callback may raise anything, and must not hurt the run nor the other callbacks
            with self._lock:
                self._off |= {(run_id, name)}
            what = ": ".join(ErrorSummary.of(error) or ())
            _log.warning("callback %r raised and is switched off for this run: %s", name, what, exc_info=error)


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    """Offer `callbacks`."""
    return {"callbacks": Callbacks}
