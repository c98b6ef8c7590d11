"""The three Atlas plans of the seed, as the examples have them: names, arguments and units as the seed writes them, its slips mended."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from qp_core import ExecutionMode

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def load(monkeypatch):
    """Import an example program as a module."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def needs_of(partitioner):
    """What each unit of a partitioner depends on."""
    return {unit_id: unit.dependencies for unit_id, unit in partitioner.units.items()}


def arguments_of(function):
    """The names of a function's arguments with their defaults."""
    return {
        name: None if parameter.default is parameter.empty else parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
    }


def test_the_plan_for_providers(load):
    """provider_<id> for each, then aggregate_responses; ten seconds a provider, three at once, in threads."""
    example = load("provider_plan")
    assert arguments_of(example.create_provider_execution_plan) == {"providers": None, "query": None, "max_workers": 3}
    partitioner = example.create_provider_execution_plan(example.PROVIDERS, "anything")
    assert (partitioner.max_workers, partitioner.default_execution_mode) == (3, ExecutionMode.THREAD)
    provider_units = [f"provider_{provider.id}" for provider in example.PROVIDERS]
    assert needs_of(partitioner) == {**{unit: [] for unit in provider_units}, "aggregate_responses": provider_units}
    for provider in example.PROVIDERS:
        unit = partitioner.units[f"provider_{provider.id}"]
        assert (unit.timeout, unit.metadata) == (10.0, {"resource_type": "io", "provider": provider.id})


def test_each_provider_is_asked_what_the_context_asks(load):
    """The units take `ctx["query"]`, as in the seed; without it the query that the plan was made with."""
    example = load("provider_plan")

    class Echo:
        def __init__(self, name):
            self.id = name

        def generate(self, query):
            return example.Response(self.id, query)

    partitioner = example.create_provider_execution_plan([Echo("one"), Echo("two")], "the plan's", 2)
    assert partitioner.execute({"query": "the run's"})["aggregate_responses"] == "one: the run's\ntwo: the run's"
    assert partitioner.execute({})["aggregate_responses"] == "one: the plan's\ntwo: the plan's"


@pytest.mark.parametrize("mode", ["thread", "sequential", "async"])
def test_the_pipeline_for_documents(load, mode):
    """extract_<i>, chunk_<i>, embed_<i> belong to document i (in the seed only the last document had all three); then index_embeddings."""
    example = load("document_pipeline")
    assert list(arguments_of(example.create_document_pipeline)) == ["documents", "embedding_model"]
    documents = [document for document in example.library() if document.id != "picture"]
    partitioner = example.create_document_pipeline(documents, example.HashingModel())
    assert partitioner.max_workers == 4
    needs = needs_of(partitioner)
    assert needs.pop("index_embeddings") == [f"embed_{i}" for i in range(len(documents))]
    assert needs == {
        unit: need
        for i in range(len(documents))
        for unit, need in ((f"extract_{i}", []), (f"chunk_{i}", [f"extract_{i}"]), (f"embed_{i}", [f"chunk_{i}"]))
    }
    results = partitioner.execute({}, mode)
    assert results.ok
    for i, document in enumerate(documents):
        kinds = [partitioner.units[f"{stage}_{i}"].metadata for stage in ("extract", "chunk", "embed")]
        assert kinds == [{"document_id": document.id, "resource_type": kind} for kind in ("cpu", "cpu", "io")]
        assert results[f"chunk_{i}"] == example.chunk_text(example.extract_text(document))
        assert [piece.text for piece in results[f"embed_{i}"]] == results[f"chunk_{i}"]
        assert {piece.document_id for piece in results[f"embed_{i}"]} == {document.id}
    assert len(results["index_embeddings"].pieces) == sum(len(results[f"chunk_{i}"]) for i in range(len(documents)))


def test_the_workflow_of_agents(load):
    """retrieval_agent -> reasoning_agent -> tool_agent_<tool> for each tool -> response_agent; as many at once as there are agents."""
    example = load("agent_workflow")
    assert list(arguments_of(example.create_agent_workflow)) == ["query", "available_agents"]
    agents = {
        "retrieval": example.RetrievalAgent(),
        "reasoning": example.ReasoningAgent(),
        "tool": example.ToolAgent(),
        "response": example.ResponseAgent(),
    }
    partitioner = example.create_agent_workflow("How many hours has the February of a leap year? 2024-02-01", agents)
    tools = ["tool_agent_calculator", "tool_agent_calendar"]
    assert partitioner.max_workers == 4
    assert needs_of(partitioner) == {
        "retrieval_agent": [],
        "reasoning_agent": ["retrieval_agent"],
        **{tool: ["reasoning_agent"] for tool in tools},
        "response_agent": ["reasoning_agent", *tools],
    }
    types = {unit_id: unit.metadata["agent_type"] for unit_id, unit in partitioner.units.items()}
    assert types == {
        "retrieval_agent": "retrieval",
        "reasoning_agent": "reasoning",
        **dict.fromkeys(tools, "tool"),
        "response_agent": "response",
    }
    results = partitioner.execute({})
    assert (results[tools[0]], results[tools[1]]) == ("696", "Thursday")
