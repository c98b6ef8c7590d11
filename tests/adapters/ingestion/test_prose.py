import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_adapters.ingestion.prose import WebPage, cut, markdown_headings, underlined_headings

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


PAGE = """<!DOCTYPE html><html><head><title> A
 page </title><style>p { color: red }</style><script>var hidden = "<p>script</p>";</script></head>
<body><h1>First &amp; <em>foremost</em></h1><p>One   two
three &lt;four&gt;</p><ul><li>five<li>six</ul><template><p>template</p></template>
<h2>Second</h2><pre>  kept
    as it is</pre><p>seven<br>eight</p></body></html>"""


def test_a_page_is_the_text_that_a_reader_sees():
    """Blocks are paragraphs; scripts, styles and templates are not seen."""
    page = WebPage(PAGE)
    assert page.title == "A page"
    assert "One two three <four>\n\nfive\n\nsix" in page.text
    assert "  kept\n    as it is" in page.text
    assert "seven\n\neight" in page.text
    assert not any(word in page.text for word in ("color", "hidden", "script", "template"))


def test_headings_cut_a_page_into_sections():
    """Their places are those in the text, not in the markup."""
    page = WebPage(PAGE)
    entries = cut(page.text, page.headings, page.title)
    assert [entry.title for entry in entries] == ["A page > First & foremost", "A page > First & foremost > Second"]
    assert all(page.text[entry.start :].startswith(entry.text) for entry in entries)


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("plain", "plain"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("<h1>open", "open"),
        ("</script>seen", "seen"),
        ("a<script>never closed", "a"),
        ("<h2><h3>b</h2>c", "b\n\nc"),
        ("&nosuch; &#xD800; &#0;", "&nosuch; � �"),
        ("", ""),
    ],
    ids=["text", "no end tags", "open heading", "stray end", "open script", "crossed", "odd references", "empty"],
)
def test_broken_markup_is_read_as_well_as_it_can_be(markup, text):
    """As browsers do, nothing is an error."""
    assert WebPage(markup).text.strip() == text


def test_many_headings_take_linear_time():
    """A heading looks at its own text only."""
    page = WebPage("<h2>title</h2><p>text</p>" * 20_000)
    assert len(page.headings) == 20_000
