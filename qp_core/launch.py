"""Run: from the arguments of `execute` to a run that can begin; everything that can be checked is checked here, before anything runs."""

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypedDict

import attrs

from qp_core.cache import Cache
from qp_core.clock import Clock
from qp_core.errors import ContextError, PluginError, UnknownNameError, missing_dependency, refuse_class, shown, told
from qp_core.executor import Executor, workers_for
from qp_core.plan import ExecutionPlan
from qp_core.plugins import Plugins
from qp_core.report import ExecutionResult
from qp_core.run import Run, RunOptions
from qp_core.settings import Settings
from qp_core.strategy import Strategy, checked_order
from qp_core.unit import QuantumUnit, checked_limit
from qp_core.vocabulary import ExecutionMode, OnFailure, UnitId, is_coroutine_function


class RunChoices(TypedDict, total=False):
    """Keyword arguments that every way to execute takes.

    Attributes:
        outputs: Run only what these units need (nothing for those that are known), keep only their results, and free others after
            their last use.
        known: Results that are known beforehand; these units do not run.
        fail_fast: Cancel everything else when one unit has failed.
        deadline: The most seconds for the whole run, queueing included.
        grace: Seconds that running units get after the first Ctrl-C.
        on_failure: `"return"` what there is, or `"raise"` an ExceptionGroup of what went wrong.
        telemetry: Observers of this run: names of observer plugins, or objects with methods like `qp_unit_finished(event)`.
        cache: For units with `metadata["cacheable"]`: a cache, or the name of a cache plugin, which then makes one for all runs of the
            partitioner that name it.
    """

    outputs: Iterable[UnitId] | None
    known: Mapping[UnitId, Any] | None
    fail_fast: bool
    deadline: float | None
    grace: float | None
    on_failure: OnFailure
    telemetry: Iterable[object]
    cache: Cache | str | None


class ExecuteOptions(RunChoices, total=False):
    """All that `execute` takes beside the context.

    Attributes:
        execution_mode: An `ExecutionMode`, or the name of an executor plugin; the partitioner's default if None.
        max_workers: The most units at once.
        custom_executor: A `concurrent.futures.Executor`, or an object with `run(run)`; the mode is then `ExecutionMode.CUSTOM`, and need not
            be named. Beside another mode of `ExecutionMode` it is an error.
        strategy: Which of the units that are ready at the same time goes first: the name of a strategy, or an object with `order(plan)`.
    """

    execution_mode: ExecutionMode | str | None
    max_workers: int | None
    custom_executor: Any
    strategy: Strategy | str | None


OPTIONS = tuple(sorted({*RunChoices.__annotations__, *ExecuteOptions.__annotations__}))


