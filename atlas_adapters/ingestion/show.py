"""What the commands print: the progress line, passages, tables.

Everything that comes from outside (paths, titles, texts, reasons) is printed through `printable`, so that no file can
send control sequences to a terminal.
"""

import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, TextIO

from atlas_adapters.ingestion.chunk import spans
from atlas_adapters.ingestion.index import Passage
from atlas_adapters.ingestion.questions import match_of
from atlas_adapters.ingestion.tally import IngestReport
from qp_core import ExecutionResult

__all__ = [
    "Progress",
    "answer_lines",
    "counted",
    "ingest_table",
    "passage_lines",
    "printable",
    "table_lines",
    "width",
    "write",
]

_LINES: Final = 5  # of a passage
_FAILURES: Final = 50  # named one by one; a report in JSON names all
_REWRITE_S: Final = 0.1
_PLAIN_S: Final = 3.0
_SIGNATURE_END: Final = re.compile(r"\)\n--\n\n")
_IMPLICIT: Final = re.compile(r"\(\$\w+(?:, /)?(?:, )?")
_UNDERLINE: Final = re.compile(r"([=\-~^*#])\1{3,}\Z")


def width() -> int:
    """Columns to print in: those of the terminal, at most 120, at least 40."""
    return min(120, max(40, shutil.get_terminal_size().columns))


def printable(text: str) -> str:
    """The text with everything that is no printable character escaped.

    Returns:
        One line.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def write(text: str, stream: TextIO | None = None) -> None:
    """Print a line, with question marks for what the stream's encoding lacks.

    Args:
        text: The line.
        stream: Where to; by default the standard output.
    """
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")


class Progress:
    """One line that says how far the work is: rewritten on a terminal, elsewhere repeated every few seconds.

    Args:
        verb: What is being done.
        noun: To what.
        stream: Where to; by default the standard error.
    """

    def __init__(self, verb: str, noun: str, stream: TextIO | None = None) -> None:
        self._verb, self._noun = verb, noun
        self._stream = stream or sys.stderr
        self._rewrites = self._stream.isatty()
        self._next = time.monotonic() + (0.0 if self._rewrites else _PLAIN_S)
        self._text = ""

    def __call__(self, n_done: int, n_met: int) -> None:
        """Say it, unless it was said just now."""
        self._text = f"{self._verb}: {n_done} of {n_met} {self._noun}"
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (_REWRITE_S if self._rewrites else _PLAIN_S)
            self._stream.write(f"\r{self._text}\x1b[K" if self._rewrites else f"{self._text}\n")
            self._stream.flush()
            if not self._rewrites:
                self._text = ""  # the line has its end

    def close(self) -> None:
        """Leave the last state on a line of its own."""
        if self._text:
            self._stream.write(f"\r{self._text}\x1b[K\n" if self._rewrites else f"{self._text}\n")
            self._stream.flush()
            self._text = ""


def counted(n: int, noun: str) -> str:
    """A number with its noun, in the plural where that is due."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def table_lines(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Lay names and values out in two columns.

    Args:
        rows: Names with their values.

    Yields:
        A line each.
    """
    wide = max(len(name) for name, _ in rows)
    for name, value in rows:
        yield f"{name:<{wide}}  {value}"


def ingest_table(report: IngestReport) -> Iterator[str]:
    """Lay out what an ingestion did.

    Args:
        report: What it did.

    Yields:
        A line a fact, then the failures with their reasons.
    """
    removed = f", {report.n_removed} removed" if report.n_removed else ""
    ignored = f", {report.n_ignored} ignored" if report.n_ignored else ""
    counts = (
        f"{report.n_indexed} indexed, {report.n_unchanged} unchanged, {len(report.failures)} failed{removed}{ignored}"
    )
    each = " with a process each to read with" if report.n_readers else ""
    ran = f" ({report.mode}, {counted(report.workers, 'worker')}{each})" if report.n_units else ""
    rows = [
        ("documents", counts),
        ("passages", f"{report.n_passages} written"),
        ("units", f"{report.n_units}{ran}"),
        ("wall time", f"{report.wall_s:.2f} s"),
        ("critical path", f"{report.critical_path_s:.2f} s"),
    ]
    if report.n_units:
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages_s.items())
        rows += [("parallel efficiency", f"{report.parallel_efficiency:.0%}"), ("seconds in units", stages)]
    rows.append(("failures", str(len(report.failures)) if report.failures else "none"))
    yield from table_lines(rows)
    for failure in report.failures[:_FAILURES]:
        yield f"  {printable(failure.source)}: {printable(failure.reason)}"
    if len(report.failures) > _FAILURES:
        yield f"  and {len(report.failures) - _FAILURES} more; --json names them all"


def passage_lines(number: int, passage: Passage, columns: int) -> Iterator[str]:
    """Lay out one passage: its title, where it stands, and the lines of it that say most about the question.

    Args:
        number: Its rank.
        passage: What was found.
        columns: How wide a line may be.

    Yields:
        Lines that fit.
    """
    lead = f"{number:>2}. "
    yield f"{lead}{_cut(printable(passage.title), columns - len(lead))}"
    place = f":{passage.line}" if passage.line else ""  # `file:line`, which editors and terminals understand
    source = printable(passage.source)
    room = columns - 4 - len(place)
    yield f"    {source if len(source) <= room else '…' + source[1 - room :]}{place}"
    for line in _snippet(passage, columns - 6):
        yield f"      {line}"


def _snippet(passage: Passage, room: int) -> Iterator[str]:
    """A few lines in a row that hold the most of the question's words, the earliest such ones."""
    lines = list(_lines(passage, room))
    starts = range(max(1, len(lines) - _LINES + 1))
    start = max(starts, key=lambda i: len(set().union(*(words for _, words in lines[i : i + _LINES]))))
    if start:
        yield "…"
    for line, _ in lines[start : start + _LINES]:
        yield _cut(printable(line), room)
    if start + _LINES < len(lines):
        yield "…"


