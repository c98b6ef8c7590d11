"""With `outputs`, only what they need runs, and a result is let go after its last use (R14)."""

import gc
import threading
import weakref

import pytest

from qp_core import MissingDependencyError, QuantumPartitioner
from tests.core.engine import LANES, in_every_lane, states_of, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left_over")


class Big:
    """A result that can be watched."""

    alive = None

    def __init__(self):
        Big.alive.add(self)


@pytest.fixture(autouse=True)
def _counted():
    Big.alive = weakref.WeakSet()


class Forgets:
    """An observer that keeps nothing."""

    def qp_unit_finished(self, event):
        """Hear of it."""


DIAMOND = {"left": ["top"], "right": ["top"], "bottom": ["left", "right"]}


@in_every_lane
def test_only_what_the_outputs_need_runs(lane):
    """A -> b -> c, a -> d, e: for d, only a and d."""
    log = []
    functions = {name: lambda ctx, name=name: log.append(name) for name in "abcde"}
    partitioner = lane.partitioner(functions, {"b": ["a"], "c": ["b"], "d": ["a"]})
    result = partitioner.execute({}, outputs=["d"])
    assert log == ["a", "d"]
    assert states_of(result) == {"a": "completed", "d": "completed"}
    assert list(result) == ["d"]


@in_every_lane
def test_a_result_is_gone_when_its_last_consumer_has_ended(lane):
    """A chain of ten: never more than two results at once (that of the unit before, and the one being made)."""
    most = []

    def unit(ctx):
        most.append(len(Big.alive))
        return Big()

    functions = {f"u{number}": unit for number in range(10)}
    needs = {f"u{number}": [f"u{number - 1}"] for number in range(1, 10)}
    partitioner = lane.partitioner(functions, needs, max_workers=1)
    result = partitioner.execute({}, outputs=["u9"])
    assert most == [0] + [1] * 9
    gc.collect()
    assert len(Big.alive) == 1
    assert list(result) == ["u9"]


@in_every_lane
def test_without_outputs_every_result_is_kept(lane):
    """Until the result of the run goes."""
    partitioner = lane.partitioner(dict.fromkeys(("top", "left", "right", "bottom"), lambda ctx: Big()), DIAMOND)
    result = partitioner.execute({})
    assert len(Big.alive) == 4
    assert len(result) == 4


@in_every_lane
def test_reading_a_freed_result_says_that_it_was_freed(lane):
    """And how to keep it; the report still says that the unit completed."""
    partitioner = lane.partitioner(dict.fromkeys(("top", "left", "right", "bottom"), lambda ctx: 1), DIAMOND)
    result = partitioner.execute({}, outputs=["bottom"])
    assert result == {"bottom": 1}
    assert result.ok
    with pytest.raises(KeyError, match=r"'top' was freed after its last use; name it in outputs"):
        result["top"]
    assert states_of(result)["top"] == "completed"


@in_every_lane
def test_an_output_that_others_need_is_kept(lane):
    """Also in the middle."""
    partitioner = lane.partitioner({"a": lambda ctx: 1, "b": lambda ctx: ctx["a"] + 1}, {"b": ["a"]})
    assert partitioner.execute({}, outputs=["a", "b"]) == {"a": 1, "b": 2}


@in_every_lane
@pytest.mark.parametrize("with_timeout", [False, True], ids=["plain", "limited"])
def test_what_a_failed_or_skipped_unit_needed_is_gone_too(lane, with_timeout):
    """Top -> bad -> after -> last, top -> good: when all have ended, only good is there."""

    def bad(ctx):
        raise ValueError("bad")

    functions = {"top": lambda ctx: Big(), "after": lambda ctx: Big(), "good": lambda ctx: Big()}
    partitioner = lane.partitioner(functions, {"after": ["bad"], "good": ["top"]})
    partitioner.add_unit(lane.unit(bad), ["top"], "bad", timeout=60 if with_timeout else None)
    result = partitioner.execute({}, outputs=["after", "good"])
    assert states_of(result) == {"top": "completed", "after": "skipped", "good": "completed", "bad": "failed"}
    # Units of the user in the error's traceback may hold their contexts, and so what they read.
    result.errors["bad"].__traceback__ = None
    gc.collect()
    assert len(Big.alive) == 1
    assert list(result) == ["good"]


@pytest.mark.parametrize("lane", [pytest.param(LANES[name], id=name) for name in ("thread", "async")])
@pytest.mark.parametrize("observed", [False, True], ids=["plain", "observed"])
def test_a_result_is_gone_while_other_units_still_run(lane, observed):
    """A -> b -> c beside watch, which the worker of a goes on with: when c runs, a's result is gone, although no worker has ended."""
    c_runs, looked, found = threading.Event(), threading.Event(), []

    def watch(ctx):
        wait_for(c_runs)
        found.append(len(Big.alive))
        looked.set()

    def last(ctx):
        c_runs.set()
        wait_for(looked)

    functions = {"a": lambda ctx: Big(), "watch": watch, "b": lambda ctx: None, "c": last}
    partitioner = lane.partitioner(functions, {"b": ["a"], "c": ["b"]}, max_workers=2)
    for name, priority in {"a": 3, "watch": 2}.items():
        partitioner.units[name].priority = priority
    result = partitioner.execute(
        {}, outputs=["c", "watch"], strategy="priority", telemetry=[Forgets()] if observed else []
    )
    assert result.ok, result.failed
    assert found == [0]


@in_every_lane
def test_results_are_gone_with_the_result_of_the_run(lane):
    """Neither the engine nor the partitioner keeps the last but one; the partitioner keeps the last."""
    partitioner = lane.partitioner({"a": lambda ctx: Big()})
    partitioner.execute({})
    partitioner.execute({})
    gc.collect()
    assert len(Big.alive) == 1


@in_every_lane
def test_known_results_are_kept_where_they_are_outputs(lane):
    """A known -> b."""
    partitioner = lane.partitioner({"a": lambda ctx: 1 / 0, "b": lambda ctx: ctx["a"] + 1}, {"b": ["a"]})
    assert partitioner.execute({}, outputs=["a", "b"], known={"a": 1}) == {"a": 1, "b": 2}
    assert partitioner.execute({}, outputs=["b"], known={"a": 1}) == {"b": 2}


def test_an_output_that_is_no_unit_is_an_error_before_anything_runs():
    """It names the nearest."""
    log = []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(log.append, name="load")
    with pytest.raises(MissingDependencyError, match=r"'laod'.*did you mean 'load'"):
        partitioner.execute({}, outputs=["laod"])
    assert log == []
