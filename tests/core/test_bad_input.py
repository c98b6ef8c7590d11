"""Bad input: a clear error that names the culprit, before anything runs, and nothing is lost by it.

Every way in is tried: adding, planning, and each of the methods that execute.
"""

import asyncio
import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from qp_core.errors import (
    CircularDependencyError,
    ContextError,
    DuplicateUnitError,
    GraphError,
    MissingDependencyError,
    UnknownNameError,
    name_list,
)
from qp_core.partitioner import CachingQuantumPartitioner, QuantumPartitioner
from qp_core.plugins import Plugins
from qp_core.unit import QuantumUnit
from qp_core.vocabulary import ExecutionMode, UnitState


class Watched:
    """A partitioner of units a -> b that note that they ran."""

    def __init__(self):
        self.ran = []
        self.partitioner = QuantumPartitioner(max_workers=2)
        self.add("a")
        self.add("b", ["a"])

    def add(self, name, needs=(), **options):
        """Add a unit that notes that it ran."""

        def work(context):
            self.ran.append(name)
            return name

        return self.partitioner.add_unit(work, needs, name, **options)

    def still_works(self):
        """Nothing has run, nothing is lost: the same partitioner runs a and b now."""
        assert self.ran == []
        assert list(self.partitioner.units) == ["a", "b"]
        assert self.partitioner.last_result is None
        assert self.partitioner.execute({}, "sequential") == {"a": "a", "b": "b"}
        assert self.ran == ["a", "b"]


@pytest.fixture
def watched():
    """Fresh."""
    return Watched()


def collected(partitioner, *arguments, **options):
    """All that a stream yields."""
    return list(partitioner.stream(*arguments, **options))


def collected_async(partitioner, *arguments, **options):
    """All that an async stream yields."""

    async def collect():
        return [end async for end in partitioner.astream(*arguments, **options)]

    return asyncio.run(collect())


def executed_async(partitioner, *arguments, **options):
    """What awaiting an execution gives."""

    async def execute():
        return await partitioner.execute_async(*arguments, **options)

    return asyncio.run(execute())


WAYS = {
    "execute": QuantumPartitioner.execute,
    "execute_async": executed_async,
    "stream": collected,
    "astream": collected_async,
    "with_strategy": lambda partitioner, context, **options: partitioner.execute_with_strategy(
        context, options.pop("strategy", "fifo"), **options
    ),
    "with_monitoring": QuantumPartitioner.execute_with_monitoring,
    "with_recovery": QuantumPartitioner.execute_with_recovery,
}

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


# ---- graphs


def make_ring(watched):
    """In a -> b -> c -> a, with the edge that closes it made by hand."""
    watched.add("c", ["b"])
    watched.partitioner.units["a"].dependencies.append("c")


def make_self(watched):
    """A unit that needs itself."""
    watched.add("c", ["c"])


def make_missing(watched):
    """A unit that needs what is not there."""
    watched.add("c", ["aa"])


def make_number(watched):
    """A unit that needs what is no id."""
    watched.add("c", ["a", 5])


def make_foreign(watched):
    """A unit under another's id."""
    watched.partitioner.units["c"] = QuantumUnit("z", str)


GRAPHS = {
    "ring": (
        make_ring,
        CircularDependencyError,
        "circular dependency of 3 units: 'a' -> 'c' -> 'b' -> 'a' (each needs the next); cut one of them",
    ),
    "itself": (make_self, CircularDependencyError, "unit 'c' depends on itself; take the dependency away"),
    "missing": (
        make_missing,
        MissingDependencyError,
        "unit 'c' needs 'aa', which is not in the graph; did you mean 'a'?",
    ),
    "no string": (
        make_number,
        MissingDependencyError,
        "unit 'c' needs 5, which is no unit id; dependencies are ids (strings)",
    ),
    "foreign id": (make_foreign, GraphError, "unit 'z' stands under the id 'c'; use its own id as the key"),
}


