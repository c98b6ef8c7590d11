"""How one attempt is made: what is looked up before, what the unit sees, what is kept of it, and who is told, in every lane."""

import asyncio
import contextvars
import signal
import threading

import pytest

from qp_core import MISS, PluginError, QuantumPartitioner, current_context
from qp_core.telemetry import UnitFinished, UnitStarted
from qp_core.testing import FakeClock, Recorder
from qp_plugins.executors.aio import AsyncExecutor
from qp_plugins.executors.sequential import SequentialExecutor
from qp_plugins.executors.threads import ThreadExecutor
from tests.core.engine import (
    PATIENCE_S,
    Hanging,
    in_every_lane,
    in_every_mode,
    in_parallel_modes,
    states_of,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left_over")

EXECUTORS = {"sequential": SequentialExecutor, "thread": ThreadExecutor, "async": AsyncExecutor}


class Shelf:
    """A cache that keeps everything, and may break.

    Args:
        breaks: The method that raises; None for none.
    """

    def __init__(self, breaks=None):
        self._breaks = breaks
        self.kept = {}
        self.asked = []

    def _check(self, method):
        self.asked.append(method)
        if method == self._breaks:
            raise OSError("disk full")

    def get(self, key):
        """Look."""
        self._check("get")
        return self.kept.get(key, MISS)

    def put(self, key, value):
        """Keep."""
        self._check("put")
        self.kept[key] = value


def cacheable(lane, function, **more):
    """A partitioner of one unit whose result may be cached, and one after it."""
    partitioner = lane.partitioner({"after": lambda ctx: ctx["a"]}, {"after": ["a"]}, **more)
    partitioner.add_unit(lane.unit(function), name="a", metadata={"cacheable": True})
    return partitioner


# ---- before the call: the cache


@in_every_lane
def test_a_result_that_was_found_is_not_computed(lane):
    """The second time: no attempt, no start, but an end; dependents get the value, also None."""
    shelf, before, recorder = Shelf(), Recorder(), Recorder()
    partitioner = cacheable(lane, lambda ctx: None)
    first = partitioner.execute({"n": 1}, cache=shelf, telemetry=[before])
    second = partitioner.execute({"n": 1}, cache=shelf, telemetry=[recorder])
    assert first == second == {"a": None, "after": None}
    assert [event.unit_id for event in before.events if isinstance(event, UnitStarted)] == ["a", "after"]
    record = second.report.units["a"]
    assert (record.cached, record.attempts, record.started_s, record.state.value) == (True, 0, None, "completed")
    assert first.report.units["a"].cached is False
    assert [event.unit_id for event in recorder.events if isinstance(event, UnitStarted)] == ["after"]
    ends = [event for event in recorder.events if isinstance(event, UnitFinished)]
    assert [(end.unit_id, end.cached) for end in ends] == [("a", True), ("after", False)]


@in_every_lane
def test_what_has_no_key_is_computed_and_not_kept(lane, caplog):
    """A lock in the context has no content to hash; the log says so."""
    calls, shelf = [], Shelf()
    partitioner = cacheable(lane, lambda ctx: calls.append(1))
    for _ in range(2):
        assert partitioner.execute({"lock": threading.Lock()}, cache=shelf).ok
    assert calls == [1, 1]
    assert shelf.asked == []
    assert sum("'a' cannot be cached" in message for message in caplog.messages) == 2


@in_every_lane
def test_a_unit_that_is_not_said_to_be_cacheable_is_not(lane):
    """Nobody looks."""
    shelf = Shelf()
    assert lane.partitioner({"a": len}).execute({}, cache=shelf).ok
    assert shelf.asked == []


@in_every_lane
@pytest.mark.parametrize("method", ["get", "put"])
def test_a_cache_that_breaks_ends_the_run_and_is_named(lane, method):
    """The unit may have run; nothing hangs, every unit is in a final state."""
    partitioner = cacheable(lane, lambda ctx: 1)
    with pytest.raises(PluginError, match=f"'Shelf', Cache.{method}: raised OSError: disk full for unit 'a'"):
        partitioner.execute({}, cache=Shelf(method))
    assert all(record.state.is_final for record in partitioner.last_result.report.units.values())
    assert "a" not in partitioner.get_partial_results()


@in_every_lane
def test_a_failure_is_not_kept_and_neither_is_a_fallback(lane):
    """Both are tried again next time."""
    calls, shelf = [], Shelf()

    def fails(ctx):
        calls.append(1)
        raise ValueError

    partitioner = lane.partitioner({})
    partitioner.add_unit(lane.unit(fails), name="fails", metadata={"cacheable": True})
    partitioner.add_unit(lane.unit(fails), name="stood in", metadata={"cacheable": True, "fallback_value": 1})
    for _ in range(2):
        partitioner.execute({}, cache=shelf)
    assert len(calls) == 4
    assert shelf.kept == {}


@in_every_mode
def test_what_a_given_up_unit_returns_late_is_not_kept(mode, clock):
    """It may be whatever."""
    shelf, hanging = Shelf(), Hanging(clock, 10.0)
    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hanging, name="a", timeout=5, metadata={"cacheable": True})
    partitioner.execute({}, mode, cache=shelf)
    hanging.free.set()
    assert hanging.ended.acquire(timeout=PATIENCE_S)
    for thread in threading.enumerate():
        if thread.name.startswith("qp-"):
            thread.join(PATIENCE_S)
    assert shelf.kept == {}


