"""Sequential: one unit after another, in the thread that called; for debugging, tracing, and graphs of tiny units."""

from collections.abc import Mapping
from typing import Any

from qp_core import ExecutionPlan, Executor, ExecutorFactory, Run, hookimpl
from qp_plugins.executors.threads import ThreadExecutor


class SequentialExecutor:
    """Runs one unit at a time.

    A thread cannot stop waiting for itself. So where a unit has a timeout, or the run a deadline, the units run in one thread
    beside the calling one (all in the same, so that what belongs to a thread is shared between them).
    """

    def workers(self, asked: int | None, plan: ExecutionPlan) -> int:  # noqa: ARG002 - the protocol's shape
        """One, whatever was asked for."""
        return 1

    def run(self, run: Run) -> None:
        """Run every unit."""
        if run.limited:
            ThreadExecutor().run(run)
            return
        run.begin(None)
        run.work_here(run.new_worker())


def _make(_: Any) -> Executor:
    return SequentialExecutor()


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    """Offer `sequential`."""
    return {"sequential": _make}
