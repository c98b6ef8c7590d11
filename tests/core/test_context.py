"""What a unit sees: the caller's mapping, the results of its declared dependencies, and nobody else's writes."""

import asyncio
import copy
import os
import pickle
import threading
from collections import ChainMap, OrderedDict, defaultdict
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from qp_core.context import ContextHome, ExecutionContext, current_context
from qp_core.errors import ContextError, UndeclaredDependencyError
from qp_core.partitioner import QuantumPartitioner
from qp_core.unit import RetryPolicy

LANES = ["sequential", "thread", "async"]


def home_of(given, values, **needs):
    """What the contexts of one run have in common, with these results."""
    partitioner = QuantumPartitioner()
    for name, dependencies in needs.items():
        partitioner.add_unit(str, dependencies, name)
    plan = partitioner.build_execution_plan()
    results = [values.get(name) for name in plan.units]
    return ContextHome(plan, dict(given), results, {"run_id": "r1", "execution_mode": "thread", "max_workers": 2})


def bound(home, unit_id, attempt=1):
    """A context as a run makes it."""
    return ExecutionContext.__new__(ExecutionContext).bound(home, home.plan.index[unit_id], attempt)


@pytest.fixture
def ctx():
    """Of a unit `b` in a -> b, c beside them; the caller gave `k`."""
    return bound(home_of({"k": [1]}, {"a": "of a", "c": "of c"}, a=[], b=["a"], c=[]), "b")


# ---- reading


def test_a_unit_sees_the_callers_keys_and_its_dependencies_results(ctx):
    """And nothing else."""
    assert ctx == {"k": [1], "a": "of a"}
    assert ctx["a"] == ctx.get("a") == ctx.get_dependency_result("a") == "of a"
    assert ctx.unit_results == {"a": "of a"}
    assert isinstance(ctx, dict)


@pytest.mark.parametrize(
    "read",
    [
        lambda ctx: ctx["c"],
        lambda ctx: ctx.get("c"),
        lambda ctx: ctx.get("c", "default"),
        lambda ctx: ctx.get_dependency_result("c"),
        lambda ctx: ctx.pop("c", "default"),
        lambda ctx: ctx.setdefault("c", "default"),
        "{c}".format_map,
    ],
    ids=["key", "get", "get with a default", "get_dependency_result", "pop", "setdefault", "format_map"],
)
def test_reading_an_undeclared_units_result_is_an_error_that_says_so(ctx, read):
    """Whichever way; a KeyError, so that `try ... except KeyError` goes on working."""
    with pytest.raises(KeyError) as raised:
        read(ctx)
    assert type(raised.value) is UndeclaredDependencyError
    assert str(raised.value) == (
        "unit 'b' reads the result of 'c' without depending on it; add 'c' to its dependencies"
    )
    assert "c" not in ctx


def test_its_own_result_is_undeclared_too(ctx):
    """It has none yet."""
    with pytest.raises(UndeclaredDependencyError, match="unit 'b' reads the result of 'b'"):
        ctx["b"]


@pytest.mark.parametrize(
    "read",
    [lambda ctx: ctx["nobody"], lambda ctx: ctx.get_dependency_result("nobody"), lambda ctx: ctx.pop("nobody")],
    ids=["key", "get_dependency_result", "pop"],
)
def test_what_is_nobodys_is_a_plain_key_error(ctx, read):
    """With the key as its argument, as in every dict."""
    with pytest.raises(KeyError) as raised:
        read(ctx)
    assert type(raised.value) is KeyError
    assert raised.value.args == ("nobody",)


def test_a_missing_key_says_what_the_unit_may_read(ctx):
    """In a note: the caller's keys, and the declared dependencies by name."""
    with pytest.raises(KeyError) as raised:
        ctx["nobody"]
    assert raised.value.__notes__ == [
        "unit 'b' reads the keys of the caller's context, and the results of its own dependencies: 'a'"
    ]


def test_defaults_are_for_keys_that_are_nobodys(ctx):
    """As in every dict; keys need not be strings."""
    assert ctx.get("nobody") is None
    assert ctx.get("nobody", 5) == 5
    assert ctx.get(("a", 1), 5) == 5
    assert ctx.pop("nobody", 5) == 5
    with pytest.raises(KeyError):
        ctx[7]
    with pytest.raises(KeyError):
        ctx.get_dependency_result("k")


