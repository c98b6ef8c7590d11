"""The seed's plan for providers: one question to several at once, and one answer made of what they say.

    provider_topics, provider_builtins, provider_modules, provider_remote ──> aggregate_responses

The providers are small local ones that answer from what Python documents about itself; the last one is not to be reached,
as providers sometimes are.
"""

import builtins
import inspect
import logging
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any, Protocol

from qp_core import ExecutionContext, ExecutionMode, QuantumPartitioner

WORD = re.compile(r"[a-z_]+")
SMALL_WORDS = frozenset("a an and are do does how i in is it of the to what with".split())  # noqa: SIM905 - reads better than a list


def words_of(text: str) -> list[str]:
    """The words that carry a meaning."""
    return [word for word in WORD.findall(text.lower()) if word not in SMALL_WORDS]


@dataclass(frozen=True)
class Response:
    """What a provider answers."""

    provider: str
    content: str


class Provider(Protocol):
    """What the plan needs of a provider."""

    id: str

    def generate(self, query: str) -> Response:
        """Answer a question, or raise."""
        ...


class TopicProvider:
    """Answers with the topic of the language reference whose name and text have most words of the question."""

    id = "topics"

    def generate(self, query: str) -> Response:
        """Find the topic."""
        asked = words_of(query)
        best = max(topics, key=lambda name: (sum(10 * (word == name) + (word in topics[name]) for word in asked), name))
        return Response(self.id, f"topic {best!r}")


class BuiltinProvider:
    """Answers with the first line of what a built-in function says of itself."""

    id = "builtins"

    def generate(self, query: str) -> Response:
        """Find the first built-in that the question names."""
        named = next((word for word in words_of(query) if hasattr(builtins, word)), None)
        if named is None:
            msg = "the question names no built-in"
            raise LookupError(msg)
        text = inspect.getdoc(getattr(builtins, named)) or ""
        return Response(self.id, f"{named}(): {text.splitlines()[0]}")


class ModuleProvider:
    """Answers with a module of the standard library that is called like a word of the question."""

    id = "modules"

    def generate(self, query: str) -> Response:
        """Find the module."""
        named = [word for word in words_of(query) if word in sys.stdlib_module_names]
        return Response(self.id, "modules " + ", ".join(named) if named else "no module of that name")


class RemoteProvider:
    """Asks a server on this machine that has been switched off: its port is taken, but nobody listens."""

    id = "remote"

    def generate(self, query: str) -> Response:
        """Fail as a client does that finds nobody."""
        with socket.socket() as switched_off:
            switched_off.bind(("127.0.0.1", 0))
            with socket.create_connection(switched_off.getsockname(), timeout=5) as connection:
                connection.sendall(query.encode())
                return Response(self.id, connection.recv(4096).decode())


def aggregate_responses(ctx: ExecutionContext) -> str:
    """One line for each provider that answered, in the order of the plan."""
    answers = [answer for answer in ctx.unit_results.values() if answer is not None]
    return "\n".join(f"{answer.provider}: {answer.content}" for answer in answers)


def create_provider_execution_plan(
    providers: Sequence[Provider], query: str, max_workers: int = 3
) -> QuantumPartitioner[dict[str, Any], Any]:
    """Create execution plan for parallel provider operations.

    A query in the context of a run goes before the one given here.

    Returns:
        The units, ready to be executed.
    """
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(
        max_workers=max_workers, default_execution_mode=ExecutionMode.THREAD
    )
    for provider in providers:
        partitioner.add_unit(
            fn=lambda ctx, p=provider: p.generate(ctx.get("query", query)),
            dependencies=[],
            name=f"provider_{provider.id}",
            timeout=10.0,
            metadata={"resource_type": "io", "provider": provider.id},
        )
    provider_units = [f"provider_{p.id}" for p in providers]
    partitioner.add_unit(fn=aggregate_responses, dependencies=provider_units, name="aggregate_responses")
    return partitioner


PROVIDERS: tuple[Provider, ...] = (TopicProvider(), BuiltinProvider(), ModuleProvider(), RemoteProvider())


def main(mode: str = "thread") -> None:
    """Ask those that can answer; then all; then all, where one may be missing."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here they are the point
    query = "what does sorted do with the operator of a lambda?"

    results = create_provider_execution_plan(PROVIDERS[:-1], query).execute({"query": query}, execution_mode=mode)
    print(results["aggregate_responses"])

    partitioner = create_provider_execution_plan(PROVIDERS, query)
    results = partitioner.execute({"query": query}, execution_mode=mode)
    print(f"With one that fails: {sorted(results)}")
    print(f"  failed: { {name: type(error).__name__ for name, error in results.failed.items()} }")
    print(f"  skipped, because of: {results.skipped}")

    for unit_id in list(partitioner.units)[:-1]:
        partitioner.units[unit_id].metadata["fallback_value"] = None  # None is a result like any other
    results = partitioner.execute({"query": query}, execution_mode=mode)
    print(f"Where each may be missing: {len(results['aggregate_responses'].splitlines())} answers, ok: {results.ok}")
    print(f"  stood in for: {[name for name, record in results.report.units.items() if record.used_fallback]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
