"""Units in real processes: what travels, what goes wrong on the way, and what is left behind.

The pool is the standard library's for now: it breaks as a whole when one of its processes dies, and cannot stop a unit. That it
kills one process for one unit is not promised yet, and not tested here.
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import cloudpickle
import psutil
import pytest

from qp_core import (
    CachingQuantumPartitioner,
    ExecutionMode,
    PluginError,
    QuantumPartitioner,
    RetryPolicy,
    UnitState,
    WorkerLostError,
    current_context,
)
from qp_plugins.executors import processes as module

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
]  # where a process takes 20 s to start, a run of two takes a minute

PATIENCE_S = 100  # only ever spent by a test that fails


@pytest.fixture(scope="module", autouse=True)
def _by_value():
    """What this module defines travels by value: other processes could not import it, wherever pytest was started."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    yield
    cloudpickle.unregister_pickle_by_value(here)


class TwoArguments(Exception):  # noqa: N818 - a user's own
    """An exception that pickles and cannot be unpickled, as many in the wild."""

    def __init__(self, what, where):
        super().__init__(f"{what} in {where}")


class Unreadable:
    """A result that pickles and cannot be unpickled."""

    def __reduce__(self):
        return int, ("no number",)


class Fatal:
    """A result that ends whoever unpickles it."""

    def __reduce__(self):
        return sys.exit, ("unpickled",)


class Mute(Exception):  # noqa: N818 - a user's own
    """An exception that cannot be pickled and has no text."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self):
        msg = "no text"
        raise ValueError(msg)


def partitioner_of(workers=2, **units):
    """Independent units in processes."""
    partitioner = QuantumPartitioner(max_workers=workers, default_execution_mode=ExecutionMode.PROCESS)
    for name, function in units.items():
        partitioner.add_unit(function, name=name)
    return partitioner


def states_of(result):
    """Where each unit ended."""
    return {unit_id: record.state.value for unit_id, record in result.report.units.items()}


def wait_for_text(path):
    """Wait until another process has written something there: it shares no Event with this one."""
    ends = time.monotonic() + PATIENCE_S
    while not (path.exists() and path.read_text()) and time.monotonic() < ends:
        time.sleep(0.005)
    return path.read_text()


def children():
    """The processes below this one, but for the two helpers that multiprocessing keeps for the next run."""
    found = psutil.Process().children(recursive=True)
    return [child.pid for child in found if not _is_helper(child)]


def open_files():
    """What this process has open: what each descriptor stands for, such as `pipe:[4711]`, where that can be asked, else how many there are."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return {f"descriptor {number}" for number in range(psutil.Process().num_fds())}
    targets = set()
    for link in folder.iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            targets.add(os.readlink(link))  # noqa: PTH115 - a name, not a path
    return targets


def _is_helper(child):
    try:
        line = " ".join(child.cmdline())
        return ("resource_tracker" in line or "forkserver" in line) and child.ppid() == os.getpid()
    except psutil.Error:
        return True  # gone meanwhile


# ---- what travels


def test_units_run_in_other_processes_and_their_results_come_back():
    """Two units that wait for each other's file run at the same time, neither in this process."""
    result = partitioner_of(a=lambda ctx: os.getpid(), b=lambda ctx: os.getpid()).execute({})
    assert result.ok
    assert os.getpid() not in result.values()
    assert result.report.mode == "process"


def test_as_many_units_run_at_once_as_there_are_workers(tmp_path):
    """Two units each wait for the other's mark."""

    def meet(ctx, mine, other):
        (tmp_path / mine).write_text("here")
        return wait_for_text(tmp_path / other)

    result = partitioner_of(
        a=functools.partial(meet, mine="a", other="b"), b=functools.partial(meet, mine="b", other="a")
    ).execute({})
    assert result == {"a": "here", "b": "here"}


