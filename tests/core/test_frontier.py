"""The ready set, looked at directly: who may run next, who is called for help, and that no unit and no wake-up is lost."""

import random
import threading
import time
from collections import deque

import pytest

from qp_core import ExecutionPlan, QuantumUnit
from qp_core.budget import Budget
from qp_core.frontier import LOST, NONE_READY, Frontier
from qp_core.ledger import CANCELED, COMPLETED, FAILED, FREED, PENDING, RUNNING, SKIPPED, Ledger
from tests.core.engine import PATIENCE_S, said, wait_for


class Workers:
    """Stands for an executor: counts the workers that are called."""

    def __init__(self):
        self.called = 0
        self.error = None

    def __call__(self):
        """Call one."""
        if self.error is not None:
            raise self.error
        self.called += 1


class RestlessBytes(bytearray):
    """Lets other threads run after each reading."""

    def __getitem__(self, place):
        """Read, and give way."""
        value = super().__getitem__(place)
        time.sleep(0)
        return value


class RestlessList(list):
    """Lets other threads run after each reading."""

    def __getitem__(self, place):
        """Read, and give way."""
        value = super().__getitem__(place)
        time.sleep(0)
        return value

    def __len__(self):
        """Say how many there are, and give way."""
        count = super().__len__()
        time.sleep(0)
        return count


class RestlessDeque(deque):
    """Lets other threads run after each look."""

    def __len__(self):
        """Say how many there are, and give way."""
        count = super().__len__()
        time.sleep(0)
        return count


class Bench:
    """A frontier with its ledger, numbers for names, and what it called.

    Args:
        needs: Dependencies by id.
        order: Ids, most urgent first; None is the order of arrival.
        slots: The budget.
        known: Ids with known results.
        keep: Ids whose results are kept; None frees nothing.
        restless: Whether other threads run between any reading and writing of the frontier's state.
    """

    def __init__(self, needs, order=None, slots=8, known=(), keep=None, *, restless=False):
        plan = ExecutionPlan.of({name: QuantumUnit(name, print, deps) for name, deps in needs.items()})
        self.number = plan.index
        self.ids = list(plan.index)
        self.ledger = Ledger(plan)
        if restless:
            self.ledger.states = RestlessBytes(self.ledger.states)
        self.budget = Budget(slots)
        self.over = 0
        self.workers = Workers()
        numbers = None if order is None else [plan.index[name] for name in order]
        keep = None if keep is None else {plan.index[name] for name in keep}
        self.frontier = Frontier(
            self.ledger,
            numbers,
            self.budget,
            known=[plan.index[name] for name in known],
            keep=keep,
            on_over=self._count_over,
        )
        if restless:
            self.frontier._left = RestlessList(self.frontier._left)
            ready = self.frontier._ready
            self.frontier._ready = RestlessList(ready) if type(ready) is list else RestlessDeque(ready)

    def _count_over(self):
        self.over += 1

    def begin(self, limit=8, *, eager=True):
        """Let it go.

        Returns:
            Itself.
        """
        self.frontier.begin(self.workers, limit, eager=eager)
        return self

    def alone(self):
        """Let it go with one worker, number 0.

        Returns:
            Itself.
        """
        self.frontier.begin(None, 1, eager=True)
        return self

    def name(self, number):
        """The id of a number; None for none."""
        return self.ids[number] if number >= 0 else None

    def take(self, worker=0):
        """The id that is handed out."""
        return self.name(self.frontier.take(worker))

    def complete(self, name, worker=0, value="done"):
        """Complete a unit; the id that follows, or the code where there is none."""
        following = self.frontier.complete(self.number[name], worker, value, 1.0, 2.0)
        return self.ids[following] if following >= 0 else following

    def release(self, name, worker=0):
        """Release a claimed unit; the id that follows, or the code where there is none."""
        following = self.frontier.release(self.number[name], worker)
        return self.ids[following] if following >= 0 else following

    def claim(self, name, state, worker=0):
        """Claim a unit."""
        return self.frontier.claim(self.number[name], worker, state, None, 1.0, 2.0)

    def states(self):
        """The state of each unit."""
        return {name: self.ledger.states[number] for name, number in self.number.items()}

    def skip(self, name):
        """The ids that are skipped because of one."""
        return [self.ids[number] for number in self.frontier.skip_cone(self.number[name])]


DIAMOND = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]}


# ---- beginning


