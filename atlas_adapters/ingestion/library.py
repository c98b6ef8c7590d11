"""What the running interpreter documents: language topics, its library's modules, its compiled extensions.

Nothing here is imported to be read, but for `pydoc_data.topics`, which is a table of texts. Modules are found as
files; tests, IDLE and what others installed are left out.
"""

import importlib.machinery
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

import attrs

from atlas_adapters.ingestion.sources import EXTRACTION, Document, Failure, Kind, list_folder, reason_of, stamp_of

__all__ = ["INTERPRETER", "list_library", "topic_text"]

INTERPRETER: Final = "built-in"
"""The title of the document that holds the docstrings of all modules inside the interpreter itself."""

_TOPICS: Final = "pydoc_data.topics:"
_OS_PATH: Final = f"{os.path.__name__}.py"  # posixpath.py or ntpath.py: nobody looks for these names
_SKIPPED_FOLDERS: Final = frozenset({
    "__pycache__", "_bundled", "dist-packages", "idlelib", "idle_test", "lib-dynload", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "turtledemo",
})  # fmt: skip
_SKIPPED_MODULES: Final = ("_test", "_xx", "xx", "_ctypes_test")


def list_library() -> Iterator[Document | Failure]:
    """List the documents of the standard library.

    Yields:
        Language topics, then modules by path, then extensions, the interpreter's own file first among these.
    """
    scope = f"{sys.implementation.name}-{platform.python_version()}"
    yield from _topics(scope)
    yield from _modules(sysconfig.get_path("stdlib"), scope)
    yield from _interpreter(scope)
    yield from _extensions(Path(sysconfig.get_config_var("DESTSHARED") or Path(sys.base_prefix, "DLLs")), scope)


@cache
def _topic_table() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte that few processes need
    except ModuleNotFoundError:  # left out by some distributors
        return {}
    return dict(topics)


def topic_text(name: str) -> str:
    """The text of a language topic of this interpreter; empty if it has none of that name."""
    return _topic_table().get(name, "")


def _topics(scope: str) -> Iterator[Document]:
    for name, text in sorted(_topic_table().items()):
        yield Document(
            path=f"{_TOPICS}{name}",
            title=name,
            kind=Kind.TOPIC,
            size_bytes=len(text),
            stamp=f"{scope}:{EXTRACTION}:{blake2b(text.encode(), digest_size=16).hexdigest()}",
            library=True,
        )


def _modules(root: str, scope: str) -> Iterator[Document | Failure]:
    for found in list_folder(root, _SKIPPED_FOLDERS):
        if isinstance(found, Failure):
            yield found
        elif isinstance(found, Document) and found.kind is Kind.PYTHON:
            title = "os.path.py" if found.title == _OS_PATH else found.title
            stamp = found.stamp and f"{scope}:{found.stamp}"
            yield attrs.evolve(found, title=title, stamp=stamp, library=True)


def _extensions(folder: Path, scope: str) -> Iterator[Document | Failure]:
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.endswith(suffixes) and not path.name.startswith(_SKIPPED_MODULES):
            yield _document(path, path.name.partition(".")[0], scope)


def _interpreter(scope: str) -> Iterator[Document | Failure]:
    """The shared library that holds the interpreter, or the executable itself where there is none."""
    shared = sysconfig.get_config_var("INSTSONAME") or ""
    candidates = (
        Path(sysconfig.get_config_var("LIBDIR") or "", shared),
        Path(sys.base_prefix, "lib", shared),
        Path(sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX") or "", shared),
        Path(sys.base_prefix, f"python{sys.version_info.major}{sys.version_info.minor}.dll"),
        Path(sys.executable).resolve(),
    )
    found = [path for path in candidates if path.is_file() and path.suffix != ".a"]
    yield from (_document(path, INTERPRETER, scope) for path in found[:1])


def _document(path: Path, title: str, scope: str) -> Document | Failure:
    try:
        status = path.stat()
    except OSError as error:
        return Failure(source=str(path), reason=reason_of(error))
    stamp = stamp_of(status)
    return Document(
        path=str(path),
        title=title,
        kind=Kind.EXTENSION,
        size_bytes=status.st_size,
        stamp=stamp and f"{scope}:{stamp}",
        library=True,
    )
