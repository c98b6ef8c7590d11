import multiprocessing
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from atlas_adapters.ingestion import store
from atlas_adapters.ingestion.errors import IndexMissingError, IndexUnusableError
from atlas_adapters.ingestion.index import BatchWriter, PassageIndex
from atlas_adapters.ingestion.sources import Document, Kind
from atlas_adapters.ingestion.store import FILE_NAME

CONTEXT = multiprocessing.get_context("spawn")


def document(path, *, stamp="1", library=False):
    """A document of which only the path matters."""
    return Document(path=path, title=path, kind=Kind.TEXT, size_bytes=1, stamp=stamp, library=library)


def chunks(*texts):
    """Passages of the given texts."""
    return [(f"title {i}", "", 100 * i, i + 1, text) for i, text in enumerate(texts)]


def put(index, path, *texts, run=1, **facts):
    """Index a document of the given texts."""
    index.replace(document(path, **facts), "title", b"hash", chunks(*texts), run)


def found(index, word):
    """The texts in which a word stands."""
    return sorted(passage.text for passage in index.search(f'"{word}"', 100))


@pytest.fixture
def index(index_dir):
    """An empty index."""
    with PassageIndex.create(index_dir) as opened:
        yield opened


def test_a_passage_is_found_with_its_place(index):
    """By the stem of a word in it."""
    put(index, "/a.md", "nothing", "the parrot rests")
    (passage,) = index.search('"parrots"', 5)
    assert (passage.source, passage.title, passage.start, passage.end) == ("/a.md", "title 1", 100, 116)
    assert passage.text == "the parrot rests"
    assert passage.score > 0


def test_a_changed_document_is_replaced_whole(index):
    """None of its old passages is found again, not even if it is empty now."""
    put(index, "/a.md", "parrot one", "parrot two", "parrot three")
    put(index, "/b.md", "parrot four")
    put(index, "/a.md", "parrot five")
    assert found(index, "parrot") == ["parrot five", "parrot four"]
    assert index.counts() == (2, 2)
    put(index, "/a.md")
    assert found(index, "parrot") == ["parrot four"]


def test_a_replacement_that_fails_changes_nothing(index):
    """The old passages stay, and the index goes on."""
    put(index, "/a.md", "parrot one", "parrot two")
    with pytest.raises(sqlite3.IntegrityError):
        index.replace(document("/a.md"), "title", b"hash", [*chunks("parrot three"), *chunks(None)], 2)
    assert found(index, "parrot") == ["parrot one", "parrot two"]
    put(index, "/a.md", "parrot four")
    assert found(index, "parrot") == ["parrot four"]


def test_passages_have_unique_keys_though_names_repeat(index):
    """Two files of one name in different folders, the same text in both: four passages, four keys."""
    put(index, "/a/index.md", "parrot x", "parrot y")
    put(index, "/b/index.md", "parrot z", "parrot w")
    keys = [passage.key for passage in index.search('"parrot"', 10)]
    assert len(set(keys)) == 4


def test_equal_scores_come_in_the_order_of_sources(index):
    """Whatever the order in which they were indexed."""
    for path in ("/c", "/b", "/a"):
        put(index, path, "the same parrot")
    assert [passage.source for passage in index.search('"parrot"', 10)] == ["/a", "/b", "/c"]


def test_a_passage_knows_where_the_words_stand_and_whether_it_begins_a_section(index):
    """In the text, by their stems; a text that holds the marks themselves has no such places."""
    rows = [("A", "", 0, 1, "Parrots; a parrot"), ("A", "", 20, 2, "one parrot"), ("B", "", 40, 3, "\x02 parrot\x03")]
    index.replace(document("/a"), "title", b"", rows, 1)
    found = {passage.line: passage for passage in index.search('"parrot" OR "parrots"', 10)}
    assert {line: one.hits for line, one in found.items()} == {1: ((0, 7), (11, 17)), 2: ((4, 10),), 3: ()}
    assert {line: one.continues for line, one in found.items()} == {1: False, 2: True, 3: False}


def test_known_documents_are_told_by_path(index):
    """However many are asked for."""
    put(index, "/a", "x", stamp="7")
    many = [document(f"/{i}") for i in range(1200)]
    known = index.known([*many, document("/a")])
    assert {path: held.stamp for path, held in known.items()} == {"/a": "7"}
    assert known["/a"].content_hash == b"hash"
    index.touch([document("/a", stamp="8")], 2)
    assert index.known([document("/a")])["/a"].stamp == "8"


