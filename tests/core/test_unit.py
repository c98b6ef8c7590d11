"""One unit of work: what it is given, what it refuses, how it is retried, and what it shows of the run that finished last."""

import copy
import enum
import functools
import inspect
import math
import pickle
import random

import attrs
import pytest

from qp_core.partitioner import QuantumPartitioner
from qp_core.unit import DEFAULT_RETRY, NOTHING_YET, Outcome, QuantumUnit, RetryPolicy, durations, retry_after_of
from qp_core.vocabulary import UnitState


def work(context):
    """Nothing much."""
    return 1


class Least:
    """Dice that always fall on the same side."""

    def __init__(self, side):
        self.side = side

    def random(self):
        """From 0 to 1."""
        return self.side


# ---- what it is given


def test_the_positional_order_is_the_seeds():
    """Field by field, as in the seed's dataclass."""
    names = list(inspect.signature(QuantumUnit).parameters)
    assert names[:13] == [
        "id",
        "function",
        "dependencies",
        "timeout",
        "retries",
        "priority",
        "metadata",
        "state",
        "result",
        "error",
        "start_time",
        "end_time",
        "attempt",
    ]


def test_defaults():
    """Only an id and a function are needed."""
    unit = QuantumUnit("a", work)
    assert (unit.id, unit.function, unit.dependencies, unit.timeout, unit.retries) == ("a", work, [], None, 0)
    assert (unit.priority, unit.metadata, unit.retry, unit.fallback) == (0, {}, DEFAULT_RETRY, None)
    assert (unit.state, unit.result, unit.error, unit.attempt) == (UnitState.PENDING, None, None, 0)
    assert (unit.start_time, unit.end_time, unit.execution_time, unit.get_execution_time()) == (None,) * 4


def test_everything_given_is_kept():
    """Positional as the seed has it, the rest by name."""
    retry, metadata = RetryPolicy(base_s=1), {"k": 1}
    unit = QuantumUnit("a", work, ["b"], 2.5, 3, 7, metadata, retry=retry, fallback=work)
    assert (unit.dependencies, unit.timeout, unit.retries, unit.priority) == (["b"], 2.5, 3, 7)
    assert (unit.metadata, unit.retry, unit.fallback) == ({"k": 1}, retry, work)


def test_units_are_told_apart_by_identity():
    """Two of the same definition are two; a unit can stand in a set."""
    one, other = QuantumUnit("a", work), QuantumUnit("a", work)
    assert one != other
    assert len({one, other}) == 2


def test_a_unit_shows_who_it_is():
    """In the REPL and in logs."""
    assert repr(QuantumUnit("a", work, ["b"])) == "QuantumUnit(id='a', dependencies=['b'], state='pending')"


def test_a_misspelt_attribute_is_an_error():
    """Not a setting that nobody reads."""
    with pytest.raises(AttributeError):
        QuantumUnit("a", work).time_out = 5


class Step(enum.StrEnum):
    LOAD = "load"


class Loud(str):
    __slots__ = ()

    def __str__(self):
        return self.upper() + "!"

    __repr__ = __str__


@pytest.mark.parametrize("given", ["load", Step.LOAD, Loud("load")], ids=["str", "StrEnum", "subclass"])
def test_an_id_is_a_plain_string(given):
    """Whatever subclass was given: a report or a message must not show something else than the text."""
    unit = QuantumUnit(given, work)
    assert type(unit.id) is str
    assert unit.id == "load"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["b", "a"], ["b", "a"]),
        (("b", "a"), ["b", "a"]),
        ((name for name in "ba"), ["b", "a"]),
        ({"b": 1, "a": 2}, ["b", "a"]),
        ({"b": 1, "a": 2}.keys(), ["b", "a"]),
        ({"c", "b", "a", "e", "d"}, ["a", "b", "c", "d", "e"]),
        (frozenset({"c", "b", "a"}), ["a", "b", "c"]),
        ([], []),
        ((), []),
        (set(), []),
        (["a", "a"], ["a", "a"]),
    ],
    ids=["list", "tuple", "generator", "dict", "keys", "set", "frozenset", "no list", "no tuple", "no set", "twice"],
)
def test_dependencies_are_any_list_of_ids(given, kept):
    """In the order given; of a set in sorted order, since its own order differs from process to process."""
    assert QuantumUnit("z", work, given).dependencies == kept


