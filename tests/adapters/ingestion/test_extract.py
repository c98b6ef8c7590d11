import os

import pytest

from atlas_adapters.ingestion.errors import UnreadableDocumentError
from atlas_adapters.ingestion.extract import extract

TEXT = "Grüße\n=====\n\nЖњ 漢字 😀\n"


def texts(found):
    """The texts of what was extracted."""
    return [entry.text for entry in found.entries]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"], ids=["UTF-8", "UTF-8 with a mark", "UTF-16", "UTF-32"]
)
def test_text_is_read_in_every_unicode_encoding_that_says_so(extracted, encoding):
    """By its byte order mark, which is no part of the text."""
    found = extracted("a.txt", TEXT.encode(encoding))
    assert (found.title, texts(found)) == ("Grüße", [TEXT])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.md", b"caf\xe9", "no utf-8 text: byte 0xe9 at 3; save it as UTF-8"),
        ("a.md", b"\xff\xfe\x00", "no utf-16-le text: byte 0x00 at 2; save it as UTF-8"),
        ("a.txt", b"ab\0c", "binary, not text: a NUL at byte 2"),
        ("a.html", b"<meta charset=no-such>", "unknown encoding 'no-such'; save it as UTF-8"),
        ("a.html", b"<meta charset=rot13>", "unknown encoding 'rot13'; save it as UTF-8"),
        ("a.html", b"<meta charset='ascii'>\xff", "no ascii text: byte 0xff at 22; save it as UTF-8"),
        ("a.py", b"def f(:\n", "no Python of this version in line 1: invalid syntax"),
        ("a.py", b"# coding: no-such\n", "no Python of this version: unknown encoding: no-such"),
        ("a.py", b"x = 1\0", "binary, not text: a NUL at byte 5"),
        ("a.py", b"(" * 5000 + b")" * 5000, "too many nested parentheses|nested too deeply"),
        ("a.py", b"-" * 500_000 + b"1", "too many nested|nested too deeply"),
        ("a.txt", "a\0b".encode("utf-16"), "binary, not text: it holds NUL characters"),
    ],
    ids=["Latin 1", "half a letter", "NUL", "HTML in an unknown encoding", "no text encoding", "HTML in another encoding", "no Python",
         "Python in an unknown encoding", "Python with NUL", "deep Python", "deeper Python", "UTF-16 with NUL"],
)  # fmt: skip
def test_what_cannot_be_read_says_why(extracted, name, content, reason):
    """The place and the next step, where there is one."""
    with pytest.raises(UnreadableDocumentError) as caught:
        extracted(name, content)
    assert any(one in caught.value.reason for one in reason.split("|")), caught.value.reason
    assert caught.value.source.endswith(name)


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.rst", "a.html", "a.py"])
def test_an_empty_file_is_a_document_without_entries(extracted, name):
    """Of every kind; that is no failure."""
    assert extracted(name, b"").entries == ()


def test_places_count_the_characters_of_the_file(extracted):
    """Line ends stay as they are."""
    content = "\r\n# Ä\r\n\r\nä ö ü\r\n## Ö\r\n\tß\r\n"
    found = extracted("a.md", content)
    assert found.title == "Ä"
    assert all(content[one.start : one.start + len(one.text)] == one.text for one in found.entries)
    assert [one.title for one in found.entries] == ["Ä", "Ä > Ö"]


def test_html_says_its_encoding_or_is_utf_8(extracted):
    """A page that says UTF-16 in ASCII is UTF-8."""
    assert texts(extracted("a.html", "<meta charset=latin-1><p>café".encode("latin-1"))) == ["café"]
    assert texts(extracted("b.html", "<meta charset=utf-16><p>café".encode())) == ["café"]


def test_python_says_its_encoding(extracted):
    """In its first two lines."""
    assert texts(extracted("a.py", '# -*- coding: latin-1 -*-\n"""café"""\n'.encode("latin-1"))) == ['"""café"""']


@pytest.mark.parametrize(
    ("name", "module"),
    [("a.py", "a"), ("b/c.py", "c"), ("d/__init__.py", "__init__")],
    ids=["file", "nested", "package"],
)
def test_a_file_named_itself_is_a_module_of_its_own(extracted, name, module):
    """Its package is not known."""
    assert extracted(name, '"""x"""').title == module


def test_the_same_content_is_not_extracted_again(write, listed):
    """The hash decides, not the time."""
    document = listed(write("a.md", "# A\na"))
    known = extract(document).content_hash
    again = extract(document, known)
    assert (again.entries, again.content_hash) == (None, known)
    write("a.md", "# A\nb")
    assert extract(document, known).entries


def test_a_file_that_vanished_or_became_a_folder_says_so(write, listed):
    """Between listing and reading anything may happen."""
    path = write("a.md")
    document = listed(path)
    path.unlink()
    with pytest.raises(UnreadableDocumentError, match="no such file"):
        extract(document)
    path.mkdir()
    with pytest.raises(UnreadableDocumentError, match="is a directory"):
        extract(document)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(UnreadableDocumentError, match="no regular file"):
        extract(document)


def test_a_file_past_the_limit_is_refused_before_it_is_read(write, listed):
    """The limit itself is still allowed."""
    document = listed(write("a.md", "x" * 100))
    assert extract(document, max_bytes=100).entries
    with pytest.raises(UnreadableDocumentError, match="too large: 100 bytes, the limit is 99"):
        extract(document, max_bytes=99)


def test_a_forbidden_file_says_so(public_folder, as_nobody, listed):
    """The others of its folder are no concern of it."""
    path = public_folder / "a.md"
    path.touch()
    document = listed(path)
    path.chmod(0o000)
    with pytest.raises(UnreadableDocumentError, match="permission denied"):
        as_nobody(lambda: extract(document))
