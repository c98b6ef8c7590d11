import contextlib
import gc
import io
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from atlas_adapters.ingestion import readers as module
from atlas_adapters.ingestion.errors import UnreadableDocumentError
from atlas_adapters.ingestion.extract import MAX_BYTES
from atlas_adapters.ingestion.readers import Readers, read_document, serve

TIMEOUT_S = 30  # for what ends by itself

FILES = {"a.md": "# Birds\n\nParrots.\n", "b.py": 'def f():\n    """Fly."""\n', "c.html": "<h1>Cars</h1>", "d.txt": ""}


@pytest.fixture
def documents(write, listed):
    """One of each kind."""
    return [listed(write(name, content)) for name, content in FILES.items()]


@pytest.fixture
def readers(monkeypatch):
    """Two of them, new interpreters: a test runs beside threads."""
    monkeypatch.setattr(module, "_is_alone", lambda: False)
    with Readers(2) as started:
        yield started


def process_of(reader):
    """The process of a reader that is a new interpreter."""
    return psutil.Process(reader.kill.__self__.pid)


@pytest.mark.slow
def test_a_reader_says_what_reading_here_says(readers, documents, write, listed):
    """Of every kind, of what is known already, and of what cannot be read."""
    for document in documents:
        for known_hash in (None, read_document(document, None, MAX_BYTES)[1]):
            assert readers.read(document, known_hash, MAX_BYTES) == read_document(document, known_hash, MAX_BYTES)
    with pytest.raises(UnreadableDocumentError, match="binary, not text: a NUL at byte 0"):
        readers.read(listed(write("e.md", b"\0")), None, MAX_BYTES)
    assert readers.read(documents[0], None, MAX_BYTES)[0] == "Birds"


@pytest.mark.slow
def test_more_threads_than_readers_get_their_documents_too(readers, documents):
    """Nobody waits for a reader: with none idle, a thread reads by itself."""
    with ThreadPoolExecutor(6) as pool:
        jobs = [(one, pool.submit(readers.read, one, None, MAX_BYTES)) for one in documents * 20]
    assert all(job.result() == read_document(one, None, MAX_BYTES) for one, job in jobs)


@pytest.mark.slow
def test_a_reader_that_dies_fails_its_document_and_no_other(readers, documents):
    """The signal is told; when the last reader is gone, documents are read here."""
    assert readers.read(documents[0], None, MAX_BYTES)
    for _ in range(2):
        reader = readers._idle[-1]
        assert reader.came_up()
        reader.kill()
        with pytest.raises(UnreadableDocumentError, match=r"a\.md.*the process that read it died: SIGKILL"):
            readers.read(documents[0], None, MAX_BYTES)
    assert readers._all == []
    assert readers.read(documents[0], None, MAX_BYTES)[0] == "Birds"


class Requests:
    """A pipe whose flush is another."""

    def __init__(self, pipe, flush):
        self.write, self.fileno, self.close, self.flush = pipe.write, pipe.fileno, pipe.close, flush


@pytest.mark.slow
@pytest.mark.parametrize("has_sent", [False, True])
def test_who_asks_a_reader_that_is_being_stopped_is_told(readers, documents, has_sent):
    """Just before the request goes out, and just after; its pipes are not closed under who reads from them."""
    reader = readers._idle[-1]
    assert reader.came_up()
    processes = [process_of(one) for one in readers._all]
    process_of(reader).suspend()  # it will not answer
    sent = reader.requests.flush

    def flush():
        if has_sent:
            sent()
        readers.close()
        sent()

    reader.requests = Requests(reader.requests, flush)
    with pytest.raises(UnreadableDocumentError, match="the process that read it died: it was stopped"):
        readers.read(documents[0], None, MAX_BYTES)
    assert not any(process.is_running() for process in processes)
    assert reader.answers.closed


@pytest.mark.slow
def test_readers_that_are_stopped_while_a_thread_waits_for_an_answer_end_at_once(readers, documents):
    """Whatever it is doing; who waits is told."""
    reader = readers._idle[-1]
    assert reader.came_up()
    process_of(reader).suspend()
    asked = threading.Event()
    sent = reader.requests.flush
    reader.requests = Requests(reader.requests, lambda: (sent(), asked.set()))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(readers.read, documents[0], None, MAX_BYTES)
        assert asked.wait(TIMEOUT_S)
        readers.close()
        with pytest.raises(UnreadableDocumentError, match="the process that read it died: it was stopped"):
            job.result(TIMEOUT_S)
    assert reader.answers.closed


@pytest.mark.slow
def test_an_answer_is_kept_though_its_reader_is_stopped_just_then(readers, documents, monkeypatch):
    """And nothing of that reader is left open."""
    reader = readers._idle[-1]
    ask = module._Reader.ask

    def asked(reader, request):
        answer = ask(reader, request)
        readers.close()
        return answer

    monkeypatch.setattr(module._Reader, "ask", asked)
    assert readers.read(documents[0], None, MAX_BYTES) == read_document(documents[0], None, MAX_BYTES)
    assert reader.answers.closed
    assert reader.requests.closed


def test_an_interpreter_that_does_not_come_up_is_done_without(documents, monkeypatch, tmp_path):
    """One that ends at once, one that is not there: documents are read here, and none is blamed."""
    monkeypatch.setattr(module, "_is_alone", lambda: False)
    for executable, n in ((shutil.which("false"), 2), (str(tmp_path / "nowhere"), 0)):
        monkeypatch.setattr(sys, "executable", executable)
        with Readers(2) as readers:
            assert readers.n == n
            assert readers.read(documents[0], None, MAX_BYTES)[0] == "Birds"
            assert readers._all == []


