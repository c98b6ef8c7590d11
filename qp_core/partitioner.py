"""The face: add units, look at the plan, execute, read what came of it. Holds no algorithm."""

import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Unpack

from qp_core.cache import Cache
from qp_core.clock import AT_A_STRETCH_S, Clock, received
from qp_core.errors import DuplicateUnitError, ExecutionError
from qp_core.interrupt import Leave, signals_of
from qp_core.launch import (
    ExecuteOptions,
    Launch,
    Launcher,
    RunChoices,
    checked_cache,
    checked_callback,
    checked_list,
    checked_workers,
)
from qp_core.plan import ExecutionPlan
from qp_core.plugins import Plugins
from qp_core.report import ExecutionResult
from qp_core.settings import Settings
from qp_core.strategy import Strategy
from qp_core.telemetry import UnitFinished
from qp_core.unit import NOTHING_YET, Outcome, QuantumUnit, RetryPolicy
from qp_core.vocabulary import ExecutionMode, R, T, UnitFunction, UnitId, UnitState

_CALLBACKS = ("on_unit_start", "on_unit_complete", "on_unit_error")
_LEFT = "canceled"
"""Why a run was stopped that nobody waits for any more."""


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
        self.max_workers = checked_workers(max_workers)
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
        self._caches: dict[str, Cache] = {}

    # ---- define

    def add_unit(
        self,
        fn: UnitFunction[R],
        dependencies: Iterable[UnitId] | None = None,
        name: UnitId | None = None,
        timeout: float | None = None,
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
        # Outside the lock, since what lists the dependencies may be the caller's code, which may add units itself.
        unit: QuantumUnit[T, R] = QuantumUnit(
            f"unit_{len(self.units)}" if name is None else name,
            fn,
            () if dependencies is None else dependencies,
            timeout,
            retries,
            priority,
            metadata,
            retry=retry,
            fallback=fallback,
        )
        with self._lock:
            if unit.id in self.units:
                if name is not None:
                    raise DuplicateUnitError(unit.id)
                unit.id = self._free_id()
            unit.show(self._latest)
            self.units[unit.id] = unit
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
            A plan of the n units, kept until a unit is added, removed or replaced. A unit's level is one past its deepest dependency's; within a
            level, ids stand in the order added. Time and memory are O(n + e) for e dependencies.

        Raises:
            MissingDependencyError: A unit names a dependency that nobody provides.
            CircularDependencyError: Units wait for each other in a ring; the message holds the path.

        References:
            Kahn (1962), "Topological sorting of large networks".
        """
        with self._lock:
            self._execution_plan = None  # an older one must not run where these units are no graph
            plan = ExecutionPlan.of(self.units)
            for unit in plan.nodes:  # units that were put into `units` by hand show their outcome too
                unit.show(self._latest)
            self._execution_plan = plan
            return plan

    def _current_plan(self) -> ExecutionPlan:
        with self._lock:
            plan = self._execution_plan
            if plan is not None and plan.is_of(self.units):
                return plan
        return self.build_execution_plan()

    # ---- run

    def execute(
        self,
        context: T,
        execution_mode: ExecutionMode | str | None = None,
        max_workers: int | None = None,
        custom_executor: Any = None,
        *,
        strategy: Strategy | str | None = None,
        **options: Unpack[RunChoices],
    ) -> ExecutionResult[R]:
        """Run every unit as soon as its own dependencies are done and a worker is free.

        Works in plain code and inside a running event loop (which it blocks; `execute_async` does not).

        Args:
            context: What units see beside the results of their dependencies: a mapping; anything else is passed on as it is.
            execution_mode: Where units run; the partitioner's default if None.
            max_workers: The most units at once; the partitioner's bound if None.
            custom_executor: For `ExecutionMode.CUSTOM`: a `concurrent.futures.Executor`, or an object with `run(run)`.
            strategy: Which of the units that are ready at the same time goes first: the name of a strategy, or an object with
                `order(plan)`.
            **options: See `RunChoices`.

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
        chosen: ExecuteOptions = {
            **options,
            "execution_mode": execution_mode,
            "max_workers": max_workers,
            "custom_executor": custom_executor,
            "strategy": strategy,
        }
        launch = self._launched(context, chosen)
        with signals_of(launch.run):
            self._drive(launch)
        return launch.conclude()

    async def execute_async(self, context: T, **options: Unpack[ExecuteOptions]) -> ExecutionResult[R]:
        """`execute` without blocking the event loop. In async mode, coroutine functions run on this very loop.

        Cancelling the awaiting task is Ctrl-C for the run: what is running may go on for the grace, and a second time ends it at once. The
        awaiting task waits until the run's coroutines have ended.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Returns:
            As `execute` does.

        Raises:
            CancelledError: The awaiting task was cancelled; what had completed is in `get_partial_results()`.
            KeyboardInterrupt: Ctrl-C; likewise.
        """
        import asyncio  # noqa: PLC0415 - it takes longer to import than all of the core

        launch = self._launched(context, options)
        run = launch.run
        loop = run.loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()  # never cancelled: it is only awaited under a shield
        thread = self._attending(launch, lambda: loop.call_soon_threadsafe(over.set_result, None))
        with signals_of(run, waits=False):
            thread.start()
            try:
                await asyncio.shield(over)
            except (asyncio.CancelledError, KeyboardInterrupt):
                leave = Leave(run, _LEFT)
                try:
                    leave()
                    await asyncio.shield(over)
                except (asyncio.CancelledError, KeyboardInterrupt):  # again: at once
                    leave()
                    await asyncio.shield(over)
                raise
        return launch.conclude()

    def stream(self, context: T, **options: Unpack[ExecuteOptions]) -> Iterator[tuple[UnitId, UnitFinished]]:
        """Run, and yield each unit when it has ended. Leaving the loop early cancels the rest.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Yields:
            The unit's id and its end (`state`, `value`, `error`); a dependency always before the dependents that ran.

        Raises:
            KeyboardInterrupt: Ctrl-C; what had completed is in `get_partial_results()`.
        """
        ends: queue.SimpleQueue[UnitFinished | None] = queue.SimpleQueue()
        launch = self._launched(context, options, _Feed(ends.put))
        run = launch.run
        over = threading.Event()

        def done() -> None:
            over.set()
            ends.put(None)

        thread = self._attending(launch, done)
        with signals_of(run, waits=False):
            try:
                _start(thread, over)  # in here, for Ctrl-C may come while it waits for the thread to begin
                while (end := received(ends)) is not None:
                    yield end.unit_id, end
            finally:
                leave = Leave(run, _LEFT)
                try:
                    if not over.is_set():
                        leave()
                    _await(over)
                except KeyboardInterrupt:  # again: at once
                    leave()
                    _await(over)
                    raise
                finally:
                    if thread.ident is not None:
                        thread.join()
        launch.conclude()

    async def astream(
        self, context: T, **options: Unpack[ExecuteOptions]
    ) -> AsyncIterator[tuple[UnitId, UnitFinished]]:
        """`stream` for an event loop. In async mode, coroutine functions run on this very loop.

        Args:
            context: As for `execute`.
            **options: See `ExecuteOptions`.

        Yields:
            The unit's id and its end (`state`, `value`, `error`); a dependency always before the dependents that ran.

        Raises:
            CancelledError: The reading task was cancelled; what had completed is in `get_partial_results()`.
            KeyboardInterrupt: Ctrl-C; likewise.
        """
        import asyncio  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        ends: asyncio.Queue[UnitFinished | None] = asyncio.Queue()
        launch = self._launched(context, options, _Feed(lambda end: loop.call_soon_threadsafe(ends.put_nowait, end)))
        run = launch.run
        run.loop = loop
        over = threading.Event()

        def done() -> None:
            over.set()
            loop.call_soon_threadsafe(ends.put_nowait, None)

        thread = self._attending(launch, done)
        end: UnitFinished | None = None
        with signals_of(run, waits=False):
            thread.start()
            try:
                while (end := await ends.get()) is not None:
                    yield end.unit_id, end
            finally:
                if end is not None or not over.is_set():
                    leave = Leave(run, _LEFT)
                    try:
                        leave()
                        while await ends.get() is not None:
                            pass
                    except (asyncio.CancelledError, KeyboardInterrupt):  # again: at once
                        leave()
                        while await ends.get() is not None:
                            pass
                        raise
        launch.conclude()

    def execute_with_strategy(
        self,
        context: T,
        strategy: Strategy | str,
        execution_mode: ExecutionMode | str | None = None,
        max_workers: int | None = None,
        custom_executor: Any = None,
        **options: Unpack[RunChoices],
    ) -> ExecutionResult[R]:
        """Execute under a strategy, which orders the units that are ready at the same time.

        Args:
            context: As for `execute`.
            strategy: Its name, such as `"priority"`, or an object with `order(plan)`.
            execution_mode: As for `execute`.
            max_workers: As for `execute`.
            custom_executor: As for `execute`.
            **options: See `RunChoices`.

        Returns:
            As `execute` does.

        Raises:
            UnknownNameError: There is no such strategy; the message lists those there are.
        """
        return self.execute(context, execution_mode, max_workers, custom_executor, strategy=strategy, **options)

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
        chosen: ExecuteOptions = {
            **options,
            "telemetry": [*checked_list(options.get("telemetry", ()), "telemetry", "observers"), observer],
        }
        try:
            return self.execute(context, **chosen)
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

    def _launched(self, context: T, options: ExecuteOptions, *observers: object) -> Launch:
        plugins = self._installed_plugins()
        listening = [(type(one).__name__, one) for one in observers]
        calls = [checked_callback(name, getattr(self, name)) for name in _CALLBACKS]
        if any(call is not None for call in calls):
            listening.append(("callbacks", plugins.make("observers", "callbacks", *calls)))
        launcher = Launcher(
            plugins=plugins,
            mode=self.default_execution_mode,
            max_workers=self.max_workers,
            cache=self._default_cache(),
            cache_named=self._cache_named,
            settings=self._settings,
            clock=self._clock,
            seed=self._seed,
        )
        return launcher.launch(self._current_plan(), context, options, listening)

    def _default_cache(self) -> Cache | None:
        return None

    def _cache_named(self, name: str) -> Cache:
        with self._lock:
            if name not in self._caches:
                self._caches[name] = self._installed_plugins().make("caches", name)
            return self._caches[name]

    def _attending(self, launch: Launch, done: Callable[[], object]) -> threading.Thread:
        """The thread that drives a run which its reader may leave; it is still to be started."""
        launch.run.may_be_left = True

        def drive() -> None:
            try:
                self._drive(launch)
            finally:
                with contextlib.suppress(RuntimeError):  # the reader's loop was closed: then nobody waits any more
                    done()

        return threading.Thread(target=drive, name=f"qp-{launch.run.run_id[:8]}-attend", daemon=True)

    def _drive(self, launch: Launch) -> None:
        self._latest.result = launch.drive()


class CachingQuantumPartitioner(QuantumPartitioner[T, R]):
    """A partitioner that keeps the results of units with `metadata["cacheable"]` and finds them again.

    The key is the unit's id, its function's code with what of the project that reaches, and the content of what it reads: the
    context keys in `metadata["cache_keys"]` with the results of its dependencies, or the whole context. Arguments are those of `QuantumPartitioner`, and:

    Args:
        cache: The name of a cache plugin, or a cache.
    """

    def __init__(self, *args: Any, cache: Cache | str = "memory", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cache: Cache = self._cache_named(cache) if isinstance(cache, str) else checked_cache(cache)

    def _default_cache(self) -> Cache:
        return self.cache

    @property
    def cache_hits(self) -> int:
        """How many results were found."""
        return self.cache.stats()["hits"]

    @property
    def cache_misses(self) -> int:
        """How many results were looked for in vain."""
        return self.cache.stats()["misses"]


def _start(thread: threading.Thread, over: threading.Event) -> None:
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread": nobody will say that it is over
        over.set()
        raise


def _await(over: threading.Event) -> None:
    # Not by joining: where Ctrl-C interrupts that, Python 3.11 believes that the thread has ended.
    while not over.wait(AT_A_STRETCH_S):
        pass


class _Feed:
    """An observer that passes on each unit's end."""

    def __init__(self, put: Callable[[UnitFinished], object]) -> None:
        self.qp_unit_finished = put
