"""`on_unit_start`, `on_unit_complete` and `on_unit_error`."""

import asyncio
from collections import Counter

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


CALLBACKS = ["on_unit_start", "on_unit_complete", "on_unit_error"]


def test_a_callback_that_raises_hurts_no_run_and_is_named_once(caplog):
    """It is switched off for that run, and back for the next."""
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
    assert (
        warnings == ["callback 'on_unit_start' raised and is switched off for this run: RuntimeError: no patience"] * 2
    )
    assert all(record.exc_info[1].args == ("no patience",) for record in caplog.records)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("broken", CALLBACKS)
def test_a_callback_that_raises_silences_no_other(mode, broken, caplog):
    """The other two hear of everything, and it of nothing after what it raised at."""
    partitioner = QuantumPartitioner(max_workers=1)
    for name in ("a", "b"):
        partitioner.add_unit(lambda ctx: 1, name=name)
        partitioner.add_unit(fail, name=f"bad {name}")
    heard, calls = told(partitioner), []

    def raises(*what):
        calls.append(what)
        raise LookupError(what[0])

    setattr(partitioner, broken, raises)
    assert set(partitioner.execute({}, mode).failed) == {"bad a", "bad b"}
    ends = {"start": 4, "complete": 2, "error": 2}
    del ends[broken.removeprefix("on_unit_")]
    assert Counter(kind for kind, *_ in heard) == ends
    assert len(calls) == 1
    assert sum("switched off" in message for message in caplog.messages) == 1


def test_a_callback_that_raises_is_switched_off_in_its_own_run_only():
    """Also where two runs share the object that calls it, one inside the other."""
    calls = []

    def raises(unit_id):
        calls.append(unit_id)
        raise LookupError(unit_id)

    shared = Callbacks(on_start=raises)
    outer, inner = QuantumPartitioner(), QuantumPartitioner()
    inner.add_unit(lambda ctx: 1, name="inner 1")
    inner.add_unit(lambda ctx: 1, name="inner 2")
    outer.add_unit(lambda ctx: inner.execute({}, "sequential", telemetry=[shared]).ok, name="outer 1")
    outer.add_unit(lambda ctx: 1, ["outer 1"], "outer 2")
    for _ in range(2):
        assert outer.execute({}, "sequential", telemetry=[shared]).ok
    assert calls == ["outer 1", "inner 1"] * 2


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError


def test_a_callback_whose_error_cannot_be_shown_is_named_all_the_same(caplog):
    """By the class of what it raised."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="a")

    def raises(unit_id):
        raise SpeechlessError

    partitioner.on_unit_start = raises
    assert partitioner.execute({}).ok
    (message,) = caplog.messages
    assert message.startswith("callback 'on_unit_start' raised and is switched off for this run: ")
    assert "SpeechlessError" in message


def test_what_ends_the_program_is_passed_on():
    """A callback may exit; the run ends with that."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="a")

    def leaves(unit_id):
        raise SystemExit(3)

    partitioner.on_unit_start = leaves
    with pytest.raises(SystemExit):
        partitioner.execute({}, "sequential")


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
