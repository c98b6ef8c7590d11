"""Whatever a unit raises, however its function is made, wherever it runs: that unit has failed, and the run goes on.

Some exceptions mean something to asyncio, to generators or to pools on their way from the unit to the engine.
"""

import asyncio
import concurrent.futures
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from qp_core import QuantumPartitioner, UnitState
from tests.properties.bodies import AT_ONCE, Fault

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

PATIENCE_S = 60  # only ever spent by a run that hangs

RAISED = [
    Fault(0, 1),
    StopIteration("a value"),
    StopAsyncIteration(),
    GeneratorExit(),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
    concurrent.futures.InvalidStateError(),
    concurrent.futures.BrokenExecutor(),
    asyncio.InvalidStateError(),
    TimeoutError(),
    RecursionError(),
    MemoryError(),
    BaseExceptionGroup("several", [ValueError(), SystemExit()]),
]

MODES = ["sequential", "thread", "async", "custom"]


class Awaited:
    """Something to be awaited that is no coroutine."""

    def __init__(self, error):
        self._error = error

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        raise self._error


def function_of(kind, error):
    """A function that raises, made in one of several ways.

    Returns:
        A function.
    """

    def function(context):
        raise error

    async def coroutine(context):
        raise error

    async def after_a_pause(context):
        await asyncio.sleep(0)
        raise error

    return {
        "function": function,
        "coroutine": coroutine,
        "coroutine after a pause": after_a_pause,
        "awaitable": lambda context: Awaited(error),
    }[kind]


def finished(call):
    """Call something that might hang, in a thread.

    Returns:
        What it returns.
    """
    ends = []

    def run():
        try:
            ends.append((call(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            ends.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert ends, "the run hangs"
    value, error = ends[0]
    if error is not None:
        raise AssertionError(repr(error)) from error
    return value


async def fine(context):
    """A unit that needs the event loop after the other one has failed."""
    await asyncio.sleep(0)
    return "fine"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("retries", [0, 1], ids=["", "with a retry"])
@pytest.mark.parametrize("kind", ["function", "coroutine", "coroutine after a pause", "awaitable"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", RAISED, ids=lambda error: f"{type(error).__module__}.{type(error).__name__}")
def test_an_exception_fails_its_unit_alone(error, mode, kind, retries):
    """One unit raises; one depends on it, two run beside it. An exception that is no `Exception` is not retried.

    bad -> after    good -> well
    """
    partitioner, calls = QuantumPartitioner(max_workers=2), []
    raises = function_of(kind, error)

    def bad(context):
        calls.append(1)
        return raises(context)

    async def bad_coroutine(context):
        calls.append(1)
        return await raises(context)

    partitioner.add_unit(
        bad_coroutine if kind.startswith("coroutine") else bad, name="bad", retries=retries, retry=AT_ONCE
    )
    partitioner.add_unit(fine, name="good")
    partitioner.add_unit(fine, ["bad"], "after")
    partitioner.add_unit(fine, ["good"], "well")
    with ThreadPoolExecutor(2) as pool:
        result = finished(lambda: partitioner.execute({}, mode, custom_executor=pool if mode == "custom" else None))
    states = {unit_id: record.state for unit_id, record in result.report.units.items()}
    assert states == {
        "bad": UnitState.FAILED,
        "good": UnitState.COMPLETED,
        "after": UnitState.SKIPPED,
        "well": UnitState.COMPLETED,
    }
    if isinstance(error, StopIteration) and kind != "function":
        assert type(result.errors["bad"]) is RuntimeError  # as Python itself turns it when it leaves a coroutine
    else:
        assert type(result.errors["bad"]) is type(error)
    made = 1 + retries if isinstance(error, Exception) else 1
    assert (len(calls), result.report.units["bad"].attempts) == (made, made)
