"""What is wrong with the arguments of an execution is said before anything runs, with the culprit and the next step."""

import asyncio
import collections
import functools
import math
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import pytest

from qp_core import (
    ContextError,
    ExecutionMode,
    MissingDependencyError,
    PluginError,
    Plugins,
    QuantumPartitioner,
    QuantumUnit,
    Settings,
    UnknownNameError,
)
from qp_core.launch import OPTIONS, ExecuteOptions, Launch, Launcher, RunChoices, checked_workers
from qp_core.run import RunOptions

ran = []
"""What has run although it should not have."""


@pytest.fixture
def partitioner():
    """A -> b; that one of them ran is noted, and fails the test where it should not."""
    made = QuantumPartitioner(default_execution_mode="sequential")
    made.add_unit(ran.append, name="a")
    made.add_unit(ran.append, ["a"], "b")
    ran.clear()
    return made


async def coroutine():
    """Made and never awaited."""


class Face:
    """Anything with a method that only a partitioner has."""

    def build_execution_plan(self):
        """Never called."""


# ---- options

WRONG = [
    pytest.param({"output": ["a"]}, UnknownNameError, r"no option of execute named 'output'.*'outputs'", id="unknown"),
    pytest.param({"on_failure": "rise"}, UnknownNameError, r"no on_failure named 'rise'.*'raise'", id="on_failure"),
    pytest.param({"on_failure": []}, UnknownNameError, "no on_failure named", id="on_failure_unhashable"),
    pytest.param({"known": ["a"]}, TypeError, r"known is \['a'\]; give a mapping", id="known_list"),
    pytest.param({"known": {"z": 1}}, MissingDependencyError, "'z'", id="known_unknown"),
    pytest.param(
        {"outputs": "ab"}, TypeError, r"outputs is the string 'ab'; give a list of ids: \['ab'\]", id="string"
    ),
    pytest.param({"outputs": b"ab"}, TypeError, "outputs is the string", id="bytes"),
    pytest.param({"outputs": 5}, TypeError, "outputs is 5; give a list of ids", id="outputs_number"),
    pytest.param({"outputs": ["z"]}, MissingDependencyError, "'z'", id="outputs_unknown"),
    pytest.param({"execution_mode": "warp"}, UnknownNameError, "no executor named 'warp'", id="mode"),
    pytest.param({"execution_mode": ""}, UnknownNameError, "no executor named ''", id="mode_empty"),
    pytest.param({"execution_mode": 3}, UnknownNameError, "no executor named 3", id="mode_number"),
    pytest.param({"execution_mode": ["thread"]}, UnknownNameError, "no executor named", id="mode_list"),
    pytest.param({"strategy": "best"}, UnknownNameError, "no strategy named 'best'", id="strategy"),
    pytest.param({"strategy": 3}, UnknownNameError, "no strategy named 3", id="strategy_number"),
    pytest.param({"max_workers": 0}, ValueError, "max_workers is 0; give 1 or more", id="no_workers"),
    pytest.param({"max_workers": -2}, ValueError, "max_workers is -2", id="negative_workers"),
    pytest.param({"max_workers": 1.5}, TypeError, "max_workers is 1.5; give a whole number", id="half_a_worker"),
    pytest.param({"max_workers": True}, TypeError, "max_workers is True", id="true_workers"),
    pytest.param({"max_workers": "4"}, TypeError, "max_workers is '4'", id="text_workers"),
    pytest.param({"deadline": 0}, ValueError, "deadline is 0; give seconds above 0", id="no_deadline"),
    pytest.param({"deadline": -1.0}, ValueError, "deadline is -1.0", id="negative_deadline"),
    pytest.param({"deadline": math.nan}, ValueError, "deadline is nan", id="nan_deadline"),
    pytest.param({"deadline": "5"}, TypeError, "deadline is '5'; give seconds as a number", id="text_deadline"),
    pytest.param({"grace": 0}, ValueError, "grace is 0", id="no_grace"),
    pytest.param({"telemetry": "metrics"}, TypeError, "telemetry is the string 'metrics'", id="telemetry_string"),
    pytest.param({"telemetry": 5}, TypeError, "telemetry is 5; give a list of observers", id="telemetry_number"),
    pytest.param({"telemetry": ["metric"]}, UnknownNameError, "no telemetry named 'metric'", id="telemetry_unknown"),
    pytest.param({"cache": "disc"}, UnknownNameError, "no cache named 'disc'", id="cache_unknown"),
    pytest.param({"cache": 5}, TypeError, "cache is 5; give the name of a cache plugin", id="cache_number"),
    pytest.param({"custom_executor": 5}, TypeError, "custom_executor is 5", id="executor_number"),
    pytest.param(
        {"execution_mode": "custom"},
        TypeError,
        r"custom_executor is None, and execution_mode is 'custom'; give a concurrent.futures.Executor, or an object with run",
        id="custom_without_executor",
    ),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
def test_a_wrong_option_is_an_error_before_anything_runs(partitioner, options, error, words):
    """It names the option and what was given."""
    with pytest.raises(error, match=words):
        partitioner.execute({}, **options)
    assert ran == []
    assert partitioner.last_result is None


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(lambda partitioner, **options: partitioner.execute({}, **options), id="execute"),
        pytest.param(
            lambda partitioner, **options: asyncio.run(partitioner.execute_async({}, **options)), id="execute_async"
        ),
        pytest.param(lambda partitioner, **options: list(partitioner.stream({}, **options)), id="stream"),
    ],
)
def test_a_mode_that_uses_no_custom_executor_is_an_error_beside_one(partitioner, way):
    """Rather than ignoring one of them; which mode it is by default does not count."""
    executor = Counting(None)
    for mode in set(ExecutionMode) - {ExecutionMode.CUSTOM}:
        words = f"custom_executor is <.*Counting.*>, but execution_mode is '{mode.value}', which uses none; leave one"
        for named in (mode, mode.value):
            with pytest.raises(ValueError, match=words):
                way(partitioner, execution_mode=named, custom_executor=executor)
    assert ran == []
    way(partitioner, custom_executor=executor)
    way(partitioner, execution_mode="custom", custom_executor=executor)
    assert len(ran) == 4


