"""Around: what stands in for a unit whose last attempt failed.

The fallbacks themselves are plugins that answer the hook `qp_fallback`.
"""

from typing import Any

import attrs


@attrs.frozen
class Substitute:
    """A fallback's answer: the value that stands in, which may be None or an awaitable of the value."""

    value: Any
