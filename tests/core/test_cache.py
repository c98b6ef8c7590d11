"""The key under which a result is found: equal content gives an equal key in every process, and what matters changes it."""

import cmath
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import importlib.util
import itertools
import math
import os
import pathlib
import pickle
import re
import subprocess
import sys
import threading
import types
from collections.abc import Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core.cache import MISS, UncacheableError, cache_key, stable_hash
from qp_core.context import ExecutionContext
from qp_core.errors import CacheError
from qp_core.partitioner import CachingQuantumPartitioner
from qp_core.unit import QuantumUnit


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the untyped kind is one that has to work too


@dataclasses.dataclass
class Data:
    x: object
    y: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: object


@attrs.define
class Defined:
    x: object


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def method(self, context):
        """Nothing."""


class Names(set):
    pass


class Row(list):
    pass


class Words(str):
    __slots__ = ()


def one(context):
    """A function."""
    return 1


def two(context):
    """A function."""
    return 2


DIFFERENT = {
    "none": None,
    "true": True,
    "one": 1,
    "one as a float": 1.0,
    "one as a complex": 1 + 0j,
    "one as text": "1",
    "one as bytes": b"1",
    "one as a bytearray": bytearray(b"1"),
    "one as an enum": Number.ONE,
    "zero": 0,
    "false": False,
    "empty text": "",
    "empty bytes": b"",
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "empty set": set(),
    "empty frozenset": frozenset(),
    "a great number": 10**18,
    "a greater number": 10**5_000,
    "its negative": -(10**5_000),
    "list": [1, 2],
    "list, other order": [2, 1],
    "tuple": (1, 2),
    "set": {1, 2},
    "frozenset": frozenset({1, 2}),
    "set of a subclass": Names({1, 2}),
    "list of a subclass": Row([1, 2]),
    "list of a subclass, other order": Row([2, 1]),
    "deque": collections.deque([1, 2]),
    "deque, other order": collections.deque([2, 1]),
    "nested left": [[1], 2],
    "nested right": [1, [2]],
    "nested all": [[1, 2]],
    "split here": ["ab", "c"],
    "split there": ["a", "bc"],
    "not split": ["abc"],
    "dict": {"a": 1, "b": 2},
    "dict, swapped": {"a": 2, "b": 1},
    "dict as pairs": [("a", 1), ("b", 2)],
    "ordered dict": collections.OrderedDict(a=1, b=2),
    "counter": collections.Counter(a=1, b=2),
    "dict with keys of two kinds": {1: "a", "1": "b"},
    "dict with keys of two kinds, swapped": {1: "b", "1": "a"},
    "dict of sets": {"a": {1, 2}},
    "mapping proxy": types.MappingProxyType({"a": 1, "b": 2}),
    "named tuple": Point(1, 2),
    "named tuple, swapped": Point(2, 1),
    "enum": Colour.RED,
    "other member": Colour.BLUE,
    "date": dt.date(2026, 11, 24),
    "time": dt.datetime(2026, 11, 24, tzinfo=dt.UTC),
    "decimal": decimal.Decimal("1.0"),
    "decimal, another form": decimal.Decimal("1.00"),
    "path": pathlib.PurePosixPath("/a"),
    "pattern": re.compile("a"),
    "pattern, other flags": re.compile("a", re.IGNORECASE),
    "range": range(3),
    "surrogate": "\ud800",
    "replacement": "?",
    "nan": math.nan,
    "infinite": math.inf,
    "minus zero": -0.0,
    "plus zero": 0.0,
    "data class": Data(1),
    "data class, other content": Data(2),
    "data class, other field": Data(None, 1),
    "slotted data class": Slotted(1),
    "attrs class": Defined(1),
    "plain object": Plain(a=1),
    "plain object, other content": Plain(a=2),
    "plain object, other attribute": Plain(b=1),
    "text of a subclass": Words("1"),
    "function": one,
    "other function": two,
    "class": Plain,
    "other class": Data,
    "builtin": math.sin,
    "builtin of the same name": cmath.sin,
    "method of a builtin": "a".upper,
    "method of another": "b".upper,
    "unbound method": str.upper,
    "partial": functools.partial(one, 1),
    "partial, other arguments": functools.partial(one, 2),
    "partial of another": functools.partial(two, 1),
    "bound method": Plain(a=1).method,
    "method of another object": Plain(a=2).method,
    "module": math,
    "other module": cmath,
    "ellipsis": ...,
    "not implemented": NotImplemented,
}


