"""R16: what observers are told, in which order, and that none of them can hurt a run."""

import logging
import threading
import time
import typing

import attrs
import pytest

from qp_core import QuantumPartitioner, RetryPolicy, RunFinished, RunStarted, UnitFinished, UnitStarted
from qp_core.telemetry import HOOK_OF, Event, Listeners, listeners_of
from qp_core.testing import FakeClock, Recorder

every_mode = pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
every_hook = pytest.mark.parametrize("hook", [pytest.param(hook, id=hook) for hook in HOOK_OF.values()])


def fails(ctx):
    """A unit that raises."""
    raise ValueError(ctx.unit_id)


def story(mode, **options):
    """A -> retried -> b beside bad -> lost, and known: every event happens, and every way to end but those of time."""
    partitioner = QuantumPartitioner(2, mode, clock=FakeClock(), seed=1, **options)

    def retried(ctx):
        if ctx.attempt == 1:
            raise OSError
        return ctx["a"]

    partitioner.add_unit(lambda _: 1, name="a")
    partitioner.add_unit(retried, ["a"], "retried", retries=1, retry=RetryPolicy(base_s=1, jitter=0))
    partitioner.add_unit(lambda ctx: ctx["retried"] + 1, ["retried"], "b")
    partitioner.add_unit(fails, name="bad")
    partitioner.add_unit(lambda _: 1, ["bad"], "lost")
    partitioner.add_unit(lambda _: 1, name="known")
    return partitioner


def executed(partitioner, *observers):
    """Its run, with one result that is known beforehand."""
    return partitioner.execute({}, known={"known": 5}, telemetry=observers)


# ---- what is told


def test_a_sequential_run_is_told_from_beginning_to_end():
    """One record an event, in order; the known unit first, since it has ended before anything begins."""
    partitioner = QuantumPartitioner(default_execution_mode="sequential", clock=FakeClock())

    def once(ctx):
        if ctx.attempt == 1:
            raise OSError
        return "two"

    partitioner.add_unit(lambda _: "one", name="a")
    partitioner.add_unit(once, ["a"], "b", retries=1, retry=RetryPolicy(base_s=1, cap_s=9, jitter=0))
    partitioner.add_unit(fails, ["b"], "c")
    partitioner.add_unit(fails, ["c"], "d")
    partitioner.add_unit(fails, name="k")
    recorder = Recorder()
    result = partitioner.execute({}, known={"k": 0}, telemetry=[recorder])
    told = [(type(event).__name__, getattr(event, "unit_id", None)) for event in recorder.events]
    assert told == [
        ("RunStarted", None),
        ("UnitFinished", "k"),
        ("UnitStarted", "a"),
        ("UnitFinished", "a"),
        ("UnitStarted", "b"),
        ("UnitRetrying", "b"),
        ("UnitStarted", "b"),
        ("UnitFinished", "b"),
        ("UnitStarted", "c"),
        ("UnitFinished", "c"),
        ("UnitFinished", "d"),
        ("RunFinished", None),
    ]
    assert {event.run_id for event in recorder.events} == {result.report.run_id}
    assert recorder.finished() == ["k", "a", "b", "c", "d"]
    begun, known, _, a, first, retrying, second, b, _, c, d, over = recorder.events
    assert (begun.mode, begun.strategy, begun.max_workers) == ("sequential", "fifo", 1)
    assert begun.plan.unit_count == 5
    assert begun.started_utc == result.report.started_utc
    assert (known.state.value, known.value, known.attempts, known.started) == ("completed", 0, 0, None)
    assert (a.value, a.attempts, a.error) == ("one", 1, None)
    assert (first.attempt, second.attempt, first.at, second.at) == (1, 2, 1000.0, 1002.0)
    assert (retrying.attempt, retrying.wait_s, type(retrying.error)) == (1, 2.0, OSError)
    assert (b.value, b.attempts, b.started, b.error) == ("two", 2, 1002.0, None)
    assert (c.state.value, c.value, c.error) == ("failed", None, result.failed["c"])
    assert (d.state.value, d.cause, d.attempts, d.error) == ("skipped", "c", 0, None)
    assert over.report is result.report


