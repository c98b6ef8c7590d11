"""One execution from its first unit to its report: results, failure cones, no barriers, bounds, and runs that do not touch each other."""

import asyncio
import functools
import random
import threading
from collections import Counter
from dataclasses import dataclass

import pytest

from qp_core import QuantumPartitioner, RetryPolicy, UnitFailedError
from qp_core.clock import SystemClock
from qp_core.telemetry import RunFinished, RunStarted, UnitFinished, UnitRetrying, UnitStarted
from qp_core.testing import Recorder
from tests.core.engine import (
    PATIENCE_S,
    in_every_lane,
    in_every_mode,
    in_parallel_modes,
    said,
    states_of,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left_over")


def answer(value):
    """A unit that returns a value."""
    return lambda ctx: value


def fail(ctx):
    """A unit that fails."""
    raise ValueError("broken")


# ---- results


@in_every_lane
def test_units_see_what_they_depend_on(lane):
    """Top -> left, right -> bottom; results stand in the order of the plan."""
    needs = {"left": ["top"], "right": ["top"], "bottom": ["left", "right"]}
    functions = {
        "top": lambda ctx: ctx["start"],
        "bottom": lambda ctx: ctx["left"] + ctx["right"],
        "left": lambda ctx: ctx["top"] * 2,
        "right": lambda ctx: ctx["top"] * 3,
    }
    result = lane.partitioner(functions, needs).execute({"start": 2})
    assert list(result.items()) == [("top", 2), ("bottom", 10), ("left", 4), ("right", 6)]
    assert result.ok


@in_every_lane
@pytest.mark.parametrize("value", [None, 0, "", False, [], float("nan")], ids=repr)
def test_a_falsy_result_is_a_result_like_any_other(lane, value):
    """A -> b: b gets it, and both are completed."""
    seen = []
    functions = {"a": answer(value), "b": lambda ctx: seen.append(ctx.get_dependency_result("a"))}
    result = lane.partitioner(functions, {"b": ["a"]}).execute({})
    assert result["a"] is value
    assert seen == [value]
    assert states_of(result) == {"a": "completed", "b": "completed"}
    assert list(result) == ["a", "b"]


@in_every_lane
def test_an_exception_that_is_returned_is_a_value(lane):
    """Only what is raised is a failure."""
    error = ValueError("a value")
    result = lane.partitioner({"a": answer(error)}).execute({})
    assert result.ok
    assert result["a"] is error


@in_every_mode
def test_every_kind_of_callable_runs_in_every_mode(mode):
    """Functions, coroutine functions, functions that return awaitables, objects with an async call, partials, methods."""

    async def coroutine_function(ctx):
        await asyncio.sleep(0)
        return "coroutine function"

    @functools.wraps(coroutine_function)
    def decorated(ctx):
        return coroutine_function(ctx)

    async def two(word, ctx):
        await asyncio.sleep(0)
        return word

    class Called:
        async def __call__(self, ctx):
            await asyncio.sleep(0)
            return "object"

        async def method(self, ctx):
            await asyncio.sleep(0)
            return "method"

        @staticmethod
        async def static(ctx):
            return "static method"

    class Later:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaitable"

    units = {
        "function": answer("function"),
        "coroutine function": coroutine_function,
        "decorated": decorated,
        "lambda": lambda ctx: two("lambda", ctx),
        "partial": functools.partial(two, "partial"),
        "object": Called(),
        "method": Called().method,
        "static method": Called.static,
        "awaitable": lambda ctx: Later(),
        "builtin": len,
    }
    expected = {name: name for name in units} | {"decorated": "coroutine function", "builtin": 0}
    partitioner = QuantumPartitioner()
    for name, function in units.items():
        partitioner.add_unit(function, name=name)
    assert partitioner.execute({}, mode) == expected


@in_every_mode
def test_a_context_that_is_no_mapping_is_passed_on_as_it_is(mode):
    """To functions and coroutine functions."""
    given = object()

    async def coroutine(ctx):
        return ctx

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: ctx, name="function")
    partitioner.add_unit(coroutine, name="coroutine")
    partitioner.add_unit(lambda ctx: ctx, name="slow", timeout=PATIENCE_S)
    partitioner.add_unit(coroutine, name="slow_coroutine", timeout=PATIENCE_S)
    result = partitioner.execute(given, mode)
    assert list(result.values()) == [given] * 4


