"""`qp run module:function`: run a partitioner and show what came of it."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qp_core import Command, ExecutionResult, RunReport, UnitState, hookimpl
from qp_plugins.cli.target import TargetError, partitioner_of

_LONGEST = 200  # characters of a result that are shown
_STEPS = 6  # units of the critical path that are shown


class RunCommand:
    """Runs every unit, prints the results and a summary; 1 where a unit failed."""

    help = "run the partitioner that a function returns"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("target", metavar="MODULE:FUNCTION", help="a function that returns a QuantumPartitioner")
        parser.add_argument(
            "--context", default="{}", metavar="JSON", help="the context as a JSON object, or @FILE (default: {})"
        )
        parser.add_argument(
            "--mode",
            metavar="NAME",
            help="where units run: thread, process, async, sequential ... (default: the partitioner's)",
        )
        parser.add_argument("--workers", type=int, metavar="N", help="the most units at once")
        parser.add_argument("--strategy", metavar="NAME", help="which of the ready units goes first (default: fifo)")
        parser.add_argument("--json", action="store_true", help="results (as text) and report as JSON")
        parser.add_argument("--quiet", action="store_true", help="no progress line")

    def run(self, args: argparse.Namespace) -> int:
        """Run and print."""
        partitioner = partitioner_of(args.target)
        telemetry = [] if args.quiet or args.json else ["progress"]
        result = partitioner.execute(
            _context(args.context), args.mode, args.workers, strategy=args.strategy, telemetry=telemetry
        )
        sys.stdout.write(_as_json(result) if args.json else _as_text(result))
        return 0 if result.ok else 1


def _context(text: str) -> dict[str, Any]:
    try:
        context = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        msg = f"the context {text!r} is no JSON: {error}; write --context '{{\"key\": 1}}', or @FILE"
        raise TargetError(msg) from error
    if not isinstance(context, dict):
        msg = f"the context is a JSON {type(context).__name__}; it must be an object"
        raise TargetError(msg)
    return context


def _as_json(result: ExecutionResult[Any]) -> str:
    data = {"results": {unit_id: repr(value) for unit_id, value in result.items()}, "report": result.report.to_data()}
    return json.dumps(data, indent=2, default=repr) + "\n"


def _as_text(result: ExecutionResult[Any]) -> str:
    lines = [f"{unit_id}: {_short(value)}" for unit_id, value in result.items()]
    for unit_id, error in result.failed.items():
        lines.append(f"{unit_id}: failed, {type(error).__name__}: {error}")
    for unit_id, root in result.skipped.items():
        lines.append(f"{unit_id}: skipped, because {root} did not complete")
    return "\n".join([*lines, "", summary(result.report)])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def summary(report: RunReport) -> str:
    """A run in a few lines.

    Returns:
        Units by state, wall time, critical path and parallel efficiency.
    """
    counts = ", ".join(f"{count} {state.value}" for state, count in report.counts.items()) or "none"
    path = report.critical_path
    shown = " -> ".join(path if len(path) <= _STEPS else [*path[: _STEPS - 3], "…", *path[-2:]])
    failed = report.in_state(UnitState.FAILED, UnitState.TIMEOUT)
    rows = [
        ("units", counts),
        (
            "wall time",
            f"{report.wall_s:.3f} s ({report.mode}, {report.max_workers or 'unbounded'} workers, {report.strategy})",
        ),
        ("critical path", f"{report.critical_path_s:.3f} s: {shown}"),
        ("parallel efficiency", f"{report.parallel_efficiency:.0%} (speed-up {report.speedup:.2f})"),
        ("failures", ", ".join(failed) or "none"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join([*(f"{name:<{width}}  {text}" for name, text in rows), ""])


@hookimpl
def qp_commands() -> Mapping[str, Command]:
    """Offer `run`."""
    return {"run": RunCommand()}