def test_only_what_is_gone_below_the_folder_is_removed(index, tmp_path):
    """Met by this run, still there, elsewhere, the library's: all these stay."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "there.md").touch()
    for path in (f"{root}/gone.md", f"{root}/there.md", f"{root}s/gone.md", f"{root}0", f"{tmp_path}/gone.md"):
        put(index, path, path, run=1)
    put(index, f"{root}/met.md", "met", run=2)
    put(index, f"{root}/lib.md", "lib", run=1, library=True)
    assert index.remove_below(str(root), 2) == 1
    assert index.counts() == (6, 6)
    assert index.remove_library(2) == 1
    assert index.counts() == (5, 5)


def test_runs_are_numbered_upwards(index, index_dir):
    """Whoever begins them."""
    assert index.begin_run() == 1
    with PassageIndex.create(index_dir) as other:
        assert other.begin_run() == 2


def _write_documents(folder, name, n):
    with PassageIndex.create(folder) as index:
        for i in range(n):
            put(index, f"/{name}/{i}", f"parrot {name} {i}")
            put(index, "/shared", *(f"shared {name} {i} part {part}" for part in range(3)))


def test_processes_write_one_index_at_once(index_dir):
    """Four make it and write it: every document is there, and one that all of them wrote has the passages of one writer."""
    writers = [CONTEXT.Process(target=_write_documents, args=(index_dir, name, 60)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with PassageIndex.read(index_dir) as index:
        assert index.counts() == (241, 243)
        assert len(found(index, "parrot")) == 100
        shared = found(index, "shared")
        assert len({text.rpartition(" part ")[0] for text in shared}) == 1
        assert len(shared) == 3


def test_threads_share_one_open_index(index):
    """Four write and ask at once, and nothing is lost."""

    def work(name):
        for i in range(40):
            put(index, f"/{name}/{i}", f"parrot {name} {i}")
            assert index.search('"parrot"', 1)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert index.counts() == (160, 160)


def test_a_reader_sees_what_is_written_meanwhile(index, index_dir):
    """Without being opened again."""
    put(index, "/a", "parrot one")
    with PassageIndex.read(index_dir) as reader:
        assert found(reader, "parrot") == ["parrot one"]
        put(index, "/b", "parrot two")
        assert found(reader, "parrot") == ["parrot one", "parrot two"]


def test_a_reader_cannot_write(index, index_dir):
    """A question changes nothing."""
    with PassageIndex.read(index_dir) as reader, pytest.raises(IndexUnusableError, match="readonly"):
        put(reader, "/a", "x")


def test_a_question_leaves_no_file_behind(index_dir):
    """Not even a log of changes, of which there were none."""
    with PassageIndex.create(index_dir) as index:
        put(index, "/a", "parrot")
    with PassageIndex.read(index_dir) as reader:
        assert found(reader, "parrot") == ["parrot"]
    assert [path.name for path in index_dir.iterdir()] == [FILE_NAME]


def test_questions_need_no_right_to_write(public_folder, as_nobody):
    """An index on a read-only disk can be asked; a closed index is one file."""
    folder = public_folder / "index"
    with PassageIndex.create(folder) as index:
        put(index, "/a", "parrot")
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]
    (folder / FILE_NAME).chmod(0o444)
    folder.chmod(0o555)

    def ask():
        with PassageIndex.read(folder) as reader:
            return found(reader, "parrot")

    assert as_nobody(ask) == ["parrot"]
    folder.chmod(0o755)


def test_no_index_says_how_to_make_one(index_dir):
    """Asking makes none."""
    with pytest.raises(IndexMissingError, match=r"no index in .*; make one with: qp ingest --index"):
        PassageIndex.read(index_dir)
    assert not index_dir.exists()


def test_an_index_that_is_just_being_made_is_missing_still(index_dir):
    """The file is there before its tables are; whoever asks in between is not told of another program's database."""
    index_dir.mkdir()
    (index_dir / FILE_NAME).touch()
    with pytest.raises(IndexMissingError):
        PassageIndex.read(index_dir)
    with closing(sqlite3.connect(index_dir / FILE_NAME, isolation_level=None)) as maker:
        maker.execute("PRAGMA journal_mode = WAL")
        maker.execute("BEGIN IMMEDIATE")
        maker.execute("CREATE TABLE run (number INTEGER NOT NULL)")
        with pytest.raises(IndexMissingError):
            PassageIndex.read(index_dir)
        maker.execute("ROLLBACK")
    PassageIndex.create(index_dir).close()
    PassageIndex.read(index_dir).close()


def _text_file(path):
    path.write_text("this is no database " * 100)


