"""What the end of an attempt means: whoever claims a unit ends it, observers hear of it before dependents, and whatever they do, it is ended."""

import random
from dataclasses import dataclass

import pytest

from qp_core import ExecutionPlan, QuantumUnit, RetryPolicy
from qp_core.budget import Budget
from qp_core.clock import Inbox, Timers
from qp_core.frontier import LOST, NONE_READY, Frontier
from qp_core.ledger import CANCELED, COMPLETED, FAILED, PENDING, RUNNING, SKIPPED, TIMEOUT, Ledger
from qp_core.settlement import Settlement
from qp_core.telemetry import Listeners, UnitFinished, UnitRetrying
from qp_core.testing import FakeClock


class Bench:
    """A settlement with everything that it needs, and a log of what happened in which order.

    Args:
        needs: Dependencies by id.
        retries: Of every unit.
        heard: Called with each event, before it is logged.
        rng: Where jitter comes from.
        stops_on_failure: Whether a failure halts the run.
    """

    def __init__(self, needs, *, retries=0, heard=None, rng=None, stops_on_failure=False):
        units = {name: QuantumUnit(name, print, deps, retries=retries) for name, deps in needs.items()}
        plan = ExecutionPlan.of(units)
        self.ids = list(plan.index)
        self.number = plan.index
        self.log = []
        self.clock = FakeClock()
        self.inbox = Inbox()
        self.timers = Timers(self.clock, self.inbox)
        self.ledger = Ledger(plan)
        self.frontier = Frontier(self.ledger, None, Budget(8), on_over=lambda: self.log.append("over"))

        def hear(event):
            if heard is not None:
                heard(event)
            ready = [self.ids[number] for number in self.frontier._ready]
            what = "retrying" if isinstance(event, UnitRetrying) else event.state.value
            self.log.append((what, event.unit_id, ready))

        self.settlement = Settlement(
            run_id="run",
            ledger=self.ledger,
            frontier=self.frontier,
            timers=self.timers,
            clock=self.clock,
            listeners=Listeners({UnitFinished: [("bench", hear)], UnitRetrying: [("bench", hear)]}),
            policies=None,
            rng=rng or random.Random(0),  # noqa: S311 - jitter, not secrets
            on_failure=(lambda: self.halt("fail_fast")) if stops_on_failure else None,
        )
        self.frontier.begin(None, 1, eager=True)

    def take(self, worker=0):
        """Take a unit; its id."""
        number = self.frontier.take(worker)
        return self.ids[number] if number >= 0 else None

    def halt(self, reason):
        """Halt, and log it."""
        self.log.append(f"halt {reason}")
        self.settlement.halt(reason)

    def state(self, name):
        """The code of a unit's state."""
        return self.ledger.states[self.number[name]]

    def due(self):
        """Let an hour pass, and do what is due."""
        self.clock.advance(3_600)
        self.inbox.put(None)
        self.timers.wait(lambda: False)


CONE = {"bad": [], "x": ["bad"], "y": ["x"], "other": []}


def test_observers_hear_of_a_unit_before_its_dependents_are_ready():
    """A -> b: when a is told of, b is not ready; then it is handed out at once."""
    bench = Bench({"a": [], "b": ["a"]})
    bench.take()
    assert bench.ids[bench.settlement.value(0, 0, "value", 1000.0, metrics={"m": 1})] == "b"
    assert bench.log == [("completed", "a", [])]
    assert (bench.ledger.values[0], dict(bench.ledger.notes_of(0).metrics)) == ("value", {"m": 1})
    assert bench.state("b") == RUNNING


def test_who_does_not_own_a_unit_settles_nothing_and_tells_nobody():
    """Neither with a value, nor a failure, nor another attempt."""
    bench = Bench({"a": []}, retries=1)
    bench.take(worker=1)
    assert bench.settlement.value(0, 0, "late", metrics={"late": 1}) == LOST
    assert bench.settlement.failure(0, 0, ValueError(), FAILED) is False
    assert bench.settlement.retry(0, 0, ValueError(), 1000.0) is False
    assert bench.log == []
    assert bench.state("a") == RUNNING
    assert dict(bench.ledger.notes_of(0).metrics) == {}
    assert bench.ledger.notes_of(0).error is None


