"""The rows of the budgets, one function each: what is measured side by side, and how it is judged.

A row is a generator of lines, so that the table grows while the bench runs. Rows of parts to come are not here.
"""

# ruff: noqa: RUF001  # micro and times are what they look like

from __future__ import annotations

import compileall
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from tests.benchmarks.graphs import FAMILIES
from tests.benchmarks.ingest import main_job
from tests.benchmarks.references import REFERENCES
from tests.benchmarks.runner import ROOT, Bench, Samples
from tests.benchmarks.table import Budget, Form, Line, Verdict, judge

Row = Callable[[Bench], Iterator[Line]]
N = 10_000
N_LARGE = 100_000
N_WHOLE = 1_000_000


def _time(contender: str, graph: str, n: int, **more: Any) -> dict[str, Any]:
    return {"measure": "time", "contender": contender, "graph": graph, "n": n, **more}


def _power(n: int) -> str:
    return f"{n / 10 ** int(math.log10(n)):g}e{int(math.log10(n))}"


def _title(contender: str) -> str:
    return REFERENCES[contender].title


def thread_mode_alone(bench: Bench) -> Iterator[Line]:
    """B1: thread mode, execution alone, n = 1e5, by CPU."""
    limits = {"chain": 8.0, "tree": 8.0, "stencil": 8.0, "trivial": 12.0}
    for graph in FAMILIES:
        names = ("ours-thread", "loop", "callbacks")
        ours, loop, callbacks = bench.measure([_time(name, graph, N_LARGE) for name in names])
        note = f"callbacks cpu {callbacks.least('run_cpu_us') or math.nan:.3g}"
        line = Line(row="B1", what=f"thread, {graph}, {_power(N_LARGE)}, execute", unit="µs cpu", note=note)
        budget = Budget(limits[graph]) if graph in limits else None
        line = attrs.evolve(line, reference=_title("loop"), budget=budget)
        yield judge(line, ours, loop, "run_cpu_us", beside="run_wall_us")


def thread_mode_whole(bench: Bench) -> Iterator[Line]:
    """B2: thread mode, add + plan + run, closures made on the way, n = 1e4, by wall clock."""
    limits = {"chain": 8.0, "tree": 8.0, "stencil": 8.0, "trivial": 4.0}
    for graph in FAMILIES:
        names = ("ours-thread", "dask", "submit")
        ours, dask, submit = bench.measure([_time(name, graph, N, callables_first=False) for name in names])
        what = f"thread, {graph}, {_power(N)}, add+plan+run"
        budget = Budget(limits[graph], Form.LESS) if graph in limits else None
        line = Line(row="B2", what=what, unit="µs wall", reference=_title("dask"), budget=budget)
        yield judge(line, ours, dask, "total_wall_us", beside="total_cpu_us")
        line = attrs.evolve(line, reference=_title("submit"), budget=Budget(1.0))
        yield judge(line, ours, submit, "total_wall_us", beside="total_cpu_us")


def sequential_mode(bench: Bench) -> Iterator[Line]:
    """B3: sequential mode, execution alone.

    A sorter of graphlib runs once, so its loop comes with making it (the figure of the budgets' own table); the note has the
    loop without that.
    """
    for graph, n in [(family, N) for family in FAMILIES] + [("stencil", N_LARGE)]:
        ours, graphlib = bench.measure([_time(name, graph, n) for name in ("ours-sequential", "graphlib")])
        what = f"sequential, {graph}, {_power(n)}, execute"
        line = Line(row="B3", what=what, unit="µs cpu", reference=_title("graphlib"), budget=Budget(2.0))
        line = attrs.evolve(line, note=f"made sorter {graphlib.least('run_cpu_us') or math.nan:.3g}")
        yield judge(line, ours, graphlib, "run_cpu_us", their_key="total_cpu_us", beside="run_wall_us")


