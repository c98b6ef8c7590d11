"""A run that is stopped at any moment, from anywhere: whole states, true results, nothing that goes on."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import attrs
import networkx as nx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qp_core import UnitState
from qp_core.executor import workers_for
from qp_core.telemetry import UnitFinished
from qp_core.testing import Recorder
from tests.properties.bodies import computed, partitioner_of, stand_in
from tests.properties.checks import check_order, numbers
from tests.properties.journal import Given, Journal
from tests.properties.lanes import STRATEGIES, Lane, every_lane
from tests.properties.oracle import Expected, graph_of
from tests.strategies import ALWAYS, COMPUTED, examples, large_works, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

LANES = [
    Lane(mode="sequential"),
    Lane(mode="thread", workers=1),
    Lane(mode="thread", workers=3),
    Lane(mode="thread", workers=3, kind="mixed"),
    Lane(mode="async", workers=3, kind="coroutine"),
    Lane(mode="async", workers=3),
    Lane(mode="async", workers=2, kind="mixed"),
    Lane(mode="custom", pool=3),
]

GRACE_S = 60
"""How long units that run may go on when nobody waits for their run any more; none takes it, but one second a busy machine may take away."""

SOME_WORK = st.one_of(works(), large_works()).filter(len)


class Tapped:
    """An executor like another one, of whose run a test can get hold."""

    def __init__(self, inner):
        self._inner = inner
        self.caught = None

    def workers(self, asked, plan):
        """As many as the other one."""
        return workers_for(self._inner, asked, plan)

    def run(self, run):
        """Let the other one do it."""
        self.caught = run
        self._inner.run(run)


class AtThe:
    """Does something when it is called for the n-th time."""

    def __init__(self, count, action):
        self._lock = threading.Lock()
        self._left = count
        self._action = action

    def __call__(self, *_):
        """Count."""
        with self._lock:
            self._left -= 1
            now = self._left == 0
        if now:
            self._action()


def tapped_run(plugins, lane, partitioner, context, tell_run, **options):
    """Execute in a lane, but tell somebody of the run first.

    Returns:
        The result.
    """
    with ThreadPoolExecutor(lane.pool or 1) as pool:
        tapped = Tapped(plugins.make("executors", lane.mode, pool if lane.pool else None))
        tell_run(tapped)
        return partitioner.execute(context, max_workers=lane.workers, custom_executor=tapped, **options)


@every_lane(*LANES)
@examples(2)
@given(work=SOME_WORK, moment=st.integers(1, 30), strategy=st.sampled_from(STRATEGIES))
def test_a_run_canceled_by_one_of_its_units_ends_clean(plugins, lane, work, moment, strategy):
    """The n-th unit that is called cancels the run: what has not begun never begins."""
    journal, recorder, returned = Journal(), Recorder(), []
    taps = []

    def cancel():
        taps[0].caught.cancel("enough")
        returned.append(len(journal.steps()))

    result = tapped_run(
        plugins,
        lane,
        partitioner_of(work, lane.kind),
        {"given": Given(journal, hook=AtThe(moment, cancel))},
        taps.append,
        strategy=strategy,
        telemetry=[recorder],
    )
    check_stopped(lane, work, journal, result, recorder)
    if returned:
        late = [number for number, entered in journal.steps()[returned[0] :] if entered]
        assert len(late) <= lane.bound - 1  # those that other workers had taken already
        # A run whose last unit this was had nothing left to cancel.
        assert result.report.stopped in ({"enough"} if UnitState.CANCELED in result.report.counts else {"enough", None})


@every_lane(*LANES)
@given(work=SOME_WORK, moment=st.integers(1, 30), strategy=st.sampled_from(STRATEGIES))
def test_a_run_canceled_by_an_observer_ends_clean(plugins, lane, work, moment, strategy):
    """The same at the n-th event, in the middle of settling a unit."""
    journal, recorder, taps = Journal(), Recorder(), []

    class Cancels:
        """Cancels at the n-th event."""

        def __init__(self):
            self.qp_unit_started = self.qp_unit_retrying = self.qp_unit_finished = AtThe(moment, self._cancel)

        @staticmethod
        def _cancel():
            taps[0].caught.cancel("enough")

    result = tapped_run(
        plugins,
        lane,
        partitioner_of(work, lane.kind),
        {"given": Given(journal)},
        taps.append,
        strategy=strategy,
        telemetry=[Cancels(), recorder],
    )
    check_stopped(lane, work, journal, result, recorder)


@every_lane(*LANES)
@given(work=SOME_WORK, moment=st.integers(1, 30), strategy=st.sampled_from(STRATEGIES))
def test_a_run_canceled_from_another_thread_ends_clean(plugins, lane, work, moment, strategy):
    """The same at any moment after the n-th call, while everything else goes on."""
    journal, recorder, taps, threads = Journal(), Recorder(), [], []

    def cancel_beside():
        thread = threading.Thread(target=lambda: taps[0].caught.cancel("enough"), daemon=True)
        threads.append(thread)
        thread.start()

    result = tapped_run(
        plugins,
        lane,
        partitioner_of(work, lane.kind),
        {"given": Given(journal, hook=AtThe(moment, cancel_beside))},
        taps.append,
        strategy=strategy,
        telemetry=[recorder],
    )
    for thread in threads:
        thread.join()
    check_stopped(lane, work, journal, result, recorder)


@every_lane(*LANES)
@given(work=SOME_WORK, strategy=st.sampled_from(STRATEGIES))
def test_fail_fast_stops_at_the_first_failure(lane, work, strategy):
    """A unit that fails for good cancels what has not begun; without such a unit nothing is canceled."""
    journal, recorder = Journal(), Recorder()
    result = lane.run(
        partitioner_of(work, lane.kind),
        {"given": Given(journal)},
        strategy=strategy,
        fail_fast=True,
        telemetry=[recorder],
    )
    check_stopped(lane, work, journal, result, recorder)
    failed = result.report.in_state(UnitState.FAILED)
    assert bool(failed) == (UnitState.FAILED in Expected(work).states.values())
    if not failed:
        assert result.ok
        assert result.report.stopped is None
    elif lane.bound == 1:
        assert len(failed) == 1
        assert journal.entered()[-1] == numbers(failed)[0]


@every_lane(*(attrs.evolve(lane, pool=0) for lane in LANES if lane.mode != "custom"))
@given(work=SOME_WORK, moment=st.integers(1, 10))
def test_leaving_a_stream_ends_its_run(lane, work, moment):
    """After n units have come out of it, nothing more begins, and the partitioner has the partial results."""
    assume(moment < len(work))
    journal, recorder = Journal(), Recorder()
    partitioner = partitioner_of(work, lane.kind)
    stream = partitioner.stream(
        {"given": Given(journal)},
        execution_mode=lane.mode,
        max_workers=lane.workers,
        telemetry=[recorder],
        grace=GRACE_S,
    )
    for _ in range(moment):
        next(stream)
    stream.close()
    check_stopped(lane, work, journal, partitioner.last_result, recorder)
    assert partitioner.get_partial_results() == dict(partitioner.last_result)


@every_lane(*(lane for lane in LANES if lane.mode != "custom"))
@given(work=SOME_WORK, moment=st.integers(1, 10))
def test_canceling_who_awaits_a_run_ends_the_run(lane, work, moment):
    """`execute_async` raises CancelledError when everything has come to rest, not before."""
    journal, recorder = Journal(), Recorder()
    partitioner = partitioner_of(work, lane.kind)

    async def main():
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        stop = AtThe(moment, lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            await partitioner.execute_async(
                {"given": Given(journal, hook=stop)},
                execution_mode=lane.mode,
                max_workers=lane.workers,
                telemetry=[recorder],
                grace=GRACE_S,
            )
            await asyncio.sleep(0)  # the cancellation came too late for the run
        except asyncio.CancelledError:
            return len(journal.steps())
        return len(journal.steps())

    steps = asyncio.run(main())
    assert len(journal.steps()) == steps
    check_stopped(lane, work, journal, partitioner.last_result, recorder)


def check_stopped(lane, work, journal, result, recorder):
    """What must hold however a run ended."""
    check_order(work, journal)
    records = result.report.units
    assert list(records) == work.ids
    assert sum(result.report.counts.values()) == len(work)
    assert set(result.report.counts) <= {
        UnitState.COMPLETED,
        UnitState.FAILED,
        UnitState.SKIPPED,
        UnitState.CANCELED,
    }
    assert list(result) == list(result.report.in_state(UnitState.COMPLETED))
    calls, expected = journal.calls(), Expected(work)
    for number, record in enumerate(records.values()):
        # A coroutine that was canceled before its first step has begun as far as the engine can tell.
        unbegun = (
            record.state is UnitState.CANCELED and record.attempts == calls[number] + 1 and lane.kind != "function"
        )
        assert record.attempts == calls[number] or unbegun
        assert record.attempts <= max(expected.calls[number], 1)
        check_one(work, number, record, result, calls)
    finished = Counter(event.unit_id for event in recorder.events if isinstance(event, UnitFinished))
    assert finished == Counter(work.ids)
    assert {event.unit_id: event.state for event in recorder.events if isinstance(event, UnitFinished)} == {
        unit_id: record.state for unit_id, record in records.items()
    }


def check_one(work, number, record, result, calls):
    """What must hold of a unit, given how it ended."""
    part, unit_id = work.parts[number], f"u{number}"
    ended_well = all(result.report.units[f"u{need}"].state is UnitState.COMPLETED for need in part.needs)
    if calls[number]:
        assert ended_well
    if record.state is UnitState.COMPLETED:
        assert ended_well
        assert calls[number] > 0
        value = part.returns
        if record.used_fallback:
            value = None if part.fallback == "value" else stand_in(number)
        elif value == COMPUTED:
            value = computed(number, 0, [result[f"u{need}"] for need in part.needs])
        assert result[unit_id] == value
    elif record.state is UnitState.FAILED:
        assert calls[number] > 0
        assert part.fails >= min(calls[number], ALWAYS)
        assert unit_id in result.failed
    elif record.state is UnitState.SKIPPED:
        assert calls[number] == 0
        assert int(record.cause[1:]) in nx.ancestors(graph_of(work), number)
        assert result.report.units[record.cause].state is UnitState.FAILED
