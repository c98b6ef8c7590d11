"""Records as plain data, and back."""

import json

import attrs
import pytest

from qp_core import codec
from qp_core.report import ErrorSummary, UnitRecord
from qp_core.vocabulary import UnitState


@attrs.frozen(kw_only=True)
class Part:
    name: str
    state: UnitState = UnitState.PENDING


@attrs.frozen(kw_only=True)
class Whole:
    parts: tuple[Part, ...]
    weight: float | None = None


WHOLE = Whole(parts=(Part(name="a"), Part(name='"\n\u202e', state=UnitState.FAILED)), weight=1.5)


def test_a_record_becomes_plain_data():
    """Dicts, lists, strings and numbers, enums by their value."""
    assert codec.to_data(WHOLE) == {
        "parts": [{"name": "a", "state": "pending"}, {"name": '"\n\u202e', "state": "failed"}],
        "weight": 1.5,
    }


def test_a_record_survives_json():
    """The same after a trip through text."""
    assert codec.from_data(json.loads(json.dumps(codec.to_data(WHOLE))), Whole) == WHOLE


def test_a_record_of_the_core_survives_json():
    """Named tuples inside too."""
    record = UnitRecord(
        id="a", state=UnitState.FAILED, dependencies=("b",), error=ErrorSummary("ValueError", "broken"), writes=("k",)
    )
    assert codec.from_data(json.loads(json.dumps(codec.to_data(record))), UnitRecord) == record


def messages(group):
    """Every message in a group of groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from messages(error)
        else:
            yield str(error), *getattr(error, "__notes__", ())


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"parts": [], "wieght": 1}, "wieght"),
        ({"parts": [{"name": "a", "state": "lost"}]}, "lost"),
        ({"parts": [{"state": "failed"}]}, "name"),
        ({}, "parts"),
    ],
    ids=["unknown key", "unknown member", "missing deep inside", "missing"],
)
def test_what_does_not_fit_is_an_error_that_says_what(data, told):
    """Never a silence: a misspelt key may be a newer field."""
    with pytest.raises(ExceptionGroup) as raised:
        codec.from_data(data, Whole)
    assert any(told in text for message in messages(raised.value) for text in message)


def test_all_that_does_not_fit_is_told_at_once():
    """Two errors, each with its place."""
    with pytest.raises(ExceptionGroup) as raised:
        codec.from_data({"parts": [{"name": "a", "state": "lost"}, {"nmae": "b"}]}, Whole)
    told = str(list(messages(raised.value)))
    assert "lost" in told
    assert "nmae" in told