@every_way
@pytest.mark.parametrize(("spoil", "kind", "text"), GRAPHS.values(), ids=GRAPHS.keys())
def test_a_graph_that_cannot_run_does_not_begin(watched, way, spoil, kind, text):
    """Whichever way it is executed; mended, the same partitioner runs."""
    spoil(watched)
    with pytest.raises(kind) as raised:
        way(watched.partitioner, {})
    assert type(raised.value) is kind
    assert isinstance(raised.value, ValueError)
    assert str(raised.value) == text
    del watched.partitioner.units["c"]
    watched.partitioner.units["a"].dependencies.clear()
    watched.still_works()


@pytest.mark.parametrize(("spoil", "kind", "text"), GRAPHS.values(), ids=GRAPHS.keys())
def test_a_graph_that_cannot_run_has_no_plan(watched, spoil, kind, text):
    """The plan that was made before is gone too: it is not run instead."""
    watched.partitioner.build_execution_plan()
    spoil(watched)
    for _ in range(2):
        with pytest.raises(kind, match=re.escape(text)):
            watched.partitioner.build_execution_plan()
    with pytest.raises(kind):
        watched.partitioner.execute({})
    assert watched.ran == []


# ---- units


ADDING = {
    "duplicate": (
        {"name": "a"},
        DuplicateUnitError,
        "unit 'a' is already there; give this one another name",
    ),
    "empty id": ({"name": ""}, ValueError, "a unit's id is the empty string; ids are non-empty strings"),
    "number as id": ({"name": 5}, TypeError, "a unit's id is 5; ids are non-empty strings"),
    "zero as id": ({"name": 0}, TypeError, "a unit's id is 0; ids are non-empty strings"),
    "false as id": ({"name": False}, TypeError, "a unit's id is False; ids are non-empty strings"),
    "bytes as id": ({"name": b"c"}, TypeError, "a unit's id is b'c'; ids are non-empty strings"),
    "tuple as id": ({"name": ("c",)}, TypeError, "a unit's id is ('c',); ids are non-empty strings"),
    "one string": (
        {"dependencies": "ab"},
        TypeError,
        "unit 'c': dependencies is the string 'ab'; give a list of ids: ['ab']",
    ),
    "one string that is an id": (
        {"dependencies": "a"},
        TypeError,
        "unit 'c': dependencies is the string 'a'; give a list of ids: ['a']",
    ),
    "empty string": (
        {"dependencies": ""},
        TypeError,
        "unit 'c': dependencies is the string ''; give a list of ids: ['']",
    ),
    "number": ({"dependencies": 5}, TypeError, "unit 'c': dependencies is 5; give a list of ids"),
    "none to call": ({"fn": None}, TypeError, "unit 'c': function is None, which cannot be called"),
    "string to call": ({"fn": "work"}, TypeError, "unit 'c': function is 'work', which cannot be called"),
    "result instead of a function": ({"fn": [1]}, TypeError, "unit 'c': function is [1], which cannot be called"),
    "zero timeout": (
        {"timeout": 0},
        ValueError,
        "unit 'c': timeout is 0; give seconds above 0, or None for no limit",
    ),
    "negative timeout": (
        {"timeout": -0.5},
        ValueError,
        "unit 'c': timeout is -0.5; give seconds above 0, or None for no limit",
    ),
    "NaN timeout": (
        {"timeout": math.nan},
        ValueError,
        "unit 'c': timeout is nan; give seconds above 0, or None for no limit",
    ),
    "timeout as a string": (
        {"timeout": "5"},
        TypeError,
        "unit 'c': timeout is '5'; give seconds as a number, or None for no limit",
    ),
    "timeout true": (
        {"timeout": True},
        TypeError,
        "unit 'c': timeout is True; give seconds as a number, or None for no limit",
    ),
    "negative retries": ({"retries": -1}, ValueError, "unit 'c': retries is -1; give 0 or more"),
    "retries as a float": ({"retries": 1.0}, TypeError, "unit 'c': retries is 1.0; give a whole number"),
    "retries none": ({"retries": None}, TypeError, "unit 'c': retries is None; give a whole number"),
    "retries true": ({"retries": True}, TypeError, "unit 'c': retries is True; give a whole number"),
    "priority as a string": ({"priority": "high"}, TypeError, "unit 'c': priority is 'high'; give a number"),
    "priority true": ({"priority": True}, TypeError, "unit 'c': priority is True; give a number"),
    "metadata as a list": ({"metadata": ["io"]}, TypeError, "unit 'c': metadata is ['io']; give a dict"),
    "retry as a number": (
        {"retry": 3},
        TypeError,
        "unit 'c': retry is 3; give a RetryPolicy (and how often in retries)",
    ),
}


