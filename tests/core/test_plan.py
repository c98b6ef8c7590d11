"""Plans: both shapes of the seed, what they refuse, and drawings that no id can break out of."""

import copy
import functools
import gc
import html
import json
import operator
import os
import pickle
import re
import subprocess
import sys

import attrs
import pytest

from qp_core.errors import (
    CircularDependency,
    CircularDependencyError,
    GraphError,
    MissingDependencyError,
)
from qp_core.partitioner import QuantumPartitioner
from qp_core.plan import PLAN_SCHEMA, ExecutionPlan, function_name
from qp_core.taskmap import build_graph
from qp_core.unit import QuantumUnit
from tests.core.engine import Loud, steps_of

ODD = {
    "spaces": "  two  words  ",
    "double quotes": 'say "hi"',
    "single quotes": "it's",
    "newlines": "one\ntwo\r\nthree",
    "emoji": "🚀👩‍🚀",
    "brackets": "a]b[c}d{e)f(",
    "a quote and a bracket": '"]',
    "backslash": "\\",
    "backslashes and letters": "C:\\new\\N\\G\\l\\",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "10,000 characters": "x" * 10_000,
    "a DOT edge": '"]; evil -> n0; x [label="',
    "a Mermaid edge": '"] --> n0; click n0 "javascript:alert(1)"; n9["',
    "HTML": "<b>&amp;&lt;</b>&#65;<script>",
    "control characters": "a\0b\x1b[31m\x07",
    "a lone surrogate": "\ud800",
    "line separators": "a\u2028b\x85c\x0bd",
    "Markdown": "1. **a** `b` __init__ [x](http://y)",
    "comments": "%% a // b /* c */ # d",
    "a Mermaid style": "style a:#b;",
    "a Mermaid word": "end",
    "a format": "{0} %s ${HOME} #9829;",
    "a number": "0",
    "None": "None",
    "one space": " ",
    "combining": "e\u0301 中文",
}


def work(context):
    """Nothing much."""
    return 1


def partitioner_of(needs):
    """A partitioner of units that do nothing much.

    Returns:
        It.
    """
    partitioner = QuantumPartitioner()
    for name, dependencies in needs.items():
        partitioner.add_unit(work, dependencies, name)
    return partitioner


def plan_of(needs):
    """A plan of units that do nothing much.

    Returns:
        It.
    """
    return partitioner_of(needs).build_execution_plan()


# load ──> clean ──> store
#    └──> check ────┘        log
PIPELINE = {"load": [], "clean": ["load"], "check": ["load"], "store": ["clean", "check"], "log": []}


# ---- the two shapes of the seed


def test_the_seeds_first_shape():
    """`units`, `execution_order`, `max_level`, `unit_count`, `max_parallel_units`."""
    partitioner = partitioner_of(PIPELINE)
    plan = partitioner.build_execution_plan()
    assert plan.units == partitioner.units
    assert list(plan.units) == list(PIPELINE)
    assert plan.execution_order == [["load", "log"], ["clean", "check"], ["store"]]
    assert plan.max_level == 3
    assert plan.unit_count == len(plan) == 5
    assert plan.max_parallel_units == 2


def test_the_seeds_second_shape():
    """`units`, `levels`, `dependencies`, `dependents`, `critical_path`, `visualize()`."""
    plan = plan_of(PIPELINE)
    assert plan.levels == plan.execution_order
    assert plan.dependencies == {name: set(needs) for name, needs in PIPELINE.items()}
    assert plan.dependents == {
        "load": {"clean", "check"},
        "clean": {"store"},
        "check": {"store"},
        "store": set(),
        "log": set(),
    }
    assert plan.critical_path == ["load", "clean", "store"]
    assert plan.visualize() == (
        "digraph plan {\n"
        "  rankdir=LR;\n"
        "  node [shape=box, style=rounded];\n"
        '  n0 [label="load"];\n'
        '  n1 [label="clean"];\n'
        '  n2 [label="check"];\n'
        '  n3 [label="store"];\n'
        '  n4 [label="log"];\n'
        "  n0 -> n1;\n"
        "  n0 -> n2;\n"
        "  n1 -> n3;\n"
        "  n2 -> n3;\n"
        "}\n"
    )


