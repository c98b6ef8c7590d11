"""`on_unit_start`, `on_unit_complete` and `on_unit_error`."""

import asyncio

import pytest

from qp_core import QuantumPartitioner
from qp_plugins.telemetry.callbacks import Callbacks, qp_observers

MODES = ["sequential", "thread", "async"]


def fail(ctx):
    """A unit that fails."""
    msg = "broken"
    raise ValueError(msg)


def told(partitioner):
    """Have a partitioner's callbacks write down what they are told."""
    heard = []
    partitioner.on_unit_start = lambda unit_id: heard.append(("start", unit_id))
    partitioner.on_unit_complete = lambda unit_id, result: heard.append(("complete", unit_id, result))
    partitioner.on_unit_error = lambda unit_id, error: heard.append(("error", unit_id, str(error)))
    return heard


@pytest.mark.parametrize("mode", MODES)
def test_each_callback_hears_of_what_it_is_for(mode):
    """A start and an end for each unit that ran; a skipped one is neither complete nor an error."""
    partitioner = QuantumPartitioner(max_workers=1)
    partitioner.add_unit(lambda ctx: 1, name="good")
    partitioner.add_unit(fail, ["good"], "bad")
    partitioner.add_unit(lambda ctx: 1, ["bad"], "skipped")
    heard = told(partitioner)
    partitioner.execute({}, mode)
    assert heard == [("start", "good"), ("complete", "good", 1), ("start", "bad"), ("error", "bad", "broken")]


@pytest.mark.parametrize("mode", MODES)
def test_none_is_a_result_to_tell(mode):
    """A unit that returns nothing is complete."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: None, name="unit")
    heard = told(partitioner)
    partitioner.execute({}, mode)
    assert heard == [("start", "unit"), ("complete", "unit", None)]


def test_every_attempt_starts_and_only_the_last_one_ends(clock):
    """Two retries are two further starts."""
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(fail, name="unit", retries=2)
    heard = told(partitioner)
    partitioner.execute({}, "sequential")
    assert heard == [("start", "unit")] * 3 + [("error", "unit", "broken")]


def test_a_fallback_completes_its_unit():
    """With the value that stood in; its error is in the report."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(fail, name="unit", metadata={"fallback_value": "spare"})
    heard = told(partitioner)
    partitioner.execute({})
    assert heard == [("start", "unit"), ("complete", "unit", "spare")]


def test_running_out_of_time_is_an_error(clock):
    """The error says which limit."""
    partitioner = QuantumPartitioner(clock=clock)

    async def hang(ctx):
        clock.advance(2)
        await asyncio.Event().wait()

    partitioner.add_unit(hang, name="unit", timeout=1)
    heard = told(partitioner)
    partitioner.execute({}, "async")
    start, (kind, unit_id, text) = heard
    assert (start, kind, unit_id) == (("start", "unit"), "error", "unit")
    assert "its timeout is 1 s" in text


@pytest.mark.parametrize("missing", ["on_unit_start", "on_unit_complete", "on_unit_error"])
def test_each_callback_may_be_missing(missing):
    """The others are called all the same."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="good")
    partitioner.add_unit(fail, name="bad")
    heard = told(partitioner)
    setattr(partitioner, missing, None)
    partitioner.execute({}, "sequential")
    kinds = {"on_unit_start": "start", "on_unit_complete": "complete", "on_unit_error": "error"}
    assert {kind for kind, *_ in heard} == set(kinds.values()) - {kinds[missing]}


def test_a_callback_that_raises_hurts_no_run_and_is_named_once(caplog):
    """All three are switched off for that run, and back for the next."""
    partitioner = QuantumPartitioner()
    for name in "abc":
        partitioner.add_unit(lambda ctx: 1, name=name)
    heard = []

    def raise_at_a(unit_id):
        heard.append(unit_id)
        msg = "no patience"
        raise RuntimeError(msg)

    partitioner.on_unit_start = raise_at_a
    for _ in range(2):
        assert partitioner.execute({}, "sequential").ok
    assert heard == ["a", "a"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 2
    assert warnings[0].startswith("observer 'callbacks' raised in qp_unit_started and is switched off for this run")


def test_a_call_back_sees_a_dependency_end_before_its_dependents_start():
    """Also among four threads."""
    partitioner = QuantumPartitioner(max_workers=4)
    for step in range(5):
        for lane in range(4):
            needs = [f"{step - 1}.{other}" for other in range(4)] if step else []
            partitioner.add_unit(lambda ctx: None, needs, f"{step}.{lane}")
    heard = told(partitioner)
    partitioner.execute({}, "thread")
    place = {entry[:2]: number for number, entry in enumerate(heard)}
    for unit in partitioner.units.values():
        for need in unit.dependencies:
            assert place["complete", need] < place["start", unit.id]


def test_the_observer_is_provided_and_may_be_used_alone():
    """Without a partitioner's attributes."""
    heard = []
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="unit")
    partitioner.execute({}, telemetry=[Callbacks(on_complete=lambda *what: heard.append(what)), "callbacks"])
    assert heard == [("unit", 1)]
    assert qp_observers() == {"callbacks": Callbacks}
