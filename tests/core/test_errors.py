"""Everything that is raised on purpose: one tree, words with a culprit and a next step, whole after a trip through pickle."""

import copy
import difflib
import inspect
import pickle
import re

import pytest

from qp_core import errors
from qp_core.errors import (
    CacheError,
    CircularDependency,
    CircularDependencyError,
    ContextError,
    DuplicateUnitError,
    ExecutionError,
    GraphError,
    MissingDependencyError,
    MissingExtraError,
    PluginConflictError,
    PluginError,
    QuantumPartitionerError,
    SettingsError,
    TaskError,
    UncacheableError,
    UndeclaredDependencyError,
    UnitError,
    UnitFailedError,
    UnitTimeoutError,
    UnknownNameError,
    WorkerLostError,
    missing_dependency,
    name_list,
    nearest,
    shown,
)
from qp_core.vocabulary import UnitState

BROKEN = ValueError("broken")

TABLE = [
    (QuantumPartitionerError("something; do this"), "something; do this"),
    (GraphError("unit 'a' is odd; mend it"), "unit 'a' is odd; mend it"),
    (DuplicateUnitError("load"), "unit 'load' is already there; give this one another name"),
    (
        MissingDependencyError("store", "laod", ("load", "lead")),
        "unit 'store' needs 'laod', which is not in the graph; did you mean 'load' or 'lead'?",
    ),
    (
        CircularDependency(("a", "b", "a")),
        "circular dependency of 2 units: 'a' -> 'b' -> 'a' (each needs the next); cut one of them",
    ),
    (CircularDependencyError(("a", "a")), "unit 'a' depends on itself; take the dependency away"),
    (
        UnknownNameError("strategy", "piority", ("fifo", "priority")),
        "there is no strategy named 'piority'; there are: 'fifo', 'priority'; did you mean 'priority'?",
    ),
    (ContextError("the context is None", "pass {} for an empty one"), "the context is None; pass {} for an empty one"),
    (
        UndeclaredDependencyError("store", "load"),
        "unit 'store' reads the result of 'load' without depending on it; add 'load' to its dependencies",
    ),
    (UnitError("load"), "something is wrong with unit 'load'"),
    (
        UnitFailedError("load", UnitState.FAILED, "ValueError: broken"),
        "unit 'load' has no result: it failed (ValueError: broken); see .report for what happened",
    ),
    (
        UnitTimeoutError("load", 2.5),
        "unit 'load' ran out of time (its timeout is 2.5 s); allow more time, or give the unit less to do",
    ),
    (
        WorkerLostError("load", "killed by SIGSEGV"),
        (
            "the worker that ran unit 'load' was lost: killed by SIGSEGV;"
            " look for a crash in native code, or for a kill because memory ran short"
        ),
    ),
    (
        TaskError({"load": BROKEN}, {"a": 1, "b": 2}, ["load"]),
        (
            "2 completed, failed: 'load' ('load' raised ValueError('broken'));"
            " .errors has every error, .partial_results what completed"
        ),
    ),
    (
        ExecutionError({}, {}, []),
        "0 completed, failed: none; .errors has every error, .partial_results what completed",
    ),
    (
        PluginError("mine", "Strategy.order", "answered 5; it must answer ids", "my-plugins"),
        "plugin 'mine' (from my-plugins), Strategy.order: answered 5; it must answer ids",
    ),
    (
        PluginConflictError("mine", "qp_caches", "'disk' is there already; block one of them"),
        "plugin 'mine', qp_caches: 'disk' is there already; block one of them",
    ),
    (CacheError("the folder is gone; make it"), "the folder is gone; make it"),
    (UncacheableError("a lock has no content; leave it out"), "a lock has no content; leave it out"),
    (SettingsError("QP_GRACE", "soon", "seconds above 0"), "setting QP_GRACE is 'soon'; expected seconds above 0"),
    (
        MissingExtraError("asking OpenAI", "openai"),
        "asking OpenAI needs an optional library; pip install 'quantum-partitioner[openai]'",
    ),
]
TABLE_IDS = [type(error).__name__ for error, _ in TABLE]


def subclasses(kind):
    """A class and all below it that the core defines."""
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from subclasses(below)


def test_the_table_has_every_class():
    """Found by walking the classes: a new one must join."""
    assert {type(error) for error, _ in TABLE} == {QuantumPartitionerError, *subclasses(QuantumPartitionerError)}


def test_every_exception_of_the_module_is_in_the_tree():
    """Nothing beside the one root."""
    defined = {
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, BaseException) and found.__module__ == errors.__name__
    }
    assert defined == {QuantumPartitionerError, *subclasses(QuantumPartitionerError)}


def test_the_tree_in_the_docstring_is_the_real_one():
    """Same classes, same order of nesting, same builtins in parentheses."""
    drawn, path = [], []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([│├└─ ]*)(\w+)(?: \((\w+)\))?(?: |$)", line)
        if found and found[2].endswith(("Error", "Dependency")):
            depth = len(found[1]) // 3
            path[depth:] = [found[2]]
            drawn.append((path[depth - 1] if depth else None, found[2], found[3]))
    real = []

    def walk(kind, above):
        builtin = next((base.__name__ for base in kind.__bases__[1:] if base.__module__ == "builtins"), None)
        real.append((above, kind.__name__, builtin))
        for below in kind.__subclasses__():
            if below.__module__ == errors.__name__:
                walk(below, kind.__name__)

    walk(QuantumPartitionerError, None)
    assert sorted(drawn, key=str) == sorted(real, key=str)


