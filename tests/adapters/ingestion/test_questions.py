import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_adapters.ingestion.index import Passage, PassageIndex
from atlas_adapters.ingestion.questions import answer, best, match_of
from atlas_adapters.ingestion.sources import Document, Kind

TEXTS = ["the parrot rests", "select drop table", "with statement and context", "crc of bytes", "near by"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Five passages, one of them with words that are syntax elsewhere."""
    with PassageIndex.create(tmp_path_factory.mktemp("index")) as opened:
        for i, text in enumerate(TEXTS):
            document = Document(path=f"/{i}", title=text, kind=Kind.TEXT, size_bytes=1, stamp="")
            opened.replace(document, text, b"", [("", "", 0, 1, text)], 1)
        yield opened


@pytest.mark.parametrize(
    ("question", "match"),
    [
        ("how do I compute a CRC of some bytes?", '"compute" OR "crc" OR "bytes"'),
        ("what does the with statement do?", '"statement" OR "with statement"'),
        ("what is it?", '"what" OR "is" OR "it"'),
        ("read_bytes read_bytes", '"read_bytes"'),
        ("Ärger, 漢字!", '"ärger" OR "漢字"'),
        ("?!", None),
        ("", None),
    ],
    ids=[
        "content words",
        "a keyword meant as a name",
        "function words only",
        "names",
        "other scripts",
        "no words",
        "nothing",
    ],
)
def test_a_question_becomes_a_query(question, match):
    """Content words, and a keyword with the word after it."""
    assert match_of(question) == match


@pytest.mark.parametrize(
    "question",
    [
        '"', 'parrot"', '" OR "1', "parrot AND NOT (", "title:parrot", "{title names}: x", "par*", "^parrot", "NEAR(a b, 2)",
        "a + b", "-", "'; DROP TABLE chunk; --", "parrot\0rests", "\udcff", "\ufffe", "%s", "(" * 5000, "parrot " * 20_000,
        " ".join(map(str, range(20_000))), "\U0001d429arrot", "\u017f", "x" * 100_000,
    ],
)  # fmt: skip
def test_no_question_is_taken_for_query_syntax(index, question):
    """Whatever is asked is looked for as words; the index is as it was."""
    match = match_of(question)
    passages = index.search(match, 5) if match else ()
    assert (len(passages) > 0) == ("parrot" in question or "NEAR" in question or "DROP" in question)
    assert index.counts() == (len(TEXTS), len(TEXTS))


@given(st.text(max_size=60) | st.text(alphabet="\"'()*^:+-{}~ abORNEAT.,_", max_size=60))
def test_any_text_can_be_asked(index, question):
    """Nothing that can be typed makes SQLite fail."""
    match = match_of(question)
    assert match is None or isinstance(index.search(match, 3), tuple)


def test_the_phrase_with_a_keyword_ranks_first(index):
    """Though "with" alone says nothing."""
    match = match_of("what does the with statement do?")
    assert index.search(match, 1)[0].text == "with statement and context"


def found(title, score=1.0, *, text=None, source="/a", continues=False):
    """A passage that the index found."""
    text = text or f"text of {title}"
    return Passage(
        key="k", title=title, source=source, line=1, start=0, end=9, text=text, continues=continues, score=score
    )


@pytest.mark.parametrize(
    ("question", "better", "worse"),
    [
        ("x", found("A"), found("B", continues=True)),
        ("x", found("mod.f"), found("mod.A.f")),
        ("x", found("mod.A.f"), found("mod._f")),
        ("x", found("mod.__len__"), found("mod._len")),
        ("read a zip archive", found("zipfile.ZipFile"), found("shutil.unpack_archive")),
        ("is it so?", found("a"), found("isolated.a")),
        ("x", found("A title (of two. words)"), found("a.b")),
        ("x", found("B", 1.0), found("A", 0.99)),
    ],
    ids=["a section's beginning", "a short name", "a public name", "a special method", "a module that is named",
         "two letters name no module", "a title is no name", "the score decides otherwise"],
)  # fmt: skip
def test_what_readers_look_for_comes_first(question, better, worse):
    """Of passages that fit equally well."""
    for passages in ([better, worse], [worse, better]):
        assert best(passages, question, 2)[0].title == better.title


def test_equal_passages_keep_their_order():
    """So answers are the same every time."""
    assert [one.source for one in best([found("A", source=name) for name in "bca"], "x", 3)] == ["b"]
    many = [found("A", source=name, text=name) for name in "bca"]
    assert [one.source for one in best(many, "x", 3)] == ["b", "c", "a"]


def test_a_text_that_occurs_twice_is_shown_once():
    """However its heading is underlined; the better place wins."""
    twice = [found("A", 1, text="Title\n=====\ntext"), found("B", 2, text="Title\n*****\ntext")]
    assert [one.title for one in best(twice, "x", 5)] == ["B"]


def test_other_sections_come_before_a_sections_second_passage():
    """Which is still shown if there is room."""
    passages = [
        found("A", 4, text="a1"),
        found("A", 3, text="a2"),
        found("B", 2, text="b"),
        found("A", 1, text="a", source="/other"),
    ]
    assert [(one.text, one.source) for one in best(passages, "x", 4)] == [
        ("a1", "/a"),
        ("b", "/a"),
        ("a", "/other"),
        ("a2", "/a"),
    ]
    assert len(best(passages, "x", 2)) == 2


def test_a_question_is_answered_from_the_index(index):
    """By its words; without a word there is nothing to look for."""
    assert [one.text for one in answer("where do parrots rest?", index, 5)] == ["the parrot rests"]
    assert answer("?!", index, 5) == ()
