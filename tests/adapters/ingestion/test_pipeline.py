import gc
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from atlas_adapters.ingestion import Document, PassageIndex, create_ingest_plan, ingest, pipeline, readers, sources
from atlas_adapters.ingestion.chunk import chunk_rows
from atlas_adapters.ingestion.extract import extract
from atlas_adapters.ingestion.index import BatchWriter
from atlas_adapters.ingestion.questions import answer
from atlas_adapters.ingestion.sources import Kind, list_path
from atlas_adapters.ingestion.store import FILE_NAME
from qp_core import ExecutionMode

MODES = [ExecutionMode.SEQUENTIAL, ExecutionMode.THREAD, ExecutionMode.PROCESS, None]
every_mode = pytest.mark.parametrize("mode", MODES, indirect=True, ids=["sequential", "thread", "process", "readers"])

FILES = {
    "a.md": "# Birds\n\nThe parrot rests.\n\n## Food\n\nSeeds.\n",
    "b/c.rst": "Boats\n=====\n\nA boat floats.\n",
    "b/d.html": "<h1>Cars</h1><p>A car rolls.<script>x</script>",
    "b/e/f.py": 'def fly(x):\n    """Fly with a parrot."""\n',
    "long.txt": " ".join(f"Sentence {i} about whales." for i in range(600)),
    "empty.md": "",
}


@pytest.fixture
def mode(request, monkeypatch):
    """How units run; None is the default, here with processes to read with however little there is to read."""
    monkeypatch.setattr(pipeline, "_WORTH_READERS", 0)
    return request.param


@pytest.fixture
def written(write):
    """The folder with the files above, all older than a moment."""
    for name, content in FILES.items():
        age(write(name, content))


def age(path, seconds=100):
    """Make a file as old as that, so that its time can be trusted."""
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def contents(index_dir):
    """All passages, by source and place."""
    connection = sqlite3.connect(index_dir / FILE_NAME)
    rows = connection.execute(
        "SELECT document.source, document.title, document.content_hash, chunk.start, chunk.title, chunk.names, chunk.text, chunk.line"
        " FROM document LEFT JOIN chunk ON chunk.document = document.id ORDER BY 1, 4"
    ).fetchall()
    connection.close()
    return rows


def answers(index_dir, question):
    """The titles that a question finds."""
    with PassageIndex.read(index_dir) as index:
        return [passage.title for passage in answer(question, index, 10)]


def plain_script(documents, index_dir):
    """What one would write without this library: one loop, one transaction for many documents."""
    with PassageIndex.create(index_dir) as index:
        run = index.begin_run()
        for first in range(0, len(documents), 100):
            with index.transaction():
                for document in documents[first : first + 100]:
                    found = extract(document)
                    parts = [(entry.title, entry.start, entry.line, entry.text) for entry in found.entries]
                    index.replace(document, found.title, found.content_hash, list(chunk_rows(parts)), run)


@every_mode
@pytest.mark.slow
def test_every_mode_makes_the_index_that_a_plain_loop_makes(written, folder, index_dir, tmp_path, mode):
    """The same documents, titles, places and texts; unordered work, ordered result."""
    report = ingest([folder], index_dir=index_dir, execution_mode=mode, max_workers=2, window=4)
    assert (report.n_indexed, report.n_units, report.failures) == (6, 18, ())
    assert (report.mode, report.n_readers) == ("thread" if mode is None else mode.value, 2 if mode is None else 0)
    plain_script([one for one in list_path(str(folder)) if isinstance(one, Document)], tmp_path / "plain")
    assert contents(index_dir) == contents(tmp_path / "plain")
    assert report.n_passages == sum(row[3] is not None for row in contents(index_dir))


def test_what_is_indexed_can_be_asked(written, folder, index_dir):
    """Text of every format, under the titles that lead to it."""
    ingest([folder], index_dir=index_dir)
    assert sorted(answers(index_dir, "parrot")) == ["Birds", "b.e.f.fly"]
    assert answers(index_dir, "floating boats") == ["Boats"]
    assert answers(index_dir, "cars") == ["b/d.html > Cars"]
    assert len(answers(index_dir, "whales")) == 10


def test_a_passage_is_a_slice_of_its_file(written, folder, index_dir):
    """Of every format that is text as it stands."""
    ingest([folder], index_dir=index_dir)
    for source, _, _, start, _, _, text, _ in contents(index_dir):
        if start is not None and not source.endswith(".html"):
            with pathlib.Path(source).open(encoding="utf-8", newline="") as file:
                assert file.read()[start : start + len(text)] == text


