"""What an ingestion did: counted while it runs, reported when it is over."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from atlas_adapters.ingestion.errors import UnreadableDocumentError
from atlas_adapters.ingestion.sources import Document, Failure
from qp_core import ExecutionResult, UnitFinished, UnitState

__all__ = ["STAGES", "IngestReport", "Tally"]

STAGES: Final = ("extract", "chunk", "index")
"""The steps of each document, in order; a unit's name is a step's, `_` and the document's key."""


@attrs.frozen(kw_only=True)
class IngestReport:
    """What an ingestion did.

    Attributes:
        mode: How the units ran, or `none` if nothing had to.
        workers: How many could run at once.
        n_readers: Processes that read for them.
        n_indexed: Documents that were new or had changed.
        n_unchanged: Documents that were in the index as they are.
        n_removed: Documents that are in the index no more because they are gone.
        n_ignored: Files that are no documents by their suffix, and folders that are not entered.
        n_passages: Passages written.
        n_units: Units run.
        failures: What could not be indexed, and why.
        wall_s: From the first look to the last write.
        units_wall_s: That part of it in which units ran.
        stages_s: Time in the units of each stage, all workers together.
        critical_path_s: The longest chains of dependent units, window after window: no number of workers is faster.
    """

    mode: str
    workers: int
    n_readers: int
    n_indexed: int
    n_unchanged: int
    n_removed: int
    n_ignored: int
    n_passages: int
    n_units: int
    failures: tuple[Failure, ...]
    wall_s: float
    units_wall_s: float
    stages_s: Mapping[str, float]
    critical_path_s: float

    @property
    def n_documents(self) -> int:
        """Documents met, those that failed included."""
        return self.n_indexed + self.n_unchanged + len(self.failures)

    @property
    def parallel_efficiency(self) -> float:
        """The share of the workers' time that went into units; 1 is perfect."""
        offered = self.units_wall_s * self.workers
        return sum(self.stages_s.values()) / offered if offered else 0.0


@attrs.define(eq=False)
class Tally:
    """What has been counted so far; one thread at a time writes it.

    Args:
        on_progress: Told how many documents are done, and how many have been met.
    """

    on_progress: Callable[[int, int], object]
    mode: str = "none"
    workers: int = 0
    n_readers: int = 0
    n_met: int = 0
    n_indexed: int = 0
    n_unchanged: int = 0
    n_ignored: int = 0
    n_passages: int = 0
    n_units: int = 0
    n_done: int = 0
    units_wall_s: float = 0.0
    critical_path_s: float = 0.0
    stages_s: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(STAGES, 0.0))
    failures: list[Failure] = attrs.Factory(list)
    _chains_s: dict[str, float] = attrs.Factory(dict)

    def qp_unit_finished(self, event: UnitFinished) -> None:
        """Count a unit's time, and its document if the unit is the last of one; the engine calls this after each unit."""
        stage, _, key = event.unit_id.partition("_")
        if event.started is not None:
            took = event.ended - event.started
            self.stages_s[stage] += took
            self._chains_s[key] = self._chains_s.get(key, 0.0) + took
        if stage == STAGES[-1] and event.state is not UnitState.CANCELED:  # skipped, if an earlier one failed
            self.document_done()

    def document_done(self, n: int = 1) -> None:
        """Count documents that need no more work, or will get none."""
        if n:
            self.n_done += n
            self.on_progress(self.n_done, self.n_met)

    def add(self, documents: Sequence[Document], result: ExecutionResult[Any]) -> None:
        """Count what a graph did, in the order in which its documents were listed.

        Args:
            documents: What it was made of.
            result: What it returned.
        """
        report = result.report
        self.mode, self.workers = report.mode, max(self.workers, report.max_workers or 1)
        self.n_units += len(report.units)
        self.units_wall_s += report.wall_s
        self.critical_path_s += max(self._chains_s.values(), default=0.0)
        self._chains_s.clear()
        failed = result.failed
        for document in documents:
            indexed = f"index_{document.key}"
            if indexed in result:
                n_passages = result[indexed]
                self.n_unchanged += n_passages is None
                self.n_indexed += n_passages is not None
                self.n_passages += n_passages or 0
            else:
                self.failures.append(Failure(source=document.source, reason=_reason(document, failed)))

    def report(self, n_removed: int, wall_s: float) -> IngestReport:
        """Sum up.

        Args:
            n_removed: Documents taken out of the index.
            wall_s: How long everything took.

        Returns:
            The report.
        """
        return IngestReport(
            mode=self.mode,
            workers=self.workers,
            n_readers=self.n_readers,
            n_indexed=self.n_indexed,
            n_unchanged=self.n_unchanged,
            n_removed=n_removed,
            n_ignored=self.n_ignored,
            n_passages=self.n_passages,
            n_units=self.n_units,
            failures=tuple(self.failures),
            wall_s=wall_s,
            units_wall_s=self.units_wall_s,
            stages_s=dict(self.stages_s),
            critical_path_s=self.critical_path_s,
        )


def _reason(document: Document, failed: Mapping[str, BaseException]) -> str:
    """Why a document is not indexed: what its one failed unit raised, or that the run was stopped before it."""
    for stage in STAGES:
        error = failed.get(f"{stage}_{document.key}")
        if isinstance(error, UnreadableDocumentError):
            return error.reason
        if error is not None:
            return f"{stage}: {type(error).__name__}: {error}"
    return "not reached: the run was stopped"
