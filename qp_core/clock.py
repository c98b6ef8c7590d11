"""Time as a parameter: every wait of a run goes through a clock.

The fake one that tests use is in `testing`. Nothing here knows what is being waited for, or what a timer does.
"""

import heapq
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

Inbox = queue.SimpleQueue[object]
"""What a run's coordinator listens to. A SimpleQueue, because its `put` may be called from a signal handler."""

AT_A_STRETCH_S = 1.0
"""The longest that a thread sleeps without looking up: a signal that comes just before it falls asleep does not wake it, and its handler
runs only when it wakes."""

_Item = TypeVar("_Item")


def received(messages: "queue.SimpleQueue[_Item]", timeout_s: float = math.inf) -> _Item:
    """Wait for a message, in a thread that signals may concern.

    Args:
        messages: Where it arrives.
        timeout_s: The longest wait in seconds; below 0 is 0.

    Returns:
        The message.

    Raises:
        queue.Empty: The time is up.
    """
    left_s = max(timeout_s, 0.0)
    ends = time.monotonic() + left_s
    while left_s > AT_A_STRETCH_S:
        try:
            return messages.get(timeout=AT_A_STRETCH_S)
        except queue.Empty:
            left_s = ends - time.monotonic()
    return messages.get(timeout=max(left_s, 0.0))


class Clock(Protocol):
    """Where a run gets its time from."""

    def now(self) -> float:
        """Monotonic seconds: only differences mean something."""
        ...

    def utc(self) -> float:
        """Seconds since the epoch, for people to read; never subtracted."""
        ...

    def wait(self, inbox: Inbox, timeout_s: float | None, idle: Callable[[], bool]) -> object | None:
        """Wait for a message, at most `timeout_s` seconds (None: for ever).

        Args:
            inbox: Where messages arrive.
            timeout_s: The longest wait in seconds.
            idle: Whether no unit is running now, so that only time itself can bring the run on. A clock that
                jumps asks this; the system's does not.

        Returns:
            The message, or None when the time is up.
        """
        ...


class SystemClock:
    """The machine's own clock."""

    # Static C functions, so that reading the time on the hot path costs one call and no frame.
    now = staticmethod(time.monotonic)
    utc = staticmethod(time.time)

    def wait(self, inbox: Inbox, timeout_s: float | None, idle: Callable[[], bool]) -> object | None:  # noqa: ARG002 - the protocol's shape
        """Block on the inbox.

        Args:
            inbox: Where messages arrive.
            timeout_s: The longest wait in seconds; None is for ever.
            idle: Not asked: real time passes by itself.

        Returns:
            The message, or None when the time is up.
        """
        try:
            return received(inbox, math.inf if timeout_s is None else timeout_s)
        except queue.Empty:
            return None


_FEW = 64  # cancelled timers that may lie in the heap whatever its size


class Timer:
    """One thing to be done at a time; made by `Timers.add`."""

    __slots__ = ("_due", "_number", "action")

    def __init__(self, due: float, number: int, action: Callable[[], None]) -> None:
        self._due = due
        self._number = number
        self.action: Callable[[], None] | None = action

    def __lt__(self, other: "Timer") -> bool:
        return (self._due, self._number) < (other._due, other._number)

    @property
    def due(self) -> float:
        """When, on the run's clock."""
        return self._due


class Timers:
    """What a run has to do at some time, kept in order; any thread adds, the coordinator does it.

    Args:
        clock: Whose time counts.
        inbox: The coordinator's, for waking it when something earlier than what it waits for is added.
    """

    def __init__(self, clock: Clock, inbox: Inbox) -> None:
        self._clock = clock
        self._inbox = inbox
        self._lock = threading.Lock()
        self._heap: list[Timer] = []
        self._added = 0
        self._canceled = 0
        self._watching: float | None = None  # until when the coordinator sleeps; None while it is awake

    def add(self, due: float, action: Callable[[], None]) -> Timer:
        """Have the coordinator do something at a time. O(log timers).

        Returns:
            The timer, for `cancel`.
        """
        with self._lock:
            self._added += 1
            timer = Timer(due, self._added, action)
            heapq.heappush(self._heap, timer)
            wake = self._watching is not None and due < self._watching
            if wake:
                self._watching = due
        if wake:
            self._inbox.put(None)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget a timer; no error where it is done already. O(1), spread over many."""
        with self._lock:
            if timer.action is None:
                return
            timer.action = None
            self._canceled += 1
            if self._canceled > _FEW and self._canceled * 2 > len(self._heap):
                self._heap = [kept for kept in self._heap if kept.action is not None]
                heapq.heapify(self._heap)
                self._canceled = 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._heap.clear()
            self._canceled = 0

    def wait(self, idle: Callable[[], bool]) -> object | None:
        """Sleep until a message arrives or a timer is due, and do what is due.

        Args:
            idle: Passed on to the clock.

        Returns:
            The message, or None.
        """
        with self._lock:
            while self._heap and self._heap[0].action is None:  # nobody needs to wake up for a timer that was cancelled
                heapq.heappop(self._heap)
                self._canceled -= 1
            due = self._heap[0].due if self._heap else None
            self._watching = math.inf if due is None else due
        message = self._clock.wait(self._inbox, None if due is None else due - self._clock.now(), idle)
        with self._lock:
            self._watching = None
        self._do_due()
        return message

    def _do_due(self) -> None:
        while True:
            with self._lock:
                if not self._heap or self._heap[0].due > self._clock.now():
                    return
                timer = heapq.heappop(self._heap)
                action, timer.action = timer.action, None
                if action is None:
                    self._canceled -= 1
            if action is not None:
                action()
