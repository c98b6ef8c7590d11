import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_adapters.ingestion.sections import cut, markdown_headings, underlined_headings

lines = st.sampled_from(["# One", "## Two", "text", "", "=====", "-----", "```", "~~~", "  ", "a b c", "#no"])
texts = st.lists(lines, max_size=30).map("\n".join)


def titles(text, headings=markdown_headings, title="doc"):
    """The titles of the entries that a text is cut into."""
    return [entry.title for entry in cut(text, headings(text), title)]


@given(texts | st.text(max_size=300), st.sampled_from([markdown_headings, underlined_headings]))
def test_entries_are_slices_that_cover_the_text(text, headings):
    """Put together in order, the entries are the text, but for white space at its end."""
    entries = cut(text, headings(text), "doc")
    assert all(text[entry.start : entry.start + len(entry.text)] == entry.text for entry in entries)
    assert "".join(entry.text for entry in entries).rstrip() == text.rstrip()


def test_a_section_stands_under_the_titles_that_lead_to_it():
    """A deeper heading adds to the path, a higher one cuts it back."""
    text = "intro\n# A\na\n## B\nb\n### C\nc\n## D\nd\n# E\ne\n"
    assert titles(text) == ["doc", "doc > A", "doc > A > B", "doc > A > B > C", "doc > A > D", "doc > E"]


def test_a_heading_that_repeats_the_title_is_not_named_twice():
    """The first heading of most documents is their title."""
    assert titles("# Doc\na\n## B\nb\n## C\nc\n") == ["doc", "doc > B", "doc > C"]


def test_a_heading_alone_stays_with_what_follows():
    """No entry is a bare heading, and no heading is lost."""
    text = "# A\n\n## B\nb\n"
    (entry,) = cut(text, markdown_headings(text), "doc")
    assert (entry.title, entry.text) == ("doc > A > B", text)


def test_a_heading_at_the_end_is_kept():
    """Nothing follows that it could stay with."""
    assert titles("a\n# Last\n") == ["doc", "doc > Last"]


@pytest.mark.parametrize(
    "text",
    [
        "```\n# no\n```\n",
        "~~~\n# no\n",
        "````\n```\n# no\n````\n",
        "#no\n",
        "    # no\n",
        "a\n\n---\n",
        "---\ntitle: # no\n---\na\n",
    ],
    ids=["fence", "open fence", "fence in a fence", "no space", "indented code", "a rule", "front matter"],
)
def test_what_only_looks_like_a_markdown_heading_is_none(text):
    """Code, rules and front matter are text."""
    assert titles(text) == ["doc"]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# A #\na", "A"),
        ("A\n===\na", "A"),
        ("A\n---\na", "A"),
        ("## `x` y\r\na", "`x` y"),
        ("#\ta\nb", "a"),
        ("```\ncode\n```\n# A\na", "A"),
    ],
    ids=["closed", "underlined", "underlined twice", "CRLF", "tab", "after a fence"],
)
def test_markdown_headings_of_each_form_are_found(text, title):
    """Hashes and underlines, whatever ends the line."""
    assert [heading.title for heading in markdown_headings(text)] == [title]


def test_underlined_headings_rank_by_the_order_of_their_styles():
    """As docutils does: the first style met is the highest."""
    text = "=====\nTitle\n=====\n\na\n\nPart\n====\n\nb\n\nSub\n---\n\nc\n\nPart 2\n======\n\nd\n"
    assert titles(text, underlined_headings) == [
        "doc > Title",
        "doc > Title > Part",
        "doc > Title > Part > Sub",
        "doc > Title > Part 2",
    ]


@pytest.mark.parametrize(
    "text",
    ["a longer line\n---\n", "a\n\n----\n\nb", "==== ====\na    b\n==== ====\n", "--\n", "----\n====\n"],
    ids=["too short", "a transition", "a table", "two signs", "two adornments"],
)
def test_what_only_looks_like_an_underlined_heading_is_none(text):
    """Transitions, tables and short dashes are text."""
    assert list(underlined_headings(text)) == []


def test_titles_have_a_limit():
    """A page of text above an underline is shown as a title of 200 characters."""
    (entry,) = cut("a", [], "x" * 10_000)
    assert len(entry.title) == 200
