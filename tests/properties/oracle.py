"""What ought to come of a work: a plain loop, too simple to be wrong, and networkx."""

import networkx as nx

from qp_core import UnitState
from tests.properties.bodies import computed, stand_in
from tests.strategies import COMPUTED


class Expected:
    """What a run ends in: for each unit its state, its value if it has one, how often it is called, what it raised last.

    Units are the numbers of a work's parts, or the keys of a dict of parts.
    """

    def __init__(self, work, *, salt=0, faulty=True, known=None):
        self.states, self.values, self.calls, self.last_fault = {}, {}, {}, {}
        parts = work if isinstance(work, dict) else dict(enumerate(work.parts))
        for number in in_some_order(parts):
            part = parts[number]
            if number in (known or {}):
                self.states[number], self.values[number], self.calls[number] = UnitState.COMPLETED, known[number], 0
            elif any(need not in self.values for need in part.needs):
                self.states[number], self.calls[number] = UnitState.SKIPPED, 0
            else:
                self._call(number, part, salt, part.fails if faulty else 0)

    def _call(self, number, part, salt, fails):
        self.calls[number] = min(fails, part.retries) + 1
        answers = part.fallback not in {None, "raises", "coroutine_raises"}
        self.states[number] = UnitState.COMPLETED
        if fails <= part.retries:
            self.values[number] = part.returns
            if part.returns == COMPUTED:
                self.values[number] = computed(number, salt, [self.values[need] for need in part.needs])
            return
        self.last_fault[number] = self.calls[number]
        if answers:
            self.values[number] = None if part.fallback == "value" else stand_in(number)
        else:
            self.states[number] = UnitState.FAILED

    def numbers(self, *states):
        """The units in one of these states."""
        return {number for number, state in self.states.items() if state in states}


def in_some_order(parts):
    """The keys of the parts, each after what it needs."""
    done, left = [], list(parts)
    while left:
        now = [number for number in left if all(need in done for need in parts[number].needs)]
        done += now
        left = [number for number in left if number not in now]
    return done


def digraph(needs):
    """The same graph in networkx; an edge points from what is needed to what needs it."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(needs)))
    graph.add_edges_from((need, number) for number, found in enumerate(needs) for need in found)
    return graph


def graph_of(work):
    """A work's graph in networkx."""
    return digraph([part.needs for part in work.parts])
