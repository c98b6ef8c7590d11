"""Docstrings into entries: a module's, its classes', their methods', found without importing or running anything.

In Python source, an entry is a slice from `def` or `class` to the end of the docstring, so that the signature is quoted
with it and its place in the file is exact. Functions inside functions are left out: nobody can look them up.

In compiled modules, CPython's Argument Clinic writes each docstring as `name($module, data, /)`, a line `--`, a blank
line, the text, a NUL. They stand in the read-only data, so a search for the line finds them all. The interpreter's own
file holds those of every built-in module, without saying whose: there, what the interpreter has loaded anyway gives them
their names, and shows which older docstrings (`range(stop) -> range object`) to look for. Others are credited to "built-in".
"""

import ast
import itertools
import mmap
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, TypeAlias

from atlas_adapters.ingestion.prose import Entry

__all__ = ["compiled_entries", "docstring_entries", "public_name"]

_warnings_lock = threading.Lock()  # `catch_warnings` swaps a global: two threads in it at once would leave it swapped

_Owner: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_MARK: Final = b")\n--\n\n"
_REACH: Final = 16_384  # bytes: no signature is longer
_NEAR: Final = 1_048_576  # bytes: older docstrings stand this near to the middle of the others
_SIGNATURE: Final = re.compile(rb"([A-Za-z_]\w*)\((?:\$(\w+))?[\n\x20-\x7e]*\Z")
_STRING: Final = re.compile(rb"[^\0]{8,}")
_SKIPPED: Final = frozenset({"__doc__", "__new__"})
_BUILT_IN: Final = "built-in"
_LOADED: Final = {  # by the interpreter itself or by `re`, imported above: the same ones in each process
    "builtins": "", "sys": "sys.", "posix": "os.", "nt": "os.", "_io": "io.", "time": "time.", "marshal": "marshal.",
    "_codecs": "codecs.", "_signal": "signal.", "_weakref": "weakref.", "_thread": "_thread.", "_warnings": "warnings.",
    "itertools": "itertools.", "_operator": "operator.", "_functools": "functools.", "_collections": "collections.",
}  # fmt: skip


def docstring_entries(source: str, module: str) -> tuple[Entry, ...]:
    """Find the docstrings of a module.

    Args:
        source: The module's source.
        module: Its dotted name, with which each title begins.

    Returns:
        One entry a docstring, in the order of the source.

    What the parser raises is passed on: a SyntaxError, or a RecursionError or MemoryError (by version) for source that is
    nested too deeply.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in somebody's string is not ours to tell
        tree = ast.parse(source)
    places = _Places(source)
    entries = []
    for title, owner, doc in _documented(tree, module):
        first = doc if isinstance(owner, ast.Module) else owner
        start = places.of(first.lineno, first.col_offset)
        end = places.of(doc.end_lineno or doc.lineno, doc.end_col_offset or 0)
        entries.append(Entry(title=title, start=start, line=first.lineno, text=source[start:end]))
    return tuple(entries)


class _Places:
    """Characters' places from the lines and UTF-8 columns in which a syntax tree counts."""

    def __init__(self, source: str) -> None:
        self._lines = source.encode().splitlines(
            keepends=True
        )  # bytes: as for the parser, only line feeds and returns end one
        lengths = map(len, self._lines) if source.isascii() else (len(line.decode()) for line in self._lines)
        self._starts = [0, *itertools.accumulate(lengths)]

    def of(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1][:column].decode())


def _documented(tree: ast.Module, module: str) -> Iterator[tuple[str, _Owner, ast.Constant]]:
    """Depth first with a stack of its own: source may nest deeper than the interpreter's."""
    stack: list[tuple[str, ast.AST]] = [(module, tree)]
    while stack:
        title, node = stack.pop()
        inner = title
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if not isinstance(node, ast.Module):
                inner = f"{title}.{node.name}"
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str()) as doc), *_]:
                    yield inner, node, doc
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
        for block in ("finalbody", "orelse", "handlers", "body"):
            stack.extend((inner, child) for child in reversed(getattr(node, block, ())) if _has_body(child))


