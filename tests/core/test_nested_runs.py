"""Runs inside units (R18): they share the outer budget and lend their slot, so they neither stand still nor exceed it; what stops the outer run stops them."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from qp_core import PluginError, QuantumPartitioner, UnitState
from qp_plugins.executors.aio import AsyncExecutor
from qp_plugins.executors.sequential import SequentialExecutor
from qp_plugins.executors.threads import ThreadExecutor
from tests.core.engine import PATIENCE_S, Hanging, in_every_mode, in_parallel_modes, states_of, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left_over")

EXECUTORS = {"sequential": SequentialExecutor, "thread": ThreadExecutor, "async": AsyncExecutor}
OUTER = ["sequential", "thread", "async", "coroutine"]
"""Modes of the outer run; in `coroutine` its units are coroutine functions that await `execute_async`."""
INNER = ["sequential", "thread", "async", "pool"]

every_pair = pytest.mark.parametrize(
    ("outer", "inner"),
    [pytest.param(*pair, id="_around_".join(pair)) for pair in itertools.product(OUTER, INNER)],
)


class Leaves:
    """Units at the bottom that count how many of them are at work at once.

    Args:
        together: How many have to be at work at once before they go on; 1 for none.
    """

    def __init__(self, together=1):
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.runs = 0
        self._barrier = threading.Barrier(together)

    def __call__(self, ctx):
        """Be at work."""
        with self._lock:
            self._now += 1
            self.runs += 1
            self.most = max(self.most, self._now)
        try:
            self._barrier.wait(PATIENCE_S)
            time.sleep(0.0005)  # so that others have the time to come in
        finally:
            with self._lock:
                self._now -= 1
        return 1


def add_nested(partitioner, mode, inner_of, name=None, needs=()):
    """Add a unit that executes `inner_of()` and returns the sum of its results.

    Args:
        partitioner: Where to.
        mode: One of `OUTER`.
        inner_of: Gives an inner partitioner and the options of its execution.
        name: The unit's id.
        needs: Its dependencies.
    """

    def function(ctx):
        inner, options = inner_of()
        result = inner.execute({}, **options)
        result.raise_for_failures()
        return sum(result.values())

    async def coroutine(ctx):
        inner, options = inner_of()
        result = await inner.execute_async({}, **options)
        result.raise_for_failures()
        return sum(result.values())

    partitioner.add_unit(coroutine if mode == "coroutine" else function, needs, name)


def mode_of(outer):
    """The execution mode of an outer run."""
    return "async" if outer == "coroutine" else outer


@pytest.fixture
def options_of():
    """The options of an execution in one of the `INNER` modes; pools are shut down in the end."""
    pools = []

    def options(mode, **more):
        if mode != "pool":
            return {"execution_mode": mode, **more}
        pools.append(ThreadPoolExecutor(4))
        return {"custom_executor": pools[-1], **more}

    yield options
    for pool in pools:
        pool.shutdown()


def wide(leaf, count):
    """A partitioner of units side by side."""
    made = QuantumPartitioner(max_workers=8)
    for _ in range(count):
        made.add_unit(leaf)
    return made


# ---- no deadlock, no excess


@every_pair
def test_one_worker_is_enough_for_runs_inside_runs(outer, inner, options_of):
    """Two units, one after the other in the one slot, each with an inner run of four: never two at work at once."""
    leaves = Leaves()
    partitioner = QuantumPartitioner(max_workers=1)
    for _ in range(2):
        add_nested(partitioner, outer, lambda: (wide(leaves, 4), options_of(inner)))
    result = partitioner.execute({}, mode_of(outer))
    assert list(result.values()) == [4, 4], result.failed
    assert (leaves.most, leaves.runs) == (1, 8)


@pytest.mark.parametrize("outer", ["thread", "async", "coroutine"])
@pytest.mark.parametrize("inner", ["thread", "async", "pool"])
@pytest.mark.parametrize("units", [1, 2], ids=["one_unit", "two_units"])
def test_inner_runs_use_what_the_outer_run_leaves_free_and_no_more(outer, inner, units, options_of):
    """A budget of three: three leaves have to meet to go on, though an inner run may ask for eight workers."""
    leaves = Leaves(together=3)
    partitioner = QuantumPartitioner(max_workers=3)
    for _ in range(units):
        add_nested(partitioner, outer, lambda: (wide(leaves, 6), options_of(inner)))
    result = partitioner.execute({}, mode_of(outer))
    assert list(result.values()) == [6] * units, result.failed
    assert leaves.most == 3


@every_pair
def test_an_inner_run_keeps_its_own_bound_too(outer, inner, options_of):
    """One worker, where the outer run would have three."""
    leaves = Leaves()
    partitioner = QuantumPartitioner(max_workers=3)
    add_nested(partitioner, outer, lambda: (wide(leaves, 5), options_of(inner, max_workers=1)))
    assert list(partitioner.execute({}, mode_of(outer)).values()) == [5]
    assert leaves.most == 1


@pytest.mark.parametrize(
    "modes", [("sequential",), ("thread",), ("async",), ("coroutine",), tuple(OUTER)], ids="-".join
)
@pytest.mark.parametrize("workers", [1, 2])
def test_runs_may_be_nested_deeply(modes, workers):
    """Five levels, each with two units that execute the next: 32 leaves, within the budget of the outermost."""
    leaves, modes = Leaves(), itertools.cycle(modes)
    mode_at = [next(modes) for _ in range(5)]

    def level(depth):
        made = QuantumPartitioner(max_workers=8)
        for _ in range(2):
            if depth == 4:
                made.add_unit(leaves)
            else:
                add_nested(
                    made,
                    mode_at[depth],
                    lambda: (level(depth + 1), {"execution_mode": mode_of(mode_at[depth + 1])}),
                )
        return made

    outermost = level(0)
    result = outermost.execute({}, mode_of(mode_at[0]), workers)
    assert result.ok, result.failed
    assert sum(result.values()) == 32
    assert leaves.runs == 32
    assert leaves.most <= (1 if "sequential" in mode_at else workers)


@every_pair
def test_inner_runs_may_follow_each_other_in_one_unit(outer, inner, options_of):
    """Also after one in another mode, and after one that a plugin broke: the slot that was lent has come back each time."""
    leaves = Leaves()

    class Early:
        """Returns before anything has run."""

        def run(self, run):
            """Call workers, and start none."""
            run.begin(lambda: None)

    def function(ctx):
        with pytest.raises(PluginError, match="before the run was over"):
            wide(leaves, 3).execute({}, custom_executor=Early())
        return [wide(leaves, 3).execute({}, **options_of(mode)).ok for mode in ("sequential", inner, "async", "thread")]

    async def coroutine(ctx):
        with pytest.raises(PluginError, match="before the run was over"):
            await wide(leaves, 3).execute_async({}, custom_executor=Early())
        return [
            (await wide(leaves, 3).execute_async({}, **options_of(mode))).ok
            for mode in ("sequential", inner, "async", "thread")
        ]

    partitioner = QuantumPartitioner(max_workers=1)
    for name in "ab":
        partitioner.add_unit(coroutine if outer == "coroutine" else function, name=name)
    result = partitioner.execute({}, mode_of(outer))
    assert result == {"a": [True] * 4, "b": [True] * 4}, result.failed
    assert leaves.most == 1


@pytest.mark.parametrize("inner", ["sequential", "thread", "async"])
def test_inner_runs_beside_each_other_in_one_unit_share_its_slot(inner):
    """Five of them gathered, where there is one worker."""
    leaves = Leaves()

    async def coroutine(ctx):
        runs = (wide(leaves, 3).execute_async({}, execution_mode=inner) for _ in range(5))
        return [result.ok for result in await asyncio.gather(*runs)]

    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(coroutine, name="a")
    result = partitioner.execute({}, "async")
    assert result == {"a": [True] * 5}
    assert leaves.runs == 15
    assert leaves.most == 1


@every_pair
def test_an_inner_run_in_an_unbounded_outer_one_has_its_own_bound(outer, inner, options_of):
    """Async mode has no bound unless one is given; the inner run asks for two."""
    if mode_of(outer) != "async":
        pytest.skip("only async mode is unbounded")
    leaves = Leaves()
    partitioner = QuantumPartitioner()
    add_nested(partitioner, outer, lambda: (wide(leaves, 6), options_of(inner, max_workers=2)))
    assert list(partitioner.execute({}, "async").values()) == [6]
    assert leaves.most <= 2


def test_a_run_inside_a_fallback_shares_the_budget_too():
    """The unit has failed, but its slot is still its own."""
    leaves = Leaves()
    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(
        lambda ctx: 1 / 0, name="a", fallback=lambda ctx, error: len(wide(leaves, 4).execute({}, "thread"))
    )
    assert partitioner.execute({}, "thread") == {"a": 4}
    assert leaves.most == 1


# ---- failures


@every_pair
def test_a_failure_inside_fails_the_unit_around_it_if_that_raises(outer, inner, options_of):
    """And no other."""

    def broken(ctx):
        raise ValueError("inside")

    partitioner = QuantumPartitioner(max_workers=2)
    add_nested(partitioner, outer, lambda: (wide(broken, 2), options_of(inner)), "bad")
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, mode_of(outer))
    assert states_of(result) == {"bad": "failed", "beside": "completed"}
    assert [str(error) for error in result.failed["bad"].exceptions] == ["inside", "inside"]


@pytest.mark.parametrize("outer", OUTER)
def test_an_inner_run_that_a_plugin_broke_fails_its_unit_alone(outer):
    """PluginError is the inner run's affair."""

    class Broken:
        """Returns at once."""

        def run(self, run):
            """Do nothing."""

    partitioner = QuantumPartitioner(max_workers=2)
    add_nested(partitioner, outer, lambda: (wide(len, 2), {"custom_executor": Broken()}), "bad")
    partitioner.add_unit(lambda ctx: "beside", name="beside")
    result = partitioner.execute({}, mode_of(outer))
    assert states_of(result) == {"bad": "failed", "beside": "completed"}
    assert isinstance(result.failed["bad"], PluginError)


