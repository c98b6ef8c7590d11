"""The face: everything that the seed names, as it is written there, and that runs do not share state (R6, R8, R17)."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from qp_core import (
    CircularDependencyError,
    DuplicateUnitError,
    ExecutionError,
    ExecutionMode,
    ExecutionPlan,
    ExecutionResult,
    MissingDependencyError,
    PluginError,
    QuantumPartitioner,
    QuantumUnit,
    RetryPolicy,
    Settings,
    TaskError,
    UnitState,
    UnitTimeoutError,
    UnknownNameError,
)
from qp_core.testing import FakeClock, Recorder

PATIENCE_S = 60
"""How long threads wait for each other; only ever spent by a test that fails."""

every_mode = pytest.mark.parametrize(
    "mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)
in_this_process = pytest.mark.parametrize("mode", ["sequential", "thread", "async"])


def fails(ctx):
    """A unit that raises."""
    raise ValueError(ctx.unit_id)


def plus_one(ctx):
    """One more than the sum of what the unit needs."""
    return 1 + sum(ctx.unit_results.values())


def story(mode=ExecutionMode.THREAD, **options):
    """A -> b -> c beside bad -> lost."""
    partitioner = QuantumPartitioner(2, mode, **options)
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(plus_one, ["a"], "b")
    partitioner.add_unit(plus_one, ["b"], "c")
    partitioner.add_unit(fails, name="bad")
    partitioner.add_unit(plus_one, ["bad"], "lost")
    return partitioner


# ---- making one


def test_a_new_partitioner_is_empty():
    """Every attribute that the seed names is there, and says that nothing has happened."""
    partitioner = QuantumPartitioner()
    assert partitioner.units == {}
    assert partitioner.max_workers is None
    assert partitioner.default_execution_mode is ExecutionMode.THREAD
    assert partitioner.completed_units == set()
    assert partitioner.failed_units == set()
    assert partitioner.last_execution_metrics == {}
    assert partitioner.get_partial_results() == {}
    assert partitioner.get_failed_units() == {}
    assert partitioner.last_result is None
    assert (partitioner.on_unit_start, partitioner.on_unit_complete, partitioner.on_unit_error) == (None, None, None)


def test_its_arguments_come_in_the_seeds_order():
    """Workers, then mode; both by name too; and its types can be written down."""
    partitioner = QuantumPartitioner(3, ExecutionMode.SEQUENTIAL)
    assert (partitioner.max_workers, partitioner.default_execution_mode) == (3, ExecutionMode.SEQUENTIAL)
    typed = QuantumPartitioner[dict, int](max_workers=5, default_execution_mode=ExecutionMode.ASYNC)
    assert (typed.max_workers, typed.default_execution_mode) == (5, ExecutionMode.ASYNC)
    with pytest.raises(TypeError):
        QuantumPartitioner(3, ExecutionMode.SEQUENTIAL, None)


# ---- adding units


def test_add_unit_takes_its_arguments_in_the_seeds_order():
    """fn, dependencies, name, timeout, retries, metadata; it returns the unit, which is kept under its id."""
    partitioner = QuantumPartitioner()
    unit = partitioner.add_unit(plus_one, ["other"], "mine", 2.5, 3, {"resource_type": "io"})
    assert isinstance(unit, QuantumUnit)
    assert (unit.id, unit.function, unit.dependencies) == ("mine", plus_one, ["other"])
    assert (unit.timeout, unit.retries, unit.metadata, unit.priority) == (2.5, 3, {"resource_type": "io"}, 0)
    assert unit.state is UnitState.PENDING
    assert (unit.result, unit.error, unit.execution_time, unit.attempt) == (None, None, None, 0)
    assert partitioner.units == {"mine": unit}


def test_add_unit_takes_its_arguments_by_name():
    """And those that are not the seed's by name only."""
    policy = RetryPolicy(base_s=1)
    unit = QuantumPartitioner().add_unit(
        fn=plus_one,
        dependencies=[],
        name="a",
        timeout=None,
        retries=1,
        metadata=None,
        priority=7,
        retry=policy,
        fallback=plus_one,
    )
    assert (unit.priority, unit.retry, unit.fallback, unit.metadata) == (7, policy, plus_one, {})
    with pytest.raises(TypeError):
        QuantumPartitioner().add_unit(plus_one, [], "a", None, 0, None, 7)


