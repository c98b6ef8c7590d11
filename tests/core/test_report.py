"""R1: a result never fails silently, and a report says what happened, can be stored, and costs in proportion to the run."""

import copy
import json
import logging
import pickle
import threading
import traceback

import pytest

from qp_core import (
    ErrorSummary,
    ExecutionResult,
    QuantumPartitioner,
    RetryPolicy,
    RunReport,
    UnitFailedError,
    UnitRecord,
    UnitState,
    UnitTimeoutError,
)
from qp_core.testing import FakeClock
from tests.core.engine import Loud, said, steps_of

PATIENCE_S = 60
"""How long threads wait for each other; only ever spent by a test that fails."""


def broken(ctx):
    """A unit that fails in a function below its own, so that the traceback has something to show."""
    return explode(ctx.unit_id)


def explode(name):
    """Where it fails."""
    msg = f"{name} exploded"
    raise ValueError(msg)


def sum_of_needs(ctx):
    """One more than the results of what the unit needs."""
    return 1 + sum(ctx.unit_results.values())


def cone():
    """A -> bad -> lost -> far beside good: one fails, two are skipped."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(sum_of_needs, name="a")
    partitioner.add_unit(broken, ["a"], "bad")
    partitioner.add_unit(sum_of_needs, ["bad"], "lost")
    partitioner.add_unit(sum_of_needs, ["lost"], "far")
    partitioner.add_unit(sum_of_needs, ["a"], "good")
    return partitioner


def every_end(clock):
    """A run in which units end in every way that needs no other thread: see the ids."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=clock, seed=1)

    def completed(ctx):
        clock.advance(2)
        ctx["written"] = object()
        ctx.record_metric("rows", 12)
        ctx.record_metric("parts", {"of": [1, 2.5, None]})
        return "value"

    partitioner.add_unit(completed, name="completed")
    partitioner.add_unit(broken, ["completed"], "failed", retries=1)
    partitioner.add_unit(sum_of_needs, ["failed"], "skipped")
    partitioner.add_unit(broken, name="fallback", metadata={"fallback_value": None})
    partitioner.add_unit(sum_of_needs, name="known")
    partitioner.add_unit(lambda _: "found", name="cached", metadata={"cacheable": True})
    return partitioner


@pytest.fixture
def lived():
    """The result of `every_end`, run twice with one cache so that the second time a result is found."""
    clock = FakeClock()
    partitioner = every_end(clock)
    cache = partitioner._installed_plugins().make("caches", "memory")
    partitioner.execute({}, known={"known": 7}, cache=cache)
    return partitioner.execute({}, known={"known": 7}, cache=cache)


# ---- the result


