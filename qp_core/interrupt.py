"""Run: Ctrl-C and SIGTERM while a run goes on.

While the main thread waits in `execute`, both signals go to the run instead of raising at some random line: the first stops
handing out units and gives running ones a grace, the second stops at once. Handlers that the program has set for itself are
left alone.
"""

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from qp_core.crew import Worker
from qp_core.run import INTERRUPT, Run


@contextlib.contextmanager
def signals_of(run: Run) -> Iterator[None]:
    """Send Ctrl-C and SIGTERM to a run; does nothing outside the main thread.

    Args:
        run: The run that the calling thread waits for.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _Handler(run)
    replaced: dict[int, Any] = {}
    defaults: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, default in defaults.items():
        if signal.getsignal(number) == default:
            replaced[number] = signal.signal(number, handler)
    run.guarded = signal.SIGINT in replaced
    try:
        yield
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)


class _Handler:
    """Handles signals for one run. It may run between any two bytecodes of the main thread, so it takes no lock."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.worker: Worker | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        run = self._run
        run.signals += 1
        worker = run.here
        if worker is None:
            run.inbox.put(INTERRUPT)  # SimpleQueue.put may be called from here
        elif run.signals == 1:
            # The main thread runs the units itself and may hold any lock, so another thread has to act. Not
            # threading.Thread: its start() takes locks that the main thread may hold.
            _thread.start_new_thread(_act_aside, (run,))
        elif worker.context is not None:
            raise KeyboardInterrupt


def _act_aside(run: Run) -> None:
    """Halt a run whose units run in the main thread; after the grace, interrupt the unit that is running."""
    run.halt_aside()
    ends = run.clock.now() + run.options.grace_s
    while run.clock.now() < ends:
        time.sleep(0.01)
        if run.over:
            return
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
