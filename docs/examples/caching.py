"""`CachingQuantumPartitioner`: results that need not be computed again.

index ──> rank        `index` reads only the context's "texts", `rank` the index and the "query"
"""

import math
import re
import sys
from collections import Counter
from pydoc_data.topics import topics
from typing import Any

from qp_core import CachingQuantumPartitioner, ExecutionContext


def build_index(ctx: ExecutionContext) -> dict[str, Counter[str]]:
    """How often each word stands in each text."""
    return {name: Counter(re.findall(r"[a-z]+", text.lower())) for name, text in ctx["texts"].items()}


def rank(ctx: ExecutionContext) -> str:
    """The text that fits the query best: words that few texts have weigh more."""
    index: dict[str, Counter[str]] = ctx["index"]
    words = re.findall(r"[a-z]+", ctx["query"].lower())
    weight = {word: math.log(len(index) / (1 + sum(word in counts for counts in index.values()))) for word in words}
    scores = {
        name: sum(weight[word] * math.log1p(counts[word]) for word in words) / math.log(9 + counts.total())
        for name, counts in index.items()
    }
    return max(scores, key=lambda name: (scores[name], name))


def make_partitioner() -> CachingQuantumPartitioner[dict[str, Any], Any]:
    """Two cacheable units."""
    partitioner: CachingQuantumPartitioner[dict[str, Any], Any] = CachingQuantumPartitioner()
    partitioner.add_unit(fn=build_index, name="index", metadata={"cacheable": True, "cache_keys": ["texts"]})
    partitioner.add_unit(
        fn=rank, dependencies=["index"], name="rank", metadata={"cacheable": True, "cache_keys": ["query", "index"]}
    )
    return partitioner


def main(mode: str = "thread") -> None:
    """Ask twice the same, then something else, then over other texts."""
    partitioner = make_partitioner()
    fewer = {name: text for name, text in topics.items() if name != "lambda"}
    for texts, query in (
        (topics, "lambda expression"),
        (topics, "lambda expression"),
        (topics, "power operator"),
        (fewer, "lambda expression"),
    ):
        results = partitioner.execute({"texts": texts, "query": query}, execution_mode=mode)
        found = [unit_id for unit_id, record in results.report.units.items() if record.cached]
        print(f"{query!r} over {len(texts)} texts: {results['rank']!r}, from the cache: {found}")
    print(f"hits {partitioner.cache_hits}, misses {partitioner.cache_misses}")


if __name__ == "__main__":
    main(*sys.argv[1:])
