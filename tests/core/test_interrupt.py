"""R10: Ctrl-C and SIGTERM, sent to real programs in every mode: they end soon, keep what had completed, and leave nothing behind."""

import _thread
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from qp_core import ExecutionMode, Plugins, QuantumPartitioner, RunOptions, UnitState
from qp_core.interrupt import Leave, _act_aside, _Handler
from qp_core.testing import FakeClock

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SOON_S = 60
"""What "about two seconds" may take on a machine that is busy with other tests; every unit and every long grace here lasts for much longer."""

MODES = ["sequential", "thread", "async", "process", "custom"]
every_mode = pytest.mark.parametrize("mode", MODES)

PRELUDE = """
    import asyncio, json, os, signal, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from qp_core import *

    # As at a prompt, however the tests were started: a shell has its background jobs ignore Ctrl-C, and children inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    mode, clock = sys.argv[1], None
    let_go = os.path.join(os.path.dirname(os.path.abspath(__file__)), "let_go")  # a file, for units may run in other processes
    leave = threading.Event()
    pool = ThreadPoolExecutor(2) if mode == "custom" else None
    how = {"custom_executor": pool} if pool else {"execution_mode": mode}

    def say(**what):
        import json, os
        os.write(1, json.dumps(what).encode() + b"\\n")  # in one piece, whoever else is saying something

    def quick(ctx):
        return ctx.unit_id

    if mode == "async":
        async def hang(ctx):
            say(begun=ctx.unit_id)
            await asyncio.sleep(300)

        async def end_soon(ctx):
            say(begun=ctx.unit_id)
            while not os.path.exists(let_go):
                await asyncio.sleep(0.01)
            return ctx.unit_id
    elif mode == "custom":
        def hang(ctx):  # the pool is the user's, and so is its thread
            say(begun=ctx.unit_id)
            leave.wait(300)
    else:
        def hang(ctx):
            import time
            say(begun=ctx.unit_id)
            while True:
                time.sleep(300)
    if mode != "async":
        def end_soon(ctx):
            import os, time
            say(begun=ctx.unit_id)
            while not os.path.exists(let_go):
                time.sleep(0.01)
            return ctx.unit_id

    heard = set()

    class Tells:
        def qp_unit_finished(self, event):
            heard.add(event.unit_id)
            if event.state is UnitState.CANCELED and event.unit_id in ("waiting", "never"):
                open(let_go, "w").close()  # who ends soon ends in its grace, whenever the signal came
                say(halted=True)

    def attempt(run):
        try:
            result = run()
        except KeyboardInterrupt:
            say(raised="KeyboardInterrupt")
        except BaseException as error:
            say(raised=repr(error))
        else:
            say(returned=result)
        finally:
            leave.set()

    def tell_of(partitioner):
        report = partitioner.last_result.report
        say(
            kept=partitioner.get_partial_results(),
            states={unit_id: record.state.value for unit_id, record in report.units.items()},
            stopped=report.stopped,
        )
"""


def still_runs(process):
    """Whether a process is there and runs; one that has ended stays in the table where the machine's first process collects nobody's children."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Program:
    """A program in a process of its own, which talks in lines of JSON.

    Args:
        tmp_path: Where it is written.
        *body: What it does after the prelude, in pieces.
        mode: Its argument.
        **environment: More variables.
    """

    def __init__(self, tmp_path, *body, mode="thread", **environment):
        script = tmp_path / "program.py"
        script.write_text("".join(map(textwrap.dedent, (PRELUDE, *body))), encoding="utf-8")
        # Not below tmp_path, which may be too long for the sockets that multiprocessing keeps among its temporary files.
        self._temporary = tempfile.TemporaryDirectory(prefix="qp")
        self._errors = (tmp_path / "stderr.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, str(script), mode],
            env={**os.environ, "QP_GRACE": "0.4", "TMPDIR": self._temporary.name, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._said = queue.Queue()
        self.lines = []
        self._descendants = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            for process in self._descendants:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.kill()
        self._process.wait(SOON_S)
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()
        self._temporary.cleanup()

    def wait_for(self, **what):
        """Wait until it has said this."""
        ends = time.monotonic() + 60
        while what not in self.lines:
            line = self._said.get(timeout=max(0.1, ends - time.monotonic()))
            assert line is not None, f"it ended without saying {what}: {self.lines} {self.errors()}"
            self.lines.append(line)

    def answer(self):
        """Let it go on that waits for a line."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def errors(self):
        """What it wrote on standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def send(self, number, *, group=False):
        """Send a signal, as `kill` does, or to its whole group as a terminal does."""
        self._descendants = psutil.Process(self._process.pid).children(recursive=True)
        if group:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def finish(self, *, quiet=True, within_s=SOON_S):
        """Wait until it has ended, and look for what it has left behind.

        Args:
            quiet: Whether it must have written no traceback.
            within_s: How long that may take.

        Returns:
            What it said, as one dict.
        """
        assert self._process.wait(within_s) == 0, self.errors()
        ends = time.monotonic() + SOON_S
        while any(map(still_runs, self._descendants)) and time.monotonic() < ends:
            time.sleep(0.01)
        assert [process for process in self._descendants if still_runs(process)] == []
        assert list(Path(self._temporary.name).iterdir()) == []
        while (line := self._said.get(timeout=SOON_S)) is not None:
            self.lines.append(line)
        assert not quiet or "Traceback" not in self.errors(), self.errors()
        return {key: value for line in self.lines for key, value in line.items()}


# Two workers: done, then hang and ends, while waiting waits for one of them to be free, and after for hang.
GRAPH = """
    partitioner = QuantumPartitioner(2, clock=clock)
    partitioner.add_unit(quick, name="done")
    partitioner.add_unit(hang, ["done"], "hang")
    if mode != "sequential":
        partitioner.add_unit(end_soon, ["done"], "ends")
    if mode == "async":
        partitioner.max_workers = 2
    partitioner.add_unit(quick, ["done"], "waiting")
    partitioner.add_unit(quick, ["hang"], "after")
    attempt(lambda: partitioner.execute({}, telemetry=[Tells()], **how))
    tell_of(partitioner)