def test_what_the_caller_gave_stays_the_callers():
    """Later changes of the caller's list and dict do not reach the unit, nor the other way round."""
    needs, metadata = ["a"], {"k": 1}
    unit = QuantumPartitioner().add_unit(plus_one, needs, "b", metadata=metadata)
    needs.append("c")
    metadata["k"] = 2
    unit.metadata["own"] = True
    assert (unit.dependencies, unit.metadata["k"], metadata) == (["a"], 1, {"k": 2})


def test_units_without_a_name_are_numbered_and_taken_numbers_are_skipped():
    """As in the seed, the number is the count of units."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(plus_one)
    partitioner.add_unit(plus_one, name="unit_2")
    partitioner.add_unit(plus_one)
    partitioner.add_unit(plus_one, name="x")
    partitioner.add_unit(plus_one)
    assert list(partitioner.units) == ["unit_0", "unit_2", "unit_3", "x", "unit_4"]
    assert all(name == unit.id for name, unit in partitioner.units.items())


def test_names_that_are_taken_cost_little_to_skip():
    """Were each looked for from the beginning, this would take minutes."""
    partitioner = QuantumPartitioner()
    for number in range(20_000):
        partitioner.add_unit(plus_one, name=f"unit_{number + 20_000}")
    for _ in range(20_000):
        partitioner.add_unit(plus_one)
    assert len(partitioner.units) == 40_000
    assert "unit_59999" in partitioner.units


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"fn": 3}, TypeError, id="no_function"),
        pytest.param({"dependencies": "ab"}, TypeError, id="string_of_dependencies"),
        pytest.param({"name": ""}, ValueError, id="empty_name"),
        pytest.param({"name": 7}, TypeError, id="number_for_a_name"),
        pytest.param({"timeout": 0}, ValueError, id="no_time"),
        pytest.param({"retries": -1}, ValueError, id="negative_retries"),
        pytest.param({"name": "there"}, DuplicateUnitError, id="duplicate"),
    ],
)
def test_a_unit_that_is_refused_leaves_no_trace(arguments, error):
    """Neither among the units nor in the numbers."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(plus_one, name="there")
    with pytest.raises(error):
        partitioner.add_unit(**{"fn": plus_one, **arguments})
    partitioner.add_unit(plus_one)
    assert list(partitioner.units) == ["there", "unit_1"]


def test_dependencies_may_be_made_while_they_are_listed():
    """A generator that adds the units it names: no deadlock, no lost name."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(plus_one, (partitioner.add_unit(plus_one).id for _ in range(3)))
    assert len(partitioner.units) == 4
    assert sorted(partitioner.execute({}).values()) == [1, 1, 1, 4]


def test_many_threads_may_add_units_at_once():
    """No id twice, none lost."""
    partitioner = QuantumPartitioner()
    ready = threading.Barrier(6)

    def add():
        ready.wait(PATIENCE_S)
        return [partitioner.add_unit(plus_one).id for _ in range(300)]

    with ThreadPoolExecutor(6) as pool:
        ids = list(itertools.chain(*(job.result() for job in [pool.submit(add) for _ in range(6)])))
    assert len(ids) == len(set(ids)) == len(partitioner.units) == 1800
    assert set(ids) == set(partitioner.units)


# ---- the plan


def test_the_plan_is_the_seeds_in_both_shapes():
    """Load -> process, validate -> store."""
    partitioner = QuantumPartitioner(max_workers=4)
    partitioner.add_unit(fn=plus_one, dependencies=[], name="load_data")
    partitioner.add_unit(fn=plus_one, dependencies=["load_data"], name="process_data")
    partitioner.add_unit(fn=plus_one, dependencies=["load_data"], name="validate_data")
    partitioner.add_unit(fn=plus_one, dependencies=["process_data", "validate_data"], name="store_results")
    plan = partitioner.build_execution_plan()
    assert isinstance(plan, ExecutionPlan)
    assert plan.levels == plan.execution_order == [["load_data"], ["process_data", "validate_data"], ["store_results"]]
    assert (plan.unit_count, plan.max_level, plan.max_parallel_units) == (4, 3, 2)
    assert plan.units == partitioner.units
    assert partitioner.execute({"input_data": 1})["store_results"] == 5


def test_a_plan_is_kept_until_the_units_change():
    """Added, replaced, removed, also by hand; and one that has become no graph is not run from memory."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(plus_one, name="a")
    assert partitioner.execute({}) == {"a": 1}
    kept = partitioner._current_plan()
    assert partitioner._current_plan() is kept
    partitioner.add_unit(plus_one, ["a"], "b")
    assert partitioner.execute({}) == {"a": 1, "b": 2}
    partitioner.units["a"] = QuantumUnit("a", lambda _: 10)
    assert partitioner.execute({}) == {"a": 10, "b": 11}
    assert partitioner.units["a"].result == 10
    del partitioner.units["b"]
    assert partitioner.execute({}) == {"a": 10}
    partitioner.units["c"] = QuantumUnit("c", plus_one, ["gone"])
    for _ in range(2):
        with pytest.raises(MissingDependencyError):
            partitioner.execute({})
    del partitioner.units["c"]
    assert partitioner.execute({}) == {"a": 10}


