"""The workers of a run: their numbers, their variables, what they lend, and those that are given up."""

import threading

import pytest

from qp_core import ExecutionPlan, QuantumUnit
from qp_core.budget import Budget, Unbounded
from qp_core.context import running
from qp_core.crew import Crew, Worker
from qp_core.frontier import Frontier
from qp_core.ledger import Ledger


class Home:
    """Stands for the run that the workers work for."""

    over = False

    def __init__(self, budget):
        self.budget = budget


class Bench:
    """A crew with its frontier: three units, three slots.

    Args:
        slots: The budget.
    """

    def __init__(self, slots=3):
        plan = ExecutionPlan.of({name: QuantumUnit(name, print) for name in "abc"})
        self.budget = Budget(slots)
        self.home = Home(self.budget)
        self.frontier = Frontier(Ledger(plan), None, self.budget, on_over=lambda: None)
        self.crew = Crew(self.frontier)
        self.called = 0
        self.frontier.begin(self._call, 3, eager=True)

    def _call(self):
        self.called += 1

    def worker(self):
        """A worker that has taken a unit; the unit's number."""
        worker = self.crew.new(self.home)
        return worker, self.frontier.take(worker.number)

    def free(self):
        """How many slots are free."""
        free = 0
        while self.budget.take(lambda: None):
            free += 1
        for _ in range(free):
            self.budget.put_back()
        return free


class Cancelable:
    """Something that is awaited; counts how often it is cancelled."""

    times = 0

    def cancel(self):
        """Count."""
        self.times += 1


def test_every_worker_has_a_number_of_its_own():
    """Never one of a worker that has left or was given up."""
    bench = Bench()
    first, second = bench.crew.new(bench.home), bench.crew.new(bench.home)
    bench.crew.leave(first)
    bench.crew.give_up(second, 0, stoppable=True)
    assert [first.number, second.number, bench.crew.new(bench.home).number] == [0, 1, 2]
    assert bench.crew.of_number(0) is None
    assert bench.crew.of_number(1) is None
    assert bench.crew.of_number(2).number == 2


def test_a_worker_is_who_runs_in_its_variables_and_nowhere_else():
    """How a nested execution finds out whom it is part of."""
    bench = Bench()
    workers = [bench.crew.new(bench.home) for _ in range(2)]
    assert [worker.variables.run(running.get) for worker in workers] == workers
    assert running.get() is None


def test_who_leaves_gives_back_one_slot_however_often_it_leaves():
    """Also where it was given up before."""
    bench = Bench()
    worker, _ = bench.worker()
    before = bench.free()
    bench.crew.leave(worker)
    bench.crew.leave(worker)
    bench.crew.give_up(worker, 0, stoppable=True)
    assert bench.free() <= before + 1
    assert bench.frontier._crew >= 0


def test_who_is_given_up_as_it_leaves_counts_once():
    """Its unit ends between the coordinator's claim and the moment it is given up: three slots stay three."""
    bench = Bench()
    workers = [bench.worker() for _ in range(3)]
    assert bench.free() == 0
    for worker, number in workers:
        bench.frontier.complete(number, worker.number, None, 1.0, 2.0)
        bench.crew.leave(worker)
        bench.crew.give_up(worker, number, stoppable=False)
    assert bench.frontier._crew == 0
    assert bench.free() == 3


def test_giving_up_makes_room_for_another_worker():
    """A unit is ready, and there is one slot."""
    bench = Bench(slots=1)
    worker, number = bench.worker()
    assert bench.called == 1
    assert bench.crew.give_up(worker, number, stoppable=False)
    assert (worker.abandoned, worker.context) == (True, None)
    assert bench.called == 2


def test_who_is_given_up_lets_go_of_its_thread():
    """Once."""
    bench = Bench()
    worker, number = bench.worker()
    let_go = []
    worker.let_go = lambda: let_go.append(1)
    bench.crew.give_up(worker, number, stoppable=False)
    assert let_go == [1]