def test_mermaid():
    """A flowchart with the same nodes and edges."""
    assert plan_of({"load_data": [], "store it": ["load_data"]}).to_mermaid() == (
        'flowchart LR\n  n0["load_data"]\n  n1["store it"]\n  n0 --> n1\n'
    )


def test_the_empty_plan():
    """Everything is there, and empty."""
    plan = plan_of({})
    assert (plan.units, plan.levels, plan.dependencies, plan.dependents, plan.critical_path) == ({}, [], {}, {}, [])
    assert (plan.unit_count, plan.max_level, plan.max_parallel_units) == (0, 0, 0)
    assert plan.visualize() == "digraph plan {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n}\n"
    assert plan.to_mermaid() == "flowchart LR\n"
    assert plan.to_data() == {"schema": PLAN_SCHEMA, "units": []}


def test_a_plan_shows_its_size():
    """Not a page of units."""
    assert repr(plan_of(PIPELINE)) == "<ExecutionPlan of 5 units, 3 levels>"


def test_the_critical_path_is_weighed_by_expected_durations():
    """The slow branch, though both are as long; `longest_chain` takes other weights."""
    partitioner = partitioner_of(PIPELINE)
    partitioner.units["check"].metadata["expected_duration"] = 5
    plan = partitioner.build_execution_plan()
    assert plan.critical_path == ["load", "check", "store"]
    assert plan.longest_chain([1, 1, 1, 1, 9]) == ["log"]


def test_a_dependency_may_be_added_later():
    """The order of adding is the plan's order, and not the order of running."""
    plan = plan_of({"store": ["load"], "load": []})
    assert plan.levels == [["load"], ["store"]]
    assert list(plan.units) == ["store", "load"]
    assert [plan.nodes[number].id for number in plan.order] == ["load", "store"]


def test_a_dependency_named_twice_is_one():
    """One edge in every picture; the unit runs once."""
    partitioner = partitioner_of({"a": [], "b": ["a", "a"]})
    plan = partitioner.build_execution_plan()
    assert plan.dependencies["b"] == {"a"}
    assert plan.visualize().count("->") == plan.to_mermaid().count("-->") == 1
    assert partitioner.execute({}, "sequential") == {"a": 1, "b": 1}


# ---- what a plan is, it stays


def test_a_plan_does_not_change():
    """Neither by assigning, nor with the partitioner, nor through what it hands out."""
    partitioner = partitioner_of(PIPELINE)
    plan = partitioner.build_execution_plan()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        plan.nodes = ()
    partitioner.add_unit(work, name="later")
    plan.units.clear()
    assert plan.unit_count == 5
    assert list(plan.units) == list(PIPELINE)


def test_a_plan_is_kept_until_units_change():
    """Building is asked for by every execution; adding, removing or replacing a unit makes it anew."""
    partitioner = partitioner_of({"a": [], "b": []})
    plan = partitioner._current_plan()
    assert partitioner._current_plan() is plan

    partitioner.units["a"] = QuantumUnit("a", lambda ctx: "new")
    assert partitioner.execute({}, "sequential") == {"a": "new", "b": 1}
    partitioner.add_unit(work, name="c")
    assert list(partitioner.execute({}, "sequential")) == ["a", "b", "c"]
    del partitioner.units["b"]
    partitioner.units["d"] = QuantumUnit("d", work, ["c"])
    assert list(partitioner.execute({}, "sequential")) == ["a", "c", "d"]


