"""Time as a parameter: the system's clock, and what a run has to do at some time."""

import queue
import random
import threading
import time

import pytest

from qp_core.clock import SystemClock, Timers
from qp_core.testing import FakeClock

PATIENCE_S = 20


class Scripted:
    """A clock that says how long it was asked to wait, lets that time pass at once, and may do something first."""

    def __init__(self):
        self.time = 100.0
        self.waits = []
        self.meanwhile = lambda: None

    def now(self):
        """Its time."""
        return self.time

    def wait(self, inbox, timeout_s, idle):
        """What is in the inbox, or all of the time."""
        self.waits.append(timeout_s)
        self.meanwhile()
        try:
            return inbox.get_nowait()
        except queue.Empty:
            self.time += max(timeout_s or 0.0, 0.0)
            return None


@pytest.fixture
def clock():
    """A scripted clock."""
    return Scripted()


@pytest.fixture
def inbox():
    """A coordinator's."""
    return queue.SimpleQueue()


@pytest.fixture
def timers(clock, inbox):
    """On the scripted clock."""
    return Timers(clock, inbox)


def busy():
    """For a clock that asks whether all is idle."""
    return False


# ---- the machine's own


def test_the_system_clock_is_monotonic_and_knows_the_date():
    """Two clocks in one: differences, and a time for people."""
    clock = SystemClock()
    before, first, second, after = time.monotonic(), clock.now(), clock.now(), time.monotonic()
    assert before <= first <= second <= after
    assert abs(clock.utc() - time.time()) < 3_600


def test_the_system_clock_returns_a_message_at_once(inbox):
    """Even where the time is up already, and where there is no limit."""
    clock = SystemClock()
    for timeout in (None, 60.0, 0.0, -5.0, 1e12, float("inf")):
        inbox.put("here")
        assert clock.wait(inbox, timeout, busy) == "here"


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.001], ids=["none left", "too late", "a moment"])
def test_the_system_clock_gives_none_when_the_time_is_up(inbox, timeout):
    """A negative rest is no rest."""
    assert SystemClock().wait(inbox, timeout, busy) is None


def test_the_system_clock_waits_for_ever_without_a_limit(inbox):
    """Another thread wakes it."""
    threading.Timer(0.01, inbox.put, ("late",)).start()
    assert SystemClock().wait(inbox, None, busy) == "late"


@pytest.mark.parametrize(
    ("asked", "waits"),
    [(None, 1.0), (60.0, 1.0), (0.25, 0.25), (0.0, 0.0), (-5.0, 0.0), (1e12, 1.0), (float("inf"), 1.0)],
    ids=["for ever", "a minute", "a moment", "none left", "too late", "ages", "endless"],
)
def test_the_system_clock_asks_for_no_wait_that_cannot_be(asked, waits):
    """A queue refuses what is below zero, or above what a lock can wait; and nobody sleeps for long at a stretch."""

    class Asked:
        def get(self, timeout):
            return [timeout]

    assert SystemClock().wait(Asked(), asked, busy) == [waits]


@pytest.mark.parametrize("limit", [None, 3600.0], ids=["for ever", "an hour"])
def test_who_waits_looks_up_again_and_again(limit):
    """What comes just before a thread falls asleep does not wake it, and a signal's handler runs only when it wakes."""

    class Handler:
        """A signal came in the moment before the first wait; its handler runs after that."""

        stretches = 0

        def get(self, timeout):
            self.stretches += 1
            if self.stretches <= 3:
                raise queue.Empty
            return "handled"

    assert SystemClock().wait(Handler(), limit, busy) == "handled"
    assert FakeClock().wait(Handler(), None, busy) == "handled"


def test_the_time_is_up_also_after_many_stretches(monkeypatch):
    """Each takes as long as it may; the last is what is left."""
    monkeypatch.setattr("qp_core.clock.time", Passing())
    stretches = []

    class Silent:
        def get(self, timeout):
            stretches.append(timeout)
            Passing.seconds += timeout
            raise queue.Empty

    assert SystemClock().wait(Silent(), 2.5, busy) is None
    assert stretches == [1.0, 1.0, 0.5]


class Passing:
    """A module `time` whose time passes only while somebody waits."""

    seconds = 1000.0

    @classmethod
    def monotonic(cls):
        """Where it is."""
        return cls.seconds


# ---- timers


def test_without_timers_the_wait_has_no_end(timers, clock, inbox):
    """Only a message ends it."""
    inbox.put("hello")
    assert timers.wait(busy) == "hello"
    assert clock.waits == [None]


