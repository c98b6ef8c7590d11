"""What observers are told: everything once, in an order that makes sense, whatever one of them does."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import UnitState
from qp_core.telemetry import RunFinished, RunStarted, UnitFinished, UnitRetrying, UnitStarted
from qp_core.testing import Recorder
from tests.properties.bodies import partitioner_of
from tests.properties.checks import check_run
from tests.properties.journal import Given, Journal, file_journal
from tests.properties.lanes import LANES, PROCESSES, STRATEGIES, every_lane
from tests.properties.oracle import Expected
from tests.strategies import examples, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")


def told(events, kind):
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


@every_lane()
@given(work=works(), strategy=st.sampled_from(STRATEGIES), data=st.data())
def test_observers_hear_everything_once_and_in_order(lane, work, strategy, data):
    """One finish a unit, as the report has it; starts and retries as counted by the units; a finish before any dependent's start."""
    known = dict.fromkeys(data.draw(st.sets(st.sampled_from(range(len(work)))) if len(work) else st.just(())), -7)
    recorder, journal = Recorder(), Journal()
    result = lane.run(
        partitioner_of(work, lane.kind),
        {"given": Given(journal)},
        strategy=strategy,
        telemetry=[recorder],
        known={f"u{number}": value for number, value in known.items()},
    )
    check_events(work, Expected(work, known=known), recorder.events, result)
    assert journal.calls() == Counter(int(event.unit_id[1:]) for event in told(recorder.events, UnitStarted))


@pytest.mark.slow
@examples(0.2)
@given(work=works())
def test_observers_hear_of_units_in_processes_too(work):
    """The same, told in the coordinating process."""
    recorder = Recorder()
    with file_journal() as journal:
        result = PROCESSES.run(partitioner_of(work), {"given": Given(journal)}, telemetry=[recorder])
    check_events(work, Expected(work), recorder.events, result)


def check_events(work, expected, events, result):
    """All that must hold of the events of a run that nobody stopped."""
    assert len({event.run_id for event in events}) == 1
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert len(told(events, RunStarted)) == len(told(events, RunFinished)) == 1
    assert events[-1].report is result.report
    finished = {event.unit_id: (place, event) for place, event in enumerate(events) if isinstance(event, UnitFinished)}
    assert len(told(events, UnitFinished)) == len(finished) == len(work)
    for number, unit_id in enumerate(work.ids):
        own = [event for event in events if getattr(event, "unit_id", None) == unit_id]
        calls = expected.calls[number]
        kinds = [UnitStarted, UnitRetrying] * (calls - 1) + [UnitStarted] * bool(calls)
        assert [type(event) for event in own] == [*kinds, UnitFinished]
        assert [event.attempt for event in own[:-1]] == [1 + place // 2 for place in range(len(kinds))]
        check_finish(own[-1], expected, number, result)
        starts = [
            place for place, event in enumerate(events) if isinstance(event, UnitStarted) and event.unit_id == unit_id
        ]
        for need in work.parts[number].needs:
            assert not starts or finished[f"u{need}"][0] < starts[0]


def check_finish(event, expected, number, result):
    """A unit's end, as the report and the oracle have it."""
    record = result.report.units[event.unit_id]
    assert event.state is record.state is expected.states[number]
    assert event.value == expected.values.get(number)
    assert event.error is result.errors.get(event.unit_id)
    assert event.attempts == record.attempts == expected.calls[number]
    assert (event.cause, event.used_fallback, event.cached) == (record.cause, record.used_fallback, False)
    assert (event.started is None) == (record.started_s is None)
    assert event.started is None or event.started <= event.ended


@every_lane(*(lane for lane in LANES if lane.door == "execute" and not lane.pool))
@examples(0.5)
@given(work=works(), strategy=st.sampled_from(STRATEGIES))
def test_a_stream_yields_each_unit_once_as_it_ends(lane, work, strategy):
    """Its state, value and error; dependencies before what ran after them, a failure before what it skipped. The same on an event loop."""
    for asynchronous in (False, True):
        partitioner, expected = partitioner_of(work, lane.kind), Expected(work)
        options = {"execution_mode": lane.mode, "max_workers": lane.workers, "strategy": strategy}
        context = {"given": Given(Journal())}
        if asynchronous:
            ends = asyncio.run(collected(partitioner.astream(context, **options)))
        else:
            ends = list(partitioner.stream(context, **options))
        place = {unit_id: place for place, (unit_id, _) in enumerate(ends)}
        assert len(ends) == len(place) == len(work)
        for unit_id, end in ends:
            assert end.unit_id == unit_id
            check_finish(end, expected, int(unit_id[1:]), partitioner.last_result)
        for number, part in enumerate(work.parts):
            record = partitioner.last_result.report.units[f"u{number}"]
            before = [record.cause] if record.cause else [f"u{need}" for need in part.needs]
            assert all(place[unit_id] < place[f"u{number}"] for unit_id in before)


async def collected(stream):
    """All that an asynchronous stream yields."""
    return [pair async for pair in stream]


@every_lane()
@examples(0.5)
@given(work=works())
def test_callbacks_hear_of_every_attempt_result_and_failure(lane, work):
    """`on_unit_start` once an attempt, `on_unit_complete` once a result, `on_unit_error` once a failure."""
    partitioner, expected, heard = partitioner_of(work, lane.kind), Expected(work), []
    partitioner.on_unit_start = lambda unit_id: heard.append(("start", unit_id))
    partitioner.on_unit_complete = lambda unit_id, value: heard.append(("complete", unit_id, value))
    partitioner.on_unit_error = lambda unit_id, error: heard.append(("error", unit_id, error))
    result = lane.run(partitioner, {"given": Given(Journal())})
    starts = Counter(int(event[1][1:]) for event in heard if event[0] == "start")
    assert starts == Counter({number: calls for number, calls in expected.calls.items() if calls})
    assert {
        int(unit_id[1:]): value for kind, unit_id, *rest in heard if kind == "complete" for value in rest
    } == expected.values
    errors = {unit_id: error for kind, unit_id, *rest in heard if kind == "error" for error in rest}
    assert errors == result.failed
    assert len(heard) == sum(starts.values()) + len(expected.values) + len(errors)


class Breaks:
    """An observer that raises at the n-th event, and keeps count."""

    def __init__(self, after):
        self.left = after
        self.heard = 0

    def _hear(self, event):
        self.heard += 1
        if self.heard > self.left:
            msg = "this observer is broken"
            raise RuntimeError(msg)

    qp_run_started = qp_unit_started = qp_unit_retrying = qp_unit_finished = qp_run_finished = _hear


@every_lane()
@examples(0.5)
@given(work=works(), after=st.integers(0, 10))
def test_an_observer_that_raises_hurts_neither_the_run_nor_the_others(lane, work, after):
    """It is told nothing more; the run and the observers before and after it go on as if nothing had happened."""
    before, breaks, behind, journal = Recorder(), Breaks(after), Recorder(), Journal()
    result = lane.run(partitioner_of(work, lane.kind), {"given": Given(journal)}, telemetry=[before, breaks, behind])
    check_run(work, Expected(work), journal, result, bound=lane.bound)
    assert breaks.heard == min(after + 1, len(before.events))
    assert before.events == behind.events
    assert len(told(behind.events, UnitFinished)) == len(work)
    assert {event.state for event in told(behind.events, UnitFinished)} <= {
        UnitState.COMPLETED,
        UnitState.FAILED,
        UnitState.SKIPPED,
    }
