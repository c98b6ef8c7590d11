"""What the core exports: every public name, in order, each with a docstring."""

import ast
import inspect
from pathlib import Path

import pytest

import qp_core
import qp_core.testing

FACES = [pytest.param(qp_core, id="qp_core"), pytest.param(qp_core.testing, id="qp_core.testing")]


def in_order(names):
    """Constants, then classes and aliases, then functions, each by name: the order that ruff (RUF022) keeps too."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def documented_assignments():
    """The names that a module of the core assigns at its top level with a docstring below (or shared with the next one)."""
    found = set()
    for path in Path(qp_core.__file__).parent.glob("*.py"):
        pending = []
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                pending += [target.id for target in targets if isinstance(target, ast.Name)]
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found.update(pending)
                pending = []
            else:
                pending = []
    return found


@pytest.mark.parametrize("face", FACES)
def test_the_list_of_public_names_is_in_order(face):
    """`__all__` names everything once, in the order that is kept everywhere."""
    assert list(face.__all__) == in_order(set(face.__all__))


def test_the_core_lists_exactly_what_it_imports():
    """What it imports from its own modules is public; a name that is not there yet is imported when it is asked for."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(Path(qp_core.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qp_core.")
        for alias in node.names
    }
    assert imported <= set(qp_core.__all__)
    assert all(hasattr(qp_core, name) for name in qp_core.__all__)
    with pytest.raises(AttributeError, match=r"^module 'qp_core' has no attribute 'no_such_name'$"):
        _ = qp_core.no_such_name
    there = {name for name, value in vars(qp_core).items() if getattr(value, "__module__", "").startswith("qp_core.")}
    assert there - {name for name in there if name.startswith("_")} <= set(qp_core.__all__)


def test_the_testing_kit_lists_exactly_what_it_defines():
    """What the kit imports for itself is not part of it."""
    there = {
        name
        for name, value in vars(qp_core.testing).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == "qp_core.testing"
    }
    assert there == set(qp_core.testing.__all__)


@pytest.mark.parametrize("face", FACES)
def test_every_public_class_and_function_has_a_docstring_of_its_own(face):
    """Also every public method and property that a class defines; what attrs or the language writes needs none."""
    bare = []
    for name in face.__all__:
        value = getattr(face, name)
        if inspect.isclass(value):
            bare += [] if vars(value).get("__doc__") else [name]
            bare += [f"{name}.{member}" for member in _members_without_docstring(value)]
        elif inspect.isfunction(value) and not value.__doc__:
            bare.append(name)
    assert bare == []


def _members_without_docstring(kind):
    for member, value in vars(kind).items():
        if member.startswith("_"):
            continue
        if isinstance(value, staticmethod) and not inspect.isfunction(value.__func__):
            continue  # a function of C's
        inner = getattr(value, "func", getattr(value, "fget", getattr(value, "__func__", value)))
        if inspect.isfunction(inner) and inner.__module__.startswith("qp_core") and not inner.__doc__:
            yield member


def test_every_public_constant_and_alias_has_a_docstring():
    """What is no class and no function is explained by the string below its assignment."""
    others = {
        name
        for name in qp_core.__all__
        if not inspect.isclass(getattr(qp_core, name)) and not inspect.isfunction(getattr(qp_core, name))
    }
    others.add("UnitId")  # an alias of a class
    assert others - documented_assignments() == set()
    assert {"MISS", "NONE_READY", "ExecutorFactory"} <= others
