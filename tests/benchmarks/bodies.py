"""What a unit does, twice: called with its dependencies' values (references), and called with our context.

Both forms of a kind do the same work. Ours are one closure a unit that holds the ids of its dependencies, as users write them;
`shipped` is a partial of a module's function, which any pickle carries to a process.
"""

# ruff: noqa: C419  # summing a list is quicker than summing a generator, and a body has to cost little

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks.graphs import MASK

Context = Mapping[str, int]
_BUFFER = memoryview(bytes(1 << 20))
first_start: list[float] = []
"""When the first `stamp` body of this process started, by `time.perf_counter`; clear it before a run."""


def hash_bytes(size: int) -> None:
    """Work that releases the GIL: sha256 over `size` bytes (hashlib lets go of it from 2048 on)."""
    hashlib.sha256(_BUFFER[:size]).digest()


def _leave_stamp() -> None:
    if not first_start:
        first_start.append(time.perf_counter())


# ---- called with values
def noop(*values: int) -> int:
    """Do the least that still proves the values arrived."""
    return (1 + sum(values)) & MASK


def stamp(*values: int) -> int:
    """Be `noop`, and leave the time of the first call in `first_start`."""
    _leave_stamp()
    return (1 + sum(values)) & MASK


def sha(size: int, *values: int) -> int:
    """Hash `size` bytes, then be `noop`."""
    hash_bytes(size)
    return (1 + sum(values)) & MASK


async def plain(*values: int) -> int:
    """Be `noop` as a coroutine function that never suspends."""
    return (1 + sum(values)) & MASK


async def suspend(*values: int) -> int:
    """Go once around the event loop, then be `noop`."""
    await asyncio.sleep(0)
    return (1 + sum(values)) & MASK


def body_of_values(kind: str, size: int = 0) -> Callable[..., Any]:
    """Give the body of a kind in the form that takes values."""
    kinds: dict[str, Callable[..., Any]] = {
        "noop": noop,
        "shipped": noop,
        "stamp": stamp,
        "sha": functools.partial(sha, size),
        "plain": plain,
        "suspend": suspend,
    }
    return kinds[kind]


# ---- called with our context
def _noop_of(needs: Sequence[str], _size: int) -> Callable[[Context], int]:
    return lambda ctx: (1 + sum([ctx[need] for need in needs])) & MASK


def _take(needs: Sequence[str], ctx: Context) -> int:
    return (1 + sum([ctx[need] for need in needs])) & MASK


def _shipped_of(needs: Sequence[str], _size: int) -> Callable[[Context], int]:
    return functools.partial(_take, needs)


def _stamp_of(needs: Sequence[str], _size: int) -> Callable[[Context], int]:
    def unit(ctx: Context) -> int:
        _leave_stamp()
        return (1 + sum([ctx[need] for need in needs])) & MASK

    return unit


def _sha_of(needs: Sequence[str], size: int) -> Callable[[Context], int]:
    def unit(ctx: Context) -> int:
        hash_bytes(size)
        return (1 + sum([ctx[need] for need in needs])) & MASK

    return unit


def _plain_of(needs: Sequence[str], _size: int) -> Callable[[Context], Any]:
    async def unit(ctx: Context) -> int:
        return (1 + sum([ctx[need] for need in needs])) & MASK

    return unit


def _suspend_of(needs: Sequence[str], _size: int) -> Callable[[Context], Any]:
    async def unit(ctx: Context) -> int:
        await asyncio.sleep(0)
        return (1 + sum([ctx[need] for need in needs])) & MASK

    return unit


_OF_CONTEXT: dict[str, Callable[[Sequence[str], int], Callable[[Context], Any]]] = {
    "noop": _noop_of,
    "shipped": _shipped_of,
    "stamp": _stamp_of,
    "sha": _sha_of,
    "plain": _plain_of,
    "suspend": _suspend_of,
}


def body_of_context(kind: str, needs: Sequence[str], size: int = 0) -> Callable[[Context], Any]:
    """Give a unit's body in the form that reads its dependencies, `needs`, from our context."""
    return _OF_CONTEXT[kind](needs, size)
