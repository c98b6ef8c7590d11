import argparse
import json
import math
import os
import subprocess
import sys

import pytest

from atlas_adapters import ingestion
from atlas_adapters.ingestion import show
from atlas_adapters.ingestion.commands import qp_commands
from qp_core import Command


@pytest.fixture
def qp():
    """Runs a subcommand as `qp` would: `qp("ask", "parrot")`; a usage error is a SystemExit."""

    def run(name, *arguments):
        parser = argparse.ArgumentParser()
        command = qp_commands()[name]
        command.configure(parser)
        return command.run(parser.parse_args([str(one) for one in arguments]))

    return run


@pytest.fixture
def indexed(qp, folder, write, index_dir, capsys, monkeypatch):
    """An index of two files, one of them unreadable; made so fast that progress is told once, whatever the machine does."""
    monkeypatch.setattr(show, "_PLAIN_S", math.inf)
    write("a.md", "# Birds\n\nThe parrot rests.\n")
    write("b.md", b"\0")
    assert qp("ingest", folder, "--index", index_dir) == 0
    return capsys.readouterr()


def test_both_commands_are_commands():
    """By name; each says in a line what it is for."""
    commands = qp_commands()
    assert list(commands) == ["ask", "ingest"]
    for command in commands.values():
        configured: Command = command
        assert configured.help


def test_ingest_prints_a_table_with_the_failures(indexed, folder):
    """Progress goes to the standard error; that one file failed is no failure of the job."""
    assert "documents            1 indexed, 0 unchanged, 1 failed\n" in indexed.out
    assert "units                6 (thread, " in indexed.out
    for name in ("passages", "wall time", "critical path", "parallel efficiency", "seconds in units"):
        assert f"\n{name} " in indexed.out
    assert f"failures             1\n  {folder}/b.md: binary, not text: a NUL at byte 0\n" in indexed.out
    assert indexed.err == "ingest: 2 of 2 documents\n"


def test_ask_prints_passages_with_their_sources(indexed, qp, folder, index_dir, capsys):
    """Then a table; a question without an answer says so."""
    assert qp("ask", "where do parrots rest?", "what of whales?", "??", "--index", index_dir, "-k", 2) == 0
    out = capsys.readouterr().out
    question, title, source, *text = out.splitlines()[:5]
    assert (question, title, text) == (
        "where do parrots rest?",
        " 1. Birds",
        ["      # Birds", "      The parrot rests."],
    )
    assert f"{folder}/a.md:1".endswith(source.strip().removeprefix("…"))
    assert "what of whales?\n    no passage holds a word of this question\n" in out
    assert "??\n    there is no word in this question\n" in out
    assert "passages             1 for 3 questions\nunits                3 (thread, " in out


