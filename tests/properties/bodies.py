"""The functions of the units under test: as functions, as coroutines, and as functions that return an awaitable."""

import asyncio
import time
import zlib

import attrs

from qp_core import QuantumPartitioner, QuantumUnit, RetryPolicy, UnitTimeoutError
from tests.properties.journal import Given, results_of_needs
from tests.strategies import COMPUTED

AT_ONCE = RetryPolicy(base_s=0, jitter=0)
"""Retries without a wait, for tests with a real clock."""


def computed(number, salt, values):
    """A unit's result: a number that depends on everything that it should depend on.

    Returns:
        A whole number.
    """
    return zlib.crc32(repr((number, salt, values)).encode())


def id_of(key):
    """The id of a part: of a number `u<number>`, else the key itself.

    Returns:
        An id.
    """
    return f"u{key}" if isinstance(key, int) else key


class Fault(Exception):  # noqa: N818 - a fault injected on purpose
    """Raised by a unit; says which unit and which attempt. Positional, so that it pickles."""

    def __init__(self, number, attempt):
        super().__init__(number, attempt)
        self.number = number
        self.attempt = attempt


@attrs.frozen(eq=False)
class Body:
    """What a part does when it is called."""

    number: int
    part: object

    def __call__(self, context):
        """Be a plain function."""
        given, attempt = self._enter(context)
        try:
            for _ in range(self.part.pauses):
                time.sleep(0)  # gives other threads a chance to be in the way
            return self._end(context, given, attempt)
        finally:
            given.journal.leave(self.number)

    def _enter(self, context):
        given = Given.of(context)
        attempt = given.journal.enter(self.number)
        if given.hook is not None:
            given.hook(self.number)
        return given, attempt

    def _end(self, context, given, attempt):
        values = results_of_needs(context, [id_of(need) for need in self.part.needs])
        if given.faulty and attempt <= self.part.fails:
            raise Fault(self.number, attempt)
        return computed(self.number, given.salt, values) if self.part.returns == COMPUTED else self.part.returns


class CoroutineBody(Body):
    """The same as a coroutine function."""

    async def __call__(self, context):
        """Be a coroutine function."""
        given, attempt = self._enter(context)
        try:
            for _ in range(self.part.pauses):
                await asyncio.sleep(0)
            return self._end(context, given, attempt)
        finally:
            given.journal.leave(self.number)


class AwaitableBody(CoroutineBody):
    """The same as a plain function that returns something to be awaited."""

    def __call__(self, context):
        """Be a plain function that returns a coroutine."""
        return super().__call__(context)


def body_of(kind, number, part):
    """A part's function.

    Args:
        kind: `function`, `coroutine`, `awaitable`, or `mixed`: then its number says which.
        number: The part's number, or another key.
        part: What it does.

    Returns:
        A function.
    """
    kinds = {"function": Body, "coroutine": CoroutineBody, "awaitable": AwaitableBody}
    made = kinds[kind] if kind in kinds else list(kinds.values())[number % len(kinds)]
    return made(number, part)


def stand_in(number):
    """What a part's fallback returns.

    Returns:
        A whole number that no unit computes.
    """
    return -computed(number, "stand-in", ())


def fallback_of(number, kind):
    """A part's fallback.

    Returns:
        Arguments of `add_unit`.
    """

    def answer(context, error):
        assert isinstance(Given.of(context), Given)
        assert isinstance(error, UnitTimeoutError) or error.number == number
        return stand_in(number)

    def instead(context):
        assert isinstance(Given.of(context), Given)
        return stand_in(number)

    async def answer_later(context, error):
        await asyncio.sleep(0)
        return answer(context, error)

    def no_answer(context, error):
        msg = "this fallback has no answer"
        raise LookupError(msg)

    async def no_answer_later(context, error):
        await asyncio.sleep(0)
        no_answer(context, error)

    return {
        None: {},
        "value": {"metadata": {"fallback_value": None}},
        "function": {"fallback": answer},
        "unit": {"fallback": QuantumUnit("stand-in", instead)},
        "chain": {"fallback": [no_answer, answer]},
        "coroutine": {"fallback": answer_later},
        "raises": {"fallback": no_answer},
        "coroutine_raises": {"fallback": no_answer_later},
    }[kind]


def partitioner_of(work, kind="function", **options):
    """Make a partitioner of a work.

    Args:
        work: The parts.
        kind: Of what kind the functions are: `function`, `coroutine`, `awaitable`, or `mixed`.
        **options: For the partitioner; `retry` for the units.

    Returns:
        A partitioner with the units `u0`, `u1`, ...
    """
    retry = options.pop("retry", AT_ONCE)
    partitioner = QuantumPartitioner(**options)
    for number, part in enumerate(work.parts):
        partitioner.add_unit(
            body_of(kind, number, part),
            [f"u{need}" for need in part.needs],
            f"u{number}",
            retries=part.retries,
            priority=part.priority,
            retry=retry,
            **fallback_of(number, part.fallback),
        )
    return partitioner