def test_too_many_are_those_that_cannot_be_stopped_and_are_still_busy(monkeypatch):
    """A limit of two: neither those that were told to stop nor those that have ended since count."""
    monkeypatch.setattr(Crew, "most_abandoned", 2)
    crew = Bench().crew
    home = Home(Budget(9))

    def given_up(*, busy, stoppable):
        worker = crew.new(home)
        worker.still_busy = lambda: busy
        return crew.give_up(worker, 0, stoppable=stoppable)

    assert all(given_up(busy=True, stoppable=True) for _ in range(5))
    assert all(given_up(busy=False, stoppable=False) for _ in range(5))
    assert given_up(busy=True, stoppable=False)
    assert not given_up(busy=True, stoppable=False)


def test_an_idle_worker_is_not_busy():
    """Nor one of whom nothing is known."""
    bench = Bench()
    worker = bench.crew.new(bench.home)
    assert not worker.is_busy
    worker.still_busy = lambda: True
    assert worker.is_busy


class Vanishing:
    """An attribute of a worker whose unit ends just after somebody has looked: from then on it is None."""

    def __init__(self, value):
        self._values = [value]

    def __get__(self, worker, kind=None):
        return self._values.pop() if self._values else None

    def __set__(self, worker, value):
        """Whatever it is set to, it is what it is."""


class Ended:
    """A task that is over."""

    def done(self):
        """It is."""
        return True


def test_a_unit_that_ends_as_its_worker_is_looked_at_breaks_nothing(monkeypatch):
    """The worker takes away what lets its thread go, and what tells whether it is busy, without a lock."""
    bench, let_go = Bench(), []
    worker, number = bench.worker()
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "let_go", Vanishing(lambda: let_go.append(1)))
        bench.crew.give_up(worker, number, stoppable=False)
    assert let_go == [1]
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "still_busy", Vanishing(lambda: True))
        assert worker.is_busy
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "task", Vanishing(Ended()))
        assert not worker.is_busy


def test_what_threads_wait_for_is_cancelled_and_what_tasks_wait_for_is_not():
    """Tasks are cancelled themselves."""
    bench = Bench()
    in_thread, in_task, idle = (bench.crew.new(bench.home) for _ in range(3))
    in_thread.awaiting, in_task.awaiting = Cancelable(), Cancelable()
    in_task.task = object()
    bench.crew.cancel_awaiting()
    assert (in_thread.awaiting.times, in_task.awaiting.times, idle.awaiting) == (1, 0, None)


def test_tasks_are_those_of_all_workers_given_up_or_not():
    """And those that were told are not to be told again."""
    bench = Bench()
    at_work, given_up, told, thread = (bench.crew.new(bench.home) for _ in range(4))
    at_work.task, given_up.task, told.task = object(), object(), object()
    told.told = True
    for worker in (given_up, told):
        bench.crew.give_up(worker, 0, stoppable=True)
    assert thread.task is None
    assert bench.crew.tasks() == {at_work.task, given_up.task, told.task}
    assert bench.crew.told() == {told.task}


@pytest.mark.parametrize("bounded", [True, False])
def test_all_runs_in_one_unit_are_lent_the_same_slot(bounded):
    """And share what is free beside it."""
    bench = Bench(slots=2)
    worker, _ = bench.worker()
    lent = worker.lend(bounded=bounded)
    assert worker.lend(bounded=bounded) is lent
    other = bench.crew.new(bench.home).lend(bounded=bounded)
    assert other is not lent
    assert [lent.take(lambda: None) for _ in range(3)] == [True, False, False]


def test_a_run_without_a_bound_lends_a_slot_only_to_bounded_ones():
    """Those share a budget that suits the machine."""
    crew = Bench().crew
    worker, other = crew.new(home := Home(Unbounded())), crew.new(home)
    assert worker.lend(bounded=False) is None
    first, second = worker.lend(bounded=True), other.lend(bounded=True)
    taken = 0
    while first.take(lambda: None):
        taken += 1
    assert taken > 1
    assert second.take(lambda: None)
    assert not second.take(lambda: None)


def test_workers_made_at_once_do_not_share_a_number():
    """From eight threads."""
    bench, numbers = Bench(), []
    start = threading.Barrier(8)

    def make():
        start.wait(20)
        numbers.extend(bench.crew.new(bench.home).number for _ in range(50))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(numbers) == list(range(400))
