"""Ranking, measured on a judged collection: nDCG@10, binary gain, mean over 225 questions."""

import json
import math
from collections import defaultdict
from pathlib import Path

import pytest

from atlas_adapters.ingestion import PassageIndex, ingest
from atlas_adapters.ingestion.questions import answer

CRANFIELD = Path(__file__).parents[4] / "shared" / "data" / "cranfield"
LEAST = 0.36  # BM25 with stems and stop words reaches .382 on whole documents


def read(name):
    """The records of one file of the collection."""
    with (CRANFIELD / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.slow
@pytest.mark.skipif(not CRANFIELD.is_dir(), reason="../shared/data/cranfield is not beside this repository")
def test_ranking_is_as_good_as_lexical_search_gets(folder, index_dir):
    """A document's rank is that of its best passage."""
    for record in read("docs.jsonl"):
        path = folder / f"{record['id']}.txt"
        path.write_text(
            f"{record['title']}\n{'=' * max(3, len(record['title']))}\n\n{record['text']}\n", encoding="utf-8"
        )
    assert ingest([folder], index_dir=index_dir).n_indexed == 1400
    relevant = defaultdict(set)
    for line in (CRANFIELD / "qrels.tsv").read_text().splitlines():
        query, document, relevance = line.split("\t")
        if relevance.isdigit() and int(relevance) > 0:
            relevant[query].add(document)
    gains = []
    with PassageIndex.read(index_dir) as index:
        for query in read("queries.jsonl"):
            found = dict.fromkeys(Path(one.source).stem for one in answer(query["text"], index, 60))
            right = relevant[str(query["id"])]
            gain = sum(1 / math.log2(rank) for rank, one in enumerate(list(found)[:10], start=2) if one in right)
            gains.append(gain / sum(1 / math.log2(rank) for rank in range(2, 2 + min(10, len(right)))))
    assert sum(gains) / len(gains) >= LEAST
