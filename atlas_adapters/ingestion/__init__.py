"""Documents into an index, questions to it: `qp ingest` and `qp ask`, and what they are made of.

The flow, in the order of the modules: `sources` and `library` (what documents there are), `extract` (bytes to entries; by
format in `prose` and `docstrings`), `readers` (the same in processes), `chunk` (entries to passages), `index` and `store`
(SQLite), `pipeline` and `tally` (all this as a graph of units, and what came of it), `questions` (asking), `commands` and `show`
(the command line).

Lexical search only: PDF, DOCX, embeddings and hybrid search are not here yet. Names are imported when first used,
since `qp` loads this package whenever it starts.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas_adapters.ingestion.errors import (
        IndexMissingError,
        IndexUnusableError,
        IngestionError,
        UnreadableDocumentError,
    )
    from atlas_adapters.ingestion.index import Passage, PassageIndex
    from atlas_adapters.ingestion.pipeline import create_ingest_plan, ingest
    from atlas_adapters.ingestion.questions import create_ask_plan
    from atlas_adapters.ingestion.sources import Document, Failure
    from atlas_adapters.ingestion.tally import IngestReport

__all__ = [
    "Document",
    "Failure",
    "IndexMissingError",
    "IndexUnusableError",
    "IngestReport",
    "IngestionError",
    "Passage",
    "PassageIndex",
    "UnreadableDocumentError",
    "create_ask_plan",
    "create_ingest_plan",
    "ingest",
]

_HOMES = {
    "Document": "sources",
    "Failure": "sources",
    "IndexMissingError": "errors",
    "IndexUnusableError": "errors",
    "IngestReport": "tally",
    "IngestionError": "errors",
    "Passage": "index",
    "PassageIndex": "index",
    "UnreadableDocumentError": "errors",
    "create_ask_plan": "questions",
    "create_ingest_plan": "pipeline",
    "ingest": "pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
