"""Order: which of the ready units goes first, and how many workers a plan deserves.

A strategy is only an order: whatever it says, a unit starts when its own dependencies are done and a worker is free.
The strategies themselves are plugins.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from qp_core.errors import PluginError, name_list, shown
from qp_core.plan import ExecutionPlan
from qp_core.unit import QuantumUnit
from qp_core.vocabulary import ExecutionMode, UnitId


class Strategy(Protocol):
    """Says which of the ready units goes first."""

    def order(self, plan: ExecutionPlan) -> Sequence[UnitId] | None:
        """Rank the units of a plan; called once a run.

        Args:
            plan: The plan that is about to run.

        Returns:
            Every id of the plan once, the most urgent first (dependencies need not be respected: only ready units are compared);
            or None for the order in which units become ready, where a worker goes on with a unit that it has just made ready.
        """
        ...


def checked_order(name: str, order: Sequence[UnitId] | None, plan: ExecutionPlan) -> list[int] | None:
    """Turn a strategy's answer into unit numbers.

    Args:
        name: The strategy's, for the error.
        order: What it answered.
        plan: The plan it was asked about.

    Returns:
        The numbers of all units, most urgent first; or None for the order of arrival.

    Raises:
        PluginError: A unit is missing, named twice or not of this plan.
    """
    if order is None:
        return None
    try:
        ids = list(order)
        unknown = [unit_id for unit_id in ids if unit_id not in plan.index]
    except TypeError:
        raise PluginError(
            name, "Strategy.order", f"answered {shown(order)}; it must answer ids of the plan, or None"
        ) from None
    if unknown:
        raise PluginError(name, "Strategy.order", f"named units that are not in the plan: {name_list(unknown)}")
    named = set(ids)
    if len(ids) != len(plan) or len(named) != len(plan):
        twice = [unit_id for unit_id, count in Counter(ids).items() if count > 1]
        lost = [unit_id for unit_id in plan.index if unit_id not in named]
        raise PluginError(
            name,
            "Strategy.order",
            f"must name each unit once; named twice: {name_list(twice)}; lost: {name_list(lost)}",
        )
    return [plan.index[unit_id] for unit_id in ids]


def available_cores() -> int:
    """How many cores this process may really use.

    The least of: the machine's cores, this process's affinity, `PYTHON_CPU_COUNT` (from Python 3.13) and the CPU quota of its
    control group, rounded up, for a container may be granted less than it can see.

    Returns:
        At least 1.
    """
    process_cpu_count = getattr(os, "process_cpu_count", None)  # Python 3.13
    if process_cpu_count is not None:
        cores = process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    return max(1, min(cores or 1, _quota_cores(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")) or cores or 1))


def _quota_cores(mount: Path, membership: Path) -> int | None:
    """The CPU quota of the control group, in whole cores, rounded up; None where there is none."""
    quotas = []
    for folder in _own_groups(mount, membership):
        try:
            if (folder / "cpu.max").exists():  # version 2: "max 100000" or "150000 100000"
                quota, period = (folder / "cpu.max").read_text().split()[:2]
            else:  # version 1: -1 is no quota
                quota, period = (
                    (folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                )
            if quota not in {"max", "-1"}:
                quotas.append(max(1, -(-int(quota) // int(period))))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # no control groups here, or not readable: then there is no quota to respect
    return min(quotas, default=None)


def _own_groups(mount: Path, membership: Path) -> list[Path]:
    """The folders of this process's groups and of all groups around them, whose quotas count too."""
    folders = [mount, mount / "cpu"]
    try:
        lines = membership.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return folders
    for line in lines:  # "0::/a/b" (version 2) or "4:cpu,cpuacct:/a/b" (version 1)
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = (mount / "cpu" if controllers else mount) / path.strip("/")
        while group not in folders and group != group.parent:
            folders.append(group)
            group = group.parent
    return folders


def select_optimal_workers(units: Mapping[UnitId, QuantumUnit[Any, Any]], execution_plan: ExecutionPlan) -> int:
    """How many workers a plan deserves.

    Where most units say `metadata["resource_type"] == "cpu"`, one a core; else two a core, since they will mostly wait; never more
    than the widest level has units.

    Args:
        units: The units by id.
        execution_plan: Their plan.

    Returns:
        At least 1.
    """
    cores = available_cores()
    cpu_bound = sum(1 for unit in units.values() if unit.get_metadata("resource_type") == "cpu")
    wanted = cores if cpu_bound > len(units) - cpu_bound else cores * 2
    return max(1, min(execution_plan.max_parallel_units, wanted))


def select_execution_strategy(units: Mapping[UnitId, QuantumUnit[Any, Any]]) -> ExecutionMode:
    """Which mode suits the units, from their `metadata["resource_type"]`: `cpu` (also where it is missing), `io` or `async`.

    Args:
        units: The units by id.

    Returns:
        ASYNC where async units outnumber the others, else THREAD where I/O outnumbers CPU, else PROCESS.
    """
    kinds = Counter(unit.get_metadata("resource_type", "cpu") for unit in units.values())
    if kinds["async"] > kinds["cpu"] + kinds["io"]:
        return ExecutionMode.ASYNC
    if kinds["io"] > kinds["cpu"]:
        return ExecutionMode.THREAD
    return ExecutionMode.PROCESS
