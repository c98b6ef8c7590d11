"""One unit at a time: the same order every time, and exactly the order that the strategy promises."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core.testing import FakeClock
from tests.properties.bodies import partitioner_of
from tests.properties.journal import Given, Journal
from tests.properties.lanes import STRATEGIES, Lane, every_lane
from tests.properties.oracle import Expected
from tests.strategies import ALWAYS, examples, large_works, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

ONE_AT_A_TIME = [
    Lane(mode="sequential"),
    Lane(mode="sequential", kind="mixed"),
    Lane(mode="thread", workers=1),
    Lane(mode="async", workers=1, kind="coroutine"),
    Lane(mode="async", workers=1),
    Lane(mode="async", workers=1, kind="mixed", door="execute_async"),
    Lane(mode="custom", pool=1),
    Lane(mode="custom", workers=1, pool=3, kind="mixed"),
]


def order_of(lane, work, strategy, **options):
    """Run.

    Returns:
        The units in the order in which they were called.
    """
    journal = Journal()
    lane.run(partitioner_of(work, lane.kind, **options), {"given": Given(journal)}, strategy=strategy)
    return journal.entered()


def by_priority(work):
    """Among the ready units always the one of the highest priority, of equals the one added first.

    Returns:
        Numbers.
    """
    called, ended, failed, left = [], set(), set(), set(range(len(work)))
    while ready := [number for number in left if ended.issuperset(work.parts[number].needs)]:
        number = min(ready, key=lambda number: (-work.parts[number].priority, number))
        left.remove(number)
        called.append(number)
        (failed if number in _failing(work) else ended).add(number)
    return called


def by_arrival(work):
    """Who has ended goes on with the first unit that it has made ready; without one, with the unit that has been ready for longest.

    Returns:
        Numbers.
    """
    called, ended, following = [], set(), None
    waiting = deque(number for number, part in enumerate(work.parts) if not part.needs)
    while waiting or following is not None:
        number = waiting.popleft() if following is None else following
        called.append(number)
        made_ready = []
        if number not in _failing(work):
            ended.add(number)
            made_ready = [
                child for child, part in enumerate(work.parts) if number in part.needs and ended.issuperset(part.needs)
            ]
        following = made_ready[0] if made_ready else None
        waiting.extend(made_ready[1:])
    return called


def _failing(work):
    return {number for number, part in enumerate(work.parts) if part.fails == ALWAYS and part.fallback is None}


def without_retries(work):
    """The same work, where every failure is final and no fallback helps.

    Returns:
        A work.
    """
    return type(work)(
        tuple(
            type(part)(needs=part.needs, priority=part.priority, fails=ALWAYS if part.fails else 0)
            for part in work.parts
        )
    )


@every_lane(*ONE_AT_A_TIME)
@given(work=st.one_of(works(), large_works()).map(without_retries))
def test_the_most_urgent_of_the_ready_units_goes_first(lane, work):
    """Under `priority`, with one worker, against a simulation that looks at all units each time."""
    assert order_of(lane, work, "priority") == by_priority(work)


@every_lane(*ONE_AT_A_TIME)
@given(work=st.one_of(works(), large_works()).map(without_retries))
def test_units_go_in_the_order_of_arrival(lane, work):
    """Under `fifo`, with one worker: what a unit has made ready goes on at once, whatever else has waited for longer."""
    assert order_of(lane, work, "fifo") == by_arrival(work)


@examples(2)
@given(work=works(), strategy=st.sampled_from(STRATEGIES), kind=st.sampled_from(["function", "mixed"]))
def test_sequential_runs_repeat_themselves_exactly(work, strategy, kind):
    """Failures, retries after waits and fallbacks included: each time the same calls in the same order."""
    lane = Lane(mode="sequential", kind=kind)
    first, second = (order_of(lane, work, strategy, clock=FakeClock(), seed=3, retry=None) for _ in range(2))
    assert first == second
    assert len(first) == sum(Expected(work).calls.values())
