"""Progress: how many units have ended, on one line of standard error."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from qp_core import RunFinished, RunStarted, UnitFinished, hookimpl


class Progress:
    """Writes `412/1003 units, 2 failed`: rewritten in place on a terminal, else now and then a line.

    Args:
        stream: Where to; standard error if None (nowhere where that is closed).
        now: Monotonic seconds.
    """

    def __init__(self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._stream: TextIO | None = stream if stream is not None else sys.stderr
        self._terminal = self._stream is not None and self._stream.isatty()
        self._now = now
        self._every_s = 0.1 if self._terminal else 5.0
        self._total = self._ended = self._failed = 0
        self._written = 0.0

    def qp_run_started(self, event: RunStarted) -> None:
        """Learn how many units there are."""
        self._total = len(event.plan)
        self._written = self._now()

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Count, and write if the last time is long enough ago."""
        self._ended += 1
        self._failed += event.state.is_failure
        if self._now() - self._written >= self._every_s:
            self._write(last=False)

    def qp_run_finished(self, event: RunFinished) -> None:  # noqa: ARG002 - the hook's shape
        """Write the last line."""
        self._write(last=True)

    def _write(self, *, last: bool) -> None:
        if self._stream is None:
            return
        self._written = self._now()
        text = f"{self._ended}/{self._total} units" + (f", {self._failed} failed" if self._failed else "")
        if self._terminal:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


@hookimpl
def qp_observers() -> Mapping[str, Callable[..., object]]:
    """Offer `progress`."""
    return {"progress": Progress}