def test_what_is_due_is_done_in_order_of_time(timers, clock):
    """Not in the order added; each at its time."""
    done = []
    for due in (103.0, 101.0, 102.0):
        timers.add(due, lambda due=due: done.append((due, clock.now())))
    for _ in range(3):
        assert timers.wait(busy) is None
    assert done == [(101.0, 101.0), (102.0, 102.0), (103.0, 103.0)]
    assert clock.waits == [1.0, 1.0, 1.0]


def test_what_is_due_at_the_same_time_is_done_in_the_order_added(timers):
    """All of it in one go."""
    done = []
    for number in range(5):
        timers.add(101.0, lambda number=number: done.append(number))
    timers.wait(busy)
    assert done == [0, 1, 2, 3, 4]


def test_what_is_overdue_is_done_at_once(timers, clock):
    """Without waiting, and once."""
    done = []
    timers.add(90.0, lambda: done.append(clock.now()))
    timers.wait(busy)
    assert done == [100.0]
    assert clock.waits == [-10.0]


def test_what_is_not_due_is_not_done(timers, clock, inbox):
    """Also where a message came first."""
    done = []
    timers.add(105.0, lambda: done.append(clock.now()))
    inbox.put("message")
    assert timers.wait(busy) == "message"
    assert done == []
    timers.wait(busy)
    assert done == [105.0]


def test_a_message_does_not_keep_what_is_due_from_being_done(timers, inbox):
    """Both, in one wait."""
    done = []
    timers.add(99.0, lambda: done.append("due"))
    inbox.put("message")
    assert timers.wait(busy) == "message"
    assert done == ["due"]


def test_what_an_action_adds_is_done_when_it_is_due(timers):
    """In the same wait, where it is due already."""
    done = []

    def again():
        done.append("first")
        timers.add(100.5, lambda: done.append("now"))
        timers.add(102.0, lambda: done.append("later"))

    timers.add(101.0, again)
    timers.wait(busy)
    assert done == ["first", "now"]
    timers.wait(busy)
    assert done == ["first", "now", "later"]


def test_a_timer_knows_when_it_is_due(timers):
    """For who has to cancel the later one."""
    assert timers.add(104.5, busy).due == 104.5


# ---- cancelled timers


def test_a_cancelled_timer_does_nothing(timers):
    """However often it is cancelled."""
    done = []
    timer = timers.add(101.0, lambda: done.append("cancelled"))
    timers.add(102.0, lambda: done.append("kept"))
    timers.cancel(timer)
    timers.cancel(timer)
    timers.wait(busy)
    assert done == ["kept"]


def test_nobody_wakes_up_for_a_cancelled_timer(timers, clock, inbox):
    """The wait is as long as if it had never been there."""
    first = timers.add(101.0, busy)
    timers.add(102.0, busy)
    timers.cancel(first)
    timers.wait(busy)
    assert clock.waits == [2.0]
    timers.cancel(timers.add(105.0, busy))
    inbox.put("only this ends a wait without timers")
    timers.wait(busy)
    assert clock.waits == [2.0, None]


def test_a_timer_that_is_done_can_be_cancelled(timers):
    """It is done, and that is all; what is counted stays right."""
    timer = timers.add(101.0, busy)
    timers.wait(busy)
    timers.cancel(timer)
    assert timers._canceled == 0


def test_an_action_may_cancel_what_is_due_next(timers):
    """Of two that are due at once, the first can take the second back."""
    done = []
    later = []
    timers.add(101.0, lambda: timers.cancel(later[0]))
    later.append(timers.add(101.0, lambda: done.append("cancelled")))
    timers.add(101.0, lambda: done.append("kept"))
    timers.wait(busy)
    assert done == ["kept"]
    assert timers._canceled == 0


def test_cancelled_timers_do_not_pile_up(timers):
    """A unit with a timeout adds one and cancels it: after 10,000 units, the heap is not 10,000 long."""
    kept = timers.add(1_000.0, busy)
    for number in range(10_000):
        timers.cancel(timers.add(500.0 + number, busy))
        assert len(timers._heap) <= 130
    assert kept in timers._heap


def test_cancelled_timers_are_seldom_swept_out(timers, monkeypatch):
    """That looks at all of them: it is done when half are cancelled, so that each cancellation costs the same on average."""
    swept = []
    monkeypatch.setattr("qp_core.clock.heapq.heapify", lambda heap: swept.append(len(heap)))
    added = [timers.add(1_000.0 + number, busy) for number in range(10_000)]
    for timer in added[:5_000]:
        timers.cancel(timer)
    assert swept == []
    for timer in added[5_000:]:
        timers.cancel(timer)
    assert sum(swept) < 10_000
    assert len(timers._heap) <= 130


