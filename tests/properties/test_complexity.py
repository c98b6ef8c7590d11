"""Nothing is quadratic: not adding, planning, running, skipping, cancelling, retrying, freeing, reporting.

Calls of functions, Python's and C's, are counted at one size and at ten times that size. What a single C call does inside is
not seen that way, so the slow tests also compare processor time: with a very generous bound, and again where it is not kept, for
what else the machine does may cost time as well, but not each time.
"""

import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from qp_core import QuantumPartitioner, RetryPolicy, RunReport, UnitState, build_graph
from qp_core.lock import YieldingLock
from qp_core.testing import Recorder
from tests.properties.test_cancellation import Tapped
from tests.strategies import stencil

pytestmark = pytest.mark.usefixtures("nothing_left_over", "quiet_engine")

SMALL, FACTOR = 150, 10
MOST_CALLS = 1.3 * FACTOR
"""Ten times the units may cost thirteen times the calls: some room for logarithms, and for threads that meet more often."""

MEETING = YieldingLock.wait.__code__
"""How often a thread looks again whether a lock is free, the system's scheduler decides."""


def calls_of(action):
    """Do something and count how many functions are called meanwhile, in this thread and those that it starts.

    The garbage collector rests meanwhile: what it finds, and whom it tells, is left from before.

    Returns:
        A count.
    """
    tick = itertools.count().__next__  # atomic, whichever thread calls it

    def count(frame, event, _argument):
        if event in {"call", "c_call"} and frame.f_code is not MEETING:
            tick()

    gc.collect()
    gc.disable()
    threading.setprofile(count)
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.enable()
    return tick()


def seconds_of(action):
    """Do something and measure the processor time of all threads, so that other work on the machine does not count.

    Returns:
        Seconds.
    """
    gc.collect()
    begun = time.process_time()
    action()
    return time.process_time() - begun


# ---- graphs, as the numbers that each unit needs


def chain(size):
    """0 -> 1 -> 2 -> ..."""
    return [(number - 1,) if number else () for number in range(size)]


def backwards(size):
    """... -> 2 -> 1 -> 0: every unit is added before what it needs."""
    return [(number + 1,) if number + 1 < size else () for number in range(size)]


def independent(size):
    """Units that need nothing."""
    return [()] * size


def hub(size):
    """0 -> 1, 2, 3, ... -> the last: one unit with as many dependents as there are, one with as many dependencies."""
    return [(), *[(0,)] * (size - 2), tuple(range(1, size - 1))]


