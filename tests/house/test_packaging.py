"""What pyproject.toml, the Makefile and the pages say of each other, and of what is there."""

import importlib.metadata
import re

import pytest

from qp_core import ExecutionContext, Plugins, QuantumUnit, hookspecs
from qp_core.plugins import OWN_DISTRIBUTION, SEAMS

SEAM_OF_FOLDER = {"cli": "commands"}
"""Folders of qp_plugins that are not called after their seam."""

NO_PLUGINS = {"qp_plugins.cli.show", "qp_plugins.cli.target"}
"""Modules beside plugins that are none: what the commands share."""


@pytest.fixture(scope="module")
def declared(pyproject):
    """The entry points that pyproject.toml declares."""
    return pyproject["project"]["entry-points"][hookspecs.PROJECT]


def test_the_installed_entry_points_are_those_declared(declared):
    """If not: install anew, the metadata of an editable installation is that of its day."""
    installed = {
        entry.name: entry.value
        for entry in importlib.metadata.entry_points(group=hookspecs.PROJECT)
        if entry.dist is not None and entry.dist.name == OWN_DISTRIBUTION
    }
    assert installed == declared


def test_every_entry_point_loads_as_a_plugin():
    """With every seam asked for, none of ours is broken or still waiting."""
    plugins = Plugins()
    for seam in SEAMS:
        plugins.provided(seam)
    plugins.listeners([])
    plugins.fallback(QuantumUnit("unit", len), ValueError(), 1, ExecutionContext())
    states = {
        info.name: (info.state, info.reason) for info in plugins.listing() if info.distribution == OWN_DISTRIBUTION
    }
    assert {name for name, (state, _) in states.items() if state != "loaded"} == set(), states


def test_every_module_of_a_seam_is_registered(declared, modules):
    """Its entry point is named after the seam."""
    for name in modules:
        package, *rest = name.split(".")
        if package != "qp_plugins" or len(rest) != 2 or name in NO_PLUGINS:
            continue
        seam = SEAM_OF_FOLDER.get(rest[0], rest[0])
        names = [entry for entry, module in declared.items() if module == name]
        assert [entry.partition(".")[0] for entry in names] == [seam], name


def test_a_choice_is_provided_under_the_name_of_its_entry_point(declared):
    """`executors.thread` provides `thread`: so a choice can be blocked by the name under which it is known."""
    plugins = Plugins()
    for seam in SEAMS:
        entry_seam = {"observers": "telemetry"}.get(seam, seam)
        entries = {name.partition(".")[2] for name in declared if name.partition(".")[0] == entry_seam}
        provided = set(plugins.provided(seam))
        assert entries <= provided, seam


def test_the_layers_name_every_module_of_the_core(pyproject, modules):
    """A module without a layer could import anything."""
    (contract,) = (
        contract
        for contract in pyproject["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract.get("containers") == ["qp_core"]
    )
    placed = [name for layer in contract["layers"] for name in re.findall(r"\w+", layer)]
    there = [name.partition(".")[2] for name in modules if name.startswith("qp_core.")]
    assert sorted(placed) == sorted(there)


# ---- the Makefile and the pages


@pytest.fixture(scope="module")
def targets(root):
    """The targets of the Makefile that are meant for people, with what follows `##`."""
    text = (root / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", text, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def pages(root):
    """README.md and everything under docs/ that is written in Markdown, and what CI runs."""
    found = [root / "README.md", root / ".ci" / "run", *sorted((root / "docs").rglob("*.md"))]
    return {path: path.read_text(encoding="utf-8") for path in found}


def commands(text, command):
    """The words that follow a command in code: in a fence, a script line, or between backticks."""
    fences = "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    lines = re.findall(rf"^(?:\$ |logged \S+ )?{command} +([a-z][\w-]*)", f"{fences}\n{text}", flags=re.MULTILINE)
    return {*lines, *re.findall(rf"`{command} +([a-z][\w-]*)", text)}


def test_the_pages_name_only_targets_that_the_makefile_has(pages, targets):
    """`make something` in a page can be typed."""
    wrong = {str(path): names for path, text in pages.items() if (names := commands(text, "make") - set(targets))}
    assert wrong == {}


def test_the_pages_name_only_subcommands_that_qp_has(pages):
    """`qp something` in a page can be typed."""
    known = set(Plugins.installed().provided("commands"))
    wrong = {str(path): names for path, text in pages.items() if (names := commands(text, "qp") - known)}
    assert wrong == {}


def test_the_makefile_has_the_targets_that_the_readme_promises(pages, targets, root):
    """A clone, `make run`, `make test`: the README shows these, and they are there."""
    shown = commands(pages[root / "README.md"], "make")
    assert {"run", "test"} <= shown <= set(targets)


def test_every_target_is_phony(root, targets):
    """A file of that name would silence it."""
    text = (root / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)[1].split())
    assert set(targets) == phony
