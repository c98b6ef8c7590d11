"""Results in a dict of this process."""

import threading

import pytest

from qp_core import MISS, CachingQuantumPartitioner, QuantumPartitioner
from qp_plugins.caches.memory import MemoryCache, qp_caches


def test_what_was_put_is_found_as_the_same_object():
    """Nothing is copied."""
    cache, value = MemoryCache(), [1]
    cache.put("key", value)
    assert cache.get("key") is value


def test_none_is_a_value():
    """Only `MISS` says that there is nothing."""
    cache = MemoryCache()
    cache.put("key", None)
    assert cache.get("key") is None
    assert cache.get("other") is MISS


def test_the_least_recently_used_entry_goes_first():
    """Reading and writing again both count as use."""
    cache = MemoryCache(max_entries=3)
    for key in "abc":
        cache.put(key, key)
    cache.get("a")
    cache.put("b", "B")
    cache.put("d", "d")  # c is the one that nobody has touched
    assert {key: cache.get(key) for key in "abcd"} == {"a": "a", "b": "B", "c": MISS, "d": "d"}
    assert len(cache) == 3


def test_writing_an_entry_again_drops_no_other():
    """The bound is on entries, not on puts."""
    cache = MemoryCache(max_entries=2)
    for key in "abbb":
        cache.put(key, key)
    assert (cache.get("a"), cache.get("b"), len(cache)) == ("a", "b", 2)


def test_there_may_be_room_for_one():
    """The last one stays."""
    cache = MemoryCache(max_entries=1)
    for key in "ab":
        cache.put(key, key)
    assert (cache.get("a"), cache.get("b")) == (MISS, "b")


def test_without_a_bound_everything_stays():
    """None is no bound."""
    cache = MemoryCache()
    for number in range(10_000):
        cache.put(str(number), number)
    assert len(cache) == 10_000
    assert cache.get("0") == 0


@pytest.mark.parametrize("bound", [0, -1])
def test_a_bound_that_leaves_no_room_is_refused(bound):
    """A cache that forgets at once is a slip."""
    with pytest.raises(ValueError, match=rf"^max_entries is {bound}; give 1 or more, or None for no bound$"):
        MemoryCache(bound)


def test_counts_tell_entries_hits_and_misses():
    """Deleting is neither, and deleting what is not there changes nothing."""
    cache = MemoryCache()
    cache.put("a", 1)
    cache.put("b", 2)
    for key in ("a", "a", "x"):
        cache.get(key)
    cache.delete("b")
    cache.delete("b")
    assert cache.stats() == {"entries": 1, "hits": 2, "misses": 1}


@pytest.mark.slow
def test_threads_that_use_one_cache_lose_no_count_and_no_entry(patience):
    """8 threads, 2,000 turns each, over a bound that drops entries all the time."""
    cache, start = MemoryCache(max_entries=5), threading.Barrier(8)
    wrong = []

    def turns(mine):
        start.wait(patience)
        for turn in range(2_000):
            key = str((turn * 7 + mine) % 11)
            cache.put(key, key)
            if cache.get(key) not in {key, MISS}:
                wrong.append(key)

    threads = [threading.Thread(target=turns, args=(mine,)) for mine in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    stats = cache.stats()
    assert wrong == []
    assert stats["hits"] + stats["misses"] == 8 * 2_000
    assert stats["entries"] == len(cache) == 5


def test_a_cache_of_ones_own_serves_several_partitioners():
    """The same unit in another partitioner is found; the counts are the cache's."""
    calls, cache = [], MemoryCache()

    def unit(ctx):  # closes over nothing: what a function closes over is part of its key
        ctx["calls"].append(ctx["n"])
        return ctx["n"] * 2

    for _ in range(2):
        partitioner = CachingQuantumPartitioner(cache=cache)
        partitioner.add_unit(unit, name="double", metadata={"cacheable": True, "cache_keys": ["n"]})
        assert partitioner.execute({"n": 4, "calls": calls}) == {"double": 8}
    assert calls == [4]
    assert (partitioner.cache_hits, partitioner.cache_misses) == (1, 1)


def test_a_cache_that_a_run_names_is_kept_for_the_next_run_of_the_same_partitioner():
    """And shared with no other partitioner."""
    calls = []

    def executed(partitioner):
        return partitioner.execute({"n": 1, "calls": calls}, cache="memory").report.units["unit"].cached

    partitioners = [QuantumPartitioner(), QuantumPartitioner()]
    for partitioner in partitioners:
        partitioner.add_unit(
            lambda ctx: ctx["calls"].append(1), name="unit", metadata={"cacheable": True, "cache_keys": ["n"]}
        )
    assert [executed(partitioner) for partitioner in (*partitioners, *partitioners)] == [False, False, True, True]
    assert len(calls) == 2
    assert qp_caches() == {"memory": MemoryCache}