@pytest.mark.parametrize("mode", ["thread", "async"])
def test_each_unit_ends_once_and_no_dependent_begins_before_it_was_told_of(mode):
    """Layers of ten, each unit needs two of the layer before; some fail."""
    partitioner = QuantumPartitioner(4, mode)
    for number in range(200):
        layer, place = divmod(number, 10)
        needs = [f"u{(layer - 1) * 10 + (place + shift) % 10}" for shift in (0, 3)] if layer else []
        partitioner.add_unit(fails if number % 41 == 40 else lambda _: None, needs, f"u{number}")
    recorder = Recorder()
    result = partitioner.execute({}, telemetry=[recorder])
    assert sorted(recorder.finished()) == sorted(partitioner.units)
    place = {
        (type(event), event.unit_id): place for place, event in enumerate(recorder.events) if hasattr(event, "unit_id")
    }
    assert result.skipped
    for unit in partitioner.units.values():
        begun = place.get((UnitStarted, unit.id))
        if begun is not None:
            assert all(place[UnitFinished, need] < begun for need in unit.dependencies)


def test_events_are_told_one_at_a_time_whatever_the_threads():
    """An observer needs no lock of its own."""
    inside = threading.Lock()
    overlaps = []

    class Alone:
        def qp_unit_started(self, event):
            if not inside.acquire(blocking=False):
                overlaps.append(event)
                return
            time.sleep(0.0005)  # so that another thread would come in between
            inside.release()

        qp_unit_finished = qp_unit_started

    partitioner = QuantumPartitioner(8)
    for _ in range(80):
        partitioner.add_unit(lambda _: None)
    assert partitioner.execute({}, telemetry=[Alone()]).ok
    assert overlaps == []


@every_hook
def test_an_observer_may_have_any_one_hook(hook):
    """It hears of that kind of event and of no other."""
    heard = []
    observer = type("One", (), {hook: lambda _, event: heard.append(event)})()
    executed(story("sequential"), observer)
    assert {HOOK_OF[type(event)] for event in heard} == {hook}


def test_every_kind_of_event_has_a_hook():
    """No record is made that nobody can hear of."""
    assert set(HOOK_OF) == set(typing.get_args(Event))
    assert len(set(HOOK_OF.values())) == len(HOOK_OF)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in HOOK_OF])
def test_records_cannot_be_changed_by_who_hears_them(kind):
    """They are shared by all observers."""
    recorder = Recorder()
    executed(story("sequential"), recorder)
    event = next(event for event in recorder.events if type(event) is kind)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.run_id = "other"


def test_without_observers_nobody_hears_anything():
    """So that a run need not even make the records."""
    nobody = Listeners({RunStarted: ()})
    assert not nobody
    assert not nobody.hear(RunStarted)
    one = Listeners({RunStarted: (("who", lambda _: None),)})
    assert one
    assert (one.hear(RunStarted), one.hear(UnitFinished)) == (True, False)


# ---- observers that are none


@pytest.mark.parametrize(
    ("observer", "problem"),
    [
        pytest.param(object(), "has no observe hook", id="nothing"),
        pytest.param(type("Wrong", (), {"qp_unit_fnished": print})(), "has 'qp_unit_fnished'", id="misspelt"),
        pytest.param(
            type("Both", (), {"qp_unit_finished": print, "qp_fallback": print})(), "has 'qp_fallback'", id="other_hook"
        ),
    ],
)
def test_what_cannot_observe_is_refused_before_anything_runs(observer, problem):
    """The message lists the hooks there are."""
    ran = []
    partitioner = QuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(ran.append)
    with pytest.raises(TypeError, match=problem) as caught:
        partitioner.execute({}, telemetry=[observer])
    assert all(hook in str(caught.value) for hook in HOOK_OF.values())
    assert ran == []


def test_listeners_of_an_observer_are_its_bound_methods():
    """By the kind of event."""
    recorder = Recorder()
    found = listeners_of("who", recorder)
    assert set(found) == set(HOOK_OF)
    assert found[RunFinished] == ("who", recorder.qp_run_finished)


# ---- observers that raise


class Raises(Recorder):
    """An observer that raises in one hook, and counts.

    Args:
        hook: Which.
    """

    def __init__(self, hook):
        super().__init__()
        self.raised = 0

        def broken(_):
            self.raised += 1
            msg = f"in {hook}"
            raise RuntimeError(msg)

        setattr(self, hook, broken)