@pytest.fixture(scope="module")
def hashes():
    """Of everything in the table."""
    return {name: stable_hash(value) for name, value in DIFFERENT.items()}


def test_what_differs_has_different_hashes(hashes):
    """Every value of the table from every other: by type, by content, by where it is split."""
    names = {}
    for name, digest in hashes.items():
        names.setdefault(digest, []).append(name)
    assert [same for same in names.values() if len(same) > 1] == []


def test_a_hash_is_hexadecimal(hashes):
    """64 digits."""
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes.values())


@pytest.mark.parametrize("value", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_value_keeps_its_hash(value):
    """Asked again; and a copy by way of pickle has the same, where it can be made."""
    assert stable_hash(value) == stable_hash(value)
    try:
        made = pickle.loads(pickle.dumps(value))
    except TypeError:
        return
    assert stable_hash(made) == stable_hash(value)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a", "1": "b"}, {"1": "b", 1: "a"}),
        (set("abcdefgh"), set("hgfedcba")),
        (Names("abcdefgh"), Names("hgfedcba")),
        ({"k": [{"x", "y"}, {"b": 1, "a": 2}]}, {"k": [{"y", "x"}, {"a": 2, "b": 1}]}),
        (Plain(a=1, b=2), Plain(b=2, a=1)),
        ([[1], [1]], [[1]] * 2),
        ("ab" * 10, "".join(["ab"] * 10)),
    ],
    ids=["dict", "keys of two kinds", "set", "subclass", "nested", "attributes", "shared or equal", "interned or not"],
)
def test_what_is_equal_has_equal_hashes(left, right):
    """Neither order nor sharing counts."""
    assert stable_hash(left) == stable_hash(right)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(ANYTHING, ANYTHING)
def test_hashes_agree_exactly_where_pickles_do(left, right):
    """Two values of plain types: the same content (and type, down to the sign of zero), or another hash."""
    same = repr(left) == repr(right)
    ordered = not any("{" in repr(value) for value in (left, right))
    if ordered or same:
        assert (stable_hash(left) == stable_hash(right)) is same


# ---- what holds itself


def ring(*names):
    """Functions that know each other by what they close over, in a ring."""
    functions = []

    def make(place, name):
        def function(context):
            return name if context else functions[(place + 1) % len(functions)](context)

        return function

    functions.extend(make(place, name) for place, name in enumerate(names))
    return functions[0]


def recursive(step):
    """A local function that calls itself."""

    def count(n):
        return count(n - step) if n else 0

    return count


def test_a_value_that_holds_itself_has_a_hash():
    """A list, a dict, an object, functions: the same each time, and another where the content differs."""

    def lists(content):
        made = [content]
        made.append(made)
        return made

    def dicts(content):
        made = {"content": content}
        made["self"] = [made]
        return made

    def objects(content):
        made = Plain(content=content)
        made.self = made
        return made

    for make in (lists, dicts, objects, recursive, lambda content: ring("a", str(content))):
        assert stable_hash(make(1)) == stable_hash(make(1))
        assert stable_hash(make(1)) != stable_hash(make(2))


def test_a_name_that_is_not_assigned_yet_has_a_hash():
    """A function may be defined before what it closes over."""

    def early():
        return late

    before = stable_hash(early)
    late = 1
    assert stable_hash(early) != before


def test_a_function_hash_counts_its_code_defaults_and_closure():
    """Everything that changes what it does."""

    def made(step, **defaults):
        def function(context, more=None, *, less=None):
            return step, more, less

        function.__defaults__ = (defaults.get("more"),)
        function.__kwdefaults__ = {"less": defaults.get("less")}
        return function

    assert stable_hash(made(1)) == stable_hash(made(1))
    found = [made(1), made(2), made(1, more=1), made(1, less=1), made([1]), made(made(1)), made(made(2))]
    assert len({stable_hash(function) for function in found}) == len(found)


