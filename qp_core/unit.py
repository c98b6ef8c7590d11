"""Define: one unit of work, what it waits for, and how it may be tried.

A unit says nothing about the run: the attributes that show state and result look at the run that finished last.
"""

import math
import random
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol

import attrs

from qp_core.errors import shown
from qp_core.vocabulary import R, T, UnitFunction, UnitId, UnitState

_LARGEST_S = sys.float_info.max  # whole numbers can be larger, and then cannot be added to a time
_LARGEST_EXPONENT = 32  # 2.0**attempt stays a float; the cap has been reached long before


def retry_after_of(error: BaseException) -> float | None:
    """The wait that an error asks for, in seconds.

    Looks at `error.retry_after`, then at `error.details["retry_after"]` (Atlas's errors keep it there).

    Returns:
        Seconds, or None where the error says nothing that makes sense.
    """
    asked = getattr(error, "retry_after", None)
    details = getattr(error, "details", None)
    if asked is None and isinstance(details, Mapping):
        asked = details.get("retry_after")
    if isinstance(asked, int | float) and not isinstance(asked, bool) and 0 <= asked <= _LARGEST_S:
        return float(asked)
    return None


def _as_tuple(kinds: type[Exception] | Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    return (kinds,) if isinstance(kinds, type) else tuple(kinds)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a failed attempt is made again, and after how long.

    The wait before attempt k+1 is `min(base_s * 2**k, cap_s)` seconds, shortened at random by up to the fraction
    `jitter`, so that units which failed together do not come back together; an error that asks for a longer
    wait (`retry_after`) gets it. A waiting unit holds no worker.
    """

    on: tuple[type[Exception], ...] = attrs.field(default=(Exception,), converter=_as_tuple)
    """Exceptions worth another attempt. What is no `Exception` (KeyboardInterrupt, SystemExit) never is."""
    base_s: float = attrs.field(default=0.1, validator=attrs.validators.ge(0))
    cap_s: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    jitter: float = attrs.field(default=0.25, validator=[attrs.validators.ge(0), attrs.validators.le(1)])
    retry_after: Callable[[BaseException], float | None] = retry_after_of
    stop_after_s: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    """No further attempt is begun later than this many seconds after the first one began."""

    @on.validator
    def _check_on(self, _: object, kinds: tuple[object, ...]) -> None:
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                msg = f"RetryPolicy.on holds {shown(kind)}, which is no Exception class; name the exceptions worth another attempt"
                raise TypeError(msg)

    def wait_s(self, attempt: int, error: BaseException, rng: random.Random) -> float:
        """How long to wait after a failed attempt.

        Args:
            attempt: Attempts made so far, from 1.
            error: What the last one raised.
            rng: Where the jitter comes from.

        Returns:
            Seconds.
        """
        wait = min(self.base_s * 2.0 ** min(attempt, _LARGEST_EXPONENT), self.cap_s)
        wait *= 1 - self.jitter * rng.random()
        return max(wait, self.retry_after(error) or 0.0)


DEFAULT_RETRY = RetryPolicy()
"""What `retries=n` means without a policy: the seed's waits, with jitter."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What one run says of one unit, as the seed's attributes show it. Times are monotonic seconds."""

    state: UnitState = UnitState.PENDING
    result: Any = None
    error: BaseException | None = None
    start_time: float | None = None
    end_time: float | None = None
    attempt: int = 0


NOTHING_YET = Outcome()


class LatestRun(Protocol):
    """Where a unit looks for its outcome in the run that finished last."""

    def outcome_of(self, unit_id: UnitId) -> Outcome:
        """The unit's outcome, or `NOTHING_YET`."""
        ...


class _Nowhere:
    """The latest run of a unit that belongs to no partitioner."""

    @staticmethod
    def outcome_of(unit_id: UnitId) -> Outcome:  # noqa: ARG004 - the protocol's shape
        return NOTHING_YET


_NOWHERE = _Nowhere()


def checked_limit(value: float | None, what: str) -> float | None:
    """Check a time limit in seconds.

    Args:
        value: The limit; None is no limit.
        what: How an error message calls it.

    Returns:
        The limit.

    Raises:
        TypeError: It is no number.
        ValueError: It is zero, negative, NaN, or a whole number beyond what a float can hold.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"{what} is {shown(value)}; give seconds as a number, or None for no limit"
        raise TypeError(msg)
    if not (0 < value <= _LARGEST_S or value == math.inf):  # catches NaN too
        msg = f"{what} is {shown(value)}; give seconds above 0, or None for no limit"
        raise ValueError(msg)
    return value


def _checked_timeout(unit_id: UnitId, timeout: float | None) -> float | None:
    return None if timeout is None else checked_limit(timeout, f"unit {shown(unit_id)}: timeout")


def _checked_id(unit_id: object) -> UnitId:
    if not isinstance(unit_id, str):
        msg = f"a unit's id is {shown(unit_id)}; ids are non-empty strings"
        raise TypeError(msg)
    if not unit_id:
        msg = "a unit's id is the empty string; ids are non-empty strings"
        raise ValueError(msg)
    return str.__str__(unit_id)  # a member of a StrEnum, for one, would show itself as something else than its text


def _checked_function(unit_id: UnitId, function: Any) -> Any:
    if not callable(function):
        msg = f"unit {shown(unit_id)}: function is {shown(function)}, which cannot be called"
        raise TypeError(msg)
    return function


def _checked_dependencies(unit_id: UnitId, dependencies: Iterable[UnitId]) -> list[UnitId]:
    """Check how a unit's dependencies were given; whether there are such units, the plan finds out.

    Returns:
        A list of its own; of a set in sorted order, since a set's own order differs from process to process.

    Raises:
        TypeError: They are one string, or nothing that can be listed.
    """
    if isinstance(dependencies, str | bytes | bytearray):
        given = shown(dependencies)
        msg = f"unit {shown(unit_id)}: dependencies is the string {given}; give a list of ids: [{given}]"
        raise TypeError(msg)
    given_as: object = dependencies  # whatever the annotation says
    if not isinstance(given_as, Iterable):
        msg = f"unit {shown(unit_id)}: dependencies is {shown(dependencies)}; give a list of ids"
        raise TypeError(msg)
    return sorted(dependencies, key=str) if isinstance(dependencies, set | frozenset) else list(dependencies)


def _checked_retries(unit_id: UnitId, retries: object) -> int:
    if isinstance(retries, bool) or not isinstance(retries, int):
        msg = f"unit {shown(unit_id)}: retries is {shown(retries)}; give a whole number"
        raise TypeError(msg)
    if retries < 0:
        msg = f"unit {shown(unit_id)}: retries is {shown(retries)}; give 0 or more"
        raise ValueError(msg)
    return retries


def _checked_priority(unit_id: UnitId, priority: object) -> float:
    if isinstance(priority, bool) or not isinstance(priority, int | float) or math.isnan(priority):
        msg = f"unit {shown(unit_id)}: priority is {shown(priority)}; give a number"
        raise TypeError(msg)
    return priority


def _checked_metadata(unit_id: UnitId, metadata: object) -> dict[str, Any] | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        msg = f"unit {shown(unit_id)}: metadata is {shown(metadata)}; give a dict"
        raise TypeError(msg)
    return dict(metadata)


def _checked_retry(unit_id: UnitId, retry: object) -> RetryPolicy:
    if retry is None:
        return DEFAULT_RETRY
    if not isinstance(retry, RetryPolicy):
        msg = f"unit {shown(unit_id)}: retry is {shown(retry)}; give a RetryPolicy (and how often in retries)"
        raise TypeError(msg)
    return retry


def _checked_fallback(unit_id: UnitId, fallback: Any) -> Any:
    if fallback is None:
        return None
    for choice in fallback if isinstance(fallback, list | tuple) else (fallback,):
        if not callable(choice) and not isinstance(choice, QuantumUnit):
            msg = f"unit {shown(unit_id)}: fallback is {shown(choice)}; give a function, a unit, or a list of these; a value belongs in metadata['fallback_value']"
            raise TypeError(msg)
    return fallback


def _by(check: Callable[[UnitId, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """What attrs asks of a value that is assigned: the check of the constructor."""
    return lambda unit, _, value: check(unit.id, value)


_metadata_lock = threading.Lock()


@attrs.define(eq=False, init=False, repr=False, weakref_slot=False, match_args=False)
class QuantumUnit(Generic[T, R]):
    """A self-contained piece of computation, and the units it waits for.

    The definition (up to `fallback`) is read when a plan is built or a run begins; change a unit's id or dependencies,
    and the plan must be built anew. What is assigned is checked and kept as what is given to the constructor. `state`,
    `result`, `error`, `start_time`, `end_time` and `attempt` show the run that finished last (all units of a partitioner
    switch to a finished run at once); assigning one by hand holds until the next run ends.

    Attributes:
        id: Unique within its partitioner; any non-empty string (kept as a plain `str`, whatever subclass was given).
        function: Called with the unit's context. A coroutine function, or a function that returns an awaitable, is awaited.
        dependencies: Ids of the units whose results this one needs.
        timeout: The longest one attempt may take, in seconds; None is no limit.
        retries: Further attempts after a failed one.
        priority: Higher is sooner, under the `priority` strategy.
        metadata: The user's own; some keys mean something to plugins (`fallback_value`, `resource_type`, `cacheable`, ...).
        retry: Which failures are worth another attempt, and after what wait.
        fallback: What stands in when the last attempt failed: a callable `(context, error)`, a `QuantumUnit` whose function is
            called instead, or a list of these, tried in turn.
    """

    id: UnitId = attrs.field(on_setattr=lambda _unit, _field, unit_id: _checked_id(unit_id))
    function: UnitFunction[R] = attrs.field(on_setattr=_by(_checked_function))
    dependencies: list[UnitId] = attrs.field(on_setattr=_by(_checked_dependencies))
    timeout: float | None = attrs.field(on_setattr=_by(_checked_timeout))
    retries: int = attrs.field(on_setattr=_by(_checked_retries))
    priority: float = attrs.field(on_setattr=_by(_checked_priority))
    retry: RetryPolicy = attrs.field(on_setattr=_by(_checked_retry))
    fallback: Any = attrs.field(on_setattr=_by(_checked_fallback))
    _metadata: dict[str, Any] | None
    _latest: LatestRun
    _by_hand: tuple[LatestRun, Outcome] | None

    def __init__(
        self,
        id: UnitId,  # noqa: A002 - the seed's name
        function: UnitFunction[R],
        dependencies: Iterable[UnitId] = (),
        timeout: float | None = None,
        retries: int = 0,
        priority: float = 0,
        metadata: Mapping[str, Any] | None = None,
        state: UnitState = UnitState.PENDING,
        result: R | None = None,
        error: BaseException | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
        attempt: int = 0,
        *,
        retry: RetryPolicy | None = None,
        fallback: Any = None,
    ) -> None:
        # What is plain is not looked at twice, and goes past the checks of an assignment: adding a unit stays cheap.
        _set_id(self, id if type(id) is str and id else _checked_id(id))
        called: object = function  # whatever the annotation says
        _set_function(self, called if callable(called) else _checked_function(id, called))
        listed = type(dependencies) is list or type(dependencies) is tuple
        _set_dependencies(self, list(dependencies) if listed else _checked_dependencies(id, dependencies))
        _set_timeout(self, None if timeout is None else _checked_timeout(id, timeout))
        _set_retries(self, retries if type(retries) is int and retries >= 0 else _checked_retries(id, retries))
        _set_priority(self, priority if type(priority) is int else _checked_priority(id, priority))
        _set_retry(self, DEFAULT_RETRY if retry is None else _checked_retry(id, retry))
        _set_fallback(self, None if fallback is None else _checked_fallback(id, fallback))
        _set_metadata(self, None if metadata is None else _checked_metadata(id, metadata))
        _set_latest(self, _NOWHERE)
        _set_by_hand(self, None)
        if (
            state is not UnitState.PENDING
            or result is not None
            or error is not None
            or start_time is not None
            or end_time is not None
            or attempt
        ):
            self._show(
                state=UnitState(state),
                result=result,
                error=error,
                start_time=start_time,
                end_time=end_time,
                attempt=attempt,
            )

    def __repr__(self) -> str:
        return f"QuantumUnit(id={self.id!r}, dependencies={self.dependencies!r}, state={self.state.value!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Into a pickle or a copy goes what the unit shows, not the run behind it, which holds the results of all units.
        defined = (self.id, self.function, self.dependencies, self.timeout, self.retries, self.priority, self._metadata)
        seen = self._outcome()
        shows = (seen.state, seen.result, seen.error, seen.start_time, seen.end_time, seen.attempt)
        return _unpacked, (type(self), (*defined, *shows), self.retry, self.fallback)

    @property
    def metadata(self) -> dict[str, Any]:
        """The user's own; some keys mean something to plugins."""
        # Made when it is first asked for: most units of a large graph have none, and empty dicts would be a tenth of its memory.
        if self._metadata is None:
            with _metadata_lock:
                if self._metadata is None:
                    self._metadata = {}
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | None) -> None:
        self._metadata = _checked_metadata(self.id, metadata)

    def get_metadata(self, key: str, default: Any = None) -> Any:
        """`metadata.get(key, default)`, for who asks many units about something that few of them have."""
        found = self._metadata
        return default if found is None else found.get(key, default)

    def can_execute(self, completed_units: Iterable[UnitId]) -> bool:
        """Whether every dependency is among the completed units.

        Costs O(dependencies) for a set, O(dependencies * units) for a list.

        Returns:
            True also for a unit without dependencies.
        """
        return all(dependency in completed_units for dependency in self.dependencies)

    def get_execution_time(self) -> float | None:
        """Seconds from the start of the last attempt to its end.

        Returns:
            None where the unit did not run.
        """
        outcome = self._outcome()
        if outcome.start_time is None or outcome.end_time is None:
            return None
        return outcome.end_time - outcome.start_time

    @property
    def execution_time(self) -> float | None:
        """The same as `get_execution_time()`."""
        return self.get_execution_time()

    def _outcome(self) -> Outcome:
        if self._by_hand is not None and self._by_hand[0] is self._latest_run():
            return self._by_hand[1]
        return self._latest.outcome_of(self.id)

    def _latest_run(self) -> Any:
        return getattr(self._latest, "result", self._latest)

    def _show(self, **changes: Any) -> None:
        self._by_hand = (self._latest_run(), attrs.evolve(self._outcome(), **changes))

    def show(self, latest: LatestRun) -> None:
        """Show this partitioner's runs from now on; values given by hand hold until its next run ends."""
        if latest is self._latest:
            return
        by_hand = self._by_hand
        _set_latest(self, latest)
        if by_hand is not None:
            self._by_hand = (self._latest_run(), by_hand[1])

    @property
    def state(self) -> UnitState:
        """The unit's state in the run that finished last."""
        return self._outcome().state

    @state.setter
    def state(self, state: UnitState) -> None:
        self._show(state=UnitState(state))

    @property
    def result(self) -> R | None:
        """What the unit returned in the run that finished last."""
        result: R | None = self._outcome().result
        return result

    @result.setter
    def result(self, result: R | None) -> None:
        self._show(result=result)

    @property
    def error(self) -> BaseException | None:
        """What the last attempt raised in the run that finished last; kept also where a fallback stood in."""
        return self._outcome().error

    @error.setter
    def error(self, error: BaseException | None) -> None:
        self._show(error=error)

    @property
    def start_time(self) -> float | None:
        """When the last attempt began, in monotonic seconds."""
        return self._outcome().start_time

    @start_time.setter
    def start_time(self, start_time: float | None) -> None:
        self._show(start_time=start_time)

    @property
    def end_time(self) -> float | None:
        """When the unit ended, in monotonic seconds."""
        return self._outcome().end_time

    @end_time.setter
    def end_time(self, end_time: float | None) -> None:
        self._show(end_time=end_time)

    @property
    def attempt(self) -> int:
        """Attempts made in the run that finished last."""
        return self._outcome().attempt

    @attempt.setter
    def attempt(self, attempt: int) -> None:
        self._show(attempt=attempt)