def test_a_few_cancelled_timers_are_not_worth_sweeping(timers, monkeypatch):
    """Most runs have only a few at any time."""
    monkeypatch.setattr("qp_core.clock.heapq.heapify", lambda heap: pytest.fail("swept"))
    for timer in [timers.add(1_000.0 + number, busy) for number in range(64)]:
        timers.cancel(timer)


def test_what_was_forgotten_is_not_done(timers, clock, inbox):
    """When a run is over; what is added later counts again."""
    done = []
    forgotten = timers.add(101.0, lambda: done.append("forgotten"))
    timers.cancel(timers.add(102.0, busy))
    timers.clear()
    timers.cancel(forgotten)
    timers.add(103.0, lambda: done.append("later"))
    timers.wait(busy)
    assert done == ["later"]
    assert clock.waits == [3.0]


def test_timers_are_right_whatever_is_added_and_cancelled(timers, clock):
    """Against a list: what is done is what was not cancelled, in order of time."""
    rng = random.Random(3)  # noqa: S311 - dice, not secrets
    done, alive = [], []
    for number in range(2_000):
        due = 101.0 + rng.randrange(500)
        timer = timers.add(due, lambda number=number: done.append(number))
        alive.append((due, number, timer))
        if rng.random() < 0.7:
            timers.cancel(alive.pop(rng.randrange(len(alive)))[2])
    expected = [number for _, number, _ in sorted(alive)]
    while len(done) < len(expected):
        timers.wait(busy)
    assert done == expected
    timers.wait(busy)
    assert (timers._heap, timers._canceled) == ([], 0)


# ---- waking up


def test_an_earlier_timer_wakes_who_waits_for_a_later_one(timers, clock, inbox):
    """Added by another thread while the coordinator sleeps; a later one lets it sleep."""
    done = []
    timers.add(110.0, lambda: done.append("late"))
    clock.meanwhile = lambda: timers.add(120.0, busy)
    timers.wait(busy)
    assert done == ["late"], "nothing in the inbox: it slept on"

    clock.meanwhile = lambda: timers.add(115.0, lambda: done.append("early"))
    assert timers.wait(busy) is None
    assert done == ["late"], "it was woken, and nothing was due yet"
    clock.meanwhile = lambda: None
    timers.wait(busy)
    assert done == ["late", "early"]


def test_who_waits_without_timers_is_woken_by_the_first(timers, clock):
    """It waited for ever, so any time is earlier; once woken, only a still earlier one wakes it again."""
    woken = []

    def add():
        timers.add(150.0, busy)
        timers.add(160.0, busy)
        woken.append(timers._inbox.qsize())
        timers.add(140.0, busy)
        woken.append(timers._inbox.qsize())

    clock.meanwhile = add
    timers.wait(busy)
    assert woken == [1, 2]


def test_who_is_awake_is_not_woken(timers, inbox):
    """The coordinator looks at the timers itself before it sleeps."""
    timers.add(101.0, busy)
    assert inbox.empty()
    timers.wait(busy)
    timers.add(50.0, busy)
    assert inbox.empty()


def test_a_real_wait_is_cut_short_by_an_earlier_timer(inbox):
    """With the system's clock and a second thread: the wait for an hour ends when something is due now."""
    timers = Timers(SystemClock(), inbox)
    done = threading.Event()
    timers.add(time.monotonic() + 3_600, busy)

    def coordinate():
        while not done.is_set():
            timers.wait(busy)

    thread = threading.Thread(target=coordinate, daemon=True)
    thread.start()
    while timers._watching is None and thread.is_alive():
        time.sleep(0.001)
    timers.add(0.0, done.set)
    assert done.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_timers_added_by_many_threads_are_all_done(inbox):
    """And each once, on a clock that jumps."""
    clock = FakeClock()
    timers = Timers(clock, inbox)
    done = []
    start = clock.now()

    def add(first):
        for number in range(first, 1_000, 4):
            timer = timers.add(start + number, lambda number=number: done.append(number))
            if number % 3 == 0:
                timers.cancel(timer)

    threads = [threading.Thread(target=add, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    expected = [number for number in range(1_000) if number % 3]
    while len(done) < len(expected):
        timers.wait(lambda: True)
    assert done == expected