def test_a_plan_that_could_not_be_built_does_not_leave_an_older_one_to_run():
    """A dependency was changed by hand, and the plan built anew, in vain."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    unit = partitioner.add_unit(plus_one, name="a")
    assert partitioner.execute({}) == {"a": 1}
    unit.dependencies.append("gone")
    with pytest.raises(MissingDependencyError):
        partitioner.build_execution_plan()
    with pytest.raises(MissingDependencyError):
        partitioner.execute({})


def test_a_ring_is_an_error_of_the_partitioner():
    """Before anything runs."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(plus_one, ["b"], "a")
    partitioner.add_unit(plus_one, ["a"], "b")
    with pytest.raises(CircularDependencyError, match="'a' -> 'b' -> 'a'"):
        partitioner.build_execution_plan()
    with pytest.raises(CircularDependencyError):
        partitioner.execute({})


# ---- execute


def test_execute_takes_its_arguments_in_the_seeds_order():
    """context, execution_mode, max_workers, custom_executor."""
    partitioner = story(ExecutionMode.ASYNC)
    result = partitioner.execute({}, ExecutionMode.THREAD, 3)
    assert isinstance(result, ExecutionResult)
    assert (result.report.mode, result.report.max_workers) == ("thread", 3)
    with ThreadPoolExecutor(4) as pool:
        result = partitioner.execute({}, ExecutionMode.CUSTOM, 3, pool)
        assert (result.report.mode, result.report.max_workers) == ("custom", 3)
        assert pool.submit(int, "5").result() == 5
        result = partitioner.execute(context={}, custom_executor=pool)
        assert result.report.mode == "custom"
    assert result == {"a": 1, "b": 2, "c": 3}


@every_mode
def test_a_mode_is_the_default_or_the_calls_by_value_or_by_name(mode):
    """The call's own wins."""
    other = "sequential" if mode != "sequential" else "thread"
    assert story(mode).execute({}).report.mode == mode
    assert story(other).execute({}, mode).report.mode == mode
    assert story(ExecutionMode(other)).execute({}, execution_mode=ExecutionMode(mode)).report.mode == mode


def test_the_number_of_workers_is_the_calls_or_the_partitioners_or_what_suits():
    """And one in sequential mode."""
    partitioner = QuantumPartitioner(3)
    for _ in range(5):
        partitioner.add_unit(plus_one)
    assert partitioner.execute({}).report.max_workers == 3
    assert partitioner.execute({}, max_workers=2).report.max_workers == 2
    assert partitioner.execute({}, "sequential").report.max_workers == 1
    partitioner.max_workers = None
    assert 1 <= partitioner.execute({}).report.max_workers <= 5
    assert partitioner.execute({}, "async").report.max_workers is None


def test_never_more_units_at_once_than_workers_and_with_enough_work_that_many():
    """Three of twelve."""
    at_once, most, lock = [0], [0], threading.Lock()
    meet = threading.Barrier(3)

    def unit(_):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        meet.wait(PATIENCE_S)
        with lock:
            at_once[0] -= 1

    partitioner = QuantumPartitioner(3)
    for _ in range(12):
        partitioner.add_unit(unit)
    assert partitioner.execute({}).ok
    assert most == [3]