def test_sequential_units_run_in_the_calling_thread_in_order():
    """One after the other."""
    log = []
    partitioner = QuantumPartitioner()
    for name in "dacb":
        partitioner.add_unit(lambda ctx, name=name: log.append((name, threading.get_ident())), name=name)
    partitioner.execute({}, "sequential")
    assert log == [(name, threading.get_ident()) for name in "dacb"]


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_long_chain_runs_without_recursion(mode):
    """5,000 units, each needing the one before."""
    partitioner = QuantumPartitioner(max_workers=2)

    async def one_more(ctx):
        return 1 + sum(ctx.unit_results.values())

    for number in range(5_000):
        function = one_more if mode == "async" else lambda ctx: 1 + sum(ctx.unit_results.values())
        partitioner.add_unit(function, [f"u{number - 1}"] if number else [], f"u{number}")
    assert partitioner.execute({}, mode)["u4999"] == 5_000


# ---- failures


@in_every_lane
def test_a_failure_stays_in_its_cone(lane):
    """Bad -> x -> y -> z, bad and good -> both, good -> fine: the root cause is named."""
    functions = {"bad": fail} | dict.fromkeys(("good", "x", "y", "z", "both", "fine"), answer(1))
    needs = {"x": ["bad"], "y": ["x"], "z": ["y"], "both": ["bad", "good"], "fine": ["good"]}
    result = lane.partitioner(functions, needs).execute({})
    cone = {"x", "y", "z", "both"}
    assert states_of(result) == {"bad": "failed", "good": "completed", "fine": "completed"} | dict.fromkeys(
        cone, "skipped"
    )
    assert result.skipped == dict.fromkeys(("x", "y", "z", "both"), "bad")
    assert result == {"good": 1, "fine": 1}
    assert not result.ok
    assert result.report.stopped is None
    for unit_id in cone:
        with pytest.raises(UnitFailedError, match="because unit 'bad'") as raised:
            result[unit_id]
        assert raised.value.__cause__ is result.failed["bad"]


@in_every_lane
def test_a_skipped_unit_never_runs(lane):
    """Whatever else is ready."""
    log = []
    functions = {"bad": fail, "skipped": log.append, "good": answer(1)}
    lane.partitioner(functions, {"skipped": ["bad", "good"]}).execute({})
    assert log == []


@in_every_lane
def test_every_failure_is_kept_with_its_own_exception(lane):
    """Two units fail independently; one unit needs both, and names one of them."""
    errors = {"a": ValueError("a"), "b": KeyError("b")}

    def failing(name):
        def unit(ctx):
            raise errors[name]

        return unit

    result = lane.partitioner({name: failing(name) for name in errors} | {"c": len}, {"c": ["a", "b"]}).execute({})
    assert result.failed == errors
    assert all(result.failed[name] is error for name, error in errors.items())
    assert result.skipped["c"] in errors
    frames = []
    trace = errors["a"].__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "unit" in frames
    assert "raised by unit 'a'" in errors["a"].__notes__


class Odd(BaseException):
    """No Exception."""


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what matters is that nothing can be set on it
    """Takes no notes."""

    code: int


@in_every_lane
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(SystemExit(3), id="SystemExit"),
        pytest.param(asyncio.CancelledError("mine"), id="CancelledError"),
        pytest.param(Odd("odd"), id="BaseException"),
        pytest.param(Frozen(7), id="frozen"),
    ],
)
def test_whatever_a_unit_raises_is_its_own_failure(lane, error):
    """Also what would end a thread, a task, a loop or the program."""

    def leave(ctx):
        raise error

    functions = {"leaves": leave, "after": answer(1), "beside": answer(2), "last": answer(3)}
    result = lane.partitioner(functions, {"after": ["leaves"], "last": ["beside"]}).execute({})
    assert states_of(result) == {"leaves": "failed", "after": "skipped", "beside": "completed", "last": "completed"}
    assert type(result.failed["leaves"]) is type(error)