# ---- what has no content

LOCK = threading.Lock()


class Unreducible:
    def __reduce_ex__(self, protocol):
        msg = "not today"
        raise RuntimeError(msg)


class Unreadable(Mapping):
    def __getitem__(self, key):
        raise OSError(key)

    def __iter__(self):
        yield "k"

    def __len__(self):
        return 1


def nested(depth):
    """Lists in lists."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (threading.Lock(), "an object of _thread.lock, which has no content to hash"),
        ((number for number in (1, 2)), "an object of builtins.generator, which has no content to hash"),
        (Unreducible(), f"an object of {__name__}.Unreducible, which has no content to hash (not today)"),
        (Unreadable(), "what has no content to hash (OSError('k'))"),
        (nested(10_000), "what has no content to hash (RecursionError("),
        ({"deep": [{"inside": threading.Lock()}]}, "an object of _thread.lock, which has no content to hash"),
        (Data(threading.Lock()), "an object of _thread.lock, which has no content to hash"),
        (lambda lock=LOCK: lock, "an object of _thread.lock, which has no content to hash"),
    ],
    ids=["lock", "generator", "refuses", "mapping that raises", "10,000 deep", "inside", "in an object", "default"],
)
def test_what_has_no_content_is_an_error_that_names_it(value, told):
    """Whatever its own code raises; a TypeError, as for what cannot be hashed."""
    with pytest.raises(UncacheableError) as raised:
        stable_hash(value)
    assert str(raised.value).startswith(told)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, CacheError)


def test_after_what_has_no_content_the_next_is_hashed_as_ever():
    """No trace of it is left in what is being hashed."""
    before = stable_hash([1])
    with pytest.raises(UncacheableError):
        stable_hash([1, threading.Lock()])
    assert stable_hash([1]) == before


# ---- the key of a unit


def unit(function=one, unit_id="u", **options):
    """A unit; keywords are its metadata but for `dependencies`."""
    return QuantumUnit(unit_id, function, options.pop("dependencies", ()), metadata=options)


def test_the_key_is_of_the_unit_its_function_and_its_context():
    """Each of the three changes it; nothing else of the unit does."""
    key = cache_key(unit(), {"k": 1})
    assert key == cache_key(unit(), {"k": 1})
    assert key == cache_key(QuantumUnit("u", one, timeout=5, retries=3, priority=2), {"k": 1})
    others = [
        cache_key(unit(unit_id="v"), {"k": 1}),
        cache_key(unit(two), {"k": 1}),
        cache_key(unit(), {"k": 2}),
        cache_key(unit(), {"l": 1}),
        cache_key(unit(), {"k": 1, "l": None}),
        cache_key(unit(), {}),
    ]
    assert len({key, *others}) == len(others) + 1


def test_unhashable_values_are_content_like_any_other():
    """The seed's key could not take them."""
    context = {"docs": [{"id": 1, "tags": {"a", "b"}}], "buffer": bytearray(b"x")}
    same = {"buffer": bytearray(b"x"), "docs": [{"tags": {"b", "a"}, "id": 1}]}
    assert cache_key(unit(), context) == cache_key(unit(), same)
    assert cache_key(unit(), context) != cache_key(unit(), {**context, "docs": [{"id": 1, "tags": {"a"}}]})


def test_a_context_is_what_it_holds_and_not_of_which_kind():
    """A dict, an ExecutionContext, any mapping."""
    content = {"k": [1], "a": 2}
    keys = {
        cache_key(unit(), content),
        cache_key(unit(), ExecutionContext({"k": [1]}, unit_results={"a": 2})),
        cache_key(unit(), types.MappingProxyType(content)),
        cache_key(unit(), collections.ChainMap({"k": [1]}, {"a": 2})),
    }
    assert len(keys) == 1


def test_keys_that_are_no_strings_count():
    """Whatever their repr: an address would differ from process to process."""

    @dataclasses.dataclass(frozen=True)
    class Key:
        x: int

        def __repr__(self):
            return f"Key at {id(self)}"

    def keyed(*numbers):
        return cache_key(unit(), {Key(number): number for number in numbers})

    assert len({keyed(*order) for order in itertools.permutations(range(4))}) == 1
    assert keyed(1, 2) != keyed(1, 3)