# ---- stopping


class Watched:
    """An executor that lets the test have its run.

    Args:
        mode: What it stands for.
    """

    def __init__(self, mode):
        self._executor = EXECUTORS[mode]()
        self.begun = threading.Event()
        self.current = None
        if hasattr(self._executor, "workers"):
            self.workers = self._executor.workers

    def run(self, run):
        """Run."""
        self.current = run
        self.begun.set()
        self._executor.run(run)


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("inner", ["sequential", "thread", "async"])
def test_cancelling_a_run_cancels_what_is_nested_in_it(outer, inner):
    """The first unit inside runs to its end; the nine others never begin; two levels down."""
    inside, free, log, results = threading.Event(), threading.Event(), [], []

    def leaf(ctx):
        log.append(1)
        inside.set()
        wait_for(free)
        return 1

    innermost = wide(leaf, 10)

    def middle():
        made = QuantumPartitioner()

        def function(ctx):
            results.append(innermost.execute({}, inner, 1, grace=PATIENCE_S))
            return 0

        made.add_unit(function)
        return made, {"execution_mode": "thread", "grace": PATIENCE_S}

    watched = Watched(mode_of(outer))
    partitioner = QuantumPartitioner(max_workers=1)
    add_nested(partitioner, outer, middle, "around")
    partitioner.add_unit(len, name="later")

    def cancel():
        wait_for(inside)
        watched.current.cancel("enough")
        free.set()

    canceller = threading.Thread(target=cancel, daemon=True)
    canceller.start()
    result = partitioner.execute({}, custom_executor=watched)
    canceller.join(PATIENCE_S)
    assert states_of(result)["later"] == "canceled"
    assert result.report.stopped == "enough"
    ends = time.monotonic() + PATIENCE_S
    while not results and time.monotonic() < ends:
        time.sleep(0.01)
    # A coroutine is cancelled too, and so stops the run that it awaits by itself.
    assert results[0].report.stopped in ({"enough", "canceled"} if outer == "coroutine" else {"enough"})
    assert sum(state == "canceled" for state in states_of(results[0]).values()) == 9
    assert len(log) == 1


