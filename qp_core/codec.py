"""The one converter between records and plain data (JSON, TOML).

Unknown keys are refused, so that a misspelt or newer field is an error and not a silence.
"""

import functools
from typing import Any, TypeVar

V = TypeVar("V")


@functools.cache
def _converter() -> Any:
    # Here and not above: most programs never write a record, and should not pay for the import.
    import cattrs  # noqa: PLC0415

    return cattrs.Converter(forbid_extra_keys=True)


def to_data(record: object) -> Any:
    """Turn a record into dicts, lists, strings and numbers.

    Returns:
        Plain data that `json` can write, as far as the record's own values can be written.
    """
    return _converter().unstructure(record)


def from_data(data: Any, record_type: type[V]) -> V:
    """Turn plain data into a record.

    Returns:
        The record.

    Raises:
        ExceptionGroup: cattrs' group of everything that does not fit, each with the path into the data.
    """
    record: V = _converter().structure(data, record_type)
    return record