@attrs.define(eq=False, kw_only=True)
class Launcher:
    """Makes runs; holds what a partitioner does not ask its caller for every time.

    Attributes:
        plugins: Where executors, strategies, caches and observers come from.
        mode: The mode of a run that names none.
        max_workers: The bound of a run that names none.
        cache: The cache of a run that names none.
        cache_named: The cache of a run that names one.
        settings: What can be set from outside.
        clock: Where time comes from.
        seed: Makes the jitter of retry waits repeatable.
    """

    plugins: Plugins
    mode: ExecutionMode | str
    max_workers: int | None
    cache: Cache | None
    cache_named: Callable[[str], Cache]
    settings: Settings
    clock: Clock | None
    seed: int | None

    def launch(
        self, plan: ExecutionPlan, context: Any, options: ExecuteOptions, observers: Sequence[tuple[str, object]]
    ) -> "Launch":
        """Check the arguments of an execution and make its run.

        Args:
            plan: All units.
            context: The caller's.
            options: The caller's.
            observers: Who listens beside those that the options name.

        Returns:
            A run that can begin, and its executor.

        Raises:
            UnknownNameError: An option, executor, strategy, cache or observer is not there.
            ContextError: The context cannot be one.
            MissingDependencyError: `outputs` or `known` names no unit.
            PluginError: A plugin chose nonsense.
            TypeError: An option is of the wrong kind.
            ValueError: An option is out of range.
        """
        unknown = set(options).difference(OPTIONS)
        if unknown:
            raise UnknownNameError("option of execute", min(unknown), OPTIONS)
        on_failure = options.get("on_failure", "return")
        if on_failure not in ("return", "raise"):
            raise UnknownNameError("on_failure", on_failure, ("raise", "return"))
        known = _checked_known(options.get("known"), plan)
        outputs = options.get("outputs")
        if outputs is not None:
            outputs = checked_list(outputs, "outputs", "ids")
            plan = plan.restricted_to(outputs, known)
            known = {unit_id: value for unit_id, value in known.items() if unit_id in plan.index}
        _check_context(context, plan)
        executor, mode = self._executor(options)
        strategy, order = self._strategy(options, plan)
        asked = options.get("max_workers")
        asked = checked_workers(self.max_workers if asked is None else asked)
        run = Run(
            plan,
            context,
            RunOptions(
                mode=mode,
                strategy=strategy,
                max_workers=_workers(executor, asked, plan),
                deadline_s=checked_limit(options.get("deadline"), "deadline"),
                fail_fast=bool(options.get("fail_fast", False)),
                grace_s=checked_limit(options.get("grace"), "grace") or self.settings.grace_s,
                known=known,
                outputs=outputs,
            ),
            policies=self.plugins,
            order=order,
            listeners=self.plugins.listeners([*observers, *self._observers(options)]),
            cache=self._cache(options),
            clock=self.clock,
            rng=None if self.seed is None else random.Random(self.seed),  # noqa: S311 - jitter, not secrets
        )
        return Launch(run=run, executor=executor, raises=on_failure == "raise")

    def _executor(self, options: ExecuteOptions) -> tuple[Executor, str]:
        custom = options.get("custom_executor")
        mode = options.get("execution_mode")
        if mode is None:
            mode = self.mode if custom is None else ExecutionMode.CUSTOM
        name = mode.value if isinstance(mode, ExecutionMode) else mode
        if not isinstance(name, str):
            raise UnknownNameError("executor", mode, tuple(self.plugins.provided("executors")))
        _check_custom(custom, name)
        executor: Executor = self.plugins.make("executors", name, custom)
        return executor, name

    def _strategy(self, options: ExecuteOptions, plan: ExecutionPlan) -> tuple[str, list[int] | None]:
        """The strategy's name, and what it answers."""
        wanted: Any = options.get("strategy")
        refuse_class(wanted, "strategy", ("order",))
        if wanted is None:
            wanted = self.plugins.choose_strategy(plan) or "fifo"
        strategy: Strategy = (
            wanted if callable(getattr(wanted, "order", None)) else self.plugins.make("strategies", wanted)
        )
        name = wanted if isinstance(wanted, str) else type(wanted).__name__
        try:
            return name, checked_order(name, strategy.order(plan), plan)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(name, "Strategy.order", f"raised {told(error)}") from error

    def _observers(self, options: ExecuteOptions) -> Iterator[tuple[str, object]]:
        for wanted in checked_list(options.get("telemetry", ()), "telemetry", "observers"):
            if isinstance(wanted, str):
                yield wanted, self.plugins.make("observers", wanted)
            else:
                yield type(wanted).__name__, wanted

    def _cache(self, options: ExecuteOptions) -> Cache | None:
        wanted = options.get("cache")
        if isinstance(wanted, str):
            return self.cache_named(wanted)
        return self.cache if wanted is None else checked_cache(wanted)


@attrs.define(eq=False, kw_only=True)
class Launch:
    """A run with its executor.

    Attributes:
        run: The run.
        executor: What drives it.
        raises: Whether failures are raised in the end.
    """

    run: Run
    executor: Executor
    raises: bool
    _result: ExecutionResult[Any] | None = None

    def drive(self) -> ExecutionResult[Any]:
        """Have the executor drive the run to its end; raises nothing of what went wrong.

        Returns:
            What came of it.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed a third time; the run is left as it is.
        """
        try:
            self.executor.run(self.run)
        except BaseException as error:  # the report comes first; `conclude` raises it
            if self.run.stopping.out_of_patience:
                raise
            self.run.stopping.break_off(error)
        self._result = self.run.finish()
        return self._result

    def conclude(self) -> ExecutionResult[Any]:
        """Raise what broke the run, or its failures if these are to be raised.

        Returns:
            What came of it; it is not held here any longer.

        Raises:
            RuntimeError: The run is not over, or was concluded before.
        """
        self.run.raise_what_broke()
        result, self._result = self._result, None
        if result is None:
            msg = f"run {self.run.run_id} is not over yet, or was concluded before"
            raise RuntimeError(msg)
        if self.raises:
            result.raise_for_failures()
        return result


def checked_cache(cache: Cache) -> Cache:
    """Check what was given as a cache.

    Returns:
        The cache.

    Raises:
        TypeError: It is none.
    """
    if not all(callable(getattr(cache, method, None)) for method in ("get", "put")):
        msg = (
            f"cache is {shown(cache)}; give the name of a cache plugin, or an object with get(key) and put(key, value)"
        )
        raise TypeError(msg)
    refuse_class(cache, "cache", ("get", "put"))
    return cache