"""

# The grace is over when what ends within it has ended: not before, however slow the machine is. It begins when the run is halted, and the
# clock is looked at for its end only after that.
GRACE_ENDS = """
    from qp_core.clock import SystemClock

    class Clock(SystemClock):
        ahead_s = 0.0

        def now(self):
            return time.monotonic() + self.ahead_s

        def wait(self, inbox, timeout_s, idle):
            if {"waiting", "ends"} <= heard:
                self.ahead_s = 1000.0
            return super().wait(inbox, 0.02 if timeout_s is None else min(timeout_s, 0.02), idle)

    clock = Clock()
"""

# As at a prompt: the same partitioner, once more.
AGAIN = """
    if pool is None:
        partitioner.units["hang"].function = partitioner.units.get("ends", partitioner.units["hang"]).function = quick
        say(again=partitioner.execute({}, **how))
"""


FIRST = [
    *(pytest.param(mode, signal.SIGINT, id=f"{mode}-ctrl_c") for mode in MODES),
    *(pytest.param(mode, signal.SIGTERM, id=f"{mode}-sigterm") for mode in ("sequential", "thread", "process")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "number"), FIRST)
def test_the_first_signal_stops_handing_out_and_gives_running_units_their_grace(tmp_path, mode, number):
    """What ends within it is kept; what hangs is given up after it; `execute` raises KeyboardInterrupt, may be called again, and all is gone.

    done -> hang -> after
         -> ends
         -> waiting
    """
    body = (GRAPH, AGAIN) if mode == "sequential" else (GRACE_ENDS, GRAPH, AGAIN)
    with Program(tmp_path, *body, mode=mode, QP_GRACE="0.4" if mode == "sequential" else "120") as program:
        program.wait_for(begun="hang")
        if mode != "sequential":
            program.wait_for(begun="ends")
        program.send(number)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["stopped"] == "interrupted"
    states = said["states"]
    assert states["done"] == "completed"
    assert states["hang"] == states["waiting"] == "canceled"
    assert states["after"] in {"canceled", "skipped"}
    expected = {"done": "done"} if mode == "sequential" else {"done": "done", "ends": "ends"}
    assert said["kept"] == expected
    if mode != "custom":
        assert said["again"] == {unit_id: unit_id for unit_id in states}


@pytest.mark.slow
@every_mode
def test_the_second_signal_stops_at_once(tmp_path, mode):
    """Though the grace is two minutes."""
    with Program(tmp_path, GRAPH, mode=mode, QP_GRACE="120") as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGINT)
        program.wait_for(halted=True)
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"]["done"] == "done"
    assert said["states"]["hang"] == "canceled"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_somebody_impatient_is_served_no_worse(tmp_path, mode):
    """Six more signals of both kinds, while an observer is still busy with the first one's news."""
    slow = """
        class Tells:
            def qp_unit_finished(self, event):
                if event.state is UnitState.CANCELED and event.unit_id == "waiting":
                    open(let_go, "w").close()
                    say(halted=True)
                    sys.stdin.readline()
    """
    with Program(tmp_path, slow, GRAPH, mode=mode, QP_GRACE="120") as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGINT)
        program.wait_for(halted=True)
        for number in [signal.SIGTERM, signal.SIGINT] * 3:
            program.send(number)
            time.sleep(0.05)
        program.answer()
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"]["done"] == "done"
    assert said["states"]["hang"] == said["states"]["waiting"] == "canceled"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_an_observer_that_hangs_does_not_keep_the_user_for_ever(tmp_path, mode):
    """Nobody can wind such a run up: once it should be gone, Ctrl-C comes out of it, and the program ends."""
    body = """
        from qp_core.clock import SystemClock
        from qp_core.stopping import Stopping

        class Clock(SystemClock):
            ahead_s = 0.0

            def now(self):
                return time.monotonic() + self.ahead_s

        clock, note_signal = Clock(), Stopping.note_signal

        def noted(stopping):
            note_signal(stopping)
            if stopping.signals == 2:
                clock.ahead_s = 1000.0  # it should have gone long since
            say(noted=stopping.signals)

        def hangs(unit_id, value):
            say(begun="observer")
            while True:
                time.sleep(300)

        Stopping.note_signal = noted
        partitioner = QuantumPartitioner(2, clock=clock)
        partitioner.add_unit(quick, name="a")
        partitioner.add_unit(quick, ["a"], "b")
        partitioner.on_unit_complete = hangs
        attempt(lambda: partitioner.execute({}, **how))
        os._exit(0)  # past what would wait for the observer's thread
    """
    with Program(tmp_path, body, mode=mode, QP_GRACE="1") as program:
        program.wait_for(begun="observer")
        for number in (1, 2):
            program.send(signal.SIGINT)
            program.wait_for(
                noted=number
            )  # the next one would be one with it, or come when the program has its handlers back
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["list(partitioner.stream({}))", "asyncio.run(awaits())", "asyncio.run(reads())"])
def test_sigterm_winds_up_what_is_streamed_or_awaited_too(tmp_path, how):
    """Its default would end the process there and then, with nothing kept. done -> hang -> after."""
    body = f"""
        partitioner = QuantumPartitioner(2)
        partitioner.add_unit(quick, name="done")
        partitioner.add_unit(hang, ["done"], "hang")
        partitioner.add_unit(quick, ["hang"], "after")

        async def awaits():
            await partitioner.execute_async({{}})

        async def reads():
            async for _ in partitioner.astream({{}}):
                pass

        attempt(lambda: {how})
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode="thread") as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGTERM)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"] == {"done": "done"}
    assert said["states"]["after"] == "canceled"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "async", "process"])
def test_a_run_is_over_as_soon_as_the_running_units_are(tmp_path, mode):
    """The grace is the most, not the least: two minutes are not waited for. ends -> never."""
    body = """
        partitioner = QuantumPartitioner(1)
        partitioner.add_unit(end_soon, name="ends")
        partitioner.add_unit(quick, ["ends"], "never")
        attempt(lambda: partitioner.execute({}, max_workers=1, telemetry=[Tells()], **how))
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode=mode, QP_GRACE="120") as program:
        program.wait_for(begun="ends")
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"] == {"ends": "ends"}
    assert said["states"] == {"ends": "completed", "never": "canceled"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["thread", "process"])
