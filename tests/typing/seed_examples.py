"""The usage patterns of the document that this library comes from, written as users write them; mypy reads them, strictly."""

import time
from typing import Any, Protocol

from qp_core import ExecutionMode, ExecutionPlan, QuantumPartitioner


class Document(Protocol):
    id: str


class Provider(Protocol):
    id: str

    def generate(self, prompt: str) -> dict[str, Any]: ...


class Agent(Protocol):
    def process(self, query: str, *context: Any) -> Any: ...
    def process_tool(self, reasoning: Any, tool: str) -> Any: ...
    def generate_response(self, query: str, reasoning: Any, tools: dict[str, Any]) -> str: ...
    def get_required_tools(self) -> list[str]: ...


def load_data(ctx: dict[str, Any]) -> list[int]:
    return list(ctx["input_data"])


def process_data(ctx: dict[str, Any]) -> int:
    return sum(ctx["load_data"])


def validate_data(ctx: dict[str, Any]) -> bool:
    return bool(ctx["load_data"])


def store_results(ctx: dict[str, Any]) -> None:
    print(ctx["process_data"], ctx["validate_data"])


def extract_text(document: Document) -> str:
    return document.id


def chunk_text(text: str) -> list[str]:
    return text.split()


def generate_embeddings(chunks: list[str], model: Any) -> list[list[float]]:
    return [model.embed(chunk) for chunk in chunks]


def index_embeddings(ctx: dict[str, Any]) -> int:
    return len(ctx)


def aggregate_responses(ctx: dict[str, Any]) -> list[Any]:
    return list(ctx.values())


def basic_parallel_execution(data: list[int]) -> None:
    """Basic Parallel Execution."""
    partitioner = QuantumPartitioner(max_workers=4)
    partitioner.add_unit(fn=load_data, dependencies=[], name="load_data")
    partitioner.add_unit(fn=process_data, dependencies=["load_data"], name="process_data")
    partitioner.add_unit(fn=validate_data, dependencies=["load_data"], name="validate_data")
    partitioner.add_unit(fn=store_results, dependencies=["process_data", "validate_data"], name="store_results")

    plan = partitioner.build_execution_plan()
    print(f"Execution levels: {plan.levels}")
    print(f"Critical path: {plan.critical_path}")

    results = partitioner.execute({"input_data": data})
    processed_data = results["process_data"]
    validation_result = results["validate_data"]
    print(processed_data, validation_result)


def advanced_execution_control(data: list[int]) -> None:
    """Advanced Execution Control."""
    partitioner = QuantumPartitioner(max_workers=8, default_execution_mode=ExecutionMode.PROCESS)
    partitioner.add_unit(load_data, name="load_data")

    metrics: dict[str, dict[str, float]] = {}

    def start_monitor(unit_id: str) -> None:
        metrics[unit_id] = {"start_time": time.time()}

    def end_monitor(unit_id: str, result: object) -> None:
        metrics[unit_id]["end_time"] = time.time()
        metrics[unit_id]["duration"] = metrics[unit_id]["end_time"] - metrics[unit_id]["start_time"]

    partitioner.on_unit_start = start_monitor
    partitioner.on_unit_complete = end_monitor

    results = partitioner.execute(
        context={"input_data": data},
        execution_mode=ExecutionMode.THREAD,
        max_workers=4,
    )
    total_time = sum(m["duration"] for m in metrics.values())
    max_time = max(m["duration"] for m in metrics.values())
    print(f"Parallelism efficiency: {total_time / max_time:.2f}x", len(results))


def error_handling_and_recovery() -> None:
    """Error Handling and Recovery."""
    partitioner = QuantumPartitioner(max_workers=4)

    def fetch_data_from_api(ctx: dict[str, Any]) -> dict[str, Any]:
        return {"status": "ok", "data": [ctx["api_url"]]}

    def process_with_error_handling(context: dict[str, Any]) -> dict[str, Any]:
        data = context["fetch_data"]
        return {"processed": data["status"] != "error"}

    partitioner.add_unit(
        fn=fetch_data_from_api,
        dependencies=[],
        name="fetch_data",
        retries=3,
        timeout=5.0,
        metadata={"fallback_value": {"status": "error", "data": []}, "resource_type": "io"},
    )
    partitioner.add_unit(fn=process_with_error_handling, dependencies=["fetch_data"], name="process_data")
    try:
        results = partitioner.execute({"api_url": "https://example.com/api"})
        print(results)
    except Exception as e:  # noqa: BLE001 - the seed's example
        print(f"Execution failed: {e}")
        partial_results = partitioner.get_partial_results()
        failed_units = partitioner.get_failed_units()
        print(partial_results, failed_units)


