"""The face: add units, look at the plan, execute, read what came of it. Holds no algorithm."""

import asyncio
import contextlib
import inspect
import queue
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from qp_core.cache import Cache
from qp_core.clock import Clock
from qp_core.errors import ContextError, DuplicateUnitError, ExecutionError, MissingDependencyError, UnknownNameError
from qp_core.executor import Executor, workers_for
from qp_core.interrupt import signals_of
from qp_core.plan import ExecutionPlan
from qp_core.plugins import Plugins
from qp_core.report import ExecutionResult
from qp_core.run import Run, RunOptions
from qp_core.settings import Settings
from qp_core.strategy import checked_order
from qp_core.telemetry import UnitFinished
from qp_core.unit import NOTHING_YET, Outcome, QuantumUnit, RetryPolicy, checked_limit
from qp_core.vocabulary import ExecutionMode, OnFailure, UnitFunction, UnitId, UnitState

T = TypeVar("T")
R = TypeVar("R")


class ExecuteOptions(TypedDict, total=False):
    """Keyword arguments that every way to execute takes.

    Attributes:
        execution_mode: An `ExecutionMode`, or the name of an executor plugin; the partitioner's default if None.
        max_workers: The most units at once.
        custom_executor: For `ExecutionMode.CUSTOM`: a `concurrent.futures.Executor`, or an object with `run(run)`.
        strategy: The name of a strategy, which orders units that are ready at the same time.
        outputs: Run only what these units need, keep only their results, and free others after their last use.
        known: Results that are known beforehand; these units do not run.
        fail_fast: Cancel everything else when one unit has failed.
        deadline: The most seconds for the whole run, queueing included.
        grace: Seconds that running units get after the first Ctrl-C.
        on_failure: `"return"` what there is, or `"raise"` an ExceptionGroup of what went wrong.
        telemetry: Observers of this run: names of observer plugins, or objects with methods like `qp_unit_finished(event)`.
        cache: The name of a cache plugin, or a cache, for units with `metadata["cacheable"]`.
    """

    execution_mode: ExecutionMode | str | None
    max_workers: int | None
    custom_executor: Any
    strategy: str | None
    outputs: Iterable[UnitId] | None
    known: Mapping[UnitId, Any] | None
    fail_fast: bool
    deadline: float | None
    grace: float | None
    on_failure: OnFailure
    telemetry: Iterable[object]
    cache: Cache | str | None


class _Latest:
    """What the units of a partitioner look at: the run that finished last. One pointer, so that they all change at once."""

    result: ExecutionResult[Any] | None = None

    def outcome_of(self, unit_id: UnitId) -> Outcome:
        """The unit's outcome in that run."""
        result = self.result
        return NOTHING_YET if result is None else result.outcome_of(unit_id)