def test_only_the_cache_keys_count_where_they_are_named():
    """A key that is not there differs from one that is None."""
    named = unit(cache_keys=["k", "l"])
    key = cache_key(named, {"k": 1, "noise": 1})
    assert cache_key(named, {"k": 1, "noise": 2}) == key
    assert cache_key(named, {"k": 2, "noise": 1}) != key
    assert cache_key(named, {"k": 1, "l": None, "noise": 1}) != key
    assert cache_key(unit(cache_keys=("l", "k", "k")), {"k": 1, "noise": 3}) == key
    assert cache_key(unit(cache_keys=[]), {"k": 1}) == cache_key(unit(), {"k": 1})
    assert cache_key(unit(cache_keys=None), {"k": 1}) == cache_key(unit(), {"k": 1})


def test_the_results_of_dependencies_always_count():
    """Whoever names the keys that matter means those of the caller: another input gives another result."""
    named = unit(cache_keys=["k"], dependencies=["a"])
    assert cache_key(named, {"k": 1, "a": 1, "noise": 1}) == cache_key(named, {"k": 1, "a": 1, "noise": 2})
    assert cache_key(named, {"k": 1, "a": 1}) != cache_key(named, {"k": 1, "a": 2})


def test_where_the_context_has_none_of_the_cache_keys_all_of_it_counts():
    """A misspelt name must not make every call the same."""
    named = unit(cache_keys=["qeury"])
    assert cache_key(named, {"query": 1}) != cache_key(named, {"query": 2})


@pytest.mark.parametrize(
    ("options", "context", "text"),
    [
        (
            {"cache_keys": "query"},
            {"query": 1},
            "unit 'u' cannot be cached: its cache_keys holds the string 'query'; give a list of context keys",
        ),
        (
            {"cache_keys": 5},
            {"query": 1},
            "unit 'u' cannot be cached: its cache_keys holds what has no content to hash",
        ),
        (
            {"cache_keys": [["query"]]},
            {"query": 1},
            "unit 'u' cannot be cached: its cache_keys holds what has no content to hash",
        ),
        (
            {},
            {"fine": 1, "lock": threading.Lock()},
            "unit 'u' cannot be cached: context key 'lock' holds an object of _thread.lock,",
        ),
        (
            {},
            Unreadable(),
            "unit 'u' cannot be cached: context key 'k' holds what has no content to hash (OSError('k'))",
        ),
    ],
    ids=["one string", "a number", "a list of lists", "a lock", "a mapping that raises"],
)
def test_what_cannot_be_cached_names_the_unit_and_the_key(options, context, text):
    """Where its letters were taken for keys, one string of cache_keys gave the result of another query."""
    with pytest.raises(UncacheableError) as raised:
        cache_key(unit(**options), context)
    assert str(raised.value).startswith(text)


def test_a_function_that_cannot_be_cached_names_the_unit():
    """It closes over something that has no content."""
    lock = threading.Lock()

    def function(context):
        with lock:
            return 1

    with pytest.raises(
        UncacheableError, match=r"unit 'u' cannot be cached: its function holds an object of _thread.lock"
    ):
        cache_key(unit(function), {})


def test_a_unit_that_cannot_be_cached_runs_all_the_same(caplog):
    """With a warning that says why; also the one whose cache_keys is one string."""
    partitioner = CachingQuantumPartitioner()
    partitioner.add_unit(lambda ctx: ctx["query"], name="search", metadata={"cacheable": True, "cache_keys": "query"})
    assert partitioner.execute({"query": 1}, "sequential") == {"search": 1}
    assert partitioner.execute({"query": 2}, "sequential") == {"search": 2}
    assert partitioner.cache_hits == 0
    assert "unit 'search' cannot be cached: its cache_keys holds the string 'query'" in caplog.text


