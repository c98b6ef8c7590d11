"""The seed's CachingQuantumPartitioner: what is found again, what is not, and how that is counted."""

import pytest

from qp_core import (
    MISS,
    CachingQuantumPartitioner,
    ExecutionMode,
    PluginError,
    QuantumPartitioner,
    RetryPolicy,
    UnitState,
    UnknownNameError,
)
from qp_core.testing import FakeClock, Recorder

every_mode = pytest.mark.parametrize("mode", ["sequential", "thread", "async"])
with_processes = pytest.mark.parametrize(
    "mode", ["sequential", "thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)

CACHEABLE = {"cacheable": True}


class Counts:
    """A unit that counts its calls, outside of the engine.

    Args:
        answer: What it returns; an exception is raised.
    """

    def __init__(self, answer=None):
        self.calls = 0
        self.answer = answer

    def __reduce__(self):  # the same content however often it was called: the cache's key is made of it
        return Counts, (self.answer,)

    def __call__(self, ctx):
        """Count, and answer."""
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if self.answer is not None else sorted(ctx)


def run_of(partitioner, context=None, **options):
    """A run's result, and for each unit whether it was found in the cache."""
    result = partitioner.execute({} if context is None else context, **options)
    return result, {name: record.cached for name, record in result.report.units.items()}


# ---- making one


def test_its_arguments_are_those_of_any_partitioner():
    """By place and by name; counts begin at 0."""
    partitioner = CachingQuantumPartitioner(3, ExecutionMode.SEQUENTIAL)
    assert isinstance(partitioner, QuantumPartitioner)
    assert (partitioner.max_workers, partitioner.default_execution_mode) == (3, ExecutionMode.SEQUENTIAL)
    assert (partitioner.cache_hits, partitioner.cache_misses) == (0, 0)
    assert partitioner.cache.stats()["entries"] == 0
    assert CachingQuantumPartitioner(max_workers=2, default_execution_mode="async").max_workers == 2


def test_a_cache_that_is_not_there_is_an_error_when_it_is_named():
    """With what there is."""
    with pytest.raises(UnknownNameError, match="no cache named 'disc'; there are: 'memory'"):
        CachingQuantumPartitioner(cache="disc")


@pytest.mark.parametrize("wrong", [pytest.param(5, id="number"), pytest.param(object(), id="object")])
def test_what_is_no_cache_is_refused_before_anything_runs(wrong):
    """It must be able to get and put."""
    with pytest.raises(TypeError, match="cache is"):
        CachingQuantumPartitioner(cache=wrong)


# ---- found again


@with_processes
def test_a_result_is_found_again_in_the_next_run(mode):
    """The unit does not run; its record says so, and the counts are right."""
    partitioner = CachingQuantumPartitioner(2, mode)
    counts = Counts("value")
    partitioner.add_unit(counts, name="a", metadata=CACHEABLE)
    partitioner.add_unit(lambda ctx: ctx["a"] + "!", ["a"], "b", metadata=CACHEABLE)
    first, cached = run_of(partitioner, {"n": 1})
    assert (first, cached) == ({"a": "value", "b": "value!"}, {"a": False, "b": False})
    assert (partitioner.cache_hits, partitioner.cache_misses) == (0, 2)
    second, cached = run_of(partitioner, {"n": 1})
    assert (second, cached) == ({"a": "value", "b": "value!"}, {"a": True, "b": True})
    assert (partitioner.cache_hits, partitioner.cache_misses) == (2, 2)
    record = second.report.units["a"]
    assert (record.state, record.attempts, record.started_s) == (UnitState.COMPLETED, 0, None)
    if mode != "process":
        assert counts.calls == 1


@every_mode
def test_only_units_that_say_so_are_cached(mode):
    """`metadata["cacheable"]`, and it must be true."""
    partitioner = CachingQuantumPartitioner(default_execution_mode=mode)
    units = {"yes": CACHEABLE, "no": {"cacheable": False}, "silent": None}
    counts = {name: Counts(name) for name in units}
    for name, metadata in units.items():
        partitioner.add_unit(counts[name], name=name, metadata=metadata)
    for _ in range(3):
        partitioner.execute({})
    assert {name: one.calls for name, one in counts.items()} == {"yes": 1, "no": 3, "silent": 3}
    assert (partitioner.cache_hits, partitioner.cache_misses) == (2, 1)


@pytest.mark.parametrize("value", [None, 0, "", [], False], ids=repr)
def test_falsy_results_are_found_too(value):
    """None is a result like any other."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda _: value, name="a", metadata=CACHEABLE)
    assert run_of(partitioner) == ({"a": value}, {"a": False})
    assert run_of(partitioner) == ({"a": value}, {"a": True})
    assert (partitioner.cache_hits, partitioner.cache_misses) == (1, 1)


# ---- what makes a difference


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        pytest.param({"n": 1}, {"n": 1}, True, id="equal"),
        pytest.param({"n": 1, "m": 2}, {"m": 2, "n": 1}, True, id="other_order"),
        pytest.param({"n": [1, {"k": {2, 3}}]}, {"n": [1, {"k": {3, 2}}]}, True, id="equal_unhashable"),
        pytest.param({"n": 1}, {"n": 2}, False, id="other_value"),
        pytest.param({"n": 1}, {"n": 1.0}, False, id="other_type"),
        pytest.param({"n": 1}, {"n": 1, "m": 1}, False, id="one_more_key"),
        pytest.param({"n": [1, 2]}, {"n": [2, 1]}, False, id="other_list"),
    ],
)
def test_without_cache_keys_the_whole_context_makes_the_difference(first, second, found):
    """By content, unhashable values included (the seed's `hash(frozenset(...))` could not)."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(Counts("v"), name="a", metadata=CACHEABLE)
    partitioner.execute(first)
    assert run_of(partitioner, second)[1] == {"a": found}


def test_with_cache_keys_only_they_make_a_difference():
    """Where none of them is there, the whole context does again."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(Counts("v"), name="a", metadata={"cacheable": True, "cache_keys": ["n"]})
    found = [
        run_of(partitioner, context)[1]["a"]
        for context in ({"n": 1, "m": 1}, {"n": 1, "m": 2}, {"n": 2, "m": 2}, {"m": 3}, {"m": 4}, {"n": 1})
    ]
    assert found == [False, True, False, False, False, True]


def test_another_result_of_a_dependency_makes_a_difference():
    """A -> b; the same function gives b something else."""
    answers = iter([1, 1, 2])
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(lambda _: next(answers), name="a")
    partitioner.add_unit(lambda ctx: ctx["a"] * 10, ["a"], "b", metadata=CACHEABLE)
    runs = [run_of(partitioner) for _ in range(3)]
    assert [(result["b"], cached["b"]) for result, cached in runs] == [(10, False), (10, True), (20, False)]


def test_another_function_or_another_id_makes_a_difference():
    """The key holds both."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    unit = partitioner.add_unit(lambda _: "first", name="a", metadata=CACHEABLE)
    assert partitioner.execute({}) == {"a": "first"}
    unit.function = lambda _: "second"
    assert run_of(partitioner) == ({"a": "second"}, {"a": False})
    partitioner.add_unit(unit.function, name="b", metadata=CACHEABLE)
    assert run_of(partitioner) == ({"a": "second", "b": "second"}, {"a": True, "b": False})


def test_a_context_without_content_is_not_cached_and_said_so(caplog):
    """A lambda has code to compare, an open generator has nothing."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    counts = Counts("v")
    partitioner.add_unit(counts, name="a", metadata=CACHEABLE)
    for _ in range(2):
        assert partitioner.execute({"stream": (n for n in range(3))}) == {"a": "v"}
    assert counts.calls == 2
    assert (partitioner.cache_hits, partitioner.cache_misses) == (0, 0)
    assert len([message for message in caplog.messages if "'stream'" in message]) == 2


def test_a_context_that_is_no_mapping_is_content_too():
    """And makes the difference."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(len, name="a", metadata=CACHEABLE)
    found = [run_of(partitioner, context)[1]["a"] for context in ([1, 2], [1, 2], [3])]
    assert found == [False, True, False]


# ---- what is kept


@every_mode
def test_failures_are_not_kept(mode):
    """The unit runs again, and what it then returns is kept."""
    partitioner = CachingQuantumPartitioner(default_execution_mode=mode)
    counts = Counts(ValueError("broken"))
    unit = partitioner.add_unit(counts, name="a", metadata={"cacheable": True, "cache_keys": ["n"]})
    for _ in range(2):
        assert list(partitioner.execute({"n": 1}).failed) == ["a"]
    assert counts.calls == 2
    assert partitioner.cache.stats()["entries"] == 0
    unit.function = lambda _: "mended"
    assert run_of(partitioner, {"n": 1}) == ({"a": "mended"}, {"a": False})
    assert run_of(partitioner, {"n": 1}) == ({"a": "mended"}, {"a": True})


def test_what_stood_in_for_a_failure_is_not_kept():
    """A fallback is for once."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    counts = Counts(ValueError("broken"))
    partitioner.add_unit(counts, name="a", metadata={"cacheable": True, "fallback_value": "instead"})
    for _ in range(2):
        assert run_of(partitioner) == ({"a": "instead"}, {"a": False})
    assert counts.calls == 2


def test_the_result_of_a_second_attempt_is_kept():
    """Found without any attempt."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential", clock=FakeClock())

    def second_time(ctx):
        if ctx.attempt == 1:
            raise OSError
        return "late"

    partitioner.add_unit(second_time, name="a", retries=1, retry=RetryPolicy(base_s=1), metadata=CACHEABLE)
    result, _ = run_of(partitioner)
    assert result.report.units["a"].attempts == 2
    assert run_of(partitioner) == ({"a": "late"}, {"a": True})


def test_a_result_that_was_found_is_told_as_an_end_without_a_beginning():
    """Observers hear no start."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(Counts("v"), name="a", metadata=CACHEABLE)
    partitioner.execute({})
    recorder = Recorder()
    completed = []
    partitioner.on_unit_start = completed.append
    partitioner.on_unit_complete = lambda *given: completed.append(given)
    partitioner.execute({}, telemetry=[recorder])
    assert [type(event).__name__ for event in recorder.events] == ["RunStarted", "UnitFinished", "RunFinished"]
    assert (recorder.events[1].cached, recorder.events[1].value, recorder.events[1].attempts) == (True, "v", 0)
    assert completed == [("a", "v")]


# ---- whose cache


def test_a_cache_may_be_shared_by_partitioners():
    """An object of the caller's; what one has put, the other finds."""

    class Mine(dict):
        def get(self, key):
            return super().get(key, MISS)

        def put(self, key, value):
            self[key] = value

        def stats(self):
            return {"entries": len(self), "hits": -1, "misses": -2}

    mine = Mine()
    first, second = (CachingQuantumPartitioner(default_execution_mode="sequential", cache=mine) for _ in range(2))
    counts = Counts("v")
    for partitioner in (first, second):
        partitioner.add_unit(counts, name="a", metadata=CACHEABLE)
        assert partitioner.cache is mine
    first.execute({})
    assert run_of(second)[1] == {"a": True}
    assert counts.calls == len(mine) == 1
    assert (second.cache_hits, second.cache_misses) == (-1, -2)


def test_two_partitioners_have_two_caches_unless_told_otherwise():
    """The name makes a new one for each."""
    one, other = CachingQuantumPartitioner(), CachingQuantumPartitioner()
    assert one.cache is not other.cache
    plain = QuantumPartitioner(default_execution_mode="sequential")
    counts = Counts("v")
    plain.add_unit(counts, name="a", metadata=CACHEABLE)
    assert run_of(plain)[1] == run_of(plain)[1] == {"a": False}
    assert run_of(plain, cache=one.cache)[1] == {"a": False}
    assert run_of(plain, cache=one.cache)[1] == {"a": True}
    assert (one.cache_hits, one.cache_misses, counts.calls) == (1, 1, 3)


def test_a_run_may_name_another_cache_than_the_partitioners():
    """The name is one cache for all runs of this partitioner; the object is the caller's."""
    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential")
    partitioner.add_unit(Counts("v"), name="a", metadata=CACHEABLE)
    other = CachingQuantumPartitioner().cache
    assert run_of(partitioner, cache=other)[1] == {"a": False}
    assert (partitioner.cache_misses, other.stats()["misses"]) == (0, 1)
    plain = QuantumPartitioner(default_execution_mode="sequential")
    plain.add_unit(Counts("v"), name="a", metadata=CACHEABLE)
    assert [run_of(plain, cache="memory")[1]["a"] for _ in range(2)] == [False, True]


def test_a_cache_that_lies_about_its_counts_does_not_break_a_run():
    """Counts are for people; a cache that cannot get is a broken policy."""

    class Silent:
        def get(self, key):
            return MISS

        def put(self, key, value):
            pass

        def stats(self):
            return {}

    partitioner = CachingQuantumPartitioner(default_execution_mode="sequential", cache=Silent())
    partitioner.add_unit(Counts("v"), name="a", metadata=CACHEABLE)
    assert partitioner.execute({}) == {"a": "v"}
    Silent.get = lambda self, key: 1 / 0
    with pytest.raises(PluginError, match=r"'Silent', Cache.get: raised ZeroDivisionError"):
        partitioner.execute({})