def _cut_short(path):
    with PassageIndex.create(path.parent) as index:
        put(index, "/a", *(f"parrot {i} " * 50 for i in range(200)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


@pytest.mark.parametrize("broken", [_text_file, _cut_short], ids=["text", "overwritten"])
def test_a_broken_file_is_named_and_can_be_made_anew(index_dir, broken):
    """Text, or a database with overwritten pages."""
    index_dir.mkdir()
    broken(index_dir / FILE_NAME)
    advice = pytest.raises(
        IndexUnusableError, match=r"cannot be used: .*; make it anew with: qp ingest --index .* --rebuild"
    )
    with advice, PassageIndex.create(index_dir) as index:
        put(index, "/b", "parrot")
    with PassageIndex.create(index_dir, rebuild=True) as index:
        put(index, "/a", "parrot")
        assert found(index, "parrot") == ["parrot"]


def test_another_programs_database_is_left_alone(index_dir):
    """Even if a rebuild was asked for."""
    index_dir.mkdir()
    with sqlite3.connect(index_dir / FILE_NAME) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    for rebuild in (False, True):
        with pytest.raises(IndexUnusableError, match="another program's database"):
            PassageIndex.create(index_dir, rebuild=rebuild)
    with pytest.raises(IndexUnusableError, match="another program's database"):
        PassageIndex.read(index_dir)
    connection = sqlite3.connect(index_dir / FILE_NAME)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


def test_an_index_of_another_form_says_so(index_dir):
    """And can be rebuilt."""
    PassageIndex.create(index_dir).close()
    connection = sqlite3.connect(index_dir / FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for opened in (PassageIndex.create, PassageIndex.read):
        with pytest.raises(IndexUnusableError, match="its form is 99, this version needs 2; make it anew"):
            opened(index_dir)
    PassageIndex.create(index_dir, rebuild=True).close()
    PassageIndex.read(index_dir).close()


def test_rebuilding_empties_an_index_under_whoever_has_it_open(index, index_dir):
    """The file stays the same, so no writer writes into a file that is gone."""
    put(index, "/a", "parrot")
    with PassageIndex.create(index_dir, rebuild=True) as other:
        assert other.counts() == (0, 0)
    put(index, "/b", "parrot")
    assert index.counts() == (1, 1)


def test_sqlite_without_full_text_search_is_named(index_dir, monkeypatch):
    """The reason and the next step; the real word for a module that is not there."""
    monkeypatch.setattr(store, "_TABLES", store._TABLES.replace("fts5", "no_such_fts"))
    with pytest.raises(
        IndexUnusableError, match=r"SQLite of this Python \(3\..*\) was built without FTS5.*; use another"
    ):
        PassageIndex.create(index_dir)
    monkeypatch.undo()
    PassageIndex.create(index_dir).close()


def batch(writer, *names):
    """Put documents of one passage each."""
    for name in names:
        writer.put(document(f"/{name}"), name, b"hash", chunks(f"parrot {name}"))


def test_documents_are_written_in_batches(index):
    """Whatever waits is written when the writer is closed."""
    writer = BatchWriter(index, 1, batch_documents=3)
    seen = []
    for name in "abcd":
        batch(writer, name)
        seen.append(index.counts()[0])
    writer.close()
    assert (seen, index.counts()) == ([0, 0, 3, 3], (4, 4))


def test_large_documents_make_small_batches(index):
    """So what waits in memory has a limit."""
    writer = BatchWriter(index, 1)
    writer.put(document("/a"), "a", b"", chunks("x" * 600_000))
    assert index.counts() == (0, 0)
    writer.put(document("/b"), "b", b"", chunks("y" * 600_000))
    assert index.counts() == (2, 2)


def test_a_document_without_new_passages_keeps_those_it_has(index):
    """Only that this run has met it is noted."""
    put(index, "/a", "parrot", run=1)
    with closing(BatchWriter(index, 2)) as writer:
        writer.put(document("/a"), "a", b"hash", None)
    assert found(index, "parrot") == ["parrot"]
    assert index.remove_below("/", 2) == 0


def test_threads_share_one_writer(index):
    """No document is lost between batches."""
    with closing(BatchWriter(index, 1, batch_documents=7)) as writer, ThreadPoolExecutor(4) as pool:
        for start in range(4):
            pool.submit(batch, writer, *(f"{start}/{i}" for i in range(50)))
    assert index.counts() == (200, 200)


def test_what_could_not_be_written_is_told_in_the_end(index):
    """The documents of a batch were done when the disk was found to be full: nobody may take them for indexed."""
    (pages,) = index._connection.execute("PRAGMA page_count").fetchone()
    index._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    writer = BatchWriter(index, 1, batch_documents=2)
    batch(writer, "a")
    with pytest.raises(IndexUnusableError, match="full"):
        writer.put(document("/b"), "b", b"", chunks(*("parrot " * 1000 for _ in range(9))))
    for act in (lambda: batch(writer, "c"), writer.close):
        with pytest.raises(IndexUnusableError, match="full"):
            act()
    assert index.counts() == (0, 0)


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    """With its name."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(IndexUnusableError, match=r"file exists|not a directory"):
            PassageIndex.create(folder)