@pytest.mark.parametrize("outer", ["sequential", "thread", "async"])
@pytest.mark.parametrize("inner", ["sequential", "thread", "async"])
def test_a_deadline_stops_what_is_nested(outer, inner, clock):
    """The unit around is given up, the inner run hands out nothing more."""
    hanging, results, ended = Hanging(clock, 100.0), [], threading.Event()

    def around(ctx):
        results.append(wide(hanging, 10).execute({}, inner, 1))
        ended.set()

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(around, name="around")
    result = partitioner.execute({}, outer, deadline=50)
    assert states_of(result) == {"around": "timeout"}
    hanging.free.set()
    wait_for(ended)
    assert states_of(results[0]) == {"unit_0": "completed"} | {f"unit_{number}": "canceled" for number in range(1, 10)}
    assert results[0].report.stopped == "deadline"


@pytest.mark.parametrize("outer", ["sequential", "thread", "async"])
@pytest.mark.parametrize("inner", ["sequential", "thread", "async"])
def test_the_timeout_of_a_unit_stops_what_is_nested_in_it_and_nothing_else(outer, inner, clock):
    """The unit beside has an inner run as well, which runs to its end."""
    hanging, results, ended = Hanging(clock, 10.0), [], threading.Event()

    def around(ctx):
        results.append(wide(hanging, 10).execute({}, inner, 1))
        ended.set()

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(around, name="around", timeout=5)
    add_nested(partitioner, outer, lambda: (wide(lambda ctx: 1, 4), {"execution_mode": inner}), "beside")
    result = partitioner.execute({}, outer)
    assert states_of(result) == {"around": "timeout", "beside": "completed"}
    assert result["beside"] == 4
    hanging.free.set()
    wait_for(ended)
    assert states_of(results[0]) == {"unit_0": "completed"} | {f"unit_{number}": "canceled" for number in range(1, 10)}


