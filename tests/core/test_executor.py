"""What an executor is (R9, R11): anything that drives a run to its end; and what becomes of a run whose executor does not."""

import pickle
import threading
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from concurrent.futures import Executor as Pool

import pytest

from qp_core import Executor, PluginError, QuantumPartitioner, WorkerLostError
from qp_core.executor import workers_for
from qp_core.testing import FakeClock
from tests.core.engine import PATIENCE_S, Hanging, states_of, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left_over")


def chain(count=3):
    """A partitioner of units u0 -> u1 -> ..., each one more than the one before."""
    partitioner = QuantumPartitioner()
    for number in range(count):
        partitioner.add_unit(
            lambda ctx: 1 + sum(ctx.unit_results.values()), [f"u{number - 1}"] if number else [], f"u{number}"
        )
    return partitioner


class Inline:
    """Runs everything in the thread that calls."""

    def run(self, run):
        """Run."""
        run.begin(None)
        run.work_here(run.new_worker())


class OneThread:
    """Runs everything in one thread, started by hand."""

    def run(self, run):
        """Run."""
        threads = []

        def spawn():
            threads.append(threading.Thread(target=run.work, args=(run.new_worker(),), daemon=True))
            threads[-1].start()

        run.begin(spawn)
        run.attend()
        for thread in threads:
            thread.join(PATIENCE_S)


# ---- anything that drives a run


@pytest.mark.parametrize("make", [Inline, OneThread], ids=lambda make: make.__name__)
def test_an_object_with_run_is_an_executor(make):
    """No base class, no registration."""
    assert isinstance(make(), Executor)
    result = chain().execute({}, custom_executor=make())
    assert result == {"u0": 1, "u1": 2, "u2": 3}
    assert result.report.mode == "custom"


def test_a_run_that_is_driven_by_hand_tells_when_it_is_over():
    """Place by place, as a pool does it."""
    seen = []

    class ByHand:
        """Takes units and calls their jobs itself."""

        def run(self, run):
            """Run."""
            called = []
            run.begin(lambda: called.append(1))
            while not run.over:
                assert called.pop()
                worker = run.new_worker()
                number = run.take(worker)
                while number >= 0:
                    job = run.job(worker, number)
                    seen.append(job.unit_id)
                    number = run.job_done(worker, number, job())
            run.attend()

    assert chain().execute({}, custom_executor=ByHand()) == {"u0": 1, "u1": 2, "u2": 3}
    assert seen == ["u0", "u1", "u2"]


# ---- how many workers


class Answers:
    """An executor with a say in how many workers it gets."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def workers(self, asked, plan):
        """Answer."""
        self.asked.append((asked, len(plan)))
        return self.answer

    run = Inline.run


@pytest.mark.parametrize("answer", [1, 7, None], ids=repr)
def test_an_executor_may_say_how_many_workers_it_gets(answer):
    """It is asked with the caller's bound."""
    executor = Answers(answer)
    report = chain().execute({}, custom_executor=executor, max_workers=5).report
    assert report.max_workers == answer
    assert executor.asked == [(5, 3)]


@pytest.mark.parametrize("answer", [0, -1, 1.5, "2", True], ids=repr)
def test_a_nonsensical_number_of_workers_names_the_executor(answer):
    """Before anything runs."""
    with pytest.raises(PluginError, match=r"'Answers', Executor.workers: answered .*; it must answer a number above 0"):
        chain().execute({}, custom_executor=Answers(answer))


def test_an_executor_without_an_opinion_gets_what_was_asked_for_or_what_suits_the_plan():
    """A chain deserves one."""
    plan = chain().build_execution_plan()
    assert workers_for(Inline(), 5, plan) == 5
    assert workers_for(Inline(), None, plan) == 1