WAYS = {
    "execute": lambda partitioner, **options: partitioner.execute({}, **options),
    "execute_with_strategy": lambda partitioner, **options: partitioner.execute_with_strategy(
        {}, "priority", **options
    ),
    "execute_with_monitoring": lambda partitioner, **options: partitioner.execute_with_monitoring({}, **options),
    "execute_with_recovery": lambda partitioner, **options: partitioner.execute_with_recovery({}, **options),
}
every_way = pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in WAYS.items()])


@every_way
@every_mode
def test_every_way_to_execute_runs_the_graph_in_every_mode(way, mode):
    """And the empty one."""
    partitioner = QuantumPartitioner(2, mode)
    assert way(partitioner) == {}
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(plus_one, ["a"], "b")
    assert way(partitioner) == {"a": 1, "b": 2}


@every_way
def test_every_way_to_execute_takes_the_same_options(way):
    """Outputs, known results, observers, what to do about failures."""
    partitioner = story("sequential")
    recorder = Recorder()
    result = way(partitioner, outputs=["c"], known={"a": 10}, telemetry=[recorder], execution_mode="thread")
    assert result == {"c": 12}
    assert recorder.finished() == ["a", "b", "c"]
    assert result.report.mode == "thread"
    with pytest.raises(ExceptionGroup):
        way(partitioner, on_failure="raise")
    with pytest.raises(UnknownNameError, match=r"'ouputs'.*did you mean 'outputs'"):
        way(partitioner, ouputs=["c"])


@every_way
def test_every_way_to_execute_honours_fallbacks(way):
    """A falsy value is one; so is None."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    for name, value in (("none", None), ("zero", 0), ("list", [])):
        partitioner.add_unit(fails, name=name, metadata={"fallback_value": value})
    partitioner.add_unit(fails, name="function", fallback=lambda ctx, error: (ctx.unit_id, str(error)))
    assert way(partitioner) == {"none": None, "zero": 0, "list": [], "function": ("function", "function")}


# ---- strategies


def test_execute_with_strategy_takes_the_strategy_second():
    """Then mode, workers and executor, in that order. The highest priority goes first among what is ready."""
    partitioner = QuantumPartitioner()
    order = []
    for number in range(4):
        partitioner.add_unit(lambda ctx: order.append(ctx.unit_id), name=f"u{number}", priority=number % 3)
    result = partitioner.execute_with_strategy({}, "priority", ExecutionMode.SEQUENTIAL, 1)
    assert order == ["u2", "u1", "u0", "u3"]
    assert (result.report.strategy, result.report.mode) == ("priority", "sequential")
    with ThreadPoolExecutor(1) as pool:
        order.clear()
        assert partitioner.execute_with_strategy({}, "priority", None, 1, pool).report.mode == "custom"
    assert order == ["u2", "u1", "u0", "u3"]


def test_a_strategy_orders_but_never_holds_back():
    """A unit of the lowest priority runs when nothing else is ready. low -> high; both end."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    order = []
    partitioner.add_unit(lambda ctx: order.append(ctx.unit_id), name="low", priority=-5)
    partitioner.add_unit(lambda ctx: order.append(ctx.unit_id), ["low"], "high", priority=5)
    partitioner.add_unit(lambda ctx: order.append(ctx.unit_id), name="middle")
    assert partitioner.execute({}, strategy="priority").ok
    assert order == ["middle", "low", "high"]


def test_a_strategy_that_is_not_there_is_an_error_that_lists_what_there_is():
    """Before anything runs."""
    partitioner = story()
    with pytest.raises(
        UnknownNameError, match=r"no strategy named 'priorty'; there are: 'fifo', 'priority'.*did you mean 'priority'"
    ):
        partitioner.execute_with_strategy({}, "priorty")
    assert partitioner.last_result is None


# ---- monitoring

METRICS = [
    "completed_units",
    "end_time",
    "execution_trace",
    "failed_units",
    "start_time",
    "total_duration",
    "total_units",
    "unit_times",
]