def _has_body(node: ast.AST) -> bool:
    return isinstance(node, (ast.stmt, ast.ExceptHandler)) and hasattr(node, "body")


def public_name(module: str) -> str:
    """The module in which people look for what a private extension provides: `struct` for `_struct`.

    Returns:
        The name itself where there is no such module.
    """
    bare = module.removeprefix("_")
    return bare if bare in sys.stdlib_module_names else module


def compiled_entries(file: BinaryIO, module: str | None) -> tuple[Entry, ...]:
    """Find the docstrings in a shared library or an executable.

    Args:
        file: The file, open for reading; it must not be empty.
        module: The module that it holds; None for the interpreter itself.

    Returns:
        One entry a docstring, in the order of the file; places count its bytes.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = {place: (name, text) for place, name, text in _clinic(data, module)}
        if module is None and found:
            found = dict(_named(data, found))
    return tuple(Entry(title=name, start=place, line=0, text=text) for place, (name, text) in sorted(found.items()))


def _clinic(data: mmap.mmap, module: str | None) -> Iterator[tuple[int, str, str]]:
    """Place, title and text of each docstring that Argument Clinic wrote; one that occurs twice is given once."""
    owner = _BUILT_IN if module is None else public_name(module)
    seen: set[bytes] = set()
    mark = data.find(_MARK)
    while mark != -1:
        end = data.find(b"\0", mark)
        end = len(data) if end == -1 else end
        first = max(0, mark - _REACH)
        signature = _SIGNATURE.search(data[first:mark].rpartition(b"\0")[2])
        if signature:
            place = mark - len(signature.group())
            raw = data[place:end]
            text = _text(raw)
            if text is not None and raw not in seen:
                seen.add(raw)
                name = signature[1].decode()
                of_a_type = signature[2] is not None and signature[2] != b"module"
                yield place, f"{owner}.….{name}" if of_a_type else f"{owner}.{name}", text
        mark = data.find(_MARK, end)


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:  # the mark stands in something else than a docstring
        return None


def _named(data: mmap.mmap, found: Mapping[int, tuple[str, str]]) -> Iterator[tuple[int, tuple[str, str]]]:
    names = _loaded_names()
    for place, (name, text) in found.items():
        yield place, (names.pop(text.encode(), name), text)
    middle = sorted(found)[len(found) // 2]  # debugging data, far behind, may hold a few as well
    first = max(0, middle - _NEAR)
    for string in _STRING.finditer(data[first : middle + _NEAR]):
        if (title := names.pop(string.group(), None)) is not None:
            yield first + string.start(), (title, string.group().decode())


def _loaded_names() -> dict[bytes, str]:
    """The docstrings, as they stand in the file, of what the interpreter has loaded; each with its owner's name."""
    names: dict[bytes, str] = {}
    for module_name, prefix in _LOADED.items():
        members = vars(sys.modules[module_name]) if module_name in sys.modules else {}
        for name, member in members.items():
            if isinstance(member, type):
                if member.__module__ in {module_name, prefix.rstrip("."), "builtins"}:
                    _add(names, f"{prefix}{name}", member)
                    for attribute, value in vars(member).items():
                        if attribute not in _SKIPPED:
                            _add(names, f"{prefix}{name}.{attribute}", value)
            elif callable(member):
                _add(names, f"{prefix}{name}", member)
    return names


def _add(names: dict[bytes, str], title: str, member: Any) -> None:
    doc, signature = getattr(member, "__doc__", None), getattr(member, "__text_signature__", None)
    if isinstance(doc, str) and doc:
        name = title.rpartition(".")[2]
        raw = f"{name}{signature}\n--\n\n{doc}" if signature else doc
        names.setdefault(raw.encode("utf-8", "replace"), title)
