import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_adapters.ingestion.chunk import TARGET_CHARS, chunk_rows, names_in, spans

texts = st.text(alphabet=st.sampled_from("ab. \n\té"), max_size=400) | st.text(max_size=400)


@given(texts, st.integers(1, 60))
def test_spans_cover_every_word_once_and_in_order(text, target):
    """Joined and split at white space, the spans are the words of the text: nothing lost, cut or repeated."""
    pieces = [text[start:stop] for start, stop in spans(text, target)]
    assert [word for piece in pieces for word in re.split(r"\s+", piece)] == re.findall(r"\S+", text)


@given(texts, st.integers(1, 60))
def test_a_span_is_too_long_only_if_it_is_one_word(text, target):
    """No span is longer than asked for, unless a single word is; none begins or ends with white space."""
    for start, stop in spans(text, target):
        piece = text[start:stop]
        assert piece == piece.strip()
        assert len(piece) <= target or not re.search(r"\s", piece)


def test_a_text_that_fits_is_one_span():
    """Exactly the target length still fits; white space around it does not count."""
    text = "  " + "x" * TARGET_CHARS + "\n"
    assert list(spans(text)) == [(2, 2 + TARGET_CHARS)]


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2003"], ids=["empty", "white space", "an em space"])
def test_nothing_but_white_space_has_no_spans(text):
    """There is nothing to quote in it."""
    assert list(spans(text)) == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("aaaa bbbb.\n\ncc. dd\nee ff gg", "aaaa bbbb."),
        ("aaaa bbbb\ncc. dd ee ff gg hh", "aaaa bbbb"),
        ("aaaa bbbb. cc dd ee ff gg hh", "aaaa bbbb."),
        ("aaaa bbbb cc dd ee ff gg hh", "aaaa bbbb cc dd ee"),
    ],
    ids=["a paragraph", "else a line", "else a sentence", "else a word"],
)
def test_a_span_ends_where_most_ends(text, first):
    """A paragraph before a line, a line before a sentence, a sentence before a word."""
    start, stop = next(spans(text, 18))
    assert text[start:stop] == first


def test_a_long_text_of_one_word_takes_linear_time():
    """32 MB without white space is one span; a second pass over the text for each window would never end."""
    text = "x" * (32 << 20)
    assert list(spans(text)) == [(0, len(text))]


def test_a_long_text_of_short_lines_takes_linear_time():
    """2.8 MB are cut in passing, not in minutes."""
    text = "word and word\n" * 200_000
    assert sum(1 for _ in spans(text)) > len(text) // TARGET_CHARS


def test_a_passage_has_its_place_and_the_number_of_its_line():
    """Counted from where its part begins; a part without lines has none."""
    text = "".join(f"line {i}\n\n" for i in range(300))
    for line, numbers in ((11, [11 + text.count("\n", 0, start) for start, _ in spans(text)]), (0, [0, 0, 0])):
        rows = list(chunk_rows([("zlib.crc32", 5, line, text)]))
        assert [row[3] for row in rows] == numbers
        assert [row[2] - 5 for row in rows] == [start for start, _ in spans(text)]
        assert {row[:2] for row in rows} == {("zlib.crc32", "crc 32")}


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
