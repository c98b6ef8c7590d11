"""Attempts that may or may not run out of time, at the very moment when they end: each unit is ended once, and rightly.

Time is a clock that stands still: a unit that is to run out of time lets it pass, and then ends at about the moment at which the
coordinator notices.
"""

import itertools
import threading
import time
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import QuantumPartitioner, UnitState, UnitTimeoutError
from qp_core.telemetry import UnitFinished, UnitStarted
from qp_core.testing import FakeClock, Recorder
from tests.properties.bodies import Fault, computed, partitioner_of, stand_in
from tests.properties.checks import numbers
from tests.properties.journal import Given, Journal
from tests.properties.lanes import STRATEGIES, Lane, every_lane
from tests.properties.oracle import Expected, graph_of
from tests.strategies import COMPUTED, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

LANES = [
    Lane(mode="sequential"),
    Lane(mode="thread", workers=1),
    Lane(mode="thread", workers=3),
    Lane(mode="thread", workers=3, kind="mixed"),
    Lane(mode="async", workers=3, kind="coroutine"),
    Lane(mode="async", workers=3),
    Lane(mode="async", kind="mixed"),
    Lane(mode="custom", pool=8, workers=3),
]

PATIENCE_S = 60  # only ever spent by a test that fails

LINGERS_S = (0.0, 0.0, 0.0007, 0.002)
"""Around the time that the coordinator takes to notice."""


@every_lane(*LANES)
@given(work=works().filter(len), strategy=st.sampled_from(STRATEGIES), data=st.data())
def test_an_attempt_that_ends_when_its_time_does_is_ended_once(lane, work, strategy, data):
    """Whichever comes first: a result, a failure or the limit. Retries, fallbacks and dependents follow from that alone."""
    clock, journal, recorder = FakeClock(), Journal(), Recorder()
    slow = data.draw(st.dictionaries(st.sampled_from(range(len(work))), st.sampled_from(LINGERS_S)), label="slow")

    def hook(number):
        if number in slow:
            clock.advance(2)
            time.sleep(slow[number])

    partitioner = partitioner_of(work, lane.kind, clock=clock)
    for unit in partitioner.units.values():
        unit.timeout = 1
    result = lane.run(partitioner, {"given": Given(journal, hook=hook)}, strategy=strategy, telemetry=[recorder])
    wait_for_abandoned(result)
    assert sum(result.report.counts.values()) == len(work)
    for number, record in enumerate(result.report.units.values()):
        unbegun = record.attempts - journal.calls()[number]
        assert unbegun == 0 or (unbegun > 0 and lane.kind != "function")  # a coroutine that never made its first step
        check_one(work, number, result, record.attempts)
    check_cone(work, result)
    finished = [event for event in recorder.events if isinstance(event, UnitFinished)]
    assert sorted(event.unit_id for event in finished) == sorted(work.ids)
    for event in finished:
        record = result.report.units[event.unit_id]
        assert (event.state, event.attempts) == (record.state, record.attempts)
        assert event.value == dict.get(result, event.unit_id)
        assert event.error is result.errors.get(event.unit_id)
    started = [event.unit_id for event in recorder.events if isinstance(event, UnitStarted)]
    assert Counter(started) == {
        unit_id: record.attempts for unit_id, record in result.report.units.items() if record.attempts
    }


def wait_for_abandoned(result):
    """Wait until what was given up has ended: a thread whose time was up before it had called its unit calls it all the same, some time later."""
    for thread in threading.enumerate():
        if thread.name.startswith(f"qp-{result.report.run_id[:8]}"):
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def check_one(work, number, result, attempts):
    """A unit's end follows from how often it was tried, how its last attempt ended, and what it may fall back on."""
    part, unit_id = work.parts[number], f"u{number}"
    record, error = result.report.units[unit_id], result.errors.get(unit_id)
    answers = part.fallback not in {None, "raises", "coroutine_raises"}
    assert attempts <= part.retries + 1
    assert error is None or isinstance(error, Fault | UnitTimeoutError)
    if record.state is UnitState.SKIPPED:
        assert (attempts, error) == (0, None)
        return
    assert all(f"u{need}" in result for need in part.needs)
    if error is None:
        assert record.state is UnitState.COMPLETED
        values = [result[f"u{need}"] for need in part.needs]
        assert result[unit_id] == (computed(number, 0, values) if part.returns == COMPUTED else part.returns)
        return
    assert attempts == part.retries + 1
    if answers:
        assert record.state is UnitState.COMPLETED
        assert record.used_fallback
        assert result[unit_id] == (None if part.fallback == "value" else stand_in(number))
    else:
        expected = UnitState.TIMEOUT if isinstance(error, UnitTimeoutError) else UnitState.FAILED
        assert record.state is expected


