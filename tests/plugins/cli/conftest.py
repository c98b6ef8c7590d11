"""What the tests of the command share: a folder with modules of one's own, and `qp` in this process and in others."""

import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import attrs
import pytest

from qp_plugins.cli import main

_numbers = itertools.count()

FLOWS = """
from qp_core import QuantumPartitioner


def good():
    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(lambda ctx: ctx.get("n", 1), name="first")
    partitioner.add_unit(lambda ctx: ctx["first"] + 1, ["first"], "second")
    return partitioner


def bad():
    partitioner = good()
    partitioner.add_unit(lambda ctx: 1 / 0, ["second"], "boom")
    partitioner.add_unit(lambda ctx: 1, ["boom"], "after")
    return partitioner


def empty():
    return QuantumPartitioner()


def ring():
    partitioner = QuantumPartitioner()
    partitioner.add_unit(len, ["b"], "a")
    partitioner.add_unit(len, ["a"], "b")
    return partitioner
"""


@attrs.frozen
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: a folder of one's own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def module(folder):
    """Writes a module into the current directory and returns its name, which no other test uses."""

    def written(source, name=None):
        name = name or f"flows_{next(_numbers)}"
        (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        return name

    return written


@pytest.fixture
def flows(module):
    """The name of a module with a few partitioners."""
    return module(FLOWS)


@pytest.fixture
def qp(folder, capsys, monkeypatch):
    """Runs `qp` in this process: `qp("plan", "module:function")`; what argparse ends is an exit code too."""
    monkeypatch.setenv("COLUMNS", "80")  # where argparse breaks lines

    def run(*arguments):
        try:
            code = main([*map(str, arguments)])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Said(code, captured.out, captured.err)

    return run


def _environment():
    """That of this process, but with output buffered as it is by default: errors in writing show late then."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def shell(folder, script):
    """Runs `qp`, the installed script, through a shell: `shell("{qp} plan x:y >&-")`."""
    if os.name == "nt":
        pytest.skip("there is no shell to run it in")

    def run(line, **environment):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line.format(qp=script)}"],  # noqa: S607 - whichever bash there is
            capture_output=True,
            text=True,
            cwd=folder,
            env={**_environment(), **environment},
            timeout=100,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def no_reader(folder):
    """Runs a command whose output goes into a pipe that nobody reads any more; its errors too, if `errors`."""

    def run(*command, errors=False):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer if errors else subprocess.PIPE,
                text=True,
                cwd=folder,
                env=_environment(),
                timeout=100,
                check=False,
            )
        finally:
            os.close(writer)
        return Said(done.returncode, "", done.stderr or "")

    return run


@pytest.fixture
def script():
    """The installed `qp`."""
    path = Path(sys.executable).with_name("qp")
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return str(path)
