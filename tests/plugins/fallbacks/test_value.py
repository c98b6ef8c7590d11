"""`metadata["fallback_value"]`."""

import pytest

from qp_core import QuantumPartitioner, QuantumUnit, UnitState
from qp_plugins.fallbacks.value import qp_fallback


def fail(ctx):
    """A unit that fails."""
    msg = "broken"
    raise ValueError(msg)


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"status": "error"}], ids=repr)
def test_any_value_counts_also_none_and_falsy_ones(value):
    """What matters is that the key is there."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(fail, name="unit", metadata={"fallback_value": value})
    partitioner.add_unit(lambda ctx: ("got", ctx["unit"]), ["unit"], "after")
    result = partitioner.execute({})
    assert result == {"unit": value, "after": ("got", value)}
    record = result.report.units["unit"]
    assert (record.state, record.used_fallback) == (UnitState.COMPLETED, True)
    assert (record.error.type, record.error.text) == ("ValueError", "broken")


def test_without_the_key_there_is_no_answer():
    """Other metadata says nothing."""
    assert qp_fallback(QuantumUnit("unit", fail, metadata={"value": 1})) is None


def test_the_value_stands_in_only_after_the_last_attempt(clock):
    """Three attempts are made before it is used, and a unit that succeeds on the last one needs none."""
    partitioner, attempts = QuantumPartitioner(clock=clock), []

    def third_time(ctx):
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            fail(ctx)
        return "real"

    policy = {"retries": 2, "metadata": {"fallback_value": "stand-in"}}
    partitioner.add_unit(third_time, name="mended", **policy)
    partitioner.add_unit(fail, name="broken", **policy)
    result = partitioner.execute({}, "sequential")
    assert result == {"mended": "real", "broken": "stand-in"}
    assert attempts == [1, 2, 3]
    assert result.report.units["broken"].attempts == 3


def test_the_value_goes_before_a_fallback_function():
    """It costs nothing, so it is asked first."""
    partitioner, called = QuantumPartitioner(), []
    partitioner.add_unit(
        fail, name="unit", metadata={"fallback_value": 1}, fallback=lambda ctx, error: called.append(error)
    )
    assert partitioner.execute({}) == {"unit": 1}
    assert called == []
