"""The main job: documents through extract, chunk and index, each step of each document a unit of a graph.

    extract_<key> ──> chunk_<key> ──> index_<key>      for each document; documents do not wait for each other

Units carry a path, not a text: a worker reads its document itself, and what goes from step to step are the parts that
will be indexed. A document that was begun goes before one that was not, so few are in memory at a time, and what is done
is in the index when a run is stopped. Documents are run in windows, one graph each, so memory does not grow with their
number; within a window the largest go first, so that no worker is left alone with one at the end. Every function is a
module's own, so that any worker of any kind can be sent it.
"""

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from atlas_adapters.ingestion.chunk import TARGET_CHARS, spans
from atlas_adapters.ingestion.extract import MAX_BYTES, extract
from atlas_adapters.ingestion.index import ChunkRow, PassageIndex
from atlas_adapters.ingestion.library import list_library
from atlas_adapters.ingestion.questions import names_in
from atlas_adapters.ingestion.sources import Document, Failure, Ignored, Kind, list_path
from atlas_adapters.ingestion.tally import STAGES, IngestReport, Tally
from qp_core import ExecutionMode, QuantumPartitioner, available_cores

__all__ = ["WINDOW", "create_ingest_plan", "ingest"]

WINDOW: Final = 2_048
"""Documents in one graph."""

_WINDOW_BYTES: Final = 64 * 1024 * 1024  # to be read in one graph
_WORTH_PROCESSES: Final = 2_000_000  # bytes to read; below, starting workers takes longer than the work
# This process's open indexes, each with the process's number: one that was open before a fork is not ours.
_writers: dict[Path, tuple[int, PassageIndex]] = {}
_writers_lock = threading.Lock()


Read: TypeAlias = tuple[str, bytes, tuple[tuple[str, int, str], ...] | None]
"""A document that was read: its title, the hash of its content, and of each part title, place and text; None instead of
the parts if the index holds them already. Plain tuples, since they may cross to another process: a tenth of the cost of
records."""

Chunked: TypeAlias = tuple[str, bytes, tuple[ChunkRow, ...] | None]
"""A document ready to be indexed: its title, the hash of its content, and its passages or None."""


def extract_document(document: Document, known_hash: bytes | None, max_bytes: int, context: object = None) -> Read:
    """Read one document, as `extract.extract` does; the function of `extract_<key>`.

    Returns:
        Its parts, or none if they are those with the known hash.
    """
    del context
    with _collector_paused():
        found = extract(document, known_hash, max_bytes)
    if found.entries is None:
        return found.title, found.content_hash, None
    return found.title, found.content_hash, tuple((entry.title, entry.start, entry.text) for entry in found.entries)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Parse without the cycle collector: syntax trees have no cycles, and looking for some takes a fifth of the time.

    Only in a worker process, which has nothing else to do; a program that runs units in its own threads keeps its collector.
    """
    if multiprocessing.parent_process() is None or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def chunk_document(extracted_by: str, context: Mapping[str, Any]) -> Chunked:
    """Cut one document's parts into passages; the function of `chunk_<key>`.

    Args:
        extracted_by: The unit whose result to cut.
        context: Where that result is.

    Returns:
        The passages, in order.
    """
    title, content_hash, parts = context[extracted_by]
    return title, content_hash, None if parts is None else tuple(chunk_rows(parts))


def chunk_rows(parts: Iterable[tuple[str, int, str]]) -> Iterator[ChunkRow]:
    """Cut the parts of a document into passages.

    Args:
        parts: Title, place and text of each.

    Yields:
        Passages, in order.
    """
    for title, start, text in parts:
        names = names_in(title)
        for first, last in spans(text, TARGET_CHARS):
            yield title, names, start + first, text[first:last]


def index_document(
    chunked_by: str, document: Document, index_dir: Path, run: int, context: Mapping[str, Any]
) -> int | None:
    """Put one document into the index; the function of `index_<key>`.

    Args:
        chunked_by: The unit whose result to index.
        document: Where it came from.
        index_dir: Where the index is.
        run: The number of this ingestion.
        context: Where the result is.

    Returns:
        The number of its passages; None if it was there already.
    """
    chunked: Chunked = context[chunked_by]
    title, content_hash, chunks = chunked
    index = _writer(index_dir)
    if chunks is None:
        index.touch([document], run)
        return None
    index.replace(document, title, content_hash, chunks, run)
    return len(chunks)


def _writer(index_dir: Path) -> PassageIndex:
    """This process's open index; opening one takes as long as indexing three documents."""
    with _writers_lock:
        process, index = _writers.get(index_dir, (0, None))
        if index is None or process != os.getpid() or not index.is_current:
            index = PassageIndex.create(index_dir)
            _writers[index_dir] = (os.getpid(), index)
        return index


def _close_writer(index_dir: Path) -> None:
    with _writers_lock:
        process, index = _writers.pop(index_dir, (0, None))
    if index is not None and process == os.getpid():
        index.close()


def create_ingest_plan(
    documents: Iterable[Document],
    *,
    index_dir: Path,
    run: int,
    known: Mapping[str, bytes | None] | None = None,
    max_bytes: int = MAX_BYTES,
    max_workers: int | None = None,
    execution_mode: ExecutionMode = ExecutionMode.THREAD,
) -> QuantumPartitioner[Any, Any]:
    """A plan that indexes the given documents.

    Args:
        documents: Each once.
        index_dir: Where the index is; an absolute path.
        run: The number of this ingestion, from `PassageIndex.begin_run`.
        known: The hash of what the index holds of a document, by path; the same content is not extracted again.
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
            (extracted, [], partial(extract_document, document, known.get(document.path), max_bytes), "cpu"),
            (chunked, [extracted], partial(chunk_document, extracted), "cpu"),
            (indexed, [chunked], partial(index_document, chunked, document, index_dir, run), "io"),
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
        execution_mode: How the units run. By default in processes, where there are two cores and enough to read.
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
    with PassageIndex.create(folder, rebuild=rebuild) as index:
        run = index.begin_run()
        try:
            listing = _listing(roots, library=library)
            for documents, known in _windows(_changed(listing, index, run, tally, window), window):
                mode = execution_mode or _mode_for(documents)
                plan = create_ingest_plan(
                    documents, index_dir=folder, run=run, known=known, max_bytes=max_bytes, max_workers=max_workers,
                    execution_mode=mode,
                )  # fmt: skip
                outputs = [f"index_{document.key}" for document in documents]
                result = plan.execute({}, outputs=outputs, strategy="priority", telemetry=[tally])
                tally.add(documents, result)
        finally:
            _close_writer(folder)
        n_removed = sum(index.remove_below(root, run) for root in roots) + (index.remove_library(run) if library else 0)
    return tally.report(n_removed, time.perf_counter() - begun)


def _mode_for(documents: Sequence[Document]) -> ExecutionMode:
    """Extracting and chunking hold the interpreter's lock, so only processes run them in parallel."""
    worth_it = available_cores() > 1 and sum(_cost(document) for document in documents) >= _WORTH_PROCESSES
    return ExecutionMode.PROCESS if worth_it else ExecutionMode.THREAD


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