def test_what_was_given_is_not_shared():
    """Who changes his list or dict later changes no unit."""
    dependencies, metadata = ["a"], {"k": 1}
    unit = QuantumUnit("z", work, dependencies, metadata=metadata)
    dependencies.append("b")
    metadata["k"] = 2
    assert unit.dependencies == ["a"]
    assert unit.metadata == {"k": 1}
    assert QuantumUnit("y", work).dependencies is not QuantumUnit("x", work).dependencies
    assert QuantumUnit("y", work).metadata is not QuantumUnit("x", work).metadata


def test_metadata_is_a_dict_that_can_be_changed():
    """Made when it is first asked for, and then the same."""
    unit = QuantumUnit("a", work)
    assert unit.get_metadata("k") is None
    assert unit.get_metadata("k", 5) == 5
    unit.metadata["k"] = None
    assert unit.metadata == {"k": None}
    assert unit.get_metadata("k", 5) is None
    unit.metadata = {"other": 1}
    assert unit.metadata == {"other": 1}


def test_two_threads_that_ask_for_metadata_get_the_same(monkeypatch):
    """While one waits for its turn to make the dict, the other has made it and put something in."""
    unit = QuantumUnit("a", work)

    class Turn:
        def __enter__(self):
            unit.metadata = {"k": 1}

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("qp_core.unit._metadata_lock", Turn())
    assert unit.metadata == {"k": 1}


@pytest.mark.parametrize("given", [5, "k=1", [("k", 1)], {"k"}], ids=["number", "string", "pairs", "set"])
def test_metadata_is_a_mapping(given):
    """Also when it is assigned later."""
    with pytest.raises(TypeError, match=r"unit 'a': metadata is .*; give a dict"):
        QuantumUnit("a", work, metadata=given)
    unit = QuantumUnit("a", work)
    with pytest.raises(TypeError, match=r"unit 'a': metadata is .*; give a dict"):
        unit.metadata = given


