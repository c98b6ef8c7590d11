"""`qp run module:function`: run a partitioner and show what came of it."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qp_core import Command, ExecutionMode, ExecutionResult, GraphError, RunReport, UnitState, hookimpl
from qp_plugins.cli import show
from qp_plugins.cli.target import UsageError, partitioner_of


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
        parser.add_argument("--workers", type=_positive, metavar="N", help="the most units at once")
        parser.add_argument("--strategy", metavar="NAME", help="which of the ready units goes first (default: fifo)")
        parser.add_argument("--json", action="store_true", help="results (as text) and report as JSON")
        parser.add_argument("--quiet", action="store_true", help="no progress line")

    def run(self, args: argparse.Namespace) -> int:
        """Run and print; what had completed when Ctrl-C came is printed too."""
        context = _context(args.context)
        if args.mode == ExecutionMode.CUSTOM.value:
            msg = "--mode custom needs an executor, which a command line cannot give; name another mode"
            raise UsageError(msg)
        partitioner = partitioner_of(args.target)
        earlier = partitioner.last_result
        telemetry = [] if args.quiet or args.json else ["progress"]
        try:
            partitioner.execute(context, args.mode, args.workers, strategy=args.strategy, telemetry=telemetry)
        except GraphError:
            raise
        except (TypeError, ValueError) as error:
            if partitioner.last_result is not earlier:
                raise
            # Refused before anything ran: a name or a value on the command line.
            raise UsageError(str(error)) from error
        finally:
            result = partitioner.last_result
            if result is not None and result is not earlier:
                show.write(_as_json(result) if args.json else _as_text(result))
        return 0 if result is not None and result.ok else 1


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        msg = f"{text!r} is no whole number from 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _context(text: str) -> dict[str, Any]:
    try:
        context = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except OSError as error:
        msg = f"the context {text!r} cannot be read: {error}; write --context '{{\"key\": 1}}', or @FILE"
        raise UsageError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"the context {text!r} is no JSON: {error}; write --context '{{\"key\": 1}}', or @FILE"
        raise UsageError(msg) from error
    if not isinstance(context, dict):
        msg = f"the context is a JSON {type(context).__name__}; it must be an object"
        raise UsageError(msg)
    return context


def _as_json(result: ExecutionResult[Any]) -> str:
    return show.as_json({"results": show.texts(result), "report": result.report.to_data()})


def _as_text(result: ExecutionResult[Any]) -> str:
    report = result.report
    lines = [f"{show.name(unit_id)}: {show.value(value)}" for unit_id, value in result.items()]
    for unit_id in report.in_state(UnitState.FAILED, UnitState.TIMEOUT):
        record = report.units[unit_id]
        verdict = "failed" if record.state is UnitState.FAILED else "out of time"
        lines.append(f"{show.name(unit_id)}: {verdict}, {show.error(record.error)}")
    for unit_id, root in result.skipped.items():
        lines.append(f"{show.name(unit_id)}: skipped, because {show.name(root)} did not complete")
    lines += [f"{show.name(unit_id)}: canceled" for unit_id in report.in_state(UnitState.CANCELED)]
    return "\n".join([*lines, "", summary(report)] if lines else [summary(report)])


def summary(report: RunReport) -> str:
    """A run in a few lines.

    Returns:
        Units by state, wall time, critical path, parallel efficiency and failures; what else is worth a line only where there is some.
    """
    counts = ", ".join(f"{number} {state.value}" for state, number in report.counts.items()) or "none"
    workers = "any number of workers" if report.max_workers is None else show.count(report.max_workers, "worker")
    rows = [
        ("units", counts),
        ("wall time", f"{report.wall_s:.3f} s ({report.mode}, {workers}, {report.strategy})"),
        ("critical path", f"{report.critical_path_s:.3f} s: {show.chain(report.critical_path)}"),
        ("parallel efficiency", f"{report.parallel_efficiency:.0%} (speed-up {report.speedup:.2f})"),
        ("failures", show.names(report.in_state(UnitState.FAILED, UnitState.TIMEOUT))),
    ]
    if report.abandoned:
        rows.append(("still running", show.names(report.abandoned)))
    if report.stopped is not None:
        rows.append(("stopped", report.stopped))
    width = max(len(name) for name, _ in rows)
    return "\n".join([*(f"{name:<{width}}  {text}" for name, text in rows), ""])


@hookimpl
def qp_commands() -> Mapping[str, Command]:
    """Offer `run`."""
    return {"run": RunCommand()}
