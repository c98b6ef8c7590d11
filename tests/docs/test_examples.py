"""Every program under docs/examples runs, and prints what docs/examples.md says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = sorted(path.stem for path in (DOCS / "examples").glob("*.py"))
SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall((DOCS / "examples.md").read_text(encoding="utf-8")))


def takes_a_mode(program: str) -> bool:
    """Whether the program's `main` has an argument `mode`."""
    tree = ast.parse((DOCS / "examples" / f"{program}.py").read_text(encoding="utf-8"))
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    return [argument.arg for argument in main.args.args] == ["mode"]


def run(program: str, *arguments: str, folder: Path) -> str:
    """Run a program as a user does, from another folder, with every warning an error; what it prints."""
    command = [sys.executable, "-W", "error", DOCS / "examples" / f"{program}.py", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def settled(text: str) -> str:
    """The text without what differs from run to run (seconds, ratios) or from one Python to the next (counts in parentheses)."""
    text = re.sub(r"\d+\.\d+(?= ?s\b|x\b)", "0.0", text)
    return re.sub(r"\(\d+\)", "(0)", text)


def test_every_example_is_listed_on_its_page():
    """docs/examples.md has a section for each program, which links to it and shows its output; and no other section."""
    assert sorted(SECTIONS) == PROGRAMS
    for program, section in SECTIONS.items():
        assert f"](examples/{program}.py)" in section
        assert len(OUTPUT.findall(section)) == 1, program


def test_every_example_has_a_main_and_says_what_it_shows():
    """A program is importable without doing anything: it defines `main`, calls it only when run, and begins with a docstring."""
    for program in PROGRAMS:
        tree = ast.parse((DOCS / "examples" / f"{program}.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), program
        assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    main(*sys.argv[1:])", program


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_prints_what_its_page_says(program, tmp_path):
    """Run in a process of its own; compared but for what must differ; and it leaves nothing behind."""
    (expected,) = OUTPUT.findall(SECTIONS[program])
    assert settled(run(program, folder=tmp_path)) == settled(expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["process", "async"])
@pytest.mark.parametrize("program", [program for program in PROGRAMS if takes_a_mode(program)])
def test_an_example_prints_the_same_in_every_mode(program, mode, tmp_path):
    """What the page shows are threads; where a unit runs changes no result."""
    (expected,) = OUTPUT.findall(SECTIONS[program])
    expected = re.sub(r"([Mm]ode:? )thread", rf"\1{mode}", settled(expected))
    assert settled(run(program, mode, folder=tmp_path)) == expected