def test_places_that_have_nothing_to_do_leave_and_are_called_again():
    """One place, which leaves after every unit: a retry calls it anew."""
    calls = []

    class Leaves:
        """Gives its place up whenever it can."""

        def run(self, run):
            """Run."""

            def come():
                calls.append(1)
                worker = run.new_worker()
                number = run.take(worker)
                if number < 0:
                    return
                number = run.job_done(worker, number, run.job(worker, number)())
                if number >= 0:  # not for this place
                    number = run.job_done(worker, number, run.job(worker, number)())
                run.leave(worker)

            run.begin(lambda: run.post(come))
            run.attend()

    tried = []

    def flaky(ctx):
        tried.append(1)
        if len(tried) < 3:
            raise ValueError

    partitioner = QuantumPartitioner(max_workers=1, clock=FakeClock())
    partitioner.add_unit(flaky, name="a", retries=5)
    assert partitioner.execute({}, custom_executor=Leaves()).ok
    assert len(calls) == 3


# ---- executors that do not drive a run to its end


class ReturnsEarly:
    """Begins, hands one unit to a thread, and returns without waiting.

    Args:
        threads: Where it leaves its threads.
    """

    def __init__(self, threads):
        self.threads = threads

    def run(self, run):
        """Run, but not to the end."""

        def spawn():
            worker = run.new_worker()
            thread = threading.Thread(target=run.work, args=(worker,), daemon=True)
            worker.still_busy = thread.is_alive
            self.threads.append(thread)
            thread.start()

        run.begin(spawn)


class NeverBegins:
    """Does nothing at all."""

    def run(self, run):
        """Return."""


class Raises:
    """Breaks, before or after the run has begun."""

    def __init__(self, *, begins):
        self.begins = begins

    def run(self, run):
        """Break."""
        if self.begins:
            run.begin(lambda: None)
        raise OSError("no cluster")


def test_an_executor_that_returns_early_is_named_with_what_still_runs():
    """Its unit is given up and reported as still running; the others are cancelled; late results are dropped."""
    hanging, threads = Hanging(), []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(hanging, name="runs")
    partitioner.add_unit(len, ["runs"], "after")

    class Waits(ReturnsEarly):
        """Returns when the unit runs."""

        def run(self, run):
            """Run."""
            super().run(run)
            assert hanging.begun.acquire(timeout=PATIENCE_S)

    with pytest.raises(PluginError, match=r"Executor.run: returned before the run was over \(still running: 'runs'\)"):
        partitioner.execute({}, custom_executor=Waits(threads))
    result = partitioner.last_result
    assert states_of(result) == {"runs": "canceled", "after": "canceled"}
    assert result.report.abandoned == ("runs",)
    assert result.report.stopped == "broken off"
    hanging.free.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert states_of(result) == {"runs": "canceled", "after": "canceled"}
    assert partitioner.get_partial_results() == {}


@pytest.mark.parametrize("executor", [NeverBegins(), Raises(begins=False), Raises(begins=True)], ids=["idle", "a", "b"])
def test_a_run_that_its_executor_leaves_ends_with_all_units_cancelled(executor):
    """And with the executor's own error, if it raised one."""
    partitioner = chain()
    expected = PluginError if isinstance(executor, NeverBegins) else OSError
    with pytest.raises(expected, match=r"before the run was over|no cluster"):
        partitioner.execute({}, custom_executor=executor)
    assert states_of(partitioner.last_result) == dict.fromkeys(("u0", "u1", "u2"), "canceled")


def test_the_partitioner_runs_again_after_a_broken_run():
    """Nothing of it is left."""
    partitioner = chain()
    with pytest.raises(OSError, match="no cluster"):
        partitioner.execute({}, custom_executor=Raises(begins=True))
    assert partitioner.execute({}).ok


# ---- pools of all kinds


class Immediate(Pool):
    """Calls what it is given at once, in the thread that submits."""

    def submit(self, function, /, *args, **kwargs):
        """Call."""
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - a pool passes on whatever is raised
            future.set_exception(error)
        return future


class Breaks(Pool):
    """A pool whose worker dies in the unit that it is given.

    Args:
        unit_id: The unit.
    """

    def __init__(self, unit_id):
        self._unit_id = unit_id

    def submit(self, job, /):
        """Call, or die."""
        future = Future()
        if job.unit_id == self._unit_id:
            future.set_exception(BrokenExecutor("a worker died"))
        else:
            future.set_result(job())
        return future