def check_cone(work, result):
    """What was skipped is what depends on what failed or ran out of time."""
    dag = graph_of(work)
    failed = numbers(result.failed)
    assert set(numbers(result.skipped)) == set().union(*(nx.descendants(dag, number) for number in failed))


@every_lane(*LANES)
@given(
    work=works().filter(len),
    moment=st.integers(1, 12),
    linger_s=st.sampled_from(LINGERS_S),
    strategy=st.sampled_from(STRATEGIES),
)
def test_a_deadline_that_passes_at_any_moment_ends_the_run_clean(lane, work, moment, linger_s, strategy):
    """While the n-th unit is called, the deadline passes: what runs is given up, what has not begun never begins."""
    clock, journal, recorder, called = FakeClock(), Journal(), Recorder(), itertools.count(1)

    def hook(number):
        if next(called) == moment:
            clock.advance(100)
            time.sleep(linger_s)

    partitioner = partitioner_of(work, lane.kind, clock=clock)
    result = lane.run(
        partitioner, {"given": Given(journal, hook=hook)}, strategy=strategy, telemetry=[recorder], deadline=50
    )
    calls = Counter(journal.entered())
    report, expected = result.report, Expected(work)
    assert sum(report.counts.values()) == len(work)
    stopped = {UnitState.TIMEOUT, UnitState.CANCELED} & set(report.counts)
    assert report.stopped == "deadline" if stopped else report.stopped in {None, "deadline"}
    assert report.counts.get(UnitState.TIMEOUT, 0) <= (lane.bound or len(work))
    for number, record in enumerate(report.units.values()):
        assert record.attempts <= max(expected.calls[number], 1)
        check_stopped_one(lane, work, number, result, record, calls[number])
    finished = [event for event in recorder.events if isinstance(event, UnitFinished)]
    assert sorted(event.unit_id for event in finished) == sorted(work.ids)
    assert {event.unit_id: event.state for event in finished} == {
        unit_id: record.state for unit_id, record in report.units.items()
    }


def check_stopped_one(lane, work, number, result, record, calls):
    """A unit's end in a run that its deadline stopped."""
    part, unit_id = work.parts[number], f"u{number}"
    # An attempt that was given up just after it had begun may call its function later, in a thread that nobody waits for, or never.
    given_up = record.state is UnitState.TIMEOUT or lane.kind != "function"
    assert record.attempts == calls or (record.attempts > calls and given_up)
    assert (unit_id in result) == (record.state is UnitState.COMPLETED)
    if record.attempts:
        assert all(f"u{need}" in result for need in part.needs)
    if record.state is UnitState.COMPLETED:
        assert record.attempts
        values = [result[f"u{need}"] for need in part.needs]
        value = computed(number, 0, values) if part.returns == COMPUTED else part.returns
        if record.used_fallback:
            value = None if part.fallback == "value" else stand_in(number)
        assert result[unit_id] == value
    elif record.state is UnitState.TIMEOUT:
        assert isinstance(result.errors[unit_id], UnitTimeoutError)
        assert result.errors[unit_id].limit_s == 50
    elif record.state is UnitState.SKIPPED:
        assert not record.attempts
        assert record.cause in result.failed


@every_lane(*LANES)
def test_the_time_of_an_attempt_does_not_run_out_while_its_fallback_is_asked(lane):
    """The attempt failed in time; its fallback takes longer than that time, and is asked once."""
    clock, asked = FakeClock(), []

    def fails(context):
        raise LookupError

    def answers(context, error):
        asked.append(error)
        clock.advance(10)
        time.sleep(0.02)  # many times as long as the coordinator takes to notice
        return "instead"

    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(fails, name="slow", timeout=1, fallback=answers)
    result = lane.run(partitioner, {})
    assert result == {"slow": "instead"}
    assert asked == [result.errors["slow"]]
    assert type(asked[0]) is LookupError
    assert not result.report.abandoned