@in_every_lane
def test_what_ends_programs_is_a_failure_also_where_the_unit_has_limits(lane):
    """Units with retries and a time limit go another way than plain ones."""

    def leave(ctx):
        raise SystemExit(3)

    partitioner = lane.partitioner({"beside": answer(2)})
    partitioner.add_unit(lane.unit(leave), name="leaves", retries=2, timeout=PATIENCE_S)
    result = partitioner.execute({}, lane.mode)
    assert states_of(result) == {"beside": "completed", "leaves": "failed"}
    assert result.report.units["leaves"].attempts == 1


@in_every_mode
def test_a_unit_whose_awaitable_is_broken_fails(mode):
    """`__await__` raises, or gives no iterator."""

    class Broken:
        def __init__(self, answer):
            self.answer = answer

        def __await__(self):
            if self.answer is None:
                raise LookupError("not here")
            return self.answer

    partitioner = QuantumPartitioner(default_execution_mode=mode)
    partitioner.add_unit(lambda ctx: Broken(None), name="raises")
    partitioner.add_unit(lambda ctx: Broken(5), name="no iterator")
    partitioner.add_unit(answer(1), name="good")
    result = partitioner.execute({})
    assert {name: type(error) for name, error in result.failed.items()} == {
        "raises": LookupError,
        "no iterator": TypeError,
    }
    assert result == {"good": 1}


# ---- no barriers


@in_parallel_modes
def test_a_chain_of_functions_runs_ahead_of_a_slow_sibling(mode):
    """Slow beside fast1 -> fast2 -> fast3: slow, of the first level, ends only when fast3, of the third, is done."""
    done = threading.Event()
    functions = {
        "slow": lambda ctx: wait_for(done),
        "fast1": answer(1),
        "fast2": answer(2),
        "fast3": lambda ctx: done.set(),
    }
    partitioner = QuantumPartitioner(max_workers=2)
    for name, needs in {"slow": [], "fast1": [], "fast2": ["fast1"], "fast3": ["fast2"]}.items():
        partitioner.add_unit(functions[name], needs, name)
    result = partitioner.execute({}, mode)
    assert result.ok
    assert [result.report.units[name].dependencies for name in ("fast1", "fast2", "fast3")] == [
        (),
        ("fast1",),
        ("fast2",),
    ]


@in_every_mode
def test_a_chain_of_coroutines_runs_ahead_of_a_slow_sibling(mode):
    """The same with coroutines; in sequential mode there is no ahead, and the chain stands first."""
    done = threading.Event()

    async def slow(ctx):
        for _ in range(int(PATIENCE_S / 0.001)):
            if done.is_set():
                return
            await asyncio.sleep(0.001)
        raise TimeoutError

    async def quick(ctx):
        await asyncio.sleep(0)

    async def last(ctx):
        done.set()

    partitioner = QuantumPartitioner(max_workers=2)
    names = ["fast1", "fast2", "fast3", "slow"] if mode == "sequential" else ["slow", "fast1", "fast2", "fast3"]
    chain = {"fast1": (quick, []), "fast2": (quick, ["fast1"]), "fast3": (last, ["fast2"]), "slow": (slow, [])}
    for name in names:
        partitioner.add_unit(*chain[name], name)
    assert partitioner.execute({}, mode).ok


@in_parallel_modes
@pytest.mark.parametrize("strategy", ["fifo", "priority"])
def test_no_strategy_puts_up_a_barrier(mode, strategy):
    """a1 -> a2 and b1 -> b2: b1 ends only after a2 has run, whatever the priorities."""
    done = threading.Event()
    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(answer(1), name="a1", priority=1)
    partitioner.add_unit(lambda ctx: done.set(), ["a1"], "a2", priority=-5)
    partitioner.add_unit(lambda ctx: wait_for(done), name="b1", priority=5)
    partitioner.add_unit(answer(1), ["b1"], "b2", priority=9)
    assert partitioner.execute_with_strategy({}, strategy, mode).ok


# ---- bounds