def test_lambdas_closures_partials_methods_and_coroutines_travel():
    """By value where pickle cannot; each with what it closes over."""

    class Adder:
        def __init__(self, more):
            self.more = more

        def add(self, ctx):
            return ctx["n"] + self.more

        def __call__(self, ctx):
            return ctx["n"] * self.more

    def outer(factor):
        def inner(ctx):
            return ctx["n"] * factor

        return inner

    async def later(ctx):
        await asyncio.sleep(0)
        return ctx["n"] - 1

    result = partitioner_of(
        closure=outer(3),
        function=functools.partial(lambda ctx, more: ctx["n"] + more, more=1),
        method=Adder(5).add,
        callable=Adder(7),
        coroutine=later,
        builtin=len,
    ).execute({"n": 10})
    assert result == {"closure": 30, "function": 11, "method": 15, "callable": 70, "coroutine": 9, "builtin": 1}


def test_a_class_that_only_a_function_knows_comes_back_as_itself():
    """Results and exceptions of local classes are instances of these very classes here."""

    class Point:
        def __init__(self, x):
            self.x = x

    class Odd(Exception):  # noqa: N818 - a user's own
        pass

    def fail(ctx):
        msg = "odd"
        raise Odd(msg)

    result = partitioner_of(point=lambda ctx: Point(3), fail=fail).execute({})
    assert type(result["point"]) is Point
    assert result["point"].x == 3
    assert type(result.failed["fail"]) is Odd


def test_only_the_results_of_declared_dependencies_travel():
    """A neighbour's result that cannot be pickled hurts nobody who does not need it."""
    partitioner = partitioner_of(number=lambda ctx: 4)
    partitioner.add_unit(
        lambda ctx: (ctx["number"] + 1, sorted(ctx.unit_results), ctx.get_dependency_result("number")),
        ["number"],
        "after",
    )
    partitioner.add_unit(lambda ctx: "known", name="lock")
    result = partitioner.execute({}, known={"lock": threading.Lock()})
    assert result["after"] == (5, ["number"], 4)


def test_reading_an_undeclared_result_is_an_error_there_too():
    """It is no key of the context in the other process."""
    partitioner = partitioner_of(a=lambda ctx: 1, b=lambda ctx: ctx["a"])
    result = partitioner.execute({})
    assert states_of(result) == {"a": "completed", "b": "failed"}
    assert isinstance(result.failed["b"], KeyError)


def test_metrics_and_writes_come_back():
    """Of what a unit wrote only the key: the value may be something that cannot travel."""

    def unit(ctx):
        ctx.record_metric("rows", 3)
        ctx["mark"] = threading.Lock()
        return ctx.attempt

    record = partitioner_of(unit=unit).execute({"n": 1}).report.units["unit"]
    assert (record.state, record.metrics, record.writes) == (UnitState.COMPLETED, {"rows": 3}, ("mark",))


def test_metrics_and_writes_of_a_unit_that_failed_come_back_too():
    """Also where something stands in for its result, and of its last attempt."""

    def unit(ctx):
        ctx.record_metric("rows", ctx.attempt)
        ctx["mark"] = threading.Lock()
        raise ValueError

    partitioner = partitioner_of(fails=unit)
    partitioner.add_unit(unit, name="falls_back", retries=1, retry=RetryPolicy(base_s=0), fallback=lambda ctx, error: 1)
    report = partitioner.execute({}).report
    assert {unit_id: (record.metrics, record.writes) for unit_id, record in report.units.items()} == {
        "fails": ({"rows": 1}, ("mark",)),
        "falls_back": ({"rows": 2}, ("mark",)),
    }


def test_a_context_that_is_no_mapping_travels_as_it_is():
    """The unit is called with it."""
    partitioner = partitioner_of(unit=lambda numbers: sum(numbers))  # noqa: PLW0108 - a plain function of a list
    assert partitioner.execute([1, 2, 3]) == {"unit": 6}


def test_a_coroutine_finds_its_context_there():
    """`current_context()` works in whatever the unit awaits."""

    async def unit(ctx):
        await asyncio.sleep(0)
        return ctx.unit_id, ctx.environment["execution_mode"]

    result = partitioner_of(unit=unit).execute({})
    assert result["unit"][1] == "process"
    with pytest.raises(LookupError):
        current_context()