def test_a_default_mode_that_needs_a_custom_executor_says_so():
    """Where a run is given none."""
    made = QuantumPartitioner(default_execution_mode=ExecutionMode.CUSTOM)
    with pytest.raises(TypeError, match="custom_executor is None, and execution_mode is 'custom'"):
        made.execute({})


def test_options_that_are_none_are_those_that_were_not_given(partitioner):
    """So that callers may pass on what they were given themselves."""
    nothing = dict.fromkeys((
        "outputs",
        "known",
        "deadline",
        "grace",
        "cache",
        "execution_mode",
        "max_workers",
        "custom_executor",
        "strategy",
    ))
    assert partitioner.execute({}, **nothing).ok
    assert len(ran) == 2


def test_options_may_come_as_any_iterable_or_mapping(partitioner):
    """Generators, sets, keys, read-only mappings."""
    assert partitioner.execute({}, outputs=(name for name in ["b"])) == {"b": None}
    assert partitioner.execute({}, outputs={"b"}, telemetry=iter([])) == {"b": None}
    assert partitioner.execute({}, outputs={"b": 1}.keys(), known=MappingProxyType({"a": 5})) == {"b": None}
    assert partitioner.execute({}, outputs=[]) == {}


def test_the_list_of_options_is_what_execute_takes():
    """Sorted, for the error message."""
    assert list(OPTIONS) == sorted(ExecuteOptions.__annotations__ | RunChoices.__annotations__)


@pytest.mark.parametrize("workers", [0, -1, True, 2.0, "2"], ids=repr)
def test_a_partitioner_refuses_a_wrong_number_of_workers_when_it_is_made(workers):
    """As a call does."""
    with pytest.raises((TypeError, ValueError), match="max_workers is"):
        QuantumPartitioner(workers)