@every_mode
def test_monitoring_leaves_the_seeds_exact_keys(mode):
    """At the top, for each unit, and in each line of the trace."""
    partitioner = story(mode)
    assert partitioner.execute_with_monitoring({}) == {"a": 1, "b": 2, "c": 3}
    metrics = partitioner.last_execution_metrics
    assert sorted(metrics) == METRICS
    assert (metrics["total_units"], metrics["completed_units"], metrics["failed_units"]) == (5, 3, 1)
    assert metrics["total_duration"] == pytest.approx(metrics["end_time"] - metrics["start_time"], abs=1e-4)
    assert {name: sorted(times) for name, times in metrics["unit_times"].items()} == {
        "a": ["duration", "end", "start"],
        "b": ["duration", "end", "start"],
        "c": ["duration", "end", "start"],
        "bad": ["duration", "end", "error", "start"],
    }
    for times in metrics["unit_times"].values():
        assert times["duration"] == pytest.approx(times["end"] - times["start"])
        assert times["duration"] >= 0
    assert metrics["unit_times"]["bad"]["error"] == "bad"
    assert metrics["unit_times"]["a"]["end"] <= metrics["unit_times"]["b"]["start"]
    trace = metrics["execution_trace"]
    assert sorted((line["event"], line["unit"]) for line in trace) == sorted(
        [(event, unit) for unit in "abc" for event in ("start", "complete")] + [("start", "bad"), ("error", "bad")]
    )
    for line in trace:
        assert sorted(line) == (
            ["error", "event", "time", "unit"] if line["event"] == "error" else ["event", "time", "unit"]
        )


def test_monitoring_measures_on_the_runs_own_clock():
    """A takes 3 s of it, b 2 s; the wall clock says when."""
    clock = FakeClock()
    partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=clock)
    partitioner.add_unit(lambda _: clock.advance(3), name="a")
    partitioner.add_unit(lambda _: clock.advance(2), name="b")
    begun = clock.utc()
    partitioner.execute_with_monitoring({})
    metrics = partitioner.last_execution_metrics
    assert (metrics["start_time"], metrics["total_duration"], metrics["end_time"]) == (begun, 5, begun + 5)
    assert metrics["unit_times"] == {
        "a": {"start": begun, "end": begun + 3, "duration": 3},
        "b": {"start": begun + 3, "end": begun + 5, "duration": 2},
    }


def test_monitoring_of_a_run_that_was_broken_is_kept():
    """As far as it went; all keys are there. A run that never began leaves them too."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(plus_one, ["a"], "b", metadata={"cacheable": True})

    class Broken:
        def get(self, key):
            raise OSError(key)

        def put(self, key, value):
            raise OSError(key)

    with pytest.raises(PluginError):
        partitioner.execute_with_monitoring({}, cache=Broken())
    metrics = partitioner.last_execution_metrics
    assert sorted(metrics) == METRICS
    assert list(metrics["unit_times"]) == ["a"]
    assert metrics["total_duration"] > 0
    with pytest.raises(UnknownNameError):
        partitioner.execute_with_monitoring({}, execution_mode="warp")
    assert sorted(partitioner.last_execution_metrics) == METRICS
    assert partitioner.last_execution_metrics["completed_units"] == 0


def test_other_ways_to_execute_leave_the_metrics_alone():
    """They show what `execute_with_monitoring` measured last."""
    partitioner = story()
    partitioner.execute_with_monitoring({})
    before = partitioner.last_execution_metrics
    partitioner.execute({})
    assert partitioner.last_execution_metrics is before


# ---- recovery


def test_recovery_raises_what_failed_without_a_fallback():
    """With the errors, what completed and what failed; the first error is its cause. It is the TaskMap layer's error too."""
    partitioner = story("sequential")
    partitioner.add_unit(fails, name="worse")
    partitioner.add_unit(fails, name="mended", metadata={"fallback_value": 0})
    with pytest.raises(ExecutionError) as caught:
        partitioner.execute_with_recovery({})
    error = caught.value
    assert isinstance(error, TaskError)
    assert error.partial_results == {"a": 1, "b": 2, "c": 3, "mended": 0}
    assert error.failed_tasks == ["bad", "worse"]
    assert {name: str(one) for name, one in error.errors.items()} == {"bad": "bad", "worse": "worse"}
    assert error.__cause__ is error.errors["bad"]