def test_dependencies_that_are_changed_in_place_count_from_the_next_plan_on():
    """The plan that was made shows what it was made of, in every view."""
    partitioner = partitioner_of({"a": [], "b": []})
    plan = partitioner.build_execution_plan()
    partitioner.units["a"].dependencies.append("b")
    assert plan.dependencies == {"a": set(), "b": set()}
    assert [unit["dependencies"] for unit in plan.to_data()["units"]] == [[], []]
    assert partitioner.build_execution_plan().levels == [["b"], ["a"]]
    assert partitioner.execute({}, "sequential").report.units["a"].dependencies == ("b",)


def test_a_plan_of_module_level_functions_survives_pickle():
    """And a deep copy; views that were looked at already are right there too."""
    plan = plan_of(PIPELINE)
    assert plan.levels
    for made in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert made.levels == plan.levels
        assert made.dependents == plan.dependents
        assert made.visualize() == plan.visualize()


def test_levels_stand_in_the_order_added():
    """Not in the order of a set."""
    names = [f"unit {number * 7 % 50}" for number in range(50)]
    assert plan_of(dict.fromkeys(names, ())).levels == [names]


PROGRAM = """
from qp_core import QuantumPartitioner
partitioner = QuantumPartitioner()
names = {f"part {number}" for number in range(30)}
for name in sorted(names):
    partitioner.add_unit(str, name=name)
partitioner.add_unit(str, names, "all")
partitioner.add_unit(str, frozenset(["all", *names]), "more")
plan = partitioner.build_execution_plan()
print(plan.visualize(), plan.to_mermaid(), plan.levels, plan.critical_path, plan.to_data(), plan.needs)
"""


@pytest.mark.slow
def test_a_plan_is_the_same_in_every_process():
    """Whatever the seed of string hashes, and though dependencies were given as sets."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert "part 29" in outputs.pop()


# ---- what it refuses


def test_a_missing_dependency_names_the_unit_and_the_nearest():
    """Before anything runs."""
    with pytest.raises(MissingDependencyError) as raised:
        plan_of({"load": [], "store": ["laod"]})
    assert str(raised.value) == "unit 'store' needs 'laod', which is not in the graph; did you mean 'load'?"


@pytest.mark.parametrize("dependency", [5, None, ["load"], b"load", 1.5], ids=repr)
def test_a_dependency_that_is_no_string_is_named(dependency):
    """Also one that cannot be hashed."""
    with pytest.raises(MissingDependencyError, match=r"unit 'store' needs .*, which is no unit id"):
        plan_of({"load": [], "store": ["load", dependency]})


def test_a_unit_given_as_a_dependency_is_named():
    """Its id was meant."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(work, [partitioner.add_unit(work, name="load")], "store")
    with pytest.raises(MissingDependencyError, match=r"needs QuantumUnit\(id='load'.*, which is no unit id"):
        partitioner.build_execution_plan()


@pytest.mark.parametrize(
    ("needs", "path"),
    [
        ({"a": ["a"]}, ("a", "a")),
        ({"a": ["b"], "b": ["a"]}, ("a", "b", "a")),
        ({"x": [], "a": ["x", "c"], "b": ["a"], "c": ["b"], "d": ["c"]}, ("a", "c", "b", "a")),
    ],
    ids=["itself", "two", "three"],
)
def test_a_ring_is_named_with_its_path(needs, path):
    """Each needs the next."""
    with pytest.raises(CircularDependencyError) as raised:
        plan_of(needs)
    assert raised.value.path == path


def test_the_class_of_the_error_for_a_ring_may_be_chosen():
    """The TaskMap layer's name is the one above the partitioner's."""
    units = {"a": QuantumUnit("a", work, ["a"])}
    with pytest.raises(CircularDependency) as raised:
        ExecutionPlan.of(units, CircularDependency)
    assert type(raised.value) is CircularDependency


