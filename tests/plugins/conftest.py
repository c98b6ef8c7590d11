"""What the tests of the built-in plugins share: programs run by a Python of their own, and threads that meet."""

import subprocess
import sys
import textwrap
import threading

import attrs
import pytest

PATIENCE_S = 60
"""How long anything may take that takes a moment; only ever spent by a test that fails."""


@attrs.frozen
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def patience():
    """Seconds that only a failing test waits."""
    return PATIENCE_S


@pytest.fixture
def program(tmp_path):
    """Runs a program in a Python of its own, as a script, from standard input or as a module (`how`), in a folder of its own."""

    def run(source, *arguments, how="script", code=0, **variables):
        text = textwrap.dedent(source)
        path = tmp_path / "program.py"
        path.write_text(text, encoding="utf-8")
        start = {"script": [str(path)], "stdin": ["-"], "module": ["-m", "program"]}[how]
        done = subprocess.run(
            [sys.executable, *start, *arguments],
            input=text if how == "stdin" else "",
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=100,  # it may start processes of its own; pytest gives up after 120 s
            check=False,
            **variables,
        )
        assert done.returncode == code, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def meeting():
    """Makes units that only end when so many of them run at the same time: `meeting(3)`."""

    def made(parties):
        barrier = threading.Barrier(parties)

        def unit(ctx):
            barrier.wait(PATIENCE_S)
            return threading.get_ident()

        return unit

    return made


@pytest.fixture
def counted():
    """Makes units that count how many run at once, each until `most` have been seen or all have begun: see `.most`."""

    class Counter:
        def __init__(self):
            self._lock = threading.Lock()
            self._now = 0
            self.most = 0

        def __call__(self, ctx):
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            threading.Event().wait(0.002)  # long enough that one too many would show
            with self._lock:
                self._now -= 1

    return Counter()
