"""The index: documents in, passages out. One SQLite file that many processes may write at once.

A document is replaced in one transaction, so a reader sees its old passages or its new ones. Writers take turns by
SQLite's own lock, readers never wait. Words are stemmed (Porter); passages are ranked by BM25, a word in a title
counting for more. How the file is made and opened is in `store`.
"""

import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self, TypeAlias

import attrs

from atlas_adapters.ingestion.sources import Document
from atlas_adapters.ingestion.store import FILE_NAME, errors_in_words, open_for_reading, open_for_writing

__all__ = ["ChunkRow", "Known", "Passage", "PassageIndex"]

_VALUES: Final = 500  # in one query; old builds of SQLite allow 999
_MORE: Final = 20  # passages looked at beyond those asked for: equal scores are put in order, repeated texts left out

# A word counts four times in a title, twice as a part of a name.
_SEARCH: Final = """
SELECT document.key, chunk.id - document.first_chunk, chunk.title, document.source, chunk.start, chunk.text, hit.score
FROM (
  SELECT rowid, rank AS score FROM passage WHERE passage MATCH ? AND rank MATCH 'bm25(4.0, 2.0, 1.0)' ORDER BY rank LIMIT ?
) AS hit
JOIN chunk ON chunk.id = hit.rowid JOIN document ON document.id = chunk.document
ORDER BY hit.score, document.source, chunk.start
"""


_ADD_DOCUMENT: Final = """
INSERT INTO document (key, path, source, title, stamp, content_hash, library, run, first_chunk, n_chunks)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_CHUNK: Final = "INSERT INTO chunk (id, document, title, names, start, text) VALUES (?, ?, ?, ?, ?, ?)"
_ADD_PASSAGE: Final = "INSERT INTO passage (rowid, title, names, text) VALUES (?, ?, ?, ?)"


ChunkRow: TypeAlias = tuple[str, str, int, str]
"""A passage to index: the title that leads to it, the words inside the title's names (`crc 32` for `crc32`), the place of
its first character in the document, and its text."""


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
        start: The place of its first character.
        end: The place after its last one.
        text: What stands between.
        score: BM25, higher is better; comparable within one question only.
    """

    key: str
    title: str
    source: str
    start: int
    end: int
    text: str
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
        status = (folder / FILE_NAME).stat()
        self._identity = (status.st_dev, status.st_ino)

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

    @property
    def is_current(self) -> bool:
        """Whether the open file is still the one in the folder: somebody may have removed it since."""
        try:
            status = os.stat(self.folder / FILE_NAME)  # noqa: PTH116 - asked once a document
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

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
            executemany(_ADD_PASSAGE, [(i, row[0], row[1], row[3]) for i, row in numbered])

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
            Best first; equal scores by source and place; of passages with the same text only the first.
        """
        with self._reading():
            rows = self._connection.execute(_SEARCH, (match, k + _MORE)).fetchall()
        found: dict[str, Passage] = {}
        for key, number, title, source, start, text, score in rows:
            found.setdefault(
                text,
                Passage(
                    key=f"{key}-{number}",
                    title=title,
                    source=source,
                    start=start,
                    end=start + len(text),
                    text=text,
                    score=-score,
                ),
            )
        return tuple(found.values())[:k]

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


def _key(path: str) -> str:
    """What a document is known by, and its passages with a number behind it."""
    return blake2b(os.fsencode(path), digest_size=12).hexdigest()
