"""B14: the main job beside a plain script that makes the same calls in one loop, and its memory as documents become more.

Both index what the interpreter documents and this project's docs/, each in a fresh process, and are timed from the first look
at a folder to the closed index: whatever an engine has to start is in, imports are not. The two indexes must be equal, and
answer alike. The script runs as Python does by default, and once more with the cycle collector off: our readers pause it, and
that is no parallelism.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import resource
import sqlite3
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.runner import Bench, Samples
from tests.benchmarks.table import Budget, Form, Line, judge

Figures = dict[str, Any]
WORKERS = 2
DOCS = Path("docs")  # of this project: the bench runs at its root
QUESTIONS = (
    "how do I compute a CRC of some bytes?",
    "how can I read a zip archive?",
    "what does the with statement do?",
)
N_DOCUMENTS = 4_000  # more than a graph holds, so that what stays of one would show in the next
_LARGEST = 6_000  # bytes of a file that is copied for the measurement of memory


def ours(folder: Path) -> None:
    """Do what `qp ingest` does."""
    from atlas_adapters.ingestion import ingest  # noqa: PLC0415  # a child imports what it measures, before the clock starts

    ingest([DOCS], index_dir=folder, library=True, max_workers=WORKERS)


def plain_script(folder: Path) -> None:
    """Do what one would write without an engine: one loop, a transaction every 64 documents as ours has."""
    from atlas_adapters.ingestion.chunk import chunk_rows  # noqa: PLC0415
    from atlas_adapters.ingestion.extract import extract  # noqa: PLC0415
    from atlas_adapters.ingestion.index import PassageIndex  # noqa: PLC0415
    from atlas_adapters.ingestion.library import list_library  # noqa: PLC0415
    from atlas_adapters.ingestion.sources import Document, list_path  # noqa: PLC0415

    listed = itertools.chain(list_library(), list_path(str(DOCS)))
    documents = [one for one in listed if isinstance(one, Document)]
    with PassageIndex.create(folder) as index:
        run = index.begin_run()
        for first in range(0, len(documents), 64):
            with index.transaction():
                for document in documents[first : first + 64]:
                    found = extract(document)
                    parts = [(entry.title, entry.start, entry.line, entry.text) for entry in found.entries or ()]
                    index.replace(document, found.title, found.content_hash, list(chunk_rows(parts)), run)


CONTENDERS: dict[str, Callable[[Path], None]] = {"ours": ours, "script": plain_script, "script-nogc": plain_script}


def measure_job(contender: str) -> Figures:
    """Seconds that the job takes, of wall clock and of CPU in all processes; and what the index is like then."""
    import atlas_adapters.ingestion.pipeline  # noqa: F401, PLC0415  # before the clock starts, for all alike
    from qp_core import Plugins  # noqa: PLC0415

    Plugins.installed()  # the command `qp` has done this before it comes to its subcommand
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if contender == "script-nogc":
            gc.disable()
        wall, cpu = time.perf_counter(), _cpu_s()
        CONTENDERS[contender](folder)
        wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
        return {"wall_s": wall, "cpu_s": cpu, **_contents(folder)}


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _contents(folder: Path) -> Figures:
    """How many documents and passages there are, and a digest of them, of the full-text index, and of three answers."""
    from atlas_adapters.ingestion import PassageIndex  # noqa: PLC0415
    from atlas_adapters.ingestion.questions import answer  # noqa: PLC0415
    from atlas_adapters.ingestion.store import FILE_NAME  # noqa: PLC0415

    digest = hashlib.blake2b()
    connection = sqlite3.connect(folder / FILE_NAME)
    connection.execute("INSERT INTO passage (passage) VALUES ('integrity-check')")
    for row in connection.execute(
        "SELECT source, document.title, hex(content_hash), start, line, chunk.title, names, text"
        " FROM document LEFT JOIN chunk ON chunk.document = document.id ORDER BY source, start, text"
    ):
        digest.update(repr(row).encode())
    connection.close()
    with PassageIndex.read(folder) as index:
        n_documents, n_passages = index.counts()
        for question in QUESTIONS:
            found = [(one.title, one.source, one.start, round(one.score, 6)) for one in answer(question, index, 5)]
            digest.update(repr(found).encode())
    return {"n_documents": n_documents, "n_passages": n_passages, "digest": digest.hexdigest()}


def measure_memory(n: int) -> Figures:
    """Peak RSS of indexing n files, of which much is Python itself, and what it adds: copies of the library's smaller modules."""
    from atlas_adapters.ingestion import ingest  # noqa: PLC0415

    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py"))
    real = [path.read_text() for path in files if 500 < path.stat().st_size < _LARGEST and "test" not in str(path)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i, text in zip(range(n), itertools.cycle(real), strict=False):
            path = root / "files" / str(i % 50) / f"{i}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n# copy {i}\n")
        ingest([DOCS], index_dir=root / "warm", max_workers=WORKERS)
        before = _status_bytes("VmRSS")
        report = ingest([root / "files"], index_dir=root / "index", max_workers=WORKERS)
        if report.n_indexed + len(report.failures) != n:
            return {"wrong": f"{report.n_indexed} of {n} documents indexed"}
        readers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        peak = _status_bytes("VmHWM")
        return {"peak_bytes": peak, "added_bytes": peak - before, "reader_bytes": readers, "seconds": report.wall_s}


