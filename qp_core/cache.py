"""Around: results that need not be computed again, and the key under which one is found.

The caches themselves are plugins. What a key is made of: the unit's id, the code of its function, and the content of what
it reads; nothing that differs between two processes or two runs of Python.
"""

import hashlib
import struct
import types
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from qp_core.unit import QuantumUnit

MISS = object()
"""What a cache answers when it has nothing; None is a result like any other."""


class Cache(Protocol):
    """Keeps results by key. Called from several threads at once."""

    def get(self, key: str) -> Any:
        """The value under the key, or `MISS`."""
        ...

    def put(self, key: str, value: Any) -> None:
        """Keep a value."""
        ...

    def delete(self, key: str) -> None:
        """Forget a value; no error where there is none."""
        ...

    def stats(self) -> Mapping[str, int]:
        """Counts, at least `entries`, `hits` and `misses`."""
        ...


class UncacheableError(TypeError):
    """A value has no content that can be told apart from another's."""


def cache_key(unit: QuantumUnit[Any, Any], context: Mapping[str, Any]) -> str:
    """The key of a unit's result.

    `metadata["cache_keys"]` names the context keys that matter; without it, the whole context does.

    Args:
        unit: The unit.
        context: What it is about to be called with.

    Returns:
        A hexadecimal digest: equal content gives an equal key in every process. Costs O(size of the content).

    Raises:
        UncacheableError: Something in the context has no content to hash; the message names the key.
    """
    relevant = unit.metadata.get("cache_keys") or context
    digest = hashlib.sha256()
    _feed(digest, unit.id)
    _feed_code(digest, unit.function)
    for key in sorted((key for key in relevant if key in context), key=repr):
        try:
            _feed(digest, key)
            _feed(digest, context[key])
        except UncacheableError as error:
            msg = f"unit {unit.id!r} cannot be cached: context key {key!r} holds {error}"
            raise UncacheableError(msg) from None
    return digest.hexdigest()


def stable_hash(value: Any) -> str:
    """A digest of a value's content, the same in every process whatever the hash seed.

    Returns:
        Hexadecimal; `1`, `True`, `1.0` and `"1"` all differ; sets and dicts do not depend on order.

    Raises:
        UncacheableError: The value, or something in it, has no content to hash.
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Add a value's type and content to a digest; every piece is preceded by its type and length, so that none run together."""
    kind = type(value)
    if kind in _ATOMS:
        _piece(digest, kind.__name__, _ATOMS[kind](value))
    elif kind in {list, tuple}:
        _piece(digest, kind.__name__, str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    elif kind in {set, frozenset}:
        _unordered(digest, kind.__name__, (stable_hash(item) for item in value))
    elif isinstance(value, Mapping):
        _unordered(digest, kind.__qualname__, (stable_hash(key) + stable_hash(item) for key, item in value.items()))
    elif isinstance(value, types.FunctionType | types.MethodType | type):
        _feed_code(digest, value)
    else:
        _feed_object(digest, value)


_ATOMS: dict[type, Any] = {
    type(None): lambda _: b"",
    bool: lambda value: b"1" if value else b"0",
    int: lambda value: str(value).encode() if -(10**18) < value < 10**18 else hex(value).encode(),
    float: lambda value: struct.pack("<d", value),
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: bytes,
    bytearray: bytes,
}


def _piece(digest: Any, tag: str, content: bytes) -> None:
    digest.update(f"{tag}:{len(content)}:".encode())
    digest.update(content)


def _unordered(digest: Any, tag: str, parts: Iterable[str]) -> None:
    _piece(digest, tag, "".join(sorted(parts)).encode())


def _feed_object(digest: Any, value: Any) -> None:
    # An object is what it would be rebuilt from. Its pickle as bytes would not do: equal objects may pickle
    # differently (memoised or not), so the pieces of __reduce_ex__ are taken one by one.
    kind = type(value)
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        msg = f"an object of {kind.__module__}.{kind.__qualname__}, which has no content to hash ({error})"
        raise UncacheableError(msg) from error
    if isinstance(reduced, str):  # a global, known by its name
        _piece(digest, "global", f"{kind.__module__}.{reduced}".encode())
        return
    _piece(digest, "object", f"{kind.__module__}.{kind.__qualname__}".encode())
    maker, arguments, *rest = reduced
    _piece(digest, "maker", f"{getattr(maker, '__module__', '')}.{getattr(maker, '__qualname__', '')}".encode())
    for part in (arguments, *rest[:1]):
        _feed(digest, part)
    for iterator in rest[1:3]:
        _feed(digest, None if iterator is None else list(iterator))


def _feed_code(digest: Any, function: Any) -> None:
    """Add what a callable does: its name, its code with constants, its defaults, and what it closes over."""
    bound = getattr(function, "__self__", None)
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    _piece(digest, "name", f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}".encode())
    if isinstance(code, types.CodeType):
        _feed_code_object(digest, code)
        for cell in (function.__defaults__, function.__kwdefaults__):
            _feed(digest, cell)
        for cell in function.__closure__ or ():
            _feed(digest, cell.cell_contents)
    elif not isinstance(function, type | types.BuiltinFunctionType):
        _feed_object(digest, function)
    if bound is not None and not isinstance(bound, types.ModuleType):
        _feed(digest, bound)


def _feed_code_object(digest: Any, code: types.CodeType) -> None:
    _piece(digest, "code", code.co_code)
    _piece(digest, "names", repr(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _feed_code_object(digest, constant)
        else:
            _feed(digest, constant)
