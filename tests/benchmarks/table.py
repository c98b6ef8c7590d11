"""The table of budgets: what a line of it says, how it is judged, and how it is printed."""

# ruff: noqa: RUF001  # micro and times are what they look like

from __future__ import annotations

import enum

import attrs

from tests.benchmarks.runner import Samples


class Verdict(enum.Enum):
    """How a line stands to its budget."""

    OK = "ok"
    NOT = "NOT"
    NOT_YET = "not yet"
    """Above a budget that is not due so far."""
    INFO = "-"
    """No budget: for the picture."""
    WRONG = "WRONG"
    """A contender's result was wrong, so it has no figure."""
    FAILED = "FAILED"
    """A contender could not be measured."""


class Form(enum.Enum):
    """What a budget limits."""

    TIMES = "times"
    """Ours at most so many times the reference."""
    LESS = "less"
    """Ours at least so many times less than the reference."""
    FIGURE = "figure"
    """Our figure itself, whatever the reference."""


@attrs.frozen
class Budget:
    """A limit, and whether it is due."""

    limit: float
    form: Form = Form.TIMES
    is_due: bool = attrs.field(default=True, kw_only=True)

    def __str__(self) -> str:
        return {
            Form.TIMES: f"≤ {self.limit:g}×",
            Form.LESS: f"≥ {self.limit:g}× less",
            Form.FIGURE: f"≤ {self.limit:g}",
        }[self.form]

    def verdict(self, ours: float, theirs: float | None) -> Verdict:
        """Judge our figure beside the reference's."""
        if self.form is Form.FIGURE or theirs is None:
            is_kept = ours <= self.limit
        elif self.form is Form.TIMES:
            is_kept = ours <= self.limit * theirs
        else:
            is_kept = ours * self.limit <= theirs
        if is_kept:
            return Verdict.OK
        return Verdict.NOT if self.is_due else Verdict.NOT_YET


@attrs.frozen(kw_only=True)
class Line:
    """One line of the table."""

    row: str
    what: str
    unit: str
    ours: float | None = None
    reference: str = ""
    theirs: float | None = None
    budget: Budget | None = None
    verdict: Verdict = Verdict.INFO
    note: str = ""

    @property
    def ratio(self) -> str:
        """Ours over the reference in the words of the budget, or in those that give more than 1."""
        if not self.ours or not self.theirs:
            return ""
        if self.ours < self.theirs if self.budget is None else self.budget.form is Form.LESS:
            return f"{self.theirs / self.ours:.2f}× less"
        return f"{self.ours / self.theirs:.2f}×"


def judge(
    line: Line,
    ours: Samples,
    theirs: Samples | None,
    key: str,
    *,
    their_key: str | None = None,
    beside: str | None = None,
) -> Line:
    """Fill a line with the least figures of both sides, and judge it.

    Args:
        line: Row, what, unit and budget.
        ours: Our samples.
        theirs: The reference's, if the row has one.
        key: The figure that is compared.
        their_key: The reference's figure, where it is called otherwise.
        beside: A figure that the note tells, for the picture; the other clock, as a rule.
    """
    troubles = [samples for samples in (ours, theirs) if samples is not None and samples.trouble]
    figure, reference = ours.least(key), theirs.least(their_key or key) if theirs else None
    line = attrs.evolve(line, ours=figure, theirs=reference)
    if troubles:
        is_wrong = any(samples.wrong for samples in troubles)
        reasons = "; ".join(f"{samples.spec.get('contender', '')} {samples.trouble}" for samples in troubles)
        return attrs.evolve(line, verdict=Verdict.WRONG if is_wrong else Verdict.FAILED, note=reasons)
    if beside is not None:
        told = [str_of(samples.least(beside)) for samples in (ours, theirs) if samples is not None]
        line = attrs.evolve(line, note=f"{beside_name(beside)} {' : '.join(told)}{line.note and '; '}{line.note}")
    if line.budget is None or figure is None:
        return line
    return attrs.evolve(line, verdict=line.budget.verdict(figure, reference))


def beside_name(key: str) -> str:
    """Name the clock or the counter of a figure."""
    return next((word for word in ("wall", "cpu", "alive") if f"_{word}_" in f"_{key}_"), key)


def str_of(value: float | None) -> str:
    """Write a figure with three digits that mean something."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


_WIDTHS = (3, 36, 11, 7, 26, 12, 10, 7)
_HEADS = ("row", "what", "unit", "ours", "reference", "ratio", "budget", "", "besides (ours : reference)")


def head() -> str:
    """Write the table's first two lines."""
    return f"{_row(_HEADS)}\n{_row(['-' * width for width in (*_WIDTHS, 26)])}"


def text_of(line: Line) -> str:
    """Write a line of the table."""
    reference = f"{line.reference} {str_of(line.theirs)}" if line.reference else ""
    budget = str(line.budget) if line.budget else ""
    cells = (line.row, line.what, line.unit, str_of(line.ours), reference, line.ratio, budget, line.verdict.value)
    return _row((*cells, line.note))


def _row(cells: tuple[str, ...] | list[str]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells[:-1], _WIDTHS, strict=True)]
    return "  ".join([*padded, cells[-1]]).rstrip()