def test_a_wrong_number_of_workers_that_was_assigned_is_an_error_before_anything_runs(partitioner):
    """Where a run does not name a number of its own."""
    partitioner.max_workers = -1
    with pytest.raises(ValueError, match="max_workers is -1; give 1 or more"):
        partitioner.execute({})
    assert ran == []
    assert partitioner.execute({}, max_workers=2).ok


def test_a_number_of_workers_is_passed_on():
    """None is what suits the machine."""
    assert (checked_workers(None), checked_workers(7)) == (None, 7)


# ---- the context

SLIPS = [
    pytest.param(None, "the context is None; pass {}", id="none"),
    pytest.param(ExecutionMode.THREAD, "the context is <ExecutionMode.THREAD", id="mode"),
    pytest.param(QuantumUnit("u", print), "the context is QuantumUnit", id="unit"),
    pytest.param(dict, "the context is <class 'dict'>", id="class"),
    pytest.param(print, "the context is <built-in function print>", id="function"),
    pytest.param(lambda: 1, "the context is <function", id="lambda"),
    pytest.param({}.get, "the context is <built-in method get", id="method"),
    pytest.param(QuantumPartitioner(), "the context is <qp_core.partitioner.QuantumPartitioner", id="partitioner"),
    pytest.param(QuantumPartitioner().build_execution_plan(), "the context is <ExecutionPlan", id="plan"),
    pytest.param(Face(), "the context is <", id="face"),
    pytest.param({"a": 1}, "the context's key 'a' is also the id of a unit; rename one", id="key_is_a_unit"),
    pytest.param(collections.ChainMap({}, {"b": 1}), "the context's key 'b'", id="key_below"),
]


@pytest.mark.parametrize(("context", "words"), SLIPS)
def test_a_context_that_is_surely_a_slip_is_an_error_before_anything_runs(partitioner, context, words):
    """A TypeError that says what to do."""
    with pytest.raises(ContextError, match=words) as caught:
        partitioner.execute(context)
    assert isinstance(caught.value, TypeError)
    assert ran == []


def test_a_context_that_was_not_awaited_is_an_error(partitioner):
    """A coroutine, and any future."""
    made = coroutine()
    with pytest.raises(ContextError, match="which has not been awaited; await it first"):
        partitioner.execute(made)
    made.close()

    async def main():
        with pytest.raises(ContextError, match="await it first"):
            partitioner.execute(asyncio.get_running_loop().create_future())

    asyncio.run(main())
    assert ran == []


CONTEXTS = [
    pytest.param({}, id="empty"),
    pytest.param({"k": 1, 7: "number", ("t",): 2}, id="odd_keys"),
    pytest.param(MappingProxyType({"k": 1}), id="read_only"),
    pytest.param(collections.OrderedDict(k=1), id="ordered"),
    pytest.param(collections.ChainMap({"k": 1}, {"l": 2}), id="chained"),
    pytest.param(collections.defaultdict(list, k=1), id="default"),
]


@pytest.mark.parametrize("context", CONTEXTS)
def test_any_mapping_is_a_context_and_is_left_as_it_was(partitioner, context):
    """Units see its keys, in a dict of their own."""
    before = dict(context)
    partitioner.units["a"].function = lambda ctx: ctx.__setitem__("own", 1)
    assert partitioner.execute(context).ok
    assert dict(context) == before
    ((seen),) = ran
    assert {key: seen[key] for key in before} == before


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(5, id="number"),
        pytest.param("text", id="text"),
        pytest.param([1, 2], id="list"),
        pytest.param(functools.partial(print), id="partial"),
        pytest.param(object(), id="object"),
    ],
)
def test_anything_else_is_passed_on_as_it_is(partitioner, context):
    """The very object, to every unit."""
    assert partitioner.execute(context).ok
    assert all(seen is context for seen in ran)
    assert len(ran) == 2


def test_the_key_of_a_unit_that_does_not_run_may_be_in_the_context(partitioner):
    """Only the part that the outputs need is looked at."""
    assert partitioner.execute({"b": 5}, outputs=["a"]) == {"a": None}
    assert ran[0]["b"] == 5


