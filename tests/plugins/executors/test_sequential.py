"""One unit after another, in the thread that called."""

import asyncio
import contextvars
import threading

import pytest

from qp_core import QuantumPartitioner, UnitState
from qp_plugins.executors.sequential import SequentialExecutor, qp_executors


def test_every_unit_runs_in_the_calling_thread_in_order():
    """Also where many workers are asked for."""
    partitioner, ran = QuantumPartitioner(), []
    for name in "abcde":
        partitioner.add_unit(lambda ctx, name=name: ran.append((name, threading.get_ident())), name=name)
    result = partitioner.execute({}, "sequential", max_workers=8)
    assert ran == [(name, threading.get_ident()) for name in "abcde"]
    assert result.report.max_workers == 1


def test_no_thread_is_started(monkeypatch):
    """A debugger and a profiler see one thread."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread was started"))
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="a")
    assert partitioner.execute({}, "sequential") == {"a": 1}


def test_where_a_unit_has_a_timeout_all_units_run_in_one_thread_beside(nothing_left_over):
    """In the same one, so that what belongs to a thread is shared between them."""
    partitioner, local = QuantumPartitioner(), threading.local()

    def keep(ctx):
        local.kept = "kept"
        return threading.get_ident()

    partitioner.add_unit(keep, name="keep")
    partitioner.add_unit(lambda ctx: (local.kept, threading.get_ident()), ["keep"], "find", timeout=60)
    result = partitioner.execute({}, "sequential", max_workers=8)
    assert result["keep"] != threading.get_ident()
    assert result["find"] == ("kept", result["keep"])


def test_where_the_run_has_a_deadline_the_calling_thread_keeps_the_time():
    """So a unit that hangs cannot keep it."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: threading.get_ident(), name="unit")
    assert partitioner.execute({}, "sequential", deadline=60)["unit"] != threading.get_ident()


def test_a_unit_that_runs_out_of_time_is_given_up_and_the_next_one_runs(clock, patience):
    """In a thread of its own, since the other is still busy."""
    partitioner, free = QuantumPartitioner(clock=clock), threading.Event()

    def hang(ctx):
        clock.advance(2)
        free.wait(patience)

    partitioner.add_unit(hang, name="hang", timeout=1)
    partitioner.add_unit(lambda ctx: "done", name="next")
    result = partitioner.execute({}, "sequential")
    free.set()
    assert result == {"next": "done"}
    assert result.report.units["hang"].state is UnitState.TIMEOUT
    assert result.report.abandoned == ("hang",)


def test_coroutines_run_one_at_a_time_too():
    """Each is awaited before the next unit begins, on one event loop."""
    partitioner, trace = QuantumPartitioner(), []

    async def unit(ctx):
        trace.append(("begin", ctx.unit_id))
        await asyncio.sleep(0)
        trace.append(("end", ctx.unit_id))
        return id(asyncio.get_running_loop())

    for name in "ab":
        partitioner.add_unit(unit, name=name)
    result = partitioner.execute({}, "sequential")
    assert trace == [("begin", "a"), ("end", "a"), ("begin", "b"), ("end", "b")]
    assert result["a"] == result["b"]


def test_context_variables_of_the_caller_are_seen_and_not_changed():
    """Each unit runs in a copy."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("outer")
    partitioner = QuantumPartitioner()

    def change(ctx):
        seen = variable.get()
        variable.set(ctx.unit_id)
        return seen

    for name in "ab":
        partitioner.add_unit(change, name=name)
    assert partitioner.execute({}, "sequential") == {"a": "outer", "b": "outer"}
    assert variable.get() == "outer"


def test_a_chain_of_units_needs_no_stack():
    """5,000 units in a row, and the recursion limit is not touched."""
    partitioner = QuantumPartitioner()
    for number in range(5_000):
        partitioner.add_unit(lambda ctx: None, [f"u{number - 1}"] if number else [], f"u{number}")
    assert partitioner.execute({}, "sequential").ok


def test_a_run_inside_a_unit_runs_in_the_same_thread():
    """Nothing is handed to anybody."""

    def inner(ctx):
        partitioner = QuantumPartitioner()
        partitioner.add_unit(lambda ctx: threading.get_ident(), name="inner")
        return partitioner.execute({}, "sequential")["inner"]

    partitioner = QuantumPartitioner()
    partitioner.add_unit(inner, name="outer")
    assert partitioner.execute({}, "sequential")["outer"] == threading.get_ident()


@pytest.mark.parametrize("asked", [None, 1, 99])
def test_it_has_one_worker_whatever_was_asked_for(asked):
    """And is provided as `sequential`."""
    partitioner = QuantumPartitioner()
    assert SequentialExecutor().workers(asked, partitioner.build_execution_plan()) == 1
    (make,) = qp_executors().values()
    assert isinstance(make(None), SequentialExecutor)
