"""Entries into passages: pieces of about 1,200 characters that can be quoted with their place.

A passage is a slice of the document's text: no overlap, no word cut, nothing lost but white space. A short entry (a
docstring, a section) is one passage. Where to cut is a matter of what ends there: a paragraph, else a line, else a
sentence, else a word.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

__all__ = ["TARGET_CHARS", "ChunkRow", "Part", "chunk_rows", "names_in", "spans"]

TARGET_CHARS: Final = 1_200
"""No passage is longer, unless a single word is."""

Part: TypeAlias = tuple[str, int, int, str]
"""A part of a document: its title, the place of its first character, the number of its first line (or 0), and its text.
A plain tuple, since it may cross to another process: a tenth of the cost of a record."""

ChunkRow: TypeAlias = tuple[str, str, int, int, str]
"""A passage to index: the title that leads to it, the words inside the title's names (`crc 32` for `crc32`), place, line and
text."""

_ENDS: Final = tuple(re.compile(end) for end in (r"\n\s*\n", r"\n", r"(?<=[.!?:;])\s", r"\s"))
_SPACE: Final = re.compile(r"\s")
_NO_SPACE: Final = re.compile(r"\S")
_NAME: Final = re.compile(r"[^\W_]+")
_WORD_IN_NAME: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")


def chunk_rows(parts: Iterable[Part]) -> Iterator[ChunkRow]:
    """Cut the parts of a document into passages.

    Args:
        parts: In the order of the document.

    Yields:
        Passages, in order.
    """
    for title, start, line, text in parts:
        names = names_in(title)
        at, counted = line, 0
        for first, last in spans(text):
            at += text.count("\n", counted, first) if line else 0
            counted = first
            yield title, names, start + first, at, text[first:last]


def names_in(title: str) -> str:
    """The words inside a title's names, where a search for whole words would miss them.

    Returns:
        `crc 32` for `zlib.crc32`, `Zip File` for `zipfile.ZipFile`; empty where each name is one word.
    """
    found = dict.fromkeys(
        part for name in _NAME.findall(title) if len(parts := _WORD_IN_NAME.findall(name)) > 1 for part in parts
    )
    return " ".join(found)


def spans(text: str, target: int = TARGET_CHARS) -> Iterator[tuple[int, int]]:
    """Cut a text into spans of at most `target` characters.

    Args:
        text: Any text.
        target: The length to keep within.

    Yields:
        Start and end of each span, in order; neither end is white space. All that lies between spans is.
    """
    stop = len(text.rstrip())
    start = _word(text, 0, stop)
    while stop - start > target:
        cut = _cut(text, start, start + target, stop)
        yield start, start + len(text[start:cut].rstrip())
        start = _word(text, cut, stop)
    if start < stop:
        yield start, stop


def _word(text: str, start: int, stop: int) -> int:
    found = _NO_SPACE.search(text, start, stop)
    return found.start() if found else stop


def _cut(text: str, start: int, limit: int, stop: int) -> int:
    """Where best to end the span that begins at `start`: after a quarter of the window, if it can be."""
    least = start + (limit - start) // 4
    for end in _ENDS:
        found = [match.start() for match in end.finditer(text, least, limit + 1)]
        if found:
            return found[-1]
    early = [match.start() for match in _SPACE.finditer(text, start, least)]
    if early:
        return early[-1]
    late = _SPACE.search(text, limit, stop)  # one word fills the window
    return late.start() if late else stop