def test_an_attempt_begins_only_while_its_unit_is_its_workers():
    """A unit that was handed out and taken away again before that never begins; one that has begun is known to have."""
    bench = Bench({"a": [], "b": []}).begin()
    assert [bench.take(0), bench.take(1)] == ["a", "b"]
    assert not bench.frontier.begin_attempt(bench.number["a"], 1, 3.0, {"attempts": 2})
    assert bench.ledger.notes_of(bench.number["a"]).attempts == 1
    assert bench.frontier.begin_attempt(bench.number["a"], 0, 3.0, {"attempts": 2})
    assert bench.ledger.notes_of(bench.number["a"]).attempts == 2
    assert bench.claim("a", FAILED, None)
    assert bench.frontier.claim(bench.number["b"], None, FAILED, ended=4.0)
    assert not bench.frontier.begin_attempt(bench.number["b"], 1, 5.0, {})
    assert [bench.ledger.ran(bench.number[name]) for name in "ab"] == [True, False]


# ---- handing out


def test_units_without_dependencies_are_ready_at_once_in_order():
    """`a`, `b` and `c` need nothing, `d` needs `a`."""
    bench = Bench({"a": [], "d": ["a"], "b": [], "c": []}).alone()
    assert [bench.take() for _ in range(4)] == ["a", "b", "c", None]


def test_a_unit_is_ready_when_its_last_dependency_has_completed():
    """Top -> left, right -> bottom: bottom waits for both."""
    bench = Bench(DIAMOND).alone()
    assert bench.take() == "top"
    assert bench.complete("top") == "left"
    assert bench.complete("left") == "right"
    assert bench.complete("right") == "bottom"
    assert bench.complete("bottom") == NONE_READY
    assert bench.frontier.over
    assert bench.over == 1


def test_a_dependency_named_twice_counts_once():
    """`b` needs `a` and `a`."""
    bench = Bench({"a": [], "b": ["a", "a"]}).alone()
    bench.take()
    assert bench.complete("a") == "b"


def test_in_order_of_arrival_a_chain_stays_with_its_worker():
    """A1 -> a2 beside b: who completes a1 goes on with a2, although b has waited longer."""
    bench = Bench({"a1": [], "b": [], "a2": ["a1"]}).alone()
    assert bench.take() == "a1"
    assert bench.complete("a1") == "a2"
    assert bench.complete("a2") == "b"


def test_under_a_strategy_the_most_urgent_unit_goes_first_whoever_made_it_ready():
    """A1 -> a2 beside b and c, ranked c, b, a2, a1."""
    bench = Bench({"a1": [], "b": [], "a2": ["a1"], "c": []}, order=["c", "b", "a2", "a1"]).alone()
    assert bench.take() == "c"
    assert bench.complete("c") == "b"
    assert bench.complete("b") == "a1"
    assert bench.complete("a1") == "a2"


def test_under_a_strategy_units_that_become_ready_are_ranked_among_those_that_wait():
    """Root -> x, y, z with z before x before y, beside w between them."""
    order = ["root", "z", "w", "x", "y"]
    bench = Bench({"root": [], "x": ["root"], "y": ["root"], "z": ["root"], "w": []}, order=order).alone()
    taken = [bench.take()]
    for _ in range(4):
        taken.append(bench.complete(taken[-1]))
    assert taken == order


def test_a_retry_is_ranked_like_any_other_unit():
    """`late` waits for another attempt, and goes before `other` when it is ready again."""
    bench = Bench({"late": [], "first": [], "other": []}, order=["late", "first", "other"]).alone()
    assert bench.take() == "late"
    bench.claim("late", PENDING)
    assert bench.take() == "first"
    bench.frontier.requeue(bench.number["late"])
    assert bench.complete("first") == "late"


def test_known_units_are_never_handed_out_and_count_as_done():
    """A -> b -> c with a and b known; also where the known one's own dependency is not."""
    bench = Bench({"a": [], "b": ["a"], "c": ["b"]}, known=["a", "b"]).alone()
    assert bench.take() == "c"
    assert bench.complete("c") == NONE_READY
    assert bench.frontier.over
    bench = Bench({"a": [], "b": ["a"], "c": ["b"]}, known=["b"]).alone()
    assert bench.take() == "a"
    assert bench.complete("a") == "c"


def test_a_graph_of_known_units_is_over_when_it_begins():
    """Nothing runs."""
    bench = Bench({"a": [], "b": ["a"]}, known=["a", "b"]).begin()
    assert (bench.over, bench.workers.called) == (1, 0)


