"""Any graph, any misbehaviour, any mode, any strategy: the same as a plain loop in topological order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core.testing import FakeClock
from tests.properties.bodies import partitioner_of
from tests.properties.checks import check_run
from tests.properties.journal import Given, Journal, file_journal
from tests.properties.lanes import PROCESSES, STRATEGIES, every_lane
from tests.properties.oracle import Expected
from tests.strategies import examples, large_works, mappings, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")


@every_lane()
@given(work=works(), strategy=st.sampled_from(STRATEGIES), data=st.data())
def test_every_run_is_that_of_a_plain_loop(lane, work, strategy, data):
    """Each unit once, never before its dependencies; results, states, attempts, errors, skipped units as the oracle says."""
    journal, salt = Journal(), data.draw(st.integers(0, 9))
    given_to_units = Given(journal, salt)
    context = data.draw(st.one_of(mappings({"given": given_to_units}), st.just(given_to_units)))
    result = lane.run(partitioner_of(work, lane.kind), context, strategy=strategy)
    check_run(work, Expected(work, salt=salt), journal, result, bound=lane.bound)


@every_lane()
@examples(0.25)
@given(work=large_works(), strategy=st.sampled_from(STRATEGIES))
def test_large_graphs_too(lane, work, strategy):
    """The same for graphs of up to 150 units, where many are ready at once and many fail."""
    journal = Journal()
    result = lane.run(partitioner_of(work, lane.kind), {"given": Given(journal)}, strategy=strategy)
    check_run(work, Expected(work), journal, result, bound=lane.bound)


@every_lane()
@examples(0.5)
@given(work=works(), strategy=st.sampled_from(STRATEGIES))
def test_waits_between_attempts_change_nothing_but_the_time(lane, work, strategy):
    """The seed's waits, on a clock that jumps: the same attempts, counted by the units themselves."""
    journal, clock = Journal(), FakeClock()
    partitioner = partitioner_of(work, lane.kind, clock=clock, seed=1, retry=None)
    result = lane.run(partitioner, {"given": Given(journal)}, strategy=strategy)
    expected = Expected(work)
    check_run(work, expected, journal, result, bound=lane.bound)
    further = [attempt for calls in expected.calls.values() for attempt in range(1, calls)]
    assert sum(clock.jumps) <= sum(min(0.1 * 2**attempt, 5) for attempt in further) + 1e-6
    assert bool(clock.jumps) == bool(further)


@pytest.mark.slow
@examples(0.4)
@given(work=works(), strategy=st.sampled_from(STRATEGIES), kind=st.sampled_from(["function", "mixed"]))
def test_processes_run_the_same(work, strategy, kind):
    """The same in processes, where units append what they do to a file."""
    with file_journal() as journal:
        result = PROCESSES.run(partitioner_of(work, kind), {"given": Given(journal)}, strategy=strategy)
        check_run(work, Expected(work), journal, result, bound=PROCESSES.workers)
