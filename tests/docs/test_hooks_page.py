"""docs/hooks.md: every example plugin, installed as a distribution of its own, does in a real process what the page says.

The hooks: qp_commands, qp_executors, qp_strategies, qp_caches, qp_observers, qp_choose_strategy, qp_run_started, qp_cache_key,
qp_unit_started, qp_unit_retrying, qp_fallback, qp_unit_finished, qp_run_finished.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
CHAPTERS = dict(re.findall(r"^## (qp_\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENTRY_POINT = re.compile(r'# (\w+)\.py; entry point ("[\w.]+") = "(\w+)"\n')
WORK = FENCE.search(PAGE)[2]


def install(folder, code):
    """Write a plugin's module and the metadata of a distribution that has it, as pip would leave them."""
    module, name, target = ENTRY_POINT.match(code).groups()
    assert module == target
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"qp_example_{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: qp-example-{module}\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(f"[quantum_partitioner]\n{name[1:-1]} = {target}\n", encoding="utf-8")


def python(folder, *arguments):
    """Run Python where the plugin is installed; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("hook", CHAPTERS)
def test_the_example_of_a_hook_does_what_the_page_says(hook, tmp_path):
    """Signature, plugin, use, output: the plugin implements the hook of its chapter, is found by its entry point, and prints that."""
    (tmp_path / "work.py").write_text(WORK, encoding="utf-8")
    kinds, fences = zip(*FENCE.findall(CHAPTERS[hook]), strict=True)
    assert f"@hookimpl\ndef {hook}(" in fences[1]
    install(tmp_path, fences[1])
    if kinds == ("python", "python", "console"):
        command, output = re.fullmatch(r"\$ \S+/qp (.*)\n((?s:.*))", fences[2]).groups()
        assert (
            python(tmp_path, "-c", "import sys; from qp_plugins.cli import main; sys.exit(main())", *command.split())
            == output
        )
    else:
        assert kinds == ("python", "python", "python", "text")
        (tmp_path / "use.py").write_text(fences[2], encoding="utf-8")
        assert python(tmp_path, "use.py") == fences[3]
