"""A partitioner through a long life: units added, changed and taken away, planned and executed, with bad input in between.

The model is a plain dict of what should be there. After every step the partitioner must agree with it, and an execution must
come out as the oracle says, or fail with the error that the model's graph deserves.
"""

import attrs
import networkx as nx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qp_core import (
    CircularDependencyError,
    ContextError,
    DuplicateUnitError,
    MissingDependencyError,
    QuantumPartitioner,
    QuantumUnit,
    UnitState,
    UnknownNameError,
)
from tests.properties.bodies import AT_ONCE, body_of, fallback_of
from tests.properties.journal import Given, Journal
from tests.properties.lanes import STRATEGIES, Lane
from tests.properties.oracle import Expected
from tests.strategies import parts

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

NAMES = ["a", "b", "c", "d", "e", "f", "unit_0", "unit_3"]
LANES = [
    Lane(mode="sequential"),
    Lane(mode="thread", workers=2),
    Lane(mode="async", kind="mixed"),
    Lane(mode="custom", pool=2),
]

BAD_UNITS = [
    ((print, ["a"], ""), {}, ValueError),
    ((print, ["a"], 7), {}, TypeError),
    ((print, "a", "new"), {}, TypeError),
    ((print, 7, "new"), {}, TypeError),
    ((None, [], "new"), {}, TypeError),
    ((print, [], "new", 0), {}, ValueError),
    ((print, [], "new", -1.5), {}, ValueError),
    ((print, [], "new", float("nan")), {}, ValueError),
    ((print, [], "new", "soon"), {}, TypeError),
    ((print, [], "new", None, -1), {}, ValueError),
    ((print, [], "new", None, 1.5), {}, TypeError),
    ((print, [], "new"), {"priority": float("nan")}, (TypeError, ValueError)),
]

BAD_EXECUTIONS = [
    ({"execution_mode": "no such mode"}, UnknownNameError),
    ({"strategy": "no such strategy"}, UnknownNameError),
    ({"max_workers": 0}, ValueError),
    ({"max_workers": -2}, ValueError),
    ({"max_workers": 1.5}, TypeError),
    ({"no_such_option": 1}, UnknownNameError),
    ({"outputs": ["no such unit"]}, MissingDependencyError),
    ({"outputs": "a"}, TypeError),
    ({"known": {"no such unit": 1}}, MissingDependencyError),
    ({"deadline": 0}, ValueError),
    ({"on_failure": "shrug"}, UnknownNameError),
    ({"execution_mode": "custom", "custom_executor": 7}, TypeError),
]


