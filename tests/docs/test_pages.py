"""What the pages under docs/ and README.md promise: every example is run, every link leads somewhere, what is quoted is as it is."""

import ast
import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qp_core
from qp_core import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLUGIN = DOCS / "examples" / "qp-shortest-first"

# Which test runs the fences that are no doctests.
RUN_ELSEWHERE = {"README.md": "test_readme", "hooks.md": "test_hooks_page", "command.md": "test_command_page"}


def text_of(page):
    """What a page says."""
    return page.read_text(encoding="utf-8")


def anchors_of(page):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_example_of_a_page_is_run(page):
    """Either it is a doctest (with a blank line before the end, or it would swallow the fence), or a test of its own runs it."""
    for kind, code in FENCE.findall(text_of(page)):
        if kind == "pycon":
            assert code.endswith("\n\n"), code
            assert doctest.DocTestParser().get_examples(code), code
        elif kind in {"python", "console"} and page.name != "plugins.md":
            module = Path(__file__).with_name(f"{RUN_ELSEWHERE[page.name]}.py")
            assert module.exists()
        else:
            assert ">>>" not in code, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    """To a page, a heading of one, or a file of this repository; addresses of the web are not tried."""
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{page.name}: {link}"


def test_every_page_is_in_the_table_of_contents():
    """index.md names each page once."""
    tables = re.findall(r"^```\{toctree\}\n(.*?)^```$", text_of(DOCS / "index.md"), re.MULTILINE | re.DOTALL)
    listed = [line for table in tables for line in table.splitlines() if line and not line.startswith(":")]
    assert sorted(listed) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


def test_the_tree_of_errors_is_that_of_the_module():
    """docs/errors.md shows the tree that the docstring of qp_core.errors draws."""
    (tree,) = (code for kind, code in FENCE.findall(text_of(DOCS / "errors.md")) if kind == "text")
    assert tree in errors.__doc__


def test_the_tour_of_the_modules_names_each_of_them():
    """docs/design.md leaves out no module of the core, and names none that is not there."""
    rows = re.findall(r"^\|[^|]*\| (`.*?`) \|", text_of(DOCS / "design.md"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    modules = {path.stem for path in Path(qp_core.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted(named) == sorted(modules)


def test_every_setting_is_on_its_page():
    """docs/settings.md names each variable that qp_core.settings reads, and no other."""
    source = (Path(qp_core.__file__).parent / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'"(QP_\w+)"', source))
    assert read
    assert set(re.findall(r"^\| `(QP_\w+)` \|", text_of(DOCS / "settings.md"), re.MULTILINE)) == read


def test_the_plugin_that_can_be_installed_is_quoted_as_it_is():
    """docs/plugins.md shows the module of docs/examples/qp-shortest-first, and its entry point."""
    (quoted, toml) = (code for kind, code in FENCE.findall(text_of(DOCS / "plugins.md")) if kind in {"python", "toml"})
    module = ast.parse((PLUGIN / "qp_shortest_first.py").read_text(encoding="utf-8"))
    del module.body[0]  # its docstring
    assert ast.unparse(ast.parse(quoted)) == ast.unparse(module)
    for line in toml.splitlines()[1:]:
        assert line in (PLUGIN / "pyproject.toml").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_the_plugin_can_be_installed_and_named(tmp_path):
    """After `pip install docs/examples/qp-shortest-first`, `qp` and the core know its strategy, which orders as it says."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", tmp_path / "site", PLUGIN],
        check=True,
        capture_output=True,
        timeout=100,
    )
    (tmp_path / "work.py").write_text(
        "from qp_core import QuantumPartitioner\n"
        "def make():\n"
        "    partitioner = QuantumPartitioner(max_workers=1)\n"
        "    for name, seconds in (('long', 3), ('short', 1), ('middle', 2)):\n"
        "        partitioner.add_unit(lambda ctx: None, name=name, metadata={'expected_duration': seconds})\n"
        "    return partitioner\n"
        "if __name__ == '__main__':\n"
        "    partitioner = make()\n"
        "    partitioner.on_unit_start = print\n"
        "    partitioner.execute_with_strategy({}, 'shortest_first')\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    qp = "import sys; from qp_plugins.cli import main; sys.exit(main())"
    for command, expected in (
        (["work.py"], "short\nmiddle\nlong\n"),
        (["-c", qp, "run", "work:make", "--strategy", "shortest_first"], "shortest_first"),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert expected in done.stdout
