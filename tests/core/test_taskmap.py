"""The TaskMap layer: the seed's names over the engine, and runs that continue where the last one stopped."""

import asyncio
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from qp_core import (
    CircularDependency,
    CircularDependencyError,
    ContextError,
    ExecutionPlan,
    MissingDependencyError,
    TaskError,
    TaskMap,
    UnknownNameError,
    build_graph,
    run_async,
    run_parallel,
    run_parallel_threads,
    run_tasks,
)

PATIENCE_S = 30  # only ever spent by a test that fails

RUNNERS = [
    pytest.param(run_tasks, id="tasks"),
    pytest.param(run_parallel, id="parallel", marks=pytest.mark.slow),
    pytest.param(run_parallel_threads, id="threads"),
    pytest.param(run_async, id="async"),
]


def load(ctx):
    """No dependency."""
    return list(ctx["numbers"])


def total(ctx):
    """One dependency."""
    return sum(ctx["load"])


def mean(ctx):
    """Two dependencies."""
    return ctx["total"] / len(ctx["load"])


def statistics():
    """The graph load -> total -> mean, and load -> mean."""
    return TaskMap({"load": (load, []), "total": (total, ["load"]), "mean": (mean, ["load", "total"])})


class Counted:
    """Tasks a -> b -> c beside d, that count their runs; `broken` names those that raise."""

    def __init__(self):
        self.runs = []
        self.broken = set()

    def task(self, name):
        """A function that counts."""

        def run(ctx):
            self.runs.append(name)
            if name in self.broken:
                msg = f"{name} is broken"
                raise ValueError(msg)
            return name

        return run

    def map(self, **options):
        """The tasks."""
        needs = {"a": [], "b": ["a"], "c": ["b"], "d": []}
        return TaskMap({name: (self.task(name), deps) for name, deps in needs.items()}, **options)

    def taken(self):
        """What has run since the last call."""
        runs, self.runs = self.runs, []
        return runs