def process_mode(bench: Bench) -> Iterator[Line]:
    """B4: process mode; for the picture until part 2 replaces the executor."""
    limits = {"trivial": 20.0, "chain": 20.0, "tree": 20.0, "stencil": 5.0}
    for graph, limit in limits.items():
        reference = "process-submit" if graph == "trivial" else "process-callbacks"
        specs = [_time(name, graph, N // 5, body="shipped") for name in ("ours-process", reference)]
        ours, theirs = bench.measure(specs)
        what = f"process, {graph}, {_power(N // 5)}, execute"
        budget = Budget(limit, Form.LESS, is_due=False)
        line = Line(row="B4", what=what, unit="µs wall", reference=_title(reference), budget=budget)
        yield judge(line, ours, theirs, "run_wall_us", beside="run_cpu_us")


def async_mode(bench: Bench) -> Iterator[Line]:
    """B5: async mode, execution alone, by the budget of the running version of Python."""
    has_eager = sys.version_info >= (3, 12)
    limits = {"plain": 0.5 if has_eager else 1.0, "suspend": 1.3}
    names = ["ours-async", "asyncio", *(["asyncio-eager"] if has_eager else [])]
    for body, limit in limits.items():
        for graph in FAMILIES:
            ours, tasks, *eager = bench.measure([_time(name, graph, N, body=body) for name in names])
            what = f"async, {body} bodies, {graph}, {_power(N)}"
            line = Line(row="B5", what=what, unit="µs cpu", reference=_title("asyncio"), budget=Budget(limit))
            if eager and (eager_us := eager[0].least("run_cpu_us")):
                line = attrs.evolve(line, note=f"eager tasks {eager_us:.3g}")
            yield judge(line, ours, tasks, "run_cpu_us", beside="run_wall_us")


def memory(bench: Bench) -> Iterator[Line]:
    """B6: bytes a unit over the callables, n = 1e5; and the whole process with 1e6 units."""
    for graph in ("trivial", "chain", "tree", "stencil"):
        for measure, title in (("rss", "peak RSS"), ("traced", "tracemalloc")):
            specs = [
                {"measure": measure, "contender": name, "graph": graph, "n": N_LARGE}
                for name in ("ours-thread", "callbacks")
            ]
            ours, callbacks = bench.measure(specs, rounds=bench.rounds if measure == "rss" else 1)
            line = Line(row="B6", what=f"{title}, {graph}, {_power(N_LARGE)}", unit="B a unit")
            line = attrs.evolve(line, reference=_title("callbacks"), budget=Budget(800.0, Form.FIGURE))
            if measure == "traced" and (planned := ours.least("planned_bytes")):
                line = attrs.evolve(line, note=f"planned {planned:.0f}")
            yield judge(line, ours, callbacks, "peak_bytes", beside="alive_bytes")
    for graph in ("trivial", "chain"):
        whole = _scaled(bench.measure_once(_whole(graph)), "peak_bytes", 1e-6)
        line = Line(row="B6", what=f"peak RSS of all, {graph}, {_power(N_WHOLE)}", unit="MB")
        line = attrs.evolve(line, budget=Budget(1000.0, Form.FIGURE), note="closures and names included")
        yield judge(line, whole, None, "peak_bytes")


def _whole(graph: str) -> dict[str, Any]:
    return {"measure": "whole", "contender": "ours-thread", "graph": graph, "n": N_WHOLE}


def _scaled(samples: Samples, key: str, factor: float) -> Samples:
    figures = [{**figures, key: figures[key] * factor} for figures in samples.figures]
    return attrs.evolve(samples, figures=figures)


def planning(bench: Bench) -> Iterator[Line]:
    """B7: add + plan with the check for cycles, by CPU; its growth from 1e3 to 1e5; a chain of 1e6.

    Growth compares one graph of 1e5 with a hundred of 1e3, all kept. One small graph alone never pays for fresh memory or
    for a full collection: beside it, the least code that makes an object a unit and sorts them grows 1.6 to 2 times.
    """
    names, n_small = ("ours-thread", "graphlib"), N_LARGE // 100
    for graph in FAMILIES:
        whole = [_time(name, graph, N_LARGE) for name in names]
        kept = [{**spec, "measure": "kept", "n": n_small, "copies": 100} for spec in whole]
        ours, graphlib, ours_small, graphlib_small = bench.measure([*whole, *kept])
        line = Line(row="B7", what=f"add+plan, {graph}, {_power(N_LARGE)}", unit="µs cpu")
        graphlib_line = attrs.evolve(line, reference="graphlib add+prepare", budget=Budget(4.0))
        yield judge(graphlib_line, ours, graphlib, "build_cpu_us", beside="build_wall_us")
        line = attrs.evolve(line, reference=f"100 × {_power(n_small)}", budget=Budget(1.3))
        if (before := graphlib_small.least("build_cpu_us")) and (after := graphlib.least("build_cpu_us")):
            line = attrs.evolve(line, note=f"graphlib grows {after / before:.2f}×")
        yield judge(line, ours, ours_small, "build_cpu_us")
    chain = bench.measure_once(_whole("chain"))
    line = Line(row="B7", what=f"a chain of {_power(N_WHOLE)} plans and runs", unit="s wall")
    line = judge(line, chain, None, "whole_s")
    if not chain.trouble:
        note = f"add+plan {chain.least('plan_s'):.3g}, run {chain.least('run_s'):.3g}"
        line = attrs.evolve(line, verdict=Verdict.OK, note=note)
    yield line


def first_body(bench: Bench) -> Iterator[Line]:
    """B8: from handing the plan over until the first body starts, stencil of 1e4."""
    names = ("ours-thread", "dask", "callbacks")
    specs = [{"measure": "first", "contender": name, "graph": "stencil", "n": N} for name in names]
    ours, dask, callbacks = bench.measure(specs, rounds=max(5, bench.rounds))
    line = Line(row="B8", what=f"first body starts, stencil, {_power(N)}", unit="µs wall")
    line = attrs.evolve(line, reference=_title("dask"), budget=Budget(20.0, Form.LESS))
    line = attrs.evolve(line, note=f"callbacks {callbacks.least('first_us') or math.nan:.0f}")
    yield judge(line, ours, dask, "first_us")


def grain(bench: Bench) -> Iterator[Line]:
    """B9: METG(50 %): the smallest body at which two threads reach half of what they do with no engine."""
    sizes = [2048 << step for step in range(9, -1, -1)]
    names = ("ours-thread", "dask", "callbacks")
    specs = [{"measure": "grain", "contender": name, "sizes": sizes, "seconds": 0.05} for name in names]
    all_samples = bench.measure(specs)
    ideals: dict[float, float] = {}
    for samples in all_samples:
        for size, n, _, ideal_s, _ in _points(samples):
            ideals[size] = min(ideals.get(size, math.inf), ideal_s / n)
    ours, dask, callbacks = [_with_metg(samples, ideals) for samples in all_samples]
    line = Line(row="B9", what="METG(50 %), 2 threads, stencil", unit="µs body")
    line = attrs.evolve(line, reference=_title("dask"), budget=Budget(3.0, Form.LESS))
    line = attrs.evolve(line, note=f"callbacks {callbacks.least('metg_us') or math.nan:.3g}")
    yield judge(line, ours, dask, "metg_us")


def _points(samples: Samples) -> list[list[float]]:
    return [point for figures in samples.figures for point in figures["points"]]


def _with_metg(samples: Samples, ideals: dict[float, float]) -> Samples:
    """Add the METG to a contender's sweeps: efficiency from the least times of all, the crossing of 50 % between sizes."""
    if samples.trouble:
        return samples
    best: dict[float, tuple[float, float]] = {}
    for size, n, one_us, _, took_s in _points(samples):
        one_before, took_before = best.get(size, (math.inf, math.inf))
        best[size] = min(one_us, one_before), min(took_s / n, took_before)
    curve = sorted(((one_us, ideals[size] / took) for size, (one_us, took) in best.items()), reverse=True)
    metg_us = curve[0][0] if curve[0][1] < 0.5 else curve[-1][0]  # beyond an end of the sweep: that end
    for (above_us, above), (below_us, below) in itertools.pairwise(curve):
        if above >= 0.5 > below:
            metg_us = math.exp(math.log(below_us) + (0.5 - below) / (above - below) * math.log(above_us / below_us))
    return attrs.evolve(samples, figures=[{"metg_us": metg_us, "curve": curve}])


def features(bench: Bench) -> Iterator[Line]:
    """B12: what a feature costs the units that use it, over units that do not; thread mode, trivial, 1e4, by CPU."""
    limits = {"retry": ("retry that does not fire", 1, 3.0), "timeout": ("timeout that does not fire", 1, 3.0)}
    limits |= {"callbacks": ("observer, an event of two", 2, 1.0)}
    names = ["ours-thread", *(f"ours-thread+{feature}" for feature in limits)]
    specs = [_time(name, "trivial", N, repeat=5) for name in names]
    plain, *featured, cache = bench.measure([*specs, {"measure": "cache", "contender": "ours-cache", "n": N}])
    for samples, (what, n_events, limit) in zip(featured, limits.values(), strict=True):
        yield _over(plain, samples, "run_cpu_us", f"{what}, {_power(N)}", limit=limit, n_events=n_events)
    yield _over(plain, cache, "hit_us", f"hit of the memory cache, {_power(N)}", limit=15.0)


def _over(plain: Samples, samples: Samples, key: str, what: str, *, limit: float, n_events: int = 1) -> Line:
    """Judge what a unit with the feature takes more than a plain one."""
    line = Line(row="B12", what=what, unit="µs cpu more", budget=Budget(limit, Form.FIGURE))
    without = plain.least("run_cpu_us")
    if samples.trouble or without is None:
        return judge(line, plain if plain.trouble else samples, None, key)
    over = [{"over_us": max(0.0, (figures[key] - without) / n_events)} for figures in samples.figures]
    line = attrs.evolve(line, note=f"a plain unit {without:.3g}, with it {samples.least(key):.3g}")
    return judge(line, attrs.evolve(samples, figures=over), None, "over_us")


_IMPORT = """
import sys, time
before = set(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
import {modules}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
new = {{name.partition(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names
import json
print(json.dumps({{"wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "loaded": sorted(new)}}))
"""
_DEPENDENCIES = "attrs, cattrs, pluggy, psutil, cloudpickle"
_MAY_LOAD = {"attr", "attrs", "cattr", "cattrs", "cloudpickle", "pluggy", "psutil", "qp_core", "typing_extensions"}


def imports(bench: Bench) -> Iterator[Line]:
    """B13: importing qp_core, beside importing its dependencies; and that nothing else gets loaded.

    The dependencies were compiled when they were installed; so is the core, whatever the environment says of writing bytecode.
    """
    compileall.compile_dir(ROOT / "qp_core", quiet=1)
    programs = [{"code": _IMPORT.format(modules=modules)} for modules in ("qp_core", _DEPENDENCIES)]
    ours, theirs = bench.measure(programs, rounds=max(10, bench.rounds))
    line = Line(row="B13", what="import qp_core", unit="ms cpu", reference="its dependencies", budget=Budget(1.3))
    yield judge(line, ours, theirs, "cpu_ms", beside="wall_ms")
    if not ours.trouble:
        strangers = sorted({name for figures in ours.figures for name in figures["loaded"]} - _MAY_LOAD)
        line = Line(row="B13", what="libraries loaded beyond these", unit="", ours=float(len(strangers)))
        verdict = Verdict.NOT if strangers else Verdict.OK
        yield attrs.evolve(line, budget=Budget(0.0, Form.FIGURE), verdict=verdict, note=", ".join(strangers))


ROWS: dict[str, Row] = {
    "B1": thread_mode_alone,
    "B2": thread_mode_whole,
    "B3": sequential_mode,
    "B4": process_mode,
    "B5": async_mode,
    "B6": memory,
    "B7": planning,
    "B8": first_body,
    "B9": grain,
    "B12": features,
    "B13": imports,
    "B14": main_job,
}
