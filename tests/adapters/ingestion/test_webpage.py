import pytest

from atlas_adapters.ingestion.sections import cut
from atlas_adapters.ingestion.webpage import WebPage

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
