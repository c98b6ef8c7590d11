"""The kit for authors of plugins: a clock that jumps, a recorder, and contracts that notice who breaks them."""

import itertools
import queue
import threading
import types
from concurrent.futures import Future

import attrs
import pytest

from qp_core import MISS, ExecutionMode, PluginError, Plugins, QuantumPartitioner, RetryPolicy, Substitute, UnitState
from qp_core import testing as kit
from qp_core.testing import (
    FakeClock,
    Recorder,
    check_cache,
    check_executor,
    check_fallback,
    check_observer,
    check_strategy,
)

PATIENCE_S = 60
"""How long threads wait for each other; only ever spent by a test that fails."""


def test_the_kit_lists_what_it_offers():
    """Sorted, and all of it is there."""
    assert kit.__all__ == sorted(kit.__all__)
    assert all(hasattr(kit, name) for name in kit.__all__)


# ---- the clock


def test_a_fake_clock_stands_still_until_it_is_advanced():
    """Monotonic and wall-clock seconds go together."""
    clock = FakeClock()
    before, utc = clock.now(), clock.utc()
    assert clock.now() == before == 1000.0
    clock.advance(2.5)
    assert clock.now() - before == 2.5
    assert clock.utc() - utc == 2.5
    assert FakeClock(5.0).now() == 5.0


def test_a_fake_clock_hands_over_a_message_that_is_there():
    """Without looking at the time."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    inbox.put("first")
    assert clock.wait(inbox, 7.0, lambda: True) == "first"
    inbox.put("second")
    assert clock.wait(inbox, None, lambda: True) == "second"
    assert (clock.now(), clock.jumps) == (1000.0, [])


def test_a_fake_clock_jumps_to_the_end_of_the_wait_where_nobody_works():
    """As far as it was to wait, and it keeps count."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    assert clock.wait(inbox, 7.0, lambda: True) is None
    assert clock.wait(inbox, 0.5, lambda: True) is None
    assert (clock.now(), clock.jumps) == (1007.5, [7.0, 0.5])


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_wait_that_is_over_already_moves_no_clock(timeout_s):
    """Neither where somebody works nor where nobody does."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    for idle in (True, False):
        assert clock.wait(inbox, timeout_s, lambda idle=idle: idle) is None
    assert clock.now() == 1000.0
    assert clock.jumps == []


def test_a_fake_clock_does_not_jump_while_somebody_works_and_does_when_they_have_ended():
    """It asks again, for who ends tells it nothing."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    answers = itertools.chain([False] * 5, itertools.repeat(True))
    assert clock.wait(inbox, 3.0, lambda: next(answers)) is None
    assert clock.jumps == [3.0]
    assert clock.now() == 1003.0


def test_a_fake_clock_that_is_advanced_by_somebody_at_work_ends_the_wait():
    """No jump: the time has passed."""
    clock, inbox, waits = FakeClock(), queue.SimpleQueue(), threading.Event()

    def work():
        assert waits.wait(PATIENCE_S)
        clock.advance(4.0)

    def idle():
        waits.set()
        return False

    worker = threading.Thread(target=work)
    worker.start()
    assert clock.wait(inbox, 3.0, idle) is None
    worker.join(PATIENCE_S)
    assert (clock.now(), clock.jumps) == (1004.0, [])


def test_time_that_passes_between_a_look_at_the_clock_and_the_wait_is_not_waited_for_again():
    """A coordinator looks how long it may wait; before it does, a unit lets that time pass, and nobody will let pass more."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    rest_s = 1003.0 - clock.now()
    unit = threading.Thread(target=clock.advance, args=[10.0])
    unit.start()
    unit.join(PATIENCE_S)
    too_late = threading.Timer(PATIENCE_S, inbox.put, ["it would have waited for ever"])
    too_late.start()
    assert clock.wait(inbox, rest_s, lambda: False) is None
    too_late.cancel()
    assert (clock.now(), clock.jumps) == (1010.0, [])


def test_a_wait_counts_from_the_last_look_whoever_moved_the_clock():
    """A look of its own, an advance of its own, a jump of its own; who never looked begins when it waits."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    clock.advance(5.0)
    assert clock.wait(inbox, 2.0, lambda: True) is None
    assert clock.wait(inbox, 1.0, lambda: True) is None
    found = []
    stranger = threading.Thread(target=lambda: found.append(clock.wait(inbox, 4.0, lambda: True)))
    stranger.start()
    stranger.join(PATIENCE_S)
    assert found == [None]
    assert (clock.now(), clock.jumps) == (1012.0, [2.0, 1.0, 4.0])