class Meter:
    """Units that count how many of them are at work at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __enter__(self):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_):
        with self._lock:
            self._now -= 1


@in_parallel_modes
@pytest.mark.parametrize("bound", [1, 2, 5])
def test_functions_fill_the_bound_and_never_exceed_it(mode, bound):
    """As many as the bound meet at a barrier, three times over."""
    meter, together = Meter(), threading.Barrier(bound)

    def meet(ctx):
        with meter:
            together.wait(PATIENCE_S)

    partitioner = QuantumPartitioner(max_workers=bound)
    for _ in range(3 * bound):
        partitioner.add_unit(meet)
    result = partitioner.execute({}, mode)
    assert result.ok, result.failed
    assert meter.most == bound


@pytest.mark.parametrize("mode", ["thread", "async"])
@pytest.mark.parametrize("bound", [1, 2, 5])
def test_coroutines_fill_the_bound_and_never_exceed_it(mode, bound):
    """As many as the bound wait for each other, three times over."""
    meter = Meter()
    arrived, lock = [0], threading.Lock()

    async def meet(ctx):
        with meter:
            with lock:
                arrived[0] += 1
                mine = (arrived[0] - 1) // bound
            while arrived[0] < (mine + 1) * bound:  # noqa: ASYNC110 - they may be on several loops
                await asyncio.sleep(0.0005)

    partitioner = QuantumPartitioner(max_workers=bound)
    for _ in range(3 * bound):
        partitioner.add_unit(meet)
    result = partitioner.execute({}, mode)
    assert result.ok, result.failed
    assert meter.most == bound


def test_coroutines_have_no_bound_unless_one_is_given():
    """A hundred wait for each other."""
    arrived = []

    async def meet(ctx):
        arrived.append(1)
        while len(arrived) < 100:  # noqa: ASYNC110 - an Event would wait for ever where one is missing
            await asyncio.sleep(0)

    partitioner = QuantumPartitioner()
    for _ in range(100):
        partitioner.add_unit(meet)
    assert partitioner.execute({}, "async").ok


@in_every_mode
def test_functions_and_coroutines_share_one_bound(mode):
    """In one run, two at once of either kind."""
    meter = Meter()

    def function(ctx):
        with meter:
            threading.Event().wait(0.001)

    async def coroutine(ctx):
        with meter:
            await asyncio.sleep(0.001)

    partitioner = QuantumPartitioner(max_workers=2)
    for _ in range(10):
        partitioner.add_unit(function)
        partitioner.add_unit(coroutine)
    assert partitioner.execute({}, mode).ok
    assert meter.most <= (1 if mode == "sequential" else 2)


def test_a_unit_that_becomes_ready_late_finds_a_worker_that_sleeps():
    """Ten times: one unit, then two that need each other to be at work."""
    partitioner = QuantumPartitioner(max_workers=2)
    before = []
    for number in range(10):
        together = threading.Barrier(2)
        partitioner.add_unit(answer(1), before, f"one{number}")
        before = [f"left{number}", f"right{number}"]
        for name in before:
            partitioner.add_unit(lambda ctx, together=together: together.wait(PATIENCE_S) >= 0, [f"one{number}"], name)
    result = partitioner.execute({}, "thread")
    assert result.ok, result.failed


def test_without_further_threads_a_run_goes_on_with_those_it_has(monkeypatch, caplog):
    """The second thread of a run cannot be started."""
    start, started = threading.Thread.start, []

    def refuse(thread):
        if thread.name.startswith("qp-"):
            started.append(thread)
            if len(started) > 1:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    partitioner = QuantumPartitioner(max_workers=4)
    for _ in range(8):
        partitioner.add_unit(answer(1))
    assert partitioner.execute({}, "thread").ok
    assert said(caplog) == ["no further worker can be started; going on with 1"]
    assert len(started) == 2


def test_without_a_thread_for_its_loop_a_run_ends_and_leaves_no_loop_open(monkeypatch):
    """Nothing ran; everything is cancelled."""
    start, make, made = threading.Thread.start, asyncio.new_event_loop, []

    def refuse(thread):
        if thread.name.startswith("qp-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    def kept():
        made.append(make())
        return made[-1]

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(asyncio, "new_event_loop", kept)
    partitioner = QuantumPartitioner()
    partitioner.add_unit(answer(1), name="a")
    with pytest.raises(RuntimeError, match="new thread"):
        partitioner.execute({}, "async")
    assert states_of(partitioner.last_result) == {"a": "canceled"}
    assert [loop.is_closed() for loop in made] == [True]


def test_without_any_thread_a_run_ends_and_says_why(monkeypatch):
    """Nothing ran; everything is cancelled."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("qp-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    partitioner = QuantumPartitioner(max_workers=4)
    partitioner.add_unit(answer(1), name="a")
    with pytest.raises(RuntimeError, match="new thread"):
        partitioner.execute({}, "thread")
    assert states_of(partitioner.last_result) == {"a": "canceled"}


