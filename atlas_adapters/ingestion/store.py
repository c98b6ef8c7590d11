"""The file of the index: its tables, how it is opened, and what can be wrong with it.

Write-ahead log, so readers never wait; writers wait up to a minute for each other. Temporary tables are kept in
memory: nothing is written outside the folder.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from atlas_adapters.ingestion.errors import IndexMissingError, IndexUnusableError

__all__ = ["FILE_NAME", "errors_in_words", "open_for_reading", "open_for_writing"]

FILE_NAME: Final = "passages.sqlite3"
"""The name of the index in its folder; SQLite puts a `-wal` and a `-shm` file beside it while it is in use."""

_APPLICATION: Final = 0x51504958  # "QPIX", in the header of the file: this is ours
_SCHEMA: Final = 2
_BUSY_S: Final = 60.0
_NO_FTS5: Final = f"the SQLite of this Python ({sqlite3.sqlite_version}) was built without FTS5, its full-text search; use another Python"

_TABLES: Final = """
CREATE TABLE run (number INTEGER NOT NULL);
INSERT INTO run VALUES (0);
CREATE TABLE document (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, path BLOB NOT NULL, source TEXT NOT NULL, title TEXT NOT NULL,
  stamp TEXT NOT NULL, content_hash BLOB NOT NULL, library INTEGER NOT NULL, run INTEGER NOT NULL,
  first_chunk INTEGER NOT NULL, n_chunks INTEGER NOT NULL
);
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY, document INTEGER NOT NULL, start INTEGER NOT NULL, line INTEGER NOT NULL, title TEXT NOT NULL,
  names TEXT NOT NULL, text TEXT NOT NULL
);
CREATE VIRTUAL TABLE passage USING fts5(
  title, names, text, content='chunk', content_rowid='id', tokenize='porter unicode61'
);
"""


def open_for_writing(folder: Path, *, rebuild: bool = False) -> sqlite3.Connection:
    """Open the index for writing; make it and its folder if they are not there.

    Args:
        folder: Where it is or shall be.
        rebuild: Whether to empty it, whatever state it is in.

    Returns:
        A connection in autocommit mode, for any thread.

    Raises:
        IndexUnusableError: The folder cannot be written, or holds a file of that name that is no index of this version.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if rebuild:
            _remove_broken(folder)
        with errors_in_words(folder):
            return _prepared(folder, rebuild=rebuild)
    except OSError as error:
        raise IndexUnusableError(str(folder), (error.strerror or type(error).__name__).lower()) from error


def open_for_reading(folder: Path) -> sqlite3.Connection:
    """Open the index for questions only.

    Args:
        folder: Where it is; it may be on a read-only disk.

    Returns:
        A connection that cannot write, for any thread.

    Raises:
        IndexMissingError: There is none, or another program is just about to make one.
        IndexUnusableError: There is a file of that name that is no index of this version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise IndexMissingError(str(folder))
    # Without a log to read and a folder to write, SQLite could not share the file; nobody can change it then.
    writable = os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    frozen = not writable and not path.with_name(f"{FILE_NAME}-wal").exists()
    # Otherwise a connection that may write but does not, since only such a one cleans up after itself.
    uri = f"{path.resolve().as_uri()}?{'mode=ro&immutable=1' if frozen else 'mode=rw'}"
    with errors_in_words(folder):
        connection = _connected(uri, uri=True)
        try:
            connection.execute("PRAGMA query_only = ON")
            if _is_new(connection):
                raise IndexMissingError(str(folder))  # noqa: TRY301 - the connection is closed as for any other error
            _check(folder, connection)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def errors_in_words(folder: Path) -> Iterator[None]:
    """Turn what SQLite says of a file that is locked, full or broken into an error that names the index.

    Args:
        folder: Where the index is.

    Yields:
        Once, to the statements that may fail.

    Raises:
        IndexUnusableError: SQLite could not work on the file.
    """  # noqa: DOC501 - a DatabaseError passes on as it came
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = _NO_FTS5 if "no such module" in str(error) else str(error)
        raise IndexUnusableError(str(folder), reason) from error
    except sqlite3.DatabaseError as error:
        if not _is_broken(error):  # then a caller's mistake, not the file's
            raise
        raise IndexUnusableError(str(folder), f"{error}; {_anew(folder)}") from error


def _anew(folder: Path) -> str:
    return f"make it anew with: qp ingest --index {str(folder)!r} --rebuild"


def _connected(path: str, *, uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, uri=uri)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _prepared(folder: Path, *, rebuild: bool = False) -> sqlite3.Connection:
    """A connection to a file that has the tables."""
    connection = _connected(str(folder / FILE_NAME))
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        is_new = _is_new(connection)
        if not is_new and not rebuild:
            _check(folder, connection)
        if not is_new and rebuild:
            _check_application(folder, connection)
            for name in ("passage", "chunk", "document", "run"):
                connection.execute(f"DROP TABLE IF EXISTS {name}")
        if is_new or rebuild:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether nobody has written anything yet."""
    version, n_tables = connection.execute(
        "SELECT user_version, (SELECT count(*) FROM sqlite_master WHERE type = 'table') FROM pragma_user_version"
    ).fetchone()
    return not version and not n_tables


def _check_application(folder: Path, connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        reason = f"{FILE_NAME!r} is another program's database; name another folder with --index"
        raise IndexUnusableError(str(folder), reason)


def _check(folder: Path, connection: sqlite3.Connection) -> None:
    _check_application(folder, connection)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _SCHEMA:
        raise IndexUnusableError(str(folder), f"its form is {version}, this version needs {_SCHEMA}; {_anew(folder)}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on; it stays on for the file.

    While another process does the same, SQLite answers "locked" at once instead of waiting, so the waiting is done here.

    Raises:
        OperationalError: It still does after a minute, or something else is wrong.
    """
    last = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > last:
                raise
            time.sleep(0.01)
        else:
            return


def _code(error: sqlite3.Error) -> int:
    """The primary result code: the low byte, above which stands a detail."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_broken(error: sqlite3.Error) -> bool:
    return _code(error) in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def _remove_broken(folder: Path) -> None:
    """Remove the file if it cannot be read at all; one that can is emptied in place, under whoever has it open."""
    connection = _connected(str(folder / FILE_NAME))
    try:
        theirs = connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION
        broken = not theirs and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok"
    except sqlite3.DatabaseError as error:
        broken = _is_broken(error)
    finally:
        connection.close()
    if broken:
        for suffix in ("", "-wal", "-shm"):
            (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