def test_a_result_is_a_dict_in_plan_order_whatever_the_order_of_the_ends():
    """Run last to first under `priority`; read first to last."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    ended = []
    for number in range(5):
        partitioner.add_unit(lambda ctx: ended.append(ctx.unit_id), name=f"u{number}", priority=number)
    result = partitioner.execute({}, strategy="priority")
    assert ended == ["u4", "u3", "u2", "u1", "u0"]
    assert isinstance(result, dict)
    assert list(result.items()) == [(f"u{number}", None) for number in range(5)]


def test_a_result_holds_every_unit_that_completed_and_no_other(lived):
    """Run, cached, known beforehand or by fallback; None is a result like any other."""
    assert lived == {"completed": "value", "fallback": None, "known": 7, "cached": "found"}
    assert list(lived) == ["completed", "fallback", "known", "cached"]
    assert not lived.ok


def test_a_run_in_which_all_completed_is_ok_also_the_empty_one():
    """`ok` is about every unit."""
    partitioner = QuantumPartitioner()
    assert partitioner.execute({}).ok
    partitioner.add_unit(sum_of_needs)
    assert partitioner.execute({}).ok


def test_a_run_that_was_cut_is_not_ok_though_nothing_failed():
    """The deadline came while a unit waited for its second attempt; its error is kept."""
    partitioner = QuantumPartitioner(clock=FakeClock())
    partitioner.add_unit(broken, name="waits", retries=1, retry=RetryPolicy(base_s=9, cap_s=99, jitter=0))
    result = partitioner.execute({}, deadline=5)
    assert (result.ok, result.failed, result.skipped, result) == (False, {}, {}, {})
    assert list(result.errors) == ["waits"]
    with pytest.raises(UnitFailedError) as caught:
        result["waits"]
    assert caught.value.state is UnitState.CANCELED
    assert caught.value.__cause__ is result.errors["waits"]


def test_reading_a_failed_key_raises_a_keyerror_with_the_units_own_exception_and_its_real_traceback():
    """The cause is the very object that was raised, and its traceback ends where it was raised."""
    result = cone().execute({})
    with pytest.raises(UnitFailedError) as caught:
        result["bad"]
    error = caught.value
    assert isinstance(error, KeyError)
    assert (error.unit_id, error.state, error.root) == ("bad", UnitState.FAILED, None)
    assert error.__cause__ is result.failed["bad"]
    assert str(error.__cause__) == "bad exploded"
    assert [frame.name for frame in traceback.extract_tb(error.__cause__.__traceback__)][-2:] == ["broken", "explode"]
    assert "ValueError: bad exploded" in str(error)


def test_reading_a_skipped_key_names_the_root_cause_and_carries_its_exception():
    """A -> bad -> lost -> far: far is told of bad, not of lost."""
    result = cone().execute({})
    with pytest.raises(UnitFailedError) as caught:
        result["far"]
    assert (caught.value.unit_id, caught.value.state, caught.value.root) == ("far", UnitState.SKIPPED, "bad")
    assert caught.value.__cause__ is result.failed["bad"]
    assert "'bad'" in str(caught.value)
    assert result.skipped == {"lost": "bad", "far": "bad"}


def test_reading_the_key_of_a_cancelled_unit_says_what_stopped_the_run():
    """It has no error of its own."""
    partitioner = cone()
    partitioner.add_unit(sum_of_needs, ["good"], "late")
    result = partitioner.execute({}, fail_fast=True)
    with pytest.raises(UnitFailedError, match="fail_fast") as caught:
        result["late"]
    assert caught.value.state is UnitState.CANCELED
    assert caught.value.__cause__ is None


def test_reading_a_key_that_was_freed_says_how_to_keep_it():
    """A -> b, outputs=[b]: a completed, its result is gone."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(sum_of_needs, name="a")
    partitioner.add_unit(sum_of_needs, ["a"], "b")
    result = partitioner.execute({}, outputs=["b"])
    assert result == {"b": 2}
    assert result.ok
    with pytest.raises(KeyError, match="outputs=") as caught:
        result["a"]
    assert not isinstance(caught.value, UnitFailedError)


def test_reading_a_key_that_is_no_unit_is_a_plain_keyerror():
    """Also `in` and `get` are those of a dict."""
    result = cone().execute({})
    with pytest.raises(KeyError) as caught:
        result["xyz"]
    assert type(caught.value) is KeyError
    assert caught.value.__notes__ == ["there was no such unit"]
    with pytest.raises(KeyError) as caught:
        result["badd"]
    assert caught.value.__notes__ == ["there was no such unit; did you mean 'bad'?"]
    assert "bad" not in result
    assert result.get("bad", "default") == "default"


