"""Run: the ready set — which unit may run next, and who is told.

Policy: a unit is ready when the count of its unfinished dependencies reaches zero. Whoever finishes a unit counts down
its children (never looks at anything else), takes one ready unit for itself, and calls for help if more are left.
Everything is O(edges) over a whole run.

State, all under one lock:

- `left[i]`: dependencies of unit i that have not ended well; -1 for a unit that must not become ready any more.
- `ready`: ready units that nobody has taken; a deque in order of arrival, or a heap of ranks under a strategy.
- `crew`: workers at work; `gates`: workers asleep, each behind a lock of its own.
- `open`: units that have not ended; at zero the run is over.

In order of arrival the finisher goes on with the first unit that it has made ready, whatever waits: a chain stays with one
worker, and results are used while they are fresh. Under a strategy the most urgent unit always goes first.

What is *not* here: how a unit is called, retried or timed (`attempt`, `run`).
"""

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from qp_core.budget import Budget, nothing
from qp_core.ledger import CANCELED, COMPLETED, FREED, PENDING, RUNNING, SKIPPED, Ledger
from qp_core.lock import YieldingLock

_log = logging.getLogger("qp_core")

NONE_READY = -1
"""What is taken when nothing is ready."""
LOST = -2
"""What a worker is told whose unit was settled by somebody else: it was abandoned, and must go."""
NOBODY = -1
"""The worker of a unit that was taken from its worker, and is to be ended by another."""