# ---- executors and strategies


class Counting:
    """An executor that answers how many workers it wants.

    Args:
        answer: What it answers; an exception is raised.
    """

    def __init__(self, answer):
        self._answer = answer
        self.asked = None

    def workers(self, asked, plan):
        """How many."""
        self.asked = (asked, plan.unit_count)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def run(self, run):
        """Run every unit here."""
        run.begin(None)
        run.work_here(run.new_worker())


@pytest.mark.parametrize("answer", [None, 1, 500], ids=repr)
def test_an_executor_may_say_how_many_workers_there_are(partitioner, answer):
    """It is told what was asked for, and the plan."""
    executor = Counting(answer)
    assert partitioner.execute({}, custom_executor=executor, max_workers=3).report.max_workers == answer
    assert executor.asked == (3, 2)
    partitioner.execute({}, custom_executor=executor)
    assert executor.asked == (None, 2)


@pytest.mark.parametrize("answer", [0, -1, "many", 2.5, True], ids=repr)
def test_an_executor_that_answers_nonsense_is_named(partitioner, answer):
    """Before anything runs."""
    with pytest.raises(
        PluginError, match=r"'Counting', Executor.workers: answered .*; it must answer a number above 0"
    ):
        partitioner.execute({}, custom_executor=Counting(answer))
    assert ran == []


def test_an_executor_that_raises_when_it_is_asked_for_workers_is_named(partitioner):
    """Before anything runs, with what it raised."""
    bug = ArithmeticError("a bug")
    with pytest.raises(PluginError, match=r"'Counting', Executor.workers: raised ArithmeticError: a bug") as caught:
        partitioner.execute({}, custom_executor=Counting(bug))
    assert caught.value.__cause__ is bug
    assert ran == []


class Leaves:
    """An executor that returns at once."""

    def run(self, run):
        """Do nothing."""
        run.begin(None)


class Fails:
    """An executor that has a bug."""

    def run(self, run):
        """Run one unit, and fail."""
        run.begin(None)
        worker = run.new_worker()
        number = run.take(worker)
        run.job_done(worker, number, run.job(worker, number)())
        msg = "a bug"
        raise ArithmeticError(msg)


def test_an_executor_that_returns_too_early_is_a_broken_plugin(partitioner):
    """Every unit has an end all the same."""
    with pytest.raises(PluginError, match="returned before the run was over"):
        partitioner.execute({}, custom_executor=Leaves())
    assert {record.state.value for record in partitioner.last_result.report.units.values()} == {"canceled"}


def test_what_an_executor_raises_comes_out_and_what_had_finished_is_kept(partitioner):
    """Its own error, not another one."""
    with pytest.raises(ArithmeticError, match="a bug"):
        partitioner.execute({}, custom_executor=Fails())
    assert partitioner.get_partial_results() == {"a": None}
    assert partitioner.units["b"].state.value == "canceled"


def test_an_executor_class_or_a_pool_class_is_a_slip(partitioner):
    """An object was meant."""
    for wrong in (Leaves, ThreadPoolExecutor):
        with pytest.raises(TypeError, match="custom_executor is"):
            partitioner.execute({}, custom_executor=wrong)
    assert ran == []


class Everything:
    """A strategy, a cache and an observer."""

    def order(self, plan):
        """None in particular."""

    def get(self, key):
        """Never called."""

    def put(self, key, value):
        """Never called."""

    def qp_run_started(self, event):
        """Never called."""


class Child(Everything):
    """Inherits the methods."""


@pytest.mark.parametrize("kind", [Everything, Child])
@pytest.mark.parametrize(
    ("options", "what"),
    [
        pytest.param(lambda given: {"strategy": given}, "strategy", id="strategy"),
        pytest.param(lambda given: {"cache": given}, "cache", id="cache"),
        pytest.param(lambda given: {"telemetry": [given]}, "an observer", id="observer"),
    ],
)
def test_the_class_of_a_strategy_cache_or_observer_is_a_slip(partitioner, kind, options, what):
    """It would break in the run, when its methods miss their instance."""
    words = rf"{what} is the class {kind.__name__}; give an instance: {kind.__name__}\(\)"
    with pytest.raises(TypeError, match=words):
        partitioner.execute({}, **options(kind))
    assert ran == []
    assert partitioner.execute({}, **options(kind())).ok


