"""One measurement in a process of its own: `python -m tests.benchmarks.worker SPEC`, a JSON object in, a JSON line out.

What the harness itself holds (graph, names, callables) is frozen out of the garbage collector before the clock starts, and
whatever the contender makes is not: it pays for the collections that it causes. A wrong result prints `{"wrong": ...}` and no figure.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import bodies
from tests.benchmarks.graphs import MASK, Graph, make_graph
from tests.benchmarks.references import REFERENCES, WORKERS, Contender

Figures = dict[str, Any]


class WrongResultError(Exception):
    """A contender returned something else than the graph's values."""


def _contender(name: str) -> Contender:
    """Make a contender, warm: started, and run once on a small graph."""
    if name.startswith("ours"):
        from tests.benchmarks.ours import OURS  # noqa: PLC0415  # the references run without the library

        return OURS[name]()
    return REFERENCES[name]()


def _run_checked(contender: Contender, built: Any, graph: Graph) -> None:
    """Run outside the clock.

    Raises:
        WrongResultError: The results are not the graph's.
    """
    _check(contender, contender.run(built), graph)


def _check(contender: Contender, got: list[int], graph: Graph) -> None:
    if got != graph.expected:
        raise WrongResultError(contender.title)
    if check := getattr(contender, "check", None):
        try:
            check()
        except ValueError as error:
            raise WrongResultError(contender.title) from error


def _ready(spec: Figures, *, n: int | None = None) -> tuple[Contender, Graph]:
    """Give a warm contender with the spec's graph prepared, and the garbage collector swept."""
    contender = _contender(spec["contender"])
    contender.start()
    body, size = spec.get("body", "noop"), spec.get("size", 0)
    callables_first = spec.get("callables_first", True)
    for family, n_warm in (("trivial", 64), ("stencil", 64)):
        small = make_graph("trivial" if "submit" in spec["contender"] else family, n_warm, width=8)
        contender.prepare(small, body, size, callables_first=callables_first)
        _run_checked(contender, contender.build(), small)
    graph = make_graph(spec["graph"], n or spec["n"])
    contender.prepare(graph, body, size, callables_first=callables_first)
    gc.collect()
    gc.freeze()
    return contender, graph


def measure_time(spec: Figures) -> Figures:
    """Wall and CPU microseconds a unit, of building, running, and both; the least of `repeat` passes."""
    contender, graph = _ready(spec)
    best: Figures = {}
    for _ in range(spec.get("repeat", 1)):
        gc.collect()
        wall0, cpu0 = time.perf_counter(), time.process_time()
        built = contender.build()
        wall1, cpu1 = time.perf_counter(), time.process_time()
        gc.collect()
        wall2, cpu2 = time.perf_counter(), time.process_time()
        got = contender.run(built)
        wall3, cpu3 = time.perf_counter(), time.process_time()
        _check(contender, got, graph)
        del built, got
        build_wall, build_cpu, run_wall, run_cpu = wall1 - wall0, cpu1 - cpu0, wall3 - wall2, cpu3 - cpu2
        seconds = {
            "build_wall_us": build_wall,
            "build_cpu_us": build_cpu,
            "run_wall_us": run_wall,
            "run_cpu_us": run_cpu,
            "total_wall_us": build_wall + run_wall,
            "total_cpu_us": build_cpu + run_cpu,
        }
        for key, value in seconds.items():
            best[key] = min(best.get(key, 1e9), value / len(graph.deps) * 1e6)
    contender.stop()
    return best


def measure_kept(spec: Figures) -> Figures:
    """CPU microseconds a unit of building the graph `copies` times, every copy kept: many small graphs cost the allocator and the collector what one large one does."""
    contender, graph = _ready(spec)
    cpu0 = time.process_time()
    kept = [contender.build() for _ in range(spec["copies"])]
    cpu1 = time.process_time()
    for built in kept:
        _run_checked(contender, built, graph)
    contender.stop()
    return {"build_cpu_us": (cpu1 - cpu0) / len(graph.deps) / len(kept) * 1e6}


def measure_rss(spec: Figures) -> Figures:
    """Bytes a unit that building and running add to this process's RSS: at the peak, and after it with everything alive."""
    contender, graph = _ready(spec)
    n = len(graph.deps)
    _reset_peak_rss()
    before = _status_bytes("VmRSS")
    built = contender.build()
    got = contender.run(built)
    peak, after = _status_bytes("VmHWM"), _status_bytes("VmRSS")
    _check(contender, got, graph)
    contender.stop()
    return {"peak_bytes": (peak - before) / n, "alive_bytes": (after - before) / n}


def measure_traced(spec: Figures) -> Figures:
    """The same as `measure_rss`, counted by tracemalloc: Python's own allocations alone, to the byte."""
    contender, graph = _ready(spec)
    n = len(graph.deps)
    tracemalloc.start()
    built = contender.build()
    planned = tracemalloc.get_traced_memory()[0]
    got = contender.run(built)
    gc.collect()
    alive, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    _check(contender, got, graph)
    contender.stop()
    return {"planned_bytes": planned / n, "alive_bytes": alive / n, "peak_bytes": peak / n}


