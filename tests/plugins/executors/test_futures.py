"""Units as jobs for any pool that has `submit`."""

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor

import pytest

from qp_core import CachingQuantumPartitioner, ExecutionMode, QuantumPartitioner, UnitState, WorkerLostError
from qp_plugins.executors.futures import FuturesExecutor, qp_executors


class Inline:
    """A pool without threads: `submit` returns when the job is done."""

    def __init__(self):
        self.submitted = []

    def submit(self, job):
        """Call the job."""
        self.submitted.append(job.unit_id)
        future = Future()
        future.set_result(job())
        return future


class Refusing:
    """A pool that takes so many jobs and then refuses."""

    def __init__(self, takes, error):
        self.takes, self.error = takes, error
        self._inline = Inline()

    def submit(self, job):
        """Call the job, or refuse it."""
        if len(self._inline.submitted) == self.takes:
            raise self.error
        return self._inline.submit(job)


class Dropping:
    """A pool that takes jobs and never calls them, while time passes."""

    def __init__(self, clock):
        self.futures = []
        self._clock = clock

    def submit(self, job):
        """Keep its future."""
        self.futures.append(Future())
        self._clock.advance(60)
        return self.futures[-1]


def chain(*names, **options):
    """Units that each need the one before, and return their own id."""
    partitioner = QuantumPartitioner(**options)
    before = []
    for name in names:
        partitioner.add_unit(lambda ctx: ctx.unit_id, before, name)
        before = [name]
    return partitioner


@pytest.fixture
def pool():
    """Two threads of the standard library's."""
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.mark.parametrize("mode", [None, "custom", ExecutionMode.CUSTOM], ids=["implied", "name", "mode"])
def test_a_pool_runs_the_units_and_stays_open(pool, mode):
    """Whoever made it shuts it down; giving one implies the mode."""
    partitioner = chain("a", "b")
    for _ in range(2):
        result = partitioner.execute({}, mode, custom_executor=pool)
        assert result == {"a": "a", "b": "b"}
        assert result.report.mode == "custom"
    assert pool.submit(lambda: "open").result() == "open"


def test_units_run_in_the_pools_own_threads(pool):
    """In none of the engine's and not in the caller's."""
    theirs = {pool.submit(threading.get_ident).result() for _ in range(20)}
    partitioner = QuantumPartitioner()
    for _ in range(6):
        partitioner.add_unit(lambda ctx: threading.get_ident())
    result = partitioner.execute({}, custom_executor=pool)
    assert threading.get_ident() not in result.values()
    assert len(set(result.values()) | theirs) <= 2


def test_as_many_units_are_handed_out_as_the_pool_has_workers(meeting):
    """Three that wait for each other end, thirty times; a fourth would wait in the pool."""
    with ThreadPoolExecutor(3) as three:
        partitioner, unit = QuantumPartitioner(), meeting(3)
        for _ in range(90):
            partitioner.add_unit(unit)
        result = partitioner.execute({}, custom_executor=three)
    assert result.ok
    assert result.report.max_workers == 3


def test_a_bound_of_the_callers_goes_before_the_pools_size(counted):
    """Eight threads, two units at once."""
    with ThreadPoolExecutor(8) as eight:
        partitioner = QuantumPartitioner(max_workers=2)
        for _ in range(30):
            partitioner.add_unit(counted)
        result = partitioner.execute({}, custom_executor=eight)
    assert result.ok
    assert counted.most <= 2


@pytest.mark.parametrize("size", [None, 0, "many"], ids=repr)
def test_a_pool_that_does_not_tell_its_size_gets_what_suits_the_plan(size):
    """The widest level has two units."""
    inline = Inline()
    if size is not None:
        inline._max_workers = size
    partitioner = QuantumPartitioner()
    for name in "ab":
        partitioner.add_unit(lambda ctx: 1, name=name)
    assert FuturesExecutor(inline).workers(None, partitioner.build_execution_plan()) == 2
    assert FuturesExecutor(inline).workers(7, partitioner.build_execution_plan()) == 7


def test_a_pool_without_threads_will_do():
    """A long chain through it needs no stack, and the order is that of the strategy."""
    inline = Inline()
    names = [f"u{number}" for number in range(2_000)]
    assert chain(*names).execute({}, custom_executor=inline).ok
    assert inline.submitted == names
    partitioner = QuantumPartitioner(max_workers=1)
    for priority, name in enumerate("abc"):
        partitioner.add_unit(lambda ctx: None, name=name, priority=priority)
    inline = Inline()
    partitioner.execute({}, custom_executor=inline, strategy="priority")
    assert inline.submitted == ["c", "b", "a"]


