"""The hooks as their specifications say: which arguments, how often, in which order, in which thread."""

import importlib.metadata
import inspect
import os
import sys
import threading
import types

import pluggy
import pytest

from qp_core import (
    CachingQuantumPartitioner,
    ExecutionContext,
    ExecutionPlan,
    Plugins,
    QuantumUnit,
    RetryPolicy,
    Settings,
    hookimpl,
    hookspec,
    hookspecs,
)
from qp_core.testing import FakeClock

HOOKS = [name for name in vars(hookspecs) if name.startswith("qp_")]
PROVIDE = [name for name in HOOKS if not inspect.signature(getattr(hookspecs, name)).parameters]
OBSERVE = [name for name in HOOKS if [*inspect.signature(getattr(hookspecs, name)).parameters] == ["event"]]
DECIDE = [name for name in HOOKS if name not in PROVIDE + OBSERVE]

ARGUMENTS = [
    pytest.param(hook, argument, id=f"{hook}-{argument or 'none'}")
    for hook in DECIDE + OBSERVE
    for argument in ("", *inspect.signature(getattr(hookspecs, hook)).parameters)
]

KINDS = {
    "plan": ExecutionPlan,
    "unit": QuantumUnit,
    "error": BaseException,
    "attempt": int,
    "context": ExecutionContext,
    "event": object,
}


def installed_with(monkeypatch, **functions):
    """The installed plugins, and one more module with these hooks; it is loaded with whichever seam comes first."""
    module = types.ModuleType("qp_all_hooks")
    for name, function in functions.items():
        setattr(module, name, hookimpl(function))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    group = hookspecs.PROJECT
    mine = importlib.metadata.EntryPoint("all", module.__name__, group)
    return Plugins(Settings(), [*importlib.metadata.entry_points(group=group), mine])


def with_arguments(name, arguments, body):
    """A function of that name and arguments that passes them on as a dict."""
    space = {"body": body}
    exec(f"def {name}({', '.join(arguments)}): return body({name!r}, locals())", space)  # noqa: S102 - arguments by name are what pluggy looks at
    return space[name]


def eventful(plugins, mode="sequential"):
    """A -> b -> c: b is retried, c fails and would want a stand-in, a is cacheable."""
    partitioner = CachingQuantumPartitioner(2, mode, plugins=plugins, clock=FakeClock())

    def second_time(ctx):
        if ctx.attempt == 1:
            raise OSError

    partitioner.add_unit(lambda _: 1, name="a", metadata={"cacheable": True})
    partitioner.add_unit(second_time, ["a"], "b", retries=1, retry=RetryPolicy(base_s=1))
    partitioner.add_unit(lambda _: 1 / 0, ["b"], "c")
    return partitioner


def test_the_kinds_of_hooks_are_all_there():
    """What the other tests here are about."""
    assert (len(PROVIDE), len(DECIDE), len(OBSERVE)) == (5, 3, 5)


def test_hooks_stand_in_the_order_in_which_a_run_reaches_them(monkeypatch):
    """A unit that is looked up, tried twice and given up meets all of them, and so; what is provided stands before."""
    reached = []
    hooks = {
        hook: with_arguments(hook, (), lambda name, _: reached.append(name)) for hook in HOOKS if hook not in PROVIDE
    }
    partitioner = CachingQuantumPartitioner(plugins=installed_with(monkeypatch, **hooks), clock=FakeClock())
    partitioner.add_unit(lambda _: 1 / 0, metadata={"cacheable": True}, retries=1)
    partitioner.execute({})
    assert list(dict.fromkeys(reached)) == [hook for hook in HOOKS if hook not in PROVIDE]
    assert HOOKS[: len(PROVIDE)] == PROVIDE


@pytest.mark.parametrize(("hook", "argument"), ARGUMENTS)
def test_a_plugin_takes_any_subset_of_the_arguments(monkeypatch, hook, argument):
    """None, or any single one, by name; it is of the kind that the specification says."""
    told = []
    function = with_arguments(hook, (argument,) if argument else (), lambda _, given: told.append(given))
    result = eventful(installed_with(monkeypatch, **{hook: function})).execute({"n": 1})
    assert result == {"a": 1, "b": None}
    assert told
    for given in told:
        assert list(given) == ([argument] if argument else [])
        if argument and (hook, argument) != ("qp_cache_key", "context"):
            assert isinstance(given[argument], KINDS[argument])
        if (hook, argument) == ("qp_cache_key", "context"):
            assert given["context"]["n"] == 1