def test_a_unit_under_a_foreign_id_is_named():
    """A dict edited by hand."""
    partitioner = partitioner_of({"a": []})
    partitioner.units["b"] = QuantumUnit("c", work)
    with pytest.raises(GraphError, match="unit 'c' stands under the id 'b'; use its own id as the key"):
        partitioner.execute({})
    del partitioner.units["b"]
    partitioner.units["a"].id = "z"
    with pytest.raises(GraphError, match="unit 'z' stands under the id 'a'"):
        partitioner.build_execution_plan()


@pytest.mark.parametrize("other", [5, None, work, (work, ["a"])], ids=["number", "none", "function", "pair"])
def test_what_is_no_unit_is_named(other):
    """A dict edited by hand."""
    partitioner = partitioner_of({"a": []})
    partitioner.units["b"] = other
    with pytest.raises(GraphError, match=r"under the id 'b' stands .*, which is no QuantumUnit; use add_unit"):
        partitioner.execute({})
    del partitioner.units["b"]
    assert partitioner.execute({}, "sequential") == {"a": 1}


@pytest.mark.parametrize(
    ("assigned", "text"),
    [("xy", "dependencies is the string 'xy'"), (5, "dependencies is 5; give a list of ids")],
    ids=["string", "number"],
)
def test_dependencies_that_were_assigned_wrongly_are_named(assigned, text):
    """At once; the plan is made of those there were."""
    partitioner = partitioner_of({"a": [], "b": ["a"]})
    with pytest.raises(TypeError, match=text):
        partitioner.units["b"].dependencies = assigned
    assert partitioner.build_execution_plan().dependencies["b"] == {"a"}


# ---- a part of a plan


def test_a_restricted_plan_is_what_the_outputs_need():
    """With the same units, in the same order."""
    plan = plan_of(PIPELINE)
    part = plan.restricted_to(["check"])
    assert list(part.units) == ["load", "check"]
    assert part.units["check"] is plan.units["check"]
    assert plan.restricted_to([]).unit_count == 0
    assert list(plan.restricted_to(["store", "log"]).units) == list(PIPELINE)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("laod", "outputs names 'laod', which is not in the graph; did you mean 'load'?"),
        (5, "outputs names 5, which is no unit id; outputs are ids (strings)"),
        (["load"], "outputs names ['load'], which is no unit id; outputs are ids (strings)"),
    ],
    ids=["misspelt", "number", "list"],
)
def test_an_output_that_is_no_unit_is_named(output, text):
    """With the nearest that is."""
    with pytest.raises(MissingDependencyError) as raised:
        plan_of(PIPELINE).restricted_to(["store", output])
    assert str(raised.value) == text


# ---- as data


def test_a_plan_as_data_survives_json():
    """It says all that the shape needs: another process can draw it."""
    partitioner = partitioner_of(PIPELINE)
    partitioner.add_unit(work, ["log"], 'odd "id"\n\u202e', 2.5, 3, priority=-1)
    plan = partitioner.build_execution_plan()
    data = json.loads(json.dumps(plan.to_data()))
    assert data == plan.to_data()
    assert data["schema"] == PLAN_SCHEMA
    assert data["units"][-1] == {
        "id": 'odd "id"\n\u202e',
        "function": f"{__name__}:work",
        "dependencies": ["log"],
        "timeout": 2.5,
        "retries": 3,
        "priority": -1,
    }
    back = build_graph({unit["id"]: unit["dependencies"] for unit in data["units"]})
    assert back.levels == plan.levels
    assert back.visualize() == plan.visualize()


