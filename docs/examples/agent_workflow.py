"""The seed's workflow of agents: look up, think, use tools, answer.

    retrieval_agent ──> reasoning_agent ─┬─> tool_agent_calculator ─┬─> response_agent
                                         ├─> tool_agent_calendar  ──┤
                                         └──────────────────────────┘

The agents are small local programs. As in the seed, the tools are known before the run: the reasoning agent says which it
may need, and what it asks of each is found out while it runs.
"""

import ast
import calendar
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qp_core import ExecutionContext, QuantumPartitioner

FACTS = (
    "A leap year has 366 days; its February has 29.",
    "A day has 24 hours, and an hour has 3600 seconds.",
    "The Gregorian calendar began on 1582-10-15.",
    "A mile is 1609.344 metres.",
)


class RetrievalAgent:
    """Finds the facts that share words with the question."""

    def __init__(self, facts: Sequence[str] = FACTS) -> None:
        self.facts = facts

    def process(self, query: str) -> list[str]:
        """The facts, the best first."""
        asked = set(re.findall(r"[a-z]{3,}", query.lower()))
        shared = {fact: len(asked & set(re.findall(r"[a-z]{3,}", fact.lower()))) for fact in self.facts}
        return sorted((fact for fact in self.facts if shared[fact]), key=lambda fact: -shared[fact])


@dataclass(frozen=True)
class Reasoning:
    """What is to be asked of each tool, and why."""

    asks: Mapping[str, str]
    because: Sequence[str] = field(default_factory=tuple)


class ReasoningAgent:
    """Finds the sum that the question means, and the date that it names."""

    def get_required_tools(self) -> list[str]:
        """The tools that it may ask."""
        return ["calculator", "calendar"]

    def process(self, query: str, facts: Sequence[str]) -> Reasoning:
        """Read the numbers from the facts, and the date from the question."""
        known = " ".join(facts)
        days = _number(r"February has (\d+)", known)
        hours = _number(r"day has (\d+) hours", known)
        date = re.search(r"\d{4}-\d{2}-\d{2}", query)
        return Reasoning(
            asks={"calculator": f"{days} * {hours}", "calendar": date.group() if date else ""}, because=tuple(facts)
        )


def _number(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        msg = f"no fact says {pattern!r}"
        raise LookupError(msg)
    return found.group(1)


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _calculate(text: str) -> str:
    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        msg = f"{ast.unparse(node)!r} is no sum"
        raise ValueError(msg)

    return f"{value(ast.parse(text, mode='eval').body):g}"


def _weekday(text: str) -> str:
    year, month, day = map(int, text.split("-"))
    return calendar.day_name[calendar.weekday(year, month, day)]


class ToolAgent:
    """Has a calculator and a calendar."""

    tools: Mapping[str, Callable[[str], str]] = {"calculator": _calculate, "calendar": _weekday}

    def process_tool(self, reasoning: Reasoning, *, tool: str) -> str:
        """Ask a tool what the reasoning wants to know of it."""
        return self.tools[tool](reasoning.asks[tool])


class ResponseAgent:
    """Puts it all into words."""

    def generate_response(self, query: str, reasoning: Reasoning, tool_results: Mapping[str, str]) -> str:
        """The answer, and what it stands on."""
        told = ", ".join(
            f"{unit_id.removeprefix('tool_agent_')}: {result}" for unit_id, result in sorted(tool_results.items())
        )
        return f"{query}\n  {told}\n  because: {' '.join(reasoning.because)}"


def create_agent_workflow(query: str, available_agents: Mapping[str, Any]) -> QuantumPartitioner[dict[str, Any], Any]:
    """Create dependency-based multi-agent workflow.

    A query in the context of a run goes before the one given here.

    Returns:
        The units, ready to be executed.
    """
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(max_workers=len(available_agents))
    partitioner.add_unit(
        fn=lambda ctx: available_agents["retrieval"].process(ctx.get("query", query)),
        dependencies=[],
        name="retrieval_agent",
        metadata={"agent_type": "retrieval", "resource_type": "io"},
    )
    partitioner.add_unit(
        fn=lambda ctx: available_agents["reasoning"].process(ctx.get("query", query), ctx["retrieval_agent"]),
        dependencies=["retrieval_agent"],
        name="reasoning_agent",
        metadata={"agent_type": "reasoning", "resource_type": "cpu"},
    )
    for tool in available_agents["reasoning"].get_required_tools():
        partitioner.add_unit(
            fn=lambda ctx, t=tool: available_agents["tool"].process_tool(ctx["reasoning_agent"], tool=t),
            dependencies=["reasoning_agent"],
            name=f"tool_agent_{tool}",
            metadata={"agent_type": "tool", "tool": tool, "resource_type": "io"},
        )
    tool_units = [unit_id for unit_id in partitioner.units if unit_id.startswith("tool_agent_")]

    def respond(ctx: ExecutionContext) -> str:
        answer: str = available_agents["response"].generate_response(
            ctx.get("query", query), ctx["reasoning_agent"], {unit_id: ctx[unit_id] for unit_id in tool_units}
        )
        return answer

    partitioner.add_unit(
        fn=respond,
        dependencies=["reasoning_agent", *tool_units],
        name="response_agent",
        metadata={"agent_type": "response", "resource_type": "cpu"},
    )
    return partitioner


def main(mode: str = "thread") -> None:
    """Ask, and show who waited for whom."""
    query = "How many hours had the February of the leap year that began with the day 2024-02-01?"
    agents = {
        "retrieval": RetrievalAgent(),
        "reasoning": ReasoningAgent(),
        "tool": ToolAgent(),
        "response": ResponseAgent(),
    }
    partitioner = create_agent_workflow(query, agents)
    print(f"Levels: {partitioner.build_execution_plan().levels}")
    results = partitioner.execute({"query": query}, execution_mode=mode)
    print(results["response_agent"])


if __name__ == "__main__":
    main(*sys.argv[1:])
