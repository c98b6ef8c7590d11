"""What the interpreter that runs the tests documents; true for every CPython from 3.11 on."""

import pathlib
import subprocess
import sys
import sysconfig
from collections import Counter

import pytest

from atlas_adapters.ingestion.extract import extract
from atlas_adapters.ingestion.library import INTERPRETER, list_library, topic_text
from atlas_adapters.ingestion.sources import Document, Kind


@pytest.fixture(scope="module")
def documents():
    """What this interpreter documents, listed once."""
    return list(list_library())


def entries_of(documents, title):
    """The entries of one document, by title."""
    (document,) = (one for one in documents if one.title == title)
    return {entry.title: entry for entry in extract(document).entries}


def test_topics_modules_and_extensions_are_listed(documents):
    """Hundreds of modules, dozens of topics, the interpreter itself; each once."""
    assert all(isinstance(one, Document) and one.library for one in documents)
    kinds = Counter(one.kind for one in documents)
    assert kinds[Kind.PYTHON] > 400
    assert kinds[Kind.TOPIC] > 60
    assert kinds[Kind.EXTENSION] >= 1
    assert len({one.path for one in documents}) == len(documents)


def test_tests_idle_and_installed_packages_are_left_out(documents):
    """They document no part of the library."""
    root = sysconfig.get_path("stdlib")
    modules = [one.path.removeprefix(root) for one in documents if one.kind is Kind.PYTHON]
    left_out = ("/test/", "/tests/", "/idlelib/", "/lib2to3/", "/site-packages/", "/dist-packages/")
    assert not [path for path in modules if any(folder in path for folder in left_out)]
    assert "/json/decoder.py" in modules


def test_a_module_is_read_from_its_source(documents):
    """A method is found under its qualified name, signature first."""
    entries = entries_of(documents, "json/decoder.py")
    entry = entries["json.decoder.JSONDecoder.raw_decode"]
    assert entry.text.startswith("def raw_decode(self, s, idx=0):")


def test_the_module_of_paths_has_the_name_under_which_it_is_known(documents):
    """Nobody looks for `posixpath.join`."""
    entries = entries_of(documents, "os.path.py")
    assert "os.path.join" in entries
    assert not {"posixpath.join", "ntpath.join"} & entries.keys()


def test_the_interpreters_own_file_names_what_it_documents(documents):
    """By functions, methods and exceptions that are loaded anyway."""
    entries = entries_of(documents, INTERPRETER)
    assert entries["len"].text.startswith("len($module, obj, /)\n--\n\n")
    assert {"str.strip", "list.sort", "dict.get", "sys.intern", "os.listdir"} <= entries.keys()
    assert "ValueError" in entries  # written before Argument Clinic


def test_a_checksum_is_found_in_its_extension_or_in_the_interpreter(documents):
    """Distributors build `zlib` and `binascii` as shared libraries or into the interpreter."""
    found = {
        entry.title.rpartition(".")[2]
        for document in documents
        if document.title in {"zlib", "binascii", INTERPRETER}
        for entry in extract(document).entries
    }
    assert {"crc32", "crc_hqx", "adler32"} <= found


def test_a_place_in_a_compiled_file_counts_its_bytes(documents):
    """What is quoted stands there."""
    (document,) = (one for one in documents if one.title == INTERPRETER)
    with pathlib.Path(document.path).open("rb") as file:
        for entry in extract(document).entries[::50]:
            file.seek(entry.start)
            raw = entry.text.encode()
            assert file.read(len(raw)) == raw


def test_a_topic_is_a_text(documents):
    """An unknown one is empty."""
    assert "with" in {one.title for one in documents if one.kind is Kind.TOPIC}
    assert "context manager" in topic_text("with")
    assert topic_text("no such topic") == ""


@pytest.mark.slow
def test_listing_and_reading_imports_none_of_the_modules():
    """What is documented is not run: the extensions and modules that were read are not loaded afterwards."""
    program = (
        "import sys\n"
        "from atlas_adapters.ingestion.extract import extract\n"
        "from atlas_adapters.ingestion.library import list_library\n"
        "before = set(sys.modules)\n"
        "n = sum(len(extract(one).entries) for one in list_library() if one.kind != 'python' or one.title < 'b')\n"
        "assert n > 1000, n\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('encodings')))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in ran.stdout.split() if not name.startswith("_sysconfigdata")}  # asked where things are
    assert loaded <= {"pydoc_data", "pydoc_data.topics"}
