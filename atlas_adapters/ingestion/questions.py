"""From a question in plain words to a full-text query, and to the plan that answers several at once.

The query asks for any of the question's content words, each as a quoted string, so that nothing in a question is
taken for query syntax. A function word that may be meant as a name (`with`, `for`, `is`: Python's keywords) counts
together with the word after it: "the with statement" also asks for the phrase "with statement".
"""

import itertools
import keyword
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from atlas_adapters.ingestion.index import Passage, PassageIndex
from qp_core import ExecutionMode, QuantumPartitioner

__all__ = ["create_ask_plan", "match_of", "names_in"]

_MOST_WORDS: Final = 100  # a longer question is answered by its first hundred different words
_WORD: Final = re.compile(r"[^\W_]+(?:_+[^\W_]+)*")
_NAME: Final = re.compile(r"[^\W_]+")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")
_FUNCTION_WORDS: Final = """
    a about above after again all also am an and any are as at be because been before being below between both but by can
    could did do does doing done during each few for from further get had has have having he her here hers him his how i
    if in into is it its just let like may me might more most must my no nor not now of off on once one only or other our
    out over own please s same shall she should so some such t tell than that the their them then there these they this
    those through to too under until up upon us use used using very want was way we were what when where whether which
    while who whom whose why will with within without would yes you your
"""
_STOP_WORDS: Final = frozenset(_FUNCTION_WORDS.split())
_KEYWORDS: Final = frozenset(word.lower() for word in keyword.kwlist)


def names_in(title: str) -> str:
    """The words inside a title's names, where a search for whole words would miss them.

    Returns:
        `crc 32` for `zlib.crc32`, `Zip File` for `zipfile.ZipFile`; empty where each name is one word.
    """
    found = dict.fromkeys(
        part for name in _NAME.findall(title) if len(parts := _PART.findall(name)) > 1 for part in parts
    )
    return " ".join(found)


def match_of(question: str) -> str | None:
    """The full-text query for a question.

    Args:
        question: Any text.

    Returns:
        Quoted words joined by OR, in FTS5's language; None if there is no word in it.
    """
    words = _WORD.findall(question.casefold())
    content = [word for word in words if word not in _STOP_WORDS] or words
    terms: dict[str, None] = dict.fromkeys(content)
    for word, after in itertools.pairwise(words):
        if word in _STOP_WORDS and word in _KEYWORDS and after not in _STOP_WORDS:
            terms[f"{word} {after}"] = None
    return " OR ".join(f'"{term}"' for term in list(terms)[:_MOST_WORDS]) or None


def answer(question: str, index_dir: Path, k: int, context: object = None) -> tuple[Passage, ...]:
    """Answer one question; a unit's function.

    Args:
        question: In plain words.
        index_dir: Where the index is.
        k: How many passages at most.
        context: The unit's context, of which nothing is needed.

    Returns:
        Best first; none if no passage holds a word of the question.
    """
    del context
    match = match_of(question)
    with PassageIndex.read(index_dir) as index:
        return index.search(match, k) if match else ()


def create_ask_plan(
    questions: Sequence[str], *, index_dir: Path, k: int = 5, max_workers: int | None = None
) -> QuantumPartitioner[Any, Any]:
    """A plan that answers questions, each a unit of its own: `ask_0`, `ask_1`, ...

    Args:
        questions: In plain words.
        index_dir: Where the index is.
        k: How many passages each gets at most.
        max_workers: How many are answered at once.

    Returns:
        The plan; each unit's result is a tuple of passages, best first.
    """
    plan: QuantumPartitioner[Any, Any] = QuantumPartitioner(
        max_workers=max_workers, default_execution_mode=ExecutionMode.THREAD
    )
    for i, question in enumerate(questions):
        unit = partial(answer, question, index_dir.absolute(), k)
        plan.add_unit(unit, name=f"ask_{i}", metadata={"resource_type": "io"})
    return plan