def test_a_declared_result_that_is_none_is_a_result():
    """Not a missing one."""
    ctx = bound(home_of({}, {"a": None}, a=[], b=["a"]), "b")
    assert ctx.get_dependency_result("a") is None
    assert ctx.get("a", 5) is None
    assert ctx["a"] is None


def test_a_result_stays_whatever_is_written_over_its_key(ctx):
    """The key shows what was written, `get_dependency_result` what came from the unit."""
    ctx["a"] = "mine"
    assert ctx["a"] == "mine"
    assert ctx.get_dependency_result("a") == "of a"
    del ctx["a"]
    assert ctx.unit_results == {"a": "of a"}


def test_a_key_of_the_caller_that_is_the_id_of_a_unit_is_refused():
    """Before anything runs; which of the two a unit would see could only be guessed."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(str, name="a")
    with pytest.raises(ContextError, match="the context's key 'a' is also the id of a unit"):
        partitioner.execute({"a": 1})


# ---- what is known of the run


def test_a_context_knows_its_unit_and_its_run(ctx):
    """In `environment`, `unit_id` and `attempt`."""
    assert ctx.unit_id == "b"
    assert ctx.attempt == 1
    assert ctx.environment == {
        "run_id": "r1",
        "execution_mode": "thread",
        "max_workers": 2,
        "unit_id": "b",
        "attempt": 1,
    }
    assert bound(ctx._home, "b", attempt=3).attempt == 3
    assert bound(ctx._home, "b", attempt=3).environment["attempt"] == 3


def test_the_environment_is_each_contexts_own(ctx):
    """What one adds, no other sees."""
    ctx.environment["mine"] = 1
    assert "mine" not in bound(ctx._home, "c").environment
    assert "mine" not in ctx._home.environment
    assert ctx.environment["mine"] == 1


def test_a_context_made_by_hand():
    """As the seed's: a dict with results, metrics and an environment; for testing a unit's function."""
    ctx = ExecutionContext({"k": 1}, unit_results={"a": 2}, metrics={"m": 3}, environment={"e": 4})
    assert ctx == {"k": 1, "a": 2}
    assert (ctx.unit_results, ctx.metrics, ctx.environment) == ({"a": 2}, {"m": 3}, {"e": 4})
    assert ctx.get_dependency_result("a") == 2
    assert (ctx.unit_id, ctx.attempt) == (None, 1)
    with pytest.raises(KeyError) as raised:
        ctx.get_dependency_result("b")
    assert not hasattr(raised.value, "__notes__")
    assert ctx.get("b") is None
    assert ExecutionContext() == {}
    assert ExecutionContext([("k", 1)]) == {"k": 1}
    assert ExecutionContext().unit_results == ExecutionContext().metrics == ExecutionContext().environment == {}


def test_a_blank_context_is_empty():
    """Before it is bound to anything."""
    blank = ExecutionContext.__new__(ExecutionContext)
    blank._home, blank.notes = None, None
    assert (blank.unit_results, blank.environment, blank.metrics, blank.unit_id) == ({}, {}, {}, None)


def test_what_is_given_by_hand_is_not_shared():
    """The context has dicts of its own."""
    results, metrics, environment = {"a": 1}, {}, {}
    ctx = ExecutionContext({}, unit_results=results, metrics=metrics, environment=environment)
    ctx.unit_results["b"] = 2
    ctx.record_metric("m", 1)
    ctx.environment["e"] = 1
    assert (results, metrics, environment) == ({"a": 1}, {}, {})


# ---- writing


def test_metrics_are_recorded(ctx):
    """The last value of a name stays."""
    ctx.record_metric("rows", 5)
    ctx.record_metric("rows", 7)
    ctx.metrics["size"] = 1.5
    assert ctx.metrics == {"rows": 7, "size": 1.5}
    assert ctx.writes() == {}


def put_back(ctx, value, *done):
    """What was taken away stands there again."""
    ctx["k"] = value


WRITES = {
    "key": (lambda ctx: ctx.__setitem__("mine", 1), {"mine": 1}),
    "over the caller's": (lambda ctx: ctx.__setitem__("k", 1), {"k": 1}),
    "over a result": (lambda ctx: ctx.__setitem__("a", 1), {"a": 1}),
    "update": (lambda ctx: ctx.update({"mine": 1}, other=2), {"mine": 1, "other": 2}),
    "update with pairs": (lambda ctx: ctx.update([("mine", 1)]), {"mine": 1}),
    "or": (lambda ctx: ctx.__ior__({"mine": 1}), {"mine": 1}),
    "setdefault": (lambda ctx: ctx.setdefault("mine", 1), {"mine": 1}),
    "setdefault of what is there": (lambda ctx: ctx.setdefault("k", 1), {}),
    "the same again": (lambda ctx: ctx.__setitem__("k", ctx["k"]), {}),
    "an equal one": (lambda ctx: ctx.__setitem__("k", [1]), {"k": [1]}),
    "delete": (lambda ctx: ctx.__delitem__("k"), {}),
    "pop": (lambda ctx: ctx.pop("k"), {}),
    "popitem": (lambda ctx: ctx.popitem(), {}),
    "clear": (lambda ctx: ctx.clear(), {}),
    "write and take away": (lambda ctx: (ctx.update(mine=1), ctx.pop("mine")), {}),
    "delete and put back": (lambda ctx: put_back(ctx, ctx["k"], ctx.__delitem__("k")), {}),
    "pop and put back": (lambda ctx: put_back(ctx, ctx.pop("k")), {}),
    "clear and put back": (lambda ctx: put_back(ctx, ctx["k"], ctx.clear()), {}),
    "popitem and put back": (lambda ctx: put_back(ctx, ctx["k"], ctx.popitem(), ctx.popitem()), {}),
    "none": (lambda ctx: ctx.__setitem__("mine", None), {"mine": None}),
    "nothing": (lambda ctx: None, {}),
}


@pytest.mark.parametrize(("write", "written"), WRITES.values(), ids=WRITES.keys())
def test_what_was_written_is_known(ctx, write, written):
    """New and changed keys; what was taken away does not appear."""
    write(ctx)
    assert ctx.writes() == written


@pytest.mark.parametrize(("write", "written"), WRITES.values(), ids=WRITES.keys())
def test_what_was_written_in_another_process_is_known(ctx, write, written):
    """There the run is far away, and what was given is not told apart by the plan."""
    there = pickle.loads(pickle.dumps(ctx))
    write(there)
    assert there.writes() == written


@pytest.mark.parametrize(("write", "written"), WRITES.values(), ids=WRITES.keys())
def test_what_was_written_by_hand_is_known(write, written):
    """In a context that belongs to no run."""
    ctx = ExecutionContext({"k": [1]}, unit_results={"a": 5})
    write(ctx)
    assert ctx.writes() == written


def test_writing_behaves_as_in_every_dict(ctx):
    """Return values too."""
    assert ctx.setdefault("k", 5) == [1]
    assert ctx.setdefault("new") is None
    assert ctx.pop("new") is None
    assert ctx.pop("k") == [1]
    assert ctx.popitem() == ("a", "of a")
    same = ctx
    ctx |= {"x": 1}
    assert ctx is same
    assert ctx == {"x": 1}
    ctx.update(x=2)
    del ctx["x"]
    ctx.update({"y": 1})
    ctx.clear()
    assert ctx == {}
    with pytest.raises(KeyError):
        ctx.popitem()
    with pytest.raises(KeyError):
        del ctx["x"]


def test_an_own_key_may_be_called_like_a_unit_that_is_none_of_ours(ctx):
    """Once it is written it is the unit's own, and can be read."""
    ctx["c"] = "mine"
    assert ctx["c"] == ctx.get("c") == ctx.setdefault("c", 5) == ctx.pop("c") == "mine"
    with pytest.raises(UndeclaredDependencyError):
        ctx["c"]