# ---- runners


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_gives_the_same_results(runner):
    """A dict of name to result, in the order of the tasks."""
    results = runner(statistics(), {"numbers": (1, 2, 6)})
    assert results == {"load": [1, 2, 6], "total": 9, "mean": 3.0}
    assert list(results) == ["load", "total", "mean"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_raises_task_error_with_what_there_is(runner):
    """A failed task is in `errors` and `failed_tasks`; what waits for it is in neither, nor in the results."""
    with pytest.raises(TaskError) as raised:
        runner(statistics(), {"numbers": ()})
    error = raised.value
    assert error.failed_tasks == ["mean"]
    assert type(error.errors["mean"]) is ZeroDivisionError
    assert error.partial_results == {"load": [], "total": 0}
    assert error.__cause__ is error.errors["mean"]
    assert "'mean' raised ZeroDivisionError" in str(error)


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_waits_for_a_failed_task_is_not_among_the_failed(runner):
    """In load (fails) -> total -> mean."""
    with pytest.raises(TaskError) as raised:
        runner(statistics(), {"numbers": 5})
    assert raised.value.failed_tasks == ["load"]
    assert raised.value.partial_results == {}


def test_run_is_run_tasks():
    """The seed's `task_map.run(context)` runs one task after another in this thread."""
    threads = []
    tasks = TaskMap({name: lambda ctx: threads.append(threading.get_ident()) for name in "abc"})
    assert tasks.run({}) == run_tasks(tasks, {}) == {"a": None, "b": None, "c": None}
    assert set(threads) == {threading.get_ident()}


@pytest.mark.slow
def test_run_parallel_uses_other_processes():
    """Closures travel there too."""
    here = os.getpid()
    results = run_parallel(TaskMap({"a": lambda ctx: os.getpid() != here, "b": (lambda ctx: ctx["a"], ["a"])}), {})
    assert results == {"a": True, "b": True}


@pytest.mark.parametrize("runner", [run_parallel, run_parallel_threads], ids=["parallel", "threads"])
def test_an_executor_of_the_caller_is_used_and_stays_open(runner):
    """As the seed does: `with ThreadPoolExecutor(...) as executor: run_parallel_threads(..., executor=executor)`."""
    names = []
    with ThreadPoolExecutor(2, thread_name_prefix="own") as executor:
        tasks = TaskMap({"a": lambda ctx: names.append(threading.current_thread().name)})
        runner(tasks, {}, executor=executor)
        assert executor.submit(int, "7").result() == 7
    assert names[0].startswith("own")


def test_run_uses_an_executor_of_the_caller_too():
    """Naming one is enough; without one, and with no mode, tasks run one after another."""
    with ThreadPoolExecutor(2) as pool:
        assert statistics().run({"numbers": [1, 2]}, custom_executor=pool).report.mode == "custom"
    assert statistics().run({"numbers": [1, 2]}, execution_mode=None).report.mode == "sequential"


@pytest.mark.slow
def test_a_process_pool_of_the_caller_is_used():
    """The seed gives `run_parallel` a ProcessPoolExecutor."""
    with ProcessPoolExecutor(1) as executor:
        assert run_parallel(statistics(), {"numbers": [4]}, executor)["mean"] == 4.0


def test_max_workers_bounds_the_threads():
    """One worker: never two tasks at once."""
    tasks = TaskMap({str(n): (lambda ctx: threading.get_ident()) for n in range(20)})
    assert len(set(run_parallel_threads(tasks, {}, max_workers=1).values())) == 1
    assert tasks.last_result.report.max_workers == 1


def test_run_async_runs_coroutines_and_functions_also_inside_a_loop():
    """In fetch (coroutine) -> size (function)."""

    async def fetch(ctx):
        await asyncio.sleep(0)
        return "text"

    tasks = TaskMap({"fetch": (fetch, []), "size": (lambda ctx: len(ctx["fetch"]), ["fetch"])})
    assert run_async(tasks, {}) == {"fetch": "text", "size": 4}

    async def inside():
        return run_async(tasks, {})

    assert asyncio.run(inside()) == {"fetch": "text", "size": 4}


def test_options_of_execute_reach_the_engine():
    """`outputs` runs only what they need."""
    result = statistics().run({"numbers": [1]}, execution_mode="thread", outputs=["total"])
    assert result == {"total": 1}
    assert result.report.mode == "thread"


# ---- callbacks


@pytest.mark.parametrize("runner", RUNNERS)
def test_callbacks_hear_of_each_task(runner):
    """Start, then complete or error; a skipped task is heard of in neither."""
    heard = []
    tasks = TaskMap({"ok": (lambda ctx: 1, []), "bad": (lambda ctx: 1 / 0, ["ok"]), "after": (lambda ctx: 1, ["bad"])})
    tasks.on_task_start = lambda name: heard.append(("start", name))
    tasks.on_task_complete = lambda name, result: heard.append(("complete", name, result))
    tasks.on_task_error = lambda name, error: heard.append(("error", name, type(error)))
    with pytest.raises(TaskError):
        runner(tasks, {})
    assert heard == [
        ("start", "ok"),
        ("complete", "ok", 1),
        ("start", "bad"),
        ("error", "bad", ZeroDivisionError),
    ]


@pytest.mark.parametrize("name", ["on_task_start", "on_task_complete", "on_task_error"])
def test_a_callback_that_cannot_be_called_is_named_as_the_map_names_it(name):
    """Before anything runs."""
    ran = []
    tasks = TaskMap({"a": lambda ctx: ran.append(1)})
    setattr(tasks, name, "x")
    with pytest.raises(TypeError, match=f"^{name} is 'x', which cannot be called; give a function, or None$"):
        tasks.run({})
    assert ran == []


# ---- build_graph and the shape of tasks


def test_build_graph_is_a_plan():
    """For planning: levels, critical path, dependents, a picture."""
    graph = build_graph({"mean": ["load", "total"], "load": [], "total": ("load",)})
    assert isinstance(graph, ExecutionPlan)
    assert graph.levels == [["load"], ["total"], ["mean"]]
    assert graph.critical_path == ["load", "total", "mean"]
    assert graph.dependents == {"load": {"total", "mean"}, "total": {"mean"}, "mean": set()}
    assert "digraph" in graph.visualize()
    assert build_graph({}).levels == []


@pytest.mark.parametrize(
    "make", [build_graph, lambda deps: TaskMap({k: (len, d) for k, d in deps.items()})], ids=["graph", "map"]
)
def test_wrong_graphs_raise_before_anything_runs(make):
    """The TaskMap layer's ring is the base class, so that it is told apart from a partitioner's."""
    with pytest.raises(CircularDependency, match="'a' -> 'b' -> 'a'") as raised:
        make({"a": ["b"], "b": ["a"]})
    assert not isinstance(raised.value, CircularDependencyError)
    with pytest.raises(CircularDependency, match="depends on itself"):
        make({"a": ["a"]})
    with pytest.raises(MissingDependencyError, match="did you mean 'load'"):
        make({"load": [], "clean": ["laod"]})
    with pytest.raises(TypeError, match=r"give a list of ids: \['a'\]"):
        make({"a": [], "b": "a"})


@pytest.mark.parametrize("task", [3, (len,), (len, [], 1), "len", None], ids=repr)
def test_what_is_no_task_is_an_error_that_names_it(task):
    """A function, or a pair."""
    with pytest.raises(TypeError, match="task 'a' is"):
        TaskMap({"a": task})


def test_a_pair_without_a_function_is_an_error():
    """The engine's own check."""
    with pytest.raises(TypeError, match=r"'a'.*cannot be called"):
        TaskMap({"a": (3, [])})


def test_tasks_and_plan_show_what_was_given():
    """`tasks` is a new dict each time."""
    tasks = statistics()
    assert tasks.tasks["mean"] == (mean, ["load", "total"])
    tasks.tasks.clear()
    assert len(tasks.tasks) == len(tasks.plan) == 3


def test_a_context_that_hides_a_task_is_an_error():
    """The engine's own check holds here too; a known result is given by `results`."""
    with pytest.raises(ContextError, match="'load'"):
        statistics().run({"load": [1], "numbers": [1]})


def test_the_empty_map_gives_an_empty_result():
    """In every runner."""
    assert all(runner.values[0](TaskMap({}), {}) == {} for runner in RUNNERS)


def test_task_error_pickles_whole():
    """It may cross a process."""
    error = pickle.loads(pickle.dumps(TaskError({"a": ValueError("x")}, {"b": 1}, ["a"])))
    assert (str(error.errors["a"]), error.partial_results, error.failed_tasks) == ("x", {"b": 1}, ["a"])


# ---- what the next run runs


def test_every_run_is_new():
    """Nothing of the first run is left in the second."""
    tasks = statistics()
    assert tasks.run({"numbers": [1]})["total"] == 1
    assert tasks.run({"numbers": [2]})["total"] == 2
    assert tasks.done == frozenset()
    assert tasks.results == {"load": [2], "total": 2, "mean": 2.0}


def test_seeded_results_are_not_computed_again():
    """`results` are done; `done` without a result is None."""
    counted = Counted()
    tasks = counted.map(results={"a": "given"}, done=["d"])
    assert tasks.done == {"a", "d"}
    assert tasks.run({}) == {"a": "given", "b": "b", "c": "c", "d": None}
    assert counted.taken() == ["b", "c"]
    assert tasks.run({})["a"] == "given", "what was seeded holds for later runs too"
    assert counted.taken() == ["b", "c"]


def test_reset_failed_tasks_runs_only_them_and_their_children():
    """In a -> b (fails) -> c, beside d: b and c run again, a and d are kept."""
    counted = Counted()
    tasks = counted.map()
    counted.broken = {"b"}
    with pytest.raises(TaskError):
        run_parallel_threads(tasks, {})
    assert sorted(counted.taken()) == ["a", "b", "d"]
    assert tasks.results == {"a": "a", "d": "d"}
    assert tasks.reset_failed_tasks() == ["b", "c"]
    assert tasks.done == {"a", "d"}
    counted.broken = set()
    assert tasks.run({}) == {"a": "a", "b": "b", "c": "c", "d": "d"}
    assert counted.taken() == ["b", "c"]
    assert tasks.done == frozenset(), "a continuation is for one run"
    tasks.run({})
    assert sorted(counted.taken()) == ["a", "b", "c", "d"]


def test_a_continuation_that_fails_again_can_be_continued():
    """What was kept counts as completed."""
    counted = Counted()
    counted.broken = {"b"}
    tasks = counted.map()
    for ran in (["a", "b", "d"], ["b"]):
        with pytest.raises(TaskError):
            tasks.run({})
        assert sorted(counted.taken()) == ran
        tasks.reset_failed_tasks()
    counted.broken = set()
    assert len(tasks.run({})) == 4
    assert counted.taken() == ["b", "c"]


def test_reset_failed_tasks_where_nothing_failed_runs_nothing():
    """All results are kept; before the first run there is nothing to keep."""
    counted = Counted()
    tasks = counted.map()
    assert tasks.reset_failed_tasks() == []
    tasks.run({})
    assert len(counted.taken()) == 4
    assert tasks.reset_failed_tasks() == []
    assert len(tasks.run({})) == 4
    assert counted.taken() == []


def test_reset_tasks_takes_their_children_along():
    """Names or lists of names, in one call or several."""
    counted = Counted()
    tasks = counted.map()
    tasks.run({})
    counted.taken()
    assert tasks.reset_tasks("b") == ["b", "c"]
    assert tasks.reset_tasks(["d"]) == ["d"]
    tasks.run({})
    assert sorted(counted.taken()) == ["b", "c", "d"]


def test_reset_tasks_takes_back_a_mark():
    """A task that was marked as done runs again, and so do its children that were marked."""
    counted = Counted()
    tasks = counted.map(results={"a": 1, "b": 2, "d": 3})
    assert tasks.reset_tasks("a") == ["a", "b", "c"]
    assert tasks.run({}) == {"a": "a", "b": "b", "c": "c", "d": 3}


def test_mark_as_done_and_except():
    """As in the published package: all but the named count as done."""
    counted = Counted()
    tasks = counted.map()
    tasks.mark_as_done("a", ["d"])
    tasks.run({})
    assert counted.taken() == ["b", "c"]
    tasks = counted.map(results={"a": 0})
    tasks.mark_as_done_except("c")
    assert tasks.run({}) == {"a": 0, "b": None, "c": "c", "d": None}
    assert counted.taken() == ["c"]


def test_mark_as_done_keeps_the_result_of_the_last_run():
    """`results` holds what completed last."""
    counted = Counted()
    tasks = counted.map()
    tasks.run({})
    tasks.mark_as_done("a")
    counted.taken()
    assert tasks.run({})["a"] == "a"
    assert sorted(counted.taken()) == ["b", "c", "d"]


@pytest.mark.parametrize(
    "change",
    [
        lambda tasks: tasks.mark_as_done("laod"),
        lambda tasks: tasks.mark_as_done_except("laod"),
        lambda tasks: tasks.reset_tasks(["laod"]),
        lambda tasks: TaskMap(tasks.tasks, io_bound=["laod"]),
        lambda tasks: TaskMap(tasks.tasks, done=["laod"]),
        lambda tasks: TaskMap(tasks.tasks, results={"laod": 1}),
    ],
    ids=["mark", "except", "reset", "io_bound", "done", "results"],
)
def test_a_name_that_is_no_task_is_an_error_with_the_nearest(change):
    """Before anything runs."""
    with pytest.raises(UnknownNameError, match=r"there is no task named 'laod'.*did you mean 'load'"):
        change(statistics())


def test_io_bound_tasks_start_first():
    """Of those that are ready: d before a, in every runner with one worker."""
    for runner in (run_tasks, lambda tasks, ctx: run_parallel_threads(tasks, ctx, max_workers=1)):
        counted = Counted()
        tasks = counted.map(io_bound=["d"])
        runner(tasks, {})
        assert counted.taken()[0] == "d"
        assert tasks.io_bound == {"d"}
    counted.map().run({})
    assert counted.taken()[0] == "a"


def test_ctrl_c_leaves_what_had_completed():
    """In a -> b (Ctrl-C): the result of a is there, and `reset_tasks` continues from it."""

    def interrupt(ctx):
        if ctx["interrupted"]:
            raise KeyboardInterrupt

    tasks = TaskMap({"a": (lambda ctx: 1, []), "b": (interrupt, ["a"])})
    with pytest.raises((KeyboardInterrupt, TaskError)):
        tasks.run({"interrupted": True})
    assert tasks.results == {"a": 1}
    tasks.reset_tasks("b")
    assert tasks.done == {"a"}
    assert tasks.run({"interrupted": False}) == {"a": 1, "b": None}


def test_two_threads_may_run_one_map():
    """Each gets the results of its own run."""
    tasks = TaskMap({"a": lambda ctx: ctx["n"], "b": (lambda ctx: ctx["a"] + 1, ["a"])})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: run_parallel_threads(tasks, {"n": n}), range(40)))
    assert found == [{"a": n, "b": n + 1} for n in range(40)]