@pytest.mark.parametrize(("options", "kind", "text"), ADDING.values(), ids=ADDING.keys())
def test_a_unit_that_makes_no_sense_is_not_added(watched, options, kind, text):
    """The partitioner is as it was."""
    with pytest.raises(kind) as raised:
        watched.partitioner.add_unit(**{"fn": str, "name": "c", **options})
    assert type(raised.value) is kind
    assert str(raised.value) == text
    watched.still_works()


def test_the_first_of_two_units_of_one_id_stays(watched):
    """The second does not replace it."""
    with pytest.raises(DuplicateUnitError) as raised:
        watched.partitioner.add_unit(lambda ctx: "second", name="a")
    assert raised.value.unit_id == "a"
    watched.still_works()


def test_an_error_while_dependencies_are_listed_is_the_callers(watched):
    """It comes out as it is, and the partitioner is not locked for ever."""

    def names():
        yield "a"
        raise OSError("no more names")

    with pytest.raises(OSError, match="no more names"):
        watched.partitioner.add_unit(str, names(), "c")
    watched.still_works()


def test_a_failed_addition_takes_no_number(watched):
    """Automatic ids go on where they were."""
    with pytest.raises(TypeError):
        watched.partitioner.add_unit(None)
    assert watched.partitioner.add_unit(str).id == "unit_2"


@pytest.mark.parametrize(
    ("workers", "kind", "text"),
    [
        (0, ValueError, "max_workers is 0; give 1 or more, or None for what suits the machine"),
        (-1, ValueError, "max_workers is -1; give 1 or more, or None for what suits the machine"),
        (1.5, TypeError, "max_workers is 1.5; give a whole number, or None for what suits the machine"),
        (math.nan, TypeError, "max_workers is nan; give a whole number, or None for what suits the machine"),
        ("2", TypeError, "max_workers is '2'; give a whole number, or None for what suits the machine"),
        (True, TypeError, "max_workers is True; give a whole number, or None for what suits the machine"),
    ],
    ids=repr,
)
def test_a_number_of_workers_that_is_none(watched, workers, kind, text):
    """When the partitioner is made, and for each way to execute."""
    for make in (QuantumPartitioner, CachingQuantumPartitioner):
        with pytest.raises(kind) as raised:
            make(max_workers=workers)
        assert str(raised.value) == text
    for way in WAYS.values():
        with pytest.raises(kind) as raised:
            way(watched.partitioner, {}, max_workers=workers)
        assert str(raised.value) == text
    watched.still_works()


# ---- names


THERE = {
    seam: name_list(Plugins.installed().provided(seam)) for seam in ("executors", "strategies", "caches", "observers")
}
"""As a message lists it; other distributions may have brought more."""