class Loses(Pool):
    """A pool that forgets the units it is given, but for some.

    Args:
        keeps: Units that it runs.
    """

    def __init__(self, keeps=()):
        self._keeps = keeps

    def submit(self, job, /):
        """Call, or forget."""
        future = Future()
        if job.unit_id in self._keeps:
            future.set_result(job())
        return future


class Cancels(Pool):
    """A pool that cancels what it is given."""

    def submit(self, job, /):
        """Cancel."""
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_any_pool_of_concurrent_futures_will_do():
    """Also one that calls at once."""
    assert chain(50).execute({}, custom_executor=Immediate()) == {f"u{number}": number + 1 for number in range(50)}


def test_a_deep_chain_in_a_pool_that_calls_at_once_does_not_recurse():
    """5,000 units, each submitted when the one before has called back."""
    assert chain(5_000).execute({}, custom_executor=Immediate())["u4999"] == 5_000


def test_a_worker_that_dies_fails_its_unit_and_says_so():
    """R11: the others run."""
    partitioner = chain(3)
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, custom_executor=Breaks("u1"))
    assert states_of(result) == {"u0": "completed", "u1": "failed", "u2": "skipped", "beside": "completed"}
    assert isinstance(result.failed["u1"], WorkerLostError)
    assert "BrokenExecutor: a worker died" in str(result.failed["u1"])


def test_a_unit_that_the_pool_cancels_has_failed():
    """Nobody has cancelled the run."""
    result = chain(2).execute({}, custom_executor=Cancels())
    assert states_of(result) == {"u0": "failed", "u1": "skipped"}
    assert type(result.failed["u0"]).__name__ == "CancelledError"


def test_a_pool_that_loses_a_unit_is_outwaited_by_its_timeout(clock):
    """The unit is given up; the others run."""
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(len, name="lost", timeout=5)
    partitioner.add_unit(lambda ctx: clock.advance(10), name="kept")
    result = partitioner.execute({}, custom_executor=Loses(["kept"]), max_workers=2)
    assert states_of(result) == {"lost": "timeout", "kept": "completed"}
    assert result.report.abandoned == ("lost",)


def test_a_pool_that_loses_a_unit_is_outwaited_by_the_deadline(clock):
    """What depends on it is cancelled."""
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(len, name="lost")
    partitioner.add_unit(lambda ctx: clock.advance(10), name="kept")
    partitioner.add_unit(len, ["lost"], "after")
    result = partitioner.execute({}, custom_executor=Loses(["kept"]), max_workers=2, deadline=5)
    assert states_of(result)["lost"] == "timeout"
    assert states_of(result)["after"] == "canceled"