def create_provider_execution_plan(providers: list[Provider], max_workers: int = 3) -> QuantumPartitioner:
    """Provider System Integration; a partitioner's type needs no parameters."""
    partitioner = QuantumPartitioner(max_workers=max_workers, default_execution_mode=ExecutionMode.THREAD)
    for provider in providers:
        partitioner.add_unit(
            fn=lambda ctx, p=provider: p.generate(ctx["query"]),
            dependencies=[],
            name=f"provider_{provider.id}",
            timeout=10.0,
            metadata={"resource_type": "io", "provider": provider.id},
        )
    provider_units = [f"provider_{p.id}" for p in providers]
    partitioner.add_unit(
        fn=lambda ctx: aggregate_responses(ctx),  # noqa: PLW0108 - the seed's example
        dependencies=provider_units,
        name="aggregate_responses",
    )
    return partitioner


def create_document_pipeline(documents: list[Document], embedding_model: Any) -> QuantumPartitioner[Any, Any]:
    """Document Processing Pipeline, its loop mended."""
    partitioner = QuantumPartitioner(max_workers=4)
    for i, doc in enumerate(documents):
        partitioner.add_unit(
            fn=lambda ctx, d=doc: extract_text(d),
            dependencies=[],
            name=f"extract_{i}",
            metadata={"document_id": doc.id, "resource_type": "cpu"},
        )
        partitioner.add_unit(
            fn=lambda ctx, i=i: chunk_text(ctx[f"extract_{i}"]),
            dependencies=[f"extract_{i}"],
            name=f"chunk_{i}",
        )
        partitioner.add_unit(
            fn=lambda ctx, i=i, model=embedding_model: generate_embeddings(ctx[f"chunk_{i}"], model),
            dependencies=[f"chunk_{i}"],
            name=f"embed_{i}",
        )
    embedding_units = [f"embed_{i}" for i in range(len(documents))]
    partitioner.add_unit(
        fn=lambda ctx: index_embeddings(ctx),  # noqa: PLW0108 - the seed's example
        dependencies=embedding_units,
        name="index_embeddings",
    )
    return partitioner


def create_agent_workflow(available_agents: dict[str, Agent]) -> QuantumPartitioner[dict[str, str], Any]:
    """Multi-Agent Orchestration."""
    partitioner: QuantumPartitioner[dict[str, str], Any] = QuantumPartitioner(max_workers=len(available_agents))
    partitioner.add_unit(
        fn=lambda ctx: available_agents["retrieval"].process(ctx["query"]),
        dependencies=[],
        name="retrieval_agent",
    )
    partitioner.add_unit(
        fn=lambda ctx: available_agents["reasoning"].process(ctx["query"], ctx["retrieval_agent"]),
        dependencies=["retrieval_agent"],
        name="reasoning_agent",
    )
    for tool in available_agents["reasoning"].get_required_tools():
        partitioner.add_unit(
            fn=lambda ctx, t=tool: available_agents["tool"].process_tool(ctx["reasoning_agent"], tool=t),
            dependencies=["reasoning_agent"],
            name=f"tool_agent_{tool}",
        )
    tool_units = [unit_id for unit_id in partitioner.units if unit_id.startswith("tool_agent_")]
    partitioner.add_unit(
        fn=lambda ctx: available_agents["response"].generate_response(
            ctx["query"], ctx["reasoning_agent"], {unit_id: ctx[unit_id] for unit_id in tool_units}
        ),
        dependencies=["reasoning_agent", *tool_units],
        name="response_agent",
    )
    return partitioner


def what_is_planned(partitioner: QuantumPartitioner) -> ExecutionPlan:
    """The shapes of a plan that the seed shows."""
    plan: ExecutionPlan = partitioner.build_execution_plan()
    order: list[list[str]] = plan.execution_order
    needs: dict[str, set[str]] = plan.dependencies
    picture: str = plan.visualize()
    print(order, needs, plan.dependents, picture, plan.max_level, plan.unit_count, plan.max_parallel_units)
    return plan