def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_still_leaves_units_their_grace(tmp_path, mode):
    """The worker processes get the signal too; what it means, the run decides."""
    with Program(tmp_path, GRACE_ENDS, GRAPH, mode=mode, QP_GRACE="120") as program:
        program.wait_for(begun="hang")
        program.wait_for(begun="ends")
        program.send(signal.SIGINT, group=True)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"] == {"done": "done", "ends": "ends"}
    assert said["states"]["hang"] == "canceled"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_retry_that_waits_is_not_waited_for(tmp_path, mode):
    """Nothing runs, so there is nothing to give a grace to."""
    body = """
        def fails(ctx):
            say(begun=ctx.unit_id)
            raise OSError("again")
        class Waits:
            def qp_unit_retrying(self, event):
                say(waits=True)
        partitioner = QuantumPartitioner()
        partitioner.add_unit(fails, name="a", retries=9, retry=RetryPolicy(base_s=100, cap_s=100))
        attempt(lambda: partitioner.execute({}, telemetry=[Waits()], **how))
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode=mode, QP_GRACE="120") as program:
        program.wait_for(waits=True)
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["states"] == {"a": "canceled"}


@pytest.mark.slow
def test_a_coroutine_that_blocks_its_loop_is_left_behind(tmp_path):
    """It cannot be cancelled; the program ends all the same."""
    body = """
        async def blocks(ctx):
            say(begun=ctx.unit_id)
            time.sleep(300)
        partitioner = QuantumPartitioner()
        partitioner.add_unit(blocks, name="a")
        attempt(lambda: partitioner.execute({}, **how))
        tell_of(partitioner)
        say(abandoned=partitioner.last_result.report.abandoned)
    """
    with Program(tmp_path, body, mode="async") as program:
        program.wait_for(begun="a")
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["states"] == {"a": "canceled"}
    assert said["abandoned"] == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_the_interpreter_exits_though_a_thread_hangs(tmp_path, mode):
    """A unit ran out of time and can never be stopped; nobody presses Ctrl-C."""
    body = """
        def hang(ctx):
            threading.Event().wait()
        partitioner = QuantumPartitioner()
        partitioner.add_unit(hang, name="hang", timeout=0.05)
        partitioner.add_unit(quick, name="done")
        attempt(lambda: partitioner.execute({}, **how))
        tell_of(partitioner)
        say(abandoned=partitioner.last_result.report.abandoned)
    """
    with Program(tmp_path, body, mode=mode) as program:
        said = program.finish()
    assert said["returned"] == {"done": "done"}
    assert said["states"] == {"hang": "timeout", "done": "completed"}
    assert said["abandoned"] == ["hang"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_a_run_inside_a_unit_stops_with_the_outer_one(tmp_path, mode):
    """Outer -> inner: the inner run hands out nothing more either, and its hanging unit does not hold the program."""
    body = """
        def inner(ctx):
            nested = QuantumPartitioner(1)
            nested.add_unit(end_soon, name="inner_ends")
            nested.add_unit(lambda c: say(begun="inner_never"), name="never")
            return dict(nested.execute({}, telemetry=[Tells()], **how))
        partitioner = QuantumPartitioner(1)
        partitioner.add_unit(quick, name="done")
        partitioner.add_unit(inner, ["done"], "inner")
        partitioner.add_unit(quick, ["inner"], "after")
        attempt(lambda: partitioner.execute({}, **how))
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode=mode, QP_GRACE="120") as program:
        program.wait_for(begun="inner_ends")
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert {"begun": "inner_never"} not in program.lines
    assert said["kept"]["done"] == "done"
    assert said["states"]["after"] in {"canceled", "skipped"}


