"""The TaskMap layer: tasks as plain names, functions and dependencies, over the same engine.

A thin face: each runner is `QuantumPartitioner.execute` in one mode, with `TaskError` raised where tasks failed. There is no
second scheduler here. The names are the seed's; keeping results from one run to the next (`mark_as_done`, `reset_tasks`) is what
the published package of that name does well.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, Unpack

from qp_core import graph
from qp_core.errors import CircularDependency, TaskError, UnknownNameError
from qp_core.launch import ExecuteOptions, checked_callback
from qp_core.partitioner import QuantumPartitioner
from qp_core.plan import ExecutionPlan
from qp_core.report import ExecutionResult
from qp_core.unit import QuantumUnit
from qp_core.vocabulary import ExecutionMode, UnitFunction, UnitId

Task: TypeAlias = tuple[UnitFunction, Iterable[UnitId]] | UnitFunction
"""A task's function and the names of the tasks that it needs; or the function alone."""

_PAIR = 2


def build_graph(dependencies: Mapping[UnitId, Iterable[UnitId]]) -> ExecutionPlan:
    """Check which task needs which, and freeze that into a plan that can be asked and drawn, but not run.

    Args:
        dependencies: For each task, the names of those that it needs.

    Returns:
        A plan with `levels`, `critical_path`, `dependents`, `visualize()` and the rest. Costs O(tasks + dependencies).

    Raises:
        MissingDependencyError: A task needs one that is not there.
        CircularDependency: Tasks wait for each other in a ring; the message holds the path.

    Example:
        >>> build_graph({"load": [], "clean": ["load"], "store": ["clean"]}).levels
        [['load'], ['clean'], ['store']]
    """
    units: dict[UnitId, QuantumUnit[Any, Any]] = {
        name: QuantumUnit(name, _no_function, needs) for name, needs in dependencies.items()
    }
    return ExecutionPlan.of(units, CircularDependency)


def _no_function(context: Any) -> None:
    """Stands for the function of a task of which only the dependencies are known."""