@pytest.mark.usefixtures("nervous_threads")
def test_the_results_that_a_map_keeps_are_those_of_one_run():
    """Of the run that ended last, also where four end at the same moment: never the one's results with the other's report."""
    end = threading.Barrier(4)
    tasks = TaskMap({"a": lambda ctx: ctx["n"], "b": (lambda ctx: end.wait(PATIENCE_S), ["a"])})
    with ThreadPoolExecutor(4) as pool:
        for _ in range(100):
            own = list(pool.map(lambda n: tasks.run({"n": n}), range(4)))
            assert [result["a"] for result in own] == [0, 1, 2, 3]
            assert any(tasks.last_result is result for result in own)
            assert tasks.last_result is tasks._partitioner.last_result
            assert tasks.results == dict(tasks.last_result)


@pytest.mark.usefixtures("nervous_threads")
@pytest.mark.parametrize("mark", [TaskMap.mark_as_done, TaskMap.reset_tasks], ids=["mark", "reset"])
def test_what_one_thread_says_of_a_map_is_not_lost_where_others_do_the_same(mark):
    """Each of two threads changes half of the tasks, one at a time, while a third looks and a fourth resets none."""
    names = [f"t{number}" for number in range(600)]
    tasks = TaskMap(dict.fromkeys(names, lambda ctx: 1))
    if mark is TaskMap.reset_tasks:
        tasks.mark_as_done(names)
    over = threading.Event()

    def changes(some):
        for name in some:
            mark(tasks, name)

    def looks(look):
        while not over.is_set():
            look()

    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(looks, look) for look in (lambda: tasks.done, tasks.reset_tasks)]
        try:
            for changing in [pool.submit(changes, names[half::2]) for half in (0, 1)]:
                changing.result(PATIENCE_S)
        finally:
            over.set()
        for other in others:
            other.result(PATIENCE_S)
    assert tasks.done == (set(names) if mark is TaskMap.mark_as_done else set())


@pytest.mark.parametrize("known", [["a"], 5], ids=["list", "number"])
def test_known_results_that_are_no_mapping_are_an_error(known):
    """The same as from a partitioner."""
    with pytest.raises(TypeError, match=r"known is .*; give a mapping of unit ids to results"):
        TaskMap({"a": lambda ctx: 1}).run({}, known=known)