@in_every_mode
def test_the_context_that_is_no_mapping_counts_in_the_key(mode):
    """An equal one finds the result, another does not."""
    shelf = Shelf()
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda given: given, name="a", metadata={"cacheable": True})
    found = []
    for given in ((1, 2), (1, 2), (3,)):
        result = partitioner.execute(given, mode, cache=shelf)
        found.append((result["a"], result.report.units["a"].cached))
    assert found == [((1, 2), False), ((1, 2), True), ((3,), False)]


# ---- what a unit sees


@in_every_lane
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_a_unit_sees_the_callers_context_variables_and_changes_only_its_own(lane, limited):
    """Ten units set the same variable; each sees the caller's value first, and so does the caller afterwards."""
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("the caller's")
    seen = []

    def unit(ctx):
        seen.append(variable.get())
        variable.set("a unit's")

    partitioner = lane.partitioner({}, max_workers=2)
    for _ in range(10):
        partitioner.add_unit(lane.unit(unit), timeout=60 if limited else None)
    assert partitioner.execute({}).ok
    assert seen == ["the caller's"] * 10
    assert variable.get() == "the caller's"


@in_every_mode
def test_context_variables_of_a_coroutine_are_its_own_before_and_after_it_waits(mode):
    """Ten that wait for each other's turns; also values that compare like nothing else."""

    class Array:
        """Like an array: its comparison has no truth."""

        def __eq__(self, other):
            return self

        def __bool__(self):
            raise ValueError("ambiguous")

        __hash__ = None

    variable = contextvars.ContextVar("variable", default=None)
    given = Array()
    variable.set(given)
    wrong = []

    async def unit(ctx):
        own = Array()
        if variable.get() is not given:
            wrong.append("before")
        variable.set(own)
        await asyncio.sleep(0)
        if variable.get() is not own:
            wrong.append("after")

    partitioner = QuantumPartitioner(max_workers=3)
    for number in range(10):
        partitioner.add_unit(unit, [f"unit_{number - 3}"] if number > 2 else [])
    result = partitioner.execute({}, mode)
    assert result.ok, result.failed
    assert wrong == []


@in_every_lane
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_a_function_that_is_called_by_a_unit_finds_its_context(lane, limited):
    """Without having been given it; not outside."""

    def helper():
        return current_context()["given"], current_context().unit_id, current_context().attempt

    partitioner = lane.partitioner({})
    partitioner.add_unit(lane.unit(lambda ctx: helper()), name="a", timeout=60 if limited else None)
    assert partitioner.execute({"given": 1}) == {"a": (1, "a", 1)}
    with pytest.raises(LookupError):
        current_context()


@in_every_lane
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_what_a_unit_writes_and_measures_reaches_the_report_and_no_sibling(lane, limited):
    """Two units write the same key."""
    seen = []

    def unit(ctx):
        seen.append(ctx.get("key"))
        ctx["key"] = ctx.unit_id
        ctx.record_metric("metric", ctx.unit_id)

    partitioner = lane.partitioner({}, max_workers=1)
    for name in "ab":
        partitioner.add_unit(lane.unit(unit), name=name, timeout=60 if limited else None)
    report = partitioner.execute({}).report
    assert seen == [None, None]
    assert {name: (record.writes, dict(record.metrics)) for name, record in report.units.items()} == {
        name: (("key",), {"metric": name}) for name in "ab"
    }