def test_an_empty_graph_is_over_when_it_begins():
    """Nothing runs."""
    bench = Bench({}).begin()
    assert (bench.over, bench.workers.called, bench.frontier.over) == (1, 0, True)


# ---- settling


def test_a_result_is_kept_with_its_times():
    """What `complete` is told stands in the ledger."""
    bench = Bench({"a": []}).alone()
    bench.frontier.take(3)
    assert bench.frontier.complete(0, 3, {"x": 1}, 5.0, 7.5) == NONE_READY
    ledger = bench.ledger
    found = (ledger.states[0], ledger.values[0], ledger.started[0], ledger.ended[0], ledger.workers[0])
    assert found == (COMPLETED, {"x": 1}, 5.0, 7.5, 3)


def test_who_does_not_own_a_unit_cannot_complete_it():
    """Worker 1 has it; worker 0 was given up. What it says late changes nothing."""
    bench = Bench({"a": [], "b": ["a"]}).begin()
    bench.take(worker=1)
    assert bench.complete("a", worker=0, value="late") == LOST
    assert bench.states() == {"a": RUNNING, "b": PENDING}
    assert bench.ledger.values[0] is None
    assert bench.complete("a", worker=1) == "b"


def test_a_settled_unit_cannot_be_completed_again():
    """The second word of the same worker is lost too, and no dependent is counted down twice."""
    bench = Bench({"a": [], "other": [], "b": ["a", "other"]}).begin()
    bench.take()
    bench.take(worker=1)
    bench.complete("a")
    assert bench.complete("a") == LOST
    assert bench.states()["b"] == PENDING
    assert bench.complete("other", worker=1) == "b"


def test_only_the_first_claim_wins():
    """A worker and the coordinator (worker None) want to settle the same unit."""
    bench = Bench({"a": []}).begin()
    bench.take()
    assert bench.frontier.claim(0, None, FAILED)
    assert not bench.claim("a", COMPLETED)
    assert not bench.frontier.claim(0, None, CANCELED)
    assert bench.states() == {"a": FAILED}


def test_a_claim_by_a_worker_that_does_not_own_the_unit_is_refused():
    """Also where the unit is running: on somebody else."""
    bench = Bench({"a": []}).begin()
    bench.take(worker=2)
    assert not bench.claim("a", COMPLETED, worker=1)
    assert bench.states() == {"a": RUNNING}


def test_a_claim_without_times_keeps_those_that_are_noted():
    """0.0 is no time."""
    bench = Bench({"a": []}).begin()
    bench.take()
    bench.claim("a", PENDING)
    bench.frontier.requeue(0)
    bench.take()
    assert bench.frontier.claim(0, 0, FAILED)
    assert (bench.ledger.started[0], bench.ledger.ended[0]) == (1.0, 2.0)


def test_dependents_become_ready_on_release_not_on_claim():
    """In between, observers are told of the end."""
    bench = Bench({"a": [], "b": ["a"]}).alone()
    bench.take()
    bench.claim("a", COMPLETED)
    assert bench.take() is None
    assert bench.release("a") == "b"


def test_the_run_is_over_on_release_not_on_claim():
    """An observer hears of the last unit's end before the run is over."""
    bench = Bench({"a": []}).alone()
    bench.take()
    bench.claim("a", COMPLETED)
    assert not bench.frontier.over
    assert bench.release("a") == NONE_READY
    assert bench.frontier.over
    assert bench.over == 1


def test_the_cone_of_a_failed_unit_is_skipped_and_nothing_else():
    """Bad -> x -> y, bad and good -> z, good -> w."""
    needs = {"bad": [], "good": [], "x": ["bad"], "y": ["x"], "z": ["bad", "good"], "w": ["good"]}
    bench = Bench(needs).begin()
    bench.take()
    bench.claim("bad", FAILED)
    skipped = bench.skip("bad")
    assert sorted(skipped) == ["x", "y", "z"]
    assert skipped.index("x") < skipped.index("y")
    bench.frontier.end([0, *(bench.number[name] for name in skipped)])
    states = bench.states()
    assert {name for name, state in states.items() if state == SKIPPED} == {"x", "y", "z"}
    assert bench.take(worker=1) == "good"
    assert bench.complete("good", worker=1) == "w"
    assert bench.complete("w", worker=1) == NONE_READY
    assert bench.frontier.over


