"""Reader processes: documents are read and parsed where nobody else needs the interpreter's lock.

A thread that is to read a document hands it to an idle process and waits for what that one makes of it, so as many
documents are read at once as there are processes, while the threads of this one write the index. A process that dies
fails the document that it was reading, and nobody else; with the last one gone, documents are read here.

Processes are forked if this one has a single thread, as the command `qp ingest` has: that takes milliseconds. A thread
could hold a lock that a fork would leave locked for ever; beside threads, and wherever there is no way to tell, the
processes are new interpreters. Either kind ends when its pipe does, and so with this process, whatever ends it.
"""

import contextlib
import functools
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Final, NoReturn, Self, TypeAlias, cast

import attrs

from atlas_adapters.ingestion.chunk import Part
from atlas_adapters.ingestion.errors import UnreadableDocumentError
from atlas_adapters.ingestion.extract import extract
from atlas_adapters.ingestion.sources import Document

__all__ = ["Read", "Readers", "read_document", "serve"]

_TASKS: Final = "/proc/self/task"  # one entry a thread, those that Python does not know included

Read: TypeAlias = tuple[str, bytes, tuple[Part, ...] | None]
"""A document that was read: its title, the hash of its content, and its parts; None instead if the index holds them already."""


def read_document(document: Document, known_hash: bytes | None, max_bytes: int) -> Read:
    """Read one document, as `extract.extract` does.

    Returns:
        Its parts, or none if they are those with the known hash.
    """
    found = extract(document, known_hash, max_bytes)
    if found.entries is None:
        return found.title, found.content_hash, None
    parts = tuple((entry.title, entry.start, entry.line, entry.text) for entry in found.entries)
    return found.title, found.content_hash, parts


@attrs.define(eq=False)
class _Reader:
    """One process: the pipes to it and from it, and what stops it and waits for its end, which gives its exit code."""

    requests: IO[bytes]
    answers: IO[bytes]
    kill: Callable[[], object]
    wait: Callable[[], int]
    is_up: bool = False

    def came_up(self) -> bool:
        """Whether it has said hello, which it does when it can read; waits for it."""
        if not self.is_up:
            try:
                self.is_up = bool(pickle.load(self.answers))  # noqa: S301 - from a process of our own
            except EOFError:
                return False
        return self.is_up

    def ask(self, request: object) -> object:
        pickle.dump(request, self.requests, pickle.HIGHEST_PROTOCOL)
        self.requests.flush()
        return pickle.load(self.answers)  # noqa: S301 - from a process of our own

    def end(self) -> int:
        self.kill()
        return self.wait()

    def hang_up(self) -> None:
        """Close the pipes, which only the thread that has this reader may do: it reads from them."""
        for pipe in (self.requests, self.answers):
            with contextlib.suppress(OSError):  # what was not sent cannot be sent any more
                pipe.close()


class Readers:
    """Reader processes, for any thread to read with.

    Args:
        n: How many; with 0, documents are read here.

    Attributes:
        n: How many there are.
    """

    def __init__(self, n: int) -> None:
        self._lock = threading.Lock()
        self._all: list[_Reader] = []
        start = _forked if _is_alone() else _started
        with contextlib.suppress(OSError):  # no more processes are to be had: then fewer
            for _ in range(n):
                self._all.append(start(self._all))
        self._idle = list(self._all)
        self.n = len(self._all)

    def read(self, document: Document, known_hash: bytes | None, max_bytes: int) -> Read:
        """Read a document in a process that is idle, or here if there is none.

        Returns:
            As `read_document`.

        Raises:
            UnreadableDocumentError: As `extract.extract`; or the process died while it was reading.
        """
        reader = self._taken()
        while reader is not None and not reader.came_up():
            self._ended(reader)
            reader = self._taken()
        if reader is None:
            return read_document(document, known_hash, max_bytes)
        try:
            answer = reader.ask((document, known_hash, max_bytes))
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            reason = f"the process that read it died: {self._ended(reader)}"
            raise UnreadableDocumentError(document.source, reason) from error
        self._done_with(reader)
        if isinstance(answer, UnreadableDocumentError):
            raise answer
        return cast("Read", answer)

    def _taken(self) -> _Reader | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _done_with(self, reader: _Reader) -> None:
        with self._lock:
            if reader in self._all:
                self._idle.append(reader)
                return
        reader.hang_up()  # it was stopped when it had answered

    def _ended(self, reader: _Reader) -> str:
        with self._lock:
            if was_ours := reader in self._all:
                self._all.remove(reader)
        code = reader.end() if was_ours else None
        reader.hang_up()
        if code is None:
            return "it was stopped"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def close(self) -> None:
        """Stop the processes, whatever they are doing."""
        with self._lock:
            readers, idle, self._all, self._idle = self._all, self._idle, [], []
        for reader in readers:
            reader.end()
        for reader in idle:
            reader.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_alone() -> bool:
    """Whether this process is known to have a single thread."""
    try:
        return len(os.listdir(_TASKS)) == 1  # noqa: PTH208 - names alone
    except OSError:
        return False


def _forked(others: Sequence[_Reader]) -> _Reader:
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    pid = os.fork()
    if pid == 0:
        ends = [pipe.fileno() for one in others for pipe in (one.requests, one.answers)]
        _be_a_reader(theirs_in, theirs_out, [ours_out, ours_in, *ends])
    os.close(theirs_in)
    os.close(theirs_out)
    return _Reader(
        requests=os.fdopen(ours_out, "wb"),
        answers=os.fdopen(ours_in, "rb"),
        kill=functools.partial(_killed, pid),
        wait=functools.partial(_waited_for, pid),
    )


def _killed(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # where SIGCHLD is ignored, nothing is left of one that has ended
        os.kill(pid, signal.SIGKILL)


def _waited_for(pid: int) -> int:
    """The exit code; 0, as `subprocess` has it, where SIGCHLD is ignored: the system keeps no exit codes then."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def _be_a_reader(
    requests: int, answers: int, not_ours: Sequence[int]
) -> NoReturn:  # pragma: no cover - in a fork, which writes no data
    """What the child of a fork does. A pipe whose other end it held itself would never tell that the parent is gone."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for descriptor in not_ours:
            os.close(descriptor)
        serve(os.fdopen(requests, "rb"), os.fdopen(answers, "wb"))
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is flushed or cleaned up twice


def _started(_: Sequence[_Reader]) -> _Reader:
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve(sys.stdin.buffer, sys.stdout.buffer)"
    command = [str(sys.executable), "-c", program]  # None in a program that embeds Python: not found
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 - this very Python
    requests, answers = cast("tuple[IO[bytes], IO[bytes]]", (process.stdin, process.stdout))
    return _Reader(requests=requests, answers=answers, kill=process.kill, wait=process.wait)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Read what is asked for until nobody asks any more.

    The cycle collector rests meanwhile: syntax trees have no cycles, and looking for some takes a tenth of the time.

    Args:
        requests: Pickled arguments of `read_document`.
        answers: Where a greeting goes, and then what came of each request.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    gc.freeze()
    answer: object = True
    while True:
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()
        try:
            document, known_hash, max_bytes = pickle.load(requests)  # noqa: S301 - from the process that started this one
        except EOFError:
            return
        gc.disable()
        try:
            answer = read_document(document, known_hash, max_bytes)
        except UnreadableDocumentError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this document's; as text, since it may not pickle
            answer = UnreadableDocumentError(document.source, f"{type(error).__name__}: {error}")
        finally:
            gc.enable()
