"""`qp plan module:function`: show a plan, as text, DOT or Mermaid."""

import argparse
from collections.abc import Mapping

from qp_core import Command, ExecutionPlan, hookimpl
from qp_plugins.cli import show
from qp_plugins.cli.target import partitioner_of


class PlanCommand:
    """Builds the plan and prints it; runs nothing."""

    help = "show the plan of the partitioner that a function returns"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("target", metavar="MODULE:FUNCTION", help="a function that returns a QuantumPartitioner")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--dot", action="store_true", help="GraphViz's language")
        form.add_argument("--mermaid", action="store_true", help="a Mermaid flowchart")
        form.add_argument("--json", action="store_true", help="the plan's shape as data")

    def run(self, args: argparse.Namespace) -> int:
        """Print the plan."""
        plan = partitioner_of(args.target).build_execution_plan()
        if args.dot:
            text = plan.visualize()
        elif args.mermaid:
            text = plan.to_mermaid()
        elif args.json:
            text = show.as_json(plan.to_data())
        else:
            text = _as_text(plan)
        show.write(text)
        return 0


def _as_text(plan: ExecutionPlan) -> str:
    units, levels = show.count(plan.unit_count, "unit"), show.count(plan.max_level, "level")
    lines = [f"{units} in {levels}, {plan.max_parallel_units} at most in one"]
    lines += [f"level {number}: {show.names(level)}" for number, level in enumerate(plan.levels)]
    lines.append(f"critical path: {show.chain(plan.critical_path)}")
    return "\n".join([*lines, ""])


@hookimpl
def qp_commands() -> Mapping[str, Command]:
    """Offer `plan`."""
    return {"plan": PlanCommand()}