@every_way
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"execution_mode": "thraed"},
            f"there is no executor named 'thraed'; there are: {THERE['executors']}; did you mean 'thread'?",
        ),
        (
            {"execution_mode": "THREAD"},
            f"there is no executor named 'THREAD'; there are: {THERE['executors']}; did you mean 'thread'?",
        ),
        ({"execution_mode": ""}, f"there is no executor named ''; there are: {THERE['executors']}"),
        ({"execution_mode": 5}, f"there is no executor named 5; there are: {THERE['executors']}"),
        (
            {"execution_mode": UnitState.PENDING},
            f"there is no executor named <UnitState.PENDING: 'pending'>; there are: {THERE['executors']}",
        ),
        (
            {"strategy": "prio"},
            f"there is no strategy named 'prio'; there are: {THERE['strategies']}; did you mean 'priority'?",
        ),
        ({"strategy": ""}, f"there is no strategy named ''; there are: {THERE['strategies']}"),
        ({"strategy": ["fifo"]}, f"there is no strategy named ['fifo']; there are: {THERE['strategies']}"),
        (
            {"cache": "memroy"},
            f"there is no cache named 'memroy'; there are: {THERE['caches']}; did you mean 'memory'?",
        ),
        (
            {"telemetry": ["metrics", "metricz"]},
            f"there is no telemetry named 'metricz'; there are: {THERE['observers']}; did you mean 'metrics'?",
        ),
        (
            {"on_failure": "rais"},
            "there is no on_failure named 'rais'; there are: 'raise', 'return'; did you mean 'raise'?",
        ),
        ({"on_failure": ["raise"]}, "there is no on_failure named ['raise']; there are: 'raise', 'return'"),
    ],
    ids=[
        "mode",
        "mode in capitals",
        "empty mode",
        "number as mode",
        "another enum",
        "strategy",
        "empty strategy",
        "list of strategies",
        "cache",
        "observer",
        "on_failure",
        "list of on_failure",
    ],
)
def test_a_name_that_is_not_there_lists_what_there_is(watched, way, options, text):
    """And the nearest."""
    with pytest.raises(UnknownNameError) as raised:
        way(watched.partitioner, {}, **options)
    assert str(raised.value) == text
    assert isinstance(raised.value, ValueError)
    watched.still_works()


@pytest.mark.parametrize("mode", ["thraed", "", 5], ids=repr)
def test_a_default_mode_that_is_not_there_is_named_when_it_is_used(mode):
    """Plugins are not looked for before that; another mode can be chosen all the same."""
    partitioner = QuantumPartitioner(default_execution_mode=mode)
    partitioner.add_unit(lambda ctx: 1, name="a")
    with pytest.raises(UnknownNameError, match=f"there is no executor named {mode!r}; there are: {THERE['executors']}"):
        partitioner.execute({})
    assert partitioner.execute({}, "sequential") == {"a": 1}


def test_a_misspelt_option_names_the_nearest(watched):
    """Not silently ignored."""
    with pytest.raises(
        UnknownNameError, match=r"there is no option of execute named 'max_worker'.* did you mean 'max_workers'"
    ):
        watched.partitioner.execute_with_recovery({}, max_worker=2)
    with pytest.raises(TypeError):
        watched.partitioner.execute()
    with pytest.raises(
        UnknownNameError, match=r"there is no option of execute named 'mode'.* did you mean 'execution_mode'"
    ):
        watched.partitioner.execute({}, mode="thread")
    watched.still_works()


@pytest.mark.parametrize("executor", [None, 5, "thread", object()], ids=["none", "number", "name of another", "object"])
def test_a_custom_executor_that_is_none(watched, executor):
    """It says what would be one."""
    with pytest.raises(
        TypeError, match=r"custom_executor is .*; give a concurrent.futures.Executor, or an object with run"
    ):
        watched.partitioner.execute({}, ExecutionMode.CUSTOM, custom_executor=executor)
    watched.still_works()


def test_the_class_of_an_executor_is_none(watched):
    """An instance was meant."""
    with pytest.raises(TypeError, match="custom_executor is the class ThreadPoolExecutor; give an instance"):
        watched.partitioner.execute({}, custom_executor=ThreadPoolExecutor)
    watched.still_works()


# ---- other options