def test_a_message_wakes_who_waits_for_ever():
    """From another thread."""
    clock, inbox = FakeClock(), queue.SimpleQueue()
    threading.Timer(0.01, inbox.put, ["late"]).start()
    assert clock.wait(inbox, None, lambda: False) == "late"


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_retry_that_waits_hours_costs_a_test_nothing(mode):
    """The jumps are the waits, one after another."""
    clock = FakeClock()
    partitioner = QuantumPartitioner(default_execution_mode=mode, clock=clock)

    def third_time(ctx):
        if ctx.attempt < 3:
            raise OSError
        return ctx.attempt

    hours = RetryPolicy(base_s=3600, cap_s=10**6, jitter=0)
    partitioner.add_unit(third_time, name="a", retries=2, retry=hours)
    assert partitioner.execute({}) == {"a": 3}
    assert clock.jumps == [7200.0, 14400.0]


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_deadline_is_not_reached_before_the_units_have_run(mode):
    """The clock jumps only when nothing else can bring the run on: not while a worker is on its way to its first unit."""
    for _ in range(30):
        partitioner = QuantumPartitioner(2, mode, clock=FakeClock())
        for name in ("a", "b"):
            partitioner.add_unit(lambda _: 1, name=name)
        partitioner.add_unit(lambda _: 1, ["a", "b"], "c")
        result = partitioner.execute({}, deadline=5)
        assert result.ok
        assert result.report.wall_s == 0


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_deadline_is_reached_where_only_time_can_pass(mode):
    """A retry would come after it."""
    partitioner = QuantumPartitioner(2, mode, clock=FakeClock())
    partitioner.add_unit(lambda _: 1 / 0, name="a", retries=1, retry=RetryPolicy(base_s=9, cap_s=99, jitter=0))
    partitioner.add_unit(lambda _: 1, name="b")
    result = partitioner.execute({}, deadline=5)
    assert result == {"b": 1}
    assert result.report.units["a"].state is UnitState.CANCELED
    assert (result.report.stopped, result.report.wall_s) == ("deadline", 5)


def test_a_unit_runs_out_of_time_by_advancing_the_clock():
    """The timer fires while it still runs."""
    clock, free = FakeClock(), threading.Event()
    partitioner = QuantumPartitioner(2, clock=clock)

    def long(_):
        clock.advance(10)
        assert free.wait(PATIENCE_S)

    class Frees:
        def qp_unit_finished(self, event):
            free.set()

    partitioner.add_unit(long, name="long", timeout=3)
    result = partitioner.execute({}, telemetry=[Frees()])
    assert result.report.units["long"].state is UnitState.TIMEOUT


# ---- the recorder


def test_a_recorder_keeps_every_event_in_order():
    """And knows who has ended."""
    recorder = Recorder()
    assert (recorder.events, recorder.finished()) == ([], [])
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    for name in ("a", "b"):
        partitioner.add_unit(lambda _: 1, name=name)
    partitioner.execute({}, telemetry=[recorder])
    assert [type(event).__name__ for event in recorder.events] == [
        "RunStarted",
        "UnitStarted",
        "UnitFinished",
        "UnitStarted",
        "UnitFinished",
        "RunFinished",
    ]
    assert recorder.finished() == ["a", "b"]


# ---- contracts: who keeps them


