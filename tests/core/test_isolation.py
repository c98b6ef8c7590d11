"""What one unit, observer or run does is no affair of the others."""

import asyncio
import contextvars
import gc
import threading

import pytest

from qp_core import QuantumPartitioner, RunOptions, UnitState, available_cores, errors
from qp_core.crew import Crew
from qp_plugins.executors.aio import AsyncExecutor

PATIENCE_S = 60


def test_a_loop_with_eager_tasks_is_not_blocked():
    """Workers that are called for help would begin under the frontier's lock. a, b, c, d."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")

    async def unit(ctx):
        await asyncio.sleep(0)
        return ctx["n"]

    partitioner = QuantumPartitioner(default_execution_mode="async")
    for name in "abcd":
        partitioner.add_unit(unit, name=name)

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        return await asyncio.wait_for(partitioner.execute_async({"n": 1}), PATIENCE_S)

    assert asyncio.run(main()) == dict.fromkeys("abcd", 1)


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_what_is_awaited_after_the_run_was_stopped_is_cancelled(mode):
    """A function returns its coroutine only when the failure beside it has stopped everything. slow, fails."""
    stopped, begun = threading.Event(), threading.Event()

    class Sees:
        def qp_unit_finished(self, event):
            if event.unit_id == "waits":
                stopped.set()

    async def for_ever():
        await asyncio.sleep(PATIENCE_S)
        return "not cancelled"

    def slow(ctx):
        begun.set()
        assert stopped.wait(PATIENCE_S)
        return for_ever()

    def fails(ctx):
        assert begun.wait(PATIENCE_S)
        raise ValueError

    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(slow, name="slow")
    partitioner.add_unit(fails, name="fails")
    partitioner.add_unit(lambda ctx: None, ["slow"], "waits")
    result = partitioner.execute({}, fail_fast=True, telemetry=[Sees()])
    assert result.report.units["slow"].state is UnitState.CANCELED


def test_what_is_awaited_while_the_run_is_being_stopped_is_cancelled(monkeypatch):
    """Who cancels is held up when it has cancelled what there was; meanwhile a function returns its coroutine. slow."""
    begun, held_up, on_its_way = threading.Event(), threading.Event(), threading.Event()
    cancel_awaiting = Crew.cancel_awaiting

    def late(crew):
        held_up.set()
        assert on_its_way.wait(PATIENCE_S)
        cancel_awaiting(crew)

    class Later:
        """Told of when it is awaited, also where that is cancelled before it begins."""

        def __await__(self):
            on_its_way.set()
            yield from asyncio.sleep(PATIENCE_S).__await__()

    def slow(ctx):
        begun.set()
        assert held_up.wait(PATIENCE_S)
        return Later()

    class Cancels(AsyncExecutor):
        """Has another thread cancel the run when its unit has begun."""

        def run(self, run):
            def cancel():
                assert begun.wait(PATIENCE_S)
                run.cancel("enough")

            canceler = threading.Thread(target=cancel)
            canceler.start()
            super().run(run)
            canceler.join(PATIENCE_S)

    class Sees:
        """The unit may end without having been awaited."""

        def qp_unit_finished(self, event):
            on_its_way.set()

    monkeypatch.setattr(Crew, "cancel_awaiting", late)
    partitioner = QuantumPartitioner(2)
    partitioner.add_unit(slow, name="slow")
    result = partitioner.execute({}, custom_executor=Cancels(), telemetry=[Sees()])
    assert result.report.units["slow"].state is UnitState.CANCELED


@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_a_coroutine_for_which_no_loop_can_be_started_fails_alone(mode, monkeypatch):
    """It is closed, so nobody complains that it was never awaited. a, b."""
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.endswith("-loop"):
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(thread)

    async def unit(ctx):
        return 1

    monkeypatch.setattr(threading.Thread, "start", refuse)
    partitioner = QuantumPartitioner(2, mode)
    partitioner.add_unit(unit, name="a")
    partitioner.add_unit(lambda ctx: 2, name="b")
    result = partitioner.execute({})
    gc.collect()
    assert result == {"b": 2}
    assert str(result.errors["a"]) == "can't start new thread"


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_what_a_fallback_returns_after_the_run_was_stopped_is_cancelled(mode):
    """A function stands in for `slow`; the coroutine that it returns would go on for long. slow, fails."""
    begun, stopped = threading.Event(), threading.Event()

    def instead(ctx, error):
        begun.set()
        assert stopped.wait(PATIENCE_S)
        return asyncio.sleep(PATIENCE_S)

    def fails(ctx):
        assert begun.wait(PATIENCE_S)
        raise ValueError

    class Sees:
        """The run is stopped as soon as this one has failed; nothing more is handed out then."""

        def qp_unit_finished(self, event):
            if event.unit_id == "last":
                stopped.set()

    partitioner = QuantumPartitioner(2)
    partitioner.add_unit(lambda ctx: 1 / 0, name="slow", fallback=instead)
    partitioner.add_unit(fails, name="fails")
    partitioner.add_unit(lambda ctx: None, ["slow"], "last")
    result = partitioner.execute({}, mode, fail_fast=True, telemetry=[Sees()])
    assert result.report.units["slow"].state is UnitState.CANCELED


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_a_unit_that_cancels_its_own_task_fails_alone(mode):
    """Code with a time limit of its own may do that. cancels; a -> b beside."""

    async def cancels(ctx):
        asyncio.current_task().cancel()
        await asyncio.sleep(PATIENCE_S)

    async def quick(ctx):
        await asyncio.sleep(0)
        return 1

    partitioner = QuantumPartitioner(1, mode)
    partitioner.add_unit(cancels, name="cancels")
    partitioner.add_unit(quick, name="a")
    partitioner.add_unit(quick, ["a"], "b")
    result = partitioner.execute({})
    assert result == {"a": 1, "b": 1}
    assert list(result.failed) == ["cancels"]
    assert result.report.stopped is None


def test_a_unit_that_leaves_a_cancellation_behind_hurts_no_other():
    """It cancels its task and ends before it notices: the next unit must not. leaves -> next."""

    async def leaves(ctx):
        asyncio.current_task().cancel()

    async def waits(ctx):
        await asyncio.sleep(0)
        return 1

    partitioner = QuantumPartitioner(1, "async")
    partitioner.add_unit(leaves, name="leaves")
    partitioner.add_unit(waits, ["leaves"], "next")
    assert partitioner.execute({}) == {"leaves": None, "next": 1}


class Incomparable:
    """As an array is: whether two are equal has no answer."""

    __hash__ = None

    def __eq__(self, other):
        raise ValueError


@pytest.mark.parametrize("value", [Incomparable(), "set"], ids=["incomparable", "plain"])
def test_context_variables_that_a_coroutine_sets_are_seen_by_no_other(value):
    """Units share the task of a worker, and not its variables. sets -> sees."""
    variable = contextvars.ContextVar("variable")
    variable.set(Incomparable())
    before = variable.get()

    async def sets(ctx):
        variable.set(value)

    async def sees(ctx):
        return variable.get() is before

    partitioner = QuantumPartitioner(1, "async")
    partitioner.add_unit(sets, name="sets")
    partitioner.add_unit(sees, ["sets"], "sees")
    partitioner.add_unit(sees, name="beside")
    assert partitioner.execute({}) == {"sets": None, "sees": True, "beside": True}


def test_a_run_begun_by_what_a_unit_left_behind_is_no_part_of_the_ended_run():
    """A thread that outlives its unit runs something of its own, long after the first run was stopped. leaves, fails."""
    go, done = threading.Event(), []

    def later():
        assert go.wait(PATIENCE_S)
        inner = QuantumPartitioner(1)
        inner.add_unit(lambda ctx: "ran", name="inner")
        done.append(inner.execute({}, "sequential"))

    threads = []

    def leaves(ctx):
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(later,)))
        threads[0].start()

    def fails(ctx):
        raise ValueError

    outer = QuantumPartitioner(1, "sequential")
    outer.add_unit(leaves, name="leaves")
    outer.add_unit(fails, ["leaves"], "fails")
    outer.add_unit(fails, name="never")
    assert outer.execute({}, fail_fast=True).report.stopped == "fail_fast"
    go.set()
    threads[0].join(PATIENCE_S)
    assert done == [{"inner": "ran"}]
    assert done[0].report.stopped is None


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_fallback_that_leaves_the_program_leaves_its_unit_failed(mode):
    """SystemExit from a fallback is no more than that from a unit. fails; a beside."""

    def exits(ctx, error):
        raise SystemExit(3)

    partitioner = QuantumPartitioner(1, mode)
    partitioner.add_unit(lambda ctx: 1 / 0, name="fails", fallback=exits)
    partitioner.add_unit(lambda ctx: 1, name="a")
    result = partitioner.execute({})
    assert result == {"a": 1}
    assert isinstance(result.failed["fails"], ZeroDivisionError)


class SpeechlessError(Exception):
    """Cannot be put into words."""

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_an_exception_without_words_is_one_like_any_other(mode):
    """Neither the run nor who reads its result stumbles over its text. fails."""

    async def falls(ctx, error):
        raise SpeechlessError

    def fails(ctx):
        raise SpeechlessError

    partitioner = QuantumPartitioner(1, mode)
    partitioner.add_unit(fails, name="fails", fallback=falls)
    result = partitioner.execute({})
    with pytest.raises(KeyError, match=r"'fails' has no result: it failed .SpeechlessError"):
        result["fails"]
    assert errors.told(SpeechlessError()) == "SpeechlessError (its __str__ raised RuntimeError)"


def test_threads_of_runs_inside_unbounded_coroutines_are_bounded():
    """Twenty coroutines, each with a run of ten threads inside: two for each core, and one for each that waits."""
    at_once, most, lock = 0, 0, threading.Lock()

    def counted(ctx):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.002)
        with lock:
            at_once -= 1

    def nested():
        inner = QuantumPartitioner(10)
        for _ in range(10):
            inner.add_unit(counted)
        return inner

    async def unit(ctx):
        await nested().execute_async({}, execution_mode="thread", max_workers=10)

    outer = QuantumPartitioner(default_execution_mode="async")
    for _ in range(20):
        outer.add_unit(unit)
    assert outer.execute({}).ok
    assert most <= 20 + 2 * available_cores()


def test_options_of_a_run_are_a_record():
    """They are compared and printed; nobody changes them while a run goes on."""
    assert RunOptions(mode="thread") == RunOptions(mode="thread")
    with pytest.raises(AttributeError):
        RunOptions(mode="thread").mode = "async"
