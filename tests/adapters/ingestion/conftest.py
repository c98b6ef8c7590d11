"""What the tests of ingestion share: documents made on the spot, and an index in a folder of its own."""

import os
import tempfile
from pathlib import Path

import pytest

from atlas_adapters.ingestion.extract import extract
from atlas_adapters.ingestion.sources import Document, list_path


@pytest.fixture
def index_dir(tmp_path):
    """Where an index may be made."""
    return tmp_path / "index"


@pytest.fixture
def folder(tmp_path):
    """An empty folder for documents."""
    path = tmp_path / "documents"
    path.mkdir()
    return path


@pytest.fixture
def write(folder):
    """Writes a file below the folder of documents and returns its path."""

    def written(name, content=""):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.fixture
def listed():
    """The one document that a path lists as."""

    def one(path: Path) -> Document:
        (document,) = list_path(str(path))
        assert isinstance(document, Document), document
        return document

    return one


@pytest.fixture
def extracted(write, listed):
    """Writes a file and extracts it: `extracted("a.md", "# Title")`."""

    def made(name, content):
        return extract(listed(write(name, content)))

    return made


@pytest.fixture
def public_folder():
    """A folder that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_nobody(public_folder):
    """Calls a function as a user without rights: root may do anything, so root becomes somebody else for that call."""

    def called(act):
        if os.geteuid() != 0:
            return act()
        try:
            os.seteuid(65534)
        except OSError as error:  # a container that knows one user only
            pytest.skip(f"root cannot become somebody else here: {error}")
        try:
            public_folder.stat()
            return act()
        except PermissionError as error:
            if Path(error.filename or "") != public_folder:
                raise
            pytest.skip("the folder of temporary files is not open to every user")
        finally:
            os.seteuid(0)

    return called