def checked_callback(name: str, callback: object) -> object:
    """Check what was assigned as a callback.

    Returns:
        The callback.

    Raises:
        TypeError: It cannot be called, or nobody would await what it returns.
    """
    if callback is not None and not callable(callback):
        msg = f"{name} is {shown(callback)}, which cannot be called; give a function, or None"
        raise TypeError(msg)
    if callback is not None and is_coroutine_function(callback):
        msg = f"{name} is {shown(callback)}, a coroutine function, which nobody would await; give a plain function, or None"
        raise TypeError(msg)
    return callback


def checked_workers(max_workers: int | None) -> int | None:
    """Check a number of workers.

    Returns:
        The number; None is what suits the machine.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is below 1.
    """
    if max_workers is None:
        return None
    if isinstance(max_workers, bool) or not isinstance(max_workers, int):
        msg = f"max_workers is {shown(max_workers)}; give a whole number, or None for what suits the machine"
        raise TypeError(msg)
    if max_workers < 1:
        msg = f"max_workers is {shown(max_workers)}; give 1 or more, or None for what suits the machine"
        raise ValueError(msg)
    return max_workers


def _workers(executor: Executor, asked: int | None, plan: ExecutionPlan) -> int | None:
    try:
        return workers_for(executor, asked, plan)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(type(executor).__name__, "Executor.workers", f"raised {told(error)}") from error


_OWN_MODES = {mode.value for mode in ExecutionMode} - {ExecutionMode.CUSTOM.value}


def _check_custom(custom: object, mode: str) -> None:
    """The mode uses the custom executor, or there is none; what a plugin's own mode does with one is the plugin's affair."""
    if mode in _OWN_MODES and custom is not None:
        msg = (
            f"custom_executor is {shown(custom)}, but execution_mode is {mode!r}, which uses none; "
            "leave one of them out (a custom_executor is mode enough)"
        )
        raise ValueError(msg)
    if mode != ExecutionMode.CUSTOM.value:
        return
    if isinstance(custom, type):
        msg = f"custom_executor is the class {custom.__name__}; give an instance: {custom.__name__}()"
        raise TypeError(msg)
    if not any(callable(getattr(custom, method, None)) for method in ("submit", "run")):
        but = f", and execution_mode is {mode!r}" if custom is None else ""
        msg = f"custom_executor is {shown(custom)}{but}; give a concurrent.futures.Executor, or an object with run(run)"
        raise TypeError(msg)


def _checked_known(known: Mapping[UnitId, Any] | None, plan: ExecutionPlan) -> dict[UnitId, Any]:
    if known is None:
        return {}
    given: object = known  # whatever the annotation says
    if not isinstance(given, Mapping):
        msg = f"known is {shown(known)}; give a mapping of unit ids to results"
        raise TypeError(msg)
    for unit_id in known:
        if unit_id not in plan.index:
            raise missing_dependency("known", unit_id, plan.index, argument=True)
    return dict(known)


def checked_list(given: object, what: str, of: str) -> tuple[Any, ...]:
    """What an option lists; one string is surely a slip, since its letters are meant by nobody."""
    if isinstance(given, str | bytes):
        msg = f"{what} is the string {shown(given)}; give a list of {of}: [{shown(given)}]"
        raise TypeError(msg)
    if not isinstance(given, Iterable):
        msg = f"{what} is {shown(given)}; give a list of {of}"
        raise TypeError(msg)
    return tuple(given)


def _check_context(context: object, plan: ExecutionPlan) -> None:
    """A context that is surely a slip is an error before anything runs, not a puzzle inside every unit."""
    if context is None:
        raise ContextError("the context is None", "pass {} for an empty one")
    slips = (Enum, QuantumUnit, ExecutionPlan, type)
    if isinstance(context, slips) or inspect.isroutine(context) or hasattr(type(context), "build_execution_plan"):
        raise ContextError(f"the context is {shown(context)}", "pass what the units should see first, such as a dict")
    if inspect.isawaitable(context):
        raise ContextError(f"the context is {shown(context)}, which has not been awaited", "await it first")
    if isinstance(context, Mapping):
        taken = [key for key in context if isinstance(key, str) and key in plan.index]
        if taken:
            raise ContextError(
                f"the context's key {shown(taken[0])} is also the id of a unit",
                "rename one of them; to give a unit's result beforehand, pass known={...}",
            )
