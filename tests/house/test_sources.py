"""How the sources look: names, docstrings, exceptions with their reasons, no waiting in tests, nothing of one machine."""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest

VAGUE = {
    "base",
    "bases",
    "common",
    "core",
    "helper",
    "helpers",
    "impl",
    "lib",
    "manager",
    "managers",
    "misc",
    "util",
    "utils",
}

FORMER_STANDARD_MODULES = {
    "chunk": "for IFF files, deprecated in 3.11 and gone in 3.13; here it is what ingestion calls its second stage",
}

LONG_DOCSTRINGS = {
    "qp_core/errors.py": "draws the whole tree of errors",
    "qp_core/frontier.py": "explains the state of the ready set field by field",
}

SLEEPS = {
    "tests/core/test_async_and_notebooks.py": (1, "units that take a moment, so that one too many at once would show"),
    "tests/core/test_interrupt.py": (3, "units that take a moment, so that Ctrl-C comes in their midst"),
    "tests/core/test_stopping.py": (
        5,
        "the run is to be met while it waits, of which nobody is told; it must end well at any other moment too",
    ),
    "tests/core/test_telemetry.py": (1, "an observer so slow that another thread would come in between"),
    "tests/core/test_nested_runs.py": (2, "units that take a moment, so that one too many at once would show"),
    "tests/core/test_timeouts.py": (
        3,
        "units that take about as long as they may; late ends that the engine must ignore",
    ),
    "tests/properties/test_expiry.py": (3, "what ends at about the time at which its time is up"),
    "tests/plugins/executors/test_processes.py": (2, "units that hang until their process is killed"),
}
"""Where tests call `time.sleep`, how often at most, and why. Free are `sleep(0)`, which only lets others run, and a loop that looks again."""


def relative(path, root):
    """A path as git writes it."""
    return path.relative_to(root).as_posix()


@pytest.fixture(scope="module")
def sources(tracked):
    """The Python files that git knows."""
    return [path for path in tracked if path.suffix == ".py"]


# ---- names


def test_no_module_is_called_after_a_standard_module(modules):
    """A traceback or an import that says `queue` should mean one thing."""
    taken = sys.stdlib_module_names - FORMER_STANDARD_MODULES.keys()
    assert [name for name in modules if name.rpartition(".")[2] in taken] == []


def test_no_module_is_called_after_a_dependency(modules, pyproject):
    """Required or optional, by its distribution's name or by the name under which it is imported."""
    project = pyproject["project"]
    required = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.match(r"[\w-]+", line)[0].replace("-", "_").lower() for line in required}
    names |= set(pyproject["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"])
    names.discard("quantum_partitioner")
    assert [name for name in modules if name.rpartition(".")[2] in names] == []


def test_no_module_has_a_name_that_says_nothing(modules):
    """`utils` and its kin are where things go that nobody has thought about."""
    assert [name for name in modules if name.rpartition(".")[2] in VAGUE] == []


# ---- docstrings


def test_every_module_says_in_a_few_lines_what_it_is(modules, root):
    """The first statement, 1 to 15 lines; longer ones are counted here with their reason."""
    wrong = {}
    for path in modules.values():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if not 1 <= len(docstring.splitlines()) <= 15:
            wrong[relative(path, root)] = len(docstring.splitlines())
    assert set(wrong) == set(LONG_DOCSTRINGS), wrong


# ---- every exception to a rule has its reason beside it


DIRECTIVE = re.compile(
    r"(?:ruff: *)?(?P<kind>noqa)(?:: *(?P<noqa>[A-Z]+[0-9]+(?:, *[A-Z]+[0-9]+)*))?(?: - (?P<noqa_why>.+))?"
    r"|(?P<type>type: *ignore)(?:\[(?P<codes>[a-z, -]+)\])?"
    r"|(?P<pragma>pragma: no (?:cover|branch))(?: - (?P<pragma_why>.+))?"
)


def suppressions(path):
    """Each comment that silences a checker: its line, what it silences (None where it does not say), and whether it says why.

    The reason stands in the comment, or on the two lines above.
    """
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        parts = [part.strip() for part in token.string.split("#")[1:]]
        found = [(DIRECTIVE.match(part), part) for part in parts]
        directives = [match for match, _ in found if match]
        if not directives:
            continue
        number = token.start[0]
        why = any(match["noqa_why"] or match["pragma_why"] for match in directives)
        why = why or any(part for match, part in found if match is None)
        why = why or any(line.strip().startswith("# ") for line in lines[max(0, number - 3) : number - 1])
        for match in directives:
            yield number, match["noqa"] or match["codes"] or match["pragma"], why


def test_no_suppression_is_without_its_codes(sources, root):
    """A bare `noqa` or `type: ignore` hides what is not there yet."""
    bare = [
        f"{relative(path, root)}:{number}" for path in sources for number, what, _ in suppressions(path) if what is None
    ]
    assert bare == []