WAYS = {
    "stream": """
        def run():
            for unit_id, end in partitioner.stream({}, **how):
                say(end=unit_id)
        attempt(run)
    """,
    "execute_async": """
        attempt(lambda: asyncio.run(partitioner.execute_async({}, **how)))
    """,
    "astream": """
        async def run():
            async for unit_id, end in partitioner.astream({}, **how):
                say(end=unit_id)
        attempt(lambda: asyncio.run(run()))
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "way", "number"),
    [
        pytest.param("thread", "stream", signal.SIGINT, id="thread-stream-ctrl_c"),
        pytest.param("process", "stream", signal.SIGINT, id="process-stream-ctrl_c"),
        pytest.param("process", "stream", signal.SIGTERM, id="process-stream-sigterm"),
        pytest.param("thread", "execute_async", signal.SIGINT, id="thread-execute_async-ctrl_c"),
        pytest.param("async", "execute_async", signal.SIGINT, id="async-execute_async-ctrl_c"),
        pytest.param("async", "astream", signal.SIGINT, id="async-astream-ctrl_c"),
        pytest.param("async", "astream", signal.SIGTERM, id="async-astream-sigterm"),
    ],
)
def test_a_signal_ends_the_other_ways_to_run_too(tmp_path, mode, way, number):
    """Streams and awaited runs: what had completed is kept, nothing is left behind."""
    graph = """
        partitioner = QuantumPartitioner(2)
        partitioner.add_unit(quick, name="done")
        partitioner.add_unit(hang, ["done"], "hang")
    """
    with Program(tmp_path, graph, WAYS[way], "tell_of(partitioner)", mode=mode) as program:
        program.wait_for(begun="hang")
        program.send(number)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"] == {"done": "done"}
    assert said["states"]["hang"] == "canceled"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_second_ctrl_c_ends_the_other_ways_at_once(tmp_path, way):
    """Though the grace is two minutes."""
    graph = """
        partitioner = QuantumPartitioner(1)
        partitioner.add_unit(quick, name="done")
        partitioner.add_unit(hang, ["done"], "hang")
        partitioner.add_unit(quick, ["done"], "waiting")
        how["telemetry"] = [Tells()]
    """
    with Program(tmp_path, graph, WAYS[way], "tell_of(partitioner)", mode="thread", QP_GRACE="120") as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGINT)
        program.wait_for(halted=True)
        program.send(signal.SIGINT)
        # Where the first one came in the body of the loop, the second one may come while Python throws the stream away, and is written down.
        said = program.finish(quiet=False)
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"] == {"done": "done"}
    assert said["states"] == {"done": "completed", "hang": "canceled", "waiting": "canceled"}


@pytest.mark.slow
def test_where_a_thread_cannot_be_signalled_the_main_thread_is_interrupted_otherwise(tmp_path):
    """Windows has no pthread_kill; a sequential unit that hangs is still given up after its grace."""
    body = """
        del signal.pthread_kill
        def hang(ctx):
            say(begun=ctx.unit_id)
            while True:
                time.sleep(0.05)  # interrupt_main wakes nobody who sleeps in C
        partitioner = QuantumPartitioner()
        partitioner.add_unit(hang, name="hang")
        attempt(lambda: partitioner.execute({}, **how))
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode="sequential") as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["states"] == {"hang": "canceled"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_sigterm_ends_a_run_also_where_ctrl_c_is_ignored(tmp_path, mode):
    """As in a job that a shell has put into the background: after the grace a unit in the main thread is interrupted all the same."""
    body = """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        partitioner = QuantumPartitioner()
        partitioner.add_unit(hang, name="hang")
        attempt(lambda: partitioner.execute({}, **how))
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode=mode) as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGTERM)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["states"] == {"hang": "canceled"}


MOMENTS = """
    import logging

    logging.disable(logging.CRITICAL)
    scenario, stride, at_work = mode, 9, [False]

    def unit(ctx):
        signal.raise_signal(signal.SIGINT)
        while not halted.is_set():  # by the thread beside
            time.sleep(0.001)
        at_work[0] = True
        if scenario != "completes":
            raise ValueError("of its own")

    def inside(ctx):
        inner = QuantumPartitioner(default_execution_mode="sequential")
        inner.add_unit(unit, name="inner")
        return inner.execute({})

    class Hears:
        def qp_unit_finished(self, event):
            if event.unit_id == "last":
                halted.set()

    def run(moment):
        passed = [0]

        def profile(frame, event, _):
            name = frame.f_code.co_filename
            if not at_work[0] or event not in ("call", "c_return") or "qp_core" not in name or "interrupt" in name:
                return
            passed[0] += 1
            if passed[0] == moment:
                signal.raise_signal(signal.SIGINT)

        partitioner = QuantumPartitioner(default_execution_mode="sequential")
        fallback = (lambda ctx, error: None) if scenario == "falls back" else None
        partitioner.add_unit(inside if scenario == "nested" else unit, name="first", fallback=fallback)
        partitioner.add_unit(lambda ctx: None, ["first"], "last")
        sys.setprofile(profile)
        try:
            partitioner.execute({}, grace=300, telemetry=[Hears()])
        except KeyboardInterrupt:
            return passed[0] >= moment
        finally:
            sys.setprofile(None)

    moment, more = 1, True
    while more:
        pid = os.fork()
        if not pid:
            signal.alarm(30)  # ends what hangs
            halted = threading.Event()
            result = run(moment)
            os._exit({True: 0, False: 1, None: 2}[result])
        status = os.waitpid(pid, 0)[1]
        if status not in (0, 256):
            say(moment=moment, status=status)
            break
        more = status == 0
        moment += stride
    say(moments=moment)
"""


@pytest.mark.slow
@pytest.mark.timeout(360)
@pytest.mark.parametrize("scenario", ["completes", "fails", "falls back", "nested"])
def test_a_second_ctrl_c_at_any_moment_of_settling_holds_up_nothing(tmp_path, scenario):
    """Were it raised while the engine is at work in the main thread, a lock would stay taken, or a unit without an end."""
    with Program(tmp_path, MOMENTS, mode=scenario) as program:
        said = program.finish(within_s=300)
    assert "status" not in said, f"at moment {said}"
    assert said["moments"] > 50


# ---- whose signals these are


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_a_program_with_handlers_of_its_own_keeps_them(tmp_path, mode):
    """They are called as ever, and the run goes on to its end."""
    body = """
        caught = []
        def mine(number, frame):
            caught.append(number)
            say(caught=number)
        signal.signal(signal.SIGINT, mine)
        signal.signal(signal.SIGTERM, mine)
        def patient(ctx):
            say(begun=ctx.unit_id)
            while len(caught) < 2:
                time.sleep(0.01)
            return "to its end"
        partitioner = QuantumPartitioner()
        partitioner.add_unit(patient, name="a")
        attempt(lambda: partitioner.execute({}, **how))
        say(still=[signal.getsignal(number) is mine for number in (signal.SIGINT, signal.SIGTERM)])
    """
    with Program(tmp_path, body, mode=mode) as program:
        program.wait_for(begun="a")
        program.send(signal.SIGINT)
        program.wait_for(caught=int(signal.SIGINT))
        program.send(signal.SIGTERM)
        said = program.finish()
    assert said["returned"] == {"a": "to its end"}
    assert said["still"] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_a_programs_own_handler_may_raise_keyboardinterrupt(tmp_path, mode):
    """That stops the run as Ctrl-C does."""
    body = """
        def mine(number, frame):
            raise KeyboardInterrupt
        signal.signal(signal.SIGINT, mine)
        partitioner = QuantumPartitioner()
        partitioner.add_unit(quick, name="done")
        partitioner.add_unit(hang, ["done"], "hang")
        attempt(lambda: partitioner.execute({}, **how))
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode=mode) as program:
        program.wait_for(begun="hang")
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["kept"] == {"done": "done"}
    assert said["states"]["hang"] == "canceled"