@pytest.mark.parametrize(
    "mode",
    [
        *(pytest.param(mode.value, id=mode.value) for mode in ExecutionMode if mode.value not in {"custom", "process"}),
        pytest.param("process", marks=pytest.mark.slow),
    ],
)
def test_the_built_in_executors_keep_the_contract(mode):
    """Made anew for each of its runs."""
    check_executor(lambda: Plugins.installed().make("executors", mode, None))


@pytest.mark.parametrize("name", ["fifo", "priority"])
def test_the_built_in_strategies_keep_the_contract(name):
    """By name."""
    check_strategy(Plugins.installed().maker("strategies", name))


def test_the_built_in_cache_keeps_the_contract():
    """By name."""
    check_cache(Plugins.installed().maker("caches", "memory"))


@pytest.mark.parametrize("make", [pytest.param(Recorder, id="recorder")])
def test_an_observer_that_keeps_the_contract_passes(make):
    """Our own recorder."""
    check_observer(make)


# ---- contracts: who breaks them


class Falsifying:
    """A pool that changes what its jobs come to.

    Args:
        changes: Fields of an outcome with other values.
    """

    def __init__(self, **changes):
        self._changes = changes

    def submit(self, job):
        """Call the job here and now."""
        future = Future()
        future.set_result(attrs.evolve(job(), **self._changes))
        return future


class Leaving:
    """An executor that goes after the first unit."""

    def run(self, run):
        """Run one unit."""
        run.begin(None)
        worker = run.new_worker()
        number = run.take(worker)
        run.job_done(worker, number, run.job(worker, number)())


EXECUTORS = [
    pytest.param(lambda: Falsifying(value=0), "results differ", id="wrong_results"),
    pytest.param(lambda: Falsifying(error=None), "must be failed, not", id="forgives"),
]


def test_a_pool_that_changes_nothing_keeps_the_contract():
    """So what the others are told is about what they change."""
    check_executor(Falsifying)


def test_an_executor_that_leaves_early_is_named():
    """By the run itself, with what is still to be done."""
    with pytest.raises(PluginError, match="returned before the run was over"):
        check_executor(Leaving)


@pytest.mark.parametrize(("make", "rule"), EXECUTORS)
def test_an_executor_that_breaks_the_contract_is_told_which_rule(make, rule):
    """In words."""
    with pytest.raises(AssertionError, match=rule):
        check_executor(make)


class Drawn:
    """Orders at random, another way each time."""

    numbers = itertools.count()

    def order(self, plan):
        """Another order than before."""
        ids = [unit.id for unit in plan.nodes]
        shift = next(self.numbers) % max(1, len(ids))
        return ids[shift:] + ids[:shift]


def test_a_strategy_that_answers_differently_each_time_breaks_the_contract():
    """The same plan is to be ordered in one way."""
    with pytest.raises(AssertionError, match="ordered in two ways"):
        check_strategy(Drawn)


def test_a_strategy_that_loses_units_breaks_the_contract():
    """What a run would refuse, the contract refuses."""
    with pytest.raises(Exception, match="must name each unit once"):
        check_strategy(lambda: types.SimpleNamespace(order=lambda plan: [unit.id for unit in plan.nodes][1:]))


class Dictionary:
    """A correct cache, to break in one place."""

    def __init__(self):
        self.there, self.hits, self.misses = {}, 0, 0

    def get(self, key):
        """The value, or MISS."""
        value = self.there.get(key, MISS)
        if value is MISS:
            self.misses += 1
        else:
            self.hits += 1
        return value

    def put(self, key, value):
        """Keep it."""
        self.there[key] = value

    def delete(self, key):
        """Forget it."""
        self.there.pop(key, None)

    def stats(self):
        """Counts."""
        return {"entries": len(self.there), "hits": self.hits, "misses": self.misses}


class Forgetful(Dictionary):
    """Keeps no None."""

    def put(self, key, value):
        """Keep it unless it is None."""
        if value is not None:
            super().put(key, value)


class Inventive(Dictionary):
    """Never misses."""

    def get(self, key):
        """Something."""
        value = super().get(key)
        return None if value is MISS else value


