"""Text with headings into entries: one section each, under the titles that lead to it.

Serves Markdown (`#` and underlined headings, code fences respected), reStructuredText and plain text (underlined
headings, with or without an overline). Nothing is rewritten: an entry is a slice of the text.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

__all__ = ["Entry", "Heading", "cut", "markdown_headings", "underlined_headings"]

_TITLE_CHARS: Final = 200
_SEPARATOR: Final = " > "
_LINE: Final = re.compile(r"[^\n]*\n?")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HASHES: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\r?\n?\Z")
_ADORNMENT: Final = re.compile(r"([=\-~^\"'`*+#<>:._!$%&])\1{2,}[ \t]*\r?\n?\Z")


@attrs.frozen(kw_only=True)
class Entry:
    """A part of a document that has a title of its own.

    Attributes:
        title: What leads to it, outermost first.
        start: Its first character's place in the document's text (in the file's bytes, for a compiled extension).
        text: The part itself, unchanged.
    """

    title: str
    start: int
    text: str


@attrs.frozen(kw_only=True)
class Heading:
    """A heading: where its first line begins and its last one ends, how deep it is (from 1), what it says."""

    start: int
    end: int
    level: int
    title: str


def cut(text: str, headings: Iterable[Heading], title: str) -> tuple[Entry, ...]:
    """Cut a text at its headings.

    A heading with nothing under it but the next heading stays with that one, so that no entry is a bare title.

    Args:
        text: The whole text.
        headings: In the order of their places.
        title: The document's title; a first heading that says the same is not named twice.

    Returns:
        Entries that cover the text; white space at their borders belongs to the one before.
    """
    entries: list[Entry] = []
    start, body, path = 0, 0, [(0, title)]
    for heading in headings:
        if text[body : heading.start].strip():
            entries.append(Entry(title=_joined(path), start=start, text=text[start : heading.start]))
            start = heading.start
        body = heading.end
        while path[-1][0] >= heading.level:
            path.pop()
        if heading.title.casefold() != path[-1][1].casefold():
            path.append((heading.level, heading.title))
    if text[start:].strip():
        entries.append(Entry(title=_joined(path), start=start, text=text[start:]))
    return tuple(entries)


def _joined(path: list[tuple[int, str]]) -> str:
    return _SEPARATOR.join(title for _, title in path)[:_TITLE_CHARS]


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with its place; only a line feed ends one, so places are exact whatever else the text holds."""
    return ((match.start(), match.group()) for match in _LINE.finditer(text) if match.group())


def markdown_headings(text: str) -> Iterator[Heading]:
    """The headings of a Markdown text.

    Args:
        text: The file's text; front matter between `---` lines is passed over.

    Yields:
        Headings in order; what stands in a code fence is none.
    """
    fence = ""
    before, before_start = "", 0
    front_matter = text.startswith("---\n") and "\n---\n" in text
    for start, line in _lines(text):
        marks = _FENCE.match(line)
        if front_matter:
            front_matter = start == 0 or line.rstrip() != "---"
            line = ""  # noqa: PLW2901 - the end of the front matter underlines nothing
        elif fence:
            if marks and marks[1].startswith(fence) and not marks[2].strip():
                fence = ""
            line = ""  # noqa: PLW2901 - nor does code
        elif marks:
            fence = marks[1]
        elif (hashes := _HASHES.match(line)) is not None:
            yield Heading(start=start, end=start + len(line), level=len(hashes[1]), title=hashes[2] or "")
        elif before.strip() and line.rstrip() and line[0] in "=-" and _ADORNMENT.match(line):
            level = 1 if line[0] == "=" else 2
            yield Heading(start=before_start, end=start + len(line), level=level, title=before.strip())
            line = ""  # noqa: PLW2901 - an underline is no title
        before, before_start = line, start


def underlined_headings(text: str) -> Iterator[Heading]:
    """The headings of a reStructuredText or plain text: a line with punctuation of its length or more below it.

    Args:
        text: The file's text. Levels follow the order in which the styles of adornment first appear.

    Yields:
        Headings in order, an overline included in its heading.
    """
    styles: dict[tuple[str, bool], int] = {}
    two_before, before, before_start, two_start = "", "", 0, 0
    for start, line in _lines(text):
        title = before.strip()
        if title and _ADORNMENT.match(line) and len(line.rstrip()) >= len(title) and not _ADORNMENT.match(before):
            over = bool(two_before) and two_before.rstrip() == line.rstrip()
            level = styles.setdefault((line[0], over), len(styles) + 1)
            first = two_start if over else before_start
            yield Heading(start=first, end=start + len(line), level=level, title=title)
            line = ""  # noqa: PLW2901 - an underline is no title
        two_before, two_start, before, before_start = before, before_start, line, start
