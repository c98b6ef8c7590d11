"""docs/command.md is one session in an empty folder: every command is run, and prints what the page shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "command.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
HOME = "/srv"


def settled(text):
    """The text without what differs from run to run and machine to machine: times, ratios, numbers of workers.

    Of an ingestion also the number of units: a file that was written a moment ago is looked into once more.
    """
    text = re.sub(r"\d+\.\d+(?= m?s\b|\)|,|\n)", "0.0", text)
    text = re.sub(r"\d+%", "0%", text)
    return re.sub(r"(?:\d+ )?\((\w+), \d+ workers?", r"n (\1, n workers", text)


@pytest.mark.slow
def test_every_command_prints_what_the_page_shows(tmp_path_factory):
    """Modules are written into the folder, commands are given to a shell, where `qp` is that of this environment."""
    folder = tmp_path_factory.mktemp("qp")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "COLUMNS": "120", "PYTHONDONTWRITEBYTECODE": "1"}
    seen = 0
    for kind, text in FENCES:
        if kind == "python":
            (folder / re.match(r"# (\w+\.py)\n", text)[1]).write_text(text, encoding="utf-8")
            continue
        assert kind == "console"
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            done = subprocess.run(
                [shutil.which("bash"), "-c", command],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert settled(done.stdout.replace(str(folder), HOME)) == settled(expected), (command, done.stderr)
            seen += 1
    assert seen == PAGE.count("\n$ ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["plan", "no_such_module:make"], 2), (["ask", "anything"], 1), (["plan"], 2), (["--help"], 0)],
    ids=["no such module", "no index", "no argument", "help"],
)
def test_the_exit_codes_are_those_of_the_page(arguments, code, tmp_path):
    """0 done, 1 not done, 2 used wrongly."""
    qp = [sys.executable, "-c", "import sys; from qp_plugins.cli import main; sys.exit(main())"]
    done = subprocess.run([*qp, *arguments], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == code