def test_recovery_goes_on_behind_a_fallback():
    """Fetch fails and has a stand-in; process runs on it."""
    partitioner = QuantumPartitioner(max_workers=4, clock=FakeClock())
    partitioner.add_unit(
        fails,
        dependencies=[],
        name="fetch_data",
        retries=3,
        timeout=5.0,
        metadata={"fallback_value": {"status": "error", "data": []}, "resource_type": "io"},
    )
    partitioner.add_unit(lambda ctx: ctx["fetch_data"]["status"], dependencies=["fetch_data"], name="process_data")
    result = partitioner.execute_with_recovery({})
    assert result["process_data"] == "error"
    assert result.report.units["fetch_data"].attempts == 4


def test_recovery_insists_also_where_a_run_was_cut():
    """Nothing failed, but not everything completed."""
    partitioner = QuantumPartitioner(default_execution_mode="thread", clock=FakeClock())
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(fails, name="waits", retries=1, retry=RetryPolicy(base_s=50, cap_s=99, jitter=0))
    with pytest.raises(ExecutionError) as caught:
        partitioner.execute_with_recovery({}, deadline=5)
    assert caught.value.partial_results == {"a": 1}
    assert caught.value.failed_tasks == []
    assert caught.value.__cause__ is None


# ---- callbacks


@every_mode
def test_callbacks_are_called_with_what_the_seed_says(mode):
    """start(id), complete(id, result), error(id, error); nothing for what was skipped; in this process."""
    partitioner = story(mode)
    partitioner.add_unit(fails, name="mended", metadata={"fallback_value": 9})
    started, completed, failed = [], {}, {}
    partitioner.on_unit_start = started.append
    partitioner.on_unit_complete = completed.__setitem__
    partitioner.on_unit_error = failed.__setitem__
    result = partitioner.execute({})
    assert sorted(started) == ["a", "b", "bad", "c", "mended"]
    assert completed == {"a": 1, "b": 2, "c": 3, "mended": 9}
    assert failed == {"bad": result.failed["bad"]}


@pytest.mark.parametrize("which", ["on_unit_start", "on_unit_complete", "on_unit_error"])
def test_each_callback_works_alone_and_can_be_taken_away(which):
    """The others are None."""
    partitioner = story("sequential")
    calls = []
    setattr(partitioner, which, lambda *given: calls.append(given))
    partitioner.execute({})
    assert len(calls) == {"on_unit_start": 4, "on_unit_complete": 3, "on_unit_error": 1}[which]
    setattr(partitioner, which, None)
    partitioner.execute({})
    assert len(calls) == {"on_unit_start": 4, "on_unit_complete": 3, "on_unit_error": 1}[which]