# ---- runs beside each other and after each other


@in_every_lane
def test_two_executions_at_once_do_not_mix(lane):
    """The same partitioner in two threads; each execution's units see only its own context and results."""
    both, outcomes = threading.Barrier(2), {}

    def start(ctx):
        both.wait(PATIENCE_S)
        ctx["written"] = ctx["who"]
        return ctx["who"]

    functions = {"start": start, "fails": lambda ctx: 1 / ctx["divisor"], "end": lambda ctx: (ctx["start"], ctx["who"])}
    partitioner = lane.partitioner(functions, {"fails": ["start"], "end": ["start"]}, max_workers=2)

    def execute(who, divisor):
        outcomes[who] = partitioner.execute({"who": who, "divisor": divisor})

    threads = [threading.Thread(target=execute, args=pair) for pair in (("one", 1), ("two", 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert outcomes["one"] == {"start": "one", "fails": 1.0, "end": ("one", "one")}
    assert outcomes["two"] == {"start": "two", "end": ("two", "two")}
    assert states_of(outcomes["one"])["fails"] == "completed"
    assert states_of(outcomes["two"])["fails"] == "failed"
    assert outcomes["one"].report.run_id != outcomes["two"].report.run_id


@in_every_lane
def test_executing_again_leaves_nothing_of_the_first_time(lane, clock):
    """First `a` fails at its second attempt, then all is well: no state, error, attempt, metric or write stays."""

    def unit(ctx):
        if ctx["fail"]:
            ctx.record_metric("metric", 1)
            ctx["write"] = 1
            raise ValueError("broken")
        return "fine"

    partitioner = lane.partitioner({"b": answer(2)}, {"b": ["a"]}, clock=clock)
    partitioner.add_unit(lane.unit(unit), name="a", retries=1)
    first = partitioner.execute({"fail": True})
    assert states_of(first) == {"b": "skipped", "a": "failed"}
    assert (partitioner.units["a"].attempt, partitioner.failed_units) == (2, {"a"})
    second = partitioner.execute({"fail": False})
    assert second == {"a": "fine", "b": 2}
    unit = partitioner.units["a"]
    assert (unit.attempt, unit.error, unit.result, partitioner.failed_units) == (1, None, "fine", set())
    record = second.report.units["a"]
    assert (dict(record.metrics), record.writes, record.error) == ({}, (), None)
    assert second.errors == {}
    assert states_of(first) == {"b": "skipped", "a": "failed"}


@pytest.mark.usefixtures("unhurried")
@in_every_lane
def test_no_thread_is_left_when_execute_returns(lane):
    """Not a moment later: at once, fifty times."""
    partitioner = lane.partitioner(dict.fromkeys("abc", answer(1)), {"c": ["a"]}, max_workers=2)
    others = set(threading.enumerate())  # such as one that a former test has given up, and that is about to end
    left = []
    for _ in range(50):
        partitioner.execute({})
        left += [one.name for one in threading.enumerate() if one.name.startswith("qp-") and one not in others]
    assert left == []


# ---- what observers hear


@in_every_lane
def test_observers_hear_each_end_once_and_before_any_dependent_starts(lane, clock):
    """One that completes, one that is tried twice, one that fails, one that is skipped, one by fallback."""
    tried, recorder = [], Recorder()

    def second_time(ctx):
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("first")

    partitioner = lane.partitioner(
        {"good": answer(1), "bad": fail, "skipped": answer(1), "skipped_too": answer(1), "end": answer(2)},
        {"skipped": ["bad"], "skipped_too": ["skipped", "good"], "end": ["good", "flaky", "stand_in"]},
        max_workers=2,
        clock=clock,
    )
    partitioner.add_unit(lane.unit(second_time), name="flaky", retries=1)
    partitioner.add_unit(lane.unit(fail), ["good"], "stand_in", metadata={"fallback_value": 5})
    partitioner.execute({}, telemetry=[recorder])
    kinds = [type(event) for event in recorder.events]
    assert (kinds[0], kinds[-1]) == (RunStarted, RunFinished)
    assert (kinds.count(RunStarted), kinds.count(RunFinished)) == (1, 1)
    assert Counter(recorder.finished()) == Counter(list(partitioner.units))
    starts = [(event.unit_id, event.attempt) for event in recorder.events if isinstance(event, UnitStarted)]
    assert sorted(starts) == [("bad", 1), ("end", 1), ("flaky", 1), ("flaky", 2), ("good", 1), ("stand_in", 1)]
    place = {}
    for number, event in enumerate(recorder.events):
        if isinstance(event, UnitFinished):
            place["end", event.unit_id] = number
        elif isinstance(event, UnitStarted):
            place.setdefault(("start", event.unit_id), number)
    for unit_id, unit in partitioner.units.items():
        for need in unit.dependencies:
            if ("start", unit_id) in place:
                assert place["end", need] < place["start", unit_id]
    assert place["end", "bad"] < place["end", "skipped"] < place["end", "skipped_too"]
    ends = {event.unit_id: event for event in recorder.events if isinstance(event, UnitFinished)}
    assert (ends["skipped_too"].cause, ends["skipped_too"].attempts, ends["skipped_too"].started) == ("bad", 0, None)
    assert (ends["stand_in"].value, ends["stand_in"].used_fallback, type(ends["stand_in"].error)) == (
        5,
        True,
        ValueError,
    )
    retry = [event for event in recorder.events if isinstance(event, UnitRetrying)]
    assert [(event.unit_id, event.attempt, str(event.error)) for event in retry] == [("flaky", 1, "first")]


@in_parallel_modes
def test_events_from_many_threads_come_one_at_a_time_and_none_is_lost(mode):
    """Random graphs, four workers: what an observer does between two switches of threads is not disturbed."""

    class Careless:
        """Would lose events if two came at once."""

        def __init__(self):
            self.inside = 0
            self.worst = 0
            self.ended = []
            self.open = {}

        def qp_unit_started(self, event):
            """Note which dependencies have not ended."""
            self.inside += 1
            self.worst = max(self.worst, self.inside)
            threading.Event().wait(0.00001)
            self.open[event.unit_id] = [need for need in self.needs[event.unit_id] if need not in self.ended]
            self.inside -= 1

        def qp_unit_finished(self, event):
            """Note the end."""
            self.inside += 1
            self.worst = max(self.worst, self.inside)
            threading.Event().wait(0.00001)
            self.ended.append(event.unit_id)
            self.inside -= 1

    for seed in range(3):
        rng = random.Random(seed)  # noqa: S311 - a graph, not a secret
        observer = Careless()
        observer.needs = {
            f"u{number}": [f"u{need}" for need in rng.sample(range(number), min(number, rng.randint(0, 3)))]
            for number in range(40)
        }
        partitioner = QuantumPartitioner(max_workers=4)
        for name, needs in observer.needs.items():
            partitioner.add_unit(answer(name) if rng.random() < 0.9 else fail, needs, name)
        partitioner.execute({}, mode, telemetry=[observer])
        assert observer.worst == 1
        assert Counter(observer.ended) == Counter(list(observer.needs))
        assert not any(observer.open.values())


@in_every_lane
@pytest.mark.parametrize("event", ["qp_run_started", "qp_unit_started", "qp_unit_retrying", "qp_unit_finished"])
def test_an_observer_that_leaves_ends_the_run_and_hangs_nothing(lane, event, clock):
    """SystemExit out of an observer is no failure of a unit: it comes out of `execute`, and every unit has ended."""
    tried = []

    def flaky(ctx):
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("first")

    class Leaves:
        """Says goodbye at one kind of event."""

    def leave(self, _):
        raise SystemExit(4)

    setattr(Leaves, event, leave)
    partitioner = lane.partitioner({"b": answer(1), "c": answer(2)}, {"b": ["a"]}, clock=clock)
    partitioner.add_unit(lane.unit(flaky), name="a", retries=1)
    with pytest.raises(SystemExit) as raised:
        partitioner.execute({}, telemetry=[Leaves()])
    assert raised.value.code == 4
    assert all(record.state.is_final for record in partitioner.last_result.report.units.values())


@in_every_lane
def test_an_observer_that_raises_hurts_nothing_but_itself(lane, caplog):
    """It is told nothing more and named once; the other one hears everything."""

    class Broken:
        """Raises at the first end."""

        heard = 0

        def qp_unit_finished(self, event):
            """Raise."""
            self.heard += 1
            raise ValueError("observer")

    broken, recorder = Broken(), Recorder()
    result = lane.partitioner(dict.fromkeys("abc", answer(1))).execute({}, telemetry=[broken, recorder])
    assert result.ok
    assert broken.heard == 1
    assert sorted(recorder.finished()) == ["a", "b", "c"]
    assert sum("'Broken' raised in qp_unit_finished" in message for message in caplog.messages) == 1


# ---- broken from outside


NOT_SOON = RetryPolicy(base_s=3_600, cap_s=3_600)
"""However late the thread that waits comes to it, there is something to wait for."""


class Breaks(SystemClock):
    """A clock that raises when the run waits for the time of an attempt.

    Args:
        error: What it raises.
        times: How often.
    """

    def __init__(self, error, times=1):
        self._error = error
        self._left = times

    def wait(self, inbox, timeout_s, idle):
        """Raise, or wait."""
        if timeout_s is not None and self._left:
            self._left -= 1
            raise self._error
        return super().wait(inbox, timeout_s, idle)


@in_every_mode
@pytest.mark.parametrize("times", [1, 99], ids=["once", "always"])
def test_what_goes_wrong_in_the_thread_that_waits_ends_the_run(mode, times):
    """A clock that breaks: its error comes out of `execute`, every unit is in a final state, no thread is left."""
    partitioner = QuantumPartitioner(clock=Breaks(OSError("no time"), times))
    partitioner.add_unit(fail, name="a", retries=1, retry=NOT_SOON)
    partitioner.add_unit(answer(1), ["a"], "b")
    with pytest.raises(OSError, match="no time"):
        partitioner.execute({}, mode)
    assert states_of(partitioner.last_result) == {"a": "canceled", "b": "canceled"}


@in_every_mode
def test_a_keyboardinterrupt_in_the_thread_that_waits_is_the_users(mode):
    """From a handler that is not ours: the run is wound up, and KeyboardInterrupt raised in the end."""
    partitioner = QuantumPartitioner(clock=Breaks(KeyboardInterrupt()))
    partitioner.add_unit(answer("done"), name="done")
    partitioner.add_unit(fail, ["done"], "a", retries=1, retry=NOT_SOON)
    with pytest.raises(KeyboardInterrupt):
        partitioner.execute({}, mode)
    assert states_of(partitioner.last_result) == {"done": "completed", "a": "canceled"}
    assert partitioner.last_result.report.stopped == "interrupted"
    assert partitioner.get_partial_results() == {"done": "done"}


# ---- what the log says


def test_the_log_names_failed_units_once(caplog):
    """One warning a run."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(fail, name="bad")
    partitioner.add_unit(fail, name="worse")
    partitioner.add_unit(answer(1), ["bad"], "skipped")
    partitioner.execute({}, "thread")
    assert said(caplog) == ["2 of 3 units failed: 'bad', 'worse'; 1 skipped because of them"]


def test_a_run_in_which_all_is_well_says_nothing(caplog):
    """No news."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(answer(1))
    partitioner.execute({}, "thread")
    assert said(caplog) == []


@in_every_mode
def test_the_report_adds_up(mode):
    """Every unit in one final state; its worker, times and attempts fit the run."""
    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(answer(1), name="a")
    partitioner.add_unit(answer(1), ["a"], "b")
    partitioner.add_unit(fail, name="c")
    partitioner.add_unit(answer(1), ["c"], "d")
    report = partitioner.execute({}, mode).report
    assert (report.mode, report.strategy, report.max_workers) == (mode, "fifo", 1 if mode == "sequential" else 2)
    assert sum(report.counts.values()) == len(report.units) == 4
    for name in "abc":
        record = report.units[name]
        assert record.attempts == 1
        assert 0 <= record.started_s <= record.started_s + record.duration_s <= report.wall_s
        assert record.worker is not None
    skipped = report.units["d"]
    assert (skipped.attempts, skipped.started_s, skipped.duration_s, skipped.worker) == (0, None, None, None)
    assert report.units["a"].started_s + report.units["a"].duration_s <= report.units["b"].started_s