@pytest.mark.parametrize("hook", [pytest.param(hook, id=hook) for hook in DECIDE])
def test_a_plugin_takes_all_of_the_arguments(monkeypatch, hook):
    """Each where it belongs, whatever their order."""
    arguments = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    told = []
    function = with_arguments(hook, reversed(arguments), lambda _, given: told.append(given))
    partitioner = eventful(installed_with(monkeypatch, **{hook: function}))
    partitioner.execute({"n": 1})
    assert told
    assert all(set(given) == set(arguments) for given in told)
    if "unit" in arguments:
        assert all(given["unit"] is partitioner.units[given["unit"].id] for given in told)


@pytest.mark.parametrize(
    ("hook", "times"),
    [
        pytest.param("qp_choose_strategy", 1, id="choose_strategy"),
        pytest.param("qp_run_started", 1, id="run_started"),
        pytest.param("qp_cache_key", 1, id="cache_key"),
        pytest.param("qp_unit_started", 4, id="unit_started"),
        pytest.param("qp_unit_retrying", 1, id="unit_retrying"),
        pytest.param("qp_fallback", 1, id="fallback"),
        pytest.param("qp_unit_finished", 3, id="unit_finished"),
        pytest.param("qp_run_finished", 1, id="run_finished"),
    ],
)
@pytest.mark.parametrize("mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)])
def test_a_hook_is_called_as_often_as_it_says_and_in_the_coordinating_process(monkeypatch, mode, hook, times):
    """Once a run, a unit, an attempt, or a failure."""
    places = []
    function = with_arguments(hook, (), lambda *_: places.append(os.getpid()))
    eventful(installed_with(monkeypatch, **{hook: function}), mode).execute({})
    assert places == [os.getpid()] * times


def test_the_attempt_that_a_fallback_plugin_is_told_is_the_last(monkeypatch):
    """After every other was made."""
    told = []

    def qp_fallback(unit, attempt):
        told.append((unit.id, attempt))

    partitioner = eventful(installed_with(monkeypatch, qp_fallback=qp_fallback))
    partitioner.add_unit(lambda _: 1 / 0, name="d", retries=2)
    partitioner.execute({})
    assert sorted(told) == [("c", 1), ("d", 3)]


def test_a_strategy_is_chosen_in_the_thread_that_called(monkeypatch):
    """And only where the caller named none."""
    told = []

    def qp_choose_strategy(plan):
        told.append((threading.current_thread(), plan.unit_count))

    partitioner = eventful(installed_with(monkeypatch, qp_choose_strategy=qp_choose_strategy), "thread")
    partitioner.execute({}, strategy="fifo")
    assert told == []
    partitioner.execute({}, outputs=["b"])
    assert told == [(threading.current_thread(), 2)]


def test_what_is_provided_is_asked_for_once(monkeypatch):
    """However many runs there are."""
    asked = []

    def answer(name, _):
        asked.append(name)
        return {}

    plugins = installed_with(monkeypatch, **{hook: with_arguments(hook, (), answer) for hook in PROVIDE})
    for _ in range(3):
        eventful(plugins).execute({}, telemetry=["metrics"])
        plugins.provided("commands")
    assert sorted(asked) == sorted(PROVIDE)


def test_the_markers_are_those_of_the_project():
    """A plugin that was marked for another pluggy project is not ours."""
    assert hookimpl.project_name == hookspec.project_name == hookspecs.PROJECT == "quantum_partitioner"

    def qp_unit_finished(event):
        raise AssertionError(event)

    strange = types.SimpleNamespace(qp_unit_finished=pluggy.HookimplMarker("other")(qp_unit_finished))
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(strange)
    assert manager.hook.qp_unit_finished.get_hookimpls() == []


@pytest.mark.parametrize("hook", [pytest.param(hook, id=hook) for hook in HOOKS])
def test_a_specification_does_nothing_itself(hook):
    """It is a signature and a text."""
    function = getattr(hookspecs, hook)
    assert function(**dict.fromkeys(inspect.signature(function).parameters)) is None
