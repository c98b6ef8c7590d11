"""`unit.fallback`: a function, another unit, or a list of these, tried in turn until one gives a value."""

import contextlib
import inspect
from collections.abc import Awaitable, Coroutine, Generator, Sequence
from typing import Any

from qp_core import QuantumUnit, Substitute, hookimpl, is_awaitable


@hookimpl
def qp_fallback(unit: QuantumUnit[Any, Any], error: BaseException, context: Any) -> Substitute | None:
    """Call `unit.fallback`: a function with what the unit was called with and the error, a unit's function with the former."""
    if unit.fallback is None:
        return None
    choices: Sequence[Any] = unit.fallback if isinstance(unit.fallback, list | tuple) else (unit.fallback,)
    return _first(choices, error, context)


def _first(choices: Sequence[Any], error: BaseException, context: Any) -> Substitute | None:
    for place, choice in enumerate(choices):
        others = choices[place + 1 :]
        function = choice.function if isinstance(choice, QuantumUnit) else choice
        if inspect.iscoroutinefunction(function):
            # Called when it is awaited: a coroutine that nobody comes to await, since the run is stopped, would make Python complain.
            return Substitute(_awaited(None, choice, others, error, context))
        try:
            value = _called(choice, error, context)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - the next choice has its turn, and the unit's own error keeps the note
            _note(error, choice, raised)
            continue
        if not others or not is_awaitable(value):
            return Substitute(value)
        return Substitute(_Trying(_awaited(value, choice, others, error, context), value))
    return None


class _Trying(Coroutine[Any, Any, Any]):
    """The coroutine that awaits a choice and then, if need be, the others; closed before it began, it closes the choice's own."""

    def __init__(self, whole: Coroutine[Any, Any, Any], first: object) -> None:
        self._whole = whole
        self._first = first

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._whole.__await__()

    def send(self, value: Any) -> Any:
        """As a coroutine does."""
        return self._whole.send(value)

    def throw(self, *error: Any) -> Any:
        """As a coroutine does."""
        return self._whole.throw(*error)

    def close(self) -> None:
        """As a coroutine does."""
        self._whole.close()
        if isinstance(self._first, Coroutine):
            self._first.close()


def _called(choice: Any, error: BaseException, context: Any) -> Any:
    return choice.function(context) if isinstance(choice, QuantumUnit) else choice(context, error)


async def _awaited(
    value: Awaitable[Any] | None, choice: Any, others: Sequence[Any], error: BaseException, context: Any
) -> Any:
    try:
        return await (_called(choice, error, context) if value is None else value)
    except Exception as raised:
        following = _first(others, error, context)
        if following is None:
            raise
        _note(error, choice, raised)
        return await following.value if is_awaitable(following.value) else following.value


def _note(error: BaseException, choice: Any, raised: BaseException) -> None:
    name = repr(choice.id) if isinstance(choice, QuantumUnit) else getattr(choice, "__qualname__", repr(choice))
    with contextlib.suppress(Exception):  # an exception of the user's may be frozen, such as a dataclass
        error.add_note(f"its fallback {name} raised {type(raised).__name__}: {raised}")
