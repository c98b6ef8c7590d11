"""A cache saves calls and changes nothing else."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import CachingQuantumPartitioner
from tests.properties.bodies import AT_ONCE, body_of, fallback_of
from tests.properties.checks import check_order, check_states, check_values
from tests.properties.journal import Given, Journal
from tests.properties.lanes import Lane, every_lane
from tests.properties.oracle import Expected
from tests.strategies import works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

LANES = [
    Lane(mode="sequential"),
    Lane(mode="thread", workers=3, kind="mixed"),
    Lane(mode="async", workers=3, kind="mixed"),
    Lane(mode="async", kind="coroutine"),
    Lane(mode="custom", pool=2),
]


@every_lane(*LANES)
@given(work=works(), salts=st.lists(st.integers(0, 1), min_size=2, max_size=4), data=st.data())
def test_what_a_unit_returned_for_the_same_input_is_found_again(lane, work, salts, data):
    """Several runs, with the same and with other input: only what was never computed for that input, may not be kept, or failed, is called.

    Results that are None or falsy are found too; what a fallback said is not kept.
    """
    kept = data.draw(st.sets(st.sampled_from(range(len(work)))) if len(work) else st.just(set()))
    partitioner = CachingQuantumPartitioner()
    for number, part in enumerate(work.parts):
        unit = partitioner.add_unit(
            body_of(lane.kind, number, part),
            [f"u{need}" for need in part.needs],
            f"u{number}",
            retries=part.retries,
            retry=AT_ONCE,
            **fallback_of(number, part.fallback),
        )
        if number in kept:
            unit.metadata |= {"cacheable": True, "cache_keys": ["salt"]}
    seen = set()
    for salt in salts:
        journal, expected = Journal(), Expected(work, salt=salt)
        result = lane.run(partitioner, {"given": Given(journal, salt), "salt": salt})
        cached = {number for number in kept if (number, salt) in seen}
        check_order(work, journal)
        check_states(work, expected, result)
        check_values(expected, result)
        assert journal.calls() == Counter({
            number: calls for number, calls in expected.calls.items() if calls and number not in cached
        })
        for number, unit_id in enumerate(work.ids):
            record = result.report.units[unit_id]
            assert record.cached == (number in cached)
            assert record.attempts == (0 if number in cached else expected.calls[number])
        seen |= {(number, salt) for number in expected.values if number not in expected.last_fault}