def test_retries_and_fallbacks_are_made_here_and_attempts_there(clock):
    """The second attempt is told that it is the second."""

    def second_time(ctx):
        if ctx.attempt < 2:
            msg = "not yet"
            raise ConnectionError(msg)
        return "mended"

    partitioner = QuantumPartitioner(max_workers=1, default_execution_mode="process", clock=clock)
    partitioner.add_unit(second_time, name="mended", retries=1)
    partitioner.add_unit(lambda ctx: 1 / 0, name="replaced", fallback=lambda ctx, error: os.getpid())
    result = partitioner.execute({})
    assert result == {"mended": "mended", "replaced": os.getpid()}
    assert result.report.units["mended"].attempts == 2


def test_what_a_cache_has_starts_no_unit():
    """Put by a process, found by the next run."""
    partitioner = CachingQuantumPartitioner(max_workers=1, default_execution_mode="process")
    partitioner.add_unit(lambda ctx: os.getpid(), name="pid", metadata={"cacheable": True})
    first = partitioner.execute({"n": 1})
    assert partitioner.execute({"n": 1}) == first
    assert partitioner.execute({"n": 2})["pid"] != first["pid"]


def test_an_error_tells_where_it_came_from():
    """The traceback does not survive pickling, so its text is noted."""

    def outer(ctx):
        return inner(ctx)

    def inner(ctx):
        return {}["absent"]

    error = partitioner_of(unit=outer).execute({}).failed["unit"]
    assert isinstance(error, KeyError)
    (note,) = [note for note in error.__notes__ if note.startswith("in the worker:")]
    assert "in outer" in note
    assert 'return {}["absent"]' in note
    assert any("raised by unit 'unit'" in note for note in error.__notes__)


# ---- what goes wrong on the way


class Travelling:
    """A pool without processes, through which everything travels as bytes: what there is to say of the way, without the wait."""

    @staticmethod
    def submit(job):
        """Pack, unpack, call, pack, unpack; a pool's own way to say that it could not pack."""
        future = Future()
        try:
            there = pickle.loads(pickle.dumps(job))
        except Exception as error:  # noqa: BLE001 - as the standard library's feeder thread does
            future.set_exception(error)
        else:
            future.set_result(pickle.loads(pickle.dumps(there())))
        return future


def raise_it(error):
    """A unit that raises."""

    def unit(ctx):
        raise error

    return unit


@pytest.mark.parametrize("way", ["processes", "bytes"])
@pytest.mark.parametrize(
    ("unit", "kind", "text"),
    [
        pytest.param(
            lambda ctx: threading.Lock(),
            RuntimeError,
            "its result could not be brought back, because of TypeError: cannot pickle '_thread.lock' object",
            id="a result that cannot be pickled",
        ),
        pytest.param(
            lambda ctx, make=Unreadable: make(),
            RuntimeError,
            "its result could not be brought back, because of ValueError: invalid literal for int() with base 10: 'no number'",
            id="a result that cannot be unpickled",
        ),
        pytest.param(
            lambda ctx, make=Fatal: make(),
            RuntimeError,
            "its result could not be brought back, because of SystemExit: unpickled",
            id="a result that ends its reader",
        ),
        pytest.param(
            lambda ctx, make=TwoArguments: raise_it(make("dirt", "the kitchen"))(ctx),
            RuntimeError,
            "TwoArguments: dirt in the kitchen, which could not be brought back",
            id="an exception that cannot be unpickled",
        ),
        pytest.param(
            lambda ctx, make=Mute: raise_it(make())(ctx),
            RuntimeError,
            "Mute: <its __str__ raised ValueError>, which could not be brought back",
            id="an exception that cannot be pickled",
        ),
        pytest.param(lambda ctx: sys.exit(3), SystemExit, "3", id="SystemExit"),
        pytest.param(raise_it(KeyboardInterrupt("no key")), KeyboardInterrupt, "no key", id="KeyboardInterrupt"),
        pytest.param(
            lambda ctx, lock=threading.Lock(): 1,  # noqa: B008 - one that cannot travel
            TypeError,
            "cannot pickle '_thread.lock' object",
            id="a function that cannot be pickled",
        ),
    ],
)
def test_what_cannot_travel_fails_its_unit_alone(unit, kind, text, way):
    """The others run as if nothing were, also after it and in the same process."""
    partitioner = partitioner_of(workers=1, before=lambda ctx: 1, bad=unit, after=lambda ctx: 2)
    options = {"execution_mode": "custom", "custom_executor": Travelling()} if way == "bytes" else {}
    result = partitioner.execute({}, **options)
    assert states_of(result) == {"before": "completed", "bad": "failed", "after": "completed"}
    error = result.failed["bad"]
    assert type(error) is kind
    assert text in str(error)