@pytest.mark.slow
def test_a_run_off_the_main_thread_leaves_signals_to_the_main_one(tmp_path):
    """Which gets its KeyboardInterrupt as ever; the run goes on, and does not hold the program when its thread does not."""
    body = """
        partitioner = QuantumPartitioner()
        partitioner.add_unit(end_soon, name="ends")
        over = threading.Event()
        def run():
            partitioner.execute({}, **how)
            over.set()
        def wait():
            threading.Thread(target=run).start()
            over.wait()
        attempt(wait)
        open(let_go, "w").close()
        over.wait()
        tell_of(partitioner)
    """
    with Program(tmp_path, body, mode="thread") as program:
        program.wait_for(begun="ends")
        program.send(signal.SIGINT)
        said = program.finish()
    assert said["raised"] == "KeyboardInterrupt"
    assert said["states"] == {"ends": "completed"}
    assert said["stopped"] is None


def handlers():
    """The handlers of both signals."""
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.fixture
def default_handlers():
    """The handlers that a program starts with, whatever the test runner has set."""
    before = handlers()
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield handlers()
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
@pytest.mark.parametrize("how", ["well", "badly", "broken"])
def test_handlers_are_the_runs_while_it_runs_and_restored_after(default_handlers, mode, how):
    """However it ends."""
    seen = []

    def look(_):
        seen.append(handlers())
        if how == "badly":
            raise ValueError

    class Breaks:
        def qp_unit_finished(self, event):
            if how == "broken":
                raise SystemExit

    partitioner = QuantumPartitioner(default_execution_mode=mode)
    partitioner.add_unit(look)
    if how == "broken":
        with pytest.raises(SystemExit):
            partitioner.execute({}, telemetry=[Breaks()])
    else:
        partitioner.execute({}, telemetry=[Breaks()])
    ((interrupt, terminate),) = seen
    assert interrupt is terminate
    assert interrupt is not default_handlers[0]
    assert handlers() == default_handlers


