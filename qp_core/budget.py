"""Run: how many units may run at once, counted over a run and the runs nested in its units."""

from collections.abc import Callable

from qp_core.lock import YieldingLock
from qp_core.strategy import available_cores


def nothing() -> None:
    """Not interested in a slot that comes free later."""


class Budget:
    """How many units may run at once, shared by a run and the runs nested in it.

    A nested run is lent the slot of the unit that waits for it, and may borrow what the outer runs do not use; so there are
    never more units at work than the outermost run was granted, and every run can always go on.

    Args:
        slots: How many; a nested run has the one it is lent.
        outer: The budget to borrow from.
    """

    def __init__(self, slots: int, outer: "Budget | None" = None) -> None:
        self._free = slots
        self._outer = outer
        self._borrowed = 0
        self.lock: YieldingLock = outer.lock if outer else YieldingLock()
        """One lock for the whole nest."""
        self.wanting: list[Callable[[], None]] = outer.wanting if outer else []
        """Who waits for a slot, of the whole nest."""

    @property
    def unbounded(self) -> bool:
        """Whether there is always a slot."""
        return False

    def for_nested(self) -> "Budget":
        """The budget that nested runs with a bound share."""
        return self

    def take(self, offer: Callable[[], None]) -> bool:
        """Take a slot.

        Args:
            offer: Called once when a slot comes free, if there is none now.

        Returns:
            Whether there was one.
        """
        with self.lock:
            if self.take_locked():
                return True
            if offer not in self.wanting:
                self.wanting.append(offer)
            return False

    def put_back(self) -> None:
        """Give back a slot that was taken a moment ago, without offering it to anybody."""
        with self.lock:
            self.give_locked()

    def take_locked(self) -> bool:
        """`take` for who holds the lock; asks nobody to be told later.

        Returns:
            Whether there was a slot.
        """
        if self._free:
            self._free -= 1
            return True
        if self._outer is not None and self._outer.take_locked():
            self._borrowed += 1
            return True
        return False

    def give(self) -> None:
        """Give a slot back, and offer it to who wants one. Must be called without holding a frontier's lock."""
        with self.lock:
            self.give_locked()
            wanting = self.wanting[:]
            self.wanting.clear()
        for offer in wanting:
            offer()

    def give_locked(self) -> None:
        """`give` for who holds the lock; offers to nobody."""
        if self._borrowed and self._outer is not None:
            self._borrowed -= 1
            self._outer.give_locked()
        else:
            self._free += 1


class Unbounded(Budget):
    """A budget that never ends, and counts nothing; bounded runs that are nested in its run share another.

    Without that, a thousand coroutines with a run of threads in each would start thousands of threads.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self._nested: Budget | None = None

    def for_nested(self) -> Budget:
        """The budget that nested runs with a bound share, beside the slot that each of them is lent: two for each core."""
        with self.lock:
            if self._nested is None:
                self._nested = Budget(2 * available_cores())
            return self._nested

    @property
    def unbounded(self) -> bool:
        """Whether there is always a slot."""
        return True

    def take(self, offer: Callable[[], None]) -> bool:  # noqa: ARG002 - nobody ever waits
        """Take a slot."""
        return True

    def give(self) -> None:
        """Give a slot back."""

    def put_back(self) -> None:
        """Give a slot back."""