def test_a_unit_that_two_failures_reach_names_the_first():
    """a, b -> c -> d."""
    bench = Bench({"a": [], "b": [], "c": ["a", "b"], "d": ["c"]}).begin()
    for name in "ab":
        bench.take()
        bench.claim(name, FAILED)
    assert bench.skip("b") == ["c", "d"]
    assert bench.skip("a") == []
    assert bench.ledger.causes == {2: 1, 3: 1}


def test_a_unit_reached_on_two_ways_is_skipped_once():
    """Top -> left, right -> bottom."""
    bench = Bench(DIAMOND).begin()
    bench.take()
    bench.claim("top", FAILED)
    assert bench.skip("top") == ["left", "right", "bottom"]


def test_a_long_chain_is_skipped_without_recursion():
    """10,000 units behind one that fails."""
    needs = {"0": []} | {str(number): [str(number - 1)] for number in range(1, 10_000)}
    bench = Bench(needs).begin()
    bench.take()
    bench.claim("0", FAILED)
    skipped = bench.skip("0")
    bench.frontier.end([0, *(bench.number[name] for name in skipped)])
    assert len(skipped) == 9_999
    assert bench.frontier.over


# ---- passing on


@pytest.mark.parametrize("order", [None, ["c", "b", "a"]], ids=["arrival", "ranked"])
def test_a_unit_that_is_passed_on_is_handed_out_again_and_lost_to_its_worker(order):
    """A runs on worker 0, and is given to worker 1, which ends it: 0 can do nothing any more."""
    bench = Bench({"a": [], "b": [], "c": []}, order=order).begin()
    for worker, name in enumerate(order or "abc"):
        assert bench.take(worker) == name
    owner = (order or ["a", "b", "c"]).index("a")
    number = bench.number["a"]
    assert not bench.frontier.pass_on(number, owner + 5)
    assert bench.frontier.pass_on(number, owner)
    assert (bench.frontier.owner(number), number in bench.frontier.at_work()) == (-1, True)
    assert not bench.frontier.pass_on(number, owner)
    assert bench.complete("a", owner) == LOST
    assert not bench.claim("a", COMPLETED, owner)
    assert bench.take(9) == "a"
    assert bench.complete("a", 9) == NONE_READY


def test_in_order_of_arrival_a_unit_that_is_passed_on_goes_first():
    """Others have waited longer, but it has begun."""
    bench = Bench({"a": [], "b": [], "c": []}).begin()
    bench.take(0)
    bench.frontier.pass_on(0, 0)
    assert bench.take(1) == "a"


def test_a_unit_that_the_coordinator_ends_meanwhile_is_not_handed_out():
    """A deadline, before anybody came for it."""
    bench = Bench({"a": [], "b": []}).begin()
    bench.take(0)
    bench.frontier.pass_on(0, 0)
    assert bench.frontier.claim(0, None, FAILED)
    bench.frontier.end([0])
    assert bench.take(1) == "b"


@pytest.mark.parametrize("order", [None, ["c", "b", "a"]], ids=["arrival", "ranked"])
def test_units_that_are_passed_on_are_handed_out_though_the_run_is_halted(order):
    """They have begun, and have to be ended; c has not."""
    bench = Bench({"a": [], "b": [], "c": []}, order=order).begin()
    names = "ab" if order is None else "cb"
    for worker, name in enumerate(names):
        assert bench.take(worker) == name
    for worker, name in enumerate(names):
        assert bench.frontier.pass_on(bench.number[name], worker)
    assert len(bench.frontier.halt("why")) == 1
    assert {bench.take(8), bench.take(9)} == ({"a", "b"} if order is None else {"b", "c"})
    assert bench.take(10) is None


@pytest.mark.parametrize("order", [None, ["c", "b", "a"]], ids=["arrival", "ranked"])
def test_a_unit_that_was_taken_and_not_begun_can_be_put_back(order):
    """It is handed out again, next of all that is no more urgent; only its worker can do that, and only while the run goes on."""
    bench = Bench({"a": [], "b": [], "c": []}, order=order).begin()
    first = bench.take(0)
    assert not bench.frontier.put_back(bench.number[first], 1)
    assert bench.frontier.put_back(bench.number[first], 0)
    assert bench.states()[first] == PENDING
    assert bench.take(1) == first
    bench.frontier.halt("why")
    assert not bench.frontier.put_back(bench.number[first], 1)
    assert bench.states()[first] == RUNNING