def test_handlers_that_the_program_has_set_are_never_touched(default_handlers):
    """Neither a function nor "ignore"; each signal by itself."""
    seen = []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda _: seen.append(handlers()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    partitioner.execute({})
    assert seen[0][0] is not default_handlers[0]
    assert seen[0][1] is signal.SIG_IGN

    def mine(number, frame):
        raise AssertionError

    signal.signal(signal.SIGINT, mine)
    partitioner.execute({})
    assert seen[1] == (mine, signal.SIG_IGN)


@pytest.mark.parametrize("way", ["execute", "stream"])
def test_handlers_that_the_program_sets_while_a_run_goes_on_stay(default_handlers, way):
    """Only what is the run's own is taken away when it is over."""

    def mine(number, frame):
        raise AssertionError

    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    if way == "execute":
        partitioner.add_unit(lambda _: signal.signal(signal.SIGTERM, mine) and None, name="a")
        assert partitioner.execute({}).ok
    else:
        partitioner.add_unit(lambda _: None, name="a")
        stream = partitioner.stream({})
        next(stream)
        signal.signal(signal.SIGTERM, mine)
        assert list(stream) == []
    assert handlers() == (default_handlers[0], mine)


def test_a_stream_has_sigterm_only_and_only_until_it_is_over(default_handlers):
    """Ctrl-C comes out where the program is, as everywhere else."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda _: None, name="a")
    partitioner.add_unit(lambda _: None, name="b")
    stream = partitioner.stream({})
    assert handlers() == default_handlers
    next(stream)
    assert handlers()[0] is default_handlers[0]
    assert handlers()[1] is not default_handlers[1]
    assert len(list(stream)) == 1
    assert handlers() == default_handlers


def test_a_stream_that_is_closed_in_another_thread_gives_sigterm_back_when_it_comes(default_handlers, monkeypatch):
    """Only the main thread can change handlers; until then the one that is left passes the signal on."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda _: None, name="a")
    partitioner.add_unit(lambda _: None, ["a"], "b")
    stream = partitioner.stream({})
    next(stream)
    raised = []

    def close():
        try:
            stream.close()
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            raised.append(error)

    closer = threading.Thread(target=close)
    closer.start()
    closer.join(SOON_S)
    assert raised == []
    again = []
    monkeypatch.setattr(signal, "raise_signal", again.append)
    os.kill(os.getpid(), signal.SIGTERM)
    assert again == [signal.SIGTERM]
    assert handlers() == default_handlers


def test_a_run_takes_signals_over_from_a_stream_that_was_closed_in_another_thread(default_handlers):
    """What that one has left behind is no handler of the program's."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda _: None, name="a")
    partitioner.add_unit(lambda _: None, ["a"], "b")
    stream = partitioner.stream({})
    next(stream)
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join(SOON_S)
    left = handlers()[1]
    assert left is not default_handlers[1]
    seen = []
    partitioner.on_unit_start = lambda _: seen.append(handlers()[1])
    partitioner.execute({})
    assert [type(one) for one in seen] == [_Handler, _Handler]
    assert left not in seen
    assert handlers() == default_handlers


def test_off_the_main_thread_no_handler_is_touched(default_handlers):
    """Only the main thread could."""
    seen = []
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda _: seen.append(handlers()))
    thread = threading.Thread(target=partitioner.execute, args=({},))
    thread.start()
    thread.join(SOON_S)
    assert seen == [default_handlers]


def test_a_run_inside_a_unit_leaves_the_outer_ones_handlers(default_handlers):
    """One run at a time has the signals, and passes them on."""
    seen = []

    def inner(_):
        nested = QuantumPartitioner(default_execution_mode="sequential")
        nested.add_unit(lambda _: seen.append(handlers()))
        seen.append(handlers())
        nested.execute({})
        seen.append(handlers())

    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(inner)
    assert partitioner.execute({}).ok
    assert seen[0] == seen[1] == seen[2]
    assert handlers() == default_handlers


# ---- KeyboardInterrupt that is no signal


def interrupted_by_itself(_):
    """A unit that raises what Ctrl-C raises."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_unit_that_raises_keyboardinterrupt_itself_fails_alone(default_handlers, mode):
    """No signal came, so nobody meant the run; and it is never tried again."""
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(interrupted_by_itself, name="a", retries=3)
    partitioner.add_unit(lambda _: 1, name="b")
    result = partitioner.execute({})
    assert result == {"b": 1}
    assert result.report.units["a"].state is UnitState.FAILED
    assert result.report.units["a"].attempts == 1


def test_where_the_program_handles_the_signal_itself_a_keyboardinterrupt_in_the_main_thread_stops_the_run(
    default_handlers,
):
    """For nobody can tell whether its handler has raised it."""
    signal.signal(signal.SIGINT, lambda *_: None)
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(interrupted_by_itself, name="a")
    partitioner.add_unit(lambda _: 1, name="b")
    with pytest.raises(KeyboardInterrupt):
        partitioner.execute({})
    assert partitioner.last_result.report.counts == {UnitState.CANCELED: 2}


# ---- the thread that acts while the main one is busy, in this process


class Sequential:
    """The sequential executor, and the run that it drives."""

    def __init__(self):
        self.current = None

    def run(self, run):
        """Run every unit here."""
        self.current = run
        Plugins.installed().make("executors", ExecutionMode.SEQUENTIAL.value, None).run(run)


def test_a_sequential_unit_that_hangs_is_interrupted_after_its_grace(default_handlers):
    """From beside, since the main thread is busy with the unit; the unit sees a KeyboardInterrupt. ran -> hangs, never."""
    executor = Sequential()
    caught = []

    def hangs(_):
        try:  # from the first line on, for nobody knows how long the thread takes to start
            threading.Thread(target=_act_aside, args=(executor.current,)).start()
            ends = time.monotonic() + SOON_S
            while time.monotonic() < ends:
                time.sleep(0.01)
        except KeyboardInterrupt:
            caught.append(True)
            raise

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda _: 1, name="ran")
    partitioner.add_unit(hangs, ["ran"], "hangs")
    partitioner.add_unit(lambda _: 1, ["ran"], "never")
    # What the thread sends is counted as a first signal here, which starts another such thread; that one's is the second.
    with pytest.raises(KeyboardInterrupt):
        partitioner.execute({}, custom_executor=executor, grace=0.05)
    assert caught == [True]
    assert partitioner.get_partial_results() == {"ran": 1}
    states = {unit_id: record.state.value for unit_id, record in partitioner.last_result.report.units.items()}
    assert states == {"ran": "completed", "hangs": "canceled", "never": "canceled"}


