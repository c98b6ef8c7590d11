"""Run: what an executor is — something that drives every unit of a run to its end.

The executors themselves are plugins. Two families are foreseen: lanes run single units (in threads, processes, tasks), and
clusters take the whole plan.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from qp_core.errors import PluginError
from qp_core.plan import ExecutionPlan
from qp_core.run import Run
from qp_core.strategy import select_optimal_workers


@runtime_checkable
class Executor(Protocol):
    """Drives a run."""

    def run(self, run: Run) -> None:
        """Have every unit of the run tried, and return when all have ended.

        It calls `run.begin` once, has workers call `run.work` (or `work_here`, `work_async`, or `take`, `job` and `job_done`), and
        `run.attend` in the calling thread. What it started it must have stopped when it returns, except what cannot be stopped.
        """
        ...


ExecutorFactory: TypeAlias = Callable[[Any], Executor]
"""Makes an executor; called once a run with the caller's `custom_executor` (None where there is none)."""


def workers_for(executor: Executor, asked: int | None, plan: ExecutionPlan) -> int | None:
    """How many workers a run gets.

    An executor may have a method `workers(asked, plan)` that answers this; without it, what was asked for counts, or else
    `select_optimal_workers`.

    Args:
        executor: The executor.
        asked: The caller's bound, checked; None where there is none.
        plan: What will run.

    Returns:
        The bound; None for no bound.

    Raises:
        PluginError: The executor's answer is no number above 0.
    """
    own: Callable[[int | None, ExecutionPlan], object] | None = getattr(executor, "workers", None)
    if own is None:
        return asked if asked is not None else select_optimal_workers(plan.units, plan)
    answer = own(asked, plan)
    if answer is None:
        return None
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 1:
        raise PluginError(
            type(executor).__name__,
            "Executor.workers",
            f"answered {answer!r}; it must answer a number above 0, or None",
        )
    return answer


Named: TypeAlias = Mapping[str, Callable[..., Any]]
"""What a provide hook returns: names, each with what makes the thing."""