def grid(size):
    """Ten units side by side in as many steps as it takes."""
    return stencil(10, size // 10)


def many_causes(size):
    """Half of the units are independent; each of them is needed by the same unit, and a chain hangs on that."""
    half = size // 2
    return [*independent(half), tuple(range(half)), *((number,) for number in range(half, size - 1))]


SHAPES = {function.__name__: function for function in (chain, backwards, independent, hub, grid)}


def function_of(context):
    """What a unit does that costs nothing."""
    return 1


async def coroutine_of(context):
    """The same as a coroutine function."""
    return 1


def failing(context):
    """What a unit does that fails."""
    raise ValueError


def partitioner_of(needs, function=function_of, **options):
    """A partitioner of units that all do the same.

    Returns:
        A partitioner.
    """
    partitioner = QuantumPartitioner(max_workers=2)
    for number, found in enumerate(needs):
        partitioner.add_unit(function, [f"u{need}" for need in found], f"u{number}", **options)
    return partitioner


# ---- what is done to them; each prepares at a size, and returns what is to be counted


def adding(size):
    """Add named units."""
    return lambda: partitioner_of(chain(size))


def adding_without_names(size):
    """Add units without names, where the first names are taken."""
    partitioner = QuantumPartitioner()
    for number in range(size):
        partitioner.add_unit(function_of, name=f"unit_{number + size // 2}")

    def add():
        for _ in range(size):
            partitioner.add_unit(function_of)

    return add


def adding_in_turn_with_failing_to_add(size):
    """Add units, each time trying a name that is taken first."""
    partitioner = partitioner_of(independent(1))

    def add():
        for number in range(1, size):
            with pytest.raises(ValueError, match="already there"):
                partitioner.add_unit(function_of, name="u0")
            partitioner.add_unit(function_of, name=f"u{number}")

    return add


def planning(shape):
    """Build a plan and ask it everything."""

    def prepare(size):
        partitioner = partitioner_of(SHAPES[shape](size))

        def plan():
            plan = partitioner.build_execution_plan()
            asked = (plan.levels, plan.max_level, plan.max_parallel_units, plan.critical_path)
            return asked, plan.dependencies, plan.dependents, plan.to_data(), plan.restricted_to(["u0"])

        return plan

    return prepare


def drawing(size):
    """Draw a plan in both languages."""
    plan = partitioner_of(grid(size)).build_execution_plan()
    return lambda: (plan.visualize(), plan.to_mermaid())


def finding_a_ring(size):
    """Find the ring at the end of a long chain, and word the error."""
    graph = {f"u{number}": [f"u{number - 1}"] if number else [] for number in range(size)}
    graph[f"u{size - 2}"].append(f"u{size - 1}")

    def find():
        with pytest.raises(ValueError, match="circular dependency of 2 units"):
            build_graph(graph)

    return find


def finding_a_missing_one(size):
    """Find that a dependency is missing, and name the nearest."""
    graph = {f"u{number}": [] for number in range(size)}
    graph["needy"] = ["v7"]

    def find():
        with pytest.raises(ValueError, match="'v7'"):
            build_graph(graph)

    return find


def running(shape, mode, *, strategy="fifo", function=function_of):
    """Run and read all results."""

    def prepare(size):
        partitioner = partitioner_of(SHAPES[shape](size), function)
        partitioner.build_execution_plan()

        def run():
            assert len(partitioner.execute({}, mode, strategy=strategy)) == size

        return run

    return prepare


def running_by_priority(size):
    """Run independent units of as many priorities as there are."""
    partitioner = QuantumPartitioner()
    for number in range(size):
        partitioner.add_unit(function_of, name=f"u{number}", priority=number * 7919 % size)
    return lambda: partitioner.execute({}, "sequential", strategy="priority")


def running_with_observers(size):
    """Run while an observer, callbacks and metrics listen."""
    partitioner = partitioner_of(grid(size))
    partitioner.on_unit_complete = lambda unit_id, value: None
    return lambda: partitioner.execute({}, "sequential", telemetry=[Recorder(), "metrics"])


def running_with_time_limits(size):
    """Run units with a timeout each, all of which end in time."""
    partitioner = partitioner_of(grid(size), timeout=1000)
    return lambda: partitioner.execute({}, "thread")


def running_some_outputs(size):
    """Run for one output, letting go of every other result."""
    partitioner = partitioner_of(grid(size))
    return lambda: partitioner.execute({}, "sequential", outputs=[f"u{len(grid(size)) - 1}"])


def running_what_is_not_known(size):
    """Run half of a graph, of which the other half is known."""
    partitioner = partitioner_of(grid(size))
    known = {f"u{number}": 1 for number in range(size // 2)}
    return lambda: partitioner.execute({}, "sequential", known=known)


def running_units_that_read(size):
    """Run a unit with many dependencies that reads each of them, in both ways."""

    def read(context):
        ids = [f"u{number}" for number in range(size - 1)]
        return sum(context.get_dependency_result(one) + context[one] for one in ids)

    partitioner = partitioner_of(independent(size - 1))
    partitioner.add_unit(read, [f"u{number}" for number in range(size - 1)], "reader")
    return lambda: partitioner.execute({}, "sequential")


def running_units_that_write(size):
    """Run units that write into their contexts and record metrics."""

    def write(context):
        context["mine"] = 1
        context.record_metric("metric", 1)

    partitioner = partitioner_of(grid(size), write)
    return lambda: partitioner.execute({"given": 0}, "sequential")


def retrying(size):
    """Run units that fail once each, all of which wait for another attempt at the same time."""

    def prepare_once():
        partitioner, seen = QuantumPartitioner(), set()

        def fails_once(context):
            if context.unit_id not in seen:
                seen.add(context.unit_id)
                raise ValueError

        for number in range(size):
            partitioner.add_unit(fails_once, name=f"u{number}", retries=1, retry=RetryPolicy(base_s=0))
        return partitioner

    partitioner = prepare_once()

    def run():
        assert partitioner.execute({}, "sequential").ok

    return run


def skipping(size):
    """One failure skips everything else; read which, and why."""
    partitioner = partitioner_of(chain(size))
    partitioner.units["u0"].function = failing

    def run():
        result = partitioner.execute({}, "sequential")
        assert len(result.skipped) == size - 1
        assert sum(1 for unit in partitioner.units.values() if unit.state is UnitState.SKIPPED) == size - 1

    return run


def skipping_for_many_causes(size):
    """Half of the units fail, and each of them would skip the other half."""
    partitioner = partitioner_of(many_causes(size), failing)

    def run():
        result = partitioner.execute({}, "thread")
        assert (len(result.failed), len(result.skipped)) == (size // 2, size - size // 2)
        with pytest.raises(ExceptionGroup):
            result.raise_for_failures()

    return run


def falling_back(size):
    """Every unit fails, and a fallback stands in."""
    partitioner = partitioner_of(grid(size), failing, fallback=[lambda context, error: 1])

    def run():
        assert partitioner.execute({}, "sequential").ok

    return run


def canceling(plugins):
    """The first unit cancels all others, several times over; an observer hears of each."""

    def prepare(size):
        tapped = Tapped(plugins.make("executors", "sequential", None))
        partitioner = partitioner_of(independent(size))

        def cancel(context):
            for _ in range(3):
                tapped.caught.cancel("enough")

        partitioner.units["u0"].function = cancel

        def run():
            result = partitioner.execute({}, custom_executor=tapped, telemetry=[Recorder()])
            assert result.report.counts[UnitState.CANCELED] == size - 1

        return run

    return prepare


def failing_fast(size):
    """The first failure cancels all others, on two threads."""
    partitioner = partitioner_of(independent(size), failing)
    return lambda: partitioner.execute({}, "thread", fail_fast=True)


def streaming(size):
    """Yield each unit as it ends."""
    partitioner = partitioner_of(grid(size))
    return lambda: sum(1 for _ in partitioner.stream({}))


def monitoring(size):
    """Run under the seed's monitoring."""
    partitioner = partitioner_of(grid(size))
    return lambda: partitioner.execute_with_monitoring({}, execution_mode="sequential")


def reporting(size):
    """Ask a report everything, write it down and read it back; read every unit's attributes."""
    partitioner = partitioner_of(grid(size))
    partitioner.units["u3"].function = failing
    result = partitioner.execute({}, "sequential")

    def read():
        report = result.report
        stored = RunReport.from_data(json.loads(json.dumps(report.to_data())))
        for one in (report, stored):
            assert one.counts[UnitState.FAILED] == 1
            assert one.critical_path_s <= one.busy_s
            assert one.parallel_efficiency > 0
            assert one.abandoned == ()
        shown = [
            (unit.state, unit.result, unit.error, unit.attempt, unit.execution_time)
            for unit in partitioner.units.values()
        ]
        assert len(shown) == size
        for unit_id in result.skipped:
            with pytest.raises(KeyError):
                result[unit_id]
        return partitioner.completed_units, partitioner.failed_units, partitioner.get_partial_results()

    return read


ACTIONS = {
    "adding": adding,
    "adding without names": adding_without_names,
    "adding in turn with failing to add": adding_in_turn_with_failing_to_add,
    **{f"planning {shape}": planning(shape) for shape in SHAPES},
    "drawing": drawing,
    "finding a ring": finding_a_ring,
    "finding a missing one": finding_a_missing_one,
    **{f"running {shape} in sequence": running(shape, "sequential") for shape in SHAPES},
    **{f"running {shape} in threads": running(shape, "thread") for shape in SHAPES},
    **{f"running {shape} by rank": running(shape, "thread", strategy="priority") for shape in SHAPES},
    **{f"running {shape} as coroutines": running(shape, "async", function=coroutine_of) for shape in SHAPES},
    "running by priority": running_by_priority,
    "running with observers": running_with_observers,
    "running with time limits": running_with_time_limits,
    "running some outputs": running_some_outputs,
    "running what is not known": running_what_is_not_known,
    "running units that read": running_units_that_read,
    "running units that write": running_units_that_write,
    "retrying": retrying,
    "skipping": skipping,
    "skipping for many causes": skipping_for_many_causes,
    "falling back": falling_back,
    "failing fast": failing_fast,
    "streaming": streaming,
    "monitoring": monitoring,
    "reporting": reporting,
}


def _grows(prepare):
    prepare(SMALL)()  # what is done once, such as imports, is not counted
    small, large = (calls_of(prepare(size)) for size in (SMALL, SMALL * FACTOR))
    assert large <= MOST_CALLS * small, f"{small} calls for {SMALL} units, {large} for {FACTOR} times as many"


@pytest.mark.parametrize("action", ACTIONS)
def test_ten_times_the_units_cost_about_ten_times_the_calls(action):
    """Counted, not timed."""
    _grows(ACTIONS[action])


def test_canceling_ten_times_the_units_costs_about_ten_times_the_calls(plugins):
    """Also where it is done several times, and somebody hears of every unit."""
    _grows(canceling(plugins))


def test_the_count_of_calls_tells_quadratic_from_linear():
    """The measure itself: looking through a list for each of its elements is found out."""

    def quadratic(size):
        return lambda: [[abs(one) for one in range(size)] for _ in range(size)]

    with pytest.raises(AssertionError, match="10 times as many"):
        _grows(quadratic)


TIMED = (
    "adding without names",
    "running hub in threads",
    "running independent as coroutines",
    "running some outputs",
    "retrying",
    "skipping for many causes",
    "streaming",
    "reporting",
)
"""One for each part of the engine; all of the others would add minutes and little else."""


MEASURED = 5
"""How often it is measured before it is believed: what is quadratic is so every time, and what disturbs a measurement is not."""


def _takes(prepare, size):
    measured = []
    for _ in range(MEASURED):
        small, large = seconds_of(prepare(size)), seconds_of(prepare(size * FACTOR))
        measured.append((small, large))
        if large <= 40 * max(small, 0.002):
            return
    pytest.fail(f"seconds for {size} units and for {FACTOR} times as many, each time too many: {measured}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("action", TIMED)
def test_ten_times_the_units_cost_about_ten_times_the_processor_time(action):
    """With room for caches and the garbage collector; what is quadratic inside of C calls would take fifty to a hundred times."""
    _takes(ACTIONS[action], 1_500)


@pytest.mark.parametrize(
    ("seconds", "grows"),
    [
        pytest.param([1, 100] * MEASURED, True, id="quadratic"),
        pytest.param([1, 11], False, id="linear"),
        pytest.param([1, 100] * (MEASURED - 1) + [1, 11], False, id="linear, and disturbed at first"),
    ],
)
def test_the_processor_time_tells_quadratic_from_linear(monkeypatch, seconds, grows):
    """The measure itself: what takes too long each time is found out, what was disturbed is measured again."""
    given = iter(seconds)
    monkeypatch.setattr(sys.modules[__name__], "seconds_of", lambda action: next(given))
    with pytest.raises(pytest.fail.Exception, match="each time too many") if grows else contextlib.nullcontext():
        _takes(independent, 1_500)
    assert list(given) == []


CHAIN = """
    from qp_core import QuantumPartitioner

    def one_more(context):
        return sum(context.values()) + 1

    size = 1_000_000
    partitioner = QuantumPartitioner(max_workers=2)
    partitioner.add_unit(one_more, name="u0")
    for number in range(1, size):
        partitioner.add_unit(one_more, [f"u{number - 1}"], f"u{number}")
    assert partitioner.build_execution_plan().max_level == size
    for mode in ("sequential", "thread"):
        result = partitioner.execute({}, mode)
        assert result.ok
        assert result[f"u{size - 1}"] == size
        del result
    partitioner.units["u0"].function = lambda context: 1 / 0
    result = partitioner.execute({}, "thread")
    assert list(result.failed) == ["u0"]
    assert len(result.report.in_state(partitioner.units["u1"].state)) == size - 1
    print("done")
"""


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_chain_of_a_million_units_plans_runs_and_is_skipped_without_recursion():
    """In a process of its own: the memory goes with it, and coverage does not slow it down."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHAIN)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=400,  # it takes 13 s of processor time
    )
    assert done.stdout == "done\n", done.stderr[-2_000:]