@every_way
@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"outputs": "ab"}, TypeError, "outputs is the string 'ab'; give a list of ids: ['ab']"),
        ({"outputs": 5}, TypeError, "outputs is 5; give a list of ids"),
        (
            {"outputs": ["a", "bb"]},
            MissingDependencyError,
            "outputs names 'bb', which is not in the graph; did you mean 'b'?",
        ),
        (
            {"outputs": [["a"]]},
            MissingDependencyError,
            "outputs names ['a'], which is no unit id; outputs are ids (strings)",
        ),
        ({"known": "ab"}, TypeError, "known is 'ab'; give a mapping of unit ids to results"),
        ({"known": ["a"]}, TypeError, "known is ['a']; give a mapping of unit ids to results"),
        (
            {"known": {"bb": 1}},
            MissingDependencyError,
            "known names 'bb', which is not in the graph; did you mean 'b'?",
        ),
        ({"known": {5: 1}}, MissingDependencyError, "known names 5, which is no unit id; known are ids (strings)"),
        ({"deadline": 0}, ValueError, "deadline is 0; give seconds above 0, or None for no limit"),
        ({"deadline": -1}, ValueError, "deadline is -1; give seconds above 0, or None for no limit"),
        ({"deadline": math.nan}, ValueError, "deadline is nan; give seconds above 0, or None for no limit"),
        ({"deadline": "1"}, TypeError, "deadline is '1'; give seconds as a number, or None for no limit"),
        ({"grace": 0}, ValueError, "grace is 0; give seconds above 0, or None for no limit"),
        (
            {"cache": 5},
            TypeError,
            "cache is 5; give the name of a cache plugin, or an object with get(key) and put(key, value)",
        ),
    ],
    ids=[
        "one string of outputs",
        "number of outputs",
        "unknown output",
        "list as output",
        "one string of known",
        "list of known",
        "unknown known",
        "number known",
        "zero deadline",
        "negative deadline",
        "NaN deadline",
        "string as deadline",
        "zero grace",
        "number as cache",
    ],
)
def test_an_option_that_makes_no_sense_is_named(watched, way, options, kind, text):
    """With what would be right."""
    with pytest.raises(kind) as raised:
        way(watched.partitioner, {}, **options)
    assert str(raised.value) == text
    watched.still_works()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("metrics", "telemetry is the string 'metrics'; give a list of observers: ['metrics']"),
        (5, "telemetry is 5; give a list of observers"),
        (None, "telemetry is None; give a list of observers"),
    ],
    ids=repr,
)
def test_observers_are_a_list(watched, given, text):
    """The letters of one name are meant by nobody."""
    with pytest.raises(TypeError) as raised:
        watched.partitioner.execute({}, telemetry=given)
    assert str(raised.value) == text
    watched.still_works()


@every_way
@pytest.mark.parametrize("name", ["on_unit_start", "on_unit_complete", "on_unit_error"])
@pytest.mark.parametrize("given", [3, "", [], False], ids=repr)
def test_a_callback_that_cannot_be_called(watched, way, name, given):
    """It is told before anything runs, also where it counts as nothing."""
    setattr(watched.partitioner, name, given)
    with pytest.raises(TypeError) as raised:
        way(watched.partitioner, {})
    assert str(raised.value) == f"{name} is {given!r}, which cannot be called; give a function, or None"
    setattr(watched.partitioner, name, None)
    watched.still_works()


def test_a_callback_that_nobody_would_await(watched):
    """Callbacks are called, not awaited."""

    async def tell(unit_id):
        """Never called."""

    watched.partitioner.on_unit_start = tell
    with pytest.raises(TypeError, match=r"on_unit_start is .*tell.*, a coroutine function, which nobody would await"):
        watched.partitioner.execute({})
    watched.partitioner.on_unit_start = None
    watched.still_works()


# ---- contexts


async def context_to_come():
    """A context that has not been awaited."""


CONTEXTS = {
    "none": (None, "the context is None; pass {} for an empty one"),
    "mode": (
        ExecutionMode.THREAD,
        "the context is <ExecutionMode.THREAD: 'thread'>; pass what the units should see first, such as a dict",
    ),
    "class": (dict, "the context is <class 'dict'>; pass what the units should see first, such as a dict"),
    "builtin": (len, "the context is <built-in function len>; pass what the units should see first, such as a dict"),
    "unit": (
        QuantumUnit("z", str),
        "the context is QuantumUnit(id='z', dependencies=[], state='pending'); pass what the units should see first, such as a dict",
    ),
    "plan": (
        QuantumPartitioner().build_execution_plan(),
        "the context is <ExecutionPlan of 0 units, 0 levels>; pass what the units should see first, such as a dict",
    ),
    "key that is a unit": (
        {"b": 1},
        "the context's key 'b' is also the id of a unit; rename one of them; to give a unit's result beforehand, pass known={...}",
    ),
}