class QuantumPartitioner(Generic[T, R]):
    """Runs units with as much concurrency as their dependencies allow.

    Args:
        max_workers: The most units at once; by default what the machine and the plan are good for (`select_optimal_workers`),
            and without bound in async mode.
        default_execution_mode: Where units run unless `execute` is told otherwise.
        plugins: The plugins to use; those installed, if None.
        settings: What can be set from outside; read from the environment, if None.
        clock: Where time comes from.
        seed: Makes the jitter of retry waits repeatable.

    Attributes:
        units: The units by id, in the order added.
        max_workers: As given.
        default_execution_mode: As given.
        on_unit_start: Called with a unit's id when an attempt begins.
        on_unit_complete: Called with a unit's id and result when it has completed.
        on_unit_error: Called with a unit's id and error when it has failed.
        last_execution_metrics: What `execute_with_monitoring` measured last.

    Example:
        >>> partitioner = QuantumPartitioner()
        >>> _ = partitioner.add_unit(lambda ctx: ctx["n"] + 1, name="more")
        >>> _ = partitioner.add_unit(lambda ctx: ctx["more"] * 2, dependencies=["more"], name="double")
        >>> partitioner.execute({"n": 20})
        {'more': 21, 'double': 42}
    """

    def __init__(
        self,
        max_workers: int | None = None,
        default_execution_mode: ExecutionMode | str = ExecutionMode.THREAD,
        *,
        plugins: Plugins | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
    ) -> None:
        self.units: dict[UnitId, QuantumUnit[T, R]] = {}
        self.max_workers = _checked_workers(max_workers)
        self.default_execution_mode = default_execution_mode
        self.on_unit_start: Callable[[UnitId], object] | None = None
        self.on_unit_complete: Callable[[UnitId, R], object] | None = None
        self.on_unit_error: Callable[[UnitId, BaseException], object] | None = None
        self.last_execution_metrics: dict[str, Any] = {}
        self._plugins = plugins
        self._settings = settings or Settings.from_environment()
        self._clock = clock
        self._seed = seed
        self._lock = threading.Lock()
        self._execution_plan: ExecutionPlan | None = None
        self._next_number = 0
        self._latest = _Latest()

    # ---- define

    def add_unit(
        self,
        fn: UnitFunction,
        dependencies: Iterable[UnitId] | None = None,
        name: UnitId | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - not the timeout of this call
        retries: int = 0,
        metadata: Mapping[str, Any] | None = None,
        *,
        priority: float = 0,
        retry: RetryPolicy | None = None,
        fallback: Any = None,
    ) -> QuantumUnit[T, R]:
        """Add a unit. O(1) beside its dependencies, which may be added later.

        Args:
            fn: Called with the unit's context: the caller's mapping and the results of the dependencies.
            dependencies: Ids of the units whose results it needs.
            name: Its id; `unit_<n>` if None.
            timeout: The longest one attempt may take, in seconds.
            retries: Further attempts after a failed one.
            metadata: The caller's own; some keys mean something to plugins.
            priority: Higher is sooner, under the `priority` strategy.
            retry: Which failures are worth another attempt, and after what wait.
            fallback: What stands in when the last attempt failed.

        Returns:
            The unit.

        Raises:
            DuplicateUnitError: The name is taken.
            TypeError: An argument is of the wrong kind.
            ValueError: The name is empty, the timeout is not above 0, or retries is below 0.
        """
        with self._lock:
            unit_id = name if name is not None else self._free_id()
            unit: QuantumUnit[T, R] = QuantumUnit(
                unit_id, fn, () if dependencies is None else dependencies, timeout, retries, priority, metadata, retry=retry, fallback=fallback
            )
            if unit_id in self.units:
                raise DuplicateUnitError(unit_id)
            unit._latest = self._latest
            self.units[unit_id] = unit
            self._execution_plan = None
        return unit

    def _free_id(self) -> UnitId:
        # The number only grows, so that n units without names cost O(n); names that are taken are skipped.
        number = max(self._next_number, len(self.units))
        while f"unit_{number}" in self.units:
            number += 1
        self._next_number = number
        return f"unit_{number}"

    # ---- plan

    def build_execution_plan(self) -> ExecutionPlan:
        """Check the units and freeze them into a plan.

        Returns:
            A plan of the n units, kept until a unit is added. A unit's level is one past its deepest dependency's; within a
            level, ids stand in the order added. Time and memory are O(n + e) for e dependencies.

        Raises:
            MissingDependencyError: A unit names a dependency that nobody provides.
            CircularDependencyError: Units wait for each other in a ring; the message holds the path.

        References:
            Kahn (1962), "Topological sorting of large networks".
        """
        with self._lock:
            plan = ExecutionPlan.of(self.units)
            for unit in plan.nodes:  # units that were put into `units` by hand show their outcome too
                if unit._latest is not self._latest:
                    unit._shown_by(self._latest)
            self._execution_plan = plan
            return plan

    def _current_plan(self) -> ExecutionPlan:
        plan = self._execution_plan
        return self.build_execution_plan() if plan is None or len(plan) != len(self.units) else plan

    # ---- run

    def execute(
        self,
        context: T,
        execution_mode: ExecutionMode | str | None = None,
        max_workers: int | None = None,
        custom_executor: Any = None,
        **options: Unpack[ExecuteOptions],  # type: ignore[misc] # the first three may also be given by name
    ) -> ExecutionResult[R]:
        """Run every unit as soon as its own dependencies are done and a worker is free.

        Works in plain code and inside a running event loop (which it blocks; `execute_async` does not).

        Args:
            context: What units see beside the results of their dependencies: a mapping; anything else is passed on as it is.
            execution_mode: Where units run; the partitioner's default if None.
            max_workers: The most units at once; the partitioner's bound if None.
            custom_executor: For `ExecutionMode.CUSTOM`.
            **options: See `ExecuteOptions`.

        Returns:
            The results of all units that completed, by id; what failed is in `.failed`, what happened in `.report`.

        Raises:
            GraphError: The units are no graph that can run.
            ContextError: The context cannot be one.
            UnknownNameError: There is no such executor, strategy, cache or observer.
            PluginError: A plugin broke the run; what had completed is in `get_partial_results()`.
            BaseExceptionGroup: Units failed, and `on_failure` is `"raise"`.
            KeyboardInterrupt: Ctrl-C; what had completed is in `get_partial_results()`.
        """
        options = {"execution_mode": execution_mode, "max_workers": max_workers, "custom_executor": custom_executor, **options}
        run, executor = self._made_run(context, options)
        with signals_of(run):
            self._drive(run, executor)
        return self._concluded(run, options)

    async def execute_async(self, context: T, **options: Unpack[ExecuteOptions]) -> ExecutionResult[R]:
        """`execute` without blocking the event loop. In async mode, coroutine functions run on this very loop.

        Cancelling the awaiting task cancels the run, and waits until its coroutines have ended.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Returns:
            As `execute` does.
        """
        run, executor = self._made_run(context, options)
        loop = run.loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def drive() -> None:
            try:
                self._drive(run, executor)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop was closed: then nobody waits any more
                    loop.call_soon_threadsafe(lambda: over.done() or over.set_result(None))

        threading.Thread(target=drive, name=f"qp-{run.run_id[:8]}-attend", daemon=True).start()
        try:
            await asyncio.shield(over)
        except asyncio.CancelledError:
            run.interrupt()
            await asyncio.shield(over)
            raise
        return self._concluded(run, options)

    def stream(self, context: T, **options: Unpack[ExecuteOptions]) -> Iterator[tuple[UnitId, UnitFinished]]:
        """Run, and yield each unit when it has ended. Leaving the loop early cancels the rest.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Yields:
            The unit's id and its end (`state`, `value`, `error`); a dependency always before its dependents.
        """
        ends: queue.SimpleQueue[UnitFinished | None] = queue.SimpleQueue()
        run, executor = self._made_run(context, options, _Feed(ends.put))

        def drive() -> None:
            try:
                self._drive(run, executor)
            finally:
                ends.put(None)

        thread = threading.Thread(target=drive, name=f"qp-{run.run_id[:8]}-attend", daemon=True)
        thread.start()
        try:
            while (end := ends.get()) is not None:
                yield end.unit_id, end
        finally:
            if not run.over:
                run.post(run.interrupt)
            thread.join()
        self._concluded(run, options)

    async def astream(self, context: T, **options: Unpack[ExecuteOptions]) -> AsyncIterator[tuple[UnitId, UnitFinished]]:
        """`stream` for an event loop. In async mode, coroutine functions run on this very loop.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Yields:
            The unit's id and its end (`state`, `value`, `error`); a dependency always before its dependents.
        """
        loop = asyncio.get_running_loop()
        ends: asyncio.Queue[UnitFinished | None] = asyncio.Queue()
        run, executor = self._made_run(context, options, _Feed(lambda end: loop.call_soon_threadsafe(ends.put_nowait, end)))
        run.loop = loop

        def drive() -> None:
            try:
                self._drive(run, executor)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop was closed: then nobody waits any more
                    loop.call_soon_threadsafe(ends.put_nowait, None)

        threading.Thread(target=drive, name=f"qp-{run.run_id[:8]}-attend", daemon=True).start()
        end: UnitFinished | None = None
        try:
            while (end := await ends.get()) is not None:
                yield end.unit_id, end
        finally:
            if end is not None or not run.over:
                run.post(run.interrupt)
                while await ends.get() is not None:
                    pass
        self._concluded(run, options)

    def execute_with_strategy(self, context: T, strategy: str, **options: Unpack[ExecuteOptions]) -> ExecutionResult[R]:
        """Execute under a strategy, which orders the units that are ready at the same time.

        Args:
            context: As for `execute`.
            strategy: Its name, such as `"priority"`.
            **options: See `ExecuteOptions`.

        Returns:
            As `execute` does.

        Raises:
            UnknownNameError: There is no such strategy; the message lists those there are.
        """
        return self.execute(context, **{**options, "strategy": strategy})

    def execute_with_monitoring(self, context: T, **options: Unpack[ExecuteOptions]) -> ExecutionResult[R]:
        """Execute, and leave measurements in `last_execution_metrics`.

        They are a dict with `start_time`, `end_time`, `total_duration`, `unit_times` (by id: `start`, `end`, `duration`, `error`),
        `total_units`, `completed_units`, `failed_units` and `execution_trace` (a list of `event`, `unit`, `time`).

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Returns:
            As `execute` does.
        """
        observer = self._installed_plugins().make("observers", "metrics")
        telemetry = [*options.get("telemetry", ()), observer]
        try:
            return self.execute(context, **{**options, "telemetry": telemetry})
        finally:
            self.last_execution_metrics = observer.metrics

    def execute_with_recovery(self, context: T, **options: Unpack[ExecuteOptions]) -> ExecutionResult[R]:
        """Execute, and insist: a unit that failed and had no fallback is an error.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Returns:
            The results of all units; some may be fallbacks'.

        Raises:
            ExecutionError: Units failed without a fallback; it holds `errors`, `partial_results` and `failed_tasks`.
        """
        result = self.execute(context, **options)
        failed = result.failed
        if failed or not result.ok:
            first = next(iter(failed.values()), None)
            raise ExecutionError(failed, dict(result), list(failed)) from first
        return result

    # ---- report

    @property
    def last_result(self) -> ExecutionResult[R] | None:
        """The result of the run that finished last; None before the first."""
        return self._latest.result

    @property
    def completed_units(self) -> set[UnitId]:
        """The units that completed in the run that finished last."""
        return self._in_state(UnitState.COMPLETED)

    @property
    def failed_units(self) -> set[UnitId]:
        """The units that failed or ran out of time in the run that finished last."""
        return self._in_state(UnitState.FAILED, UnitState.TIMEOUT)

    def _in_state(self, *states: UnitState) -> set[UnitId]:
        result = self._latest.result
        return set() if result is None else set(result.report.in_state(*states))

    def get_partial_results(self) -> dict[UnitId, R]:
        """What completed in the run that finished last, also where that run raised.

        Returns:
            Results by id; empty before the first run.
        """
        return dict(self._latest.result or {})

    def get_failed_units(self) -> dict[UnitId, BaseException]:
        """What failed or ran out of time in the run that finished last.

        Returns:
            Exceptions by id; empty before the first run.
        """
        return {} if self._latest.result is None else self._latest.result.failed

    # ---- how a run is made

    def _installed_plugins(self) -> Plugins:
        if self._plugins is None:
            self._plugins = Plugins.installed()
        return self._plugins

    def _made_run(self, context: T, options: ExecuteOptions, *observers: object) -> tuple[Run, Executor]:
        """Check everything there is to check, before anything runs."""
        unknown = set(options) - set(ExecuteOptions.__annotations__)
        if unknown:
            raise UnknownNameError("option of execute", min(unknown), tuple(ExecuteOptions.__annotations__))
        plugins = self._installed_plugins()
        plan = self._current_plan()
        outputs = options.get("outputs")
        if outputs is not None:
            outputs = _checked_outputs(outputs)
            plan = plan.restricted_to(outputs)
        _check_context(context, plan)
        known = {unit_id: value for unit_id, value in (options.get("known") or {}).items() if _is_unit(unit_id, self.units) and unit_id in plan.index}
        executor, mode = self._executor(options)
        strategy = options.get("strategy") or plugins.choose_strategy(plan) or "fifo"
        order = checked_order(strategy, plugins.make("strategies", strategy).order(plan), plan)
        asked = _checked_workers(options.get("max_workers"))
        run_options = RunOptions(
            mode=mode,
            strategy=strategy,
            max_workers=workers_for(executor, self.max_workers if asked is None else asked, plan),
            deadline_s=checked_limit(options.get("deadline"), "deadline"),
            fail_fast=bool(options.get("fail_fast", False)),
            grace_s=checked_limit(options.get("grace"), "grace") or self._settings.grace_s,
            known=known,
            outputs=None if outputs is None else tuple(outputs),
        )
        if options.get("on_failure", "return") not in {"return", "raise"}:
            raise UnknownNameError("on_failure", options["on_failure"], ("raise", "return"))
        run = Run(
            plan,
            context,
            run_options,
            policies=plugins,
            order=order,
            listeners=plugins.listeners([*self._observers(options), *((type(one).__name__, one) for one in observers)]),
            cache=self._cache(options),
            clock=self._clock,
            rng=None if self._seed is None else random.Random(self._seed),  # noqa: S311 - jitter, not secrets
        )
        return run, executor

    def _executor(self, options: ExecuteOptions) -> tuple[Executor, str]:
        custom = options.get("custom_executor")
        mode = options.get("execution_mode") or (self.default_execution_mode if custom is None else ExecutionMode.CUSTOM)
        name = mode.value if isinstance(mode, ExecutionMode) else mode
        if not isinstance(name, str):
            raise UnknownNameError("execution mode", mode, tuple(self._installed_plugins().provided("executors")))
        executor: Executor = self._installed_plugins().make("executors", name, custom)
        return executor, name

    def _observers(self, options: ExecuteOptions) -> Iterator[tuple[str, object]]:
        if self.on_unit_start or self.on_unit_complete or self.on_unit_error:
            made = self._installed_plugins().make("observers", "callbacks", self.on_unit_start, self.on_unit_complete, self.on_unit_error)
            yield "callbacks", made
        for wanted in options.get("telemetry", ()):
            if isinstance(wanted, str):
                yield wanted, self._installed_plugins().make("observers", wanted)
            else:
                yield type(wanted).__name__, wanted

    def _cache(self, options: ExecuteOptions) -> Cache | None:
        wanted = options.get("cache")
        if isinstance(wanted, str):
            made: Cache = self._installed_plugins().make("caches", wanted)
            return made
        return wanted

    def _drive(self, run: Run, executor: Executor) -> None:
        try:
            executor.run(run)
        except BaseException as error:  # noqa: BLE001 - the report comes first; `raise_what_broke` raises it
            run.break_off(error)
        self._latest.result = run.finish()

    def _concluded(self, run: Run, options: ExecuteOptions) -> ExecutionResult[R]:
        run.raise_what_broke()
        result: ExecutionResult[R] = run.result
        if options.get("on_failure", "return") == "raise":
            result.raise_for_failures()
        return result