def test_only_what_is_about_to_run_is_in_the_pool(pool):
    """So cancelling keeps its meaning: the failure of the first unit leaves the pool with nothing to do."""
    partitioner = QuantumPartitioner(max_workers=1)

    def fail(ctx):
        msg = "broken"
        raise ValueError(msg)

    ran = []
    partitioner.add_unit(fail, name="fail")
    for _ in range(10):
        partitioner.add_unit(ran.append)
    result = partitioner.execute({}, custom_executor=pool, fail_fast=True)
    assert ran == []
    assert result.report.counts == {UnitState.FAILED: 1, UnitState.CANCELED: 10}


def test_what_a_unit_raises_comes_back_with_its_traceback(pool):
    """In one process nothing is pickled: it is the same object."""
    error = ValueError("broken")

    def fail(ctx):
        raise error

    partitioner = QuantumPartitioner()
    partitioner.add_unit(fail, name="fail")
    result = partitioner.execute({}, custom_executor=pool)
    assert result.failed["fail"] is error
    assert error.__traceback__ is not None
    assert not [note for note in error.__notes__ if "in the worker" in note]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(RuntimeError("cannot schedule new futures after shutdown"), RuntimeError, id="shut down"),
        pytest.param(BrokenExecutor("its process died"), WorkerLostError, id="broken"),
    ],
)
def test_a_pool_that_refuses_a_unit_fails_that_unit_with_its_reason(error, kind):
    """The first ran, the others could not; the run ends."""
    partitioner = QuantumPartitioner(max_workers=1)
    for name in "abc":
        partitioner.add_unit(lambda ctx: ctx.unit_id, name=name)
    result = partitioner.execute({}, custom_executor=Refusing(1, error))
    assert result == {"a": "a"}
    assert {type(one) for one in result.failed.values()} == {kind}
    if kind is WorkerLostError:
        assert [lost.unit_id for lost in result.failed.values()] == ["b", "c"]
        assert result.failed["b"].__cause__ is error
        assert "its process died" in str(result.failed["b"])


def test_a_pool_that_is_shut_down_while_units_wait_in_it_fails_those(patience):
    """The pool has one thread and was given two units; the second future is cancelled."""
    partitioner, begun, free = QuantumPartitioner(max_workers=2), threading.Event(), threading.Event()

    def hold(ctx):
        begun.set()
        free.wait(patience)
        return "held"

    partitioner.add_unit(hold, name="hold")
    partitioner.add_unit(lambda ctx: "never", name="waiting")
    pool = ThreadPoolExecutor(1)

    def shut_down():
        begun.wait(patience)
        pool.shutdown(wait=False, cancel_futures=True)
        free.set()

    thread = threading.Thread(target=shut_down)
    thread.start()
    result = partitioner.execute({}, custom_executor=pool)
    thread.join()
    assert result == {"hold": "held"} or not result
    assert set(result.failed) == {"waiting"} if result else {"hold", "waiting"}
    assert isinstance(result.failed["waiting"], CancelledError | RuntimeError)


def test_a_unit_that_runs_out_of_time_in_a_pool_is_abandoned_and_its_place_is_filled(clock, patience):
    """A pool cannot stop it; the other thread takes the next unit."""
    free = threading.Event()

    def hang(ctx):
        clock.advance(2)
        free.wait(patience)
        return "too late"

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hang, name="hang", timeout=1)
    partitioner.add_unit(lambda ctx: "done", name="next")
    with ThreadPoolExecutor(2) as pool:
        result = partitioner.execute({}, custom_executor=pool)
        free.set()
    assert result == {"next": "done"}
    assert result.report.units["hang"].state is UnitState.TIMEOUT
    assert result.report.abandoned == ("hang",)


def test_a_pool_that_forgets_a_unit_is_told_by_the_deadline(clock):
    """The unit runs out of time, and the run ends."""
    partitioner, dropping = chain("a", "b", clock=clock), Dropping(clock)
    result = partitioner.execute({}, custom_executor=dropping, deadline=50)
    assert {unit_id: record.state for unit_id, record in result.report.units.items()} == {
        "a": UnitState.TIMEOUT,
        "b": UnitState.CANCELED,
    }
    dropping.futures[0].set_result(None)  # an answer that comes after all disturbs nobody


