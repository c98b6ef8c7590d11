"""Never more units at once than were allowed, and with enough work that many; runs side by side do not mix."""

import asyncio
import threading
from collections import Counter

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import QuantumPartitioner, UnitState
from tests.properties.bodies import partitioner_of
from tests.properties.checks import check_run
from tests.properties.journal import Given, Journal
from tests.properties.lanes import LANES, STRATEGIES, Lane, every_lane, one_per_mode
from tests.properties.oracle import Expected
from tests.strategies import examples, of_graph, stencil, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

PATIENCE_S = 30  # how long those who meet wait for each other; only ever spent by a test that fails


def meeting(size, kind):
    """A place that lets nobody go on before `size` are there, as the function of a unit.

    Returns:
        A function or coroutine function.
    """
    if kind == "coroutine":
        meet = asyncio.Barrier(size)

        async def wait(context):
            number = int(context["entered"](context.unit_id))
            await asyncio.wait_for(meet.wait(), PATIENCE_S)
            context["left"](number)

        return wait
    gate = threading.Barrier(size, timeout=PATIENCE_S)

    def wait_here(context):
        number = int(context["entered"](context.unit_id))
        gate.wait()
        context["left"](number)

    return wait_here


MEETING_LANES = one_per_mode(workers=None)


@every_lane(*MEETING_LANES)
@examples(0.5)
@given(
    workers=st.integers(1, 6),
    groups=st.integers(1, 3),
    before=st.integers(0, 2),
    strategy=st.sampled_from(STRATEGIES),
)
def test_with_enough_work_there_are_as_many_at_once_as_allowed_and_never_more(lane, workers, groups, before, strategy):
    """A multiple of `workers` units, each of which waits until `workers` are there, after a chain.

    before_0 -> before_1 -> meeting_0, meeting_1, ..., meeting_n
    """
    journal, partitioner = Journal(), QuantumPartitioner()
    function = meeting(workers, lane.kind)
    needs = []
    for number in range(before):
        partitioner.add_unit(lambda context: None, needs, f"before_{number}")
        needs = [f"before_{number}"]
    for number in range(workers * groups):
        partitioner.add_unit(function, needs, f"meeting_{number}", priority=number % 3)

    def entered(unit_id):
        number = int(unit_id.partition("_")[2])
        journal.enter(number)
        return number

    lane = attrs.evolve(lane, workers=workers, pool=workers + 2 if lane.pool is None else 0)
    result = lane.run(partitioner, {"entered": entered, "left": journal.leave}, strategy=strategy)
    result.raise_for_failures()
    assert journal.most_at_once() == workers
    assert journal.calls() == Counter(range(workers * groups))


@given(pool=st.integers(1, 4), workers=st.integers(1, 6))
@examples(0.5)
def test_a_pool_of_the_callers_is_filled_but_not_flooded(pool, workers):
    """With a pool of its own size, the smaller of the two numbers is how many are at once."""
    journal, partitioner, at_once = Journal(), QuantumPartitioner(), min(pool, workers)
    function = meeting(at_once, "function")
    for number in range(at_once * 3):
        partitioner.add_unit(function, name=f"meeting_{number}")

    def entered(unit_id):
        number = int(unit_id.partition("_")[2])
        journal.enter(number)
        return number

    lane = Lane(mode="custom", workers=workers, pool=pool)
    lane.run(partitioner, {"entered": entered, "left": journal.leave}).raise_for_failures()
    assert journal.most_at_once() == at_once


RETURNING_LANES = [lane for lane in LANES if lane.kind != "coroutine" and not lane.door.endswith("stream")]


