"""Units in threads that settle what they have run and go on by themselves."""

import asyncio
import threading

import pytest

from qp_core import QuantumPartitioner, UnitState
from qp_plugins.executors import threads as module


def wide(count, unit, **options):
    """A partitioner of independent units."""
    partitioner = QuantumPartitioner(**options)
    for number in range(count):
        partitioner.add_unit(unit, name=f"u{number}")
    return partitioner


def test_as_many_units_run_at_once_as_there_are_workers(meeting, nothing_left_over):
    """Four units that wait for each other end, each in a thread of its own and none in the calling one."""
    result = wide(4, meeting(4), max_workers=4).execute({}, "thread")
    assert result.ok
    assert len(set(result.values())) == 4
    assert threading.get_ident() not in result.values()


def test_never_more_units_run_at_once_than_there_are_workers(counted):
    """Sixty units, three workers: three at once, and no more."""
    result = wide(60, counted, max_workers=3).execute({}, "thread")
    assert result.ok
    assert counted.most <= 3
    assert len({record.worker for record in result.report.units.values()}) <= 3


def test_a_chain_stays_with_one_thread():
    """Nobody is called where there is nothing more to do."""
    partitioner = QuantumPartitioner(max_workers=8)
    for number in range(50):
        partitioner.add_unit(lambda ctx: threading.get_ident(), [f"u{number - 1}"] if number else [], f"u{number}")
    result = partitioner.execute({}, "thread")
    assert len(set(result.values())) == 1


def test_threads_are_daemons_and_named_after_their_run():
    """An abandoned one must not keep the interpreter alive."""
    partitioner = QuantumPartitioner()
    partitioner.add_unit(lambda ctx: (threading.current_thread().daemon, threading.current_thread().name), name="unit")
    result = partitioner.execute({}, "thread")
    daemon, name = result["unit"]
    assert daemon
    assert name == f"qp-{result.report.run_id[:8]}-0"


def test_when_execute_returns_its_threads_have_ended(meeting):
    """Joined, not only told to end."""
    for _ in range(20):
        run_id = wide(4, meeting(4), max_workers=4).execute({}, "thread").report.run_id
        assert [thread for thread in threading.enumerate() if thread.name.startswith(f"qp-{run_id[:8]}")] == []


def test_no_thread_is_started_for_the_empty_graph(monkeypatch):
    """It is over before it begins."""
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread was started"))
    assert QuantumPartitioner().execute({}, "thread") == {}


def test_a_unit_that_hangs_is_given_up_and_its_place_is_filled(clock, patience):
    """With one worker, the next unit still runs; the thread is reported as abandoned, and ends when the unit does."""
    free, ended = threading.Event(), threading.Event()

    def hang(ctx):
        clock.advance(2)
        free.wait(patience)
        ended.set()

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hang, name="hang", timeout=1)
    partitioner.add_unit(lambda ctx: "done", name="next")
    result = partitioner.execute({}, "thread")
    assert result == {"next": "done"}
    assert result.report.units["hang"].state is UnitState.TIMEOUT
    assert result.report.abandoned == ("hang",)
    assert not ended.is_set()
    free.set()
    assert ended.wait(patience)


def test_a_coroutine_that_runs_out_of_time_is_cancelled_and_its_thread_joined(clock, unhurried, nothing_left_over):
    """It can be stopped, so nothing is abandoned."""
    cancelled = threading.Event()

    async def hang(ctx):
        clock.advance(2)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    partitioner = QuantumPartitioner(max_workers=1, clock=clock)
    partitioner.add_unit(hang, name="hang", timeout=1)
    result = partitioner.execute({}, "thread")
    assert result.report.units["hang"].state is UnitState.TIMEOUT
    assert result.report.abandoned == ()
    assert cancelled.is_set()


def test_the_deadline_stops_coroutines_and_joins_their_threads(clock, patience, unhurried, nothing_left_over):
    """Each waits for its coroutine on another loop, which is cancelled."""
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)

    async def hang(ctx):
        begun.release()
        if ctx.unit_id == "u1":
            clock.advance(60)
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    result = wide(2, hang, max_workers=2, clock=clock).execute({}, "thread", deadline=50)
    assert result.report.counts.get(UnitState.TIMEOUT, 0) >= 1
    assert UnitState.COMPLETED not in result.report.counts
    while begun.acquire(blocking=False):
        assert ended.acquire(timeout=patience)


def test_where_no_further_thread_can_be_started_the_run_goes_on_with_those_there_are(monkeypatch, caplog):
    """One warning, and every unit runs."""

    class Scarce(threading.Thread):
        started = 0

        def start(self):
            if Scarce.started == 2:
                msg = "can't start new thread"
                raise RuntimeError(msg)
            Scarce.started += 1
            super().start()

    monkeypatch.setattr(module.threading, "Thread", Scarce)
    result = wide(20, lambda ctx: threading.get_ident(), max_workers=8).execute({}, "thread")
    monkeypatch.undo()
    assert result.ok
    assert len(set(result.values())) <= 2
    assert [record.getMessage() for record in caplog.records] == ["no further worker can be started; going on with 2"]


def test_where_not_even_one_thread_can_be_started_the_run_says_so(monkeypatch):
    """It cannot go on, and does not hang."""

    class NoThread(threading.Thread):
        def start(self):
            msg = "can't start new thread"
            raise RuntimeError(msg)

    monkeypatch.setattr(module.threading, "Thread", NoThread)
    partitioner = wide(3, lambda ctx: 1, max_workers=2)
    with pytest.raises(RuntimeError, match=r"^can't start new thread$"):
        partitioner.execute({}, "thread")
    monkeypatch.undo()
    assert {unit.state for unit in partitioner.units.values()} == {UnitState.CANCELED}


@pytest.mark.slow
def test_a_thread_that_hangs_does_not_keep_the_interpreter_alive(program):
    """The unit sleeps for an hour; the program ends when it has printed what came of it."""
    done = program(
        """
        import threading
        from qp_core import QuantumPartitioner

        partitioner = QuantumPartitioner()
        partitioner.add_unit(lambda ctx: threading.Event().wait(3600), name="hang", timeout=0.05)
        result = partitioner.execute({}, "thread")
        print(result.report.units["hang"].state.value, result.report.abandoned)
        """
    )
    assert done.out.split() == ["timeout", "('hang',)"]


def test_units_that_settle_at_the_same_time_lose_nothing(meeting):
    """Eight units end at once, again and again, and each makes its own child ready."""
    partitioner = QuantumPartitioner(max_workers=8)
    for step in range(10):
        unit = meeting(8)
        for lane in range(8):
            needs = [f"{step - 1}.{other}" for other in range(8)] if step else []
            partitioner.add_unit(unit, needs, f"{step}.{lane}")
    result = partitioner.execute({}, "thread")
    assert result.ok
    assert len(result) == 80
