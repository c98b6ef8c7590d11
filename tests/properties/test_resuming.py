"""The TaskMap layer: what is run again is what has to be, and nothing else."""

import contextlib
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import TaskError, TaskMap
from tests.properties.bodies import Body
from tests.properties.checks import numbers
from tests.properties.journal import Given, Journal
from tests.properties.oracle import Expected, digraph
from tests.strategies import ALWAYS, Part, Work, examples, graphs, shuffled

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

MODES = ("sequential", "thread", "async")


def run(tasks, mode, *, faulty):
    """Run, and let failures pass.

    Returns:
        The units that were called.
    """
    journal = Journal()
    with contextlib.suppress(*[TaskError] * faulty):
        tasks.run({"given": Given(journal, faulty=faulty)}, execution_mode=mode)
    return journal.calls()


@examples(3)
@given(graph=graphs(), mode=st.sampled_from(MODES), data=st.data())
def test_resetting_what_failed_runs_that_and_its_dependents(graph, mode, data):
    """A run with failures, one without after a reset, then any tasks reset; the results are those of a run that never failed."""
    needs = data.draw(shuffled(graph))
    some = st.sets(st.sampled_from(range(len(needs)))) if needs else st.just(set())
    bad, again = data.draw(some, label="bad"), data.draw(some, label="again")
    work = Work(tuple(Part(needs=found, fails=ALWAYS * (number in bad)) for number, found in enumerate(needs)))
    tasks = TaskMap({
        f"u{number}": (Body(number, part), [f"u{need}" for need in part.needs])
        for number, part in enumerate(work.parts)
    })
    dag, broken, whole = digraph(needs), Expected(work), Expected(work, faulty=False)
    assert run(tasks, mode, faulty=True) == Counter({number: calls for number, calls in broken.calls.items() if calls})
    assert tasks.results == {f"u{number}": value for number, value in broken.values.items()}
    failed = set(broken.last_fault)
    cone = failed.union(*(nx.descendants(dag, number) for number in failed))
    assert numbers(tasks.reset_failed_tasks()) == sorted(cone)
    assert tasks.done == {f"u{number}" for number in range(len(needs)) if number not in cone}
    assert run(tasks, mode, faulty=False) == Counter(cone)
    assert tasks.results == {f"u{number}": value for number, value in whole.values.items()}
    cone = again.union(*(nx.descendants(dag, number) for number in again))
    assert numbers(tasks.reset_tasks([f"u{number}" for number in again])) == sorted(cone)
    assert run(tasks, mode, faulty=False) == Counter(cone)
    assert tasks.results == {f"u{number}": value for number, value in whole.values.items()}
    assert run(tasks, mode, faulty=False) == Counter(range(len(needs)))  # nothing stays reset, and nothing stays done