class Called:
    def __call__(self, context):
        """Nothing."""

    def method(self, context):
        """Nothing."""


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (work, f"{__name__}:work"),
        (functools.partial(work), f"{__name__}:work"),
        (functools.partial(functools.partial(work, 1), 2), f"{__name__}:work"),
        (functools.cache(work), f"{__name__}:work"),
        (Called(), f"{__name__}:Called"),
        (Called().method, f"{__name__}:Called.method"),
        (Called, f"{__name__}:Called"),
        (lambda ctx: 1, f"{__name__}:<lambda>"),
        (len, "builtins:len"),
        (operator.itemgetter("a"), "operator:itemgetter"),
        ([].append, "list.append"),
        (str.upper, "str.upper"),
        ((5).__add__, "int.__add__"),
    ],
    ids=[
        "function",
        "partial",
        "partial of a partial",
        "cached",
        "instance",
        "bound method",
        "class",
        "lambda",
        "builtin",
        "getter",
        "method of a builtin",
        "unbound method of a builtin",
        "operator of a builtin",
    ],
)
def test_where_a_function_is_from(function, name):
    """Whatever can be called has a name for people."""
    assert function_name(function) == name


# ---- drawings


TOKEN = re.compile(r'\s*(?:(?P<word>[A-Za-z_]\w*)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>->|[\[\]{};=,]))', re.DOTALL)


def dot_tokens(text):
    """Strictly what DOT's grammar knows of identifiers, quoted strings and marks; anything else is an error."""
    place = 0
    while text[place:].strip():
        found = TOKEN.match(text, place)
        assert found, f"no token of DOT at {text[place : place + 40]!r}"
        yield found.lastgroup, found[found.lastgroup]
        place = found.end()


def parse_dot(text):
    """Read a drawing: the nodes' labels by name, and the edges.

    Returns:
        A dict and a list.
    """
    tokens = list(dot_tokens(text))
    kinds, values = [kind for kind, _ in tokens], [value for _, value in tokens]
    assert values[:3] == ["digraph", "plan", "{"]
    assert values[-1] == "}"
    assert not {"{", "}"}.intersection(values[3:-1]), "no subgraphs"
    nodes, edges, statement = {}, [], []
    for kind, value in zip(kinds[3:-1], values[3:-1], strict=True):
        if (kind, value) != ("mark", ";"):
            statement.append((kind, value))
            continue
        words = [one for _, one in statement]
        if words[1:2] == ["->"]:
            assert len(words) == 3
            edges.append((words[0], words[2]))
        elif words[1:4] == ["[", "label", "="]:
            assert len(words) == 6
            assert statement[4][0] == "text"
            assert words[5] == "]"
            assert words[0] not in nodes
            nodes[words[0]] = words[4]
        else:
            assert words in (
                ["rankdir", "=", "LR"],
                ["node", "[", "shape", "=", "box", ",", "style", "=", "rounded", "]"],
            )
        statement = []
    assert not statement
    return nodes, edges


def dot_label(quoted):
    """What GraphViz draws for a quoted label: the lexer's escape first, then those of labels and the entities."""
    text = quoted[1:-1].replace('\\"', '"')
    known = {"\\\\": "\\", "\\n": "\n"}
    assert all(found in known for found in re.findall(r"\\.?", text, re.DOTALL)), "an escape that means something else"
    return html.unescape(re.sub(r"\\.", lambda found: known[found[0]], text))


