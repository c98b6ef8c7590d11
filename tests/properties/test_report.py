"""The numbers of a report agree with each other, with the graph, and with what the units wrote down."""

import json

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qp_core import RunReport
from tests.properties.bodies import partitioner_of
from tests.properties.checks import numbers
from tests.properties.journal import Given, Journal, file_journal
from tests.properties.lanes import PROCESSES, STRATEGIES, every_lane
from tests.properties.oracle import graph_of
from tests.strategies import examples, large_works, works

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

ROUNDING_S = 1e-6
"""Start and duration of a record are differences of large floats."""


@every_lane()
@examples(0.6)
@given(work=st.one_of(works(), large_works()), strategy=st.sampled_from(STRATEGIES))
def test_the_numbers_of_a_report_agree(lane, work, strategy):
    """Times, workers, busy time, critical path, speed-up; before and after the report has been stored and read back."""
    partitioner, journal = partitioner_of(work, lane.kind), Journal()
    result = lane.run(partitioner, {"given": Given(journal)}, strategy=strategy)
    report = result.report
    assert (report.mode, report.strategy, report.stopped) == (lane.mode, strategy, None)
    for one in (report, RunReport.from_data(json.loads(json.dumps(report.to_data())))):
        check_times(work, one)
        check_workers(one, lane.bound if lane.mode in {"sequential", "thread"} else None)
        check_sums(work, one)
    check_exact_times(work, partitioner, result)
    assert {number for number in range(len(work)) if report.units[f"u{number}"].attempts} == set(journal.calls())


@pytest.mark.slow
@examples(0.2)
@given(work=works())
def test_the_numbers_of_a_report_of_processes_agree(work):
    """The same where the times were taken in other processes."""
    with file_journal() as journal:
        result = PROCESSES.run(partitioner_of(work), {"given": Given(journal)})
        assert {number for number in range(len(work)) if result.report.units[f"u{number}"].attempts} == set(
            journal.calls()
        )
    check_times(work, result.report)
    check_workers(result.report, None)
    check_sums(work, result.report)


def check_times(work, report):
    """What ran began after the run did, after all that it needs had ended, and ended before the run did."""
    ends = {}
    for number, record in enumerate(report.units.values()):
        ran = record.attempts > 0
        assert ran == (record.started_s is not None) == (record.duration_s is not None) == (record.worker is not None)
        if ran:
            assert record.started_s >= -ROUNDING_S
            assert record.duration_s >= 0
            ends[number] = record.started_s + record.duration_s
            assert ends[number] <= report.wall_s + ROUNDING_S
    for number in ends:
        for need in work.parts[number].needs:
            assert report.units[f"u{number}"].started_s >= ends[need] - ROUNDING_S


def check_exact_times(work, partitioner, result):
    """The units' own attributes hold the same times without rounding."""
    for number, unit_id in enumerate(work.ids):
        unit, record = partitioner.units[unit_id], result.report.units[unit_id]
        if record.attempts:
            assert unit.end_time >= unit.start_time
            assert unit.execution_time == record.duration_s
            assert all(partitioner.units[f"u{need}"].end_time <= unit.start_time for need in work.parts[number].needs)


def check_workers(report, bound):
    """No worker ran two units at the same time, and their numbers lie within the bound."""
    by_worker = {}
    for record in report.units.values():
        if record.attempts:
            by_worker.setdefault(record.worker, []).append((record.started_s, record.started_s + record.duration_s))
            assert record.worker >= 0
            assert bound is None or record.worker < bound
    for spans in by_worker.values():
        spans.sort()
        assert all(later[0] >= earlier[1] - ROUNDING_S for earlier, later in nx.utils.pairwise(spans))


def check_sums(work, report):
    """Busy time is all durations, the critical path the longest chain of them; neither speed-up nor efficiency is too good."""
    durations = [record.duration_s or 0.0 for record in report.units.values()]
    assert report.busy_s == pytest.approx(sum(durations))
    path, dag = numbers(report.critical_path), graph_of(work)
    assert all(dag.has_edge(*step) for step in nx.utils.pairwise(path))
    weighed = nx.DiGraph()
    weighed.add_nodes_from(["end", *dag])
    weighed.add_weighted_edges_from(
        (number, after, durations[number]) for number in dag for after in (*dag.successors(number), "end")
    )
    assert report.critical_path_s == pytest.approx(nx.dag_longest_path_length(weighed), abs=ROUNDING_S)
    assert report.critical_path_s <= report.busy_s + ROUNDING_S
    assert report.critical_path_s <= report.wall_s + ROUNDING_S * (len(path) + 1)
    if report.max_workers is not None:
        assert report.busy_s <= report.max_workers * report.wall_s + ROUNDING_S * (len(work) + 1)
        assert report.speedup == pytest.approx(report.busy_s / report.wall_s if report.wall_s else 0.0)
        assert report.parallel_efficiency == pytest.approx(report.speedup / report.max_workers)
