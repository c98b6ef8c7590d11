"""The main job: documents through extract, chunk and index, each step of each document a unit of a graph.

    extract_<key> ──> chunk_<key> ──> index_<key>      for each document; documents do not wait for each other

Units carry a path, not a text: whoever reads a document opens it himself, and what goes from step to step are the parts
that will be indexed. A document that was begun goes before one that was not, so few are in memory at a time. Documents
are run in windows, one graph each, so memory does not grow with their number; within a window the largest go first, so
that no worker is left alone with one at the end. Parsing holds the interpreter's lock, so by default each worker, a
thread, has a process to read with (see `readers`) and writes to the index itself: SQLite takes one writer at a time.
Every unit's function can be pickled, so plans run in any mode.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from atlas_adapters.ingestion.chunk import ChunkRow, chunk_rows
from atlas_adapters.ingestion.extract import MAX_BYTES
from atlas_adapters.ingestion.index import BatchWriter, PassageIndex
from atlas_adapters.ingestion.library import list_library
from atlas_adapters.ingestion.readers import Read, Readers, read_document
from atlas_adapters.ingestion.sources import Document, Failure, Ignored, Kind, list_path
from atlas_adapters.ingestion.tally import STAGES, IngestReport, Tally
from qp_core import ExecutionMode, QuantumPartitioner, available_cores

__all__ = ["WINDOW", "create_ingest_plan", "ingest"]

WINDOW: Final = 1_000
"""Documents in one graph."""

_WINDOW_BYTES: Final = 64 * 1024 * 1024  # to be read in one graph
_WORTH_READERS: Final = 1_000_000  # bytes to read; below, starting processes takes longer than the work

Chunked: TypeAlias = tuple[str, bytes, tuple[ChunkRow, ...] | None]
"""A document ready to be indexed: its title, the hash of its content, and its passages or None."""

ReadFunction: TypeAlias = Callable[[Document, bytes | None, int], Read]
"""What reads a document: here, as `read_document`, or elsewhere, as `Readers.read`."""


def _extract(read: ReadFunction, document: Document, known_hash: bytes | None, max_bytes: int, _: object) -> Read:
    return read(document, known_hash, max_bytes)


def _chunk(extracted_by: str, context: Mapping[str, Any]) -> Chunked:
    title, content_hash, parts = context[extracted_by]
    return title, content_hash, None if parts is None else tuple(chunk_rows(parts))


def _index(chunked_by: str, document: Document, writer: BatchWriter, context: Mapping[str, Any]) -> int | None:
    chunked: Chunked = context[chunked_by]
    title, content_hash, chunks = chunked
    writer.put(document, title, content_hash, chunks)
    return None if chunks is None else len(chunks)


def create_ingest_plan(
    documents: Iterable[Document],
    writer: BatchWriter,
    *,
    known: Mapping[str, bytes | None] | None = None,
    read: ReadFunction = read_document,
    max_bytes: int = MAX_BYTES,
    max_workers: int | None = None,
    execution_mode: ExecutionMode = ExecutionMode.THREAD,
) -> QuantumPartitioner[Any, Any]:
    """A plan that indexes the given documents.

    Args:
        documents: Each once.
        writer: What puts them into an index; to be closed when the plan has run.
        known: The hash of what the index holds of a document, by path; the same content is not extracted again.
        read: What reads a document.
        max_bytes: Larger files are refused.
        max_workers: How many units run at once.
        execution_mode: How they run, unless `execute` is told otherwise.

    Returns:
        A plan of three units a document, `extract_<key>`, `chunk_<key>` and `index_<key>`. The last one's result is the
        number of passages, None for a document that was there already.
    """
    known = known or {}
    plan: QuantumPartitioner[Any, Any] = QuantumPartitioner(
        max_workers=max_workers, default_execution_mode=execution_mode
    )
    for document in sorted(documents, key=_cost, reverse=True):
        extracted, chunked, indexed = (f"{stage}_{document.key}" for stage in STAGES)
        steps: tuple[tuple[str, list[str], Callable[[Any], Any], str], ...] = (
            (extracted, [], partial(_extract, read, document, known.get(document.path), max_bytes), "cpu"),
            (chunked, [extracted], partial(_chunk, extracted), "cpu"),
            (indexed, [chunked], partial(_index, chunked, document, writer), "io"),
        )
        for priority, (name, needs, function, resource) in enumerate(steps):
            plan.add_unit(function, needs, name=name, metadata={"resource_type": resource}, priority=priority)
    return plan


def _cost(document: Document) -> int:
    """About how long a document takes, in bytes of Python source: a compiled file is searched, not parsed."""
    return document.size_bytes // 50 if document.kind is Kind.EXTENSION else document.size_bytes


def ingest(
    paths: Sequence[str | Path],
    *,
    index_dir: str | Path,
    library: bool = False,
    execution_mode: ExecutionMode | None = None,
    max_workers: int | None = None,
    window: int = WINDOW,
    max_bytes: int = MAX_BYTES,
    rebuild: bool = False,
    on_progress: Callable[[int, int], object] = lambda _done, _met: None,
) -> IngestReport:
    """Bring an index up to date with documents: new and changed ones in, those that are gone out.

    A document that cannot be read is reported and stops nobody; what the index held of it stays.

    Args:
        paths: Files and folders.
        index_dir: Where the index is or shall be; nothing is written anywhere else.
        library: Whether to index what the running interpreter documents as well.
        execution_mode: How the units run. By default in threads; where there are two cores and enough to read, each with a
            process to read with.
        max_workers: How many units run at once; by default as many as there are cores.
        window: Documents in one graph.
        max_bytes: Larger files are refused.
        rebuild: Whether to start from an empty index.
        on_progress: Told how many documents are done, and how many have been met; called from the thread that counts.

    Returns:
        What was done.

    Raises:
        IndexUnusableError: There cannot be an index in that folder.
        ValueError: `window` is less than 1.
    """
    if window < 1:
        msg = f"a window of {window!r} documents holds none; give at least 1"
        raise ValueError(msg)
    begun = time.perf_counter()
    folder = Path(index_dir).absolute()
    roots = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - pathlib's absolute() keeps `..`
    tally = Tally(on_progress)
    with ExitStack() as stack:
        index = stack.enter_context(PassageIndex.create(folder, rebuild=rebuild))
        run = index.begin_run()
        readers: Readers | None = None
        for documents, known in _windows(_changed(_listing(roots, library=library), index, run, tally, window), window):
            if readers is None:  # the first window tells whether they are worth starting
                n = _readers_for(documents, max_workers) if execution_mode is None else 0
                readers = stack.enter_context(Readers(n))
                tally.n_readers = readers.n
            with closing(BatchWriter(index, run)) as writer:
                plan = create_ingest_plan(
                    documents, writer, known=known, read=readers.read if readers.n else read_document,
                    max_bytes=max_bytes, max_workers=readers.n or max_workers,
                    execution_mode=execution_mode or ExecutionMode.THREAD,
                )  # fmt: skip
                outputs = [f"index_{document.key}" for document in documents]
                result = plan.execute({}, outputs=outputs, strategy="priority", telemetry=[tally])
            tally.add(documents, result)
            del plan, result, documents, known, outputs  # or they would be there until the next window has its own
        n_removed = sum(index.remove_below(root, run) for root in roots) + (index.remove_library(run) if library else 0)
    return tally.report(n_removed, time.perf_counter() - begun)


def _readers_for(documents: Sequence[Document], max_workers: int | None) -> int:
    """One a worker, or none where there is too little to read for two."""
    workers = min(max_workers or available_cores(), len(documents))
    return workers if workers > 1 and sum(map(_cost, documents)) >= _WORTH_READERS else 0


def _listing(roots: Sequence[str], *, library: bool) -> Iterator[Document | Failure | Ignored]:
    """Everything that was asked for, each document once: what is asked for may overlap."""
    seen: set[str] = set()
    origins = [*([list_library()] if library else []), *(list_path(root) for root in roots)]
    for number, origin in enumerate(origins, start=1):
        for found in origin:
            if not isinstance(found, Document):
                yield found
            elif found.path not in seen:
                yield found
                if number < len(origins):  # so a single folder, however large, is never remembered
                    seen.add(found.path)


def _changed(
    listing: Iterable[Document | Failure | Ignored], index: PassageIndex, run: int, tally: Tally, at_once: int
) -> Iterator[tuple[Document, bytes | None]]:
    """The documents that have to be looked into, with the hash of what the index holds; the others are counted."""
    met: list[Document] = []
    for found in listing:
        if isinstance(found, Document):
            met.append(found)
        elif isinstance(found, Failure):
            tally.failures.append(found)
        else:
            tally.n_ignored += 1
        if len(met) >= at_once:
            yield from _sorted_out(met, index, run, tally)
            met = []
    yield from _sorted_out(met, index, run, tally)


def _sorted_out(
    met: Sequence[Document], index: PassageIndex, run: int, tally: Tally
) -> list[tuple[Document, bytes | None]]:
    """A document is as it was if it has the stamp that the index holds."""
    known = index.known(met)
    changed: list[tuple[Document, bytes | None]] = []
    same: list[Document] = []
    for document in met:
        held = known.get(document.path)
        if held and document.stamp and held.stamp == document.stamp:
            same.append(document)
        else:
            changed.append((document, held.content_hash if held else None))
    index.touch(same, run)
    tally.n_met += len(met)
    tally.n_unchanged += len(same)
    tally.document_done(len(same))
    return changed


def _windows(
    changed: Iterable[tuple[Document, bytes | None]], window: int
) -> Iterator[tuple[list[Document], dict[str, bytes | None]]]:
    """So many documents at a time, or fewer where they are large: what a graph may hold at once has a limit."""
    documents: list[Document] = []
    hashes: dict[str, bytes | None] = {}
    size = 0
    for document, known_hash in changed:
        documents.append(document)
        hashes[document.path] = known_hash
        size += _cost(document)
        if len(documents) >= window or size >= _WINDOW_BYTES:
            yield documents, hashes
            documents, hashes, size = [], {}, 0
    if documents:
        yield documents, hashes
