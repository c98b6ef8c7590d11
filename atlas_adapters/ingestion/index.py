"""The index: documents in, passages out. One SQLite file that many processes may write at once.

A document is replaced in one transaction, so a reader sees its old passages or its new ones. Writers take turns by
SQLite's own lock, readers never wait. Words are stemmed (Porter); passages are ranked by BM25, a word in a title
counting for more. How the file is made and opened is in `store`.
"""

import os
import re
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

import attrs

from atlas_adapters.ingestion.chunk import ChunkRow
from atlas_adapters.ingestion.sources import Document
from atlas_adapters.ingestion.store import errors_in_words, open_for_reading, open_for_writing

__all__ = ["BatchWriter", "Known", "Passage", "PassageIndex"]

_VALUES: Final = 500  # in one query; old builds of SQLite allow 999
_BATCH_DOCUMENTS: Final = 64
_BATCH_CHARS: Final = 1_000_000
_MARKS: Final = "\x02", "\x03"  # around a word that fits, in what SQLite hands out

# A word counts four times in a title, twice as a part of a name.
_SEARCH: Final = """
SELECT
  document.key, chunk.id - document.first_chunk, chunk.title, document.source, chunk.line, chunk.start, chunk.text,
  hit.marked, hit.score,
  EXISTS (
    SELECT 1 FROM chunk AS before
    WHERE before.id = chunk.id - 1 AND before.document = chunk.document AND before.title = chunk.title
  )
FROM (
  SELECT rowid, rank AS score, highlight(passage, 2, ?, ?) AS marked
  FROM passage WHERE passage MATCH ? AND rank MATCH 'bm25(4.0, 2.0, 1.0)' ORDER BY rank LIMIT ?
) AS hit
JOIN chunk ON chunk.id = hit.rowid JOIN document ON document.id = chunk.document
ORDER BY hit.score, document.source, chunk.start
"""
_ADD_DOCUMENT: Final = """
INSERT INTO document (key, path, source, title, stamp, content_hash, library, run, first_chunk, n_chunks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_CHUNK: Final = "INSERT INTO chunk (id, document, title, names, start, line, text) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ADD_PASSAGE: Final = "INSERT INTO passage (rowid, title, names, text) VALUES (?, ?, ?, ?)"


@attrs.frozen(kw_only=True)
class Known:
    """What the index holds of a document: enough to tell whether it changed."""

    stamp: str
    content_hash: bytes


@attrs.frozen(kw_only=True)
class Passage:
    """An answer: a piece of a document, where it stands, and how well it fits.

    Attributes:
        key: Its unique name: the hash of the document's path, and its number there.
        title: What leads to it.
        source: The document.
        line: The number of its first line there; 0 where there are no lines.
        start: The place of its first character.
        end: The place after its last one.
        text: What stands between.
        hits: Where the question's words stand in the text: start and end of each.
        continues: Whether the passage before it has the same title, so that this one is no beginning.
        score: How well it fits, higher is better; comparable within one question only.
    """

    key: str
    title: str
    source: str
    line: int
    start: int
    end: int
    text: str
    hits: tuple[tuple[int, int], ...] = ()
    continues: bool = False
    score: float


class PassageIndex:
    """An open index. Threads may share one; processes open their own.

    Args:
        folder: Where it is.
        connection: To its file, in autocommit mode.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._lock = threading.RLock()  # one transaction at a time on the one connection

    @classmethod
    def create(cls, folder: Path, *, rebuild: bool = False) -> Self:
        """Open an index for writing; make it and its folder if they are not there.

        Args:
            folder: Where it is or shall be.
            rebuild: Whether to empty it, whatever state it is in.

        Returns:
            The index.

        Raises:
            IndexUnusableError: The folder cannot be written, or holds a file of that name that is no index of this version.
        """
        return cls(folder, open_for_writing(folder, rebuild=rebuild))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open an index for questions only.

        Args:
            folder: Where it is; it may be on a read-only disk.

        Returns:
            The index.

        Raises:
            IndexMissingError: There is none.
            IndexUnusableError: There is a file of that name that is no index of this version.
        """
        return cls(folder, open_for_reading(folder))

    def close(self) -> None:
        """Close the file; the last one to do so empties the write-ahead log into it."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_run(self) -> int:
        """Start an ingestion.

        Returns:
            Its number, higher than any before it. A document keeps the number of the last run that met it.
        """
        with self.transaction():
            self._connection.execute("UPDATE run SET number = number + 1")
            return int(self._connection.execute("SELECT number FROM run").fetchone()[0])

    def known(self, documents: Collection[Document]) -> dict[str, Known]:
        """What is held of the given documents.

        Returns:
            By path; documents that are not there are left out.
        """
        paths = {_key(one.path): one.path for one in documents}
        keys = list(paths)
        found: dict[str, Known] = {}
        with self._reading():
            for some in (keys[i : i + _VALUES] for i in range(0, len(keys), _VALUES)):
                marks = ",".join("?" * len(some))
                query = f"SELECT key, stamp, content_hash FROM document WHERE key IN ({marks})"  # noqa: S608 - question marks
                for key, stamp, content_hash in self._connection.execute(query, some):
                    found[paths[key]] = Known(stamp=stamp, content_hash=content_hash)
        return found

    def touch(self, documents: Collection[Document], run: int) -> None:
        """Note that documents were met and are as they were."""
        if documents:
            rows = [(one.stamp, run, _key(one.path)) for one in documents]
            with self.transaction():
                self._connection.executemany("UPDATE document SET stamp = ?, run = ? WHERE key = ?", rows)

    def replace(
        self, document: Document, title: str, content_hash: bytes, chunks: Sequence[ChunkRow], run: int
    ) -> None:
        """Put a document's passages in the place of those that it had, all or none.

        Args:
            document: The document.
            title: Its own title.
            content_hash: Of what it held when it was read.
            chunks: In order.
            run: The number of this ingestion.
        """
        key, path = _key(document.path), os.fsencode(document.path)
        execute, executemany = self._connection.execute, self._connection.executemany
        with self.transaction():
            self._forget(execute("SELECT id, first_chunk, n_chunks FROM document WHERE key = ?", (key,)).fetchall())
            first = (execute("SELECT max(id) FROM chunk").fetchone()[0] or 0) + 1
            facts = (key, path, document.source, title, document.stamp, content_hash, document.library, run, first)
            number = execute(_ADD_DOCUMENT, (*facts, len(chunks))).lastrowid
            numbered = list(enumerate(chunks, first))
            executemany(_ADD_CHUNK, [(i, number, *row) for i, row in numbered])
            executemany(_ADD_PASSAGE, [(i, row[0], row[1], row[4]) for i, row in numbered])

    def remove_library(self, run: int) -> int:
        """Forget the interpreter's documents that the given run did not meet: those of another version.

        Returns:
            How many there were.
        """
        return self._remove("library AND run < ?", (run,), still_there=False)

    def remove_below(self, root: str, run: int) -> int:
        """Forget the documents below a folder that the given run did not meet and that are no longer there.

        Returns:
            How many there were.
        """
        prefix = os.fsencode(root).rstrip(os.sep.encode()) + os.sep.encode()
        after = prefix[:-1] + bytes([prefix[-1] + 1])
        return self._remove(
            "NOT library AND path >= ? AND path < ? AND run < ?", (prefix, after, run), still_there=True
        )

    def _remove(self, condition: str, values: tuple[object, ...], *, still_there: bool) -> int:
        query = f"SELECT id, first_chunk, n_chunks, path FROM document WHERE {condition}"  # noqa: S608 - one of two texts above
        with self.transaction():
            rows = self._connection.execute(query, values).fetchall()
            gone = [row[:3] for row in rows if not (still_there and os.path.lexists(os.fsdecode(row[3])))]
            self._forget(gone)
        return len(gone)

    def _forget(self, documents: Sequence[tuple[int, int, int]]) -> None:
        for number, first, n_chunks in documents:
            place = (first, first + n_chunks)
            self._connection.execute(
                "INSERT INTO passage (passage, rowid, title, names, text)"
                " SELECT 'delete', id, title, names, text FROM chunk WHERE id >= ? AND id < ?",
                place,
            )
            self._connection.execute("DELETE FROM chunk WHERE id >= ? AND id < ?", place)
            self._connection.execute("DELETE FROM document WHERE id = ?", (number,))

    def search(self, match: str, k: int) -> tuple[Passage, ...]:
        """The passages that fit best.

        Args:
            match: A query in FTS5's language, as `questions.match_of` makes it.
            k: How many at most.

        Returns:
            Best first, by BM25 alone; equal scores by source and place.
        """
        with self._reading():
            rows = self._connection.execute(_SEARCH, (*_MARKS, match, k)).fetchall()
        return tuple(
            Passage(
                key=f"{key}-{number}",
                title=title,
                source=source,
                line=line,
                start=start,
                end=start + len(text),
                text=text,
                hits=_hits(text, marked),
                continues=bool(continues),
                score=-score,
            )
            for key, number, title, source, line, start, text, marked, score, continues in rows
        )

    def counts(self) -> tuple[int, int]:
        """How many documents and how many passages there are.

        Returns:
            Both.
        """
        with self._reading():
            return tuple(
                self._connection.execute(
                    "SELECT (SELECT count(*) FROM document), (SELECT count(*) FROM chunk)"
                ).fetchone()
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, errors_in_words(self.folder):
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several changes as one: all or none of them, and written at once.

        Yields:
            Once, to the changes; a change alone is one by itself. Other threads and processes wait meanwhile.
        """
        with self._reading():
            if self._connection.in_transaction:  # of this thread, which holds the lock: its end is the outer one's
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()  # nothing to do where SQLite has done it
                raise


class BatchWriter:
    """Puts documents into an index many at a time, since a transaction alone costs as much as a document; threads may share one.

    What no transaction holds yet is kept in memory, up to a limit, and written by `close`. Sent to another process, it
    opens the index there, and writes each document at once.

    Args:
        index: The index; it stays open.
        run: The number of this ingestion, from `PassageIndex.begin_run`.
        batch_documents: So many documents make a transaction; fewer, if they are large.
    """

    def __init__(self, index: PassageIndex, run: int, batch_documents: int = _BATCH_DOCUMENTS) -> None:
        self._index, self._run, self._batch_documents = index, run, batch_documents
        self._lock = threading.Lock()
        self._waiting: list[tuple[Document, str, bytes, Sequence[ChunkRow] | None]] = []
        self._chars = 0
        self._failure: BaseException | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _writer_elsewhere, (self._index.folder, self._run)

    def put(self, document: Document, title: str, content_hash: bytes, chunks: Sequence[ChunkRow] | None) -> None:
        """Put a document's passages in the place of those that it had, now or a little later.

        Args:
            document: The document.
            title: Its own title.
            content_hash: Of what it held when it was read.
            chunks: In order; None if the index has them already.
        """
        self._raise_failure()
        with self._lock:
            self._waiting.append((document, title, content_hash, chunks))
            self._chars += sum(len(row[-1]) for row in chunks or ())
            if len(self._waiting) < self._batch_documents and self._chars < _BATCH_CHARS:
                return
            batch = self._taken()
        self._write(batch)

    def close(self) -> None:
        """Write what waits. Raises what an earlier attempt to write has raised: its documents are not in the index."""
        with self._lock:
            batch = self._taken()
        if batch:
            self._write(batch)
        self._raise_failure()

    def _taken(self) -> list[tuple[Document, str, bytes, Sequence[ChunkRow] | None]]:
        batch, self._waiting, self._chars = self._waiting, [], 0
        return batch

    def _write(self, batch: list[tuple[Document, str, bytes, Sequence[ChunkRow] | None]]) -> None:
        try:
            with self._index.transaction():
                for document, title, content_hash, chunks in batch:
                    if chunks is None:
                        self._index.touch([document], self._run)
                    else:
                        self._index.replace(document, title, content_hash, chunks, self._run)
        except BaseException as error:
            self._failure = error
            raise

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


@cache
def _writer_elsewhere(folder: Path, run: int) -> BatchWriter:
    """One writer a process: opening an index takes as long as indexing three documents."""
    return BatchWriter(PassageIndex.create(folder), run, batch_documents=1)


def _key(path: str) -> str:
    """What a document is known by, and its passages with a number behind it."""
    return blake2b(os.fsencode(path), digest_size=12).hexdigest()


def _hits(text: str, marked: str) -> tuple[tuple[int, int], ...]:
    """The places that SQLite has put marks around; none if the text holds such marks itself."""
    pieces = re.split(f"[{''.join(_MARKS)}]", marked)
    if "".join(pieces) != text:
        return ()
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return tuple(zip(ends[1:-1:2], ends[2::2], strict=True))
