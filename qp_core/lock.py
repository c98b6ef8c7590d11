"""Run: the lock of what many workers touch for a moment, over and over.

Not a plain `threading.Lock`, because of the convoy that it forms under a GIL: a thread that sleeps on a lock is given it by the
one that lets go, but still has to wait for the GIL, and meanwhile *owns* the lock; so the next thread that wants it must sleep
too, hands over the GIL, and so on: once begun, every single use of the lock costs two switches of threads (three to four times
the whole cost of a small unit, measured with two workers).

References:
    Blasgen, Gray, Mitoma, Price (1979), "The convoy phenomenon".
"""

import threading
import time
from types import TracebackType
from typing import Any

_PATIENCE = 100  # turns given to others; whoever holds the lock needs only one of them


class YieldingLock:
    """A lock that is never owned by a thread that waits for the GIL: who finds it taken lets others run, and tries again.

    Where time is everything, `try_acquire`, `wait` and `release` may be written out; otherwise it is used with `with`. It is not
    reentrant unless it is made of a lock that is, and not fair. After a hundred turns it is waited for like any other lock, so that nobody spins while the holder is
    kept from running.

    Args:
        lock: What it is made of, such as an RLock; a new `threading.Lock` if None.

    Attributes:
        try_acquire: Called with False: takes the lock if it is free, and says whether it did.
        release: Lets go of it.
    """

    __slots__ = ("release", "try_acquire")

    def __init__(self, lock: Any = None) -> None:
        lock = threading.Lock() if lock is None else lock
        self.try_acquire = lock.acquire
        self.release = lock.release

    def wait(self) -> None:
        """Take the lock that was found taken."""
        for _ in range(_PATIENCE):
            time.sleep(0)  # lets go of the GIL and, without one, of the core; nothing is waited for by the clock
            if self.try_acquire(False):  # noqa: FBT003 - the C function's only form
                return
        self.try_acquire()

    def __enter__(self) -> None:
        if not self.try_acquire(False):  # noqa: FBT003 - the C function's only form
            self.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