def test_a_function_of_a_module_that_is_only_here_fails_its_unit_alone(monkeypatch):
    """It is pickled by its name, which says nothing to the other process; the reason is noted."""
    only_here = type(sys)("only_here")
    exec("def unit(ctx): return 1", vars(only_here))  # noqa: S102 - a module without a file
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    result = partitioner_of(workers=1, bad=only_here.unit, good=lambda ctx: 1).execute({})
    assert states_of(result) == {"bad": "failed", "good": "completed"}
    assert isinstance(result.failed["bad"], ModuleNotFoundError)
    assert "unit 'bad' could not be unpickled where it was to run" in result.failed["bad"].__notes__


def test_a_function_whose_unpickling_ends_its_reader_fails_its_unit_alone():
    """Not even a SystemExit reaches the pool."""

    class Trap:
        def __reduce__(self):
            return sys.exit, ("unpickled",)

        def __call__(self, ctx):
            return 1

    partitioner = partitioner_of(workers=1, bad=Trap(), good=lambda ctx: 1)
    for options in ({}, {"execution_mode": "custom", "custom_executor": Travelling()}):
        result = partitioner.execute({}, **options)
        assert states_of(result) == {"bad": "failed", "good": "completed"}
        assert isinstance(result.failed["bad"], SystemExit)


def test_a_context_that_cannot_be_pickled_fails_the_units_and_ends_the_run():
    """Each says why."""
    result = partitioner_of(a=len, b=len).execute({"lock": threading.Lock()})
    assert states_of(result) == {"a": "failed", "b": "failed"}
    assert "cannot pickle '_thread.lock' object" in str(result.failed["a"])


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda ctx: os._exit(7), id="exit"),
        pytest.param(lambda ctx: os.kill(os.getpid(), signal.SIGKILL), id="killed"),
        pytest.param(lambda ctx: os.kill(os.getpid(), signal.SIGSEGV), id="segfault"),
    ],
)
def test_a_worker_that_dies_loses_its_unit_with_the_cause_and_the_run_ends(end, nothing_left_over):
    """What had completed is kept; the pool is broken, so what comes after is lost too."""
    partitioner = partitioner_of(workers=1, before=lambda ctx: "kept")
    partitioner.add_unit(end, ["before"], "dies")
    partitioner.add_unit(lambda ctx: 1, ["dies"], "needs it")
    result = partitioner.execute({})
    assert result == {"before": "kept"}
    assert states_of(result) == {"before": "completed", "dies": "failed", "needs it": "skipped"}
    error = result.failed["dies"]
    assert isinstance(error, WorkerLostError)
    assert error.unit_id == "dies"
    assert "terminated abruptly" in str(error)
    assert type(error.__cause__).__name__ == "BrokenProcessPool"
    assert children() == []
    assert partitioner_of(a=lambda ctx: 1).execute({}) == {"a": 1}  # the next run has a pool of its own


def test_a_lost_worker_is_worth_another_attempt_where_retries_are_granted(clock):
    """The pool is broken for good, so they fail too; each is counted, and the run ends."""
    partitioner = QuantumPartitioner(max_workers=1, default_execution_mode="process", clock=clock)
    partitioner.add_unit(lambda ctx: os._exit(1), name="dies", retries=2)
    result = partitioner.execute({})
    assert result.report.units["dies"].attempts == 3
    assert isinstance(result.failed["dies"], WorkerLostError)


# ---- what is left behind


