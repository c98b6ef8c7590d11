"""How many units may run at once, over a run and those nested in its units."""

import random
import threading

import pytest

from qp_core.budget import Budget, Unbounded, nothing
from tests.core.engine import PATIENCE_S


class Offers:
    """Who wants a slot; takes one when it is offered, if `hungry`."""

    def __init__(self, budget, *, hungry=False):
        self.budget = budget
        self.hungry = hungry
        self.times = 0
        self.got = 0

    def offer(self):
        """A slot has come free."""
        self.times += 1
        if self.hungry and self.budget.take(self.offer):
            self.got += 1


def free_slots(budget):
    """How many slots can be taken now; they are put back."""
    taken = 0
    while budget.take(nothing):
        taken += 1
    for _ in range(taken):
        budget.put_back()
    return taken


def test_as_many_slots_are_taken_as_there_are():
    """Two, not three."""
    budget = Budget(2)
    assert [budget.take(nothing) for _ in range(3)] == [True, True, False]


def test_a_slot_given_back_can_be_taken_again():
    """However often."""
    budget = Budget(1)
    for _ in range(3):
        assert budget.take(nothing)
        budget.give()
    assert free_slots(budget) == 1


def test_who_got_no_slot_is_told_once_when_one_comes_free():
    """Also who asked twice; who got one is not told."""
    budget = Budget(1)
    lucky, late = Offers(budget), Offers(budget)
    assert budget.take(lucky.offer)
    assert not budget.take(late.offer)
    assert not budget.take(late.offer)
    budget.give()
    assert (lucky.times, late.times) == (0, 1)
    budget.take(nothing)
    budget.give()
    assert late.times == 1


def test_everybody_who_wants_a_slot_is_asked_and_who_gets_none_is_asked_again():
    """One slot, two that want it."""
    budget = Budget(1)
    first, second = Offers(budget, hungry=True), Offers(budget, hungry=True)
    budget.take(nothing)
    budget.take(first.offer)
    budget.take(second.offer)
    budget.give()
    assert (first.got, second.got) == (1, 0)
    budget.give()
    assert (first.got, second.got) == (1, 1)


def test_a_slot_that_is_put_back_is_offered_to_nobody():
    """It was taken only a moment ago, under a lock that the offered one may need."""
    budget = Budget(1)
    wanting = Offers(budget)
    budget.take(nothing)
    budget.take(wanting.offer)
    budget.put_back()
    assert wanting.times == 0
    assert budget.take(nothing)


def test_a_nested_run_is_lent_a_slot_though_the_outer_one_has_none():
    """The unit that waits for it does not work meanwhile."""
    outer = Budget(1)
    outer.take(nothing)
    inner = Budget(1, outer)
    assert inner.take(nothing)
    assert not inner.take(nothing)


def test_a_nested_run_borrows_what_the_outer_one_does_not_use():
    """Three slots, one of them used by the unit around: the inner run gets the lent one and two more."""
    outer = Budget(3)
    outer.take(nothing)
    inner = Budget(1, outer)
    assert [inner.take(nothing) for _ in range(4)] == [True, True, True, False]
    assert not outer.take(nothing)


def test_borrowed_slots_are_given_back_first():
    """So that the outer run can go on while the inner one still has its own."""
    outer = Budget(2)
    outer.take(nothing)
    inner = Budget(1, outer)
    inner.take(nothing)
    inner.take(nothing)
    inner.give()
    assert outer.take(nothing)
    assert not inner.take(nothing)
    inner.give()
    assert inner.take(nothing)


def test_slots_pass_through_all_levels():
    """Outer > middle > inner, two slots: inner can have two at the most, and both come back."""
    outer = Budget(2)
    outer.take(nothing)
    middle = Budget(1, outer)
    middle.take(nothing)
    inner = Budget(1, middle)
    assert [inner.take(nothing) for _ in range(3)] == [True, True, False]
    inner.give()
    inner.give()
    middle.give()
    outer.give()
    assert (free_slots(outer), free_slots(middle), free_slots(inner)) == (2, 3, 4)


def test_who_waits_in_an_inner_run_is_told_of_a_slot_of_the_outer_one():
    """The whole nest shares its list of those that want one."""
    outer = Budget(2)
    outer.take(nothing)
    outer.take(nothing)
    inner = Budget(1, outer)
    inner.take(nothing)
    wanting = Offers(inner, hungry=True)
    assert not inner.take(wanting.offer)
    outer.give()
    assert wanting.got == 1


def test_an_unbounded_budget_always_has_a_slot():
    """And asks nobody."""
    budget = Unbounded()
    wanting = Offers(budget)
    assert all(budget.take(wanting.offer) for _ in range(1_000))
    budget.give()
    budget.put_back()
    assert wanting.times == 0
    assert (budget.unbounded, Budget(1).unbounded) == (True, False)


@pytest.mark.parametrize("depth", [0, 3], ids=["one_run", "nested"])
def test_under_many_threads_no_slot_is_lost_or_made(depth):
    """Eight threads take and give; never more than the budget at once, and in the end all slots are back."""
    outer = Budget(3)
    nest = [outer]
    for _ in range(depth):
        nest[-1].take(nothing)
        nest.append(Budget(1, nest[-1]))
    holders, most, lock = 0, 0, threading.Lock()

    def churn(seed):
        nonlocal holders, most
        budget = random.Random(seed).choice(nest) if depth else outer  # noqa: S311 - a test's choice, not a secret
        for _ in range(200):
            if nest[-1].take(nothing):
                with lock:
                    holders += 1
                    most = max(most, holders)
                with lock:
                    holders -= 1
                nest[-1].give()
            if budget.take(nothing):
                budget.give()

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert most <= 3
    assert free_slots(nest[-1]) == 3
    assert outer._borrowed == 0