@examples(2)
@given(data=st.data(), work=works(), kind=st.sampled_from(["function", "mixed"]))
def test_executions_of_one_partitioner_at_the_same_time_do_not_mix(data, work, kind):
    """Three threads execute the same units in any modes, each with a context of its own: each gets its own run."""
    lanes = data.draw(st.lists(st.sampled_from(RETURNING_LANES), min_size=2, max_size=3))
    partitioner = partitioner_of(work, kind)
    start = threading.Barrier(len(lanes), timeout=PATIENCE_S)
    contexts = [Given(Journal(), salt, faulty=salt % 2 == 0) for salt in range(len(lanes))]
    results = [None] * len(lanes)

    def execute(place):
        start.wait()
        results[place] = lanes[place].run(partitioner, contexts[place])

    threads = [threading.Thread(target=execute, args=(place,), daemon=True) for place in range(len(lanes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    for lane, context, result in zip(lanes, contexts, results, strict=True):
        expected = Expected(work, salt=context.salt, faulty=context.faulty)
        check_run(work, expected, context.journal, result, bound=lane.bound)
    shown = {unit_id: (unit.state, unit.result) for unit_id, unit in partitioner.units.items()}
    assert shown in [
        {unit_id: (record.state, dict.get(result, unit_id)) for unit_id, record in result.report.units.items()}
        for result in results
    ]


@every_lane()
@examples(0.5)
@given(work=works(), strategy=st.sampled_from(STRATEGIES))
def test_executing_twice_leaves_nothing_from_the_first_time(lane, work, strategy):
    """First with faults, then without, then with: results, states, errors and attempts are those of the last run alone."""
    partitioner = partitioner_of(work, lane.kind)
    for salt, faulty in enumerate([True, False, True]):
        journal, expected = Journal(), Expected(work, salt=salt, faulty=faulty)
        result = lane.run(partitioner, {"given": Given(journal, salt, faulty)}, strategy=strategy)
        check_run(work, expected, journal, result, bound=lane.bound)
        check_shown(work, expected, partitioner, result)


def check_shown(work, expected, partitioner, result):
    """The seed's attributes on units and partitioner show this run."""
    assert partitioner.last_result is result
    for number, unit_id in enumerate(work.ids):
        unit = partitioner.units[unit_id]
        assert unit.state is expected.states[number]
        assert unit.result == expected.values.get(number)
        assert unit.error is result.errors.get(unit_id)
        assert unit.attempt == expected.calls[number]
        ran = bool(expected.calls[number])
        assert (unit.start_time is not None, unit.end_time is not None) == (ran, ran)
        assert (unit.execution_time is not None) == ran
    completed = {f"u{number}" for number in expected.numbers(UnitState.COMPLETED)}
    assert partitioner.completed_units == completed == set(partitioner.get_partial_results())
    failed = {f"u{number}" for number in expected.numbers(UnitState.FAILED)}
    assert partitioner.failed_units == failed == set(partitioner.get_failed_units())


SHAPES = {
    "wide": of_graph([()] * 300),
    "stencil": of_graph(stencil(12, 25)),
    "fans": of_graph([(), *[(0,)] * 100, tuple(range(1, 101)), *[(101,)] * 100, tuple(range(102, 202))]),
    "failing stencil": attrs.evolve(
        of_graph(stencil(12, 25)),
        parts=tuple(
            attrs.evolve(part, fails=number % 7 == 3, retries=number % 2, priority=number % 5)
            for number, part in enumerate(of_graph(stencil(12, 25)).parts)
        ),
    ),
}


@pytest.mark.usefixtures("nervous_threads")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("shape", SHAPES)
@every_lane(*one_per_mode(workers=8), Lane(mode="thread", workers=2), Lane(mode="thread", workers=5, kind="mixed"))
def test_nothing_gets_lost_when_threads_switch_as_often_as_they_can(lane, shape, strategy):
    """Wide graphs and stencils, where many threads settle units at the same time."""
    work, journal = SHAPES[shape], Journal()
    result = lane.run(partitioner_of(work, lane.kind), {"given": Given(journal)}, strategy=strategy)
    check_run(work, Expected(work), journal, result, bound=lane.bound)