def test_a_context_that_is_no_mapping_counts_whatever_units_are_called():
    """Beside the results of the dependencies, one of which is called `context`."""
    partitioner = CachingQuantumPartitioner()
    partitioner.add_unit(lambda number: 0, name="context")
    partitioner.add_unit(lambda number: number, ["context"], "b", metadata={"cacheable": True})
    assert [partitioner.execute(number, "sequential")["b"] for number in (1, 2, 1)] == [1, 2, 1]
    assert (partitioner.cache_hits, partitioner.cache_misses) == (1, 2)


def test_nothing_found_is_not_none():
    """A result may be None."""
    assert MISS is not None
    assert MISS


# ---- what the function's code reaches


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Makes modules from their text, as if each had just been edited."""

    def loaded(text, name="project_module", folder="."):
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - text of this file; past the cache of bytecode
        return module

    return loaded


BASE = """
import functools, json, math, threading
from json import dumps

LIMIT = 5
TABLE = {"a": {1, 2}, "b": [3]}
LOCK = threading.Lock()
UNUSED = 1

def clean(text):
    return strip(text)[:LIMIT]

def strip(text):
    return text.strip()

@functools.cache
def cached(text):
    return strip(text)

def shouting(function):
    @functools.wraps(function)
    def shout(text):
        return function(text).upper()
    return shout

@shouting
def loud(text):
    return text + "!"

def unused():
    return 1

class Parent:
    def inherited(self):
        return LIMIT

class Model(Parent):
    size = 3

    def __init__(self, weight=1):
        self.weight = weight

    def __call__(self, context):
        return self.run(context)

    def run(self, text):
        return clean(text) * self.size

    @staticmethod
    def fixed():
        return 1

    @classmethod
    def made(cls):
        return cls()

    @property
    def half(self):
        return self.size / 2

    @functools.cached_property
    def kept(self):
        return 7

MODEL = Model()
CHOICES = {"clean": clean, "loud": loud}

def function(context):
    with LOCK:
        return clean(context["text"]), math.pi, dumps(TABLE)

def by_method(context):
    return MODEL.run(context["text"])

def by_class(context):
    return Model().run(context["text"])

def by_cached(context):
    return cached(context["text"])

def by_decorated(context):
    return loud(context["text"])

def by_table(context):
    return CHOICES[context["how"]](context["text"])

def by_inner(context):
    return [strip(line) for line in (lambda: context["text"])()]

def by_default(context, model=MODEL):
    return model

def itself(context):
    return itself(context) if context else other(context)

def other(context):
    return itself(context)
"""

EDITS = {
    "a constant two calls away": (
        "LIMIT = 5",
        "LIMIT = 6",
        {"function", "by_method", "by_class", "by_table", "by_default"},
    ),
    "a table's content": ('"b": [3]', '"b": [4]', {"function"}),
    "a function one call away": (
        "return strip(text)[:LIMIT]",
        "return strip(text)[1:LIMIT]",
        {"function", "by_method", "by_class", "by_table", "by_default"},
    ),
    "a function two calls away": (
        "return text.strip()",
        "return text.lstrip()",
        {"function", "by_method", "by_class", "by_cached", "by_table", "by_inner", "by_default"},
    ),
    "a decorated function": ('return text + "!"', 'return text + "?"', {"by_decorated", "by_table"}),
    "a decorator": ("function(text).upper()", "function(text).lower()", {"by_decorated", "by_table"}),
    "a method": ("* self.size", "* self.size * 2", {"by_method", "by_class", "by_default"}),
    "an attribute of a class": ("size = 3", "size = 4", {"by_method", "by_class", "by_default"}),
    "an attribute of an object": ("MODEL = Model()", "MODEL = Model(2)", {"by_method", "by_default"}),
    "an inherited method": ("        return LIMIT", "        return 1", {"by_method", "by_class", "by_default"}),
    "a static method": (
        "        return 1\n\n    @classmethod",
        "        return 2\n\n    @classmethod",
        {"by_method", "by_class", "by_default"},
    ),
    "a class method": ("return cls()", "return cls(1)", {"by_method", "by_class", "by_default"}),
    "a property": ("self.size / 2", "self.size / 3", {"by_method", "by_class", "by_default"}),
    "a cached property": ("return 7", "return 8", {"by_method", "by_class", "by_default"}),
    "a default": ("weight=1", "weight=2", {"by_method", "by_class", "by_default"}),
    "functions that call each other": ("return itself(context)\n", "return itself(1)\n", {"itself", "other"}),
    "another member of a library": ("from json import dumps", "from json import loads as dumps", {"function"}),
    "what nothing reaches": ("UNUSED = 1", "UNUSED = 2", set()),
    "a function that nothing calls": ("def unused():\n    return 1", "def unused():\n    return 2", set()),
    "a comment": ("LIMIT = 5", "# five is enough\n\n\nLIMIT = 5", set()),
    "another lock": ("LOCK = threading.Lock()", "LOCK = threading.Lock()  # a new one", set()),
    "nothing": ("", "", set()),
}


def keys_of(module):
    """The key of each function of a module that is meant to be a unit's."""
    names = ["function", "itself", "other", *(name for name in vars(module) if name.startswith("by_"))]
    return {name: cache_key(unit(getattr(module, name)), {"text": "x"}) for name in names}