# ---- stopping


def test_halting_cancels_what_has_not_begun_and_leaves_what_runs():
    """A runs, b is ready, c waits for a."""
    bench = Bench({"a": [], "b": [], "c": ["a"]}).begin()
    bench.take()
    assert [bench.ids[number] for number in bench.frontier.halt("why")] == ["b", "c"]
    assert bench.frontier.halted == "why"
    assert bench.states() == {"a": RUNNING, "b": CANCELED, "c": CANCELED}
    assert bench.take(worker=1) is None
    bench.frontier.end([1, 2])
    assert bench.complete("a") == NONE_READY
    assert bench.frontier.over


def test_the_first_reason_to_halt_counts():
    """The second cancels nothing."""
    bench = Bench({"a": [], "b": []}).begin()
    bench.take()
    assert bench.frontier.halt("first") == [1]
    assert bench.frontier.halt("second") == []
    assert bench.frontier.halted == "first"


def test_a_run_that_is_over_cannot_be_halted():
    """What is complete is not called stopped."""
    bench = Bench({"a": []}).alone()
    bench.take()
    bench.complete("a")
    assert bench.frontier.halt("late") == []
    assert bench.frontier.halted is None


def test_a_unit_that_waits_for_another_attempt_is_cancelled_and_never_requeued():
    """Its timer comes too late."""
    bench = Bench({"a": []}).begin()
    bench.take()
    bench.claim("a", PENDING)
    assert bench.frontier.halt("why") == [0]
    bench.frontier.requeue(0)
    assert bench.take() is None
    assert bench.states() == {"a": CANCELED}


def test_a_unit_that_is_put_off_just_after_the_halt_is_withdrawn():
    """The halt saw it running, so it did not cancel it."""
    bench = Bench({"a": []}).begin()
    bench.take()
    assert bench.frontier.halt("why") == []
    bench.claim("a", PENDING)
    assert bench.frontier.withdraw(0)
    assert bench.states() == {"a": CANCELED}
    assert not bench.frontier.withdraw(0)


def test_nothing_is_withdrawn_while_the_run_goes_on():
    """The ordinary case: it waits for its timer."""
    bench = Bench({"a": []}).begin()
    bench.take()
    bench.claim("a", PENDING)
    assert not bench.frontier.withdraw(0)
    assert bench.states() == {"a": PENDING}


def test_the_owner_of_a_unit_is_who_runs_it_now():
    """-1 before and after."""
    bench = Bench({"a": []}).begin()
    assert bench.frontier.owner(0) == -1
    bench.take(worker=5)
    assert bench.frontier.owner(0) == 5
    bench.complete("a", worker=5)
    assert bench.frontier.owner(0) == -1


def test_units_at_work_are_those_taken_and_not_settled():
    """Of five, the second and fourth still run."""
    bench = Bench({name: [] for name in "abcde"}).begin()
    for worker in range(5):
        bench.take(worker)
    for worker, name in ((0, "a"), (2, "c"), (4, "e")):
        bench.complete(name, worker)
    assert bench.frontier.at_work() == [1, 3]


# ---- calling workers


def test_the_first_worker_is_called_when_the_run_begins():
    """The others by those that find more than one ready unit."""
    bench = Bench({name: [] for name in "abc"}).begin()
    assert bench.workers.called == 1
    bench.take(0)
    assert bench.workers.called == 2
    bench.take(1)
    assert bench.workers.called == 3
    bench.take(2)
    assert bench.workers.called == 3


def test_no_more_workers_are_called_than_the_limit():
    """Ten ready units, three workers."""
    bench = Bench({str(number): [] for number in range(10)}).begin(limit=3)
    for worker in range(3):
        bench.take(worker)
        bench.frontier.help()
    assert bench.workers.called == 3


def test_who_leaves_several_ready_units_behind_calls_for_help():
    """Top -> left, right: the finisher goes on with left and calls somebody for right."""
    bench = Bench(DIAMOND).begin()
    bench.take(0)
    assert bench.workers.called == 1
    bench.complete("top", 0)
    assert bench.workers.called == 2


def test_no_worker_is_called_beyond_the_budget_but_one_as_soon_as_a_slot_is_free():
    """Two slots, three ready units."""
    bench = Bench({name: [] for name in "abc"}, slots=2).begin()
    bench.take(0)
    bench.take(1)
    assert bench.workers.called == 2
    bench.budget.give()  # as an outer run does
    assert bench.workers.called == 3