class TaskMap:
    """Tasks that can be run, and run again in part.

    A task's function is called with a context: the caller's mapping and the results of the tasks that it needs. Every run runs
    all tasks, except those that were said to be done.

    Several threads may use one map at once: each run goes by what was done when it began, and returns results of its own. What a map
    keeps (`results`, `last_result`, what was marked or reset) is kept once for all threads, and speaks of the run that ended last; a
    thread that means to go on where its own run failed needs a map of its own.

    Args:
        tasks: For each name a pair of function and dependencies, or a function that needs nothing.
        io_bound: Tasks that mostly wait; of the tasks that are ready, these start first.
        done: Tasks that need not run. Their result is the one in `results`, else None.
        results: Results that are known; their tasks are done.

    Attributes:
        plan: Which task needs which.
        io_bound: As given.
        results: What completed in the last run, by name; before the first, the results given.
        last_result: The last run's results with its report; None before the first.
        on_task_start: Called with a task's name when it begins.
        on_task_complete: Called with a task's name and result when it has completed.
        on_task_error: Called with a task's name and error when it has failed.

    Raises:
        MissingDependencyError: A task needs one that is not there.
        CircularDependency: Tasks wait for each other in a ring; the message holds the path.
        UnknownNameError: `io_bound`, `done` or `results` names no task.
        TypeError: A task is neither a function nor a pair.

    Example:
        >>> tasks = TaskMap({"load": (lambda ctx: [3, 1, 2], []), "sort": (lambda ctx: sorted(ctx["load"]), ["load"])})
        >>> tasks.run({})
        {'load': [3, 1, 2], 'sort': [1, 2, 3]}
    """

    def __init__(
        self,
        tasks: Mapping[UnitId, Task],
        *,
        io_bound: Iterable[UnitId] = (),
        done: Iterable[UnitId] = (),
        results: Mapping[UnitId, Any] | None = None,
    ) -> None:
        self._partitioner: QuantumPartitioner[Any, Any] = QuantumPartitioner()
        for name, task in tasks.items():
            function, needs = _as_pair(name, task)
            self._partitioner.add_unit(function, needs, name)
        self.plan: ExecutionPlan = ExecutionPlan.of(self._partitioner.units, CircularDependency)
        self.io_bound: frozenset[UnitId] = frozenset(self._names((io_bound,)))
        for name in self.io_bound:
            self._partitioner.units[name].priority = 1
            self._partitioner.units[name].metadata["resource_type"] = "io"
        self.results: dict[UnitId, Any] = dict(results or {})
        self.last_result: ExecutionResult[Any] | None = None
        self.on_task_start: Callable[[UnitId], object] | None = None
        self.on_task_complete: Callable[[UnitId, Any], object] | None = None
        self.on_task_error: Callable[[UnitId, BaseException], object] | None = None
        self._marked: dict[UnitId, Any] = {}
        self._kept: dict[UnitId, Any] | None = None
        # For what is kept; never held while something runs, or while the caller's code lists names.
        self._lock = threading.Lock()
        self.mark_as_done(done, self.results)

    @property
    def tasks(self) -> dict[UnitId, tuple[UnitFunction, list[UnitId]]]:
        """For each name the function and its dependencies (a new dict: changing it changes no task)."""
        return {unit.id: (unit.function, list(unit.dependencies)) for unit in self.plan.nodes}

    @property
    def done(self) -> frozenset[UnitId]:
        """The tasks that the next run will not run."""
        with self._lock:
            return frozenset(self._known())

    def _known(self) -> dict[UnitId, Any]:
        return {**self._marked, **(self._kept or {})}

    # ---- which tasks the next run runs

    def mark_as_done(self, *names: UnitId | Iterable[UnitId]) -> None:
        """Say that tasks need not run; this holds for every later run, until they are reset.

        Args:
            *names: Names, or lists of names. A task without a result in `results` has None.

        Raises:
            UnknownNameError: There is no such task.
        """
        listed = self._names(names)
        with self._lock:
            self._mark(listed)

    def _mark(self, names: Iterable[UnitId]) -> None:
        for name in names:
            self._marked[name] = self.results.get(name)

    def mark_as_done_except(self, *names: UnitId | Iterable[UnitId]) -> None:
        """Say that only these tasks need to run (and those among them that are done already need not).

        Args:
            *names: Names, or lists of names.

        Raises:
            UnknownNameError: There is no such task.
        """
        wanted = set(self._names(names))
        with self._lock:
            self._mark(name for name in self.plan.index if name not in wanted and name not in self._marked)

    def reset_tasks(self, *names: UnitId | Iterable[UnitId]) -> list[UnitId]:
        """Have the next run run these tasks and all that depend on them, and keep whatever else completed in the last run.

        Tasks that did not complete run too. Costs O(tasks + dependencies).

        Args:
            *names: Names, or lists of names.

        Returns:
            The tasks that were reset, in plan order.

        Raises:
            UnknownNameError: There is no such task.
        """
        return self._reset(self._names(names))

    def _reset(self, names: Iterable[UnitId] | None) -> list[UnitId]:
        index, nodes = self.plan.index, self.plan.nodes
        with self._lock:
            if names is None:
                names = [] if self.last_result is None else self.last_result.failed
            again = graph.reachable(self.plan.children, [index[name] for name in names])
            kept = (self.last_result or {}) if self._kept is None else self._kept
            self._kept = {name: value for name, value in kept.items() if index[name] not in again}
            self._marked = {name: value for name, value in self._marked.items() if index[name] not in again}
        return [nodes[number].id for number in sorted(again)]

    def reset_failed_tasks(self) -> list[UnitId]:
        """Have the next run run the tasks that failed in the last run and all that depend on them, and keep the others' results.

        Returns:
            The tasks that were reset, in plan order; none where nothing failed.
        """
        return self._reset(None)

    def _names(self, given: Iterable[UnitId | Iterable[UnitId]]) -> list[UnitId]:
        names = [name for one in given for name in ((one,) if isinstance(one, str) else one)]
        for name in names:
            if name not in self.plan.index:
                raise UnknownNameError("task", name, tuple(self.plan.index))
        return names

    # ---- run

    def run(self, context: Any, **options: Unpack[ExecuteOptions]) -> ExecutionResult[Any]:
        """Run the tasks that are not done: one after another, unless the options name another mode or an executor.

        Args:
            context: What tasks see beside the results of the tasks that they need.
            **options: As for `QuantumPartitioner.execute`.

        Returns:
            The results of all tasks, by name, those of the done ones included.

        Raises:
            TaskError: Tasks failed; it holds `errors`, `partial_results` and `failed_tasks`.
        """
        asked: ExecuteOptions = {**options}
        if asked.get("execution_mode") is None and asked.get("custom_executor") is None:
            asked["execution_mode"] = ExecutionMode.SEQUENTIAL
        if self.io_bound:
            asked.setdefault("strategy", "priority")
        known = asked.get("known") or {}
        partitioner = self._partitioner
        for name in ("on_task_start", "on_task_complete", "on_task_error"):
            checked_callback(name, getattr(self, name))
        with self._lock:
            if isinstance(known, Mapping):  # else the partitioner refuses it
                asked["known"] = {**self._known(), **known}
            partitioner.on_unit_start = self.on_task_start
            partitioner.on_unit_complete = self.on_task_complete
            partitioner.on_unit_error = self.on_task_error
        try:
            result = partitioner.execute(context, **asked)
        finally:  # Ctrl-C too leaves what had completed
            with self._lock:
                last = partitioner.last_result
                if last is not None and last is not self.last_result:
                    self.last_result, self._kept = last, None
                    self.results = dict(last)
        if not result.ok:
            failed = result.failed
            raise TaskError(failed, dict(result), list(failed)) from next(iter(failed.values()), None)
        return result