def visible(text):
    """An id as it is drawn: what cannot be seen as its code."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\u{{{ord(char):x}}}" for char in text)


@pytest.fixture(scope="module")
def odd_plan():
    """All odd ids in one chain."""
    names = list(ODD.values())
    return plan_of({name: names[max(0, place - 1) : place] for place, name in enumerate(names)})


def test_odd_ids_are_a_plan_like_any_other(odd_plan):
    """A level each, under their own names."""
    names = list(ODD.values())
    assert odd_plan.levels == [[name] for name in names]
    assert odd_plan.critical_path == names
    assert list(odd_plan.dependencies) == names
    assert json.loads(json.dumps(odd_plan.to_data()))["units"][-1]["dependencies"] == [names[-2]]


def test_odd_ids_inject_nothing_into_dot(odd_plan):
    """Exactly one node a unit, whose label is its id, and one edge a dependency; nothing else, line by line too."""
    text = odd_plan.visualize()
    nodes, edges = parse_dot(text)
    assert list(nodes) == [f"n{place}" for place in range(len(ODD))]
    assert edges == [(f"n{place}", f"n{place + 1}") for place in range(len(ODD) - 1)]
    assert [dot_label(label) for label in nodes.values()] == [visible(name) for name in ODD.values()]
    assert len(text.splitlines()) == 3 + len(ODD) + len(ODD) - 1 + 1
    text.encode("utf-8")


MERMAID_NODE = re.compile(r'  (n\d+)\["((?:[^\W_]|[ _-]|#\d+;)*)"\]')
MERMAID_EDGE = re.compile(r"  (n\d+) --> (n\d+)")


def test_odd_ids_inject_nothing_into_mermaid(odd_plan):
    """Exactly one node a unit, whose label is its id in letters and character codes, and one edge a dependency."""
    first, *lines = odd_plan.to_mermaid().splitlines()
    assert first == "flowchart LR"
    assert len(lines) == 2 * len(ODD) - 1
    nodes = [MERMAID_NODE.fullmatch(line) for line in lines[: len(ODD)]]
    edges = [MERMAID_EDGE.fullmatch(line) for line in lines[len(ODD) :]]
    assert all(nodes)
    assert all(edges)
    assert [found[1] for found in nodes] == [f"n{place}" for place in range(len(ODD))]
    assert [found.groups() for found in edges] == [(f"n{place}", f"n{place + 1}") for place in range(len(ODD) - 1)]
    shown = [re.sub(r"#(\d+);", lambda code: chr(int(code[1])), found[2]) for found in nodes]
    assert shown == list(ODD.values())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("unit_0", "unit_0"),
        ("load-data 2", "load-data 2"),
        ("a  b", "a#32;#32;b"),
        ("__init__", "#95;#95;init#95;#95;"),
        ("- a", "#45;#32;a"),
        ("1. a", "1#46;#32;a"),
        ("a:#b;", "a#58;#35;b#59;"),
        ("`a`", "#96;a#96;"),
        ("http://a", "http#58;#47;#47;a"),
    ],
    ids=["number", "words", "two spaces", "emphasis", "list", "numbered list", "style", "code", "link"],
)
def test_mermaid_is_given_nothing_that_it_would_take_for_markdown(name, label):
    """Current versions read every label as Markdown, and look for styles in whole lines; plain names stay readable."""
    assert f'["{label}"]' in plan_of({name: []}).to_mermaid()


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_odd_ids_run_like_any_other(mode):
    """Each unit sees its own id, and the result of the one before under that one's id."""
    partitioner = QuantumPartitioner(max_workers=2)
    names = list(ODD.values())

    def chained(context):
        return [*(context[need] for need in context.unit_results), context.unit_id]

    for before, name in zip([None, *names], names, strict=False):
        partitioner.add_unit(chained, [] if before is None else [before], name)
    result = partitioner.execute({}, mode)
    assert list(result) == names
    assert result[names[0]] == [names[0]]
    assert result[names[2]] == [[[names[0]], names[1]], names[2]]
    assert json.loads(json.dumps(result.report.to_data()))["units"].keys() == set(names)


@pytest.mark.slow
def test_odd_ids_run_in_processes():
    """They travel, as does the name in an error."""
    partitioner = QuantumPartitioner(max_workers=2)
    for name in ODD.values():
        partitioner.add_unit(operator.attrgetter("unit_id"), name=name)
    assert partitioner.execute({}, "process") == {name: name for name in ODD.values()}


# ---- automatic ids


def test_automatic_ids_skip_taken_ones():
    """Whether they were taken before or in between."""
    partitioner = QuantumPartitioner()
    taken = ["unit_0", "unit_2", "unit_3", "unit_7"]
    for name in taken:
        partitioner.add_unit(work, name=name)
    added = [partitioner.add_unit(work).id for _ in range(5)]
    assert len({*taken, *added}) == 9
    assert list(partitioner.units) == [*taken, *added]
    assert all(re.fullmatch(r"unit_\d+", name) for name in added)
    assert QuantumPartitioner().add_unit(work).id == "unit_0"