def test_a_slot_that_comes_free_when_nothing_is_ready_is_not_taken():
    """The wish is out of date."""
    bench = Bench({"a": [], "b": []}, slots=1).begin()
    assert bench.take(0) == "a"
    assert bench.complete("a", 0) == "b"
    bench.complete("b", 0)
    bench.budget.give()
    assert bench.workers.called == 1
    assert bench.budget.take(lambda: None)


def test_a_worker_that_cannot_be_started_is_done_without(caplog):
    """`can't start new thread`: the workers there are go on, and nobody tries again and again."""
    bench = Bench({name: [] for name in "abc"}).begin()
    bench.workers.error = RuntimeError("can't start new thread")
    assert bench.take(0) == "a"
    assert bench.complete("a", 0) == "b"
    assert bench.complete("b", 0) == "c"
    assert bench.complete("c", 0) == NONE_READY
    assert said(caplog) == ["no further worker can be started; going on with 1"]


def test_a_run_whose_first_worker_cannot_be_started_says_so():
    """There is nobody to go on with."""
    bench = Bench({"a": []})
    bench.workers.error = RuntimeError("can't start new thread")
    with pytest.raises(RuntimeError, match="new thread"):
        bench.begin()
    assert bench.budget.take(lambda: None)


def test_on_a_loop_workers_come_one_at_a_time():
    """Who comes calls the next when it waits itself; asking again before it has come calls nobody."""
    bench = Bench({name: [] for name in "abcd"}).begin(eager=False)
    assert bench.workers.called == 1
    bench.frontier.help()
    assert bench.workers.called == 1
    assert bench.name(bench.frontier.arrive(0)) == "a"
    assert bench.workers.called == 1
    bench.frontier.help()
    bench.frontier.help()
    assert bench.workers.called == 2
    assert bench.name(bench.frontier.arrive(1)) == "b"
    bench.frontier.help()
    assert bench.workers.called == 3


def test_on_a_loop_who_goes_on_itself_calls_nobody():
    """Units that never wait are run one after another by one worker."""
    bench = Bench(DIAMOND | {"more": []}).begin(eager=False)
    bench.frontier.arrive(0)
    assert bench.complete("top", 0) == "left"
    assert bench.complete("left", 0) == "more"
    assert bench.complete("more", 0) == "right"
    assert bench.workers.called == 1


def test_a_retry_that_is_due_calls_a_worker():
    """All have left meanwhile."""
    bench = Bench({"a": []}).begin(eager=False)
    bench.frontier.arrive(0)
    bench.claim("a", PENDING)
    assert bench.take(0) is None
    bench.frontier.leave()
    bench.frontier.requeue(0)
    assert bench.workers.called == 2


def test_a_unit_that_becomes_ready_while_the_last_worker_leaves_is_not_left_behind():
    """The worker has found nothing, the retry is due, the worker goes: a new one must be called."""
    bench = Bench({"a": [], "b": []}, slots=1).begin(limit=1, eager=False)
    bench.frontier.arrive(0)
    bench.claim("a", PENDING)
    assert bench.take(0) == "b"
    assert bench.complete("b", 0) == NONE_READY
    bench.frontier.requeue(0)
    bench.frontier.leave()
    assert bench.workers.called == 2


def test_who_leaves_gives_its_slot_back():
    """The budget is whole after the run."""
    bench = Bench({"a": []}, slots=1).begin()
    bench.take(0)
    bench.complete("a", 0)
    assert not bench.budget.take(lambda: None)
    bench.frontier.leave()
    assert bench.budget.take(lambda: None)


def test_a_sleeping_worker_is_woken_by_a_ready_unit_and_sent_home_at_the_end():
    """A runs until b has ended and its thread sleeps; a -> left, right, which meet: so the sleeper was woken, and no third came."""
    bench = Bench({"a": [], "b": [], "left": ["a"], "right": ["a"]})
    threads, together = [], threading.Barrier(2)

    def body(name):
        if name == "a":
            ends = time.monotonic() + PATIENCE_S
            while not bench.frontier._gates and time.monotonic() < ends:
                time.sleep(0.001)
        elif name != "b":
            together.wait(PATIENCE_S)

    def serve(worker):
        number = bench.frontier.take_or_sleep(worker)
        while number >= 0:
            name = bench.ids[number]
            body(name)
            number = bench.frontier.complete(number, worker, None, 1.0, 2.0)
            if number < 0:
                number = bench.frontier.take_or_sleep(worker)

    def spawn():
        threads.append(threading.Thread(target=serve, args=(len(threads),), daemon=True))
        threads[-1].start()

    bench.frontier.begin(spawn, 8, eager=True)
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert len(threads) == 2
    assert set(bench.states().values()) == {COMPLETED}
    assert bench.over == 1


