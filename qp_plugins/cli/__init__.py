"""The `qp` command: finds its subcommands through the hook `qp_commands`, one file each."""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from qp_core import Command, Plugins, QuantumPartitionerError
from qp_plugins.cli.target import UsageError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Its arguments; those of the process, if None.

    Returns:
        The exit code: 0 done, 1 not done, 2 used wrongly, 130 stopped by Ctrl-C.

    Raises:
        SystemExit: The arguments cannot be parsed (2), or only help was wanted (0); argparse has said so.
    """
    asked = "qp"
    try:
        commands: Mapping[str, Command] = Plugins.installed().provided("commands")
        args = _parser(commands).parse_args(arguments)
        asked = f"qp {args.command}"
        code = commands[args.command].run(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can still be told that it failed
    except UsageError as error:
        _tell(f"{asked}: {error}")
        return 2
    except QuantumPartitionerError as error:
        _tell(f"{asked}: {error}")
        return 1
    except KeyboardInterrupt:
        _tell(f"{asked}: stopped")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _give_up_output()
        return 1
    except OSError as error:
        _give_up_output()
        _tell(f"{asked}: {error}")
        return 1
    return code


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qp", description="Run graphs of dependent work in parallel.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"qp {version('quantum-partitioner')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in commands.items():
        try:
            command.configure(argparse.ArgumentParser())  # on trial, since a subparser cannot be taken away again
            about = str(command.help)
        except Exception as error:  # noqa: BLE001 - a command that is broken is left out, and must not stop the others
            _tell(f"qp: the command {name!r} is broken and left out: {type(error).__name__}: {error}")
            continue
        help_ = about.replace("%", "%%")  # argparse formats it
        command.configure(subparsers.add_parser(name, help=help_, description=about, allow_abbrev=False))
    return parser


def _tell(text: str) -> None:
    """Say something on standard error, if there is somebody to hear it."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            encoding = sys.stderr.encoding or "utf-8"
            print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True)


def _give_up_output() -> None:
    """Let go what cannot be written: else the interpreter tries again when it ends, and complains."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