def test_every_suppression_says_why(sources, root):
    """Beside it or above; what is silenced again in the same file may lean on the first reason."""
    unexplained = []
    for path in sources:
        told = set()
        for number, what, why in suppressions(path):
            if why:
                told.add(what)
            elif what not in told:
                unexplained.append(f"{relative(path, root)}:{number} {what}")
    assert unexplained == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("x = 1  # noqa", [(None, False)], id="bare noqa"),
        pytest.param("x = 1  # noqa: F401", [("F401", False)], id="noqa without reason"),
        pytest.param("x = 1  # noqa: F401 - it is what users import", [("F401", True)], id="noqa with reason"),
        pytest.param("x = 1  # noqa: A001, B002 # two slips", [("A001, B002", True)], id="reason behind a second sign"),
        pytest.param("x = 1  # type: ignore", [(None, False)], id="bare ignore"),
        pytest.param("x = 1  # type: ignore[misc]", [("misc", False)], id="ignore without reason"),
        pytest.param("x = 1  # type: ignore[misc] # mypy is wrong", [("misc", True)], id="ignore with reason"),
        pytest.param(
            "x = 1  # type: ignore[misc] # noqa: A1 - it is", [("misc", True), ("A1", True)], id="one for both"
        ),
        pytest.param("# for speed\nx = 1  # noqa: A001", [("A001", True)], id="reason above"),
        pytest.param("x = 1  # pragma: no cover", [("pragma: no cover", False)], id="pragma without reason"),
        pytest.param("x = '# noqa'  # a comment", [], id="no directive"),
    ],
)
def test_the_reader_of_suppressions_can_read(tmp_path, line, expected):
    """What the two tests above stand on."""
    path = tmp_path / "sample.py"
    path.write_text(f"{line}\n", encoding="utf-8")
    assert [(what, bool(why)) for _, what, why in suppressions(path)] == expected


# ---- tests do not wait


def sleeps(tree):
    """How often a test sleeps for an effect."""
    looking_again = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.While) for inner in ast.walk(node)}
    return sum(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "sleep"}
        and ast.unparse(node) not in {"time.sleep(0)", "sleep(0)"}
        and id(node) not in looking_again
        for node in ast.walk(tree)
    )


def test_tests_sleep_only_where_it_is_counted(sources, root):
    """`time.sleep` in a test makes it slow or makes it fail by chance; threads meet through an Event or a Barrier."""
    found = {}
    for path in sources:
        name = relative(path, root)
        if name.startswith("tests/") and not name.startswith("tests/benchmarks/"):
            found[name] = sleeps(ast.parse(path.read_text(encoding="utf-8")))
    assert {name: count for name, count in found.items() if count > SLEEPS.get(name, (0, ""))[0]} == {}


# ---- nothing of one machine, and no address to fetch from

HOSTS = re.compile(
    r"\b(?:pypi|pythonhosted|test\.pypi|anaconda|conda|npmjs|crates|docker|ghcr|quay)\.(?:org|io|com)\b|--(?:extra-)?index-url"
)
PATHS = re.compile(r"(?<![\w.])(?:/(?:root|work)/|/(?:home|Users)/\w|[A-Z]:\\Users\\)")


def texts(tracked):
    """The tracked files that are text, with what they hold."""
    for path in tracked:
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


@pytest.mark.parametrize("pattern", [pytest.param(HOSTS, id="registry"), pytest.param(PATHS, id="path")])
def test_no_file_holds_a_registry_or_a_path_of_one_machine(tracked, root, pattern):
    """Locked requirements have hashes and no addresses; whose home a file was written in is nobody's business."""
    found = [
        f"{relative(path, root)}:{text.count(chr(10), 0, match.start()) + 1} {match[0]}"
        for path, text in texts(tracked)
        for match in pattern.finditer(text)
    ]
    assert found == []


def test_no_link_is_tracked(listed, root):
    """It leads to what another clone may not have, such as a virtual environment that several share."""
    assert [relative(path, root) for path in listed if path.is_symlink()] == []


def test_no_file_holds_the_path_of_this_checkout(tracked, root):
    """Wherever that is."""
    here = str(root)
    if len(Path(here).parts) <= 2:
        pytest.skip(f"{here} is too short to be looked for")
    assert [relative(path, root) for path, text in texts(tracked) if here in text] == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        pytest.param(HOSTS, "https://files.python" + "hosted.org/x", id="files"),
        pytest.param(HOSTS, "https://py" + "pi.org/simple", id="index"),
        pytest.param(HOSTS, "--extra-" + "index-url=x", id="option"),
        pytest.param(PATHS, "see /ro" + "ot/project", id="root"),
        pytest.param(PATHS, "'/ho" + "me/ada/x'", id="home"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, text):
    """Two slips that were really made, and their kin."""
    assert pattern.search(text)