def test_a_pool_that_was_shut_down_before_fails_every_unit_without_dependencies():
    """With the pool's own words."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    result = chain(2).execute({}, custom_executor=pool)
    assert states_of(result) == {"u0": "failed", "u1": "skipped"}
    assert "shutdown" in str(result.failed["u0"])


def test_a_pool_that_is_shut_down_while_the_run_goes_on_fails_what_it_refuses():
    """The unit that shuts it down completes."""
    pool = ThreadPoolExecutor(1)
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: pool.shutdown(wait=False), name="first")
    partitioner.add_unit(len, ["first"], "second")
    result = partitioner.execute({}, custom_executor=pool)
    assert states_of(result) == {"first": "completed", "second": "failed"}


def test_retries_in_a_pool_hold_no_place(clock):
    """One place: while `first` waits for its second attempt, `other` runs."""
    log = []

    def first(ctx):
        log.append(f"first {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(first, name="first", retries=1)
    partitioner.add_unit(lambda ctx: log.append("other"), name="other")
    with ThreadPoolExecutor(1) as pool:
        assert partitioner.execute({}, custom_executor=pool).ok
    assert log == ["first 1", "other", "first 2"]


class Pickles(Pool):
    """A pool that is reached by bytes only."""

    def submit(self, job, /):
        """There and back."""
        future = Future()
        future.set_result(pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(job))())))
        return future


def test_a_pool_that_is_reached_by_bytes_gives_results_and_exceptions_back():
    """The traceback, which does not survive, is a note on the exception."""

    def fails(ctx):
        raise LookupError("over there")

    partitioner = chain(2)
    partitioner.add_unit(fails, name="fails")
    partitioner.add_unit(lambda ctx: ctx.record_metric("m", ctx["given"]), name="measures", timeout=60)
    result = partitioner.execute({"given": 7}, custom_executor=Pickles())
    assert result == {"u0": 1, "u1": 2, "measures": None}
    assert dict(result.report.units["measures"].metrics) == {"m": 7}
    assert type(result.failed["fails"]) is LookupError
    assert any("in the worker:" in note and "in fails" in note for note in result.failed["fails"].__notes__)


def test_a_unit_in_a_pool_that_is_in_time_is_left_alone(clock):
    """Its timer is forgotten."""
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(lambda ctx: clock.advance(4), name="a", timeout=5)
    partitioner.add_unit(lambda ctx: clock.advance(100), ["a"], "b")
    with ThreadPoolExecutor(1) as pool:
        assert partitioner.execute({}, custom_executor=pool).ok


class Shelf:
    """A cache that has everything."""

    def get(self, key):
        """Find."""
        return "found"

    def put(self, key, value):
        """Never called."""
        raise NotImplementedError


def test_what_a_cache_has_never_reaches_the_pool_but_what_follows_does():
    """Found -> after; found_too beside."""
    partitioner = QuantumPartitioner()
    for name in ("found", "found_too"):
        partitioner.add_unit(lambda ctx: 1 / 0, name=name, metadata={"cacheable": True})
    partitioner.add_unit(lambda ctx: ctx["found"], ["found"], "after")
    with ThreadPoolExecutor(1) as pool:
        result = partitioner.execute({}, custom_executor=pool, cache=Shelf())
    assert result == {"found": "found", "found_too": "found", "after": "found"}


def test_two_runs_may_share_a_pool():
    """At the same time; each has its own results."""
    both, outcomes = threading.Barrier(2), {}

    def unit(ctx):
        both.wait(PATIENCE_S)
        return ctx["who"]

    partitioner = QuantumPartitioner()
    partitioner.add_unit(unit, name="a")
    with ThreadPoolExecutor(2) as pool:

        def execute(who):
            outcomes[who] = partitioner.execute({"who": who}, custom_executor=pool)

        threads = [threading.Thread(target=execute, args=(who,)) for who in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert outcomes == {"one": {"a": "one"}, "two": {"a": "two"}}


def test_units_in_a_pool_meet_up_to_the_bound():
    """Three at once, nine in all."""
    together = threading.Barrier(3)
    partitioner = QuantumPartitioner()
    for _ in range(9):
        partitioner.add_unit(lambda ctx: together.wait(PATIENCE_S) >= 0)
    with ThreadPoolExecutor(8) as pool:
        result = partitioner.execute({}, custom_executor=pool, max_workers=3)
    assert result.ok, result.failed


def test_fail_fast_in_a_pool_lets_what_runs_end():
    """The unit beside is neither cancelled nor lost."""
    runs, free = threading.Event(), threading.Event()

    def beside(ctx):
        runs.set()
        wait_for(free)
        return "whole"

    def fails(ctx):
        wait_for(runs)
        raise ValueError

    class Watch:
        """Hears of the cancelled unit."""

        def qp_unit_finished(self, event):
            """Let `beside` go."""
            if event.unit_id == "later":
                free.set()

    partitioner = QuantumPartitioner()
    for name, unit in {"beside": beside, "fails": fails, "later": len}.items():
        partitioner.add_unit(unit, name=name)
    with ThreadPoolExecutor(2) as pool:
        result = partitioner.execute({}, custom_executor=pool, fail_fast=True, telemetry=[Watch()])
    assert states_of(result) == {"beside": "completed", "fails": "failed", "later": "canceled"}
    assert result["beside"] == "whole"