def test_automatic_ids_are_the_seeds_where_nothing_is_in_the_way():
    """`unit_<number of units>`."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(work, name="load")
    assert [partitioner.add_unit(work).id for _ in range(3)] == ["unit_1", "unit_2", "unit_3"]


def test_an_automatic_id_is_free_also_after_units_were_taken_out():
    """A dict edited by hand."""
    partitioner = QuantumPartitioner()
    for _ in range(4):
        partitioner.add_unit(work)
    del partitioner.units["unit_1"]
    before = set(partitioner.units)
    assert partitioner.add_unit(work).id not in before


def test_dependencies_may_add_units_themselves():
    """A generator that adds what it lists: the partitioner is not locked meanwhile, and ids stay unique."""
    partitioner = QuantumPartitioner()
    last = partitioner.add_unit(work, (partitioner.add_unit(work).id for _ in range(3)))
    assert len(partitioner.units) == 4
    assert sorted(last.dependencies) == sorted(set(partitioner.units) - {last.id})
    named = partitioner.add_unit(work, (partitioner.add_unit(work, name=name).id for name in "ab"), "all")
    assert named.dependencies == ["a", "b"]


# ---- size


def chain(n):
    """Each needs the one before it."""
    return (([Loud(f"u{number - 1}")] if number else [], Loud(f"u{number}")) for number in range(n))


def backwards(n):
    """Each needs one that is added later, so that the plan has to sort."""
    return (([Loud(f"u{number + 1}")] if number < n - 1 else [], Loud(f"u{number}")) for number in range(n))


def joined(n):
    """One needs all others."""
    return (
        ([Loud(f"u{need}") for need in range(n)] if number == n else [], Loud(f"u{number}")) for number in range(n + 1)
    )


def unnamed(n):
    """Names that look automatic stand in the way of half of the automatic ones."""
    return (([], Loud(f"unit_{n // 2 + number}") if number < n // 2 else None) for number in range(n))


def cost(units, n):
    """The work of adding n units and planning them."""
    listed = list(units(n))

    def add_and_plan():
        partitioner = QuantumPartitioner()
        for dependencies, name in listed:
            partitioner.add_unit(work, dependencies, name)
        plan = partitioner.build_execution_plan()
        assert plan.max_level >= 1
        assert plan.critical_path
        assert plan.max_parallel_units >= 1

    return steps_of(add_and_plan)


@pytest.mark.slow
@pytest.mark.parametrize("units", [chain, backwards, joined, unnamed], ids=lambda units: units.__name__)
def test_adding_and_planning_are_not_quadratic(units):
    """Ten times the units, ten times the work: counted, not timed."""
    assert 0 < cost(units, 5_000) <= 11 * cost(units, 500)


@pytest.mark.slow
def test_nothing_is_copied_for_each_unit_that_is_added():
    """200,000 units are added at once; were all that there are copied for each, the test would run out of its time."""
    partitioner = QuantumPartitioner()
    gc.disable()  # as below
    try:
        for dependencies, name in chain(200_000):
            partitioner.add_unit(work, dependencies, name)
        assert partitioner.build_execution_plan().unit_count == 200_000
    finally:
        gc.enable()


@pytest.mark.slow
def test_a_chain_of_a_million_units_plans():
    """Without recursion; backwards, so that it has to be sorted."""
    n = 1_000_000
    gc.disable()  # nothing here is garbage, and looking for it in a million new objects takes as long as all the rest
    try:
        units = {}
        for needs, name in backwards(n):
            units[name] = QuantumUnit(name, work, needs)
        plan = ExecutionPlan.of(units)
        assert plan.unit_count == plan.max_level == n
        assert plan.max_parallel_units == 1
        assert plan.order[0] == n - 1
    finally:
        gc.enable()
