"""The three usage patterns of the seed, line by line as it writes them; only what it leaves undefined is defined here."""

# ruff: noqa: T201, BLE001 - the lines are the seed's own

import re
import time

from qp_core import ExecutionMode, QuantumPartitioner
from qp_core.testing import FakeClock


def test_basic_parallel_execution(capsys):
    """load_data -> process_data, validate_data -> store_results; plan, run, and look at single results."""

    def load_data(context):
        return sorted(context["input_data"])

    def process_data(context):
        return [2 * number for number in context["load_data"]]

    def validate_data(context):
        return all(number > 0 for number in context["load_data"])

    def store_results(context):
        return {"data": context["process_data"], "valid": context["validate_data"]}

    data = [3, 1, 2]

    # ---- the seed's
    # Create partitioner instance
    partitioner = QuantumPartitioner(max_workers=4)
    # Add computational units with dependencies
    partitioner.add_unit(
        fn=load_data,
        dependencies=[],  # No dependencies
        name="load_data",
    )
    partitioner.add_unit(
        fn=process_data,
        dependencies=["load_data"],  # Depends on load_data
        name="process_data",
    )
    partitioner.add_unit(
        fn=validate_data,
        dependencies=["load_data"],  # Depends on load_data
        name="validate_data",
    )
    partitioner.add_unit(
        fn=store_results,
        dependencies=["process_data", "validate_data"],  # Depends on both
        name="store_results",
    )
    # Build and visualize the execution plan
    plan = partitioner.build_execution_plan()
    print(f"Execution levels: {plan.levels}")
    print(f"Critical path: {plan.critical_path}")
    # Execute with context
    results = partitioner.execute({"input_data": data})
    # Access individual results
    processed_data = results["process_data"]
    validation_result = results["validate_data"]
    # ----

    assert capsys.readouterr().out == (
        "Execution levels: [['load_data'], ['process_data', 'validate_data'], ['store_results']]\n"
        "Critical path: ['load_data', 'process_data', 'store_results']\n"
    )
    assert processed_data == [2, 4, 6]
    assert validation_result is True
    assert results["store_results"] == {"data": [2, 4, 6], "valid": True}


def test_advanced_execution_control(capsys):
    """A partitioner of processes, run in threads, with callbacks that measure."""
    data = 20
    # ---- the seed's
    # Create partitioner with custom execution strategy
    partitioner = QuantumPartitioner(max_workers=8, default_execution_mode=ExecutionMode.PROCESS)
    # Add computation units
    # ... [units added as in previous example]
    partitioner.add_unit(fn=lambda context: context["input_data"] + 1, dependencies=[], name="load_data")
    partitioner.add_unit(fn=lambda context: context["load_data"] * 2, dependencies=["load_data"], name="process_data")
    # Execute with monitoring
    metrics = {}

    def start_monitor(unit_id):
        metrics[unit_id] = {"start_time": time.time()}

    def end_monitor(unit_id, result):
        metrics[unit_id]["end_time"] = time.time()
        metrics[unit_id]["duration"] = metrics[unit_id]["end_time"] - metrics[unit_id]["start_time"]

    # Set up monitoring callbacks
    partitioner.on_unit_start = start_monitor
    partitioner.on_unit_complete = end_monitor
    # Execute with specific mode
    results = partitioner.execute(
        context={"input_data": data},
        execution_mode=ExecutionMode.THREAD,  # Override default mode
        max_workers=4,  # Override default worker count
    )
    # Analyze execution metrics
    total_time = sum(m["duration"] for m in metrics.values())
    max_time = max(m["duration"] for m in metrics.values())
    print(f"Total execution time: {total_time:.2f}s")
    print(f"Critical path time: {max_time:.2f}s")
    # ----

    assert results == {"load_data": 21, "process_data": 42}
    assert (results.report.mode, results.report.max_workers) == ("thread", 4)
    assert list(metrics) == ["load_data", "process_data"]
    assert re.fullmatch(r"Total execution time: \d+\.\d\ds\nCritical path time: \d+\.\d\ds\n", capsys.readouterr().out)


def _error_handling_units(partitioner, fetch_data_from_api, process):
    # ---- the seed's
    # Add units with retry and timeout configuration
    partitioner.add_unit(
        fn=fetch_data_from_api,
        dependencies=[],
        name="fetch_data",
        retries=3,  # Retry up to 3 times
        timeout=5.0,  # 5-second timeout
        metadata={"fallback_value": {"status": "error", "data": []}, "resource_type": "io"},
    )

    # Add error handling to function
    def process_with_error_handling(context):
        try:
            data = context["fetch_data"]
            if data["status"] == "error":
                # Handle error case
                return {"processed": False}
            # Normal processing
            return {"processed": True, "result": process(data["data"])}
        except Exception as e:
            # Log error and return safe result
            print(f"Error in processing: {e}")
            return {"processed": False, "error": str(e)}

    partitioner.add_unit(fn=process_with_error_handling, dependencies=["fetch_data"], name="process_data")
    # ----


def test_error_handling_and_recovery():
    """Four attempts, then the fallback value; what processes it sees that."""
    urls = []

    def fetch_data_from_api(context):
        urls.append(context["api_url"])
        raise ConnectionError(context["api_url"])

    partitioner = QuantumPartitioner(max_workers=4, clock=FakeClock())
    _error_handling_units(partitioner, fetch_data_from_api, sum)
    results = partitioner.execute({"api_url": "https://example.com/api"})
    assert results == {"fetch_data": {"status": "error", "data": []}, "process_data": {"processed": False}}
    assert len(urls) == 4
    assert results.report.units["fetch_data"].used_fallback


def test_error_handling_where_execution_fails(capsys):
    """What the seed does in `except`: partial results and failed units, after a run that raises."""

    def process(data):
        raise ValueError(f"cannot process {data}")

    partitioner = QuantumPartitioner(max_workers=4, clock=FakeClock())
    _error_handling_units(partitioner, lambda context: {"status": "ok", "data": [1]}, process)
    partitioner.add_unit(fn=lambda context: context["api_url"].upper(), dependencies=["process_data"], name="report")
    partitioner.add_unit(fn=lambda context: context["missing"], name="broken")
    # ---- the seed's, which expects an exception
    # Execute with error handling
    try:
        partitioner.execute({"api_url": "https://example.com/api"}, on_failure="raise")
        # Use results
    except Exception as e:
        # Handle execution failure
        print(f"Execution failed: {e}")
        # Check partial results
        partial_results = partitioner.get_partial_results()
        # Check failed units
        failed_units = partitioner.get_failed_units()
    # ----

    assert partial_results["process_data"] == {"processed": False, "error": "cannot process [1]"}
    assert partial_results["report"] == "HTTPS://EXAMPLE.COM/API"
    assert [(name, type(error)) for name, error in failed_units.items()] == [("broken", KeyError)]
    assert capsys.readouterr().out == (
        "Error in processing: cannot process [1]\nExecution failed: 1 of 4 units failed (1 sub-exception)\n"
    )
