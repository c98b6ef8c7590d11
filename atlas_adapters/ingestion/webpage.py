"""HTML into text with headings: what a reader would see, block by block.

The text of scripts, styles and templates is left out. Places in an entry count characters of the extracted text,
not of the markup.
"""

import re
from html.parser import HTMLParser
from typing import Final

from atlas_adapters.ingestion.sections import Heading

__all__ = ["WebPage"]

_HIDDEN: Final = frozenset({"script", "style", "template"})
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCK_TAGS: Final = """
    address article aside blockquote body br caption dd details dialog div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header hr html legend li main nav ol option p pre section summary table td th title tr ul
"""
_BLOCKS: Final = frozenset(_BLOCK_TAGS.split())
_SPACES: Final = re.compile(r"\s+")


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
