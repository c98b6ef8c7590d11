"""One line that says how far a run is."""

import io
import sys

import pytest

from qp_core import QuantumPartitioner
from qp_plugins.telemetry.progress import Progress, qp_observers


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """It is."""
        return True


class Closed(io.StringIO):
    """A stream that cannot be written to any more."""

    def write(self, text):
        """Refuse."""
        msg = "I/O operation on closed file"
        raise ValueError(msg)


def run(stream, clock, *, seconds=(1, 1, 1, 1), failing=()):
    """Run one unit after another, each of which takes so long on the clock, and return what was written."""
    partitioner = QuantumPartitioner(clock=clock)

    def unit(ctx):
        clock.advance(seconds[int(ctx.unit_id)])
        if int(ctx.unit_id) in failing:
            msg = "broken"
            raise ValueError(msg)

    for number in range(len(seconds)):
        partitioner.add_unit(unit, name=str(number))
    partitioner.execute({}, "sequential", telemetry=[Progress(stream, clock.now)])
    return stream.getvalue()


def test_a_terminals_line_is_rewritten_in_place_and_ended_at_the_end(clock):
    """Each time over the last one, cleared to its end."""
    written = run(Terminal(), clock)
    assert written == "".join(f"\r\x1b[K{count}/4 units" for count in (1, 2, 3, 4, 4)) + "\n"


def test_a_terminals_line_is_rewritten_ten_times_a_second_at_most(clock):
    """Units of 40 ms: every third one shows."""
    written = run(Terminal(), clock, seconds=(0.04,) * 7)
    assert written == "\r\x1b[K3/7 units\r\x1b[K6/7 units\r\x1b[K7/7 units\n"


def test_elsewhere_a_line_is_written_every_five_seconds_and_at_the_end(clock):
    """Without control characters: it may be a file or a log."""
    assert run(io.StringIO(), clock, seconds=(2, 2, 2, 2, 2, 2)) == "3/6 units\n6/6 units\n6/6 units\n"


def test_a_short_run_writes_its_last_line_alone(clock):
    """Nothing flickers."""
    assert run(io.StringIO(), clock, seconds=(0, 0)) == "2/2 units\n"


def test_failures_are_counted(clock):
    """From the first one on."""
    assert run(io.StringIO(), clock, seconds=(5, 5, 5), failing={1, 2}) == (
        "1/3 units\n2/3 units, 1 failed\n3/3 units, 2 failed\n3/3 units, 2 failed\n"
    )


def test_the_empty_graph_is_none_of_none(clock):
    """It is over at once."""
    assert run(io.StringIO(), clock, seconds=()) == "0/0 units\n"


def test_skipped_units_have_ended_too(clock):
    """The line ends where it says that all are through."""
    stream, partitioner = io.StringIO(), QuantumPartitioner(clock=clock)
    partitioner.add_unit(lambda ctx: 1 / 0, name="bad")
    partitioner.add_unit(lambda ctx: 1, ["bad"], "skipped")
    partitioner.execute({}, telemetry=[Progress(stream, clock.now)])
    assert stream.getvalue() == "2/2 units, 1 failed\n"


def test_by_default_it_goes_to_standard_error(capsys):
    """Where results are not."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1)
    partitioner.execute({}, telemetry=["progress"])
    captured = capsys.readouterr()
    # Once, or twice where it has taken five seconds.
    assert (captured.out, {*captured.err.splitlines()}) == ("", {"1/1 units"})
    assert qp_observers() == {"progress": Progress}


def test_where_standard_error_is_closed_nothing_is_written(monkeypatch, caplog):
    """Python has None there then."""
    monkeypatch.setattr(sys, "stderr", None)
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="unit")
    assert partitioner.execute({}, telemetry=["progress"]) == {"unit": 1}
    assert caplog.records == []


@pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
def test_a_stream_that_breaks_switches_it_off_and_hurts_no_run(mode, caplog):
    """As for every observer."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: 1, name="unit")
    assert partitioner.execute({}, mode, telemetry=[Progress(Closed())]) == {"unit": 1}
    (record,) = caplog.records
    assert record.getMessage().startswith("observer 'Progress' raised in qp_run_finished")
