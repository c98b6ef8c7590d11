"""One document from bytes to entries: read it, see whether it changed, decode it, find its parts.

Everything here is a pure function of one file, so any worker of any kind may run it. What goes on to the next step
are the entries alone, never the whole file.
"""

import codecs
import io
import os
import re
import stat
import tokenize
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import attrs

from atlas_adapters.ingestion.docstrings import compiled_entries, docstring_entries, public_name
from atlas_adapters.ingestion.errors import UnreadableDocumentError
from atlas_adapters.ingestion.library import INTERPRETER, topic_text
from atlas_adapters.ingestion.prose import Entry, Heading, WebPage, cut, markdown_headings, underlined_headings
from atlas_adapters.ingestion.sources import EXTRACTION, Document, Kind, reason_of

__all__ = ["MAX_BYTES", "Extracted", "extract"]

MAX_BYTES: Final = 32 * 1024 * 1024
"""Larger files are refused: they are data rather than documents, and one of them would hold up a worker for seconds."""

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HTML_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_HASH_BYTES: Final = 16


@attrs.frozen(kw_only=True)
class Extracted:
    """What a document says.

    Attributes:
        content_hash: Of its bytes and of the version of the code that read them.
        title: What it calls itself.
        entries: Its parts in order; None if the document is the one that the index holds already.
    """

    content_hash: bytes
    title: str
    entries: tuple[Entry, ...] | None


def extract(document: Document, known_hash: bytes | None = None, max_bytes: int = MAX_BYTES) -> Extracted:
    """Read a document and find its parts.

    Args:
        document: What to read.
        known_hash: The content hash that the index holds for it; the same again is not extracted.
        max_bytes: The largest file to read. Compiled extensions are mapped rather than read, and have no such limit.

    Returns:
        Its entries, or none if nothing has changed.

    Raises:
        UnreadableDocumentError: The file is gone, forbidden, no regular file, too large, binary, in another encoding
            than it says, or not in the language that its suffix promises.
    """
    if document.kind is Kind.TOPIC:
        return _extracted(document, known_hash, topic_text(document.title).encode(), _text)
    try:
        with open(document.path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableDocumentError(document.source, "no regular file")
            if document.kind is Kind.EXTENSION:
                return _compiled(document, known_hash, file)
            if status.st_size > max_bytes:
                reason = f"too large: {status.st_size} bytes, the limit is {max_bytes}"
                raise UnreadableDocumentError(document.source, reason)
            data = file.read()
    except OSError as error:
        raise UnreadableDocumentError(document.source, reason_of(error)) from error
    return _extracted(document, known_hash, data, _READERS[document.kind])


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or a FIFO that nobody writes to would wait for ever


_Reader = Callable[[Document, bytes], tuple[str, tuple[Entry, ...]]]


def _extracted(document: Document, known_hash: bytes | None, data: bytes, read: _Reader) -> Extracted:
    content_hash = blake2b(data, digest_size=_HASH_BYTES, salt=EXTRACTION.encode()).digest()
    if content_hash == known_hash:
        return Extracted(content_hash=content_hash, title=document.title, entries=None)
    title, entries = read(document, data)
    return Extracted(content_hash=content_hash, title=title, entries=entries)


def _compiled(document: Document, known_hash: bytes | None, file: io.BufferedReader) -> Extracted:
    digest = blake2b(digest_size=_HASH_BYTES, salt=EXTRACTION.encode())
    while block := file.read(1 << 20):
        digest.update(block)
    content_hash, entries = digest.digest(), None
    if content_hash != known_hash:
        entries = compiled_entries(file, document.title if document.title != INTERPRETER else None)
    return Extracted(content_hash=content_hash, title=public_name(document.title), entries=entries)


def _text(document: Document, data: bytes) -> tuple[str, tuple[Entry, ...]]:
    text = _decoded(document, data, "utf-8")
    return _sections(document, text, list(underlined_headings(text)))


def _markdown(document: Document, data: bytes) -> tuple[str, tuple[Entry, ...]]:
    text = _decoded(document, data, "utf-8")
    return _sections(document, text, list(markdown_headings(text)))


def _html(document: Document, data: bytes) -> tuple[str, tuple[Entry, ...]]:
    declared = _HTML_CHARSET.search(data, 0, 1024)
    encoding = declared[1].decode().lower() if declared else "utf-8"
    markup = _decoded(document, data, "utf-8" if encoding.startswith("utf-16") else encoding)  # as browsers do
    try:
        page = WebPage(markup)
    except AssertionError as error:  # the one way in which the standard library's parser gives up
        raise UnreadableDocumentError(document.source, f"malformed HTML: {error}") from error
    title = page.title or document.title
    return title, cut(page.text, page.headings, title, has_lines=False)


def _python(document: Document, data: bytes) -> tuple[str, tuple[Entry, ...]]:
    try:
        declared, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        source = _decoded(document, data, "utf-8" if declared == "utf-8-sig" else declared)
        module = document.title.removesuffix(".py").replace(os.sep, ".").removesuffix(".__init__")
        return module, docstring_entries(source, module)
    except SyntaxError as error:
        place = f" in line {error.lineno}" if error.lineno else ""
        raise UnreadableDocumentError(document.source, f"no Python of this version{place}: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise UnreadableDocumentError(document.source, "nested too deeply to be parsed") from error


def _sections(document: Document, text: str, headings: list[Heading]) -> tuple[str, tuple[Entry, ...]]:
    """A heading at the very top is the document's title."""
    titled = bool(headings) and not text[: headings[0].start].strip()
    title = headings[0].title if titled else document.title
    return title, cut(text, headings, title, has_lines=document.kind is not Kind.TOPIC)


def _decoded(document: Document, data: bytes, encoding: str) -> str:
    """Text without its byte order mark, which no place counts; line ends are left as they are."""
    skipped = 0
    for mark, marked in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            data, encoding, skipped = data[len(mark) :], marked, len(mark)
            break
    if not encoding.startswith(("utf-16", "utf-32")) and (null := data.find(b"\0")) != -1:
        raise UnreadableDocumentError(document.source, f"binary, not text: a NUL at byte {null}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        reason = f"no {encoding} text: byte {data[error.start]:#04x} at {error.start + skipped}; save it as UTF-8"
        raise UnreadableDocumentError(document.source, reason) from error
    except (LookupError, UnicodeError) as error:  # no such codec, none for text, or none for whole texts
        raise UnreadableDocumentError(document.source, f"unknown encoding {encoding!r}; save it as UTF-8") from error
    if "\0" in text:
        raise UnreadableDocumentError(document.source, "binary, not text: it holds NUL characters")
    return text


_READERS: Final[dict[Kind, _Reader]] = {
    Kind.MARKDOWN: _markdown,
    Kind.TEXT: _text,
    Kind.RST: _text,
    Kind.HTML: _html,
    Kind.PYTHON: _python,
}
