"""First in, first out."""

import pytest

from qp_core import QuantumPartitioner
from qp_core.testing import Recorder
from qp_plugins.strategies.fifo import Fifo, qp_strategies


def test_fifo_has_no_opinion():
    """None is the order of arrival."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(len, name="a")
    assert Fifo().order(partitioner.build_execution_plan()) is None
    assert qp_strategies() == {"fifo": Fifo}


def test_units_that_are_ready_from_the_start_run_in_the_order_added():
    """Whatever their priorities say: c, a, b."""
    partitioner = QuantumPartitioner()
    for priority, name in enumerate("cab"):
        partitioner.add_unit(lambda ctx: None, name=name, priority=priority)
    recorder = Recorder()
    partitioner.execute({}, "sequential", strategy="fifo", telemetry=[recorder])
    assert recorder.finished() == ["c", "a", "b"]


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_worker_goes_on_with_what_it_has_just_made_ready(mode):
    """Beside b, which was added before it, c was made ready by a and goes first: the result that it needs is fresh.

    a -> c    b
    """
    partitioner, ran = QuantumPartitioner(max_workers=1), []
    for name, needs in (("a", []), ("b", []), ("c", ["a"])):
        partitioner.add_unit(lambda ctx, name=name: ran.append(name), needs, name)
    partitioner.execute({}, mode, strategy="fifo")
    assert ran == ["a", "c", "b"]


@pytest.mark.parametrize("watched", [[], [Recorder()]], ids=["unwatched", "watched"])
def test_the_order_of_a_run_does_not_depend_on_who_watches(watched):
    """Observers hear of a run, and do not change it: a, c, b either way."""
    partitioner, ran = QuantumPartitioner(), []
    for name, needs in (("a", []), ("b", []), ("c", ["a"])):
        partitioner.add_unit(lambda ctx, name=name: ran.append(name), needs, name)
    partitioner.execute({}, "sequential", telemetry=watched)
    assert ran == ["a", "c", "b"]
