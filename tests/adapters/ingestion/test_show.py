import io
import re
from types import SimpleNamespace

import pytest

from atlas_adapters.ingestion import show
from atlas_adapters.ingestion.index import Passage
from atlas_adapters.ingestion.show import Progress, ingest_table, passage_lines, printable, write
from atlas_adapters.ingestion.sources import Failure
from atlas_adapters.ingestion.tally import IngestReport


def passage(text, *words, title="mod.name", source="/a/b.py", line=7):
    """A passage of the given text, found by the given words in it."""
    hits = tuple(match.span() for word in words for match in re.finditer(word, text))
    return Passage(
        key="k-0", title=title, source=source, line=line, start=5, end=5 + len(text), text=text, hits=hits, score=1.25
    )


def snippet(text, *words, columns=80):
    """The lines of it that are shown, without their margin."""
    return [line.removeprefix("      ") for line in list(passage_lines(1, passage(text, *words), columns))[2:]]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_lines_fit_and_sources_keep_their_end(columns):
    """Whatever is long is cut: titles and texts at the end, paths at the beginning."""
    long = passage("word " * 500 + "\n" + "x" * 500, title="t" * 300, source="/" + "folder/" * 40 + "file.py")
    lines = list(passage_lines(1, long, columns))
    assert max(map(len, lines)) <= columns
    assert lines[0].endswith("t…")
    assert lines[1].strip().startswith("…")
    assert lines[1].endswith("/file.py:7")


def test_a_source_without_lines_has_no_number():
    """Compiled modules, pages, topics."""
    assert list(passage_lines(1, passage("x", source="lib.so", line=0), 80))[1] == "    lib.so"


def test_a_few_lines_of_a_passage_are_shown():
    """Blank lines do not count; without a word of the question in any, the first ones."""
    assert snippet("\n\n".join("abcdefg")) == ["a", "b", "c", "d", "e", "…"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("g", "…cdefg…"),
        ("ag", "abcde…"),
        ("agi", "…efghi…"),
        ("l", "…hijkl"),
    ],
    ids=["one word", "the earliest of two", "two at once", "at the end"],
)
def test_the_lines_with_most_words_of_the_question_are_shown(words, shown):
    """In a row; what is left out before and behind is told."""
    assert "".join(snippet("\n".join("abcdefghijkl"), *words)) == shown


def test_long_lines_are_wrapped_at_words_and_keep_their_indentation():
    """Nothing of a paragraph is out of sight because it is one line; a line that is hardly too long is cut."""
    text = "head\n  one two three four five six seven eight nine ten\nback to words that do not quite fit\n"
    assert snippet(text, "nine", columns=40) == [
        "head",
        "  one two three four five six",
        "  seven eight nine ten",
        "back to words that do not quite f…",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("crc32($module, data, value=0, /)\n--\n\nCompute.", ["crc32(data, value=0, /)", "Compute."]),
        ("read($self, /)\n--\n\n", ["read()"]),
        ("f($module, /, a=None)\n--\n\nDo.", ["f(a=None)", "Do."]),
        ("Title\n=====\n\nText\n--\n", ["Title", "Text", "--"]),
        (
            'def f(self):\n        """Do.\n\n            More.\n        """',
            ["def f(self):", '"""Do.', "    More.", '"""'],
        ),
        ("a\tb", ["a   b"]),
    ],
    ids=["compiled", "compiled method", "keywords only", "heading", "docstring", "tab"],
)
def test_docstrings_are_shown_as_people_write_them(text, shown):
    """Without what only the interpreter needs, and without the indentation of the place where they stand."""
    assert snippet(text) == shown


def test_nothing_that_is_indexed_reaches_the_terminal_as_a_command():
    """Escape sequences, bells, line feeds and reversed text in paths, titles and passages."""
    evil = "\x1b]0;title\x07 a\rb\u202e\x9b2J"
    text = "\n".join(passage_lines(1, passage(evil, title=evil, source=evil), 80))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert printable("a\nb\x1b") == "a\\nb\\x1b"


def test_a_stream_that_lacks_letters_gets_question_marks():
    """A log in ASCII does not stop the command."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write("a é 漢 \udcff", stream)
    stream.flush()
    assert raw.getvalue() == b"a ? ? ?\n"


@pytest.fixture
def clock(monkeypatch):
    """What the progress looks at: a time that a test sets."""
    time = SimpleNamespace(now=100.0, monotonic=lambda: time.now)
    monkeypatch.setattr(show, "time", time)
    return time


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_rewrites_one_line_of_a_terminal(clock):
    """Ten times a second at most; and ends it with the last state."""
    stream = _Terminal()
    progress = Progress("ingest", "documents", stream)
    for done in range(1000):
        progress(done + 1, 1000)
        clock.now += 1 / 1024
    progress.close()
    progress.close()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\ringest: 1000 of 1000 documents\x1b[K\n")
    assert text.count("\r") == 10 + 1


def test_progress_is_plain_lines_elsewhere(clock):
    """A short job gets one, at its end; nothing to do gets none."""
    stream = io.StringIO()
    progress = Progress("ingest", "documents", stream)
    progress(1, 2)
    progress(2, 2)
    progress.close()
    Progress("ingest", "documents", stream).close()
    assert stream.getvalue() == "ingest: 2 of 2 documents\n"


def test_progress_of_a_long_job_is_a_line_now_and_then(clock):
    """None is said twice, though the job ends just after the last one."""
    stream = io.StringIO()
    progress = Progress("ingest", "documents", stream)
    for done in range(1, 5):
        progress(done, 4)
        clock.now += 1.5
    progress.close()
    assert stream.getvalue() == "ingest: 3 of 4 documents\ningest: 4 of 4 documents\n"
    progress = Progress("ingest", "documents", stream := io.StringIO())
    clock.now += 3
    progress(4, 4)
    progress.close()
    assert stream.getvalue() == "ingest: 4 of 4 documents\n"


def report(**facts):
    """What an ingestion of nothing did, but for the given facts."""
    nothing = {
        "mode": "none",
        "failures": (),
        "stages_s": {},
        "wall_s": 0.0,
        "units_wall_s": 0.0,
        "critical_path_s": 0.0,
    }
    counts = dict.fromkeys(
        ("workers", "n_readers", "n_indexed", "n_unchanged", "n_removed", "n_ignored", "n_passages", "n_units"), 0
    )
    return IngestReport(**(nothing | counts | facts))


def test_a_table_names_so_many_failures_and_counts_the_others():
    """A folder of pictures with the wrong suffix shall not scroll the table away."""
    failures = tuple(Failure(source=f"/{i}", reason="odd") for i in range(60))
    lines = list(ingest_table(report(failures=failures)))
    assert "failures       60" in lines
    assert lines[-2:] == ["  /49: odd", "  and 10 more; --json names them all"]


@pytest.mark.parametrize(
    ("facts", "row"),
    [
        ({"n_units": 3, "mode": "thread", "workers": 1}, "3 (thread, 1 worker)"),
        (
            {"n_units": 3, "mode": "thread", "workers": 2, "n_readers": 2},
            "3 (thread, 2 workers with a process each to read with)",
        ),
        ({}, "0"),
    ],
    ids=["one", "readers", "nothing to do"],
)
def test_a_table_says_how_units_ran(facts, row):
    """With how many workers, and what they had."""
    units = next(line for line in ingest_table(report(**facts)) if line.startswith("units"))
    assert units.removeprefix("units").strip() == row
