"""The TaskMap layer: the same tasks one after another, in threads, in processes and on an event loop; then a run that continues.

read ─┬─> words ────┬─> summary
      └─> sentences ┘
"""

import logging
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pydoc_data.topics import topics
from typing import Any

from qp_core import (
    CircularDependency,
    ExecutionContext,
    TaskError,
    TaskMap,
    build_graph,
    run_async,
    run_parallel,
    run_parallel_threads,
    run_tasks,
)

RUNNERS: dict[str, Callable[..., dict[str, Any]]] = {
    "sequential": run_tasks,
    "thread": run_parallel_threads,
    "process": run_parallel,
    "async": run_async,
}


def read(ctx: ExecutionContext) -> str:
    """The text of a topic; KeyError where there is none."""
    return topics[ctx["topic"]]


def count_words(ctx: ExecutionContext) -> int:
    """Its words."""
    return len(re.findall(r"\w+", ctx["read"]))


def count_sentences(ctx: ExecutionContext) -> int:
    """Its sentences, roughly."""
    return len(re.findall(r"[.!?](?=\s)", ctx["read"]))


def summary(ctx: ExecutionContext) -> str:
    """Both in words."""
    return f"{ctx['topic']}: {ctx['words']} words in {ctx['sentences']} sentences"


TASKS = {
    "read": (read, []),
    "words": (count_words, ["read"]),
    "sentences": (count_sentences, ["read"]),
    "summary": (summary, ["words", "sentences"]),
}


def main(*modes: str) -> None:
    """Each runner, an executor of our own, a failure and its repair."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here they are the point
    graph = build_graph({name: needs for name, (_, needs) in TASKS.items()})
    print(f"Levels: {graph.levels}")
    for mode in modes or RUNNERS:
        print(f"{mode}: {RUNNERS[mode](TaskMap(TASKS), {'topic': 'with'})['summary']}")

    with ThreadPoolExecutor(max_workers=2) as executor:
        results = run_parallel_threads(TaskMap(TASKS), {"topic": "lambda"}, executor=executor)
    print(f"own executor: {results['summary']}")

    task_map = TaskMap(TASKS, io_bound=["read"])
    task_map.on_task_start = lambda name: print(f"  start {name}")
    task_map.on_task_error = lambda name, error: print(f"  error in {name}: {error!r}")
    try:
        task_map.run({"topic": "wiht"})
    except TaskError as error:
        print(f"failed: {error.failed_tasks}, completed: {sorted(error.partial_results)}")
    print(f"to run again: {task_map.reset_failed_tasks()}")
    print(task_map.run({"topic": "while"})["summary"])
    print(f"to run again: {task_map.reset_tasks('words')}")
    task_map.run({"topic": "while"})

    try:
        build_graph({"words": ["summary"], "summary": ["words"]})
    except CircularDependency as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