# Straight into the slots: an assignment would be checked, in Python, and make adding a unit twice as slow.
(
    _set_id,
    _set_function,
    _set_dependencies,
    _set_timeout,
    _set_retries,
    _set_priority,
    _set_retry,
    _set_fallback,
    _set_metadata,
    _set_latest,
    _set_by_hand,
) = (vars(QuantumUnit)[field.name].__set__ for field in attrs.fields(QuantumUnit))


def _unpacked(
    kind: type[QuantumUnit[T, R]], arguments: tuple[Any, ...], retry: RetryPolicy, fallback: Any
) -> QuantumUnit[T, R]:
    return kind(*arguments, retry=retry, fallback=fallback)


def durations(units: Sequence[QuantumUnit[Any, Any]]) -> list[float]:
    """What each unit is expected to take: `metadata["expected_duration"]` in seconds, else 1.

    Returns:
        One number a unit, in their order.

    Raises:
        ValueError: A duration is negative, infinite, NaN or no number.
    """
    found: list[float] = []
    for unit in units:
        expected = unit.get_metadata("expected_duration", 1.0)
        if isinstance(expected, bool) or not isinstance(expected, int | float) or not 0 <= expected <= _LARGEST_S:
            msg = f"unit {shown(unit.id)}: expected_duration is {shown(expected)}; give seconds, 0 or more"
            raise ValueError(msg)
        found.append(float(expected))
    return found
