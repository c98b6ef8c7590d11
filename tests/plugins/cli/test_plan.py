"""`qp plan`: text, DOT, Mermaid, JSON."""

import json

import pytest

ODD = """
from qp_core import QuantumPartitioner

IDS = ["sp ace", "new\\nline", 'quo"te', "\\x1b[31mred", "x" * 10_000, "🦆", "\\u202eRTL", "back\\\\slash", "]", "\\ud800", "a -> b"]

def make():
    partitioner = QuantumPartitioner()
    for unit_id in IDS:
        partitioner.add_unit(len, name=unit_id)
    return partitioner

def wide():
    partitioner = QuantumPartitioner()
    for number in range(1000):
        partitioner.add_unit(len, name=f"u{number}")
    return partitioner

def infinite():
    partitioner = QuantumPartitioner()
    partitioner.add_unit(len, name="a", timeout=float("inf"), priority=float("-inf"))
    return partitioner
"""


def test_a_plan_as_text_shows_levels_and_the_critical_path(qp, flows):
    """And runs nothing."""
    said = qp("plan", f"{flows}:bad")
    assert said.code == 0
    assert said.out == (
        "4 units in 4 levels, 1 at most in one\n"
        "level 0: first\nlevel 1: second\nlevel 2: boom\nlevel 3: after\n"
        "critical path: first -> second -> boom -> after\n"
    )
    assert said.err == ""


def test_the_empty_plan_has_no_path(qp, flows):
    """None is a word for it."""
    assert qp("plan", f"{flows}:empty").out == "0 units in 0 levels, 0 at most in one\ncritical path: none\n"


def test_one_is_no_plural(qp, module):
    """One unit in one level."""
    name = module(
        "from qp_core import QuantumPartitioner\ndef make():\n    p = QuantumPartitioner()\n    p.add_unit(len)\n    return p"
    )
    assert qp("plan", f"{name}:make").out.startswith("1 unit in 1 level, 1 at most in one\nlevel 0: unit_0\n")


def test_dot_mermaid_and_json_are_what_the_plan_itself_writes(qp, flows):
    """A line a unit and a line an edge; all of it on standard output."""
    assert '  n0 [label="first"];\n' in qp("plan", f"{flows}:good", "--dot").out
    assert qp("plan", f"{flows}:good", "--mermaid").out == 'flowchart LR\n  n0["first"]\n  n1["second"]\n  n0 --> n1\n'
    data = json.loads(qp("plan", f"{flows}:good", "--json").out)
    assert [(unit["id"], unit["dependencies"]) for unit in data["units"]] == [("first", []), ("second", ["first"])]


def test_a_graph_that_cannot_run_is_not_done(qp, flows):
    """The path is in the message."""
    said = qp("plan", f"{flows}:ring")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("qp plan: circular dependency of 2 units: 'a' -> 'b' -> 'a'")


def test_a_target_that_is_not_there_is_used_wrongly(qp):
    """2, not 1."""
    said = qp("plan", "no_such_module:make")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("qp plan: there is no module 'no_such_module'")


def test_odd_ids_stay_on_their_line_and_drive_no_terminal(qp, module):
    """Escaped and cut; a level with many units says how many more there are."""
    name = module(ODD)
    lines = qp("plan", f"{name}:make").out.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert lines[1] == (
        'level 0: sp ace, new\\nline, quo"te, \\x1b[31mred, ' + "x" * 59 + "…, 🦆, \\u202eRTL, back\\slash and 3 more"
    )
    wide = qp("plan", f"{name}:wide").out.splitlines()
    assert wide[1] == "level 0: u0, u1, u2, u3, u4, u5, u6, u7 and 992 more"


@pytest.mark.parametrize("form", ["--dot", "--mermaid", "--json"])
def test_odd_ids_stay_on_their_line_in_every_form(qp, module, form):
    """Eleven units, eleven lines that show one."""
    said = qp("plan", f"{module(ODD)}:make", form)
    assert said.code == 0
    assert all(line.isprintable() for line in said.out.splitlines())
    mark = {"--dot": "label=", "--mermaid": '["', "--json": '"id": '}[form]
    assert sum(line.count(mark) for line in said.out.splitlines()) == 11


def test_json_has_no_numbers_that_json_lacks(qp, module):
    """Infinity becomes text."""
    said = qp("plan", f"{module(ODD)}:infinite", "--json")
    (unit,) = json.loads(said.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["units"]
    assert (unit["timeout"], unit["priority"]) == ("inf", "-inf")