class PartitionerLife(RuleBasedStateMachine):
    """What may happen to a partitioner."""

    def __init__(self):
        super().__init__()
        self.partitioner = QuantumPartitioner(max_workers=3)
        self.model = {}
        self.last = None
        self.unplanned = False  # whether something was changed that only a new plan will see

    # ---- define

    def some_needs(self, data):
        """Dependencies, which are mostly there.

        Returns:
            A list of ids.
        """
        there = st.lists(st.sampled_from(sorted(self.model)), max_size=3) if self.model else st.just([])
        return data.draw(st.one_of(there, there, there, st.lists(st.sampled_from(NAMES), max_size=2)))

    @rule(data=st.data(), name=st.sampled_from([None, *NAMES]))
    def add(self, data, name):
        """Add a unit whose dependencies are there, come later, or never."""
        needs = self.some_needs(data)
        part = attrs.evolve(data.draw(parts(tuple(needs), faults=True)), needs=tuple(needs))
        arguments = {"retries": part.retries, "retry": AT_ONCE, "priority": part.priority}
        if name in self.model:
            with pytest.raises(DuplicateUnitError, match=f"'{name}'"):
                self.partitioner.add_unit(print, needs, name)
            return
        if name is None:  # the id is not known beforehand, and goes into the function
            unit = self.partitioner.add_unit(print, needs, **arguments, **fallback_of("unnamed", None))
            assert unit.id not in self.model
            assert unit.id.startswith("unit_")
            unit.function = body_of("function", unit.id, part)
            part = attrs.evolve(part, fallback=None)
        else:
            function = body_of("function", name, part)
            unit = self.partitioner.add_unit(function, needs, name, **arguments, **fallback_of(name, part.fallback))
            assert unit.id == name
        self.model[unit.id] = part
        self.unplanned = False

    @rule(bad=st.sampled_from(BAD_UNITS))
    def add_nonsense(self, bad):
        """Nothing of it stays."""
        positional, named, error = bad
        with pytest.raises(error):
            self.partitioner.add_unit(*positional, **named)

    # ---- change

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def take_away(self, data):
        """Delete a unit by hand; others may still need it."""
        name = data.draw(st.sampled_from(sorted(self.model)))
        del self.partitioner.units[name]
        del self.model[name]
        self.unplanned = False  # a plan of other units is not used again

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def replace(self, data):
        """Put another unit in a unit's place by hand."""
        needs = self.some_needs(data)
        name = data.draw(st.sampled_from(sorted(self.model)))
        part = attrs.evolve(data.draw(parts((), faults=False)), needs=tuple(needs))
        self.partitioner.units[name] = QuantumUnit(name, body_of("function", name, part), needs, priority=part.priority)
        self.model[name] = part
        self.unplanned = False

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def change_needs(self, data):
        """Change a unit's dependencies, and so its function; the next plan sees it."""
        needs = self.some_needs(data)
        name = data.draw(st.sampled_from(sorted(self.model)))
        part = self.model[name] = attrs.evolve(self.model[name], needs=tuple(needs))
        self.partitioner.units[name].dependencies = list(needs)
        self.partitioner.units[name].function = body_of("function", name, part)
        self.unplanned = True

    @precondition(lambda self: self.model)
    @rule(data=st.data(), retries=st.integers(0, 3), fails=st.integers(0, 3))
    def change_behaviour(self, data, retries, fails):
        """Change what is read when a run begins: no new plan is needed."""
        name = data.draw(st.sampled_from(sorted(self.model)))
        part = self.model[name] = attrs.evolve(self.model[name], retries=retries, fails=fails)
        self.partitioner.units[name].retries = retries
        self.partitioner.units[name].retry = AT_ONCE
        self.partitioner.units[name].function = body_of("function", name, part)

    # ---- plan

    def expected_error(self):
        """What is wrong with the model's graph.

        Returns:
            An error class, or None.
        """
        if any(need not in self.model for part in self.model.values() for need in part.needs):
            return MissingDependencyError
        graph = nx.DiGraph([(need, name) for name, part in self.model.items() for need in part.needs])
        return None if nx.is_directed_acyclic_graph(graph) else CircularDependencyError

    @rule()
    def plan(self):
        """Build a plan, or get the error that the graph deserves."""
        error = self.expected_error()
        if error is not None:
            with pytest.raises((MissingDependencyError, CircularDependencyError)) as caught:
                self.partitioner.build_execution_plan()
            assert type(caught.value) is error
            return
        plan = self.partitioner.build_execution_plan()
        self.unplanned = False
        assert list(plan.units) == list(self.model)
        assert plan.dependencies == {name: set(part.needs) for name, part in self.model.items()}

    # ---- run

    @rule(
        lane=st.sampled_from(LANES),
        strategy=st.sampled_from([None, *STRATEGIES]),
        salt=st.integers(0, 3),
        faulty=st.booleans(),
        data=st.data(),
    )
    def execute(self, lane, strategy, salt, faulty, data):
        """Execute, with or without results that are known already."""
        if self.unplanned:
            self.plan()
        names = st.sets(st.sampled_from(sorted(self.model))) if self.model else st.just(())
        known = dict.fromkeys(data.draw(st.one_of(st.just(()), names)), -7)
        journal = Journal()
        context = {"given": Given(journal, salt, faulty)}
        error = self.expected_error()
        if error is not None:
            with pytest.raises(error):
                lane.run(self.partitioner, context, strategy=strategy)
            assert journal.steps() == []
            return
        result = lane.run(self.partitioner, context, strategy=strategy, known=known)
        expected = self.last = Expected(self.model, salt=salt, faulty=faulty, known=known)
        assert dict(result) == expected.values
        assert list(result) == [name for name in self.model if name in expected.values]
        assert {name: record.state for name, record in result.report.units.items()} == expected.states
        assert journal.calls() == {name: count for name, count in expected.calls.items() if count}

    @rule(bad=st.sampled_from(BAD_EXECUTIONS))
    def execute_nonsense(self, bad):
        """A wrong argument is an error before anything runs, and the last run's results stay."""
        options, error = bad
        journal = Journal()
        if self.unplanned:
            self.plan()
        with pytest.raises(self.expected_error() or error):
            self.partitioner.execute({"given": Given(journal)}, **options)
        assert journal.steps() == []

    @rule(context=st.sampled_from([None, QuantumPartitioner(), UnitState.FAILED, print]))
    def execute_without_a_context(self, context):
        """What cannot be a context is an error before anything runs."""
        if self.unplanned:
            self.plan()
        with pytest.raises(self.expected_error() or ContextError):
            self.partitioner.execute(context)

    # ---- always

    @initialize()
    def begin(self):
        """A new partitioner knows of nothing."""
        assert self.partitioner.last_result is None
        assert self.partitioner.execute({}) == {}
        self.last = Expected({})

    @invariant()
    def the_units_are_those_of_the_model(self):
        """By id, in the order added, with their dependencies."""
        assert {name: tuple(unit.dependencies) for name, unit in self.partitioner.units.items()} == {
            name: part.needs for name, part in self.model.items()
        }
        assert list(self.partitioner.units) == list(self.model)

    @invariant()
    def the_last_run_is_what_is_shown(self):
        """Whatever has been added, changed or tried in vain since."""
        if self.last is None:
            return
        partitioner = self.partitioner
        assert partitioner.completed_units == self.last.numbers(UnitState.COMPLETED)
        assert partitioner.failed_units == self.last.numbers(UnitState.FAILED) == set(partitioner.get_failed_units())
        assert partitioner.get_partial_results() == self.last.values
        for name, unit in partitioner.units.items():
            if unit.state is not UnitState.PENDING:
                assert unit.state is self.last.states[name]
                assert unit.result == self.last.values.get(name)


def test_a_partitioner_stays_itself_whatever_is_done_to_it():
    """Random lives, each of many steps."""
    run_state_machine_as_test(PartitionerLife, settings=settings(stateful_step_count=25))