def _lines(passage: Passage, room: int) -> Iterator[tuple[str, set[str]]]:
    """A passage's lines, paragraphs in one line wrapped, each with the question's words in it.

    Left out are blank lines, underlines, the indentation of the place where a docstring stands, and what only the
    interpreter needs of a compiled one's signature.

    Yields:
        Lines that fit, in order.
    """
    raw = passage.text.split("\n")
    is_compiled = _SIGNATURE_END.search(passage.text) is not None
    margin = min((_indent(line) for line in raw[1:] if line.strip()), default=0)
    place = 0
    for number, line in enumerate(raw):
        lead = " " * (_indent(line) - margin if number else 0)
        wrapped = (
            max(room // 2, room - len(lead)) if len(line) > room * 1.25 else len(line) + 1
        )  # else cut: an orphan is worse
        for first, last in spans(line, wrapped):
            text = line[first:last].expandtabs(4)
            if is_compiled and number == 0:
                text = _IMPLICIT.sub("(", text, count=1)
            if not (is_compiled and text == "--") and not _UNDERLINE.match(text):
                yield lead + text, {passage.text[a:b].casefold() for a, b in passage.hits if first <= a - place < last}
        place += len(line) + 1


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())


def answer_lines(questions: Sequence[str], result: ExecutionResult[Any], columns: int) -> Iterator[str]:
    """Lay out the passages of each question, then what the run took.

    Args:
        questions: As they were asked, in the order of the plan's units.
        result: What `create_ask_plan`'s plan returned.
        columns: How wide a line may be.

    Yields:
        Lines that fit.
    """
    failed = result.failed
    n_passages = 0
    for i, question in enumerate(questions):
        unit_id = f"ask_{i}"
        yield _cut(printable(question), columns)
        if unit_id in failed:
            yield f"    could not be put: {printable(str(failed[unit_id]))}"
        elif unit_id in result and not result[unit_id]:
            yield (
                "    no passage holds a word of this question"
                if match_of(question)
                else "    there is no word in this question"
            )
        for number, passage in enumerate(result.get(unit_id, ()), start=1):
            n_passages += 1
            yield from passage_lines(number, passage, columns)
        yield ""
    report = result.report
    yield from table_lines([
        ("passages", f"{n_passages} for {counted(len(questions), 'question')}"),
        ("units", f"{len(report.units)} ({report.mode}, {counted(report.max_workers or 1, 'worker')})"),
        ("wall time", f"{report.wall_s * 1000:.1f} ms"),
        ("critical path", f"{report.critical_path_s * 1000:.1f} ms"),
        ("parallel efficiency", f"{report.parallel_efficiency:.0%}"),
        ("failures", str(len(failed)) if failed else "none"),
    ])


def _cut(line: str, room: int) -> str:
    return line if len(line) <= room else f"{line[: room - 1].rstrip()}…"