def test_a_failed_unit_is_told_of_first_then_its_cone_then_the_rest_is_stopped_then_it_is_over():
    """Bad -> x -> y beside other; the failure stops the run."""
    bench = Bench(CONE, stops_on_failure=True)
    bench.take()
    assert bench.settlement.failure(0, 0, ValueError("broken"), FAILED, 1000.0)
    assert bench.log == [
        ("failed", "bad", ["other"]),
        ("skipped", "x", ["other"]),
        ("skipped", "y", ["other"]),
        "halt fail_fast",
        ("canceled", "other", []),
        "over",
    ]
    assert [bench.state(name) for name in bench.ids] == [FAILED, SKIPPED, SKIPPED, CANCELED]


def test_a_cancelled_unit_stops_nothing_else():
    """It is no failure."""
    bench = Bench(CONE, stops_on_failure=True)
    bench.take()
    bench.settlement.failure(0, None, ValueError(), CANCELED)
    assert bench.frontier.halted is None
    assert bench.take() == "other"


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818 - what matters is that nothing can be set on it
    """Takes no notes."""


class Odd(Exception):  # noqa: N818 - what matters is that its notes are none
    """Its notes are no list."""

    __notes__ = 5


@pytest.mark.parametrize("error", [Frozen(), Odd()], ids=["frozen", "odd_notes"])
def test_an_exception_that_takes_no_notes_is_settled_like_any_other(error):
    """It only does not say whose it is."""
    bench = Bench({"a": []})
    bench.take()
    assert bench.settlement.failure(0, 0, error, FAILED)
    assert bench.ledger.notes_of(0).error is error
    assert bench.frontier.over


def test_an_exception_says_whose_it_is_once():
    """Also where two units raised the same object."""
    bench, error = Bench({"a": [], "b": []}), ValueError("shared")
    for number in range(2):
        bench.take()
        bench.settlement.failure(number, 0, error, FAILED)
    assert error.__notes__ == ["raised by unit 'a'", "raised by unit 'b'"]


def test_another_attempt_waits_for_its_time():
    """Told of, then pending, then ready when the time has come."""
    bench = Bench({"a": []}, retries=1)
    bench.take()
    assert bench.settlement.retry(0, 0, ValueError("first"), 1000.0, metrics={"m": 1}) is True
    assert bench.log == [("retrying", "a", [])]
    assert bench.state("a") == PENDING
    assert str(bench.ledger.notes_of(0).error) == "first"
    assert bench.take() is None
    bench.due()
    assert bench.take() == "a"


@pytest.mark.parametrize(
    "error", [SystemExit(), KeyboardInterrupt(), BaseException()], ids=lambda one: type(one).__name__
)
def test_what_is_no_exception_is_not_tried_again(error):
    """The unit is still to be settled by who asked."""
    bench = Bench({"a": []}, retries=5)
    bench.take()
    assert bench.settlement.retry(0, 0, error, 1000.0) is None
    assert bench.state("a") == RUNNING


def test_there_are_no_more_attempts_than_granted():
    """One retry: the second failure is the last."""
    bench = Bench({"a": []}, retries=1)
    bench.take()
    bench.settlement.retry(0, 0, ValueError(), 1000.0)
    bench.due()
    bench.take()
    bench.ledger.note(0, attempts=2)
    assert bench.settlement.retry(0, 0, ValueError(), 5000.0) is None


def test_a_run_that_is_halted_as_an_attempt_is_put_off_cancels_that_unit():
    """The halt finds it running, and so does not cancel it: who puts it off has to."""

    class Halts(random.Random):  # noqa: S311 - jitter, not secrets
        """Jitter is drawn after it was decided that there will be another attempt."""

        def random(self):
            """Halt the run in this very moment."""
            bench.settlement.halt("why")
            return 0.5

    bench = Bench({"a": [], "b": []}, retries=1, rng=Halts())
    bench.take()
    assert bench.settlement.retry(0, 0, ValueError(), 1000.0) is True
    assert bench.log == [("canceled", "b", []), ("retrying", "a", []), ("canceled", "a", []), "over"]
    assert bench.state("a") == CANCELED
    bench.due()
    assert bench.take() is None