def test_a_sequential_unit_that_ends_in_its_grace_is_not_interrupted(default_handlers):
    """Whoever acts from beside looks whether the run is over, and leaves the main thread alone."""
    executor = Sequential()
    aside = []

    def ends(_):
        aside.append(threading.Thread(target=_act_aside, args=(executor.current,)))
        aside[0].start()
        while executor.current._frontier.halted is None:
            time.sleep(0.001)
        return "ended"

    partitioner = QuantumPartitioner()
    partitioner.add_unit(ends, name="ends")
    partitioner.add_unit(lambda _: 1, ["ends"], "never")
    result = partitioner.execute({}, custom_executor=executor, grace=60)
    aside[0].join(SOON_S)
    assert not aside[0].is_alive()
    assert result == {"ends": "ended"}
    assert result.report.stopped == "interrupted"


class Threads(Sequential):
    """The thread executor, and the run that it drives."""

    def run(self, run):
        """Run every unit in threads."""
        self.current = run
        Plugins.installed().make("executors", ExecutionMode.THREAD.value, None).run(run)


def test_a_third_signal_comes_out_where_the_run_should_be_gone_by_now(default_handlers):
    """Two were noted, and the time for them is over; the handlers are the program's again."""
    executor, clock, free = Threads(), FakeClock(), threading.Event()

    def holds_up(_):
        for _ in range(2):
            executor.current.stopping.note_signal()
        clock.advance(1000)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        free.wait(SOON_S)

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(holds_up)
    try:
        with pytest.raises(KeyboardInterrupt):
            partitioner.execute({}, custom_executor=executor)
        assert not free.is_set()
        assert handlers() == default_handlers
        assert partitioner.last_result is None
    finally:
        free.set()


class Halted:
    """A run that was halted, as far as who acts aside looks at it; its clock runs on at each look.

    Args:
        over: Whether it is over.
    """

    def __init__(self, *, over):
        self.over = over
        self.clock = self.stopping = self
        self.options = RunOptions(mode="sequential", grace_s=50)
        self.halted = 0
        self._now = 0.0

    def now(self):
        """A minute later each time."""
        self._now += 60
        return self._now

    def halt_aside(self):
        """Count."""
        self.halted += 1


@pytest.mark.parametrize("over", [True, False])
def test_who_acts_aside_interrupts_the_main_thread_only_where_the_run_goes_on(monkeypatch, over):
    """Without pthread_kill in another way."""
    interrupted = []
    monkeypatch.delattr(signal, "pthread_kill")
    monkeypatch.setattr(_thread, "interrupt_main", lambda *_: interrupted.append(True))
    run = Halted(over=over)
    _act_aside(run)
    assert run.halted == 1
    assert interrupted == ([] if over else [True])