def test_the_start_callback_hears_of_every_attempt_and_the_error_callback_of_the_end_only():
    """Two attempts fail, the third is the end."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=FakeClock())
    partitioner.add_unit(fails, name="a", retries=2)
    started, failed = [], []
    partitioner.on_unit_start = started.append
    partitioner.on_unit_error = lambda unit_id, error: failed.append((unit_id, type(error)))
    partitioner.execute({})
    assert started == ["a", "a", "a"]
    assert failed == [("a", ValueError)]


def test_a_unit_that_ran_out_of_time_is_an_error_for_callbacks():
    """With the UnitTimeoutError."""
    clock, free = FakeClock(), threading.Event()
    partitioner = QuantumPartitioner(clock=clock)

    def long(_):
        clock.advance(9)
        assert free.wait(PATIENCE_S)

    def error(unit_id, raised):
        failed.append((unit_id, type(raised)))
        free.set()

    failed = []
    partitioner.add_unit(long, name="long", timeout=5)
    partitioner.on_unit_error = error
    assert partitioner.execute({}).report.units["long"].state is UnitState.TIMEOUT
    assert failed == [("long", UnitTimeoutError)]
    assert partitioner.failed_units == {"long"}


def test_a_callback_that_raises_hurts_nobody(caplog):
    """It is switched off and named once."""
    partitioner = story("sequential")

    def broken(unit_id):
        raise LookupError(unit_id)

    partitioner.on_unit_start = broken
    assert partitioner.execute({}) == {"a": 1, "b": 2, "c": 3}
    assert [message for message in caplog.messages if "switched off" in message] == [
        "callback 'on_unit_start' raised and is switched off for this run: LookupError: a"
    ]


def test_the_seeds_monitoring_pattern_works_as_written(monkeypatch):
    """Two callbacks that measure, another mode and number of workers, and the figures that the seed computes."""
    monkeypatch.setattr(time, "time", time.monotonic)  # the machine's date may be put back in between
    partitioner = QuantumPartitioner(max_workers=8, default_execution_mode=ExecutionMode.PROCESS)
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(plus_one, ["a"], "b")
    metrics = {}

    def start_monitor(unit_id):
        metrics[unit_id] = {"start_time": time.time()}

    def end_monitor(unit_id, result):
        metrics[unit_id]["end_time"] = time.time()
        metrics[unit_id]["duration"] = metrics[unit_id]["end_time"] - metrics[unit_id]["start_time"]

    partitioner.on_unit_start = start_monitor
    partitioner.on_unit_complete = end_monitor
    results = partitioner.execute(
        context={"input_data": 1},
        execution_mode=ExecutionMode.THREAD,
        max_workers=4,
    )
    assert results == {"a": 1, "b": 2}
    assert sum(m["duration"] for m in metrics.values()) >= max(m["duration"] for m in metrics.values()) >= 0


# ---- what is left after a run


@every_mode
def test_the_seeds_attributes_show_the_run_that_finished_last(mode):
    """On the partitioner and on each unit."""
    partitioner = story(mode)
    result = partitioner.execute({})
    assert partitioner.last_result is result
    assert partitioner.completed_units == {"a", "b", "c"}
    assert partitioner.failed_units == {"bad"}
    assert partitioner.get_partial_results() == {"a": 1, "b": 2, "c": 3}
    assert partitioner.get_failed_units() == {"bad": result.failed["bad"]}
    a, bad, lost = (partitioner.units[name] for name in ("a", "bad", "lost"))
    assert (a.state, a.result, a.error, a.attempt) == (UnitState.COMPLETED, 1, None, 1)
    assert a.start_time <= a.end_time
    assert a.execution_time == a.get_execution_time() == a.end_time - a.start_time
    assert (bad.state, bad.result, bad.error) == (UnitState.FAILED, None, result.failed["bad"])
    assert (lost.state, lost.result, lost.error, lost.start_time) == (UnitState.SKIPPED, None, None, None)
    assert lost.execution_time is None
    assert lost.can_execute({"bad"})
    assert not lost.can_execute(partitioner.completed_units)


@in_this_process
def test_executing_twice_leaves_nothing_from_the_first_run(mode):
    """What failed the first time completes the second, and the other way round."""
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(lambda ctx: 1 / ctx["n"], name="a")
    partitioner.add_unit(lambda ctx: 1 / (1 - ctx["n"]), name="b")
    partitioner.add_unit(lambda ctx: "after", ["a"], "c")
    for n, good, bad, c in ((0, "b", "a", UnitState.SKIPPED), (1, "a", "b", UnitState.COMPLETED)):
        result = partitioner.execute({"n": n})
        assert partitioner.failed_units == set(result.failed) == {bad}
        assert partitioner.units[bad].result is None
        assert partitioner.units[good].error is None
        assert partitioner.units["c"].state is c
        assert (partitioner.units["c"].result == "after") is (c is UnitState.COMPLETED)


def test_a_run_of_some_units_says_nothing_of_the_others():
    """They have no state in it."""
    partitioner = story("sequential")
    partitioner.execute({})
    partitioner.execute({}, outputs=["b"])
    assert {name: unit.state for name, unit in partitioner.units.items()} == {
        "a": UnitState.COMPLETED,
        "b": UnitState.COMPLETED,
        "c": UnitState.PENDING,
        "bad": UnitState.PENDING,
        "lost": UnitState.PENDING,
    }
    assert (partitioner.units["a"].result, partitioner.units["b"].result) == (None, 2)  # a's was freed
    assert partitioner.completed_units == {"a", "b"}
    assert partitioner.get_partial_results() == {"b": 2}


def test_what_is_handed_out_is_a_copy():
    """Changing it changes no run's result."""
    partitioner = story("sequential")
    partitioner.execute({})
    partitioner.get_partial_results().clear()
    partitioner.get_failed_units().clear()
    partitioner.completed_units.clear()
    assert partitioner.get_partial_results() == {"a": 1, "b": 2, "c": 3}
    assert list(partitioner.get_failed_units()) == ["bad"]
    assert partitioner.completed_units == {"a", "b", "c"}


