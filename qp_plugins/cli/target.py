"""`module:function`, as `qp run` and `qp plan` take it: a function that returns a partitioner."""

import importlib
import os
import sys
from typing import Any

from qp_core import QuantumPartitioner, QuantumPartitionerError


class TargetError(QuantumPartitionerError):
    """What you named on the command line gives no partitioner."""


def partitioner_of(target: str) -> QuantumPartitioner[Any, Any]:
    """Import a module, call its function, and take the partitioner.

    Args:
        target: `package.module:function`; the current directory is looked into first.

    Returns:
        The partitioner.

    Raises:
        TargetError: There is no such module or function, or it returns something else.
    """
    module_name, _, function_name = target.partition(":")
    if not module_name or not function_name:
        msg = f"{target!r} names no function; write module:function"
        raise TargetError(msg)
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        msg = f"there is no module {error.name!r} (looked for {module_name!r} from the current directory); check the name and the directory"
        raise TargetError(msg) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        there = sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        msg = f"module {module_name!r} has no function {function_name!r}; it has: {', '.join(there) or 'none'}"
        raise TargetError(msg)
    partitioner = function()
    if not isinstance(partitioner, QuantumPartitioner):
        msg = f"{target} returned {type(partitioner).__name__}; it must return a QuantumPartitioner"
        raise TargetError(msg)
    return partitioner