def test_who_acts_aside_interrupts_nobody_who_has_left_the_run(monkeypatch):
    """Else KeyboardInterrupt would come out at some line of the program, after `execute` has raised it."""
    sent = []
    monkeypatch.setattr("qp_core.interrupt._interrupt_main", lambda *_: sent.append("aside"))
    handler = _Handler(Halted(over=False), {})
    _act_aside(Halted(over=False), handler.interrupt_main)
    assert sent == ["aside"]
    handler.leave()
    _act_aside(Halted(over=False), handler.interrupt_main)
    assert sent == ["aside"]


def test_a_signal_from_beside_that_comes_when_the_run_has_been_left_is_dropped(default_handlers, monkeypatch):
    """It was sent just before; one of the user's is passed on to the program."""
    sent, passed_on = [], []
    monkeypatch.setattr("qp_core.interrupt._interrupt_main", lambda *_: sent.append("aside"))
    monkeypatch.setattr(signal, "raise_signal", passed_on.append)
    handler = _Handler(Halted(over=False), {})
    handler.interrupt_main()
    handler.leave()
    handler(signal.SIGINT, None)
    assert (sent, passed_on) == (["aside"], [])
    handler(signal.SIGINT, None)
    assert passed_on == [signal.SIGINT]


def test_a_unit_in_the_main_thread_is_interrupted_once(default_handlers):
    """A further signal might come while the engine settles what the first did, and would leave its locks taken."""
    caught = []

    def swallows(_):
        signal.raise_signal(signal.SIGINT)  # the first one only halts the run
        for _ in range(5):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                caught.append(True)
        return "whole"

    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(swallows, name="a")
    with pytest.raises(KeyboardInterrupt):
        partitioner.execute({}, grace=2 * SOON_S)
    assert caught == [True]
    assert partitioner.get_partial_results() == {"a": "whole"}


class Stopped:
    """A run that is left, as far as who leaves it asks; `interrupt` says in which thread it was called.

    Args:
        over: Whether it is over.
        error: What `interrupt` raises.
    """

    def __init__(self, *, over=False, error=None):
        self.over = over
        self.stopping = self
        self._error = error
        self.threads, self.broken = [], []

    def interrupt(self, reason):
        """Note the thread."""
        self.threads.append((reason, threading.get_ident()))
        if self._error is not None:
            raise self._error

    def break_off(self, error):
        """Note the error."""
        self.broken.append(error)


def test_who_leaves_a_run_stops_it_in_a_thread_beside():
    """For Ctrl-C may come at any line of the main thread; nothing where it is over; what is raised breaks the run off."""
    run = Stopped()
    leave = Leave(run, "left")
    leave()
    leave()
    assert [reason for reason, _ in run.threads] == ["left", "left"]
    assert threading.get_ident() not in {thread for _, thread in run.threads}
    over, error = Stopped(over=True), SystemExit()
    Leave(over, "left")()
    assert over.threads == []
    breaks = Stopped(error=error)
    Leave(breaks, "left")()
    assert breaks.broken == [error]


def test_who_leaves_a_run_where_no_thread_can_be_started_stops_it_all_the_same(monkeypatch):
    """In its own thread then."""

    def refuse(*_):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    run = Stopped()
    Leave(run, "left")()
    assert run.threads == [("left", threading.get_ident())]


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_a_signal_handled_in_this_process_stops_the_run(default_handlers, mode):
    """The handler only leaves a message for the thread that waits. a -> never."""
    partitioner = QuantumPartitioner(1, mode)
    partitioner.add_unit(lambda _: signal.raise_signal(signal.SIGTERM), name="a")
    partitioner.add_unit(lambda _: 1, ["a"], "never")
    main = threading.main_thread().ident

    def terminates(_):
        signal.pthread_kill(main, signal.SIGTERM)
        assert halted.wait(SOON_S)
        return "kept"

    halted = threading.Event()

    class Hears:
        def qp_unit_finished(self, event):
            if event.unit_id == "never":
                halted.set()

    partitioner.units["a"].function = terminates
    with pytest.raises(KeyboardInterrupt):
        partitioner.execute({}, telemetry=[Hears()], grace=60)
    assert partitioner.get_partial_results() == {"a": "kept"}


def test_a_signal_that_comes_between_two_units_of_a_sequential_run_is_heard(default_handlers):
    """While the main thread is in an observer, and not in a unit: the first and the second raise nothing there."""
    after, halted = [], threading.Event()

    class Signals:
        def qp_unit_finished(self, event):
            if event.unit_id == "a":
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                after.append("both")
            if event.state is UnitState.CANCELED:
                halted.set()

    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda _: 1, name="a")
    for number in range(20):
        partitioner.add_unit(lambda _: halted.wait(SOON_S), name=f"later{number}")
    with pytest.raises(KeyboardInterrupt):
        partitioner.execute({}, telemetry=[Signals()], grace=2 * SOON_S)
    report = partitioner.last_result.report
    assert after == ["both"]
    assert report.stopped == "interrupted"
    assert partitioner.get_partial_results()["a"] == 1
    assert UnitState.CANCELED in report.counts
    assert set(report.counts) <= {UnitState.COMPLETED, UnitState.CANCELED}