@pytest.mark.parametrize(("before", "after", "changed"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_changes_the_keys_of_what_reaches_it(load, before, after, changed):
    """And of nothing else: a needless miss costs time, a wrong hit the truth."""
    assert before in BASE
    first, second = keys_of(load(BASE)), keys_of(load(BASE.replace(before, after, 1)))
    # `by_default` has an object of the class as its default, `by_table` and the decorated ones meet in a table.
    assert {name for name in first if first[name] != second[name]} == changed


def test_code_of_another_module_of_the_project_counts(load):
    """Imported as a name or used as `module.name`; but only the names that are used."""
    helpers = "LIMIT = 1\nOTHER = 1\ndef helpers(text):\n    return text[:LIMIT]\n"
    users = [
        "import helpers\ndef function(context):\n    return helpers.helpers(context)\n",
        "from helpers import helpers as short\ndef function(context):\n    return short(context)\n",
    ]
    for user in users:

        def key(text, user=user):
            load(text, "helpers")
            return cache_key(unit(load(user).function), {})

        assert key(helpers) == key(helpers.replace("OTHER = 1", "OTHER = 2"))
        assert key(helpers) != key(helpers.replace("LIMIT = 1", "LIMIT = 2"))
        assert key(helpers) != key(helpers.replace("text[:LIMIT]", "text[1:LIMIT]"))


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_what_an_installed_library_reaches_does_not_count(load, folder):
    """Only its own code does: what stands behind it changes with its version, and walking all of it would take long."""
    library = "LIMIT = 1\ndef helpers(text):\n    return text[:LIMIT]\n"
    user = "from helpers import helpers\ndef function(context):\n    return helpers(context)\n"

    def key(text):
        load(text, "helpers", folder)
        return cache_key(unit(load(user).function), {})

    assert key(library) == key(library.replace("LIMIT = 1", "LIMIT = 2"))
    assert key(library) != key(library.replace("text[:LIMIT]", "text[1:LIMIT]"))


def test_modules_that_know_each_other_have_an_end(load):
    """Two modules that import each other, and use each other's names."""
    first = load("def a(context):\n    return second.first.second.b(context)\n", "first")
    second = load("X = 1\ndef b(context):\n    return first.a(context), X\n", "second")
    first.second, second.first = second, first
    before = cache_key(unit(first.a), {})
    second.X = 2
    assert cache_key(unit(first.a), {}) != before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def function(a):\n    return a", "def function(*a):\n    return a"),
        ("def function(a):\n    return a", "async def function(a):\n    return a"),
        ("def function(a, b=1):\n    return a", "def function(a, *, b=1):\n    return a"),
        ("def function(a, b=1):\n    return a", "def function(a, c=1):\n    return a"),
        ("def function(a):\n    return a.x", "def function(a):\n    return a.y"),
        ("def function(a):\n    return a == 1", "def function(a):\n    return a == 1.0"),
        ("def function(a):\n    return lambda: 1", "def function(a):\n    return lambda: 2"),
        (
            "def function(a):\n    try:\n        a()\n        a.b()\n    except ValueError:\n        pass",
            "def function(a):\n    a()\n    try:\n        a.b()\n    except ValueError:\n        pass",
        ),
    ],
    ids=["star", "async", "keyword only", "name of a parameter", "attribute", "type of a constant", "inner", "try"],
)
def test_every_part_of_the_code_counts(load, before, after):
    """Also where the bytecode is nearly the same."""
    assert cache_key(unit(load(before).function), {}) != cache_key(unit(load(after).function), {})


