"""Where units run is up to you: pools of `concurrent.futures`, or an object of your own with `run(run)`.

read_0, read_1, read_2, read_3 ──> longest
"""

import logging
import multiprocessing
import sys
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pydoc_data.topics import topics
from typing import Any

from qp_core import ExecutionContext, ExecutionMode, ExecutionPlan, QuantumPartitioner, Run
from qp_core.testing import check_executor

NAMES = ("with", "while", "try", "lambda")


def longest(ctx: ExecutionContext) -> str:
    """The topic with most words."""
    return NAMES[max(range(len(NAMES)), key=lambda i: ctx[f"read_{i}"])]


def make_partitioner() -> QuantumPartitioner[dict[str, Any], Any]:
    """A unit a topic, and one that compares them."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner()
    for i, name in enumerate(NAMES):
        partitioner.add_unit(lambda ctx, name=name: len(ctx["topics"][name].split()), name=f"read_{i}")
    partitioner.add_unit(longest, [f"read_{i}" for i in range(len(NAMES))], name="longest")
    return partitioner


class StepByStep:
    """Runs one unit at a time in the calling thread, and says which: for finding out what a graph does.

    An executor takes a unit, makes a job of it (one attempt, as an object that can be called anywhere), and says what the job
    came to; what follows from that is the run's business, retries and fallbacks included.
    """

    def __init__(self, *, tell: bool = True) -> None:
        self._tell = tell

    def workers(self, asked: int | None, plan: ExecutionPlan) -> int:  # noqa: ARG002 - the protocol's shape
        """One, whatever was asked for."""
        return 1

    def run(self, run: Run) -> None:
        """Drive every unit of the run to its end."""
        run.begin(lambda: run.post(lambda: self._work(run)))  # `begin` must not block: the work is posted
        run.attend()

    def _work(self, run: Run) -> None:
        worker = run.new_worker()
        number = run.take(worker)
        while number >= 0:
            job = run.job(worker, number)
            if isinstance(job, int):  # settled already, by a cache for one; this is the next unit
                number = job
                continue
            if self._tell:
                print(f"  {job.unit_id} in {threading.current_thread().name}")
            number = run.job_done(worker, number, job())


def main() -> None:
    """Two pools, which stay open, and an executor of our own."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the check at the end has units fail
    partitioner = make_partitioner()
    forkserver = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    pools: tuple[Executor, ...] = (
        ThreadPoolExecutor(max_workers=2),
        ProcessPoolExecutor(max_workers=2, mp_context=multiprocessing.get_context(forkserver)),
    )
    for pool in pools:
        with pool:
            results = partitioner.execute({"topics": topics}, execution_mode=ExecutionMode.CUSTOM, custom_executor=pool)
            print(f"{type(pool).__name__}, at most {results.report.max_workers} at once: {results['longest']!r}")
            print(f"  still open: {pool.submit(len, 'four').result() == len('four')}")

    print("StepByStep:")
    results = partitioner.execute({"topics": topics}, custom_executor=StepByStep())  # CUSTOM is understood
    print(f"  {results['longest']!r}, mode {results.report.mode}")

    check_executor(lambda: StepByStep(tell=False))
    print("It keeps the contract of executors.")


if __name__ == "__main__":
    main(*sys.argv[1:])