# ---- what it refuses; the rest of the table stands in test_bad_input.py


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"dependencies": "a"}, TypeError, "unit 'u': dependencies is the string 'a'; give a list of ids: ['a']"),
        ({"dependencies": ""}, TypeError, "unit 'u': dependencies is the string ''; give a list of ids: ['']"),
        ({"dependencies": b"a"}, TypeError, "unit 'u': dependencies is the string b'a'; give a list of ids: [b'a']"),
        ({"dependencies": 0}, TypeError, "unit 'u': dependencies is 0; give a list of ids"),
        ({"dependencies": False}, TypeError, "unit 'u': dependencies is False; give a list of ids"),
        ({"dependencies": None}, TypeError, "unit 'u': dependencies is None; give a list of ids"),
        ({"timeout": 10**400}, ValueError, "unit 'u': timeout is 1000"),
        ({"retries": 0.0}, TypeError, "unit 'u': retries is 0.0; give a whole number"),
        ({"retries": False}, TypeError, "unit 'u': retries is False; give a whole number"),
        ({"priority": False}, TypeError, "unit 'u': priority is False; give a number"),
        ({"priority": None}, TypeError, "unit 'u': priority is None; give a number"),
        ({"priority": "high"}, TypeError, "unit 'u': priority is 'high'; give a number"),
        ({"priority": math.nan}, TypeError, "unit 'u': priority is nan; give a number"),
        ({"retry": 3}, TypeError, "unit 'u': retry is 3; give a RetryPolicy (and how often in retries)"),
        ({"retry": RetryPolicy}, TypeError, "unit 'u': retry is <class"),
        (
            {"fallback": 5},
            TypeError,
            "unit 'u': fallback is 5; give a function, a unit, or a list of these; a value belongs in metadata",
        ),
        (
            {"fallback": [work, None]},
            TypeError,
            "unit 'u': fallback is None; give a function, a unit, or a list of these",
        ),
        ({"state": "done"}, ValueError, "'done' is not a valid UnitState"),
    ],
    ids=[
        "string",
        "empty string",
        "bytes",
        "zero",
        "false",
        "none",
        "timeout beyond all floats",
        "retries as a float",
        "retries false",
        "priority false",
        "priority none",
        "priority string",
        "priority nan",
        "retry as a number",
        "retry as a class",
        "fallback as a value",
        "a list of fallbacks with none",
        "state",
    ],
)
def test_a_wrong_argument_names_the_unit_and_what_would_be_right(arguments, kind, text):
    """When the unit is made, not when it runs."""
    with pytest.raises(kind) as raised:
        QuantumUnit("u", work, **arguments)
    assert str(raised.value).startswith(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", ""),
        ("id", 3),
        ("function", 3),
        ("dependencies", "a"),
        ("dependencies", 5),
        ("timeout", "x"),
        ("timeout", 0),
        ("timeout", math.nan),
        ("retries", -1),
        ("retries", 1.5),
        ("priority", "high"),
        ("metadata", 5),
        ("retry", 3),
        ("fallback", "spare"),
        ("fallback", [work, None]),
        ("state", "done"),
    ],
)
def test_what_is_assigned_wrongly_is_the_same_error_as_a_wrong_argument(name, value):
    """At the assignment, not in the run; the unit stays as it was."""
    given = {"id": "u", "function": work, "dependencies": ["a"], "timeout": 5, "retries": 2, "priority": 3}
    with pytest.raises((TypeError, ValueError)) as at_first:
        QuantumUnit(**{**given, name: value})
    unit = QuantumUnit(**given)
    before = getattr(unit, name)
    with pytest.raises(type(at_first.value)) as later:
        setattr(unit, name, value)
    assert str(later.value) == str(at_first.value)
    assert getattr(unit, name) is before


class Name(enum.StrEnum):
    OTHER = "other"


def test_what_is_assigned_is_kept_as_the_constructor_keeps_it():
    """A list and a dict of its own, a set in order, plain text as the id, and None for what was not given."""
    unit = QuantumUnit("u", work, timeout=5, metadata={"k": 1}, retry=RetryPolicy(base_s=0), fallback=work)
    needs, metadata = ["a"], {"k": 2}
    unit.id, unit.function, unit.dependencies, unit.metadata = Name.OTHER, len, needs, metadata
    unit.retries, unit.priority = 3, 2.5
    needs.append("b")
    metadata["k"] = 3
    assert (type(unit.id), unit.id, unit.function) == (str, "other", len)
    assert (unit.dependencies, unit.metadata, unit.retries, unit.priority) == (["a"], {"k": 2}, 3, 2.5)
    unit.dependencies = {"c", "b", "a"}
    assert unit.dependencies == ["a", "b", "c"]
    unit.timeout = unit.retry = unit.fallback = unit.metadata = None
    assert (unit.timeout, unit.retry, unit.fallback, unit.metadata) == (None, DEFAULT_RETRY, None, {})


@pytest.mark.parametrize("timeout", [1, 0.001, math.inf, 10**300], ids=["whole", "tiny", "none", "long"])
def test_any_time_above_zero_is_a_limit(timeout):
    """A whole number of seconds too."""
    assert QuantumUnit("a", work, timeout=timeout).timeout == timeout


class Often(enum.IntEnum):
    TWICE = 2


def test_any_whole_number_from_zero_on_is_a_number_of_retries():
    """Also a name for one."""
    assert [QuantumUnit("a", work, retries=retries).retries for retries in (0, 1, 10**9, Often.TWICE)] == [
        0,
        1,
        10**9,
        2,
    ]


@pytest.mark.parametrize("priority", [-5, 0, 2.5, math.inf, -math.inf], ids=str)
def test_any_number_is_a_priority(priority):
    """Below zero and beyond all too."""
    assert QuantumUnit("a", work, priority=priority).priority == priority


