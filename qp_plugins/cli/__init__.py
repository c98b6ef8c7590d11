"""The `qp` command: finds its subcommands through the hook `qp_commands`, one file each."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from qp_core import Command, Plugins, QuantumPartitionerError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Its arguments; those of the process, if None.

    Returns:
        The exit code: 0 done, 1 not done, 2 used wrongly, 130 stopped by Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="qp", description="Run graphs of dependent work in parallel.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands: Mapping[str, Command] = Plugins.installed().provided("commands")
    for name, command in commands.items():
        command.configure(subparsers.add_parser(name, help=command.help, description=command.help))
    args = parser.parse_args(arguments)
    try:
        return commands[args.command].run(args)
    except QuantumPartitionerError as error:
        print(f"qp {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"qp {args.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 1