@every_mode
def test_what_cannot_be_read_is_reported_and_stops_nobody(written, folder, write, index_dir, mode):
    """Each with its own reason; the others are indexed."""
    write("binary.md", b"a\0b")
    write("latin.txt", b"caf\xe9")
    write("broken.py", "def f(:\n")
    os.mkfifo(folder / "pipe.md")
    (folder / "gone.md").symlink_to(folder / "nowhere")
    write("big.txt", "x" * 20_000)
    report = ingest([folder], index_dir=index_dir, execution_mode=mode, max_workers=2, max_bytes=19_999)
    assert {Path(failure.source).name: failure.reason.split(":")[0] for failure in report.failures} == {
        "binary.md": "binary, not text",
        "latin.txt": "no utf-8 text",
        "broken.py": "no Python of this version in line 1",
        "pipe.md": "no regular file",
        "gone.md": "no such file",
        "big.txt": "too large",
    }
    assert (report.n_indexed, report.n_documents) == (6, 12)
    assert len({row[0] for row in contents(index_dir)}) == 6


def test_what_nobody_has_foreseen_fails_its_document_alone(written, folder, index_dir, monkeypatch):
    """With the step and the error for a reason."""
    real = pipeline.chunk_rows

    def chunk_rows(parts):
        if any("parrot rests" in part[-1] for part in parts):
            raise LookupError("odd parrot")
        return real(parts)

    monkeypatch.setattr(pipeline, "chunk_rows", chunk_rows)
    report = ingest([folder], index_dir=index_dir)
    assert [(Path(one.source).name, one.reason) for one in report.failures] == [
        ("a.md", "chunk: LookupError: odd parrot")
    ]
    assert report.n_indexed == 5


def test_a_second_run_takes_up_nothing(written, folder, index_dir):
    """By time and size alone: no unit runs."""
    first = ingest([folder], index_dir=index_dir)
    before = contents(index_dir)
    second = ingest([folder], index_dir=index_dir)
    assert (first.n_indexed, first.n_unchanged) == (6, 0)
    assert (second.n_indexed, second.n_unchanged, second.n_units, second.mode) == (0, 6, 0, "none")
    assert contents(index_dir) == before


def test_a_touched_file_is_read_but_not_indexed_again(written, folder, index_dir):
    """A new time with the same content: the hash decides, and the new time is remembered."""
    ingest([folder], index_dir=index_dir)
    age(folder / "a.md", 50)
    report = ingest([folder], index_dir=index_dir)
    assert (report.n_indexed, report.n_unchanged, report.n_units, report.n_passages) == (0, 6, 3, 0)
    assert ingest([folder], index_dir=index_dir).n_units == 0


def test_a_change_within_one_tick_of_the_clock_is_seen(folder, write, index_dir, monkeypatch):
    """The file keeps its time and size and changes its content: only because it is young, it is read again."""
    monkeypatch.setattr(sources, "_SETTLED_NS", 3_600 * 10**9)  # young for longer than any test takes
    path = write("a.md", "one parrot")
    os.utime(path, ns=(now := time.time_ns(), now))
    ingest([folder], index_dir=index_dir)
    path.write_text("one ferret")
    os.utime(path, ns=(now, now))
    assert ingest([folder], index_dir=index_dir).n_indexed == 1
    assert answers(index_dir, "parrot") == []


def test_changed_new_and_deleted_files_are_followed(written, folder, write, index_dir):
    """One each; the others are as they were."""
    ingest([folder], index_dir=index_dir)
    age(write("a.md", "# Birds\n\nThe ferret rests.\n"))
    age(write("new.md", "Ferrets eat.\n"))
    (folder / "b" / "c.rst").unlink()
    report = ingest([folder], index_dir=index_dir)
    assert (report.n_indexed, report.n_unchanged, report.n_removed) == (2, 4, 1)
    assert sorted(answers(index_dir, "ferrets")) == ["Birds", "new.md"]
    assert answers(index_dir, "boat") == []


def test_only_the_folder_that_is_ingested_again_loses_files(folder, write, index_dir, tmp_path):
    """What is gone elsewhere stays until its own folder is ingested again."""
    write("a/one.md", "parrot one")
    write("b/two.md", "parrot two")
    ingest([folder / "a", folder / "b"], index_dir=index_dir)
    (folder / "a" / "one.md").unlink()
    (folder / "b" / "two.md").unlink()
    assert ingest([folder / "b"], index_dir=index_dir).n_removed == 1
    assert len(answers(index_dir, "parrot")) == 1
    assert ingest([folder], index_dir=index_dir).n_removed == 1