def test_slots_of_workers_that_never_left_come_back_when_the_crew_is_disbanded():
    """A nested run borrows from the outer one; who leaves after that gives nothing twice."""
    bench = Bench({"a": [], "b": []}, slots=3).begin()
    bench.take(0)
    assert [bench.budget.take(lambda: None) for _ in range(2)] == [True, False]
    bench.budget.put_back()
    bench.frontier.disband()
    bench.frontier.leave()
    assert [bench.budget.take(lambda: None) for _ in range(4)] == [True, True, True, False]
    assert bench.frontier.take_or_sleep(5) in {1, NONE_READY}


def test_the_only_worker_of_a_run_gives_its_slot_back_too():
    """It never leaves."""
    bench = Bench({"a": []}, slots=1).alone()
    bench.take()
    bench.complete("a")
    assert not bench.budget.take(lambda: None)
    bench.frontier.disband()
    assert bench.budget.take(lambda: None)


@pytest.mark.parametrize("eager", [True, False], ids=["threads", "loop"])
def test_only_time_can_bring_an_idle_frontier_on(eager):
    """Not while a unit is ready, a worker on its way, or one at work; but when all wait for another attempt."""
    bench = Bench({"a": []}).begin(eager=eager)
    assert not bench.frontier.idle
    bench.frontier.arrive(0)
    assert not bench.frontier.idle
    bench.claim("a", PENDING)
    assert not bench.frontier.idle
    bench.frontier.leave()
    assert bench.frontier.idle
    bench.frontier.requeue(0)
    assert not bench.frontier.idle


# ---- freeing


def test_a_result_is_freed_after_its_last_consumer():
    """Top -> left, right -> bottom, keeping bottom: top goes after both sides, the sides after bottom."""
    bench = Bench(DIAMOND, keep=["bottom"]).alone()
    bench.take()
    bench.complete("top", value="T")
    bench.complete("left", value="L")
    assert bench.ledger.values[0] == "T"
    bench.complete("right", value="R")
    assert bench.ledger.values == [FREED, "L", "R", None]
    bench.complete("bottom", value="B")
    assert bench.ledger.values == [FREED, FREED, FREED, "B"]


def test_a_kept_result_is_not_freed():
    """Although nobody needs it any more."""
    bench = Bench({"a": [], "b": ["a"]}, keep=["a", "b"]).alone()
    bench.take()
    bench.complete("a", value=1)
    bench.complete("b", value=2)
    assert bench.ledger.values == [1, 2]


def test_without_outputs_nothing_is_freed():
    """`keep` is None."""
    bench = Bench({"a": [], "b": ["a"]}).alone()
    bench.take()
    bench.complete("a", value=1)
    bench.complete("b", value=2)
    assert bench.ledger.values == [1, 2]


def test_a_consumer_that_is_skipped_or_cancelled_counts_as_served():
    """A is needed by b (skipped, since x failed) and c (cancelled)."""
    bench = Bench({"a": [], "x": [], "b": ["a", "x"], "c": ["a", "x2"], "x2": []}, keep=[]).begin()
    bench.take(0)
    bench.take(1)
    bench.complete("a", 0, value="A")
    bench.claim("x", FAILED, 1)
    bench.frontier.end([bench.number["x"], *(bench.number[name] for name in bench.skip("x"))])
    number = bench.number["a"]
    assert bench.ledger.values[number] == "A"
    bench.frontier.end(bench.frontier.halt("why"))
    assert bench.ledger.values[number] is FREED


def test_a_claimed_unit_frees_what_it_needed_when_it_is_released():
    """The way of units that are observed or retried."""
    bench = Bench({"a": [], "b": ["a"]}, keep=[]).alone()
    bench.take()
    bench.complete("a", value="A")
    bench.claim("b", COMPLETED)
    assert bench.ledger.values[0] == "A"
    bench.release("b")
    assert bench.ledger.values[0] is FREED


# ---- many threads


