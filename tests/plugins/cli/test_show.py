"""What the command prints of ids, results and errors."""

import io
import json
import math
import sys

import pytest

from qp_core import ErrorSummary
from qp_plugins.cli import show


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("plain", "plain", id="plain"),
        pytest.param("1234567890", "1234567890", id="just fits"),
        pytest.param("12345678901", "123456789…", id="one too long"),
        pytest.param("a\tb\x07", "a\\tb\\x07", id="control characters"),
        pytest.param("12345678\n", "12345678\\n", id="escapes just fit"),
        pytest.param("123456789\n", "123456789…", id="an escape is cut"),
        pytest.param("\u2028\u202e", "\\u2028\\u2…", id="separators and directions"),
        pytest.param("é🦆\u00a0", "é🦆\\xa0", id="letters stay"),
        pytest.param("\ud800", "\\ud800", id="half a letter"),
        pytest.param("x" * 10**6, "xxxxxxxxx…", id="a million"),
    ],
)
def test_whatever_it_is_it_fits_on_a_line_of_ten(text, expected):
    """Printable, and no longer."""
    assert show.printable(text, 10) == expected
    assert expected.isprintable()


def test_names_are_listed_up_to_eight():
    """Then counted."""
    assert show.names([]) == "none"
    assert show.names("abc") == "a, b, c"
    assert show.names("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert show.names("abcdefghi") == "a, b, c, d, e, f, g, h and 1 more"


def test_a_chain_shows_its_ends():
    """Eight as they are; of nine, six and the last two."""
    assert show.chain([]) == "none"
    assert show.chain("a") == "a"
    assert show.chain("abcdefgh") == "a -> b -> c -> d -> e -> f -> g -> h"
    assert show.chain("abcdefghi") == "a -> b -> c -> d -> e -> f -> … -> h -> i"


def test_counts_have_a_plural():
    """But for one."""
    assert [show.count(number, "unit") for number in (0, 1, 2)] == ["0 units", "1 unit", "2 units"]


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        pytest.param(None, "no reason known", id="none"),
        pytest.param(ErrorSummary("ValueError", "broken"), "ValueError: broken", id="text"),
        pytest.param(ErrorSummary("ValueError", ""), "ValueError", id="no text"),
        pytest.param(ErrorSummary("E", "two\nlines"), "E: two\\nlines", id="lines"),
    ],
)
def test_an_error_is_one_line(summary, expected):
    """Its type and its text."""
    assert show.error(summary) == expected


class Text(str):
    """A subclass that JSON takes for its base."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(None, None, id="null"),
        pytest.param(True, True, id="bool"),
        pytest.param(10**30, 10**30, id="large"),
        pytest.param(0.1, 0.1, id="float"),
        pytest.param(math.inf, "inf", id="infinity"),
        pytest.param(-math.inf, "-inf", id="minus infinity"),
        pytest.param(math.nan, "nan", id="nan"),
        pytest.param((1, [2]), [1, [2]], id="tuple"),
        pytest.param({1}, "{1}", id="set"),
        pytest.param(b"x", "b'x'", id="bytes"),
        pytest.param({1: {None: 2}}, {"1": {"None": 2}}, id="keys that are no strings"),
        pytest.param(Text("x"), "x", id="subclass"),
        pytest.param(range(2), "range(0, 2)", id="object"),
    ],
)
def test_json_takes_anything(data, expected):
    """What JSON lacks becomes text."""
    read = json.loads(show.as_json({"data": data}), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read == {"data": expected}


def ring_of_lists():
    """A list that holds itself."""
    ring = []
    ring.append(ring)
    return ring


def ring_of_dicts():
    """A dict that holds itself, behind a tuple."""
    ring = {}
    ring["in"] = (ring,)
    return ring


@pytest.mark.parametrize(
    ("make", "levels"), [pytest.param(ring_of_lists, 20, id="lists"), pytest.param(ring_of_dicts, 10, id="dicts")]
)
def test_json_ends_where_data_holds_itself(make, levels):
    """After twenty levels it is text."""
    read = json.loads(show.as_json(make()))
    depth = 0
    while not isinstance(read, str):
        read = read[0] if isinstance(read, list) else read["in"][0]
        depth += 1
    assert depth == levels
    assert "..." in read


def test_a_stream_without_an_encoding_takes_any_letter(monkeypatch):
    """One that keeps text as it is."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    show.write("é🦆")
    assert stream.getvalue() == "é🦆"