def test_a_file_that_cannot_be_read_any_more_keeps_what_is_known_of_it(folder, write, index_dir):
    """It is reported; its old passages are still there to be found."""
    path = write("a.md", "parrot")
    ingest([folder], index_dir=index_dir)
    path.write_bytes(b"\0")
    report = ingest([folder], index_dir=index_dir)
    assert (len(report.failures), report.n_removed) == (1, 0)
    assert answers(index_dir, "parrot") == ["a.md"]


def test_paths_that_overlap_are_taken_once(written, folder, index_dir):
    """A folder, one below it, a file in it, and the folder again."""
    paths = [folder, folder / "b", folder / "a.md", f"{folder}/b/.."]
    report = ingest(paths, index_dir=index_dir)
    assert (report.n_indexed, report.n_units) == (6, 18)


def test_files_of_one_name_in_different_folders_are_all_kept(folder, write, index_dir):
    """Nothing is lost where names collide, not even if the folders' names are the same too."""
    for i in range(30):
        write(f"{i}/archive/index.md", f"parrot {i}")
    assert ingest([folder], index_dir=index_dir).n_passages == 30
    assert len(contents(index_dir)) == 30


ODD = ["new\nline.md", "quote'\".md", "emoji 😀.md", "%s{0}.md", "extract_a.md", "\u202ertl.md", " .md", "]\\.md"]


@every_mode
def test_odd_names_survive_plan_and_run(folder, write, index_dir, mode):
    """As units' names, in the index and in what is found."""
    for name in ODD:
        write(name, f"parrot {name}")
    try:
        (folder / os.fsdecode(b"\xff.md")).write_text("parrot raw")
    except OSError:
        pytest.skip("this file system takes only text for a name")
    report = ingest([folder], index_dir=index_dir, execution_mode=mode, max_workers=2)
    assert (report.n_indexed, report.failures) == (len(ODD) + 1, ())
    assert {os.path.relpath(row[0], folder) for row in contents(index_dir)} == {*ODD, "\\xff.md"}
    assert ingest([folder], index_dir=index_dir).n_unchanged == len(ODD) + 1


def test_rebuilding_starts_from_nothing(written, folder, index_dir):
    """Everything is indexed again, and only what is asked for."""
    ingest([folder], index_dir=index_dir)
    report = ingest([folder / "a.md"], index_dir=index_dir, rebuild=True)
    assert (report.n_indexed, report.n_unchanged) == (1, 0)
    assert len({row[0] for row in contents(index_dir)}) == 1


