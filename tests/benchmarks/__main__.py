"""Print the table of budgets: `python -m tests.benchmarks [--rows B1,B4] [--json FILE] [--rounds N]`."""

from __future__ import annotations

import argparse
import enum
import json
import os
import platform
import sys
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import attrs

from tests.benchmarks.rows import ROWS
from tests.benchmarks.runner import Bench
from tests.benchmarks.table import Line, Verdict, head, text_of


def _rows(names: str) -> list[str]:
    """Read a list of rows; nothing means all.

    Raises:
        argparse.ArgumentTypeError: A row does not exist.
    """
    chosen = [name.strip().upper() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in ROWS:
            msg = f"no row {name!r}; there are {', '.join(ROWS)}"
            raise argparse.ArgumentTypeError(msg)
    return chosen or list(ROWS)


def _rounds(text: str) -> int:
    """Read the number of rounds.

    Raises:
        argparse.ArgumentTypeError: It is no positive integer.
    """
    if not text.isdecimal() or not int(text):
        msg = f"{text!r} is no positive number of rounds"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _about() -> dict[str, str]:
    """Tell what the figures stand on, without naming the machine."""
    about = {"python": platform.python_version(), "cpus": str(len(os.sched_getaffinity(0)))}
    for name in ("dask", "attrs", "cattrs", "pluggy"):
        try:
            about[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            about[name] = "absent"
    return about


def main() -> int:
    """Run the rows that were asked for; 1 where a result was wrong or a measurement failed, whatever the budgets say."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help="some rows, as B1,B4; all unless given")
    parser.add_argument("--json", type=Path, help="write lines and samples to this file")
    parser.add_argument("--rounds", type=_rounds, default=3, help="rounds of each measurement; 3 unless given")
    arguments = parser.parse_args()

    about, bench, start = _about(), Bench(rounds=arguments.rounds), time.monotonic()
    print(", ".join(f"{name} {version}" for name, version in about.items()), end="; ")
    print(f"load {os.getloadavg()[0]:.1f}; the least of {bench.rounds} interleaved rounds\n")
    print(head())
    lines: list[Line] = []
    for row in arguments.rows:
        for line in ROWS[row](bench):
            lines.append(line)
            print(text_of(line), flush=True)
    counts = Counter(line.verdict for line in lines)
    told = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    print(f"\n{told}; {time.monotonic() - start:.0f} s, load {os.getloadavg()[0]:.1f}")
    if arguments.json:
        document = {
            "about": about,
            "lines": [attrs.asdict(line, value_serializer=_plain) for line in lines],
            "samples": [attrs.asdict(samples) for samples in bench.samples],
        }
        arguments.json.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    return 1 if counts[Verdict.WRONG] or counts[Verdict.FAILED] else 0


def _plain(_instance: object, _field: object, value: object) -> object:
    """Write enums by their value."""
    return value.value if isinstance(value, enum.Enum) else value


if __name__ == "__main__":
    sys.exit(main())