# ---- in a run


@pytest.mark.parametrize("mode", LANES)
def test_a_write_never_reaches_a_sibling_or_a_dependent(mode):
    """What a writes, takes away and records, neither b, which depends on it, nor c beside them sees."""
    seen = {}

    def writer(ctx):
        ctx["mine"] = 1
        ctx["k"] = "changed"
        del ctx["other"]
        ctx.record_metric("rows", 5)
        ctx.environment["mine"] = 1
        ctx.unit_results["b"] = "forged"
        return "of a"

    def reader(ctx):
        seen[ctx.unit_id] = (dict(ctx), dict(ctx.unit_results), dict(ctx.metrics), "mine" in ctx.environment)

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(writer, name="a")
    partitioner.add_unit(reader, ["a"], "b")
    partitioner.add_unit(reader, name="c")
    given = {"k": "given", "other": 1}
    result = partitioner.execute(given, mode)
    assert result.ok
    assert seen["b"] == ({**given, "a": "of a"}, {"a": "of a"}, {}, False)
    assert seen["c"] == (given, {}, {}, False)
    assert given == {"k": "given", "other": 1}
    records = result.report.units
    assert records["a"].writes == ("k", "mine")
    assert records["a"].metrics == {"rows": 5}
    assert (records["b"].writes, records["b"].metrics) == ((), {})