def test_nothing_is_written_outside_the_index(written, folder, index_dir, tmp_path, monkeypatch):
    """Not in the folder of documents, not where the program runs; the index itself is one file when it is closed."""
    monkeypatch.chdir(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    ingest([folder], index_dir=index_dir)
    after = sorted(path for path in tmp_path.rglob("*"))
    assert set(after) - set(before) == {index_dir, index_dir / FILE_NAME}


def test_a_plan_has_three_units_a_document(written, folder, tmp_path):
    """Each step waits for the one before it; documents do not wait for each other; the largest come first."""
    documents = [one for one in list_path(str(folder)) if isinstance(one, Document)]
    with PassageIndex.create(tmp_path) as index:
        plan = create_ingest_plan(documents, BatchWriter(index, 1)).build_execution_plan()
    assert plan.unit_count == 18
    assert plan.max_level == 3
    key = str(folder / "a.md")
    assert plan.dependencies[f"chunk_{key}"] == {f"extract_{key}"}
    assert plan.dependencies[f"index_{key}"] == {f"chunk_{key}"}
    assert next(iter(plan.units)) == f"extract_{folder / 'long.txt'}"


def test_progress_counts_documents_up_to_all_of_them(written, folder, write, index_dir):
    """Those that fail and those that are unchanged too."""
    ingest([folder], index_dir=index_dir)
    write("binary.md", b"\0")
    write("new.md", "x")
    seen = []
    ingest([folder], index_dir=index_dir, on_progress=lambda done, met: seen.append((done, met)))
    assert seen[-1] == (8, 8)
    assert seen == sorted(seen)


def test_a_report_tells_where_the_time_went(written, folder, index_dir):
    """Units' time by stage; the critical path is no longer than the run, the efficiency a share."""
    report = ingest([folder], index_dir=index_dir, execution_mode=ExecutionMode.SEQUENTIAL)
    assert list(report.stages_s) == ["extract", "chunk", "index"]
    assert 0 < report.critical_path_s <= report.units_wall_s <= report.wall_s
    assert 0 < report.parallel_efficiency <= 1
    assert (report.mode, report.workers) == ("sequential", 1)


@pytest.mark.parametrize(
    ("max_workers", "n_documents", "size", "n"),
    [(2, 2, 600_000, 2), (3, 2, 600_000, 2), (1, 2, 600_000, 0), (2, 1, 2_000_000, 0), (2, 2, 400_000, 0)],
    ids=["enough for two", "two documents for three", "one worker", "one document", "too little"],
)
def test_processes_are_started_only_where_they_pay(max_workers, n_documents, size, n):
    """One a worker, where two of them find enough to read."""
    documents = [
        Document(path=f"/{i}.py", title="", kind=Kind.PYTHON, size_bytes=size, stamp="") for i in range(n_documents)
    ]
    assert pipeline._readers_for(documents, max_workers) == n


def test_an_empty_window_is_refused(folder, index_dir):
    """Before anything is written."""
    with pytest.raises(ValueError, match="a window of 0 documents holds none; give at least 1"):
        ingest([folder], index_dir=index_dir, window=0)
    assert not index_dir.exists()


def test_an_index_that_is_removed_between_runs_is_made_again(written, folder, index_dir):
    """No writer of this process goes on writing into the file that is gone."""
    ingest([folder], index_dir=index_dir)
    (index_dir / FILE_NAME).unlink()
    assert ingest([folder], index_dir=index_dir).n_indexed == 6
    assert answers(index_dir, "boats") == ["Boats"]


_PROGRAM = """
import sys
from atlas_adapters.ingestion import ingest
if __name__ == "__main__":
    report = ingest([sys.argv[1]], index_dir=sys.argv[2], window=7)
    print(report.n_indexed + report.n_unchanged, len(report.failures))
"""


_INTERRUPTED = """
import sys, threading, psutil
from atlas_adapters.ingestion import ingest, readers
read_document = readers.read_document
def read(document, *more):
    if document.title == "long.md":
        threading.Event().wait()
    return read_document(document, *more)
readers.read_document = read  # in the forked readers too
try:
    ingest([sys.argv[1]], index_dir=sys.argv[2], max_workers=2, on_progress=lambda done, met: print(done, flush=True))
except KeyboardInterrupt:
    print("stopped", *psutil.Process().children(), flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_running(folder, write, index_dir):
    """One reader is in the middle of a document that takes for ever; the other's is in the index."""
    if not pathlib.Path(readers._TASKS).is_dir():
        pytest.skip("without a way to tell how many threads a program has, readers are new interpreters")
    write("long.md", "ferret\n" * 200_000)
    write("short.md", "parrot")
    command = [sys.executable, "-c", _INTERRUPTED, str(folder), str(index_dir)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in program.stdout:
        if line == "1\n":
            os.killpg(program.pid, signal.SIGINT)
            break
    assert program.communicate()[0].splitlines() == ["stopped"]
    assert answers(index_dir, "parrot") == ["short.md"]
    assert sorted(path.name for path in index_dir.iterdir()) == [FILE_NAME]


@pytest.mark.slow
def test_two_ingestions_at_once_do_not_disturb_each_other(folder, write, index_dir):
    """Two programs index one folder into one new index: every document is there once, and each program saw all."""
    for i in range(60):
        write(f"{i % 7}/{i}.md", f"# Title {i}\n\nparrot {i}\n" * 20)
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(index_dir)]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [program.communicate()[0] for program in programs] == ["60 0\n", "60 0\n"]
    rows = contents(index_dir)
    assert len({row[0] for row in rows}) == 60
    assert len(rows) == len({(row[0], row[3]) for row in rows})


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_documents(folder, write, index_dir):
    """Three times the documents, the same peak, give or take a quarter: nothing of a window outlives it."""
    text = "A sentence about parrots and boats. " * 40
    peaks = []
    for n in (
        20,
        200,
        600,
    ):  # the first imports and caches what any needs; the second is long enough for what goes on at a level
        for i in range(n):
            write(f"{n}/{i // 60}/{i // 12}/{i}.txt", text)
        tracemalloc.start()
        report = ingest(
            [folder / str(n)],
            index_dir=index_dir,
            execution_mode=ExecutionMode.SEQUENTIAL,
            window=20,
            on_progress=lambda done, _met: done % 20 or gc.collect(),  # not to measure when Python collects its cycles
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.n_indexed == n
    assert peaks[2] < 1.25 * peaks[1], peaks