def test_a_run_that_is_halted_as_observers_hear_of_a_retry_cancels_it_once():
    """It is pending then, so the halt cancels it."""
    bench = Bench(
        {"a": []}, retries=1, heard=lambda event: isinstance(event, UnitRetrying) and bench.settlement.halt("why")
    )
    bench.take()
    assert bench.settlement.retry(0, 0, ValueError(), 1000.0) is True
    assert [entry for entry in bench.log if entry != "over"] == [("canceled", "a", []), ("retrying", "a", [])]
    assert bench.log.count("over") == 1


def test_a_halted_run_tries_nothing_again():
    """The unit has failed."""
    bench = Bench({"a": [], "b": []}, retries=5)
    bench.take()
    bench.settlement.halt("why")
    assert bench.settlement.retry(0, 0, ValueError(), 1000.0) is None


def test_halting_tells_of_each_unit_once():
    """The second time nothing is left."""
    bench = Bench(CONE)
    bench.settlement.halt("why")
    bench.settlement.halt("again")
    assert sorted(entry[1] for entry in bench.log if entry != "over") == ["bad", "other", "x", "y"]
    assert bench.log.count("over") == 1
    assert bench.frontier.halted == "why"


class Leaves:
    """An observer that leaves the program at one event.

    Args:
        what: The kind of event, or the state that it tells of.
    """

    def __init__(self, what):
        self._what = what

    def __call__(self, event):
        """Leave?"""
        what = "retrying" if isinstance(event, UnitRetrying) else event.state.value
        if what == self._what:
            raise SystemExit(4)


@pytest.mark.parametrize("what", ["completed", "failed", "skipped", "canceled", "retrying"])
def test_whatever_an_observer_does_what_is_claimed_is_ended(what):
    """SystemExit goes through, but no unit stays open: stopping the run brings it to its end."""
    bench = Bench(CONE, retries=1 if what == "retrying" else 0, heard=Leaves(what))
    bench.take()
    settlement = bench.settlement
    actions = {
        "completed": lambda: settlement.value(0, 0, 1),
        "failed": lambda: settlement.failure(0, 0, ValueError(), FAILED),
        "skipped": lambda: settlement.failure(0, 0, ValueError(), FAILED),
        "canceled": lambda: settlement.halt("why"),
        "retrying": lambda: settlement.retry(0, 0, ValueError(), 1000.0),
    }
    with pytest.raises(SystemExit):
        actions[what]()
    settlement.halt("broken off")
    for number in bench.frontier.at_work():
        settlement.failure(number, None, ValueError(), CANCELED)
    assert bench.frontier.over
    assert bench.log[-1] == "over"


def test_a_unit_that_timed_out_is_a_failure():
    """Its cone is skipped because of it."""
    bench = Bench({"slow": [], "after": ["slow"]})
    bench.take()
    bench.settlement.failure(0, None, TimeoutError(), TIMEOUT)
    assert [bench.state(name) for name in bench.ids] == [TIMEOUT, SKIPPED]
    assert bench.ledger.causes == {1: 0}


def test_a_value_may_come_without_a_start():
    """From a cache: the unit did not run."""
    bench = Bench({"a": []})
    bench.take()
    assert bench.settlement.value(0, 0, "cached", cached=True) == NONE_READY
    assert bench.state("a") == COMPLETED
    assert bench.ledger.notes_of(0).cached
    assert not bench.ledger.ran(0)


def test_no_further_attempt_is_made_past_the_policys_end():
    """Measured from the first attempt."""
    bench = Bench({"a": []}, retries=9)
    bench.ledger.plan.nodes[0].retry = RetryPolicy(base_s=1, jitter=0, stop_after_s=3)
    bench.take()
    bench.ledger.note(0, first_started=bench.clock.now())
    assert bench.settlement.retry(0, 0, ValueError(), bench.clock.now()) is True
    bench.due()
    bench.take()
    assert bench.settlement.retry(0, 0, ValueError(), bench.clock.now()) is None
