"""What `execute_with_monitoring` leaves behind."""

import asyncio
import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from qp_core import CachingQuantumPartitioner, QuantumPartitioner, UnknownNameError
from qp_plugins.telemetry.metrics import Metrics, qp_observers

KEYS = [
    "start_time",
    "end_time",
    "total_duration",
    "unit_times",
    "total_units",
    "completed_units",
    "failed_units",
    "execution_trace",
]


def fail(ctx):
    """A unit that fails."""
    msg = "broken"
    raise ValueError(msg)


def measured(partitioner, **options):
    """Execute, and return what was measured."""
    partitioner.execute_with_monitoring({}, **options)
    return partitioner.last_execution_metrics


def test_every_time_is_on_the_runs_own_clock(clock):
    """Two units of 3 and 4 seconds: since the epoch, and differences are durations.

    first (3 s) -> second (4 s)
    """
    partitioner = QuantumPartitioner(clock=clock)
    partitioner.add_unit(lambda ctx: clock.advance(3), name="first")
    partitioner.add_unit(lambda ctx: clock.advance(4), ["first"], "second")
    zero = clock.utc()
    assert measured(partitioner, execution_mode="sequential") == {
        "start_time": zero,
        "end_time": zero + 7,
        "total_duration": 7,
        "total_units": 2,
        "completed_units": 2,
        "failed_units": 0,
        "unit_times": {
            "first": {"start": zero, "end": zero + 3, "duration": 3},
            "second": {"start": zero + 3, "end": zero + 7, "duration": 4},
        },
        "execution_trace": [
            {"event": "start", "unit": "first", "time": zero},
            {"event": "complete", "unit": "first", "time": zero + 3},
            {"event": "start", "unit": "second", "time": zero + 3},
            {"event": "complete", "unit": "second", "time": zero + 7},
        ],
    }


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_failures_are_counted_and_worded(mode):
    """A skipped unit counts as neither, and has no times.

    bad -> skipped    good
    """
    partitioner = QuantumPartitioner()
    partitioner.add_unit(fail, name="bad")
    partitioner.add_unit(lambda ctx: 1, ["bad"], "skipped")
    partitioner.add_unit(lambda ctx: 1, name="good")
    metrics = measured(partitioner, execution_mode=mode)
    assert (metrics["total_units"], metrics["completed_units"], metrics["failed_units"]) == (3, 1, 1)
    assert set(metrics["unit_times"]) == {"bad", "good"}
    assert metrics["unit_times"]["bad"]["error"] == "broken"
    assert "error" not in metrics["unit_times"]["good"]
    (error,) = [entry for entry in metrics["execution_trace"] if entry["event"] == "error"]
    assert (error["unit"], error["error"]) == ("bad", "broken")
    assert error["time"] == metrics["unit_times"]["bad"]["end"]


@pytest.mark.parametrize("mode", ["sequential", "thread", "async", "custom"])
def test_times_lie_within_the_run_and_fit_together_on_the_real_clock(mode):
    """Start of the run, start of the unit, end of the unit, end of the run."""
    partitioner = QuantumPartitioner(max_workers=4)
    for number in range(20):
        partitioner.add_unit(lambda ctx: sum(range(1_000)), [f"u{number - 4}"] if number >= 4 else [], f"u{number}")
    with ThreadPoolExecutor(4) as pool:
        metrics = measured(partitioner, execution_mode=mode, custom_executor=pool if mode == "custom" else None)
    for times in metrics["unit_times"].values():
        assert metrics["start_time"] - 1e-6 <= times["start"] <= times["end"] <= metrics["end_time"] + 1e-6
        assert times["duration"] == times["end"] - times["start"]
    assert metrics["end_time"] - metrics["start_time"] == pytest.approx(metrics["total_duration"], abs=1e-6)
    report = partitioner.last_result.report
    for unit_id, record in report.units.items():
        assert metrics["unit_times"][unit_id]["start"] == pytest.approx(report.started_utc + record.started_s, abs=1e-6)


def test_of_several_attempts_each_start_is_traced_and_the_last_one_measured(clock):
    """The first attempt takes 5 seconds, the second 1; between them is the wait."""
    partitioner = QuantumPartitioner(clock=clock)

    def second_time(ctx):
        clock.advance(5 if ctx.attempt == 1 else 1)
        if ctx.attempt == 1:
            fail(ctx)

    partitioner.add_unit(second_time, name="unit", retries=1)
    metrics = measured(partitioner, execution_mode="sequential")
    assert [entry["event"] for entry in metrics["execution_trace"]] == ["start", "start", "complete"]
    assert metrics["unit_times"]["unit"]["duration"] == pytest.approx(1)
    assert metrics["total_duration"] == pytest.approx(6 + sum(clock.jumps))


