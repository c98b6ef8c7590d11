"""Threads: each worker settles what it has run and goes on with a unit that has become ready; nobody dispatches.

Threads are started only when there is a unit for them, are daemons (an abandoned one never keeps the interpreter alive), and end
with the run.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

from qp_core import Executor, ExecutorFactory, Run, Worker, hookimpl


class ThreadExecutor:
    """Runs units in up to `max_workers` threads, while the calling thread keeps the run's time."""

    def run(self, run: Run) -> None:
        """Run every unit; threads that can be joined are joined."""
        started: list[tuple[threading.Thread, Worker]] = []

        def spawn() -> None:
            worker = run.new_worker()
            thread = threading.Thread(
                target=run.work, args=(worker,), name=f"qp-{run.run_id[:8]}-{worker.number}", daemon=True
            )
            worker.still_busy = thread.is_alive
            thread.start()
            started.append((thread, worker))

        run.begin(spawn)
        run.attend()
        gone_by = time.monotonic() + _MOMENT_S
        for thread, worker in started:
            if not worker.abandoned:
                thread.join()
            elif worker.told:
                thread.join(max(0.0, gone_by - time.monotonic()))


_MOMENT_S = 0.1  # a thread that waits for a cancelled coroutine ends with it


def _make(_: Any) -> Executor:
    return ThreadExecutor()


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    """Offer `thread`."""
    return {"thread": _make}
