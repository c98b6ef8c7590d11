"""`module:function`, as `qp run` and `qp plan` take it: a function that returns a partitioner."""

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from qp_core import QuantumPartitioner, QuantumPartitionerError, UnknownNameError
from qp_plugins.cli import show

_LONGEST = 500  # characters of an error that are shown


class UsageError(QuantumPartitionerError):
    """You asked for something that there is not; the command ends with 2."""


class TargetError(QuantumPartitionerError):
    """What you named on the command line exists, but gives no partitioner; the command ends with 1."""


def partitioner_of(target: str) -> QuantumPartitioner[Any, Any]:
    """Import a module, call its function, and take the partitioner.

    Args:
        target: `package.module:function`, or `module:Class.method`; the current directory is looked into first.

    Returns:
        The partitioner.

    Raises:
        UsageError: There is no such module or function, or it returns something else.
        TargetError: The module or the function raises.
    """
    function = _function_of(target)
    try:
        made = function()
    except (Exception, SystemExit) as error:
        msg = f"{target} raised {_told(error)}"
        raise TargetError(msg) from error
    if inspect.iscoroutine(made):
        made.close()
        msg = f"{target} is a coroutine function; name a plain function that returns a QuantumPartitioner"
        raise UsageError(msg)
    if not isinstance(made, QuantumPartitioner):
        msg = f"{target} returned {type(made).__name__}; it must return a QuantumPartitioner"
        raise UsageError(msg)
    return made


def _function_of(target: str) -> Callable[[], Any]:
    module_name, _, function_name = target.partition(":")
    if not module_name.strip(".") or not function_name or module_name.startswith("."):
        msg = f"{target!r} names no function; write module:function"
        raise UsageError(msg)
    module = _module(module_name)
    try:
        function = functools.reduce(getattr, function_name.split("."), module)
    except AttributeError:
        unknown = UnknownNameError(f"function in module {module_name!r}", function_name, _functions_of(module))
        raise UsageError(str(unknown)) from None
    if not callable(function):
        msg = (
            f"{target} is no function but {type(function).__name__}; name a function that returns a QuantumPartitioner"
        )
        raise UsageError(msg)
    try:
        inspect.signature(function).bind()
    except ValueError:
        pass  # a function of C's that does not tell its arguments
    except TypeError as error:
        msg = f"{target} cannot be called without arguments ({error}); name a function that needs none"
        raise UsageError(msg) from None
    return function


def _module(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            msg = f"module {name!r} cannot be imported: {_told(error)}"
            raise TargetError(msg) from error
        hint = "write a module's name, not its file" if "/" in name or name.endswith(".py") else "check the name"
        msg = f"there is no module {error.name!r}, looked for from {here}; {hint}"
        raise UsageError(msg) from None
    except (Exception, SystemExit) as error:
        msg = f"module {name!r} cannot be imported: {_told(error)}"
        raise TargetError(msg) from error


def _functions_of(module: ModuleType) -> tuple[str, ...]:
    """The functions that a module defines for others."""
    return tuple(
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    )


def _told(error: BaseException) -> str:
    """An error of the user's code and the line that raised it: here a traceback would be mostly ours."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
        text = error.msg
    else:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")
        ]
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
        text = "".join(traceback.format_exception_only(error)).strip().partition(": ")[2]
    text = show.printable(text, _LONGEST)
    return f"{type(error).__name__}: {text} ({place})" if text else f"{type(error).__name__} ({place})"