@in_every_lane
def test_what_a_failed_unit_measured_is_kept(lane):
    """It may say why it failed."""

    def unit(ctx):
        ctx.record_metric("metric", 1)
        raise ValueError

    report = lane.partitioner({"a": unit}).execute({}).report
    assert dict(report.units["a"].metrics) == {"metric": 1}


# ---- times


@in_every_lane
@pytest.mark.parametrize("limited", [False, True], ids=["plain", "limited"])
def test_the_time_of_an_attempt_is_the_runs_clocks(lane, limited):
    """One unit of three seconds after one of two."""
    clock = FakeClock()
    partitioner = lane.partitioner({}, clock=clock)
    for name, takes_s, needs in (("a", 2, []), ("b", 3, ["a"])):
        partitioner.add_unit(
            lane.unit(lambda ctx, takes_s=takes_s: clock.advance(takes_s)), needs, name, timeout=60 if limited else None
        )
    report = partitioner.execute({}).report
    times = [(record.started_s, record.duration_s) for record in report.units.values()]
    assert times == [(0, 2), (2, 3)]
    assert report.wall_s == 5


@in_every_lane
def test_the_time_of_a_unit_is_that_of_its_last_attempt(lane, clock):
    """The first takes 1 s, the wait 0.2 s or less, the second 2 s."""

    def unit(ctx):
        clock.advance(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError

    partitioner = lane.partitioner({}, clock=clock)
    partitioner.add_unit(lane.unit(unit), name="a", retries=1)
    record = partitioner.execute({}).report.units["a"]
    assert record.duration_s == pytest.approx(2)
    assert 1.15 <= record.started_s <= 1.2 + 1e-9


# ---- on a loop


def test_a_task_that_a_unit_cancels_takes_no_other_unit_with_it():
    """It cancels the task that it runs in, and ends well without waiting: the next ones wait undisturbed."""

    async def cancels(ctx):
        asyncio.current_task().cancel()

    async def waits(ctx):
        await asyncio.sleep(0.001)
        return "undisturbed"

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(cancels, name="cancels")
    for number in range(3):
        partitioner.add_unit(waits, name=f"waits{number}")
    result = partitioner.execute({}, "async")
    assert set(states_of(result).values()) == {"completed"}
    assert result.report.stopped is None


def test_a_unit_that_cancels_its_own_task_fails_alone():
    """It waits, and is cancelled."""

    async def cancels(ctx):
        asyncio.current_task().cancel()
        await asyncio.sleep(PATIENCE_S)

    async def waits(ctx):
        await asyncio.sleep(0.001)

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(cancels, name="cancels")
    partitioner.add_unit(waits, name="waits")
    result = partitioner.execute({}, "async")
    assert states_of(result) == {"cancels": "failed", "waits": "completed"}


def test_timeouts_and_groups_of_asyncio_work_inside_units():
    """They cancel the task that they run in, and take it back."""

    async def times_out(ctx):
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(PATIENCE_S)
        except TimeoutError:
            return "timed out"

    async def group_fails(ctx):
        async def fails():
            raise ValueError("inside")

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await asyncio.sleep(PATIENCE_S)

    async def waits(ctx):
        await asyncio.sleep(0.002)
        return "undisturbed"

    partitioner = QuantumPartitioner(max_workers=1)
    for number in range(2):
        partitioner.add_unit(times_out, name=f"times_out{number}")
        partitioner.add_unit(group_fails, name=f"group{number}")
        partitioner.add_unit(waits, name=f"waits{number}")
    result = partitioner.execute({}, "async")
    for number in range(2):
        assert result[f"times_out{number}"] == "timed out"
        assert result[f"waits{number}"] == "undisturbed"
        assert [str(error) for error in result.failed[f"group{number}"].exceptions] == ["inside"]


def test_units_that_never_wait_leave_the_loop_to_others_in_between():
    """Something else on the loop gets its turn long before a hundred of them are done."""
    turns = []

    async def main():
        async def other():
            while True:
                turns.append(1)
                await asyncio.sleep(0)

        async def busy(ctx):
            clock.advance(0.002)

        clock = FakeClock()
        partitioner = QuantumPartitioner(max_workers=1, clock=clock)
        for _ in range(100):
            partitioner.add_unit(busy)
        beside = asyncio.create_task(other())
        result = await partitioner.execute_async({}, execution_mode="async")
        beside.cancel()
        return result

    assert asyncio.run(main()).ok
    assert len(turns) > 20


@in_parallel_modes
def test_functions_and_coroutines_that_wait_for_each_other_both_get_on(mode):
    """A function waits for a coroutine, which waits for a function: none of them holds up the loop."""
    first, second, third = threading.Event(), threading.Event(), threading.Event()

    def function(ctx):
        first.set()
        wait_for(second)
        third.set()

    async def coroutine(ctx):
        while not first.is_set():  # noqa: ASYNC110 - it is another thread's
            await asyncio.sleep(0.0005)
        second.set()
        while not third.is_set():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.0005)

    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(function)
    partitioner.add_unit(coroutine)
    assert partitioner.execute({}, mode).ok