@pytest.mark.parametrize(
    "function",
    [work, lambda ctx: 1, functools.partial(work), str.upper, dict, Step, QuantumUnit("b", work).can_execute],
    ids=["function", "lambda", "partial", "method", "class", "enum", "bound method"],
)
def test_whatever_can_be_called_is_a_function(function):
    """It is not called for that."""
    assert QuantumUnit("a", function).function is function


@pytest.mark.parametrize(
    "fallback",
    [None, work, QuantumUnit("b", work), [work, QuantumUnit("b", work)], (work,), []],
    ids=["none", "function", "unit", "list", "tuple", "empty list"],
)
def test_whatever_can_stand_in_is_a_fallback(fallback):
    """As it was given."""
    assert QuantumUnit("a", work, fallback=fallback).fallback is fallback


# ---- what it knows of others


@pytest.mark.parametrize(
    ("needs", "completed", "can"),
    [([], [], True), (["a"], [], False), (["a", "b"], {"a"}, False), (["a", "b"], {"a", "b", "c"}, True)],
    ids=["needs nothing", "nothing done", "some done", "all done"],
)
def test_a_unit_can_run_when_all_that_it_needs_is_done(needs, completed, can):
    """The seed's question."""
    assert QuantumUnit("z", work, needs).can_execute(completed) is can


# ---- what it shows


def test_what_is_given_by_hand_is_shown():
    """As the seed's dataclass would; an end without a beginning too."""
    error = ValueError("broken")
    unit = QuantumUnit(
        "a", work, state=UnitState.FAILED, result=5, error=error, start_time=1.0, end_time=3.5, attempt=2
    )
    assert (unit.state, unit.result, unit.error, unit.attempt) == (UnitState.FAILED, 5, error, 2)
    assert (unit.start_time, unit.end_time, unit.execution_time) == (1.0, 3.5, 2.5)
    assert QuantumUnit("a", work, end_time=3.0).end_time == 3.0
    assert QuantumUnit("a", work, end_time=3.0).execution_time is None
    assert QuantumUnit("a", work, state="failed").state is UnitState.FAILED


def test_what_is_assigned_is_shown():
    """One attribute at a time; the others stay."""
    unit = QuantumUnit("a", work)
    error = ValueError("broken")
    unit.state = UnitState.COMPLETED
    unit.result = None
    unit.error = error
    unit.start_time = 1.0
    unit.end_time = 2.0
    unit.attempt = 3
    assert (unit.state, unit.result, unit.error) == (UnitState.COMPLETED, None, error)
    assert (unit.start_time, unit.end_time, unit.attempt) == (1.0, 2.0, 3)
    assert unit.get_execution_time() == 1.0
    with pytest.raises(ValueError, match="is not a valid UnitState"):
        unit.state = "done"


def fails(context):
    """Always."""
    raise ValueError(context["why"])


def test_a_unit_shows_the_run_that_finished_last():
    """Its state, result, error and times; another run, another outcome; before the first, nothing."""
    partitioner = QuantumPartitioner()
    good = partitioner.add_unit(lambda ctx: ctx["n"], name="good")
    bad = partitioner.add_unit(fails, name="bad", retries=0)
    behind = partitioner.add_unit(work, ["bad"], "behind")
    assert good.state is bad.state is behind.state is UnitState.PENDING
    for n in (1, 2):
        partitioner.execute({"n": n, "why": f"run {n}"}, "sequential")
        assert (good.state, good.result, good.error, good.attempt) == (UnitState.COMPLETED, n, None, 1)
        assert (bad.state, bad.result, str(bad.error), bad.attempt) == (UnitState.FAILED, None, f"run {n}", 1)
        assert (behind.state, behind.attempt, behind.start_time) == (UnitState.SKIPPED, 0, None)
        assert good.end_time - good.start_time == good.execution_time >= 0