def test_a_class_whose_methods_need_no_instance_will_do(partitioner):
    """Static methods, and those of the class."""
    heard = []

    class Static:
        @staticmethod
        def order(plan):
            return None

        @classmethod
        def qp_run_finished(cls, event):
            heard.append((cls, len(event.report.units)))

    assert partitioner.execute({}, strategy=Static, telemetry=[Static]).ok
    assert heard == [(Static, 2)]


def test_a_strategy_may_be_an_object(partitioner):
    """With a method `order`; its class is its name in the report."""

    class Backwards:
        def order(self, plan):
            return [unit.id for unit in reversed(plan.nodes)]

    partitioner.add_unit(lambda ctx: ran.append("c"), name="c")
    result = partitioner.execute({}, strategy=Backwards())
    assert result.report.strategy == "Backwards"
    assert ran[0] == "c"

    class Wrong:
        def order(self, plan):
            return ["a"]

    with pytest.raises(PluginError, match=r"'Wrong', Strategy.order: must name each unit once"):
        partitioner.execute({}, strategy=Wrong())


# ---- making and concluding a run


def launcher(**changes):
    """A launcher as a partitioner makes it."""
    facts = {
        "plugins": Plugins.installed(),
        "mode": "sequential",
        "max_workers": None,
        "cache": None,
        "cache_named": lambda name: Plugins.installed().make("caches", name),
        "settings": Settings(grace_s=4),
        "clock": None,
        "seed": None,
    }
    return Launcher(**{**facts, **changes})


def test_a_launch_is_a_run_that_has_not_begun(partitioner):
    """With its options checked; the grace is the settings' unless one is given."""
    plan = partitioner.build_execution_plan()
    launch = launcher().launch(plan, {}, {}, [])
    assert isinstance(launch, Launch)
    assert launch.run.plan is plan
    assert launch.run.options == RunOptions(mode="sequential", max_workers=1, grace_s=4)
    assert not launch.raises
    options = {"outputs": ["a"], "known": {"b": 1}, "deadline": 7, "grace": 2, "fail_fast": True, "on_failure": "raise"}
    other = launcher().launch(plan, {}, options, [])
    assert other.raises
    assert other.run.options == RunOptions(
        mode="sequential", max_workers=1, deadline_s=7, grace_s=2, fail_fast=True, outputs=("a",)
    )
    assert [unit.id for unit in other.run.plan.nodes] == ["a"]
    assert ran == []


def test_a_launch_is_driven_once_and_concluded_once(partitioner):
    """Its result is handed over, not kept."""
    launch = launcher().launch(partitioner.build_execution_plan(), {}, {}, [])
    with pytest.raises(RuntimeError, match="is not over yet"):
        launch.conclude()
    result = launch.drive()
    assert result.ok
    assert launch.conclude() is result
    with pytest.raises(RuntimeError, match="was concluded before"):
        launch.conclude()


def test_a_partitioners_cache_is_used_unless_a_run_names_one(partitioner):
    """Named: asked for by name; given: as it is."""
    plan = partitioner.build_execution_plan()
    own, other = (Plugins.installed().make("caches", "memory") for _ in range(2))
    asked = []

    def named(name):
        asked.append(name)
        return other

    made = launcher(cache=own, cache_named=named)
    for unit in plan.nodes:
        unit.metadata["cacheable"] = True
        unit.function = len
    for options, expected in (({}, own), ({"cache": None}, own), ({"cache": "x"}, other), ({"cache": other}, other)):
        before = expected.stats()["misses"] + expected.stats()["hits"]
        made.launch(plan, {}, options, []).drive()
        assert expected.stats()["misses"] + expected.stats()["hits"] == before + 2
    assert asked == ["x"]