def test_partial_results_are_there_where_the_run_raised():
    """As the seed's error handling wants them."""
    partitioner = story("sequential")
    with pytest.raises(ExceptionGroup):
        partitioner.execute({}, on_failure="raise")
    assert partitioner.get_partial_results() == {"a": 1, "b": 2, "c": 3}
    assert list(partitioner.get_failed_units()) == ["bad"]


def test_a_call_that_was_refused_leaves_the_last_run_in_sight():
    """It was no run."""
    partitioner = story("sequential")
    result = partitioner.execute({})
    with pytest.raises(UnknownNameError):
        partitioner.execute({}, "warp")
    assert partitioner.last_result is result
    assert partitioner.completed_units == {"a", "b", "c"}


# ---- runs at the same time


@in_this_process
def test_two_threads_may_execute_one_partitioner_at_once(mode):
    """Both are in the middle of it at the same time; their results do not mix."""
    meet = threading.Barrier(2)
    partitioner = QuantumPartitioner(2, mode)

    def first(ctx):
        meet.wait(PATIENCE_S)
        return ctx["n"]

    partitioner.add_unit(first, name="a")
    partitioner.add_unit(lambda ctx: ctx["a"] * 10, ["a"], "b")
    partitioner.add_unit(lambda ctx: ctx["b"] + ctx["n"], ["b"], "c")
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(partitioner.execute, {"n": n}) for n in (1, 2)]
        results = [run.result() for run in runs]
    assert results == [{"a": 1, "b": 10, "c": 11}, {"a": 2, "b": 20, "c": 22}]
    assert partitioner.last_result in results


def test_the_attributes_of_all_units_change_at_once():
    """Somebody who looks while other runs end sees the units of one run, never of two."""
    partitioner = QuantumPartitioner(2)
    for number in range(20):
        partitioner.add_unit(lambda ctx: ctx["n"], name=f"u{number}")
    over = threading.Event()
    mixed = []

    def look():
        while not over.is_set():
            result = partitioner.last_result
            seen = partitioner.get_partial_results()
            if len(set(seen.values())) > 1:
                mixed.append(seen)
            if result is not None and len(result) != 20:
                mixed.append(dict(result))

    watcher = threading.Thread(target=look)
    watcher.start()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: partitioner.execute({"n": n}), range(30)))
    over.set()
    watcher.join(PATIENCE_S)
    assert mixed == []
    assert {unit.result for unit in partitioner.units.values()} == set(partitioner.last_result.values())


def test_units_may_be_added_while_a_run_goes_on():
    """The run keeps to the plan that it began with; the next one has them all."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")

    def adds(_):
        if "late" not in partitioner.units:
            partitioner.add_unit(plus_one, ["first"], "late")
        return 1

    partitioner.add_unit(adds, name="first")
    assert partitioner.execute({}) == {"first": 1}
    assert partitioner.execute({}) == {"first": 1, "late": 2}


# ---- what can be set


def test_the_jitter_of_retries_repeats_itself_with_a_seed():
    """And differs without one."""

    def waits(seed):
        clock = FakeClock()
        partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=clock, seed=seed)
        for _ in range(3):
            partitioner.add_unit(fails, retries=3)
        partitioner.execute({})
        return clock.jumps

    assert waits(7) == waits(7)
    assert waits(7) != waits(8)
    assert waits(None) != waits(None)


def test_settings_are_read_from_the_environment_unless_given(monkeypatch):
    """The grace, for one."""
    monkeypatch.setenv("QP_GRACE", "2.5")
    assert QuantumPartitioner()._settings.grace_s == 2.5
    assert QuantumPartitioner(settings=Settings(grace_s=7))._settings.grace_s == 7
    monkeypatch.setenv("QP_GRACE", "soon")
    with pytest.raises(ValueError, match="QP_GRACE"):
        QuantumPartitioner()


def test_a_fault_of_the_seeds_is_mended_falsy_context_and_falsy_results():
    """None is a result like any other, and an empty context is one."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda _: None, name="none")
    partitioner.add_unit(lambda ctx: ctx["none"] is None, ["none"], "seen")
    assert partitioner.execute({}) == {"none": None, "seen": True}