@pytest.mark.parametrize("via", ["method", "option"])
def test_failures_are_raised_as_one_group_in_plan_order_with_notes_that_name_the_units(via):
    """The fallback's error is none; the skipped unit adds none."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    for name, priority in (("b", 1), ("a", 2), ("c", 3)):
        partitioner.add_unit(broken, name=name, priority=priority)
    partitioner.add_unit(broken, name="mended", metadata={"fallback_value": 0})
    partitioner.add_unit(sum_of_needs, ["a"], "skipped")

    def run():
        if via == "option":
            partitioner.execute({}, strategy="priority", on_failure="raise")
        partitioner.execute({}, strategy="priority").raise_for_failures()

    with pytest.raises(ExceptionGroup, match="3 of 5 units failed") as caught:
        run()
    assert [str(error) for error in caught.value.exceptions] == ["b exploded", "a exploded", "c exploded"]
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["raised by unit 'b'"],
        ["raised by unit 'a'"],
        ["raised by unit 'c'"],
    ]
    assert partitioner.get_partial_results() == {"mended": 0}
    assert list(partitioner.last_result.errors) == ["b", "a", "c", "mended"]


def test_a_group_with_a_baseexception_is_a_baseexceptiongroup():
    """A unit that calls sys.exit() fails alone, and is reported as what it raised."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")

    def leave(_):
        raise SystemExit(3)

    partitioner.add_unit(leave, name="left")
    result = partitioner.execute({})
    with pytest.raises(BaseExceptionGroup) as caught:
        result.raise_for_failures()
    assert not isinstance(caught.value, ExceptionGroup)
    assert caught.value.exceptions == (result.failed["left"],)


def test_nothing_is_raised_where_nothing_failed():
    """Neither by the method nor by the option, also where a fallback stood in."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(broken, name="mended", metadata={"fallback_value": 0})
    result = partitioner.execute({}, on_failure="raise")
    result.raise_for_failures()
    assert result == {"mended": 0}
    assert result.failed == {}
    assert str(result.errors["mended"]) == "mended exploded"


# ---- the log


def test_one_warning_names_the_failed_units(caplog):
    """One line a run, however many failed; it counts those skipped, and cuts a long list."""
    cone().execute({})
    assert [record.levelno for record in caplog.records if record.name == "qp_core"] == [logging.WARNING]
    assert said(caplog) == ["1 of 5 units failed: 'bad'; 2 skipped because of them"]
    caplog.clear()
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    for number in range(10):
        partitioner.add_unit(broken, name=f"b{number}")
    partitioner.execute({})
    (message,) = said(caplog)
    assert message.startswith("10 of 10 units failed: 'b0', 'b1'")
    assert "'b7' and 2 more" in message


def test_a_run_without_failures_says_nothing(caplog):
    """Also where a fallback stood in: that is in the report."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(broken, name="mended", metadata={"fallback_value": 0})
    partitioner.execute({})
    assert said(caplog) == []