@in_every_mode
def test_a_run_that_begins_in_a_unit_of_a_cancelled_run_does_not_run(mode):
    """It is cancelled as it begins: none of its units does."""
    log, results, watched = [], [], Watched(mode)

    def around(ctx):
        watched.current.cancel("enough")
        results.append(wide(log.append, 3).execute({}, mode))

    partitioner = QuantumPartitioner()
    partitioner.add_unit(around)
    partitioner.execute({}, custom_executor=watched)
    assert log == []
    assert set(states_of(results[0]).values()) == {"canceled"}
    assert results[0].report.stopped == "enough"


@in_parallel_modes
def test_fail_fast_outside_stops_what_is_nested(mode):
    """A unit beside fails while the inner run goes on: its first unit does not end before that run is stopped."""
    inside, stopped, results = threading.Event(), threading.Event(), []

    class Watch:
        """Hears of the end of what had not begun."""

        def qp_unit_finished(self, event):
            """Let the first one end."""
            if event.state is UnitState.CANCELED:
                stopped.set()

    def leaf(ctx):
        inside.set()
        wait_for(stopped)

    def around(ctx):
        results.append(wide(leaf, 10).execute({}, "thread", 1, telemetry=[Watch()]))

    def fails(ctx):
        wait_for(inside)
        raise ValueError

    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(around, name="around")
    partitioner.add_unit(fails, name="fails")
    partitioner.add_unit(len, name="later")
    result = partitioner.execute({}, mode, fail_fast=True)
    assert states_of(result) == {"around": "completed", "fails": "failed", "later": "canceled"}
    assert results[0].report.stopped == "fail_fast"
    assert not results[0].ok