@pytest.mark.parametrize(("error", "text"), TABLE, ids=TABLE_IDS)
def test_every_class_words_itself(error, text):
    """What happened, to which name; then a semicolon and the next step."""
    assert str(error) == text
    assert ";" in text or type(error) is UnitError, "the base class of errors about units is never raised as it is"


@pytest.mark.parametrize(("error", "text"), TABLE, ids=TABLE_IDS)
def test_every_class_says_in_its_docstring_what_it_is(error, text):
    """In one sentence."""
    assert type(error).__doc__.startswith(tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    assert type(error).__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("error", "text"), TABLE, ids=TABLE_IDS)
def test_every_class_pickles_whole(error, text, protocol):
    """Words, fields, notes and attributes; with each protocol that a pool may speak."""
    error = copy.copy(error)
    error.add_note("in unit 'load'")
    error.seen = [1, 2]
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert str(back) == text
    assert back.__notes__ == ["in unit 'load'"]
    assert back.seen == [1, 2]
    fields = {name for name in vars(error) if not name.startswith("_")}
    for name in fields:
        assert repr(getattr(back, name)) == repr(getattr(error, name)), name
    assert repr(back.args) == repr(error.args)


@pytest.mark.parametrize(("error", "text"), TABLE, ids=TABLE_IDS)
def test_every_class_can_be_copied(error, text):
    """Deep too; a copy is another object."""
    for made in (copy.copy(error), copy.deepcopy(error)):
        assert type(made) is type(error)
        assert made is not error
        assert made != error, "errors are told apart by identity"
        assert str(made) == text


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (GraphError, ValueError),
        (UnknownNameError, ValueError),
        (ContextError, TypeError),
        (UndeclaredDependencyError, KeyError),
        (UnitFailedError, KeyError),
        (UnitTimeoutError, TimeoutError),
        (UncacheableError, TypeError),
        (SettingsError, ValueError),
        (MissingExtraError, ImportError),
    ],
    ids=lambda kind: kind.__name__,
)
def test_who_catches_the_builtin_catches_ours(kind, builtin):
    """Errors subclass what they resemble."""
    assert issubclass(kind, builtin)


# ---- words that depend on facts


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            MissingDependencyError("store", "zzz"),
            "unit 'store' needs 'zzz', which is not in the graph; add that unit, or take the dependency away",
        ),
        (
            MissingDependencyError("store", 5),
            "unit 'store' needs 5, which is no unit id; dependencies are ids (strings)",
        ),
        (
            MissingDependencyError("outputs", "laod", ("load",), argument=True),
            "outputs names 'laod', which is not in the graph; did you mean 'load'?",
        ),
        (
            MissingDependencyError("known", "zzz", argument=True),
            "known names 'zzz', which is not in the graph; add that unit, or take the name away",
        ),
        (
            MissingDependencyError("outputs", ["a"], argument=True),
            "outputs names ['a'], which is no unit id; outputs are ids (strings)",
        ),
        (
            CircularDependency((*(f"u{number}" for number in range(20)), "u0")),
            (
                "circular dependency of 20 units: 'u0' -> 'u1' -> 'u2' -> 'u3' -> 'u4' -> 'u5' -> … -> 'u19' -> 'u0'"
                " (each needs the next); cut one of them"
            ),
        ),
        (
            CircularDependency(("…", "b", "…")),
            "circular dependency of 2 units: '…' -> 'b' -> '…' (each needs the next); cut one of them",
        ),
        (UnknownNameError("cache", "zzz"), "there is no cache named 'zzz'; there are: none"),
        (UnknownNameError("executor", 5, ("async",)), "there is no executor named 5; there are: 'async'"),
        (
            UnitFailedError("c", UnitState.SKIPPED, "ValueError: broken", "a"),
            (
                "unit 'c' has no result: it was skipped because unit 'a' did not complete (ValueError: broken);"
                " see .report for what happened"
            ),
        ),
        (
            UnitFailedError("c", UnitState.CANCELED, "deadline"),
            "unit 'c' has no result: it was canceled (deadline); see .report for what happened",
        ),
        (
            UnitFailedError("c", UnitState.TIMEOUT, ""),
            "unit 'c' has no result: it ran out of time; see .report for what happened",
        ),
        (
            UnitTimeoutError("c", 60.0, abandoned=True, of="run's deadline"),
            (
                "unit 'c' ran out of time (its run's deadline is 60 s);"
                " it could not be stopped, so it was abandoned and may still be running"
            ),
        ),
    ],
    ids=[
        "missing, nothing near",
        "missing, no string",
        "missing in outputs",
        "missing in known",
        "no string in outputs",
        "long ring",
        "ring with a unit named like the gap",
        "unknown, nothing there",
        "unknown, no string",
        "skipped",
        "canceled",
        "timeout without reason",
        "abandoned",
    ],
)
def test_words_depend_on_the_facts(error, text):
    """A hint only where there is one, and never a wrong one."""
    assert str(error) == text