@pytest.mark.parametrize("mode", LANES)
def test_an_undeclared_read_fails_the_unit_that_reads(mode):
    """With the error that says so as its own."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="a")
    partitioner.add_unit(lambda ctx: ctx.get("a", 0), name="b")
    result = partitioner.execute({}, mode)
    assert str(result.failed["b"]) == (
        "unit 'b' reads the result of 'a' without depending on it; add 'a' to its dependencies"
    )
    assert result["a"] == 1


@pytest.mark.slow
def test_in_processes_a_unit_sees_the_same():
    """Caller's keys, results, unit id; its writes and metrics come back, and nobody else's."""
    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(of_a, name="a")
    partitioner.add_unit(look, ["a"], "b")
    result = partitioner.execute({"k": [1]}, "process")
    result.raise_for_failures()
    assert result["b"] == ({"k": [1], "a": "of a"}, {"a": "of a"}, "b", 1, "process")
    assert result.report.units["b"].writes == ("mine",)
    assert result.report.units["b"].metrics == {"rows": 5}


def of_a(context):
    """A dependency."""
    return "of a"


def look(context):
    """What a unit sees in another process, before it writes."""
    seen = dict(context), context.unit_results, context.unit_id, context.attempt, context.environment["execution_mode"]
    context["mine"] = 1
    context.record_metric("rows", 5)
    return seen


@pytest.mark.parametrize("mode", LANES)
def test_each_attempt_has_a_context_of_its_own(mode):
    """What a failed attempt wrote is gone, and the number of the attempt is known."""
    seen = []

    def second_time_lucky(ctx):
        seen.append((ctx.attempt, ctx.environment["attempt"], dict(ctx), dict(ctx.metrics)))
        ctx[f"mine{ctx.attempt}"] = 1
        ctx.record_metric(f"m{ctx.attempt}", 1)
        if ctx.attempt == 1:
            raise ValueError(ctx.attempt)

    partitioner = QuantumPartitioner()
    partitioner.add_unit(second_time_lucky, name="a", retries=1, retry=RetryPolicy(base_s=0))
    result = partitioner.execute({"k": 1}, mode)
    assert seen == [(1, 1, {"k": 1}, {}), (2, 2, {"k": 1}, {})]
    assert result.report.units["a"].writes == ("mine2",)
    assert result.report.units["a"].metrics == {"m2": 1}


class OnlyAMapping(Mapping):
    """The least that is a mapping; counts how often it is read."""

    def __init__(self, **content):
        self.content = content
        self.reads = 0

    def __getitem__(self, key):
        self.reads += 1
        return self.content[key]

    def __iter__(self):
        return iter(self.content)

    def __len__(self):
        return len(self.content)


@pytest.mark.parametrize(
    "given",
    [
        {"k": 1},
        OrderedDict(k=1),
        defaultdict(list, k=1),
        MappingProxyType({"k": 1}),
        ChainMap({"k": 1}, {"k": 2}),
        OnlyAMapping(k=1),
        ExecutionContext({"k": 1}),
    ],
    ids=["dict", "OrderedDict", "defaultdict", "mappingproxy", "ChainMap", "Mapping", "ExecutionContext"],
)
@pytest.mark.parametrize("mode", LANES)
def test_any_mapping_is_a_context(mode, given):
    """Read once; every unit has its own copy, and the mapping is not changed."""

    def work(ctx):
        ctx["mine"] = ctx["k"] + 1
        return dict(ctx)

    partitioner = QuantumPartitioner()
    for name in "abc":
        partitioner.add_unit(work, name=name)
    assert partitioner.execute(given, mode) == {name: {"k": 1, "mine": 2} for name in "abc"}
    assert dict(given) == {"k": 1}


def test_a_mapping_is_read_once_a_run():
    """It may be slow, or change."""
    given = OnlyAMapping(k=1)
    partitioner = QuantumPartitioner()
    for _ in range(20):
        partitioner.add_unit(lambda ctx: ctx["k"])
    partitioner.execute(given, "sequential")
    assert given.reads == 1


def test_the_environment_of_the_process_is_a_mapping_too(monkeypatch):
    """`os.environ`, with its keys."""
    monkeypatch.setenv("QP_TEST_KEY", "value")
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: ctx["QP_TEST_KEY"], name="a")
    assert partitioner.execute(os.environ, "sequential") == {"a": "value"}


@pytest.mark.parametrize("mode", LANES)
@pytest.mark.parametrize("given", [5, "text", [1, 2], (), object()], ids=["number", "text", "list", "tuple", "object"])
def test_a_context_that_is_no_mapping_is_passed_on_as_it_is(mode, given):
    """With the results beside it, in the context that is running."""
    seen = []

    def look(argument):
        seen.append(argument)
        return dict(current_context().unit_results)

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda argument: "of a", name="a")
    partitioner.add_unit(look, ["a"], "b")
    assert partitioner.execute(given, mode)["b"] == {"a": "of a"}
    assert len(seen) == 1
    assert seen[0] is given


@pytest.mark.parametrize("mode", LANES)
def test_a_context_that_is_kept_after_the_run_has_what_it_had(mode):
    """The run lets go of its results; those of the dependencies are in the context itself, unless it took them away."""
    kept = {}

    def keep(ctx):
        if ctx.unit_id == "c":
            del ctx["b"]
        kept[ctx.unit_id] = ctx

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: "of a", name="a")
    partitioner.add_unit(lambda ctx: "of b", name="b")
    partitioner.add_unit(keep, ["a", "b"], "c")
    partitioner.add_unit(keep, ["a", "b"], "d")
    assert partitioner.execute({"k": 1}, mode).ok
    assert kept["c"].unit_results == {"a": "of a"}
    assert kept["d"].unit_results == {"a": "of a", "b": "of b"}
    assert kept["d"].get_dependency_result("a") == "of a"
    assert kept["d"] == {"k": 1, "a": "of a", "b": "of b"}
    with pytest.raises(UndeclaredDependencyError):
        kept["d"]["c"]


# ---- the context that is running


def test_no_unit_is_running_here():
    """Outside of a run, and in a thread that a unit has started itself."""
    with pytest.raises(LookupError, match="no unit is running here; current_context\\(\\) is for functions"):
        current_context()
    found = []

    def elsewhere():
        try:
            current_context()
        except LookupError as error:
            found.append(error)

    def work(ctx):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(60)

    partitioner = QuantumPartitioner()
    partitioner.add_unit(work)
    assert partitioner.execute({}, "thread").ok
    assert len(found) == 1


@pytest.mark.parametrize("mode", LANES)
def test_functions_that_a_unit_calls_find_its_context(mode):
    """The very object; each unit its own, also in coroutines that wait for each other, and after the run nobody does."""

    async def coroutine(ctx):
        await asyncio.sleep(0)
        return current_context() is ctx

    partitioner = QuantumPartitioner(max_workers=3)
    for name in "abc":
        partitioner.add_unit(lambda ctx: current_context() is ctx, name=name)
        partitioner.add_unit(coroutine, name=f"{name} waits")
    assert set(partitioner.execute({}, mode).values()) == {True}
    with pytest.raises(LookupError):
        current_context()


# ---- trips


@pytest.mark.parametrize(
    "trip",
    [lambda ctx: pickle.loads(pickle.dumps(ctx)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_a_context_travels_without_its_run(ctx, trip):
    """Keys, declared results, metrics and what is known of the run; not the plan, whose functions may not pickle."""
    ctx = bound(ctx._home, "b", attempt=2)
    ctx._home.plan.nodes[0].function = lambda: "cannot be pickled"
    ctx.record_metric("rows", 5)
    there = trip(ctx)
    assert type(there) is ExecutionContext
    assert there is not ctx
    assert there == ctx
    assert there.unit_results == {"a": "of a"}
    assert there.metrics == {"rows": 5}
    assert there.environment == ctx.environment
    assert (there.unit_id, there.attempt) == ("b", 2)
    assert there.get_dependency_result("a") == "of a"
    there["mine"] = 1
    there.record_metric("rows", 6)
    assert "mine" not in ctx
    assert ctx.metrics == {"rows": 5}


def test_a_context_in_another_process_names_what_it_may_read(ctx):
    """It cannot know the ids of all units, and says what it does know."""
    there = pickle.loads(pickle.dumps(ctx))
    with pytest.raises(KeyError) as raised:
        there["c"]
    assert raised.value.__notes__ == [
        "unit 'b' reads the keys of the caller's context, and the results of its own dependencies: 'a'"
    ]
