"""Python source into entries: the docstrings of a module, its classes and their methods, without importing it.

An entry is a slice of the source, from `def` or `class` to the end of the docstring, so that the signature is quoted
with it and its place in the file is exact. Functions inside functions are left out: nobody can look them up.
"""

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Final, TypeAlias

from atlas_adapters.ingestion.sections import Entry

__all__ = ["docstring_entries"]

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_warnings_lock = threading.Lock()  # `catch_warnings` swaps a global: two threads in it at once would leave it swapped

_Owner: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


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
    return tuple(
        Entry(title=title, start=(start := places.start(owner, doc)), text=source[start : places.end(doc)])
        for title, owner, doc in _documented(tree, module)
    )


class _Places:
    """Characters' places from the lines and UTF-8 columns in which a syntax tree counts."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = [0, *(match.end() for match in _LINE_END.finditer(source))]
        self._ascii = source.isascii()

    def start(self, owner: _Owner, doc: ast.Constant) -> int:
        node = doc if isinstance(owner, ast.Module) else owner
        return self._place(node.lineno, node.col_offset)

    def end(self, doc: ast.Constant) -> int:
        return self._place(doc.end_lineno or doc.lineno, doc.end_col_offset or 0)

    def _place(self, line: int, column: int) -> int:
        start = self._lines[line - 1]
        if self._ascii:
            return start + column
        end = self._lines[line] if line < len(self._lines) else len(self._source)
        return start + len(self._source[start:end].encode()[:column].decode())


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
