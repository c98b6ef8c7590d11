"""What an import costs and needs: optional libraries stay out, everything imports without them, and the core knows no plugin."""

import ast
import subprocess
import sys

import pytest

from qp_core import hookspecs


def python(program, *arguments):
    """Run a program in a new interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def optional(pyproject):
    """The libraries that must not be imported at the top of a module: optional ones, and slow ones."""
    return pyproject["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]


_LOADED = """
import sys, {module}
print(*sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["qp_core", "qp_core.testing", "qp_plugins.cli", "atlas_adapters"])
def test_importing_a_face_loads_no_optional_library(optional, module):
    """Nor what only some uses need: processes, SQLite, cattrs. How long it takes is the machine's affair, what it loads is ours."""
    before = set(
        python(_LOADED.format(module="os"))
    )  # where coverage is measured, it is there first and brings some of its own
    loaded = set(python(_LOADED.format(module=module))) - before
    assert module in loaded
    assert loaded.isdisjoint([
        *optional,
        "cattrs",
        "concurrent.futures.process",
        "multiprocessing",
        "psutil",
        "sqlite3",
    ])


@pytest.mark.slow
def test_importing_the_core_loads_no_plugin_and_no_adapter():
    """They are found through entry points, when their seam is needed."""
    loaded = {name.partition(".")[0] for name in python(_LOADED.format(module="qp_core"))}
    assert loaded.isdisjoint({"qp_plugins", "atlas_adapters"})


_WITHOUT = """
import importlib, sys

blocked = set(sys.argv[1].split(","))

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by this test)", name=name)

sys.meta_path.insert(0, Absent)
for name in sys.argv[2:]:
    importlib.import_module(name)
print(*blocked.intersection(sys.modules))
"""


@pytest.mark.slow
def test_every_module_imports_without_the_optional_libraries(optional, modules):
    """Whoever installs the distribution without extras can import all of it."""
    assert python(_WITHOUT, ",".join(optional), *modules) == []


def test_the_core_names_no_plugin(modules):
    """No import of one, and no string that holds a plugin's module; docstrings may speak of them."""
    found = []
    plugins = [name for name in modules if name.startswith(("qp_plugins.", "atlas_adapters."))]
    for name, path in modules.items():
        if name.partition(".")[0] != "qp_core":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                found += [f"{path}:{node.lineno}" for plugin in plugins if plugin in node.value]
            found += [
                f"{path}:{node.lineno}" for name in names if name.partition(".")[0] in {"qp_plugins", "atlas_adapters"}
            ]
    assert found == []


def test_plugins_and_adapters_import_only_public_names_of_the_core(modules):
    """From `qp_core` and `qp_core.testing`; a third party has no more than that either."""
    allowed = {"qp_core", "qp_core.testing"}
    found = []
    for name, path in modules.items():
        if name.partition(".")[0] == "qp_core":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "qp_core":
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                if node.module not in allowed or private:
                    found.append(f"{path}:{node.lineno}")
            elif isinstance(node, ast.Import):
                found += [f"{path}:{node.lineno}" for alias in node.names if alias.name.startswith("qp_core.")]
    assert found == []


def test_the_group_of_the_entry_points_is_the_projects_name(pyproject):
    """One name for pluggy and for packaging."""
    assert list(pyproject["project"]["entry-points"]) == [hookspecs.PROJECT]