class _Gate:
    """What a worker sleeps behind."""

    __slots__ = ("dismissed", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.dismissed = False  # opened because the run is over: whoever slept here was not counted in again


class Frontier:
    """The ready set of one run, and its crew.

    Args:
        ledger: Where states and results are written.
        order: Unit numbers, most urgent first; None is the order of arrival.
        budget: How many may run at once.
        known: Units whose results are in the ledger already.
        keep: Where results are freed after their last use: those to keep. None frees nothing.
        on_over: Called once, when the last unit has ended; must not block.
    """

    def __init__(
        self,
        ledger: Ledger,
        order: Sequence[int] | None,
        budget: Budget,
        *,
        known: Collection[int] = (),
        keep: Collection[int] | None = None,
        on_over: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        # The columns that every unit touches, one look-up nearer.
        self._states, self._values, self._workers = ledger.states, ledger.values, ledger.workers
        self._started, self._ended = ledger.started, ledger.ended
        self._children = ledger.plan.children
        self._left = [len(needs) for needs in ledger.plan.needs]
        self._open = len(self._left)
        self._lock = YieldingLock()
        self._rank: list[int] | None = None
        self._by_rank = order or ()
        if order is not None:
            self._rank = [0] * len(order)
            for rank, number in enumerate(order):
                self._rank[number] = rank
        self._uses = None if keep is None else [len(children) for children in self._children]
        self._keep = keep or ()
        self._on_over = on_over
        self._budget = budget
        self._spawn: Callable[[], None] | None = None
        self._limit = 0
        self._eager = True
        self._crew = 0
        self._disbanded = False
        self._coming = 0  # workers called on a loop that have not arrived yet
        self._gates: list[_Gate] = []
        self.halted: str | None = None
        """Why no further unit is handed out; None while the run goes on."""
        self._ready: Any = deque() if self._rank is None else []
        self._admit_known(known)
        for number in range(len(self._left)) if self._rank is None else self._by_rank:
            if not self._left[number]:
                self._ready.append(number if self._rank is None else self._rank[number])  # ascending ranks are a heap

    def _admit_known(self, known: Collection[int]) -> None:
        for number in known:
            self._ledger.states[number] = COMPLETED
            self._left[number] = -1
            self._open -= 1
        for number in known:
            for child in self._children[number]:
                if self._left[child] > 0:
                    self._left[child] -= 1

    # ---- the crew

    def begin(self, spawn: Callable[[], None] | None, limit: int, *, eager: bool) -> None:
        """Let workers come.

        Args:
            spawn: Starts one more worker, which will call `take`; called under the lock, so it must not wait for the frontier.
                None where the caller is the only worker.
            limit: The most workers at once.
            eager: Whether a worker that leaves ready units behind calls for help at once. On an event loop it does not:
                only a unit that waits makes room for another worker.
        """
        with self._lock:
            self._spawn = spawn
            self._limit = limit
            self._eager = eager
            if spawn is None:
                self._crew = 1
                self._budget.take(nothing)
            if not self._open:
                self._on_over()
            elif self._ready:
                self._call_for_help()

    def disband(self) -> None:
        """Count nobody any more, since the run is over: slots of workers that never left go back to whom they were borrowed from.

        Those are the only worker where none is spawned, and what an executor has left behind or broken off.
        """
        with self._lock:
            left, self._crew, self._disbanded = self._crew, 0, True
        for _ in range(left):
            self._budget.give()

    def close(self) -> None:
        """Let go of what starts workers, when the run is over."""
        with self._lock:
            self._spawn = None

    def help(self) -> None:
        """Call one more worker if there is something for it to do.

        On an event loop one at a time: whoever comes calls the next as soon as it waits itself. Were each unit that waits to call a
        worker, units that wait for a moment only would double their number in each turn of the loop.
        """
        with self._lock:
            if self._ready and not self._coming:
                self._call_for_help()

    def arrive(self, worker: int) -> int:
        """`take` for a worker that was called on an event loop, the first time.

        Returns:
            A unit's number, or `NONE_READY`.
        """
        with self._lock:
            self._coming = 0
            return self._next(worker)

    def _call_for_help(self) -> None:
        if self._spawn is None or self._crew >= self._limit or not self._budget.take(self.help):
            return
        self._crew += 1
        self._coming = 0 if self._eager else 1
        if self._gates:
            self._gates.pop().lock.release()
            return
        try:
            self._spawn()
        except RuntimeError:  # "can't start new thread": go on with the workers there are
            self._crew -= 1
            self._limit = self._crew
            self._budget.put_back()
            if not self._crew:
                raise
            _log.warning("no further worker can be started; going on with %d", self._crew, exc_info=True)

    def leave(self) -> None:
        """A worker goes for good."""
        with self._lock:
            if self._disbanded:
                return
            self._crew -= 1
        self._budget.give()
        self.help()  # a unit may have become ready since this worker looked for one, while there was no room for another

    # ---- handing out

    def take(self, worker: int) -> int:
        """Take a ready unit.

        Returns:
            Its number, or `NONE_READY`.
        """
        with self._lock:
            return self._next(worker)

    def take_or_sleep(self, worker: int) -> int:
        """Take a ready unit; where there is none, sleep until there is one. The worker leaves when the run is over.

        Returns:
            The unit's number, or `NONE_READY` when the worker has left.
        """
        while True:
            with self._lock:
                number = self._next(worker)
                if number >= 0 or self._disbanded:
                    return number
                self._crew -= 1
                gate = _Gate() if self._open else None
                if gate is not None:
                    self._gates.append(gate)
            self._budget.give()
            if gate is None:
                return NONE_READY
            gate.lock.acquire()  # whoever opens it has counted us in again
            if gate.dismissed:
                return NONE_READY

    def _next(self, worker: int) -> int:
        ready, states, workers = self._ready, self._states, self._workers
        number = NONE_READY
        while number < 0:
            if not ready:
                return NONE_READY
            number = ready.popleft() if self._rank is None else self._by_rank[heapq.heappop(ready)]
            if states[number] != PENDING and (states[number] != RUNNING or workers[number] != NOBODY):
                number = NONE_READY  # passed on, and ended by the coordinator before anybody came for it
        states[number] = RUNNING
        workers[number] = worker
        if ready and self._eager and self._crew < self._limit:
            self._call_for_help()
        return number

    # ---- settling

    def begin_attempt(self, number: int, worker: int, started: float, notes: Mapping[str, Any]) -> bool:
        """Note that an attempt begins, for who may have to know at any moment whether it has.

        Args:
            number: The unit.
            worker: Who is about to run it.
            started: The time.
            notes: What else is worth noting.

        Returns:
            False where somebody else has settled the unit: then the attempt must not begin.
        """
        ledger = self._ledger
        with self._lock:
            if ledger.states[number] != RUNNING or ledger.workers[number] != worker:
                return False
            ledger.started[number] = started
            if notes:
                ledger.note(number, **notes)
            return True

    def complete(self, number: int, worker: int, value: Any, started: float, ended: float) -> int:  # noqa: C901, PLR0912 - see "written out" below
        """A unit has completed: keep its result, make its children ready, take one unit.

        Returns:
            The next unit for this worker, `NONE_READY`, or `LOST`.
        """
        states, workers = self._states, self._workers
        lock = self._lock
        if not lock.try_acquire(False):  # noqa: FBT003 - `with` written out too
            lock.wait()
        try:
            if states[number] != RUNNING or workers[number] != worker:
                return LOST
            states[number] = COMPLETED
            self._values[number] = value
            self._started[number] = started
            self._ended[number] = ended
            # From here on `release`, written out: the one place where a call's cost per unit shows.
            left = self._left
            following = NONE_READY
            if self._rank is None:
                for child in self._children[number]:
                    left[child] -= 1
                    if not left[child]:
                        if following < 0:
                            following = child
                        else:
                            self._ready.append(child)
            else:
                for child in self._children[number]:
                    left[child] -= 1
                    if not left[child]:
                        heapq.heappush(self._ready, self._rank[child])
            self._open -= 1
            if self._uses is not None:
                self._free_needs_of(number)
            if following < 0:
                if self._ready:
                    return self._next(worker)
                if not self._open:
                    self._finish()
                return NONE_READY
            states[following] = RUNNING
            workers[following] = worker
            if self._ready and self._eager and self._crew < self._limit:
                self._call_for_help()
            return following
        finally:
            lock.release()

    def claim(
        self,
        number: int,
        worker: int | None,
        state: int,
        value: Any = None,
        started: float = 0.0,
        ended: float = 0.0,
        notes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Settle a running unit without yet telling its children; the first who claims it wins.

        Between claim and `release`, observers are told: so they hear of a unit's end before any dependent starts.

        Args:
            number: The unit.
            worker: Who ran it; None where the coordinator takes it from whoever runs it.
            state: The code of its last state, or PENDING where it will be tried again.
            value: Its result.
            started: When the attempt began; 0.0 keeps what is there.
            ended: When it ended.
            notes: What is worth noting; written only by who wins.

        Returns:
            False where somebody else has settled it.
        """
        ledger = self._ledger
        with self._lock:
            if ledger.states[number] != RUNNING or (worker is not None and ledger.workers[number] != worker):
                return False
            ledger.states[number] = state
            ledger.values[number] = value
            if started:
                ledger.started[number] = started
            if ended:
                ledger.ended[number] = ended
            if notes:
                ledger.note(number, **notes)
            return True

    def release(self, number: int, worker: int) -> int:
        """Let the children of a claimed, completed unit become ready, and take one unit, as `complete` does.

        Returns:
            The next unit for this worker, or `NONE_READY`.
        """
        with self._lock:
            left = self._left
            following = NONE_READY
            for child in self._children[number]:
                left[child] -= 1
                if not left[child]:
                    if following < 0 and self._rank is None:
                        following = child
                    else:
                        self._push(child)
            self._count_ended([number])
            if following < 0:
                following = self._next(worker)
            else:
                self._states[following] = RUNNING
                self._workers[following] = worker
                if self._ready and self._eager:
                    self._call_for_help()
            return following

    def put_back(self, number: int, worker: int) -> bool:
        """Give back a unit that was taken and not begun; it is handed out again, next of all.

        Returns:
            False where the run was halted: then the unit is still the worker's, and to be cancelled.
        """
        with self._lock:
            if self.halted is not None or self._states[number] != RUNNING or self._workers[number] != worker:
                return False
            self._states[number] = PENDING
            if self._rank is None:
                self._ready.appendleft(number)
            else:
                self._push(number)
            return True

    def pass_on(self, number: int, worker: int) -> bool:
        """Take a running unit from its worker, and have it handed out again, next of all: whoever gets it has to end it.

        Returns:
            False where somebody else has settled it.
        """
        with self._lock:
            if self._states[number] != RUNNING or self._workers[number] != worker:
                return False
            self._workers[number] = NOBODY
            if self._rank is None:
                self._ready.appendleft(number)
            else:
                self._push(number)
            return True

    def skip_cone(self, root: int) -> list[int]:
        """Skip everything that waits for a claimed unit, directly or not. O(edges of what is skipped).

        The units count as ended only when `end` is called with them.

        Returns:
            The skipped units, nearer ones first.
        """
        states, left = self._ledger.states, self._left
        skipped: list[int] = []
        with self._lock:
            todo = deque([root])
            while todo:
                for child in self._children[todo.popleft()]:
                    if states[child] == PENDING and left[child] > 0:
                        states[child] = SKIPPED
                        left[child] = -1
                        self._ledger.causes[child] = root
                        skipped.append(child)
                        todo.append(child)
        return skipped

    def end(self, numbers: Sequence[int]) -> None:
        """Count claimed, skipped or cancelled units as ended."""
        with self._lock:
            self._count_ended(numbers)
            if self._open and self._ready and self._eager:
                self._call_for_help()

    def _count_ended(self, numbers: Sequence[int]) -> None:
        self._open -= len(numbers)
        if self._uses is not None:
            for number in numbers:
                self._free_needs_of(number)
        if not self._open:
            self._finish()

    def _free_needs_of(self, number: int) -> None:
        uses = self._uses
        if uses is None:
            return
        for need in self._ledger.plan.needs[number]:
            uses[need] -= 1
            if not uses[need] and need not in self._keep:
                self._ledger.values[need] = FREED
        if not uses[number] and number not in self._keep:  # whatever would have used it was skipped before it had ended
            self._ledger.values[number] = FREED

    def _push(self, number: int) -> None:
        if self._rank is None:
            self._ready.append(number)
        else:
            heapq.heappush(self._ready, self._rank[number])

    def requeue(self, number: int) -> None:
        """Make a unit ready again that waited for another attempt; nothing where it has been cancelled since."""
        with self._lock:
            if self._ledger.states[number] == PENDING and self.halted is None:
                self._push(number)
                self._call_for_help()

    def halt(self, reason: str) -> list[int]:
        """Hand out nothing more, and cancel every unit that has not begun. O(units), once.

        The units count as ended only when `end` is called with them.

        Returns:
            The cancelled units; none where the run was halted before.
        """
        with self._lock:
            if self.halted is not None or not self._open:
                return []
            self.halted = reason
            states, left = self._ledger.states, self._left
            # What was passed on is begun already, and still has to be ended.
            begun = [one for one in self._ready if states[one if self._rank is None else self._by_rank[one]] == RUNNING]
            self._ready.clear()
            self._ready.extend(sorted(begun) if self._rank is not None else begun)
            canceled = [number for number, state in enumerate(states) if state == PENDING]
            for number in canceled:
                states[number] = CANCELED
                left[number] = -1
            return canceled

    def withdraw(self, number: int) -> bool:
        """Cancel a unit that was claimed for another attempt just when the run was halted.

        Returns:
            Whether it was still to be cancelled.
        """
        with self._lock:
            if self.halted is None or self._ledger.states[number] != PENDING:
                return False
            self._ledger.states[number] = CANCELED
            return True

    def owner(self, number: int) -> int:
        """The worker that runs a unit.

        Returns:
            The worker's number; -1 where the unit is not running.
        """
        with self._lock:
            return self._ledger.workers[number] if self._ledger.states[number] == RUNNING else -1

    def at_work(self) -> list[int]:
        """The units that are running now. O(units) with a small factor.

        Returns:
            Their numbers.
        """
        with self._lock:
            states = self._ledger.states
            found: list[int] = []
            number = states.find(RUNNING)
            while number >= 0:
                found.append(number)
                number = states.find(RUNNING, number + 1)
            return found

    @property
    def idle(self) -> bool:
        """Whether only time can bring the run on: nothing is ready, and no worker is at work or on its way."""
        with self._lock:
            # Where workers are not spawned, the only one is the one that asks.
            return not self._ready and (self._spawn is None or not self._crew)

    @property
    def over(self) -> bool:
        """Whether every unit has ended."""
        with self._lock:
            return not self._open

    def _finish(self) -> None:
        for gate in self._gates:
            gate.dismissed = True
            gate.lock.release()
        self._gates.clear()
        self._on_over()
