"""Memory: results in a dict of this process, the least recently used dropped first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from qp_core import MISS, Cache, hookimpl


class MemoryCache:
    """Keeps results as they are: who gets one shares the object.

    Args:
        max_entries: The most entries; None is no bound.

    Raises:
        ValueError: The bound is below 1.
    """

    def __init__(self, max_entries: int | None = None) -> None:
        if max_entries is not None and max_entries < 1:
            msg = f"max_entries is {max_entries!r}; give 1 or more, or None for no bound"
            raise ValueError(msg)
        self._max_entries = max_entries
        self._entries: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = 0
        self._misses = 0

    def get(self, key: str) -> Any:
        """The value under the key, or `MISS`."""
        with self._lock:
            value = self._entries.get(key, MISS)
            if value is MISS:
                self._misses += 1
            else:
                self._hits += 1
                self._entries.move_to_end(key)
            return value

    def put(self, key: str, value: Any) -> None:
        """Keep a value."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if self._max_entries is not None and len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def delete(self, key: str) -> None:
        """Forget a value."""
        with self._lock:
            self._entries.pop(key, None)

    def stats(self) -> Mapping[str, int]:
        """How many entries, hits and misses there are."""
        with self._lock:
            return {"entries": len(self._entries), "hits": self._hits, "misses": self._misses}

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)


@hookimpl
def qp_caches() -> Mapping[str, Callable[[], Cache]]:
    """Offer `memory`."""
    return {"memory": MemoryCache}
