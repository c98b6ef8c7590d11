"""Around: results that need not be computed again, and the key under which one is found.

The caches themselves are plugins. What a key is made of: the unit's id, the code of its function with what of the project that
code reaches, and the content of what it reads; nothing that differs between two processes or two runs of one Python.

Not seen are names that code imports or makes up while it runs, and the versions of installed libraries.
"""

import copyreg
import functools
import hashlib
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from qp_core.errors import UncacheableError, shown
from qp_core.unit import QuantumUnit

__all__ = ["MISS", "Cache", "UncacheableError", "cache_key", "stable_hash"]

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


def cache_key(unit: QuantumUnit[Any, Any], context: Mapping[str, Any]) -> str:
    """The key of a unit's result.

    `metadata["cache_keys"]` names the context keys that matter beside the results of the unit's dependencies; without it, and
    where the context has none of them, the whole context does.

    Args:
        unit: The unit.
        context: What it is about to be called with.

    Returns:
        A hexadecimal digest: equal content gives an equal key in every process. Costs O(size of the content).

    Raises:
        UncacheableError: Something that matters has no content to hash; the message names it.
    """
    holder = "its function"
    try:
        reached = _Reached()
        digest = _Digest(reached)
        digest.value(unit.id)
        digest.value(unit.function)
        digest.unordered("reached", reached.digests())
        holder = "its cache_keys"
        parts = []
        for key in _keys_that_matter(unit, context):
            holder = f"context key {shown(key)}"
            parts.append(stable_hash(key) + stable_hash(context[key]))
        digest.unordered("context", parts)
        return digest.hex()
    except Exception as error:
        msg = f"unit {shown(unit.id)} cannot be cached: {holder} holds {_no_content(error)}"
        raise UncacheableError(msg) from error


def _keys_that_matter(unit: QuantumUnit[Any, Any], context: Mapping[str, Any]) -> Iterable[str]:
    names = unit.metadata.get("cache_keys")
    if not names:
        return context
    if isinstance(names, str):  # its letters are meant by nobody
        msg = f"the string {shown(names)}; give a list of context keys"
        raise UncacheableError(msg)
    named = {name for name in names if name in context}
    return named.union(need for need in unit.dependencies if need in context) if named else context


def stable_hash(value: Any) -> str:
    """A digest of a value's content, the same in every process whatever the hash seed.

    Returns:
        Hexadecimal; `1`, `True`, `1.0` and `"1"` all differ; sets and dicts do not depend on order.

    Raises:
        UncacheableError: The value, or something in it, has no content to hash.
    """
    digest = _Digest()
    try:
        digest.value(value)
    except Exception as error:
        raise UncacheableError(_no_content(error)) from error
    return digest.hex()


def _no_content(error: Exception) -> str:
    """What to say of a value that raised: its own code is called, and it may be nested without end."""
    return str(error) if isinstance(error, UncacheableError) else f"what has no content to hash ({error!r})"


_ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    bool: lambda value: b"1" if value else b"0",
    int: lambda value: str(value).encode() if -(10**18) < value < 10**18 else hex(value).encode(),
    float: lambda value: struct.pack("<d", value),
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: bytes,
    bytearray: bytes,
}


