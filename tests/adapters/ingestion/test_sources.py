import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from atlas_adapters.ingestion import sources
from atlas_adapters.ingestion.sources import Document, Failure, Ignored, Kind, list_path, printable_path


def listed(path):
    """All that a path lists as."""
    return list(list_path(str(path)))


def names(folder, kind=Document):
    """The names of one kind of what is below a folder, sorted."""
    return sorted(os.path.relpath(one.source, folder) for one in listed(folder) if isinstance(one, kind))


def test_documents_are_told_by_their_suffix_in_any_case(folder, write):
    """The others are counted as ignored."""
    for name in ("a.md", "b.TXT", "c.rst", "d.Html", "e.py", "f.pdf", "g", "h.md.bak"):
        write(name)
    assert [one.kind for one in listed(folder) if isinstance(one, Document)] == [
        Kind.MARKDOWN,
        Kind.TEXT,
        Kind.RST,
        Kind.HTML,
        Kind.PYTHON,
    ]
    assert names(folder, Ignored) == ["f.pdf", "g", "h.md.bak"]


def test_folders_are_walked_to_any_depth(folder, write):
    """Sixty folders deep."""
    deep = "/".join(["d"] * 60) + "/deep.md"
    write(deep)
    write("top.md")
    assert names(folder) == [deep, "top.md"]


def test_a_file_may_be_named_itself(write):
    """Then its title is its name."""
    path = write("a.md", "x")
    (document,) = listed(path)
    assert (document.path, document.title, document.size_bytes) == (str(path), "a.md", 1)


ODD_NAMES = [
    " .md",
    "a b.md",
    "quote'\".md",
    "new\nline.md",
    "emoji 😀.md",
    "-rf.md",
    "\u202ertl.md",
    "%s{0}.md",
    "x" * 200 + ".md",
]


def test_odd_names_are_names(folder, write):
    """Spaces, quotes, line feeds, emoji, dashes, right to left, format codes."""
    for name in ODD_NAMES:
        write(name)
    assert names(folder) == sorted(ODD_NAMES)


def test_a_name_that_is_no_text_is_escaped_and_stays_unique(folder):
    """Bytes that are no UTF-8, and a name that is spelt like their escape, are two documents with two keys."""
    raw = folder / os.fsdecode(b"\xff.md")
    try:
        raw.touch()
    except OSError:
        pytest.skip("this file system takes only text for a name")
    (folder / "\\xff.md").touch()
    documents = listed(folder)
    assert {Path(one.source).name for one in documents} == {"\\xff.md"}
    assert len({one.key for one in documents}) == 2
    assert all(one.key.encode() for one in documents)
    assert printable_path(str(raw)).endswith("\\xff.md")


def test_links_that_lead_in_a_ring_end(folder, write):
    """A folder is listed under its own path, once; a link to itself fails."""
    write("a/one.md")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b").symlink_to(folder / "a")
    (folder / "a" / "self").symlink_to(folder / "a" / "self")
    assert names(folder) == ["a/one.md"]
    assert names(folder, Failure) == ["a/self"]


def test_a_link_to_another_folder_is_followed_once(folder, write, tmp_path):
    """The second link to it adds nothing."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "two.md").touch()
    (folder / "x").symlink_to(other)
    (folder / "y").symlink_to(other)
    assert names(folder) == ["x/two.md"]


def test_what_cannot_be_looked_at_is_a_failure_with_its_reason(folder, tmp_path):
    """Dangling links, pipes, paths that are not there."""
    (folder / "gone.md").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.txt")
    found = {Path(one.source).name: one.reason for one in listed(folder)}
    assert found == {"gone.md": "no such file", "pipe.txt": "no regular file"}
    assert [one.reason for one in listed(tmp_path / "nowhere")] == ["no such file"]


def test_folders_without_documents_of_yours_are_not_entered(folder, write):
    """Version control, caches, environments; a hidden folder is like any other."""
    for name in (
        ".git/a.md",
        "node_modules/b.md",
        "__pycache__/c.py",
        "env/pyvenv.cfg",
        "env/lib/d.py",
        ".hidden/e.md",
    ):
        write(name)
    assert names(folder) == [".hidden/e.md"]
    assert names(folder, Ignored) == [".git", "__pycache__", "env", "node_modules"]


@pytest.mark.parametrize(("age_ns", "is_empty"), [(-1, True), (0, True), (1_999_999_999, True), (2_000_000_000, False)])
def test_a_stamp_is_empty_at_first(write, monkeypatch, age_ns, is_empty):
    """A file changed this very moment may change again without a new time, so its stamp is not to be trusted."""
    path = write("a.md", "x")
    now = path.stat().st_mtime_ns + age_ns
    monkeypatch.setattr(sources, "time", SimpleNamespace(time_ns=lambda: now))
    assert (listed(path)[0].stamp == "") == is_empty


def test_a_stamp_changes_with_time_and_size(write):
    """With either of them, and with nothing else."""
    path = write("a.md", "x")
    stamps = []
    for at, content in ((1000, "x"), (1000, "xy"), (2000, "xy"), (2000, "ab")):
        path.write_text(content)
        os.utime(path, (at, at))
        stamps.append(listed(path)[0].stamp)
    assert all(stamps)
    assert [stamps.index(one) for one in stamps] == [0, 1, 2, 2]