def test_nothing_is_left_over_after_a_run():
    """No child, no thread, no open file more after six runs than after one; what earlier tests have left may go meanwhile."""
    partitioner = partitioner_of(a=lambda ctx: 1, b=lambda ctx: 1 / 0)
    partitioner.execute({})
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    for _ in range(5):
        partitioner.execute({})
        assert multiprocessing.active_children() == []
        assert children() == []
        assert set(threading.enumerate()) <= threads
    gc.collect()
    assert open_files() <= files


def test_a_unit_that_runs_out_of_time_is_abandoned_and_ends_with_the_run(tmp_path, clock):
    """The pool cannot stop it alone: it goes on while others run, and is killed when they are done."""
    pid, other_done = tmp_path / "pid", threading.Event()

    def hang(ctx):
        pid.write_text(str(os.getpid()))
        time.sleep(3600)

    def let_time_pass():
        other_done.wait(PATIENCE_S)
        wait_for_text(pid)
        clock.advance(2)

    partitioner = QuantumPartitioner(max_workers=2, default_execution_mode="process", clock=clock)
    partitioner.add_unit(hang, name="hang", timeout=1)
    partitioner.add_unit(lambda ctx: "done", name="other")
    partitioner.on_unit_complete = lambda unit_id, result: other_done.set()
    thread = threading.Thread(target=let_time_pass)
    thread.start()
    result = partitioner.execute({})
    thread.join()
    assert result == {"other": "done"}
    assert states_of(result)["hang"] == "timeout"
    assert not psutil.pid_exists(int(pid.read_text()))
    assert children() == []


def test_a_process_that_does_not_end_when_it_is_told_to_is_killed(monkeypatch):
    """A unit left a thread running in it that never ends."""
    monkeypatch.setattr(module, "_LAST_S", 0.2)

    def leave_a_thread(ctx):
        threading.Thread(target=threading.Event().wait).start()
        return os.getpid()

    result = partitioner_of(unit=leave_a_thread).execute({})
    assert result.ok
    assert not psutil.pid_exists(result["unit"])


def test_a_run_that_is_broken_off_leaves_no_process(tmp_path):
    """A cache that breaks ends the run while another unit hangs."""
    pid = tmp_path / "pid"

    def hang(ctx):
        pid.write_text(str(os.getpid()))
        time.sleep(3600)

    class Broken:
        def get(self, key):
            wait_for_text(pid)
            msg = "no disk"
            raise OSError(msg)

        def put(self, key, value):
            raise NotImplementedError

    partitioner = CachingQuantumPartitioner(max_workers=2, default_execution_mode="process", cache=Broken())
    partitioner.add_unit(hang, name="hang")
    partitioner.add_unit(len, name="cached", metadata={"cacheable": True})
    with pytest.raises(PluginError, match="no disk"):
        partitioner.execute({})
    assert not psutil.pid_exists(int(pid.read_text()))
    assert children() == []


# ---- how processes are started

_MARKED = """
from pathlib import Path
with Path("runs").open("a") as runs:
    runs.write("x")  # each time this file is run
import sys
from qp_core import QuantumPartitioner

FACTOR = 3

class Point:
    def __init__(self, x):
        self.x = x

def times(ctx):
    return Point(ctx["n"] * FACTOR)

def more(ctx):
    return Point(ctx["times"].x + 1)

partitioner = QuantumPartitioner(max_workers=2, default_execution_mode="process")
partitioner.add_unit(times, name="times")
partitioner.add_unit(more, ["times"], "more")
result = partitioner.execute({"n": 5})
assert result.ok, result.failed
assert type(result["more"]) is Point
print(result["more"].x, Path("runs").read_text(), __name__, getattr(__spec__, "name", None))
"""


@pytest.mark.parametrize(
    ("how", "spec"),
    [
        pytest.param("script", "None", id="script without a guard"),
        pytest.param("stdin", "None", id="standard input"),
        pytest.param("module", "program", id="python -m"),
    ],
)
def test_units_that_the_main_module_defines_travel_and_it_is_not_run_again(program, how, spec):
    """Functions, classes and globals of `__main__`; afterwards the module is as it was."""
    assert program(_MARKED, how=how).out.split() == ["16", "x", "__main__", spec]