@every_way
@pytest.mark.parametrize(("context", "text"), CONTEXTS.values(), ids=CONTEXTS.keys())
def test_a_context_of_the_wrong_kind(watched, way, context, text):
    """Surely a slip; it would be a puzzle inside of every unit."""
    with pytest.raises(ContextError) as raised:
        way(watched.partitioner, context)
    assert str(raised.value) == text
    assert isinstance(raised.value, TypeError)
    watched.still_works()


def test_a_context_that_is_a_partitioner_or_a_function(watched):
    """Their reprs hold addresses."""
    for context in (QuantumPartitioner(), CachingQuantumPartitioner(), watched.still_works, lambda: None):
        with pytest.raises(
            ContextError, match=r"the context is <.*>; pass what the units should see first, such as a dict"
        ):
            watched.partitioner.execute(context)
    watched.still_works()


def test_a_context_that_has_not_been_awaited(watched):
    """It is left as it is, for who wants to await it."""
    context = context_to_come()
    with pytest.raises(
        ContextError, match=r"the context is <coroutine .*>, which has not been awaited; await it first"
    ):
        watched.partitioner.execute(context)
    context.close()
    watched.still_works()


# ---- errors stay readable


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"fn": list(range(100_000))}, TypeError),
        ({"dependencies": "x" * 100_000}, TypeError),
        ({"timeout": "x" * 100_000}, TypeError),
        ({"retries": "x" * 100_000}, TypeError),
        ({"priority": "x" * 100_000}, TypeError),
        ({"metadata": "x" * 100_000}, TypeError),
        ({"name": list(range(100_000))}, TypeError),
        ({"name": "x" * 100_000, "timeout": 0}, ValueError),
    ],
    ids=["function", "dependencies", "timeout", "retries", "priority", "metadata", "id", "long id"],
)
def test_what_is_long_is_cut_in_the_message(watched, options, kind):
    """A page at most; who passed a whole data set by mistake wants to see which argument it was."""
    with pytest.raises(kind) as raised:
        watched.partitioner.add_unit(**{"fn": str, "name": "c", **options})
    assert len(str(raised.value)) < 1_000
    watched.still_works()


def test_a_value_that_cannot_be_shown_is_named_by_its_class(watched):
    """Its own `__repr__` raises; that must not hide what is wrong."""

    class Broken:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(
        TypeError, match=r"unit 'c': function is <.*Broken that cannot be shown>, which cannot be called"
    ):
        watched.partitioner.add_unit(Broken(), name="c")
    with pytest.raises(
        UnknownNameError, match=r"there is no executor named <.*Broken that cannot be shown>; there are"
    ):
        watched.partitioner.execute({}, Broken())
    watched.still_works()


# ---- the empty graph


@every_way
@pytest.mark.parametrize("mode", ["sequential", "thread", "async", "process"])
def test_the_empty_graph_gives_an_empty_result(way, mode):
    """In every mode, by every way; and it is a success."""
    partitioner = QuantumPartitioner(max_workers=2)
    found = way(partitioner, {"k": 1}, execution_mode=mode)
    assert list(found) == []
    result = partitioner.last_result
    assert result == {}
    assert result.ok
    assert result.failed == {}
    assert len(result.report.units) == 0
    assert partitioner.get_partial_results() == partitioner.get_failed_units() == {}


@every_way
def test_the_empty_graph_in_a_pool_of_the_callers(way):
    """Nothing is submitted, and the pool stays the caller's."""
    with ThreadPoolExecutor(1) as pool:
        partitioner = QuantumPartitioner()
        assert list(way(partitioner, {}, custom_executor=pool)) == []
        assert partitioner.last_result.ok
        assert pool.submit(int, "5").result(60) == 5


def test_no_outputs_give_an_empty_result(watched):
    """Nothing is asked for, so nothing runs."""
    assert watched.partitioner.execute({}, outputs=[]) == {}
    assert watched.ran == []
