"""Callbacks: `on_unit_start`, `on_unit_complete` and `on_unit_error` of a partitioner."""

from collections.abc import Callable, Mapping
from typing import Any

from qp_core import UnitFinished, UnitId, UnitStarted, UnitState, hookimpl


class Callbacks:
    """Calls up to three functions.

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
        self._on_start = on_start
        self._on_complete = on_complete
        self._on_error = on_error

    def qp_unit_started(self, event: UnitStarted) -> None:
        """Pass on a start."""
        if self._on_start is not None:
            self._on_start(event.unit_id)

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Pass on a result or an error; what was skipped or cancelled is neither."""
        if event.state is UnitState.COMPLETED:
            if self._on_complete is not None:
                self._on_complete(event.unit_id, event.value)
        elif event.state.is_failure and self._on_error is not None and event.error is not None:
            self._on_error(event.unit_id, event.error)


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    """Offer `callbacks`."""
    return {"callbacks": Callbacks}
