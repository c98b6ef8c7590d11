"""Entries into chunks: pieces of about 1,200 characters that can be quoted with their place.

A chunk is a slice of the document's text: no overlap, no word cut, nothing lost but white space. A short entry (a
docstring, a section) is one chunk. Where to cut is a matter of what ends there: a paragraph, else a line, else a
sentence, else a word.
"""

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["TARGET_CHARS", "spans"]

TARGET_CHARS: Final = 1_200
"""No chunk is longer, unless a single word is."""

_ENDS: Final = tuple(re.compile(end) for end in (r"\n\s*\n", r"\n", r"(?<=[.!?:;])\s", r"\s"))
_SPACE: Final = re.compile(r"\s")
_NO_SPACE: Final = re.compile(r"\S")


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