class Crowd:
    """Threads that drive a frontier as workers do, and check what they see.

    Args:
        needs: Dependencies by id.
        limit: The most threads at once.
        order: For the frontier.
    """

    def __init__(self, needs, limit, order=None):
        self.bench = Bench(needs, order=order, slots=limit, restless=True)
        self.limit = limit
        self.runs = [0] * len(needs)
        self.early = []
        self.crowded = 0
        self.at_work = 0
        self.lock = threading.Lock()
        self.threads = []
        self.ended = threading.Event()
        self.bench.frontier._on_over = self.ended.set

    def spawn(self):
        """Start a worker; called under the frontier's lock."""
        worker = len(self.threads)
        thread = threading.Thread(target=self.serve, args=(worker,), daemon=True)
        self.threads.append(thread)
        thread.start()

    def serve(self, worker):
        """What a worker does, by the two ways of settling in turn."""
        frontier = self.bench.frontier
        number = frontier.take_or_sleep(worker)
        while number >= 0:
            self.note(number)
            if number % 3:
                following = frontier.complete(number, worker, number, 1.0, 2.0)
            elif number % 2 and self.runs[number] == 1:  # another attempt
                frontier.claim(number, worker, PENDING)
                frontier.requeue(number)
                following = frontier.take(worker)
            elif number % 4 == 2 and self.runs[number] == 1:  # to be ended by somebody else
                assert frontier.pass_on(number, worker)
                assert frontier.complete(number, worker, None, 1.0, 2.0) == LOST
                following = frontier.take(worker)
            else:
                frontier.claim(number, worker, COMPLETED)
                following = frontier.release(number, worker)
            number = following if following >= 0 else frontier.take_or_sleep(worker)

    def note(self, number):
        """Count a unit's run; between two locks, so that others come in between."""
        states = self.bench.ledger.states
        with self.lock:
            self.at_work += 1
            self.crowded = max(self.crowded, self.at_work)
            self.runs[number] += 1
            self.early += [number for need in self.bench.ledger.plan.needs[number] if states[need] != COMPLETED]
        with self.lock:
            self.at_work -= 1

    def run(self):
        """Run everything, and wait until the threads are gone."""
        self.bench.frontier.begin(self.spawn, self.limit, eager=True)
        wait_for(self.ended)
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.mark.usefixtures("nervous_threads")
@pytest.mark.parametrize("ranked", [False, True], ids=["arrival", "ranked"])
@pytest.mark.parametrize("limit", [2, 5])
def test_under_many_threads_each_unit_is_handed_out_once_and_never_early(limit, ranked):
    """Random graphs; some units are put off once; the budget is whole afterwards, and no thread sleeps on."""
    for seed in range(2):
        rng = random.Random(seed)  # noqa: S311 - a graph, not a secret
        needs = {
            str(number): [str(need) for need in rng.sample(range(number), min(number, rng.randint(0, 3)))]
            for number in range(60)
        }
        order = rng.sample(sorted(needs), len(needs)) if ranked else None
        crowd = Crowd(needs, limit, order)
        crowd.run()
        assert crowd.runs == [2 if number % 6 == 3 or number % 12 == 6 else 1 for number in range(60)]
        assert crowd.early == []
        assert crowd.crowded <= limit
        assert crowd.bench.frontier._crew == 0
        assert [crowd.bench.budget.take(lambda: None) for _ in range(limit + 1)] == [True] * limit + [False]


@pytest.mark.usefixtures("nervous_threads")
def test_of_many_that_settle_one_unit_exactly_one_wins():
    """Its worker completes it while others claim it for a timeout, a cancellation and another attempt."""
    winners = []
    for _ in range(100):
        bench = Bench({"a": []}, restless=True).begin()
        bench.take(0)
        start = threading.Barrier(3)
        won = []

        def complete(bench=bench, start=start, won=won):
            start.wait(PATIENCE_S)
            if bench.complete("a", 0) != LOST:
                won.append(COMPLETED)

        def claim(worker, state, bench=bench, start=start, won=won):
            start.wait(PATIENCE_S)
            if bench.frontier.claim(0, worker, state):
                won.append(state)

        threads = [
            threading.Thread(target=complete),
            threading.Thread(target=claim, args=(None, FAILED)),
            threading.Thread(target=claim, args=(0, CANCELED)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert [bench.states()["a"]] == won
        winners += won
    assert len(winners) == 100
