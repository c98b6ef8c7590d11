"""Which documents there are: the files below a path, and what is known of each before it is opened.

A `Document` says where to read and how; reading is in `extract`, what the interpreter itself documents in
`library`. Listing is lazy, one folder at a time, so its memory does not grow with the number of files. A folder is
entered once however many symbolic links lead to it; what cannot be listed is yielded as a `Failure`, never skipped.
"""

# Paths are plain strings here: a Path per file doubles the cost of a listing.
# ruff: noqa: PTH100, PTH110, PTH116, PTH118, PTH119, PTH122

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Collection, Iterator
from enum import StrEnum
from hashlib import blake2b
from typing import Final

import attrs

__all__ = ["SKIPPED_FOLDERS", "SUFFIXES", "Document", "Failure", "Ignored", "Kind", "list_folder", "list_path"]

EXTRACTION: Final = "1"
"""Raised whenever extraction or chunking changes, so that documents indexed by older code are indexed again."""

SKIPPED_FOLDERS: Final = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules"})
"""Folders that hold no documents of yours by convention, and are not entered."""

_SETTLED_NS: Final = 2_000_000_000  # a file changed this lately may change again within one tick of its clock


class Kind(StrEnum):
    """How a document is read."""

    MARKDOWN = "markdown"
    TEXT = "text"
    RST = "rst"
    HTML = "html"
    PYTHON = "python"
    EXTENSION = "extension"
    TOPIC = "topic"


SUFFIXES: Final = {
    ".md": Kind.MARKDOWN,
    ".txt": Kind.TEXT,
    ".rst": Kind.RST,
    ".html": Kind.HTML,
    ".py": Kind.PYTHON,
}
"""The file names that are documents, in lower case; any other file is counted as ignored."""


@attrs.frozen(kw_only=True)
class Document:
    """One document to index: where it is and what was seen of it when it was listed.

    Attributes:
        path: The absolute path of the file; for a topic, `pydoc_data.topics:` and its name. Unique.
        title: What to call the document where it has no title of its own.
        kind: How to read it.
        size_bytes: The size when listed; large documents are handed out first.
        stamp: Equal stamps mean that the document need not be read again. Empty if it cannot be trusted, because the
            file changed a moment before.
        library: Whether the interpreter owns the document, rather than the user.
    """

    path: str
    title: str
    kind: Kind
    size_bytes: int
    stamp: str
    library: bool = False

    @property
    def source(self) -> str:
        """The path as it can be printed and stored: bytes that are no text are escaped."""
        return printable_path(self.path)

    @property
    def key(self) -> str:
        """A name that is unique among documents and can always be encoded: the path, wherever that is text."""
        if self.path.isascii() or self.path == self.source:
            return self.path
        return f"{self.source}#{blake2b(os.fsencode(self.path), digest_size=4).hexdigest()}"


@attrs.frozen(kw_only=True)
class Failure:
    """Something that could not be indexed, and why."""

    source: str
    reason: str


@attrs.frozen(kw_only=True)
class Ignored:
    """Something that is no document: a file with another suffix, or a folder that holds none by convention."""

    source: str


def printable_path(path: str) -> str:
    """A path with its undecodable bytes escaped.

    Returns:
        The path itself wherever it is text.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace") if not path.isascii() else path


def stamp_of(status: os.stat_result) -> str:
    """What changes whenever the file does: its time and size, with the version of the extraction.

    Returns:
        Empty if the file is so young that it could change again without a new time.
    """
    if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
        return ""
    return f"{EXTRACTION}:{status.st_mtime_ns}:{status.st_size}"


def reason_of(error: OSError) -> str:
    """An operating system's error in words that need no context.

    Returns:
        Lower case, without the path, which stands beside it.
    """
    if error.errno == errno.ENOENT:
        return "no such file"
    return (error.strerror or type(error).__name__).lower()


def list_path(path: str) -> Iterator[Document | Failure | Ignored]:
    """List one file, or everything below a folder, in the order of names.

    Folders are left out by convention where they hold no documents of yours: version control, caches, virtual
    environments. A file that is named itself is taken whatever folder it is in.

    Args:
        path: A file or a folder; a symbolic link to either is followed.

    Yields:
        A Document for each file with a known suffix, an Ignored for any other, a Failure for what cannot be looked at.
    """
    path = os.path.abspath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        yield Failure(source=printable_path(path), reason=reason_of(error))
        return
    if stat.S_ISDIR(status.st_mode):
        yield from list_folder(path)
    else:
        yield _listed(path, status, title=os.path.basename(path))


def list_folder(root: str, skipped: Collection[str] = SKIPPED_FOLDERS) -> Iterator[Document | Failure | Ignored]:
    """List everything below a folder: breadth first, links last.

    So a folder is listed under its own path, even if a link to it comes first by name.

    Args:
        root: An absolute path.
        skipped: Names of folders not to enter.

    Yields:
        As `list_path`; each document's title is its path from the root.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = deque([root]), deque[str]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            yield Failure(source=printable_path(folder), reason=reason_of(error))
            continue
        while entries:
            entry = entries.pop()  # let go one by one: each keeps all that was asked of it
            try:
                if not entry.is_dir():
                    yield _listed(entry.path, entry.stat(), title=os.path.relpath(entry.path, root))
                elif entry.name in skipped or os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    yield Ignored(source=printable_path(entry.path))
                else:
                    (links if entry.is_symlink() else folders).append(entry.path)
            except OSError as error:
                yield Failure(source=printable_path(entry.path), reason=reason_of(error))


def _listed(path: str, status: os.stat_result, title: str) -> Document | Failure | Ignored:
    kind = SUFFIXES.get(os.path.splitext(path)[1].lower())
    if kind is None:
        return Ignored(source=printable_path(path))
    if not stat.S_ISREG(status.st_mode):
        return Failure(source=printable_path(path), reason="no regular file")
    return Document(
        path=path, title=printable_path(title), kind=kind, size_bytes=status.st_size, stamp=stamp_of(status)
    )