# ---- interrupted


class Interrupts:
    """An executor that interrupts its run as Ctrl-C does, as often as said, when a unit has begun.

    Args:
        mode: What it stands for.
        begun: What it waits for.
        times: How often.

    Attributes:
        done: Set when the run has been interrupted.
    """

    def __init__(self, mode, begun, times=1):
        self._executor = EXECUTORS[mode]()
        self._begun = begun
        self._times = times
        self.done = threading.Event()
        if hasattr(self._executor, "workers"):
            self.workers = self._executor.workers

    def run(self, run):
        """Run."""

        def interrupt():
            wait_for(self._begun)
            for _ in range(self._times):
                run.post(run.stopping.interrupt)
            run.post(self.done.set)

        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        self._executor.run(run)
        thread.join(PATIENCE_S)


@in_parallel_modes
def test_units_that_run_when_a_run_is_interrupted_get_the_grace(mode):
    """The function ends within it, the next unit never begins."""
    begun = threading.Event()
    interrupts = Interrupts(mode, begun)

    def function(ctx):
        begun.set()
        wait_for(interrupts.done)
        return "whole"

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(function, name="a")
    partitioner.add_unit(len, ["a"], "b")
    result = partitioner.execute({}, custom_executor=interrupts, grace=2 * PATIENCE_S)
    assert states_of(result) == {"a": "completed", "b": "canceled"}
    assert result.report.stopped == "interrupted"


@pytest.mark.slow
@in_parallel_modes
@pytest.mark.parametrize("kind", ["function", "coroutine"])
@pytest.mark.parametrize("how", ["after_the_grace", "at_once"])
def test_units_that_outlast_the_grace_are_stopped_or_given_up(mode, kind, how, request):
    """At once where it is interrupted twice: coroutines are cancelled, functions reported as still running."""
    begun, hanging = threading.Event(), Hanging()
    if kind == "coroutine":
        request.getfixturevalue("unhurried")

    def function(ctx):
        begun.set()
        return hanging(ctx)

    async def coroutine(ctx):
        begun.set()
        await asyncio.sleep(PATIENCE_S)

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(function if kind == "function" else coroutine, name="a")
    partitioner.add_unit(len, ["a"], "b")
    times, grace = (2, PATIENCE_S) if how == "at_once" else (1, 0.01)
    try:
        result = partitioner.execute({}, custom_executor=Interrupts(mode, begun, times), grace=grace)
        assert states_of(result) == {"a": "canceled", "b": "canceled"}
        assert result.report.abandoned == (("a",) if kind == "function" else ())
    finally:
        hanging.free.set()


@pytest.fixture
def disposition():
    """Sets what becomes of Ctrl-C; what it was before is set again in the end."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


@in_every_mode
@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(signal.default_int_handler, id="raises"),
        pytest.param(signal.SIG_IGN, id="ignored"),
        pytest.param(signal.SIG_DFL, id="ends_the_process"),
    ],
)
def test_a_keyboardinterrupt_of_a_units_own_is_its_failure(mode, handler, disposition):
    """Nobody pressed Ctrl-C; also where that would be ignored, as in what a shell runs in the background."""
    disposition(handler)

    def raises(ctx):
        raise KeyboardInterrupt

    partitioner = QuantumPartitioner()
    partitioner.add_unit(raises, name="a", retries=2)
    partitioner.add_unit(lambda ctx: 1, name="b")
    result = partitioner.execute({}, mode)
    assert states_of(result) == {"a": "failed", "b": "completed"}
    assert result.report.stopped is None