def test_no_readers_start_nothing(documents):
    """Documents are read here."""
    before = psutil.Process().children()  # a former test's may be ending
    with Readers(0) as readers:
        assert readers.read(documents[0], None, MAX_BYTES)[0] == "Birds"
        assert set(psutil.Process().children()) <= set(before)


def test_whether_a_process_has_other_threads_is_asked_of_the_system(monkeypatch, tmp_path):
    """Python may not know of some; where the system does not say, there may be some."""
    (tmp_path / "1").touch()
    monkeypatch.setattr(module, "_TASKS", str(tmp_path))
    assert module._is_alone()
    (tmp_path / "2").touch()
    assert not module._is_alone()
    monkeypatch.setattr(module, "_TASKS", str(tmp_path / "nowhere"))
    assert not module._is_alone()


@pytest.fixture
def served(listed, write):
    """Has `serve` answer requests in this process, and puts back what it changes."""
    before = signal.getsignal(signal.SIGINT)

    def answers(*requests):
        given, taken = io.BytesIO(b"".join(map(pickle.dumps, requests))), io.BytesIO()
        serve(given, taken)
        taken.seek(0)
        return [pickle.load(taken) for _ in range(len(requests) + 1)]

    yield answers
    signal.signal(signal.SIGINT, before)
    gc.unfreeze()


def test_a_reader_greets_and_answers_until_nobody_asks_any_more(served, documents, write, listed):
    """In order; the collector is as it was, and Ctrl-C is not for it."""
    first, *answers = served(*((one, None, MAX_BYTES) for one in documents))
    assert first is True
    assert answers == [read_document(one, None, MAX_BYTES) for one in documents]
    assert gc.isenabled()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_whatever_goes_wrong_with_a_document_is_an_answer(served, documents, write, listed):
    """Also what nobody has foreseen: the next document is read as if nothing had been."""
    binary = listed(write("e.md", b"\0"))
    _, unreadable, odd, fine = served((binary, None, 9), (documents[0], None, "no number"), (documents[0], None, 99))
    assert unreadable.reason.startswith("binary, not text")
    assert odd.reason.startswith("TypeError: ")
    assert fine[0] == "Birds"


_PROGRAM = """
import pickle, sys, threading
from atlas_adapters.ingestion import readers
from atlas_adapters.ingestion.extract import MAX_BYTES
from atlas_adapters.ingestion.sources import list_path
documents = sorted(list_path(sys.argv[1]), key=lambda one: one.path)
if sys.argv[2] == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
started = readers.Readers(2)
for one in documents:
    assert started.read(one, None, MAX_BYTES) == readers.read_document(one, None, MAX_BYTES)
for reader in started._idle:  # an answer that fills the pipe, and that nobody takes
    pickle.dump((documents[-1], None, MAX_BYTES), reader.requests)
    reader.requests.flush()
print(started.n, *(child.pid for child in __import__("psutil").Process().children()), flush=True)
if sys.stdin.read():
    started.close()
    print(*__import__("psutil").Process().children(), flush=True)
    sys.stdin.close()
"""


def alive(processes):
    """Those that have not ended; one that is left for its parent to be seen has: nobody may look in a container."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["alone", "threads"])
def test_readers_end_with_the_program_that_started_them(documents, write, folder, how):
    """Forked or started, in the middle of an answer; the program is killed in one case, and stops them itself in the other."""
    write("large.txt", "parrot " * 100_000)
    if how == "alone" and not pathlib.Path(module._TASKS).is_dir():
        pytest.skip("this system does not tell how many threads a process has")
    for kill in (True, False):
        program = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _PROGRAM, str(folder), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        n, *found = program.stdout.readline().split()
        processes = [psutil.Process(int(pid)) for pid in found]
        assert (n, len(processes)) == ("2", 2)
        commands = [process.cmdline() == program.args for process in processes]
        assert commands == [how == "alone"] * 2  # a fork looks like the program itself
        try:
            if kill:
                program.kill()
            else:
                assert program.communicate("stop")[0].split() == []
            ends = time.monotonic() + TIMEOUT_S
            while alive(processes) and time.monotonic() < ends:
                time.sleep(0.01)
            assert alive(processes) == []
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            program.communicate()
        assert program.returncode == (-signal.SIGKILL if kill else 0)


_IGNORES_CHILDREN = """
import signal, sys
from atlas_adapters.ingestion import readers
from atlas_adapters.ingestion.errors import UnreadableDocumentError
from atlas_adapters.ingestion.extract import MAX_BYTES
from atlas_adapters.ingestion.sources import list_path
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
document = next(list_path(sys.argv[1]))
with readers.Readers(2) as started:
    print(started.n, started.read(document, None, MAX_BYTES)[0])
    started._idle[-1].end()
    try:
        started.read(document, None, MAX_BYTES)
    except UnreadableDocumentError as error:
        print(error.reason)
"""


@pytest.mark.slow
def test_readers_can_be_stopped_where_nobody_is_told_how_children_end(write, folder):
    """A program inherits SIGCHLD ignored from some that start it; exit codes are lost then, and nothing else."""
    write("a.md", "# Birds")
    command = [sys.executable, "-W", "error", "-c", _IGNORES_CHILDREN, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["2 Birds", "the process that read it died: exit code 0"]
