"""README.md: its example prints what it shows, and its commands are there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import qp_core
from qp_core import Plugins

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def fences(kind):
    """The contents of the fenced blocks of a kind."""
    return [text for found, text in FENCES if found == kind]


def test_the_example_prints_what_is_shown(tmp_path):
    """The one Python block, run as a program, against the one block of output."""
    (program,) = fences("python")
    (output,) = fences("text")
    (tmp_path / "example.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == output


def test_the_example_is_about_twenty_lines():
    """It can be read in one look."""
    (program,) = fences("python")
    assert sum(bool(line.strip()) for line in program.splitlines()) <= 20
    assert ast.parse(program)


def test_the_flow_names_modules_of_the_core():
    """Define, plan, order, run, report: each word stands for a module that is there."""
    (picture,) = fences("mermaid")
    assert re.findall(r"(\w+)\[\"\1<br>", picture) == ["define", "plan", "order", "run", "report"]
    modules = re.findall(r"<br>qp_core\.(\w+)", picture)
    assert len(modules) == 5
    assert all((Path(qp_core.__file__).parent / f"{module}.py").exists() for module in modules)


def test_the_commands_are_there():
    """Each `make` target and each `qp` command that the README names."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)|`make (\w+)`", README, re.MULTILINE)
    assert {first or second for first, second in targets} == {"run", "test", "docs", "bench", "lint"}
    for target in ("run", "test", "docs", "bench", "lint"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    commands = set(re.findall(r"^qp (\w+)", "".join(fences("sh")), re.MULTILINE))
    assert commands == {"ingest", "ask", "plan", "run"}
    assert commands <= set(Plugins.installed().provided("commands"))


def test_the_number_of_examples_is_right():
    """The README counts them in words."""
    words = "twelve thirteen fourteen fifteen sixteen seventeen eighteen".split()  # noqa: SIM905 - reads better than a list
    programs = list((ROOT / "docs" / "examples").glob("*.py"))
    assert f"{words[len(programs) - 12]} programs" in README