def test_what_a_cache_answers_never_reaches_the_pool():
    """Nor does it use up a place: what comes after it runs."""
    inline = Inline()
    partitioner = CachingQuantumPartitioner(max_workers=1)
    partitioner.add_unit(lambda ctx: ctx["n"] + 1, name="kept", metadata={"cacheable": True})
    partitioner.add_unit(lambda ctx: ctx["kept"] * 2, ["kept"], "after")
    for _ in range(2):
        assert partitioner.execute({"n": 1}, custom_executor=inline) == {"kept": 2, "after": 4}
    assert inline.submitted == ["kept", "after", "after"]
    partitioner = CachingQuantumPartitioner(max_workers=1, cache=partitioner.cache)
    partitioner.add_unit(lambda ctx: ctx["n"] + 1, name="kept", metadata={"cacheable": True})
    inline = Inline()
    partitioner.execute({"n": 2}, custom_executor=inline)
    partitioner.execute({"n": 2}, custom_executor=inline)
    assert inline.submitted == ["kept"]


def test_retries_fallbacks_metrics_and_coroutines_work_in_a_pool(clock, pool):
    """As in every other mode."""
    partitioner = QuantumPartitioner(clock=clock)

    async def second_time(ctx):
        await asyncio.sleep(0)
        ctx.record_metric("attempt", ctx.attempt)
        ctx["note"] = "written"
        if ctx.attempt < 2:
            msg = "not yet"
            raise ConnectionError(msg)
        return "mended"

    def fail(ctx):
        msg = "broken"
        raise ValueError(msg)

    partitioner.add_unit(second_time, name="mended", retries=1)
    partitioner.add_unit(fail, name="replaced", metadata={"fallback_value": "spare"})
    result = partitioner.execute({}, custom_executor=pool)
    assert result == {"mended": "mended", "replaced": "spare"}
    record = result.report.units["mended"]
    assert (record.attempts, record.metrics, record.writes) == (2, {"attempt": 2}, ("note",))


def test_context_variables_reach_units_in_a_pool_of_threads(pool):
    """As the caller had them when it called."""
    variable = contextvars.ContextVar("variable")
    variable.set("the caller's")
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: variable.get(), name="unit")
    assert partitioner.execute({}, custom_executor=pool) == {"unit": "the caller's"}


def test_an_object_that_runs_runs_itself():
    """It may be an executor rather than a pool; then it alone decides."""

    class Own:
        def run(self, run):
            run.begin(None)
            run.work_here(run.new_worker())

    assert chain("a", "b").execute({}, custom_executor=Own()) == {"a": "a", "b": "b"}
    own = Own()
    assert qp_executors()["custom"](own) is own


@pytest.mark.parametrize(
    ("nonsense", "problem"),
    [
        pytest.param(
            None,
            "custom_executor is None, and execution_mode is 'custom'; give a concurrent.futures.Executor, or an object with run(run)",
            id="none",
        ),
        pytest.param(
            "thread",
            "custom_executor is 'thread'; give a concurrent.futures.Executor, or an object with run(run)",
            id="name",
        ),
        pytest.param(
            ThreadPoolExecutor,
            "custom_executor is the class ThreadPoolExecutor; give an instance: ThreadPoolExecutor()",
            id="class",
        ),
    ],
)
def test_what_is_neither_a_pool_nor_an_executor_is_refused_before_anything_runs(nonsense, problem):
    """The class instead of a pool is a common slip."""
    ran = []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(ran.append)
    with pytest.raises(TypeError) as caught:
        partitioner.execute({}, "custom", custom_executor=nonsense)
    assert str(caught.value) == problem
    assert ran == []


def test_a_pool_that_returns_no_future_breaks_the_run_with_the_reason():
    """It has taken a unit, and nobody will ever hear of that."""

    class Quiet:
        def __repr__(self):
            return "<quiet pool>"

        def submit(self, job):
            return None

    with pytest.raises(TypeError, match=r"^<quiet pool>.submit returned None; it must return a Future$"):
        chain("a", "b").execute({}, custom_executor=Quiet())


def test_a_pool_keeps_nothing_of_a_run_alive(pool, patience):
    """Its threads wait on; the result, and with it the run, is gone as soon as nobody holds it."""

    class Big:
        pass

    made = []

    def unit(ctx):
        big = Big()
        made.append(weakref.ref(big))
        return big

    partitioner = QuantumPartitioner()
    partitioner.add_unit(unit, name="big")
    assert isinstance(partitioner.execute({}, custom_executor=pool)["big"], Big)
    del partitioner
    ends = time.monotonic() + patience
    while made[0]() is not None and time.monotonic() < ends:
        gc.collect()
        time.sleep(0.001)  # the pool's thread is about to let go of the job
    assert made[0]() is None