class Stubborn(Dictionary):
    """Deletes nothing."""

    def delete(self, key):
        """Ignore it."""


class First(Dictionary):
    """Keeps the first value of a key."""

    def put(self, key, value):
        """Keep it if there is none."""
        self.there.setdefault(key, value)


class Idle(Dictionary):
    """Counts nothing."""

    def stats(self):
        """Nothing."""
        return {"entries": 0, "hits": 0, "misses": 0}


CACHES = [
    pytest.param(Forgetful, "'none' must give None", id="loses_none"),
    pytest.param(Inventive, "never put must give MISS", id="never_misses"),
    pytest.param(Stubborn, "deleted key must give MISS", id="deletes_nothing"),
    pytest.param(First, "'none' must give 'changed'", id="overwrites_nothing"),
    pytest.param(Idle, "2 entries, 4 hits and 2 misses expected", id="counts_nothing"),
]


def test_a_plain_correct_cache_keeps_the_contract():
    """So what the broken ones are told is about what they break."""
    check_cache(Dictionary)


@pytest.mark.parametrize(("make", "rule"), CACHES)
def test_a_cache_that_breaks_the_contract_is_told_which_rule(make, rule):
    """In words."""
    with pytest.raises(AssertionError, match=rule):
        check_cache(make)


def observing(**hooks):
    """Makes observers with these hooks."""
    return lambda: types.SimpleNamespace(**hooks)


def _divide(event):
    return 1 / len(event.plan)


def _read_error(event):
    if event.state.is_failure:
        return event.error.args[0].nothing
    return None


def _trust_in_failures(event):
    if event.state is UnitState.TIMEOUT:
        raise KeyError(event.state)


OBSERVERS = [
    pytest.param(observing(), "has no observe hook", id="hears_nothing"),
    pytest.param(observing(qp_unit_finish=print), "has 'qp_unit_finish'", id="misspelt"),
    pytest.param(observing(qp_run_started=_divide), "ZeroDivisionError", id="empty_run"),
    pytest.param(observing(qp_unit_finished=_read_error), "AttributeError", id="failed_unit"),
    pytest.param(observing(qp_unit_finished=_trust_in_failures), "KeyError", id="timed_out_unit"),
    pytest.param(observing(qp_unit_retrying=lambda: None), "TypeError", id="takes_no_event"),
]


@pytest.mark.parametrize(("make", "rule"), OBSERVERS)
def test_an_observer_that_breaks_the_contract_is_told_which_rule(make, rule):
    """In words, with the event."""
    with pytest.raises(AssertionError, match=rule):
        check_observer(make)


def falling_back(function):
    """A plugin with that hook."""
    return types.SimpleNamespace(qp_fallback=function)


def _changes(unit):
    unit.metadata["seen"] = True


def _reads_first_argument(error):
    return error.args[0] and None


FALLBACKS = [
    pytest.param(types.SimpleNamespace(), "no hook qp_fallback", id="no_hook"),
    pytest.param(falling_back(lambda unit, reason: None), "takes", id="unknown_argument"),
    pytest.param(falling_back(_reads_first_argument), "raised IndexError", id="raises"),
    pytest.param(falling_back(lambda: Substitute(0)), "answered Substitute", id="answers_always"),
    pytest.param(falling_back(lambda attempt: 3 if attempt > 1 else None), "answered 3", id="answers_nonsense"),
    pytest.param(falling_back(_changes), "changed the unit", id="changes_the_unit"),
]


@pytest.mark.parametrize(("plugin", "rule"), FALLBACKS)
def test_a_fallback_that_breaks_the_contract_is_told_which_rule(plugin, rule):
    """In words."""
    with pytest.raises(AssertionError, match=rule):
        check_fallback(plugin)


def test_a_fallback_that_keeps_the_contract_passes():
    """It answers only to units that ask for it."""
    check_fallback(
        falling_back(lambda unit: Substitute(unit.metadata["stand_in"]) if "stand_in" in unit.metadata else None)
    )
