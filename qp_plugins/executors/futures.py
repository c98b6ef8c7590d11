"""Futures: units as jobs for any pool that has `submit`, such as a `concurrent.futures.Executor`."""

import functools
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from qp_core import NONE_READY, ExecutionPlan, Executor, ExecutorFactory, Run, Worker, hookimpl, select_optimal_workers


class FuturesExecutor:
    """Gives a pool as many units at a time as it has workers, so that order, timeouts and cancelling keep their meaning.

    Args:
        pool: An object with `submit(callable) -> concurrent.futures.Future`. It stays open: whoever made it shuts it down.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def workers(self, asked: int | None, plan: ExecutionPlan) -> int:
        """As many as was asked for, but no more than the pool has; else as the pool has, else what suits the plan."""
        # More would wait inside the pool, where their time limits run although they have not begun.
        own = getattr(self._pool, "_max_workers", None)
        if isinstance(own, int) and own > 0:
            return min(asked or own, own)
        return asked or select_optimal_workers(plan.units, plan)

    def run(self, run: Run) -> None:
        """Run every unit; what the pool cannot stop is reported as abandoned."""

        def start() -> None:
            worker = run.new_worker()
            self._submit(run, worker, run.take(worker))

        run.begin(lambda: run.post(start))
        run.attend()

    def _submit(self, run: Run, worker: Worker, number: int) -> None:
        """Give units to the pool until it has taken one; those that a cache answers never reach it."""
        while number >= 0:
            job = run.job(worker, number)
            if isinstance(job, int):
                number = job
                continue
            try:
                future: Future[Any] = self._pool.submit(job)
            except Exception as error:  # noqa: BLE001 - a pool that refuses a unit (shut down, broken) fails that unit
                number = run.job_done(worker, number, error)
                continue
            if not hasattr(future, "add_done_callback"):
                msg = f"{self._pool!r}.submit returned {future!r}; it must return a Future"
                raise TypeError(msg)
            worker.still_busy = functools.partial(_runs, future)
            # Settled in the coordinator, not in the pool's callback thread: that one must not submit again, and may be any thread.
            future.add_done_callback(functools.partial(self._report, run, worker, number))
            return

    def _report(self, run: Run, worker: Worker, number: int, future: "Future[Any]") -> None:
        run.post(functools.partial(self._done, run, worker, number, future))

    def _done(self, run: Run, worker: Worker, number: int, future: "Future[Any]") -> None:
        try:
            outcome = future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001 - a job never raises: this is the pool's own word
            outcome = error
        following = run.job_done(worker, number, outcome)
        if following != NONE_READY:
            self._submit(run, worker, following)


def _runs(future: "Future[Any]") -> bool:
    return not future.done()


def _make(custom: Any) -> Executor:
    """A pool is driven; anything else drives itself. That it is one of the two, the core has seen to."""
    if hasattr(custom, "submit"):
        return FuturesExecutor(custom)
    executor: Executor = custom
    return executor


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    """Offer `custom`."""
    return {"custom": _make}
