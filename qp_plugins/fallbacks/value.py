"""`metadata["fallback_value"]`: the value that stands in for a failed unit; None and falsy values count."""

from typing import Any

from qp_core import QuantumUnit, Substitute, hookimpl


@hookimpl(tryfirst=True)
def qp_fallback(unit: QuantumUnit[Any, Any]) -> Substitute | None:
    """Answer with the value if the key is there."""
    return Substitute(unit.metadata["fallback_value"]) if "fallback_value" in unit.metadata else None