def test_what_was_set_by_hand_holds_until_the_next_run_ends():
    """Before the unit belongs to a partitioner, and between two runs."""
    partitioner = QuantumPartitioner()
    unit = QuantumUnit("a", work, result=5)
    partitioner.units["a"] = unit
    partitioner.build_execution_plan()
    assert unit.result == 5
    partitioner.execute({}, "sequential")
    assert unit.result == 1
    unit.result = 7
    assert unit.result == 7
    assert unit.state is UnitState.COMPLETED, "only what was assigned changes"
    partitioner.execute({}, "sequential")
    assert unit.result == 1


def test_a_unit_that_was_added_after_a_run_shows_nothing_of_it():
    """It was no part of it."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(work, name="a")
    partitioner.execute({}, "sequential")
    assert partitioner.add_unit(work, name="b").state is UnitState.PENDING


def test_nothing_yet_is_what_a_new_unit_shows():
    """One frozen record for all of them."""
    assert Outcome() == NOTHING_YET
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        NOTHING_YET.result = 1


@pytest.mark.parametrize("trip", [copy.copy, copy.deepcopy, lambda unit: pickle.loads(pickle.dumps(unit))])
def test_a_copy_has_the_definition_and_what_was_shown(trip):
    """Also where the unit showed a run: the copy keeps that, and no longer changes with the next."""
    partitioner = QuantumPartitioner()
    unit = partitioner.add_unit(
        fails, [], "a", 5.0, 0, {"k": [1]}, priority=2, retry=RetryPolicy(base_s=0, on=KeyError), fallback=None
    )
    partitioner.execute({"why": "broken"}, "sequential")
    made = trip(unit)
    assert type(made) is QuantumUnit
    assert (made.id, made.function, made.dependencies, made.timeout) == ("a", fails, [], 5.0)
    assert (made.retries, made.priority, made.metadata, made.retry) == (0, 2, {"k": [1]}, unit.retry)
    assert (made.state, str(made.error), made.attempt) == (UnitState.FAILED, "broken", 1)
    assert (made.start_time, made.end_time) == (unit.start_time, unit.end_time)
    partitioner.units["a"].function = work
    partitioner.execute({}, "sequential")
    assert unit.state is UnitState.COMPLETED
    assert made.state is UnitState.FAILED


def test_a_pickled_unit_does_not_take_the_results_of_others_along():
    """They may be large, or may not pickle at all."""
    partitioner = QuantumPartitioner()
    unit = partitioner.add_unit(work, name="a")
    partitioner.add_unit(lambda ctx: (item for item in "cannot be pickled"), name="b")
    partitioner.execute({}, "sequential")
    assert pickle.loads(pickle.dumps(unit)).result == 1


# ---- how it is retried


@pytest.mark.parametrize(
    ("attempt", "wait"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (5, 3.2), (6, 5.0), (7, 5.0), (10**9, 5.0)]
)
def test_the_waits_are_the_seeds(attempt, wait):
    """`min(2**attempt * 0.1, 5)` seconds, before jitter; never an overflow."""
    assert DEFAULT_RETRY.wait_s(attempt, ValueError(), Least(0.0)) == pytest.approx(wait)


def test_jitter_shortens_a_wait_by_up_to_its_fraction():
    """Never lengthens it, and none where there is none."""
    policy = RetryPolicy(base_s=1, cap_s=100, jitter=0.5)
    assert policy.wait_s(2, ValueError(), Least(0.0)) == 4.0
    assert policy.wait_s(2, ValueError(), Least(1.0)) == 2.0
    assert attrs.evolve(policy, jitter=0.0).wait_s(2, ValueError(), Least(1.0)) == 4.0
    waits = {policy.wait_s(2, ValueError(), random.Random(seed)) for seed in range(20)}  # noqa: S311 - dice, not secrets
    assert len(waits) == 20
    assert all(2.0 <= wait <= 4.0 for wait in waits)


class AskingError(Exception):
    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (AskingError(retry_after=3), 3.0),
        (AskingError(retry_after=0.5), 0.5),
        (AskingError(retry_after=0), 0.0),
        (AskingError(details={"retry_after": 7}), 7.0),
        (AskingError(retry_after=1, details={"retry_after": 7}), 1.0),
        (AskingError(details={"retry_after": "soon"}), None),
        (AskingError(details="soon"), None),
        (AskingError(details={}), None),
        (AskingError(retry_after="3"), None),
        (AskingError(retry_after=-1), None),
        (AskingError(retry_after=math.inf), None),
        (AskingError(retry_after=math.nan), None),
        (AskingError(retry_after=10**400), None),
        (AskingError(retry_after=True), None),
        (ValueError(), None),
    ],
    ids=[
        "attribute",
        "fraction",
        "zero",
        "details",
        "attribute first",
        "details, word",
        "details, no mapping",
        "details, silent",
        "word",
        "negative",
        "infinite",
        "no number",
        "beyond all floats",
        "true",
        "silent",
    ],
)
def test_the_wait_that_an_error_asks_for(error, seconds):
    """Where it makes sense, else nothing."""
    assert retry_after_of(error) == seconds


def test_an_error_that_asks_for_a_longer_wait_gets_it():
    """A shorter one changes nothing; it is not shortened by jitter, nor by the cap."""
    policy = RetryPolicy(base_s=1, cap_s=3, jitter=0.5)
    assert policy.wait_s(1, AskingError(retry_after=60), Least(1.0)) == 60.0
    assert policy.wait_s(1, AskingError(retry_after=0.1), Least(0.0)) == 2.0
    assert (
        attrs.evolve(policy, retry_after=lambda error: None).wait_s(1, AskingError(retry_after=60), Least(0.0)) == 2.0
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (KeyError, (KeyError,)),
        ([KeyError, OSError], (KeyError, OSError)),
        ((), ()),
        ((kind for kind in (KeyError,)), (KeyError,)),
    ],
    ids=["one class", "list", "none", "generator"],
)
def test_a_policy_names_exceptions(given, kept):
    """One class, or several."""
    assert RetryPolicy(on=given).on == kept


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException, "KeyError", 5, KeyError()], ids=repr)
def test_only_exceptions_are_worth_another_attempt(kind):
    """KeyboardInterrupt and SystemExit never are."""
    with pytest.raises(TypeError, match=r"RetryPolicy.on holds .*, which is no Exception class; name the exceptions"):
        RetryPolicy(on=(ValueError, kind))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_s", -1),
        ("base_s", math.nan),
        ("cap_s", -0.1),
        ("jitter", 1.1),
        ("jitter", -0.1),
        ("stop_after_s", 0),
        ("stop_after_s", -1),
    ],
)
def test_a_policy_out_of_range_names_the_field(field, value):
    """When it is made."""
    with pytest.raises(ValueError, match=field):
        RetryPolicy(**{field: value})


def test_a_policy_is_a_value():
    """Equal, frozen, changed by `attrs.evolve`."""
    assert RetryPolicy() == DEFAULT_RETRY
    assert attrs.evolve(DEFAULT_RETRY, stop_after_s=9).stop_after_s == 9
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        DEFAULT_RETRY.base_s = 5
    assert pickle.loads(pickle.dumps(RetryPolicy(on=KeyError))) == RetryPolicy(on=KeyError)


# ---- how long it is expected to take


def test_expected_durations():
    """From the metadata, else one second."""
    units = [
        QuantumUnit("a", work),
        QuantumUnit("b", work, metadata={"expected_duration": 3}),
        QuantumUnit("c", work, metadata={"expected_duration": 0}),
        QuantumUnit("d", work, metadata={"other": 1}),
    ]
    assert durations(units) == [1.0, 3.0, 0.0, 1.0]
    assert all(type(duration) is float for duration in durations(units))


@pytest.mark.parametrize(
    "expected", [-1, math.nan, math.inf, "3", None, True, 10**400], ids=lambda value: str(value)[:9]
)
def test_a_senseless_duration_names_the_unit(expected):
    """Where a critical path is asked for."""
    with pytest.raises(ValueError, match=r"unit 'b': expected_duration is .*; give seconds, 0 or more"):
        durations([QuantumUnit("a", work), QuantumUnit("b", work, metadata={"expected_duration": expected})])