# ---- pickles and copies


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        *(
            pytest.param(
                lambda one, protocol=protocol: pickle.loads(pickle.dumps(one, protocol)), id=f"pickle{protocol}"
            )
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_a_result_survives_pickling_and_copying_though_its_functions_do_not(lived, again):
    """Values, report and errors are equal; keys without a result still raise."""
    other = again(lived)
    assert type(other) is ExecutionResult
    assert other == lived
    assert list(other) == list(lived)
    assert other.report == lived.report
    assert other.ok is lived.ok
    assert list(other.failed) == ["failed"]
    assert other.skipped == {"skipped": "failed"}
    assert str(other.errors["fallback"]) == "fallback exploded"
    with pytest.raises(UnitFailedError) as caught:
        other["skipped"]
    assert repr(caught.value.__cause__) == "ValueError('failed exploded')"
    with pytest.raises(ExceptionGroup):
        other.raise_for_failures()


def test_a_pickled_result_knows_no_outcomes_any_more():
    """The ledger stays behind, and with it the functions."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(sum_of_needs, name="a")
    result = partitioner.execute({})
    assert result.outcome_of("a").state is UnitState.COMPLETED
    assert result.outcome_of("nobody").state is UnitState.PENDING
    assert pickle.loads(pickle.dumps(result)).outcome_of("a").state is UnitState.PENDING


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda one: pickle.loads(pickle.dumps(one)), id="pickle"),
    ],
)
def test_a_report_survives_pickling_and_copying(lived, again):
    """Also after its cached figures have been read."""
    first = again(lived.report)
    assert first == lived.report
    assert lived.report.critical_path
    second = again(lived.report)
    assert second == lived.report
    assert second.critical_path == lived.report.critical_path
    assert second.counts == lived.report.counts


# ---- the report as data


def read_back(report):
    """Through JSON, as text."""
    return RunReport.from_data(json.loads(json.dumps(report.to_data())))


def test_a_report_written_as_json_and_read_back_is_equal(lived):
    """Every way of ending, errors, metrics and writes included."""
    again = read_back(lived.report)
    assert again == lived.report
    assert dict(again.units) == dict(lived.report.units)
    assert read_back(again) == again
    assert list(again.units) == list(lived.report.units)


def test_a_report_holds_no_results_and_no_written_values(lived):
    """Of what a unit wrote, the keys; of its result, nothing."""
    text = json.dumps(lived.report.to_data())
    assert "value" not in json.loads(text)["units"]["completed"]
    assert lived.report.units["completed"].writes == ("written",)
    assert "found" not in text


def test_a_report_of_newer_make_is_refused_and_not_half_understood(lived):
    """An unknown field is an error."""
    data = lived.report.to_data()
    with pytest.raises(ExceptionGroup):
        RunReport.from_data({**data, "newer": 1})
    assert data["schema"] == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(ValueError("x"), ("ValueError", "x"), id="builtin"),
        pytest.param(UnitTimeoutError("a", 2.0), ("qp_core.errors.UnitTimeoutError", None), id="ours"),
    ],
)
def test_an_exception_is_summed_up_by_class_and_text(error, expected):
    """Builtins by their bare name."""
    summary = ErrorSummary.of(error)
    if expected is None:
        assert summary is None
    else:
        assert summary == (expected[0], str(error))


def test_an_exception_whose_text_raises_does_not_spoil_the_report():
    """A user's `__str__` may do anything."""

    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    def mute(_):
        raise MuteError

    partitioner = QuantumPartitioner()
    partitioner.add_unit(mute, name="mute")
    report = partitioner.execute({}).report
    assert report.units["mute"].error.text == "<its __str__ raised RuntimeError>"
    assert read_back(report) == report


# ---- records


def test_a_record_says_what_happened_to_its_unit(lived):
    """One record a unit, each field where it belongs."""
    units = lived.report.units
    assert len(units) == 6
    assert list(units) == ["completed", "failed", "skipped", "fallback", "known", "cached"]
    assert "nobody" not in units
    with pytest.raises(KeyError):
        units["nobody"]
    assert "6 units" in repr(units)
    assert units["completed"] == UnitRecord(
        id="completed",
        state=UnitState.COMPLETED,
        attempts=1,
        started_s=0.0,
        duration_s=2.0,
        worker=0,
        metrics={"rows": 12, "parts": {"of": [1, 2.5, None]}},
        writes=("written",),
    )
    failed = units["failed"]
    assert (failed.state, failed.attempts, failed.dependencies) == (UnitState.FAILED, 2, ("completed",))
    assert failed.error == ("ValueError", "failed exploded")
    assert units["skipped"] == UnitRecord(
        id="skipped", state=UnitState.SKIPPED, dependencies=("failed",), cause="failed"
    )
    mended = units["fallback"]
    assert (mended.state, mended.used_fallback, mended.error) == (
        UnitState.COMPLETED,
        True,
        ("ValueError", "fallback exploded"),
    )
    assert units["known"] == UnitRecord(id="known", state=UnitState.COMPLETED, known=True)
    cached = units["cached"]
    assert (cached.state, cached.cached, cached.attempts, cached.started_s) == (UnitState.COMPLETED, True, 0, None)


@pytest.mark.parametrize("stored", [False, True], ids=["live", "read_back"])
def test_states_partition_the_units(lived, stored):
    """Each unit stands in exactly one final state; the counts agree, and lists are in plan order."""
    report = read_back(lived.report) if stored else lived.report
    by_state = {state: report.in_state(state) for state in UnitState}
    assert sorted(unit_id for ids in by_state.values() for unit_id in ids) == sorted(report.units)
    assert report.counts == {state: len(ids) for state, ids in by_state.items() if ids}
    assert all(state.is_final for state in report.counts)
    assert by_state[UnitState.COMPLETED] == ("completed", "fallback", "known", "cached")
    assert report.in_state(UnitState.FAILED, UnitState.SKIPPED) == ("failed", "skipped")
    assert report.in_state() == ()
    assert report.abandoned == ()


def test_states_partition_the_units_of_a_run_that_its_deadline_cut():
    """Stuck -> after beside waiting, which has failed once: timed out, skipped or cancelled, and cancelled."""
    clock = FakeClock()
    partitioner = QuantumPartitioner(2, clock=clock)
    free, waits = threading.Event(), threading.Event()

    def stuck(_):
        assert waits.wait(PATIENCE_S)
        clock.advance(100)
        assert free.wait(PATIENCE_S)

    class Sees:
        def qp_unit_retrying(self, _):
            waits.set()

    partitioner.add_unit(stuck, name="stuck")
    partitioner.add_unit(broken, name="waiting", retries=3, retry=RetryPolicy(base_s=400, cap_s=400, jitter=0))
    partitioner.add_unit(sum_of_needs, ["stuck"], "after")
    result = partitioner.execute({}, deadline=50, telemetry=[Sees()])
    free.set()
    states = {unit_id: record.state for unit_id, record in result.report.units.items()}
    assert states["stuck"] is UnitState.TIMEOUT
    assert states["waiting"] is UnitState.CANCELED
    assert states["after"] in {UnitState.SKIPPED, UnitState.CANCELED}
    assert sum(result.report.counts.values()) == 3
    assert result.report.stopped == "deadline"
    assert result.report.abandoned == ("stuck",)
    assert read_back(result.report).abandoned == ("stuck",)
    assert list(result.failed) == ["stuck"]
    assert isinstance(result.failed["stuck"], UnitTimeoutError)
    with pytest.raises(UnitFailedError, match="ran out of time"):
        result["stuck"]


# ---- the figures of a known run, under a clock that is moved by hand


def taking(clock, seconds):
    """A unit that takes that long."""

    def run(_):
        clock.advance(seconds)

    return run


@pytest.mark.parametrize("stored", [False, True], ids=["live", "read_back"])
def test_the_figures_of_a_known_sequential_run(stored):
    """Start 1 -> left 4, right 2 -> end 3, and a loner of 6; one worker.

    start -> left  -> end
          -> right -> end     loner
    """
    clock = FakeClock()
    partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=clock)
    partitioner.add_unit(taking(clock, 1), name="start")
    partitioner.add_unit(taking(clock, 4), ["start"], "left")
    partitioner.add_unit(taking(clock, 2), ["start"], "right")
    partitioner.add_unit(taking(clock, 3), ["left", "right"], "end")
    partitioner.add_unit(taking(clock, 6), name="loner")
    report = partitioner.execute({}).report
    if stored:
        report = read_back(report)
    assert report.wall_s == 16
    assert report.busy_s == 16
    assert report.critical_path == ["start", "left", "end"]
    assert report.critical_path_s == 8
    assert report.speedup == 1
    assert report.max_workers == 1
    assert report.parallel_efficiency == 1
    assert (report.mode, report.strategy, report.stopped) == ("sequential", "fifo", None)
    assert report.started_utc == 1_700_000_000.0 + 1000.0
    starts = {unit_id: record.started_s for unit_id, record in report.units.items()}
    assert starts == {"start": 0, "left": 1, "loner": 5, "right": 11, "end": 13}