def test_a_key_error_is_not_worded_in_quotes():
    """KeyError's own `__str__` would show the repr of the text."""
    assert str(UndeclaredDependencyError("a", "b")).startswith("unit 'a'")
    assert str(UnitFailedError("a", UnitState.FAILED, "")).startswith("unit 'a'")


def test_missing_dependency_knows_the_nearest():
    """Of those that are there, as text or as facts."""
    error = missing_dependency("store", "laod", ["unload", "load", "x"])
    assert error.suggestions[0] == "load"
    assert (error.unit_id, error.dependency, error.argument) == ("store", "laod", False)
    assert missing_dependency("outputs", "laod", [], argument=True).argument


# ---- values in messages


class Unshowable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("two\nlines", r"'two\nlines'"),
        ("\u202eevil", r"'\u202eevil'"),
        ("\ud800", r"'\ud800'"),
        (None, "None"),
        (Unshowable(), "<Unshowable that cannot be shown>"),
        ("x" * 198, repr("x" * 198)),
        ("x" * 10_000, "'" + "x" * 99 + "…" + "x" * 99 + "' (10002 characters)"),
    ],
    ids=["short", "newline", "right to left", "surrogate", "none", "raises", "just fits", "long"],
)
def test_a_value_is_shown_in_bounds(value, text):
    """One line, visible, at most some 200 characters, whatever it is."""
    assert shown(value) == text


@pytest.mark.parametrize(
    "error",
    [
        DuplicateUnitError("x" * 10_000),
        MissingDependencyError("x" * 10_000, "y" * 10_000, ("z" * 10_000,)),
        MissingDependencyError("x", list(range(100_000))),
        CircularDependency([f"{number}" * 10_000 for number in range(9)]),
        UnknownNameError("mode", "x" * 10_000, ["y" * 10_000] * 100),
        UndeclaredDependencyError("x" * 10_000, "y" * 10_000),
        UnitFailedError("x" * 10_000, UnitState.SKIPPED, "why", "y" * 10_000),
        UnitTimeoutError("x" * 10_000, 1.0),
        WorkerLostError("x" * 10_000, "why"),
        TaskError({"x" * 10_000: ValueError("y" * 10_000)}, {}, ["x" * 10_000]),
        SettingsError("QP_GRACE", "x" * 10_000, "less"),
    ],
    ids=[
        "duplicate",
        "missing",
        "no string",
        "ring",
        "unknown",
        "undeclared",
        "failed",
        "timeout",
        "lost",
        "tasks",
        "setting",
    ],
)
def test_no_message_is_longer_than_a_page(error):
    """The attributes hold everything; ids may have 10,000 characters."""
    assert len(str(error)) < 3_000


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], "none"),
        (["a"], "'a'"),
        (iter("ab"), "'a', 'b'"),
        (list("abcdefgh"), "'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'"),
        (list("abcdefghi"), "'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h' and 1 more"),
    ],
    ids=["none", "one", "iterator", "eight", "nine"],
)
def test_a_list_of_names_ends(names, text):
    """Eight, then how many more."""
    assert name_list(names) == text


# ---- the nearest names


@pytest.mark.parametrize(
    ("wrong", "known", "near"),
    [
        ("laod", ["load", "store"], ["load"]),
        ("load", ["unit_1"], []),
        ("", ["a"], []),
        (5, ["5"], []),
        (None, ["None"], []),
        ("load_data", ["load_date_2", "x"], ["load_date_2"]),
        ("a", [], []),
    ],
    ids=["swapped", "nothing near", "empty", "number", "none", "longer", "nothing there"],
)
def test_the_nearest_names(wrong, known, near):
    """What somebody may have meant, else nothing."""
    assert nearest(wrong, known) == near


def test_at_most_three_names_the_best_first():
    """The name with one letter too many comes before those with two."""
    found = nearest("extract", ["extractor", "extracts", "extracted", "extracting"])
    assert len(found) == 3
    assert found[0] == "extracts"


def test_the_nearest_of_many_long_names_is_found_with_few_comparisons(monkeypatch):
    """Of 2,000 names of 130 characters: to compare each of 10,000 letter by letter took half a minute."""

    def name(number, verb="load"):
        return "warehouse/europe/" * 4 + f"{verb}/table_{number:05}" + "/partition" * 4

    compared = set()

    class Counting(difflib.SequenceMatcher):
        def ratio(self):
            compared.add(self.b)
            return super().ratio()

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    assert nearest(name(3, "laod"), [name(number) for number in range(2_000)])[0] == name(3)
    assert len(compared) <= 100


def test_no_more_than_ten_thousand_names_are_looked_at():
    """The names may come from a graph of a million units."""
    taken = []

    def names():
        while True:
            taken.append(None)
            yield f"{len(taken)}"

    nearest("load", names())
    assert len(taken) <= 10_001