@pytest.mark.parametrize(
    "make",
    [
        lambda module: module.Model(2),
        lambda module: module.Model(2).run,
        lambda module: functools.partial(module.clean),
        lambda module: types.MethodType(functools.partial(module.clean), "text"),
        lambda module: module.cached,
        lambda module: module.Model.made,
    ],
    ids=["object", "bound method", "partial", "method of a partial", "cached", "class method"],
)
def test_whatever_is_called_its_code_counts(load, make):
    """An object's class, a method's object, what a partial calls."""
    keys = [
        cache_key(unit(make(load(text))), {}) for text in (BASE, BASE.replace("text.strip()", "text.lstrip()"), BASE)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_the_class_of_a_value_in_the_context_does_not_count(load):
    """There, only the content is the input; the class's code is what the function's code reaches, if it does."""
    edited = BASE.replace("* self.size", "* self.size * 2")
    keys = [cache_key(unit(), {"model": load(text).Model(2)}) for text in (BASE, edited)]
    assert keys[0] == keys[1]


def test_the_library_itself_is_no_part_of_the_project(load):
    """A unit that runs a partitioner does not depend on how that is written."""
    module = load("from qp_core import QuantumPartitioner\ndef function(context):\n    return QuantumPartitioner()\n")
    before = cache_key(unit(module.function), {})
    module.QuantumPartitioner = type("QuantumPartitioner", (), {"__module__": "qp_core.partitioner"})
    assert cache_key(unit(module.function), {}) == before


def test_many_ways_to_the_same_function_are_gone_once(load):
    """40 layers of two functions that each call both of the next: 2**40 ways, which nobody could walk."""
    layers = [
        f"def {side}{layer}(n):\n    return a{layer + 1}(n) + b{layer + 1}(n)\n" for layer in range(40) for side in "ab"
    ]
    text = "".join(layers) + "def a40(n):\n    return 1\ndef b40(n):\n    return 2\n"
    first, second = load(text), load(text.replace("return 2", "return 3"))
    assert cache_key(unit(first.a0), {}) != cache_key(unit(second.a0), {})


def test_a_long_chain_of_calls_needs_no_stack(load):
    """2,000 functions, each of which calls the next."""
    text = "".join(f"def f{number}(n):\n    return f{number + 1}(n)\n" for number in range(2_000))
    ends = [load(f"{text}def f2000(n):\n    return {end}\n") for end in (1, 2)]
    assert cache_key(unit(ends[0].f0), {}) != cache_key(unit(ends[1].f0), {})


# ---- in every process


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import project_module as module
from qp_core import QuantumUnit, cache_key, stable_hash

names = {f"name {number}" for number in range(50)}
mapping = {name: {1, "1", (name,)} for name in names}
print(stable_hash([names, frozenset(names), mapping, dict.fromkeys(names)]))
context = {"text": "x", "names": names, ("k", 1): mapping, **mapping}
for name in ("function", "by_method", "by_class", "by_cached", "by_decorated", "by_table", "by_inner", "by_default", "itself"):
    print(cache_key(QuantumUnit("u", getattr(module, name)), context))
print(cache_key(QuantumUnit("u", module.Model(5).run, metadata={"cache_keys": names}), context))
print(cache_key(QuantumUnit("u", lambda ctx: module.MODEL.run(ctx)), context))
"""


@pytest.mark.slow
def test_keys_are_the_same_in_every_process(load, tmp_path):
    """Whatever the seed of string hashes, and wherever objects lie in memory."""
    module = load(BASE)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    lines = outputs.pop().split()
    assert len(set(lines)) == len(lines) == 12
    names = {f"name {number}" for number in range(50)}
    mapping = {name: {1, "1", (name,)} for name in names}
    context = {"text": "x", "names": names, ("k", 1): mapping, **mapping}
    assert lines[1] == cache_key(QuantumUnit("u", module.function), context), "and the same as here"
