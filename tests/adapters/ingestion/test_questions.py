import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_adapters.ingestion.index import PassageIndex
from atlas_adapters.ingestion.questions import match_of, names_in
from atlas_adapters.ingestion.sources import Document, Kind

TEXTS = ["the parrot rests", "select drop table", "with statement and context", "crc of bytes", "near by"]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Five passages, one of them with words that are syntax elsewhere."""
    with PassageIndex.create(tmp_path_factory.mktemp("index")) as opened:
        for i, text in enumerate(TEXTS):
            document = Document(path=f"/{i}", title=text, kind=Kind.TEXT, size_bytes=1, stamp="")
            opened.replace(document, text, b"", [("", "", 0, text)], 1)
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


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("zlib.crc32", "crc 32"),
        ("zipfile.ZipFile.open", "Zip File"),
        ("http.HTTPServer", "HTTP Server"),
        ("a.read_bytes", ""),
        ("The with statement", ""),
    ],
)
def test_the_words_inside_names_are_found(title, names):
    """Capitals and digits divide a name; underscores divide words anyway."""
    assert names_in(title) == names
