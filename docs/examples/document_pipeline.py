"""The seed's pipeline for documents: what is in each, cut into pieces, as vectors, in one index.

    extract_0 ──> chunk_0 ──> embed_0 ─┐
    extract_1 ──> chunk_1 ──> embed_1 ─┼──> index_embeddings
    ...                                ┘

In the seed's own loop only extraction belonged to each document; here chunks and embeddings do too. The documents are
topics of the language reference that Python carries along, and one web page. The embedding model is a small real one that needs
no files: each word has its place in the vector, found by hashing (Weinberger and others, 2009, "Feature hashing").
"""

import logging
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pydoc_data.topics import topics
from typing import Any

from qp_core import ExecutionContext, QuantumPartitioner

CHUNK_CHARS = 600
SMALL_WORDS = frozenset("a an and are as be by can for if in is it not of on or that the this to with".split())  # noqa: SIM905 - reads better than a list

Vector = dict[int, float]
"""A sparse vector of length 1: only the places that are not 0."""


@dataclass(frozen=True)
class Document:
    """What comes in."""

    id: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class Embedded:
    """A piece of a document with its vector."""

    document_id: str
    text: str
    vector: Vector


class _TextOf(HTMLParser):
    """Collects the text of a web page, a line for each piece, without scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's shape
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.pieces.append(data.strip())


def extract_text(document: Document) -> str:
    """The text of a document; ValueError where we cannot read its kind."""
    if document.media_type == "text/plain":
        return document.content.decode()
    if document.media_type == "text/html":
        parser = _TextOf()
        parser.feed(document.content.decode())
        return "\n\n".join(parser.pieces)
    msg = f"document {document.id!r} is {document.media_type}, which is not read here"
    raise ValueError(msg)


def chunk_text(text: str) -> list[str]:
    """Paragraphs put together as long as they fit; one that is too long stays whole."""
    chunks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        piece = " ".join(paragraph.split())
        if chunks and len(chunks[-1]) + len(piece) < CHUNK_CHARS:
            chunks[-1] = f"{chunks[-1]} {piece}"
        else:
            chunks.append(piece)
    return chunks


class HashingModel:
    """Embeds texts: the more often a word stands in one, the larger its place; then all vectors are made equally long."""

    def __init__(self, dimensions: int = 4096) -> None:
        self.dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector a text."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        words = Counter(word for word in re.findall(r"[a-z]+", text.lower()) if word not in SMALL_WORDS)
        weights: Vector = {}
        for word, count in words.items():
            place = zlib.crc32(word.encode()) % self.dimensions
            weights[place] = weights.get(place, 0.0) + 1 + math.log(count)
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {place: weight / length for place, weight in weights.items()}


def generate_embeddings(chunks: Sequence[str], model: HashingModel, document_id: str) -> list[Embedded]:
    """The pieces of one document with their vectors."""
    return [Embedded(document_id, text, vector) for text, vector in zip(chunks, model.embed(chunks), strict=True)]


class Index:
    """Finds the pieces that are nearest to a question."""

    def __init__(self, pieces: Sequence[Embedded], model: HashingModel) -> None:
        self.pieces = pieces
        self._model = model

    def nearest(self, question: str) -> Embedded:
        """The piece whose vector is most like the question's; the first among equals."""
        (asked,) = self._model.embed([question])
        return max(self.pieces, key=lambda piece: sum(asked[place] * piece.vector.get(place, 0.0) for place in asked))


def index_embeddings(ctx: ExecutionContext, model: HashingModel) -> Index:
    """One index over all documents, in the order in which they came in."""
    return Index([piece for pieces in ctx.unit_results.values() for piece in pieces], model)


def create_document_pipeline(
    documents: Sequence[Document], embedding_model: HashingModel
) -> QuantumPartitioner[dict[str, Any], Any]:
    """Create parallel document processing pipeline."""
    partitioner: QuantumPartitioner[dict[str, Any], Any] = QuantumPartitioner(max_workers=4)
    for i, doc in enumerate(documents):
        partitioner.add_unit(
            fn=lambda ctx, d=doc: extract_text(d),  # noqa: ARG005 - a unit is given its context
            dependencies=[],
            name=f"extract_{i}",
            metadata={"document_id": doc.id, "resource_type": "cpu"},
        )
        partitioner.add_unit(
            fn=lambda ctx, i=i: chunk_text(ctx[f"extract_{i}"]),
            dependencies=[f"extract_{i}"],
            name=f"chunk_{i}",
            metadata={"document_id": doc.id, "resource_type": "cpu"},
        )
        partitioner.add_unit(
            fn=lambda ctx, i=i, d=doc, model=embedding_model: generate_embeddings(ctx[f"chunk_{i}"], model, d.id),
            dependencies=[f"chunk_{i}"],
            name=f"embed_{i}",
            metadata={"document_id": doc.id, "resource_type": "io"},
        )
    embedding_units = [f"embed_{i}" for i in range(len(documents))]
    partitioner.add_unit(
        fn=lambda ctx, model=embedding_model: index_embeddings(ctx, model),
        dependencies=embedding_units,
        name="index_embeddings",
    )
    return partitioner


PAGE = b"""<html><head><style>p {color: grey}</style></head><body>
<h1>Quantum partitioning</h1>
<p>A partitioner splits work into units, and runs each as soon as the units that it depends on are done.</p>
</body></html>"""


def library() -> list[Document]:
    """Some topics, a web page, and a picture that nobody here can read."""
    names = ("with", "lambda", "exceptions", "slicings", "typesmapping", "operator-summary", "try", "formatstrings")
    texts = [Document(name, "text/plain", topics[name].encode()) for name in names]
    return [*texts, Document("page", "text/html", PAGE), Document("picture", "image/png", b"\x89PNG")]


def main(mode: str = "thread") -> None:
    """Index what can be read, and ask."""
    logging.getLogger("qp_core").setLevel(logging.ERROR)  # the library warns of failed units; here one is the point
    documents, model = library(), HashingModel()
    partitioner = create_document_pipeline(documents, model)
    print(partitioner.build_execution_plan())

    results = partitioner.execute({}, execution_mode=mode)
    for unit_id, error in results.failed.items():
        print(f"{unit_id} failed: {error}")
    print(f"skipped: {list(results.skipped)}")

    readable = [document for document in documents if document.media_type.startswith("text/")]
    results = create_document_pipeline(readable, model).execute({}, execution_mode=mode)
    index: Index = results["index_embeddings"]
    print(f"{len({piece.document_id for piece in index.pieces})} documents indexed, ok: {results.ok}")
    for question in ("anonymous function expression", "which units run as soon as others are done?", "dictionary keys"):
        print(f"{question!r} -> {index.nearest(question).document_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