def test_two_runs_that_start_processes_at_once_leave_the_main_module_as_it_was(program):
    """It is hidden from processes while they start; what the other run has hidden must not be put back as found."""
    done = program(
        """
        import threading
        from qp_core import QuantumPartitioner

        def run():
            partitioner = QuantumPartitioner(max_workers=2, default_execution_mode="process")
            for _ in range(4):
                partitioner.add_unit(lambda ctx: 1)
            assert partitioner.execute({}).ok

        if __name__ == "__main__":
            for _ in range(2):
                threads = [threading.Thread(target=run) for _ in range(3)]
                [thread.start() for thread in threads]
                [thread.join() for thread in threads]
            print(__spec__.name, __file__.endswith("program.py"))
        """,
        how="module",
    )
    assert done.out.split() == ["program", "True"]


def test_hiding_the_main_module_is_done_by_one_at_a_time(monkeypatch):
    """A second one waits; both find what was there, and put it back."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "__file__", "the file", raising=False)
    monkeypatch.setattr(main, "__spec__", "the spec")
    entered = threading.Event()

    def other():
        with module._main_hidden():
            entered.set()

    with module._main_hidden():
        thread = threading.Thread(target=other)
        thread.start()
        assert not hasattr(main, "__file__")
        assert main.__spec__ is None
        assert not entered.wait(0.02)
    thread.join()
    assert (main.__file__, main.__spec__) == ("the file", "the spec")


def test_a_run_inside_a_unit_starts_processes_of_its_own():
    """Nested, in the unit's process, which ends them."""

    def outer(ctx):
        inner = QuantumPartitioner(max_workers=1)
        inner.add_unit(lambda ctx: os.getpid(), name="inner")
        return os.getpid(), inner.execute({}, "process")["inner"]

    result = partitioner_of(workers=1, outer=outer).execute({})
    assert len({os.getpid(), *result["outer"]}) == 3
    assert children() == []


def test_context_variables_stay_behind():
    """They cannot be pickled; a unit in another process starts without them."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")
    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(_read_nothing, name="unit")
    assert partitioner.execute({}, "process") == {"unit": "nothing"}


def _read_nothing(ctx):
    return "nothing"


@pytest.mark.parametrize(("asked", "units", "expected"), [(None, 1, 1), (5, 2, 2), (5, 9, 5), (3, 0, 1)])
def test_there_are_no_more_processes_than_units(asked, units, expected):
    """Each costs a tenth of a second to start."""
    partitioner = QuantumPartitioner()
    for _ in range(units):
        partitioner.add_unit(len)
    assert module.ProcessExecutor().workers(asked, partitioner.build_execution_plan()) == expected


# ---- Ctrl-C


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Windows has no process groups to send a signal to")
def test_ctrl_c_reaches_the_coordinator_alone_and_everything_is_gone_after_the_grace(tmp_path):
    """A terminal sends it to every process: those of the pool leave it to theirs, say nothing, and end with the run.

    All three processes have begun a unit before: one that is just being started has no handler for the signal yet.

    done_0, done_1, done_2 -> hangs -> waits
    """
    source = """
import os, time
from pathlib import Path
from qp_core import QuantumPartitioner

def done(ctx):
    Path(ctx.unit_id).touch()
    while not all(Path(f"done_{number}").exists() for number in range(3)):
        time.sleep(0.01)

partitioner = QuantumPartitioner(max_workers=3, default_execution_mode="process")
for number in range(3):
    partitioner.add_unit(done, name=f"done_{number}")
partitioner.add_unit(
    lambda ctx: print("pid", os.getpid(), flush=True) or time.sleep(3600), [f"done_{number}" for number in range(3)], "hangs"
)
partitioner.add_unit(lambda ctx: 1, ["hangs"], "waits")
try:
    partitioner.execute({}, grace=0.2)
except KeyboardInterrupt:
    print(*(unit.state.value for unit in partitioner.units.values()))
"""
    path = tmp_path / "program.py"
    path.write_text(source, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    try:
        pid = int(process.stdout.readline().split()[1])
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert out.split() == [*["completed"] * 3, *["canceled"] * 2]
    assert process.returncode == 0
    assert "Traceback" not in err
    assert not psutil.pid_exists(pid)