def _status_bytes(field: str) -> int:
    """Read a size from /proc/self/status (Linux), in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main_job(bench: Bench) -> Iterator[Line]:
    """B14: `qp ingest` with two workers beside the plain script; memory with four times the documents."""
    names = ("ours", "script", "script-nogc")
    engine, script, nogc = bench.measure([_program("measure_job", name) for name in names])
    if not engine.trouble and not script.trouble:
        engine = _compared(engine, script)
        figures = script.figures[0]
        what = f"qp ingest, {figures['n_documents']} documents, 2 workers"
    else:
        what = "qp ingest, 2 workers"
    line = Line(row="B14", what=what, unit="s wall", reference="plain script", budget=Budget(1.7, Form.LESS))
    yield judge(line, engine, script, "wall_s", beside="cpu_s")
    line = attrs.evolve(line, what="the same", reference="script, collector off", budget=None)
    yield judge(line, engine, nogc, "wall_s", beside="cpu_s")
    less, more = bench.measure([_program("measure_memory", n) for n in (N_DOCUMENTS, 4 * N_DOCUMENTS)])
    less, more = _megabytes(less), _megabytes(more)
    line = Line(row="B14", what=f"peak RSS, {4 * N_DOCUMENTS} documents", unit="MB", budget=Budget(1.1))
    line = attrs.evolve(line, reference=f"{N_DOCUMENTS} documents")
    if not less.trouble and not more.trouble:
        told = [f"{samples.least('added_mb'):.1f} : {samples.least('reader_mb'):.1f}" for samples in (more, less)]
        line = attrs.evolve(line, note=f"added, and a reader's: {told[0]} MB; with {N_DOCUMENTS}: {told[1]}")
    yield judge(line, more, less, "peak_mb")


def _program(function: str, argument: object) -> dict[str, Any]:
    code = f"import json; from tests.benchmarks import ingest; print(json.dumps(ingest.{function}({argument!r})))"
    return {"code": code, "contender": str(argument)}


def _compared(engine: Samples, script: Samples) -> Samples:
    """Ours has no figure if its index is not the script's."""
    keys = ("n_documents", "n_passages", "digest")
    wanted = [script.figures[0][key] for key in keys]
    differ = [
        key
        for figures in (*engine.figures, *script.figures)
        for key, value in zip(keys, wanted, strict=True)
        if figures[key] != value
    ]
    return attrs.evolve(engine, wrong=f"another {differ[0]} than the script's") if differ else engine


def _megabytes(samples: Samples) -> Samples:
    figures = [
        {f"{key[:-6]}_mb": value / 1e6 for key, value in one.items() if key.endswith("_bytes")}
        for one in samples.figures
    ]
    return attrs.evolve(samples, figures=figures)
