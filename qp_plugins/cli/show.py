"""How `qp run` and `qp plan` print. What comes from outside (ids, results, errors) is escaped, so that none can drive a terminal."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from qp_core import ErrorSummary, UnitId

_LONGEST_NAME = 60
_LONGEST_TEXT = 200
_NAMES = 8  # listed before "and n more"
_DEEPEST = 20  # levels of a metric that are shown as data


def write(text: str) -> None:
    """Print on standard output, with escapes for what its encoding lacks; nothing where it is closed."""
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def printable(text: str, longest: int) -> str:
    """The text on one line.

    Args:
        text: Anything.
        longest: More characters are cut off.

    Returns:
        It, with everything that is no printable character escaped.
    """
    # Cut first: escaping a result of a gigabyte for the sake of its first line would take a while.
    escaped = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[: longest + 1]
    )
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 1]}…"


def name(unit_id: UnitId) -> str:
    """A unit's id, as a line can hold it."""
    return printable(unit_id, _LONGEST_NAME)


def names(ids: Iterable[UnitId], most: int = _NAMES) -> str:
    """Some ids, then how many more.

    Returns:
        `a, b and 3 more`, or `none`.
    """
    listed = list(ids)
    shown = ", ".join(map(name, listed[:most]))
    return f"{shown} and {len(listed) - most} more" if len(listed) > most else shown or "none"


def chain(ids: Iterable[UnitId], most: int = _NAMES) -> str:
    """Units that follow each other; of a long chain its beginning and its end.

    Returns:
        `a -> b -> … -> y -> z`, or `none`.
    """
    listed = list(ids)
    shown = (
        [*map(name, listed)] if len(listed) <= most else [*map(name, listed[: most - 2]), "…", *map(name, listed[-2:])]
    )
    return " -> ".join(shown) or "none"


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where that is right."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def value(result: object) -> str:
    """A result on one line; a `__repr__` that raises spoils nothing."""
    return printable(_repr(result), _LONGEST_TEXT)


def error(summary: ErrorSummary | None) -> str:
    """An error on one line."""
    if summary is None:
        return "no reason known"
    return printable(f"{summary.type}: {summary.text}" if summary.text else summary.type, _LONGEST_TEXT)


def _repr(thing: object) -> str:
    try:
        return repr(thing)
    except Exception as raised:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{type(thing).__qualname__}, whose __repr__ raised {type(raised).__name__}>"


def as_json(data: Any) -> str:
    """Data as JSON that every reader takes: what JSON lacks (NaN, sets, objects as keys) becomes text.

    Returns:
        An indented document that ends in a newline.
    """
    return json.dumps(_plain(data, _DEEPEST), indent=2, allow_nan=False) + "\n"


def texts(results: Mapping[UnitId, object]) -> dict[UnitId, str]:
    """Results as text, whole, for JSON."""
    return {unit_id: _repr(result) for unit_id, result in results.items()}


def _plain(data: Any, depth: int) -> Any:
    if data is None or isinstance(data, str | bool | int):
        return data
    if isinstance(data, float):
        return data if math.isfinite(data) else repr(data)
    if depth and isinstance(data, Mapping):
        return {key if isinstance(key, str) else _repr(key): _plain(item, depth - 1) for key, item in data.items()}
    if depth and isinstance(data, list | tuple):
        return [_plain(item, depth - 1) for item in data]
    return _repr(data)
