"""Rounds of measurements, each in a fresh process, the contenders of a row taking turns.

A disturbed machine then disturbs all contenders alike, and the least of the rounds is what is compared.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 180.0


@attrs.frozen(kw_only=True)
class Samples:
    """What the rounds of one measurement gave: figures, or the reason why there are none."""

    spec: dict[str, Any]
    figures: Sequence[dict[str, Any]]
    wrong: str | None = None
    error: str | None = None

    def least(self, key: str) -> float | None:
        """Give the least figure of that key; None where the result was wrong or the measurement failed."""
        return None if self.trouble else min(figures[key] for figures in self.figures)

    @property
    def trouble(self) -> str | None:
        """Why there is no figure."""
        return self.wrong or self.error


@attrs.define(eq=False)
class Bench:
    """The driver that rows measure with; it keeps every sample for the JSON file."""

    rounds: int = 3
    samples: list[Samples] = attrs.Factory(list)
    _once: dict[str, Samples] = attrs.Factory(dict)

    def measure(self, specs: Sequence[dict[str, Any]], *, rounds: int | None = None) -> list[Samples]:
        """Measure the specs in turn, round after round.

        Args:
            specs: What `worker` understands, or `{"code": ...}`, a program that prints a JSON line.
            rounds: How many, in place of the bench's own.

        Returns:
            One `Samples` a spec, in order. A spec that fails or is wrong is not tried again.
        """
        figures: list[list[dict[str, Any]]] = [[] for _ in specs]
        trouble: list[dict[str, str]] = [{} for _ in specs]
        for _ in range(rounds or self.rounds):
            for place, spec in enumerate(specs):
                if not trouble[place]:
                    got = _measured(spec)
                    if "wrong" in got or "error" in got:
                        trouble[place] = got
                    else:
                        figures[place].append(got)
        out = [Samples(spec=spec, figures=figures[place], **trouble[place]) for place, spec in enumerate(specs)]
        self.samples += out
        return out

    def measure_once(self, spec: dict[str, Any]) -> Samples:
        """Measure a long run a single time, whichever rows ask for it."""
        key = json.dumps(spec, sort_keys=True)
        if key not in self._once:
            [self._once[key]] = self.measure([spec], rounds=1)
        return self._once[key]


def _measured(spec: dict[str, Any]) -> dict[str, Any]:
    """Run one measurement in a process of its own, and read its last line."""
    if "code" in spec:
        argv = [sys.executable, "-c", spec["code"]]
    else:
        argv = [sys.executable, "-m", "tests.benchmarks.worker", json.dumps(spec)]
    child = subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # the session is the child's own: this reaches its pool as well
        child.communicate()
        return {"error": f"still running after {TIMEOUT_S:.0f} s"}
    if child.returncode:
        return {"error": (err.strip().splitlines() or [f"exit code {child.returncode}"])[-1]}
    figures: dict[str, Any] = json.loads(out.splitlines()[-1])
    return figures