def test_a_result_that_was_found_is_completed_and_has_no_times():
    """It never ran."""
    partitioner = CachingQuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="kept", metadata={"cacheable": True})
    measured(partitioner)
    metrics = measured(partitioner)
    assert metrics["completed_units"] == 1
    assert metrics["unit_times"] == {}
    (entry,) = metrics["execution_trace"]
    assert entry["event"] == "complete"
    assert metrics["start_time"] <= entry["time"] <= metrics["end_time"] + 1e-6


def test_a_unit_that_a_pool_refused_has_an_end():
    """It was announced, and never ran: its times are about right all the same."""

    class Refusing:
        def submit(self, job):
            msg = "no"
            raise RuntimeError(msg)

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="unit")
    metrics = measured(partitioner, custom_executor=Refusing())
    times = metrics["unit_times"]["unit"]
    assert metrics["start_time"] - 1 <= times["start"] <= times["end"] <= metrics["end_time"] + 1e-6
    assert times["error"] == "no"
    assert metrics["execution_trace"][0]["time"] == times["start"]


def test_the_empty_graph_is_measured_too():
    """It has a beginning and an end."""
    metrics = measured(QuantumPartitioner())
    assert list(metrics) == KEYS
    assert metrics["end_time"] >= metrics["start_time"]
    assert (metrics["total_units"], metrics["unit_times"], metrics["execution_trace"]) == (0, {}, [])


def test_metrics_are_plain_data():
    """They can be written as JSON, whatever the units returned or raised."""

    class Mute(Exception):  # noqa: N818 - a user's own
        def __str__(self):
            msg = "no text"
            raise ValueError(msg)

    def mute(ctx):
        raise Mute

    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: object(), name="object")
    partitioner.add_unit(mute, name="mute")
    metrics = measured(partitioner)
    assert json.loads(json.dumps(metrics)) == metrics
    assert metrics["unit_times"]["mute"]["error"] == "<its __str__ raised ValueError>"


def test_two_runs_at_once_do_not_mix():
    """Each observer measures its own run."""

    async def main():
        partitioner, observers = QuantumPartitioner(), [Metrics(), Metrics()]
        for number in range(10):
            partitioner.add_unit(lambda ctx: None, name=f"u{number}")
        await asyncio.gather(*(partitioner.execute_async({}, telemetry=[observer]) for observer in observers))
        return [observer.metrics for observer in observers]

    for metrics in asyncio.run(main()):
        assert metrics["completed_units"] == 10
        assert len(metrics["execution_trace"]) == 20


def test_a_run_that_never_began_leaves_empty_metrics():
    """The seed's keys are there all the same."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: None)
    with pytest.raises(UnknownNameError):
        measured(partitioner, strategy="nope")
    assert list(partitioner.last_execution_metrics) == KEYS
    assert partitioner.last_execution_metrics["start_time"] is None


def test_measuring_keeps_no_result_alive():
    """A run with `outputs` frees a result after its last use, also while it is watched.

    first -> second -> third
    """
    made = []

    class Big:
        pass

    def first(ctx):
        big = Big()
        made.append(weakref.ref(big))
        return big

    def third(ctx):
        gc.collect()
        return made[0]() is None

    partitioner = QuantumPartitioner()
    partitioner.add_unit(first, name="first")
    partitioner.add_unit(lambda ctx: ctx["first"] is not None, ["first"], "second")
    partitioner.add_unit(third, ["second"], "third")
    result = partitioner.execute_with_monitoring({}, execution_mode="sequential", outputs=["third"])
    assert result == {"third": True}


def test_metrics_of_a_run_that_goes_on_count_what_there_is():
    """A unit looks at the observer of its own run."""
    observer, partitioner = Metrics(), QuantumPartitioner()
    partitioner.add_unit(lambda ctx: None, name="before")
    partitioner.add_unit(lambda ctx: observer.metrics, ["before"], "look")
    seen = partitioner.execute({}, "sequential", telemetry=[observer])["look"]
    assert (seen["completed_units"], seen["end_time"], seen["total_units"]) == (1, None, 2)
    assert list(seen["unit_times"]) == ["before", "look"]
    assert qp_observers() == {"metrics": Metrics}
