"""The columns in which a run keeps the state of its units."""

import threading

import pytest

from qp_core.ledger import (
    CANCELED,
    COMPLETED,
    FAILED,
    FREED,
    NO_NOTES,
    PENDING,
    RUNNING,
    SKIPPED,
    STATES,
    TIMEOUT,
    Ledger,
    UnitNotes,
)
from qp_core.partitioner import QuantumPartitioner
from qp_core.vocabulary import UnitState


@pytest.fixture
def ledger():
    """Of three units, nothing has run."""
    partitioner = QuantumPartitioner()
    for name in "abc":
        partitioner.add_unit(str, name=name)
    return Ledger(partitioner.build_execution_plan())


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (PENDING, UnitState.PENDING),
        (RUNNING, UnitState.RUNNING),
        (COMPLETED, UnitState.COMPLETED),
        (FAILED, UnitState.FAILED),
        (SKIPPED, UnitState.SKIPPED),
        (CANCELED, UnitState.CANCELED),
        (TIMEOUT, UnitState.TIMEOUT),
    ],
    ids=lambda value: getattr(value, "value", str(value)),
)
def test_a_code_is_the_place_of_its_state(code, state):
    """And a state has one code."""
    assert STATES[code] is state
    assert len(STATES) == len(UnitState)


def test_in_the_beginning_nothing_has_happened(ledger):
    """One entry a unit in every column."""
    assert list(ledger.states) == [PENDING] * 3
    assert ledger.values == [None] * 3
    assert list(ledger.started) == list(ledger.ended) == [0.0] * 3
    assert list(ledger.workers) == [0] * 3
    assert not ledger.notes
    assert not ledger.causes
    assert not ledger.frees


def test_a_large_ledger_is_small():
    """About 40 bytes a unit: the columns, the list of values included, hold no objects."""
    partitioner = QuantumPartitioner()
    for _ in range(1_000):
        partitioner.add_unit(str)
    ledger = Ledger(partitioner.build_execution_plan())
    columns = (ledger.states, ledger.values, ledger.started, ledger.ended, ledger.workers)
    assert sum(column.__sizeof__() for column in columns) < 40_000


@pytest.mark.parametrize(
    ("started", "ended", "ran"),
    [(0.0, 0.0, False), (5.0, 0.0, False), (0.0, 5.0, False), (5.0, 5.0, True), (5.0, 6.0, True)],
    ids=["never", "not ended", "cached", "in no time", "in some time"],
)
def test_a_unit_ran_if_it_began_and_ended(ledger, started, ended, ran):
    """A cached or known result has an end and no beginning."""
    ledger.started[1], ledger.ended[1] = started, ended
    assert ledger.ran(1) is ran
    assert ledger.ran(0) is False


def test_a_unit_without_notes_has_blank_ones_that_nobody_changes(ledger):
    """All such units share them."""
    assert ledger.notes_of(0) is ledger.notes_of(2) is NO_NOTES
    ledger.note(0, attempts=2)
    assert ledger.notes_of(2) is NO_NOTES
    assert (NO_NOTES.attempts, NO_NOTES.error, NO_NOTES.metrics) == (1, None, {})


def test_notes_add_up(ledger):
    """Later ones change only what they name."""
    error = ValueError("broken")
    ledger.note(1, attempts=2, error=error)
    ledger.note(1, used_fallback=True)
    notes = ledger.notes_of(1)
    assert (notes.attempts, notes.error, notes.used_fallback, notes.cached) == (2, error, True, False)
    ledger.note(1, error=None)
    assert notes.error is None
    assert list(ledger.notes) == [1]


def test_a_misspelt_note_is_an_error(ledger):
    """Not a new attribute that nobody reads."""
    with pytest.raises(AttributeError):
        ledger.note(0, atempts=2)


def test_two_threads_that_note_something_for_the_first_time_lose_nothing(ledger, monkeypatch):
    """While one makes the notes of a unit, the other has to wait: else it would make notes too, and these be overwritten."""
    other = threading.Thread(target=ledger.note, args=(0,), kwargs={"cached": True})

    def made_slowly():
        monkeypatch.undo()
        other.start()
        other.join(0.1)  # in vain where the other waits for its turn, as it should
        return UnitNotes()

    monkeypatch.setattr("qp_core.ledger.UnitNotes", made_slowly)
    ledger.note(0, attempts=2)
    other.join(60)
    assert not other.is_alive()
    notes = ledger.notes_of(0)
    assert (notes.attempts, notes.cached) == (2, True)


def test_two_units_do_not_share_what_they_noted():
    """What is noted can be changed in one of them alone."""
    one, other = UnitNotes(), UnitNotes()
    one.metrics["rows"] = 5
    assert (other.metrics, other.writes) == ({}, ())
    assert NO_NOTES.metrics == {}


def test_a_freed_result_shows_that_it_is_one():
    """Where a result is looked at in a debugger."""
    assert repr(FREED) == "<freed>"