def test_the_figures_of_a_known_parallel_run():
    """Both begin at 0; short ends at 2, long at 5: busy 7 s in 5 s with 2 workers."""
    clock = FakeClock()
    partitioner = QuantumPartitioner(2, clock=clock)
    both, short_over = threading.Barrier(2), threading.Event()

    def short(_):
        both.wait(PATIENCE_S)
        clock.advance(2)

    def long(_):
        both.wait(PATIENCE_S)
        assert short_over.wait(PATIENCE_S)
        clock.advance(3)

    class Sees:
        def qp_unit_finished(self, event):
            if event.unit_id == "short":
                short_over.set()

    partitioner.add_unit(short, name="short")
    partitioner.add_unit(long, name="long")
    report = partitioner.execute({}, telemetry=[Sees()]).report
    assert (report.wall_s, report.busy_s, report.critical_path, report.critical_path_s) == (5, 7, ["long"], 5)
    assert report.speedup == pytest.approx(1.4)
    assert report.parallel_efficiency == pytest.approx(0.7)
    assert {record.worker for record in report.units.values()} == {0, 1}


def test_without_a_bound_efficiency_is_measured_by_what_the_critical_path_allows():
    """Three units of 2 s one after another, though async mode would take them at once: allowed 3, had 1."""
    clock = FakeClock()
    partitioner = QuantumPartitioner(default_execution_mode="async", clock=clock)

    async def two_seconds(_):
        clock.advance(2)

    for _ in range(3):
        partitioner.add_unit(two_seconds)
    report = partitioner.execute({}).report
    assert report.max_workers is None
    assert (report.busy_s, report.critical_path_s, report.wall_s) == (6, 2, 6)
    assert report.parallel_efficiency == pytest.approx(1 / 3)


