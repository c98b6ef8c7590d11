"""The subcommands `qp ingest` and `qp ask`.

Loaded whenever `qp` starts, so the machinery (SQLite, the parsers) is imported by the command that runs.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import attrs

from qp_core import Command, hookimpl

__all__ = ["AskCommand", "IngestCommand", "qp_commands"]

_INDEX: Final = ".qp-index"
_MODES: Final = ("process", "thread", "sequential")


class IngestCommand:
    """`qp ingest`: documents into the index."""

    help = "index documents, or the documentation of Python itself, for questions"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments.

        Args:
            parser: The subcommand's own.
        """
        parser.description = (
            "Index files and folders of .md, .txt, .rst, .html and .py; without a PATH, what the running Python documents"
            " (language topics, the library's docstrings) and the folder docs/, if there is one here. A second run takes"
            " up only what changed."
        )
        parser.add_argument("paths", nargs="*", metavar="PATH", help="a file or a folder")
        _add_index(parser)
        parser.add_argument(
            "--mode",
            choices=_MODES,
            help="how units run (default: in threads, each with a process to read with if there is enough to do)",
        )
        parser.add_argument("--workers", type=_positive, metavar="N", help="units at once (default: one a core)")
        parser.add_argument("--rebuild", action="store_true", help="start from an empty index")
        _add_json(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Bring the index up to date.

        Args:
            args: What was asked for.

        Returns:
            0 when the job is done, though some files failed; 1 when nothing could be done.
        """
        from atlas_adapters.ingestion import pipeline, show  # noqa: PLC0415 - see the module's docstring
        from qp_core import ExecutionMode  # noqa: PLC0415

        docs = Path("docs")
        paths = args.paths or ([docs] if docs.is_dir() else [])
        with _said_by_us(), closing(show.Progress("ingest", "documents")) as progress:
            report = pipeline.ingest(
                paths,
                index_dir=args.index,
                library=not args.paths,
                execution_mode=ExecutionMode(args.mode) if args.mode else None,
                max_workers=args.workers,
                rebuild=args.rebuild,
                on_progress=progress,
            )
        if args.json:
            efficiency = report.parallel_efficiency
            _write_json({"n_documents": report.n_documents, "parallel_efficiency": efficiency, **attrs.asdict(report)})
        else:
            for line in show.ingest_table(report):
                show.write(line)
        return 0 if report.n_indexed or report.n_unchanged else 1


class AskCommand:
    """`qp ask`: questions to the index."""

    help = "find the passages that answer a question"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments.

        Args:
            parser: The subcommand's own.
        """
        parser.description = "Find the passages that fit a question best, with their sources. Ingest documents first."
        parser.add_argument("questions", nargs="+", metavar="QUESTION", help="in plain words, quoted")
        _add_index(parser)
        parser.add_argument("-k", type=_positive, default=5, metavar="N", help="passages a question (default: 5)")
        _add_json(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Answer the questions.

        Args:
            args: What was asked for.

        Returns:
            0 when at least one question could be put, whether or not there is an answer; else 1.
        """
        from atlas_adapters.ingestion import show  # noqa: PLC0415 - see the module's docstring
        from atlas_adapters.ingestion.index import PassageIndex  # noqa: PLC0415
        from atlas_adapters.ingestion.questions import create_ask_plan  # noqa: PLC0415

        folder = Path(args.index)
        PassageIndex.read(folder).close()  # so that a missing index is one error, not one for each question
        with _said_by_us():
            result = create_ask_plan(args.questions, index_dir=folder, k=args.k).execute({})
        if args.json:
            failed = {unit_id: str(error) for unit_id, error in result.failed.items()}
            answers = [
                {
                    "question": question,
                    "passages": [attrs.asdict(passage) for passage in result.get(f"ask_{i}", ())],
                    "error": failed.get(f"ask_{i}"),
                }
                for i, question in enumerate(args.questions)
            ]
            _write_json({"answers": answers, "wall_s": result.report.wall_s})
        else:
            for line in show.answer_lines(args.questions, result, show.width()):
                show.write(line)
        return 0 if result else 1


@hookimpl
def qp_commands() -> Mapping[str, Command]:
    """The commands of this package, by name."""
    return {"ask": AskCommand(), "ingest": IngestCommand()}


@contextmanager
def _said_by_us() -> Iterator[None]:
    """Keep the engine's log off the terminal, unless somebody has set logging up: the commands themselves say what failed."""
    log, handler = logging.getLogger("qp_core"), logging.NullHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _add_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", default=_INDEX, metavar="DIR", help=f"the folder of the index (default: {_INDEX})")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        msg = f"{text!r} is no whole number from 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _write_json(data: object) -> None:
    sys.stdout.write(json.dumps(data, indent=2) + "\n")