def test_both_speak_json(qp, write, folder, index_dir, capsys):
    """One object each, with everything that the table has."""
    path = write("a.md", "# Birds\n\nThe parrot rests.\n")
    assert qp("ingest", folder, "--index", index_dir, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_documents"], report["n_indexed"], report["failures"]) == (1, 1, [])
    assert qp("ask", "parrots", "whales", "--index", index_dir, "--json") == 0
    found, missed = json.loads(capsys.readouterr().out)["answers"]
    assert found["passages"][0]["source"] == str(path)
    assert (missed["question"], missed["passages"], missed["error"]) == ("whales", [], None)


def test_a_missing_index_is_an_error_with_the_next_step(qp, index_dir):
    """Nothing is made by asking."""
    with pytest.raises(ingestion.IndexMissingError, match="make one with: qp ingest --index"):
        qp("ask", "parrot", "--index", index_dir)
    assert not index_dir.exists()


def test_a_question_that_could_not_be_put_says_why(indexed, qp, index_dir, capsys, monkeypatch):
    """The index may break between two questions."""

    def ask(question, *_):
        raise ingestion.IndexUnusableError("here", f"gone with {question!r}")

    monkeypatch.setattr("atlas_adapters.ingestion.questions._ask", ask)
    assert qp("ask", "parrot", "--index", index_dir) == 1
    out = capsys.readouterr().out
    assert "parrot\n    could not be put: the index in 'here' cannot be used: gone with 'parrot'\n" in out
    assert "failures             1" in out


@pytest.mark.slow
def test_the_terminal_shows_the_progress_and_no_log(write, folder, index_dir):
    """What failed stands in the table; the engine's warning would say it again, in its own words."""
    write("a.md", b"\0")
    program = "import sys; from qp_plugins.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "ingest", str(folder), "--index", str(index_dir)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "ingest: 1 of 1 documents\n")


@pytest.mark.parametrize("content", [None, b"\0"], ids=["no path", "nothing readable"])
def test_nothing_done_is_exit_code_1(qp, folder, write, index_dir, capsys, content):
    """A path that is not there, or only files that cannot be read."""
    path = folder / "nowhere" if content is None else write("a.md", content)
    assert qp("ingest", path, "--index", index_dir) == 1
    assert str(path) in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask",),
        ("ask", "x", "-k", "0"),
        ("ask", "x", "-k", "a"),
        ("ingest", "--workers", "-1"),
        ("ingest", "--mode", "fast"),
    ],
    ids=["no question", "k of 0", "k of a", "workers of -1", "unknown mode"],
)
def test_wrong_usage_is_exit_code_2(qp, arguments, capsys):
    """Before anything is done."""
    with pytest.raises(SystemExit) as caught:
        qp(*arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


QUESTIONS = {
    "how do I compute a CRC of some bytes?": {"zlib.crc32", "binascii.crc32"},
    "how can I read a zip archive?": {"zipfile.ZipExtFile", "zipfile.ZipFile", "zipfile.PyZipFile", "zipfile"},
    "what does the with statement do?": {'The "with" statement', "With Statement Context Managers"},
}


@pytest.mark.slow
def test_the_main_job_answers_questions_about_python(qp, write, index_dir, tmp_path, monkeypatch, capsys):
    """Without a path: Python's own documentation and the folder docs/. Again: everything is unchanged."""
    (tmp_path / "docs").mkdir()
    design = tmp_path / "docs" / "design.md"
    design.write_text("# Design\n\nUnits and parrots.\n")
    os.utime(design, (1, 1))
    monkeypatch.chdir(tmp_path)
    assert qp("ingest", "--index", index_dir, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["n_indexed"] > 500
    assert first["failures"] == []
    assert first["n_units"] == 3 * first["n_indexed"]
    assert qp("ingest", "--index", index_dir, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["n_indexed"], second["n_unchanged"], second["n_units"]) == (0, first["n_indexed"], 0)
    assert qp("ask", *QUESTIONS, "parrots", "--index", index_dir, "-k", 3, "--json") == 0
    *answers, parrots = json.loads(capsys.readouterr().out)["answers"]
    for answer in answers:
        titles = {passage["title"] for passage in answer["passages"]}
        expected = QUESTIONS[answer["question"]]
        assert any(one in title or title.endswith(".crc32") for one in expected for title in titles), (titles, expected)
    assert parrots["passages"][0]["title"] == "Design"


@pytest.mark.slow
def test_the_commands_are_light_until_they_run():
    """`qp` loads them whenever it starts: without SQLite, without parsers."""
    program = (
        "import sys, qp_core; before = set(sys.modules)\n"
        "import atlas_adapters.ingestion.commands\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlite3", "html.parser", "multiprocessing"} & set(loaded)
    own = [name for name in loaded if name.startswith("atlas_adapters.ingestion.")]
    assert own == ["atlas_adapters.ingestion.commands"]


def test_every_public_name_is_there():
    """Imported when it is first used; another is an AttributeError."""
    assert ingestion.__all__ == sorted(ingestion.__all__)
    for name in ingestion.__all__:
        assert getattr(ingestion, name).__module__.startswith("atlas_adapters.ingestion.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ingestion.nothing