def _as_pair(name: UnitId, task: Any) -> tuple[UnitFunction, Iterable[UnitId]]:
    if callable(task):
        return task, ()
    if isinstance(task, tuple | list) and len(task) == _PAIR:
        return task[0], task[1]
    msg = f"task {name!r} is {task!r}; give a pair of function and dependencies, or a function"
    raise TypeError(msg)


def run_tasks(task_map: TaskMap, context: Any) -> ExecutionResult[Any]:
    """Run tasks one after another in this thread, for debugging and tracing; the same as `task_map.run(context)`.

    Args:
        task_map: The tasks.
        context: What they see beside the results of the tasks that they need.

    Returns:
        The results by name.

    Raises:
        TaskError: Tasks failed; it holds `errors`, `partial_results` and `failed_tasks`.
    """
    return task_map.run(context)


def run_parallel(
    task_map: TaskMap, context: Any, executor: Any = None, max_workers: int | None = None
) -> ExecutionResult[Any]:
    """Run tasks in processes, or in whatever executor is given.

    Args:
        task_map: The tasks; lambdas and closures travel to processes too.
        context: What they see beside the results of the tasks that they need.
        executor: A `concurrent.futures.Executor` (it stays open), or an object with `run(run)`; processes of our own if None.
        max_workers: The most tasks at once.

    Returns:
        The results by name.

    Raises:
        TaskError: Tasks failed; it holds `errors`, `partial_results` and `failed_tasks`.
    """
    return _run_in(ExecutionMode.PROCESS, task_map, context, executor, max_workers)


def run_parallel_threads(
    task_map: TaskMap, context: Any, executor: Any = None, max_workers: int | None = None
) -> ExecutionResult[Any]:
    """Run tasks in threads, or in whatever executor is given.

    Args:
        task_map: The tasks.
        context: What they see beside the results of the tasks that they need.
        executor: A `concurrent.futures.Executor` (it stays open), or an object with `run(run)`; threads of our own if None.
        max_workers: The most tasks at once.

    Returns:
        The results by name.

    Raises:
        TaskError: Tasks failed; it holds `errors`, `partial_results` and `failed_tasks`.
    """
    return _run_in(ExecutionMode.THREAD, task_map, context, executor, max_workers)


def run_async(task_map: TaskMap, context: Any) -> ExecutionResult[Any]:
    """Run tasks on an event loop: coroutine functions as tasks of it, plain functions in threads beside it.

    Called like any function and returns when all is done, also inside a running loop (which it blocks).

    Args:
        task_map: The tasks.
        context: What they see beside the results of the tasks that they need.

    Returns:
        The results by name.

    Raises:
        TaskError: Tasks failed; it holds `errors`, `partial_results` and `failed_tasks`.
    """
    return task_map.run(context, execution_mode=ExecutionMode.ASYNC)


def _run_in(
    mode: ExecutionMode, task_map: TaskMap, context: Any, executor: Any, max_workers: int | None
) -> ExecutionResult[Any]:
    if executor is not None:
        mode = ExecutionMode.CUSTOM
    return task_map.run(context, execution_mode=mode, custom_executor=executor, max_workers=max_workers)