class _Digest:
    """Takes in values piece by piece; each piece is preceded by its type and length, so that none run together.

    Args:
        reached: Where the code that is taken in notes what it reaches; None where only content counts.
        inside: The values that are being taken in now, by identity, with their depth.
    """

    def __init__(self, reached: "_Reached | None" = None, inside: dict[int, int] | None = None) -> None:
        self._sha = hashlib.sha256()
        self._reached = reached
        self._inside = {} if inside is None else inside

    def hex(self) -> str:
        return self._sha.hexdigest()

    def piece(self, tag: str, content: bytes) -> None:
        self._sha.update(f"{tag}:{len(content)}:".encode())
        self._sha.update(content)

    def unordered(self, tag: str, parts: Iterable[str]) -> None:
        self.piece(tag, "".join(sorted(parts)).encode())

    def value(self, value: Any) -> None:
        """Take in a value's type and content."""
        kind = type(value)
        if kind in _ATOMS:
            self.piece(kind.__name__, _ATOMS[kind](value))
        elif id(value) in self._inside:  # a list that holds itself, a function that calls itself
            self.piece("again", str(self._inside[id(value)]).encode())
        else:
            self._inside[id(value)] = len(self._inside)
            try:
                self._parts(kind, value)
            finally:
                del self._inside[id(value)]

    def _parts(self, kind: type, value: Any) -> None:
        if kind is list or kind is tuple:
            self.piece(kind.__name__, str(len(value)).encode())
            for item in value:
                self.value(item)
        elif isinstance(value, set | frozenset):
            self.unordered(kind.__qualname__, map(self._alone, value))
        elif isinstance(value, Mapping):
            self.unordered(kind.__qualname__, (self._alone(key) + self._alone(item) for key, item in value.items()))
        elif isinstance(value, types.ModuleType):
            self.piece("module", value.__name__.encode())
        elif isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType | type):
            self._code(value)
        else:
            self._object(value)

    def _alone(self, value: Any) -> str:
        digest = _Digest(self._reached, self._inside)
        digest.value(value)
        return digest.hex()

    def _object(self, value: Any) -> None:
        # An object is what it would be rebuilt from. Its pickle as bytes would not do: equal objects may pickle
        # differently (memoised or not), so the pieces of __reduce_ex__ are taken one by one.
        kind = type(value)
        self.piece("object", _full_name(kind))
        if self._reached is not None:
            self._reached.note_class(kind)
        try:
            registered = copyreg.dispatch_table.get(kind)
            reduced = value.__reduce_ex__(4) if registered is None else registered(value)
        except Exception as error:
            msg = f"an object of {_full_name(kind).decode()}, which has no content to hash ({error})"
            raise UncacheableError(msg) from error
        if isinstance(reduced, str):  # a global, known by its name
            self.piece("global", f"{getattr(value, '__module__', None)}.{reduced}".encode())
            if hasattr(value, "__wrapped__"):  # such as what functools.cache makes
                self.value(value.__wrapped__)
            return
        maker, arguments, *rest = reduced
        self.piece("maker", _full_name(maker))
        for part in (arguments, *rest[:1]):
            self.value(part)
        for iterator in rest[1:3]:
            self.value(None if iterator is None else list(iterator))

    def _code(self, function: Any) -> None:
        """Take in what a callable does: its name, its code with constants, its defaults, and what it closes over."""
        self.piece("name", _full_name(function))
        if isinstance(function, types.FunctionType):
            self._code_object(function.__code__)
            if self._reached is not None:
                self._reached.note_globals(function.__code__, function.__globals__)
            self.value(function.__defaults__)
            self.value(function.__kwdefaults__)
            for cell in function.__closure__ or ():
                self._cell(cell)
        elif isinstance(function, types.MethodType):
            self.value(function.__func__)
            self.value(function.__self__)
        elif isinstance(function, types.BuiltinFunctionType):
            if not isinstance(function.__self__, types.ModuleType):
                self.value(function.__self__)
        elif self._reached is not None:
            self._reached.note_class(function)

    def _cell(self, cell: types.CellType) -> None:
        try:
            held = cell.cell_contents
        except ValueError:  # what it is for has not been assigned yet
            self.piece("empty", b"")
        else:
            self.value(held)

    def _code_object(self, code: types.CodeType) -> None:
        named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.piece("takes", f"{code.co_argcount} {code.co_posonlyargcount} {code.co_flags} {named}".encode())
        self.piece("code", code.co_code)
        self.piece("handlers", code.co_exceptiontable)
        self.piece("names", repr(code.co_names).encode())
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code_object(constant)
            else:
                self.value(constant)

    def definition(self, kind: type) -> None:
        """Take in what a class does: its bases, its methods, and its other attributes as far as they have content."""
        self.value(kind.__bases__)
        for name, attribute in sorted(vars(kind).items()):
            for part in _parts_of(attribute):
                if isinstance(part, types.FunctionType) or not name.startswith("__"):
                    self.piece(name, self.lenient(part).encode())

    def lenient(self, value: Any) -> str:
        """The digest of a value, or only its type's name where it has no content: a lock, a client, a connection."""
        try:
            return self._alone(value)
        except Exception:  # noqa: BLE001 - its own code is called, which may raise anything
            return f"{_full_name(type(value))!r}"


class _Reached:
    """What the project's code reaches by name, globals and classes: each is taken in once, and in whatever order."""

    def __init__(self) -> None:
        self._known: set[tuple[int, str]] = set()
        self._found: list[tuple[str, Any, bool]] = []

    def note_globals(self, code: types.CodeType, scope: dict[str, Any]) -> None:
        """Note what a function's code may read; a name that only looks like a global counts too, which does no harm."""
        if _is_of_project(scope.get("__name__")):
            names = _names_in(code)
            self._note(scope, names, frozenset((id(scope),)))

    def _note(self, scope: dict[str, Any], names: frozenset[str], scopes: frozenset[int]) -> None:
        for name in names:
            key = (id(scope), name)
            if name not in scope or key in self._known:
                continue
            value = scope[name]
            if not isinstance(value, types.ModuleType):
                self._known.add(key)
                self._found.append((f"{scope.get('__name__')}.{name}", value, False))
            elif id(value.__dict__) not in scopes and _is_of_project(value.__name__):  # and of `module.name`, the name
                self._note(value.__dict__, names, scopes | {id(value.__dict__)})

    def note_class(self, kind: type) -> None:
        """Note a class, whose code belongs to what its objects are."""
        key = (id(kind), "")
        if key not in self._known and _is_of_project(kind.__module__):
            self._known.add(key)
            self._found.append((f"class {_full_name(kind)!r}", kind, True))

    def digests(self) -> Iterator[str]:
        """Take in what was found, and what that reaches in turn.

        Yields:
            A name and a digest each.
        """
        for label, thing, is_class in self._found:  # grows while it is read
            digest = _Digest(self)
            if is_class:
                digest.definition(thing)
                yield f"{label} {digest.hex()}"
            else:
                yield f"{label} {digest.lenient(thing)}"


def _parts_of(attribute: Any) -> tuple[Any, ...]:
    """What stands behind an attribute of a class: the functions of a property or the like, else itself."""
    if isinstance(attribute, staticmethod | classmethod):
        return (attribute.__func__,)
    if isinstance(attribute, property):
        return (attribute.fget, attribute.fset, attribute.fdel)
    return (attribute.func,) if isinstance(attribute, functools.cached_property) else (attribute,)


def _names_in(code: types.CodeType) -> frozenset[str]:
    inner = (_names_in(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*inner)


def _is_of_project(module: object) -> bool:
    """Whether a module, by name, is neither this library's, nor Python's, nor installed."""
    if not isinstance(module, str) or module.partition(".")[0] in _FOREIGN:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == "__main__" if file is None else "site-packages" not in file and "dist-packages" not in file


_FOREIGN = {*sys.stdlib_module_names, *sys.builtin_module_names, "qp_core", "qp_plugins"}


def _full_name(thing: object) -> bytes:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}".encode()
