"""The hook specifications: fixed fields in each, a heading with the exact signature in docs/hooks.md, and a test that names it."""

import ast
import inspect
import re
import textwrap

import pytest

from qp_core import hookspecs

HOOKS = [name for name in vars(hookspecs) if name.startswith("qp_")]
SPECS = [pytest.param(name, id=name) for name in HOOKS]
KINDS = ("provide", "decide", "observe")


def fields_of(name):
    """The fixed fields of a hook's docstring, each with its text."""
    found = {}
    field = None
    for line in inspect.getdoc(getattr(hookspecs, name)).splitlines():
        head, colon, rest = line.partition(":")
        if colon and head in {"Kind", "Called", "Args", "Returns"}:
            field = head
            found[field] = rest.strip()
        elif field is not None:
            found[field] += "\n" + line
    return found


def signature_of(source):
    """A function's name, arguments and return type, however its source is laid out."""
    tree = ast.parse(textwrap.dedent(source))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return f"def {function.name}({ast.unparse(function.args)}) -> {ast.unparse(function.returns)}"


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_has_its_fixed_fields_in_order(name):
    """`Kind`, `Called`, then `Args` where it takes any, then `Returns` where it answers."""
    function = getattr(hookspecs, name)
    expected = ["Kind", "Called"]
    if inspect.signature(function).parameters:
        expected.append("Args")
    if inspect.signature(function).return_annotation is not None:
        expected.append("Returns")
    fields = fields_of(name)
    assert list(fields) == expected
    assert all(text.strip() for text in fields.values())
    assert fields["Kind"].split(".")[0] in KINDS


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_describes_exactly_the_arguments_that_it_has(name):
    """In the order in which it takes them."""
    described = re.findall(r"^ {4}(\w+): \S", fields_of(name).get("Args", ""), flags=re.MULTILINE)
    assert described == list(inspect.signature(getattr(hookspecs, name)).parameters)


@pytest.mark.parametrize("name", SPECS)
def test_the_kind_of_a_hook_is_what_pluggy_was_told_and_what_it_returns(name):
    """The first answer of a decide hook counts; an observe hook takes one event and answers nothing; a provide hook takes nothing."""
    function = getattr(hookspecs, name)
    kind = fields_of(name)["Kind"].split(".")[0]
    signature = inspect.signature(function)
    assert function.quantum_partitioner_spec["firstresult"] is (kind == "decide")
    assert (signature.return_annotation is None) is (kind == "observe")
    if kind == "observe":
        assert list(signature.parameters) == ["event"]
    if kind == "provide":
        assert not signature.parameters


@pytest.fixture(scope="module")
def chapters(root):
    """docs/hooks.md: for each hook's heading, in order, the text up to the next heading of that rank or above."""
    page = root / "docs" / "hooks.md"
    found = {}
    rank, name = 0, None
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"(#+) +(.*)", line)
        if heading:
            hook = re.match(r"`?(qp_\w+)", heading[2])
            if hook:
                name, rank = hook[1], len(heading[1])
                assert name not in found, f"{name} has two headings"
                found[name] = ""
                continue
            if len(heading[1]) <= rank:
                name = None
        if name is not None:
            found[name] += line + "\n"
    return found


def test_the_page_on_hooks_has_one_heading_a_hook_in_the_order_of_a_run(chapters):
    """The same hooks as in `hookspecs`, in the same order, each once."""
    assert list(chapters) == HOOKS


@pytest.mark.parametrize("name", SPECS)
def test_the_page_on_hooks_shows_the_exact_signature(chapters, name):
    """In the first fenced block below its heading."""
    fences = re.findall(r"^```(?:python|py)\n(.*?)^```", chapters[name], flags=re.MULTILINE | re.DOTALL)
    assert fences, f"no ```python block below the heading of {name}"
    shown = fences[0].strip()
    if not shown.endswith("..."):
        shown = f"{shown.removesuffix(':')}: ..."
    assert signature_of(shown) == signature_of(inspect.getsource(getattr(hookspecs, name)))


@pytest.mark.parametrize("name", SPECS)
def test_every_hook_is_named_in_a_test(root, name):
    """Outside of this folder and of what is only read by mypy."""
    tests = [
        path for path in (root / "tests").rglob("test_*.py") if path.relative_to(root / "tests").parts[0] != "house"
    ]
    assert any(re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")) for path in tests)