def measure_whole(spec: Figures) -> Figures:
    """Plan and run n units in thread mode as a program would, names and closures made on the way: seconds, and the process's peak RSS."""
    from qp_core import ExecutionMode, QuantumPartitioner  # noqa: PLC0415  # the references run without the library

    n, is_chain = spec["n"], spec["graph"] == "chain"
    partitioner: QuantumPartitioner[Any, Any] = QuantumPartitioner()
    t0 = time.perf_counter()
    needs: list[str] = []
    for node in range(n):
        name = f"u{node}"
        partitioner.add_unit(fn=bodies.body_of_context("noop", needs), dependencies=needs, name=name)
        if is_chain:
            needs = [name]
    partitioner.build_execution_plan()
    t1 = time.perf_counter()
    result = partitioner.execute({}, execution_mode=ExecutionMode.THREAD, max_workers=WORKERS)
    t2 = time.perf_counter()
    peak = _status_bytes("VmHWM")
    wanted = (n & MASK) if is_chain else 1
    if len(result) != n or result[f"u{n - 1}"] != wanted:
        raise WrongResultError("ours")
    return {"peak_bytes": peak, "plan_s": t1 - t0, "run_s": t2 - t1, "whole_s": t2 - t0}


def measure_first(spec: Figures) -> Figures:
    """Microseconds from handing the built graph over until the first body starts."""
    contender, graph = _ready(spec | {"body": "stamp"})
    built = contender.build()
    gc.collect()
    bodies.first_start.clear()
    t0 = time.perf_counter()
    got = contender.run(built)
    first_us = (bodies.first_start[0] - t0) * 1e6
    _check(contender, got, graph)
    contender.stop()
    return {"first_us": first_us}


def measure_grain(spec: Figures) -> Figures:
    """One sweep over the granularities for METG: what each size of body takes with no engine, and with this contender.

    For each size in `sizes`, n units share about `seconds` of work; the list holds `[size, n, one_us, ideal_s, took_s]`, with
    `one_us` the time of one body alone, `ideal_s` that of all bodies in two threads with the work divided beforehand, and
    `took_s` that of building and running the graph; each the least of three.
    """
    points = []
    contender = _contender(spec["contender"])
    contender.start()
    warm = make_graph("stencil", 64, width=8)
    contender.prepare(warm, "sha", 2048, callables_first=False)
    _run_checked(contender, contender.build(), warm)
    for size in spec["sizes"]:
        one_s = min(_seconds(partial(_hash_often, 20, size)) for _ in range(5)) / 20
        n = int(min(3200, max(320, spec["seconds"] * WORKERS / one_s))) // 32 * 32
        graph = make_graph("stencil", n)
        contender.prepare(graph, "sha", size, callables_first=False)
        ideal_s = took_s = 1e9
        for _ in range(3):
            ideal_s = min(ideal_s, _seconds(partial(_divided, n, size)))
            gc.collect()
            t0 = time.perf_counter()
            got = contender.run(contender.build())
            took_s = min(took_s, time.perf_counter() - t0)
            _check(contender, got, graph)
        points.append([size, n, one_s * 1e6, ideal_s, took_s])
    contender.stop()
    return {"points": points}


def _seconds(call: Callable[[], object]) -> float:
    t0 = time.perf_counter()
    call()
    return time.perf_counter() - t0


def _hash_often(n: int, size: int) -> None:
    for _ in range(n):
        bodies.hash_bytes(size)


def _divided(n: int, size: int) -> None:
    threads = [threading.Thread(target=_hash_often, args=(n // WORKERS, size)) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_cache(spec: Figures) -> Figures:
    """Microseconds a unit of running cacheable units a second time, all of them hits."""
    from qp_core import CachingQuantumPartitioner, ExecutionMode  # noqa: PLC0415  # the references run without it

    n = spec["n"]
    partitioner: CachingQuantumPartitioner[Any, Any] = CachingQuantumPartitioner()

    def body(node: int, ctx: dict[str, int]) -> int:
        return ctx["k"] + node

    for node in range(n):
        partitioner.add_unit(
            fn=partial(body, node),
            name=f"u{node}",
            metadata={"cacheable": True, "cache_keys": ["k"]},
        )
    partitioner.build_execution_plan()
    times: dict[str, float] = {}
    for key, n_hits in (("miss_us", 0), ("hit_us", n)):
        gc.collect()
        cpu0 = time.process_time()
        result = partitioner.execute({"k": 1}, execution_mode=ExecutionMode.THREAD, max_workers=WORKERS)
        times[key] = (time.process_time() - cpu0) / n * 1e6
        found = sum(record.cached for record in result.report.units.values())
        if [*result.values()] != [*range(1, n + 1)] or found != n_hits:
            raise WrongResultError("ours")
    return times


MEASURES: dict[str, Callable[[Figures], Figures]] = {
    "time": measure_time,
    "kept": measure_kept,
    "rss": measure_rss,
    "traced": measure_traced,
    "whole": measure_whole,
    "first": measure_first,
    "grain": measure_grain,
    "cache": measure_cache,
}


def _status_bytes(field: str) -> int:
    """Read a size from /proc/self/status (Linux), in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _reset_peak_rss() -> None:
    """Set VmHWM back to the present RSS (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def main() -> None:
    """Measure what the argument says, and print the figures."""
    spec = json.loads(sys.argv[1])
    try:
        figures = MEASURES[spec["measure"]](spec)
    except WrongResultError as error:
        figures = {"wrong": f"{error}: {error.__cause__ or 'wrong results'}"}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
