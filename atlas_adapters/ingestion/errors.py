"""What ingestion and search raise on purpose.

IngestionError (QuantumPartitionerError)
├─ UnreadableDocumentError   one document cannot be read; ends that document alone
├─ IndexMissingError         a question was asked where no index is
└─ IndexUnusableError        there is a file, but no index that this version can use

Each class words itself; who raises passes facts.
"""

import attrs

from qp_core import QuantumPartitionerError

_error = attrs.define(eq=False, slots=False)  # positional fields and a __dict__: the form that pickles whole


class IngestionError(QuantumPartitionerError):
    """Anything that the ingestion package raises on purpose."""


@_error
class UnreadableDocumentError(IngestionError):
    """A document that you asked to be indexed cannot be read as what it claims to be."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source!r} cannot be read: {self.reason}"


@_error
class IndexMissingError(IngestionError):
    """You asked a question of a folder that holds no index."""

    folder: str

    def __str__(self) -> str:
        return f"no index in {self.folder!r}; make one with: qp ingest --index {self.folder!r}"


@_error
class IndexUnusableError(IngestionError):
    """The folder that you named as the index cannot be used as one."""

    folder: str
    reason: str

    def __str__(self) -> str:
        return f"the index in {self.folder!r} cannot be used: {self.reason}"