class CachingQuantumPartitioner(QuantumPartitioner[T, R]):
    """A partitioner that keeps the results of units with `metadata["cacheable"]` and finds them again.

    The key is the unit's id, its function's code, and the content of what it reads: `metadata["cache_keys"]` of the context, or
    all of it. Arguments are those of `QuantumPartitioner`, and:

    Args:
        cache: The name of a cache plugin, or a cache.
    """

    def __init__(self, *args: Any, cache: Cache | str = "memory", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cache: Cache = self._installed_plugins().make("caches", cache) if isinstance(cache, str) else cache

    def _cache(self, options: ExecuteOptions) -> Cache | None:
        return super()._cache(options) or self.cache

    @property
    def cache_hits(self) -> int:
        """How many results were found."""
        return self.cache.stats()["hits"]

    @property
    def cache_misses(self) -> int:
        """How many results were looked for in vain."""
        return self.cache.stats()["misses"]


class _Feed:
    """An observer that passes on each unit's end."""

    def __init__(self, put: Callable[[UnitFinished], object]) -> None:
        self.qp_unit_finished = put


def _checked_workers(max_workers: int | None) -> int | None:
    if max_workers is None:
        return None
    if isinstance(max_workers, bool) or not isinstance(max_workers, int):
        msg = f"max_workers is {max_workers!r}; give a whole number, or None for what suits the machine"
        raise TypeError(msg)
    if max_workers < 1:
        msg = f"max_workers is {max_workers}; give 1 or more, or None for what suits the machine"
        raise ValueError(msg)
    return max_workers


def _checked_outputs(outputs: Iterable[UnitId]) -> list[UnitId]:
    if isinstance(outputs, str):
        msg = f"outputs is the string {outputs!r}; give a list of ids: [{outputs!r}]"
        raise TypeError(msg)
    return list(outputs)


def _is_unit(unit_id: UnitId, units: Mapping[UnitId, Any]) -> bool:
    if unit_id not in units:
        raise MissingDependencyError.among("known", unit_id, units)
    return True


def _check_context(context: object, plan: ExecutionPlan) -> None:
    """A context that is surely a slip is an error before anything runs, not a puzzle inside every unit."""
    if context is None:
        raise ContextError("the context is None", "pass {} for an empty one")
    if isinstance(context, Enum | QuantumUnit | QuantumPartitioner | ExecutionPlan | type) or callable(context):
        raise ContextError(f"the context is {context!r}", "pass what the units should see first, such as a dict")
    if inspect.isawaitable(context):
        raise ContextError(f"the context is {context!r}, which has not been awaited", "await it first")
    if isinstance(context, Mapping):
        taken = [key for key in context if isinstance(key, str) and key in plan.index]
        if taken:
            raise ContextError(
                f"the context's key {taken[0]!r} is also the id of a unit", "rename one of them; to give a unit's result beforehand, pass known={...}"
            )
