"""R9: `stream` and `astream` yield each unit when it has ended, and whoever leaves early takes the rest of the run along."""

import asyncio
import contextlib
import threading
import time

import pytest

from qp_core import MissingDependencyError, PluginError, QuantumPartitioner, UnitFinished, UnitState, UnknownNameError
from qp_core.testing import Recorder

pytestmark = pytest.mark.usefixtures("nothing_left_over")

PATIENCE_S = 20
"""How long threads wait for each other; only ever spent by a test that fails."""

every_mode = pytest.mark.parametrize(
    "mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)


def streamed(partitioner, context=None, **options):
    """Everything that a stream yields."""
    return list(partitioner.stream({} if context is None else context, **options))


def astreamed(partitioner, context=None, **options):
    """Everything that an asynchronous stream yields, on a loop of its own."""

    async def collect():
        return [item async for item in partitioner.astream({} if context is None else context, **options)]

    return asyncio.run(collect())


both_ways = pytest.mark.parametrize(
    "collect", [pytest.param(streamed, id="stream"), pytest.param(astreamed, id="astream")]
)


def fails(ctx):
    """A unit that raises."""
    raise ValueError(ctx.unit_id)


def plus_one(ctx):
    """One more than the sum of what the unit needs."""
    return 1 + sum(ctx.unit_results.values())


def story(mode="thread", **options):
    """A -> b -> c beside bad -> lost, and mended by its fallback."""
    partitioner = QuantumPartitioner(2, mode, **options)
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(plus_one, ["a"], "b")
    partitioner.add_unit(plus_one, ["b"], "c")
    partitioner.add_unit(fails, name="bad")
    partitioner.add_unit(plus_one, ["bad"], "lost")
    partitioner.add_unit(fails, name="mended", metadata={"fallback_value": 9})
    return partitioner


def wait_for_result(partitioner):
    """Wait until a run that nobody waits for any more is over."""
    ends = time.monotonic() + PATIENCE_S
    while partitioner.last_result is None and time.monotonic() < ends:
        time.sleep(0.005)


# ---- what is yielded


@every_mode
@both_ways
def test_each_unit_is_yielded_once_with_how_it_ended(collect, mode):
    """Completed, failed, skipped, and by fallback; a dependency always before its dependents."""
    partitioner = story(mode)
    items = collect(partitioner)
    ends = dict(items)
    assert len(items) == len(ends) == 6
    assert all(isinstance(end, UnitFinished) and end.unit_id == unit_id for unit_id, end in items)
    assert {unit_id: end.value for unit_id, end in ends.items() if end.state is UnitState.COMPLETED} == {
        "a": 1,
        "b": 2,
        "c": 3,
        "mended": 9,
    }
    assert (ends["bad"].state, str(ends["bad"].error)) == (UnitState.FAILED, "bad")
    assert (ends["lost"].state, ends["lost"].cause) == (UnitState.SKIPPED, "bad")
    assert ends["mended"].used_fallback
    order = [unit_id for unit_id, _ in items]
    for unit in partitioner.units.values():
        assert all(order.index(need) < order.index(unit.id) for need in unit.dependencies)
    assert partitioner.get_partial_results() == {"a": 1, "b": 2, "c": 3, "mended": 9}


@both_ways
def test_the_stream_of_the_empty_graph_is_empty(collect):
    """And there was a run."""
    partitioner = QuantumPartitioner()
    assert collect(partitioner) == []
    assert partitioner.last_result.ok


@both_ways
def test_options_and_context_reach_the_run(collect):
    """Only what the outputs need, with a known result, under the observers that were asked for."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda ctx: ctx["n"], name="a")
    partitioner.add_unit(lambda ctx: ctx["a"] + ctx["k"], ["a", "k"], "b")
    partitioner.add_unit(fails, name="k")
    partitioner.add_unit(fails, name="other")
    recorder = Recorder()
    items = collect(partitioner, {"n": 2}, outputs=["b"], known={"k": 5}, telemetry=[recorder])
    assert sorted((unit_id, end.value) for unit_id, end in items) == [("a", 2), ("b", 7), ("k", 5)]
    assert recorder.finished() == [unit_id for unit_id, _ in items]


def test_a_unit_is_yielded_while_others_still_run():
    """The second ends only after the first was yielded."""
    go = threading.Event()
    partitioner = QuantumPartitioner(2)
    partitioner.add_unit(lambda _: 1, name="first")
    partitioner.add_unit(lambda _: go.wait(PATIENCE_S), name="second")
    seen = []
    for unit_id, end in partitioner.stream({}):
        seen.append((unit_id, end.value))
        go.set()
    assert seen == [("first", 1), ("second", True)]


def test_an_asynchronous_stream_leaves_its_loop_to_others_meanwhile():
    """A task of the same loop lets the second unit end."""
    go = threading.Event()
    partitioner = QuantumPartitioner(2)
    partitioner.add_unit(lambda _: 1, name="first")
    partitioner.add_unit(lambda _: go.wait(PATIENCE_S), name="second")

    async def main():
        async def later():
            await first_is_read.wait()
            await asyncio.sleep(0.01)  # for the reader to wait for the second one
            go.set()

        first_is_read, seen = asyncio.Event(), []
        other = asyncio.create_task(later())
        async for unit_id, _ in partitioner.astream({}):
            seen.append(unit_id)
            first_is_read.set()
        await other
        return seen

    assert asyncio.run(main()) == ["first", "second"]


def test_a_slow_reader_does_not_slow_the_run():
    """What is not read yet waits; the run is over long before the second item is taken."""
    partitioner = QuantumPartitioner(2)
    over = threading.Event()

    class Over:
        def qp_run_finished(self, event):
            over.set()

    for _ in range(50):
        partitioner.add_unit(plus_one)
    stream = partitioner.stream({}, telemetry=[Over()])
    next(stream)
    assert over.wait(PATIENCE_S)
    assert len(list(stream)) == 49


def test_two_streams_of_one_partitioner_do_not_mix():
    """Read in turns; each has its own context."""
    partitioner = QuantumPartitioner(2)
    partitioner.add_unit(lambda ctx: ctx["n"], name="a")
    partitioner.add_unit(lambda ctx: ctx["a"] * 10, ["a"], "b")
    pairs = zip(partitioner.stream({"n": 1}), partitioner.stream({"n": 2}), strict=True)
    assert [(one[1].value, two[1].value) for one, two in pairs] == [(1, 2), (10, 20)]


def test_many_asynchronous_streams_share_a_loop():
    """Coroutines of all of them run on it."""
    partitioner = QuantumPartitioner(default_execution_mode="async")
    loops = set()

    async def value(ctx):
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return ctx["n"]

    partitioner.add_unit(value, name="a")
    partitioner.add_unit(value, ["a"], "b")

    async def read(n):
        return [(unit_id, end.value) async for unit_id, end in partitioner.astream({"n": n})]

    async def main():
        loops.add(asyncio.get_running_loop())
        return await asyncio.gather(*map(read, range(20)))

    assert asyncio.run(main()) == [[("a", n), ("b", n)] for n in range(20)]
    assert len(loops) == 1


def test_a_stream_may_be_read_inside_a_running_loop():
    """It blocks the loop, as `execute` does, but it works: coroutine units run elsewhere."""
    partitioner = QuantumPartitioner(default_execution_mode="async")

    async def one(_):
        await asyncio.sleep(0)
        return 1

    partitioner.add_unit(one, name="a")

    async def main():
        return [(unit_id, end.value) for unit_id, end in partitioner.stream({})]

    assert asyncio.run(main()) == [("a", 1)]


# ---- what is raised


@both_ways
@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"execution_mode": "warp"}, UnknownNameError, id="mode"),
        pytest.param({"outputs": ["nobody"]}, MissingDependencyError, id="outputs"),
        pytest.param({"max_workers": 0}, ValueError, id="workers"),
        pytest.param({"speed": 11}, UnknownNameError, id="option"),
    ],
)
def test_wrong_arguments_are_raised_before_anything_runs(collect, options, error):
    """When the first item is asked for."""
    ran = []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(ran.append)
    with pytest.raises(error):
        collect(partitioner, **options)
    assert ran == []


@both_ways
def test_failures_are_raised_after_the_last_unit_where_that_is_wanted(collect):
    """Everything is yielded first; without the wish, nothing is raised."""
    partitioner = story("sequential")
    seen = Recorder()
    with pytest.raises(ExceptionGroup, match="1 of 6 units failed"):
        collect(partitioner, on_failure="raise", telemetry=[seen])
    assert len(seen.finished()) == 6
    assert len(collect(partitioner)) == 6


@every_mode
@both_ways
def test_what_breaks_a_run_is_raised_after_what_had_ended(collect, mode):
    """A policy that raises: its error comes at the end, and what had completed was yielded."""
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(plus_one, name="a")
    partitioner.add_unit(plus_one, ["a"], "b", metadata={"cacheable": True})
    seen = Recorder()

    class Broken:
        def get(self, key):
            raise OSError(key)

        def put(self, key, value):
            raise OSError(key)

    with pytest.raises(PluginError, match="'Broken'"):
        collect(partitioner, cache=Broken(), telemetry=[seen])
    assert seen.finished() == ["a", "b"]
    assert partitioner.get_partial_results() == {"a": 1}


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_unit_that_raises_keyboardinterrupt_itself_fails_alone_here_too(mode):
    """The units of a stream run in other threads than the main one, so it was no signal."""

    def interrupts(_):
        raise KeyboardInterrupt

    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(interrupts, name="a")
    partitioner.add_unit(lambda _: 1, name="b")
    try:
        ends = dict(partitioner.stream({}))
    except KeyboardInterrupt:
        pytest.fail("it stopped the whole run")
    assert {unit_id: end.state.value for unit_id, end in ends.items()} == {"a": "failed", "b": "completed"}


@both_ways
def test_a_stream_for_which_no_thread_can_be_started_says_so_and_hangs_nobody(monkeypatch, collect):
    """The machine has no more threads to give."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(plus_one)

    def refuse(thread):
        if thread.name.startswith("qp-"):
            msg = "can't start new thread"
            raise RuntimeError(msg)
        return start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        collect(partitioner)


# ---- leaving early


def test_a_stream_that_was_never_read_runs_nothing():
    """Making it is free of consequences, and so is closing it."""
    ran = []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(ran.append)
    stream = partitioner.stream({})
    stream.close()
    asyncio.run(partitioner.astream({}).aclose())
    assert ran == []
    assert partitioner.last_result is None


class Chain:
    """Units one -> two -> three ... of which the second waits until it is let go.

    Args:
        mode: Where they run.
    """

    def __init__(self, mode):
        self.begun, self.free = threading.Event(), threading.Event()
        self.ran = []
        self.partitioner = QuantumPartitioner(2, mode)
        second = self._second if mode != "async" else self._second_coroutine
        self.partitioner.add_unit(self._note, name="one")
        self.partitioner.add_unit(second, ["one"], "two")
        self.partitioner.add_unit(self._note, ["two"], "three")
        self.partitioner.add_unit(self._note, ["three"], "four")

    def _note(self, ctx):
        self.ran.append(ctx.unit_id)

    def _second(self, ctx):
        self.begun.set()
        self.free.wait(PATIENCE_S)

    async def _second_coroutine(self, ctx):
        self.begun.set()
        await asyncio.sleep(PATIENCE_S)

    async def second_begins(self):
        """Wait until the second unit runs, without blocking the loop."""
        assert await asyncio.to_thread(self.begun.wait, PATIENCE_S)

    def check_stopped(self):
        """One ran, two was given up, and nothing followed."""
        states = {name: record.state.value for name, record in self.partitioner.last_result.report.units.items()}
        assert states["one"] == "completed"
        assert states["two"] == "canceled"
        assert {states["three"], states["four"]} <= {"canceled", "skipped"}
        assert self.ran == ["one"]
        assert self.partitioner.get_partial_results() == {"one": None}
        assert self.partitioner.last_result.report.stopped == "canceled"


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_leaving_a_stream_early_cancels_the_rest(mode):
    """What runs may go on for the grace, and is given up then; nothing else begins. The partial results are kept.

    one -> two (waits) -> three -> four
    """
    chain = Chain(mode)
    for unit_id, _ in chain.partitioner.stream({}, grace=0.05):
        assert unit_id == "one"
        assert chain.begun.wait(PATIENCE_S)
        break
    chain.free.set()
    chain.check_stopped()


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("mode", ["thread", "async"])
def test_leaving_an_asynchronous_stream_early_cancels_the_rest(mode):
    """The same, awaited: after `aclose` all is over."""
    chain = Chain(mode)

    async def main():
        async with contextlib.aclosing(chain.partitioner.astream({}, grace=0.05)) as stream:
            async for unit_id, _ in stream:
                assert unit_id == "one"
                await chain.second_begins()
                break
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    chain.free.set()
    chain.check_stopped()


def test_an_asynchronous_stream_that_is_forgotten_ends_with_its_loop():
    """`break` without closing: the loop cancels all that is left before it ends itself."""
    chain = Chain("async")

    async def main():
        async for _ in chain.partitioner.astream({}, grace=0.05):
            await chain.second_begins()
            break

    asyncio.run(main())
    wait_for_result(chain.partitioner)
    chain.check_stopped()


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
@both_ways
def test_who_leaves_a_stream_stops_its_run_in_another_thread(collect, mode):
    """For a further Ctrl-C may come at any line of the main thread: if that were the engine's, its locks would stay taken."""
    chain, told = Chain(mode), {}

    class Told:
        def qp_unit_finished(self, event):
            told[event.unit_id] = threading.current_thread()

    def leave():
        with contextlib.closing(chain.partitioner.stream({}, grace=0.05, telemetry=[Told()])) as stream:
            next(stream)
            assert chain.begun.wait(PATIENCE_S)

    async def leave_loop():
        async with contextlib.aclosing(chain.partitioner.astream({}, grace=0.05, telemetry=[Told()])) as stream:
            await anext(stream)
            await chain.second_begins()

    if collect is streamed:
        leave()
    else:
        asyncio.run(leave_loop())
    chain.free.set()
    chain.check_stopped()
    assert threading.main_thread() not in {told["three"], told["four"]}, "they had not begun"


@both_ways
def test_leaving_at_the_last_unit_is_no_interruption(collect):
    """Everything has ended already, and the result says so."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(plus_one, name="a")

    async def take_one():
        async with contextlib.aclosing(partitioner.astream({})) as stream:
            return await anext(stream)

    if collect is streamed:
        stream = partitioner.stream({})
        next(stream)
        stream.close()
    else:
        asyncio.run(take_one())
    assert partitioner.last_result == {"a": 1}
    assert partitioner.last_result.ok


def test_an_error_in_the_readers_loop_stops_the_run_and_comes_out():
    """The reader's own error, not one of ours."""
    chain = Chain("thread")

    def read():
        for _ in chain.partitioner.stream({}, grace=0.05):
            assert chain.begun.wait(PATIENCE_S)
            msg = "the reader's own"
            raise LookupError(msg)

    with pytest.raises(LookupError, match="the reader's own"):
        read()
    chain.free.set()
    chain.check_stopped()


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("mode", ["thread", "async"])
def test_cancelling_the_task_that_reads_stops_the_run(mode):
    """CancelledError comes out when all is over; a second time ends it at once, though the grace is an hour."""
    chain = Chain(mode)

    async def main():
        async def read():
            async for _ in chain.partitioner.astream({}, grace=3600):
                pass

        task = asyncio.create_task(read())
        await chain.second_begins()
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    chain.free.set()
    chain.check_stopped()


def test_a_loop_that_is_closed_meanwhile_does_not_hold_the_run():
    """Nobody reads any more; the run of threads goes to its end by itself, and says nothing about a closed loop."""
    go, begun, over = threading.Event(), threading.Event(), threading.Event()
    partitioner = QuantumPartitioner(2)
    partitioner.add_unit(lambda _: begun.set(), name="a")
    partitioner.add_unit(lambda _: go.wait(PATIENCE_S), ["a"], "b")

    class Over:
        def qp_run_finished(self, event):
            over.set()

    loop = asyncio.new_event_loop()
    stream = partitioner.astream({}, telemetry=[Over()])
    assert loop.run_until_complete(anext(stream))[0] == "a"
    loop.close()
    go.set()
    assert over.wait(PATIENCE_S)
    wait_for_result(partitioner)
    assert partitioner.last_result == {"a": None, "b": True}
    with contextlib.suppress(RuntimeError, StopIteration):
        stream.aclose().send(None)


@pytest.mark.slow
def test_a_thousand_streams_left_early_leave_nothing():
    """At every place of a chain of ten units."""
    partitioner = QuantumPartitioner(2)
    for number in range(10):
        partitioner.add_unit(plus_one, [f"u{number - 1}"] if number else [], f"u{number}")
    for number in range(1000):
        stream = partitioner.stream({})
        for _ in range(number % 11):
            next(stream)
        stream.close()
    # `nothing_left_over` looks: where a unit took longer than the grace, on a machine so busy, its thread ends a little later.
