"""`metadata["fallback_value"]`: the value that stands in for a failed unit; None and falsy values count."""

from typing import Any

from qp_core import QuantumUnit, Substitute, hookimpl

_ABSENT: Any = object()


@hookimpl(tryfirst=True)
def qp_fallback(unit: QuantumUnit[Any, Any]) -> Substitute | None:
    """Answer with the value if the key is there."""
    value = unit.get_metadata("fallback_value", _ABSENT)
    return None if value is _ABSENT else Substitute(value)