@every_mode
@every_hook
def test_an_observer_that_raises_is_switched_off_and_named_once(hook, mode, caplog):
    """The run goes on as if it were not there, and so does everybody else who listens."""
    raises, witness = Raises(hook), Recorder()
    with caplog.at_level(logging.WARNING, "qp_core"):
        result = executed(story(mode), raises, witness)
    assert result == {"a": 1, "retried": 1, "b": 2, "known": 5}
    assert sorted(result.skipped) == ["lost"]
    assert raises.raised == 1
    named = [message for message in caplog.messages if "switched off" in message]
    assert named == [f"observer 'Raises' raised in {hook} and is switched off for this run: RuntimeError: in {hook}"]
    assert sorted(witness.finished()) == ["a", "b", "bad", "known", "lost", "retried"]
    assert isinstance(witness.events[-1], RunFinished)
    kinds = [type(event) for event in witness.events]
    assert HOOK_OF[kinds[len(raises.events)]] == hook  # up to that event it heard the same, and after it nothing
    assert raises.events == witness.events[: len(raises.events)]


def test_an_observer_is_told_again_in_the_next_run():
    """Switched off is for one run."""
    raises = Raises("qp_run_started")
    partitioner = story("sequential")
    for _ in range(3):
        executed(partitioner, raises)
    assert raises.raised == 3
    assert raises.events == []


def test_of_two_observers_of_one_class_only_the_one_that_raises_is_switched_off(caplog):
    """They are told apart in the log too."""

    class Same(Recorder):
        broken = False

        def qp_unit_started(self, event):
            if self.broken:
                raise RuntimeError
            super().qp_unit_started(event)

    good, bad, other = Same(), Same(), Same()
    bad.broken = True
    executed(story("sequential"), good, bad, other)
    assert good.events == other.events
    assert isinstance(good.events[-1], RunFinished)
    (named,) = [message for message in caplog.messages if "switched off" in message]
    assert named.startswith("observer 'Same (2)'")


def test_two_observers_may_raise_at_the_same_event(caplog):
    """Each is named, and neither hides the other."""

    class First(Raises):
        pass

    class Second(Raises):
        pass

    first, second = First("qp_unit_finished"), Second("qp_unit_finished")
    executed(story("sequential"), first, second)
    assert (first.raised, second.raised) == (1, 1)
    assert sum("switched off" in message for message in caplog.messages) == 2


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError


def test_an_observer_whose_error_cannot_be_shown_is_named_all_the_same(caplog):
    """By the class of what it raised."""

    class Speechless(Recorder):
        def qp_unit_started(self, event):
            raise SpeechlessError

    assert executed(story("sequential"), Speechless()) is not None
    (named,) = [message for message in caplog.messages if "switched off" in message]
    assert named.startswith("observer 'Speechless' raised in qp_unit_started and is switched off for this run: Speech")


class Interrupting:
    """An executor that hands its run to an observer and then runs it sequentially."""

    def __init__(self):
        self.current = None

    def run(self, run):
        """Run every unit here."""
        self.current = run
        run.begin(None)
        run.work_here(run.new_worker())


def test_an_observer_may_cancel_the_run_that_tells_it():
    """The cancellations are events too, told inside the telling."""
    executor = Interrupting()

    class Stops(Recorder):
        def qp_unit_finished(self, event):
            super().qp_unit_finished(event)
            if event.unit_id == "u1":
                executor.current.cancel("seen enough")

    partitioner = QuantumPartitioner()
    for number in range(4):
        partitioner.add_unit(lambda _: None, name=f"u{number}")
    stops = Stops()
    result = partitioner.execute({}, custom_executor=executor, telemetry=[stops])
    assert list(result) == ["u0", "u1"]
    assert result.report.stopped == "seen enough"
    assert sorted(stops.finished()) == ["u0", "u1", "u2", "u3"]


@every_mode
def test_an_observer_that_leaves_the_program_ends_the_run_and_not_with_silence(mode):
    """SystemExit is no mistake of an observer's: it comes out of `execute`, and what had completed is kept."""

    class Leaves:
        def qp_unit_finished(self, event):
            if event.unit_id == "b":
                raise SystemExit(4)

    partitioner = story(mode)
    with pytest.raises(SystemExit):
        executed(partitioner, Leaves())
    kept = partitioner.get_partial_results()
    assert kept["a"] == 1
    assert set(partitioner.last_result.report.in_state(*partitioner.last_result.report.counts)) == set(
        partitioner.units
    )
