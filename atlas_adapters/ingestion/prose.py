"""Texts with headings into entries: one section each, under the titles that lead to it.

Serves Markdown (`#` and underlined headings, code fences respected), reStructuredText and plain text (underlined
headings, with or without an overline), and HTML: what a reader would see, block by block, without scripts, styles and
templates. Nothing is rewritten: an entry is a slice of the text (of HTML, of the text that was extracted).
"""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Final

import attrs

__all__ = ["Entry", "Heading", "WebPage", "cut", "markdown_headings", "underlined_headings"]

_TITLE_CHARS: Final = 200
_SEPARATOR: Final = " > "
_LINE: Final = re.compile(r"[^\n]*\n?")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HASHES: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\r?\n?\Z")
_ADORNMENT: Final = re.compile(r"([=\-~^\"'`*+#<>:._!$%&])\1{2,}[ \t]*\r?\n?\Z")
_HIDDEN: Final = frozenset({"script", "style", "template"})
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCK_TAGS: Final = """
    address article aside blockquote body br caption dd details dialog div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol option p pre section summary table td th title tr ul
"""
_BLOCKS: Final = frozenset(_BLOCK_TAGS.split())
_SPACES: Final = re.compile(r"\s+")


@attrs.frozen(kw_only=True)
class Entry:
    """A part of a document that has a title of its own.

    Attributes:
        title: What leads to it, outermost first.
        start: Its first character's place in the document's text (in the file's bytes, for a compiled extension).
        line: The number of its first line, from 1; 0 where the file has no lines that an editor would show.
        text: The part itself, unchanged.
    """

    title: str
    start: int
    line: int
    text: str


@attrs.frozen(kw_only=True)
class Heading:
    """A heading: where its first line begins and its last one ends, how deep it is (from 1), what it says."""

    start: int
    end: int
    level: int
    title: str


def cut(text: str, headings: Iterable[Heading], title: str, *, has_lines: bool = True) -> tuple[Entry, ...]:
    """Cut a text at its headings.

    A heading with nothing under it but the next heading stays with that one, so that no entry is a bare title.

    Args:
        text: The whole text.
        headings: In the order of their places.
        title: The document's title; a first heading that says the same is not named twice.
        has_lines: Whether the text is the file's own, so that its lines are those of the file.

    Returns:
        Entries that cover the text; white space at their borders belongs to the one before.
    """
    entries: list[Entry] = []
    start, body, line, path = 0, 0, int(has_lines), [(0, title)]
    for heading in headings:
        if text[body : heading.start].strip():
            part = text[start : heading.start]
            entries.append(Entry(title=_joined(path), start=start, line=line, text=part))
            start = heading.start
            line += part.count("\n") if has_lines else 0
        body = heading.end
        while path[-1][0] >= heading.level:
            path.pop()
        if heading.title.casefold() != path[-1][1].casefold():
            path.append((heading.level, heading.title))
    if text[start:].strip():
        entries.append(Entry(title=_joined(path), start=start, line=line, text=text[start:]))
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


class WebPage(HTMLParser):
    """Collects the text of one page; feed it once, then read `text`, `title` and `headings`.

    Attributes:
        title: What the page's `<title>` says, or nothing.
        headings: `<h1>` to `<h6>`, with their places in `text`.
    """

    def __init__(self, markup: str) -> None:
        """Read a page.

        Args:
            markup: All of it. On some malformed markup the standard library's parser gives up with an AssertionError.
        """
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.headings: list[Heading] = []
        self._parts: list[str] = []
        self._length = 0
        self._hidden: list[str] = []
        self._preformatted = 0
        self._in_title = False
        self._heading: tuple[str, int, int] | None = None
        self.feed(markup)
        self.close()
        self._end_heading()

    @property
    def text(self) -> str:
        """What the page says, a line a block."""
        return "".join(self._parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a block, a heading, or what is hidden; called by the parser."""
        del attrs
        if tag in _HIDDEN:
            self._hidden.append(tag)
        if self._hidden:
            return
        if tag in _BLOCKS:
            self._break()
        if tag in _HEADINGS:
            self._end_heading()
            self._heading = (tag, self._length, len(self._parts))
        self._preformatted += tag == "pre"
        self._in_title = tag == "title" or self._in_title

    def handle_endtag(self, tag: str) -> None:
        """End it; called by the parser."""
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        if self._hidden:
            return
        if self._heading and tag == self._heading[0]:
            self._end_heading()
        if tag == "pre" and self._preformatted:
            self._preformatted -= 1
        self._in_title = self._in_title and tag != "title"
        if tag in _BLOCKS:
            self._break()

    def handle_data(self, data: str) -> None:
        """Keep text that is shown; called by the parser."""
        if self._hidden:
            return
        if self._in_title:
            self.title = _SPACES.sub(" ", self.title + data).strip()
            return
        if not self._preformatted:
            data = _SPACES.sub(" ", data)
            if not self._parts or self._parts[-1][-1].isspace():
                data = data.lstrip()
        self._add(data)

    def _add(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)

    def _break(self) -> None:
        """End the line, once; two line feeds, so that a block is a paragraph to whoever cuts the text."""
        if self._parts and self._parts[-1] != "\n\n":
            self._add("\n\n")

    def _end_heading(self) -> None:
        if self._heading is None:
            return
        (tag, start, n_parts), self._heading = self._heading, None
        title = _SPACES.sub(" ", "".join(self._parts[n_parts:])).strip()
        if title:
            self.headings.append(Heading(start=start, end=self._length, level=_HEADINGS[tag], title=title))