@pytest.mark.parametrize("mode", ["sequential", "async"])
def test_a_run_that_took_no_time_has_no_speedup(mode):
    """No division by zero, with a bound or without; the empty run neither."""
    partitioner = QuantumPartitioner(default_execution_mode=mode, clock=FakeClock())
    empty = partitioner.execute({}).report
    assert (empty.critical_path, empty.busy_s, empty.critical_path_s, empty.speedup, empty.counts) == ([], 0, 0, 0, {})
    assert empty.parallel_efficiency == 0
    partitioner.add_unit(lambda _: 1)
    assert partitioner.execute({}).report.parallel_efficiency == 0


def test_retries_are_not_busy_time_and_the_last_attempt_counts():
    """Two attempts of 3 s with a wait between: 3 s busy, and the wait is in the wall time only."""
    clock = FakeClock()
    partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=clock)

    def second_time(ctx):
        clock.advance(3)
        if ctx.attempt == 1:
            raise OSError

    partitioner.add_unit(second_time, name="a", retries=1, retry=RetryPolicy(base_s=5, cap_s=10, jitter=0))
    report = partitioner.execute({}).report
    assert report.wall_s == 16
    assert report.busy_s == 3
    assert report.units["a"].started_s == 13
    assert report.units["a"].error is None


# ---- cost


def fan_with_failures(n):
    """Bad -> n/2 units that are skipped, and n/2 that run."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    bad = Loud("bad")
    partitioner.add_unit(broken, name=bad)
    for number in range(n // 2):
        partitioner.add_unit(sum_of_needs, [bad], Loud(f"s{number}"))
        partitioner.add_unit(sum_of_needs, name=Loud(f"r{number}"))
    return partitioner.execute({})


def read_everything(result):
    """Whatever a result can be asked."""
    report = result.report
    assert report.busy_s >= 0
    assert len(result.skipped) == len(report.in_state(UnitState.SKIPPED))
    assert len(report.to_data()["units"]) == len(report.units)
    assert (len(result.failed), result.ok, report.abandoned) == (1, False, ())
    assert report.critical_path_s >= 0
    assert len(pickle.dumps(result)) > len(result)


@pytest.mark.slow
def test_reporting_is_not_quadratic():
    """Eight times the units, eight times the work: counted, not timed."""

    def cost(n):
        result = fan_with_failures(n)
        return steps_of(lambda: read_everything(result))

    cost(10)  # what is done once for each class, is done
    assert 0 < cost(4_000) <= 9 * cost(500)
