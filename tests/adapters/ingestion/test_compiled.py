import io

import pytest

from atlas_adapters.ingestion.compiled import compiled_entries, public_name

NOISE = bytes(i * i * 7919 % 251 for i in range(5000))  # neither text nor a mark


@pytest.fixture
def binary(tmp_path):
    """Writes bytes to a file and finds the docstrings in it."""

    def found(data, module="_mod"):
        path = tmp_path / "lib.so"
        path.write_bytes(data)
        with path.open("rb") as file:
            return compiled_entries(file, module)

    return found


def test_a_docstring_is_found_with_its_exact_place_in_the_file(binary):
    """Between bytes that mean nothing."""
    doc = b"crc32($module, data, value=0, /)\n--\n\nCompute a CRC-32 checksum."
    data = NOISE + b"\0" + doc + b"\0" + NOISE
    (entry,) = binary(data, "zlib")
    assert (entry.title, entry.text) == ("zlib.crc32", doc.decode())
    assert data[entry.start : entry.start + len(doc)] == doc


@pytest.mark.parametrize(
    ("data", "titles"),
    [
        (b"\0f($module)\n--\n\n\0", ["_mod.f"]),
        (b"\0f($self, /)\n--\n\nA.\0", ["_mod.….f"]),
        (b"\0Type(a, b=(1, 2))\n--\n\nA.\0", ["_mod.Type"]),
        (b"\0f(a,\n  b)\n--\n\nA.\0", ["_mod.f"]),
        (b"\x01\xff\x03f($module)\n--\n\nA.\0", ["_mod.f"]),
        (b"f($module)\n--\n\nno NUL", ["_mod.f"]),
        (b"\0f($module)\n--\n\nA.\0\0f($module)\n--\n\nA.\0", ["_mod.f"]),
        (b"\0f($module)\n--\n\nB\xc3\xa9.\0g($module)\n--\n\n\xff\0", ["_mod.f"]),
        (b"\0)\n--\n\n\0", []),
        (b"\0()\n--\n\n\0", []),
    ],
    ids=[
        "no text",
        "a method",
        "a type",
        "two lines",
        "behind other data",
        "end of file",
        "twice",
        "UTF-8 or not",
        "mark",
        "no name",
    ],
)
def test_only_signatures_make_docstrings(binary, data, titles):
    """The mark alone, or what is no text, is passed over."""
    assert [entry.title for entry in binary(data)] == titles


def test_the_interpreter_has_its_built_ins_and_no_function_is_called_for_it():
    """Found by `list_library`; here only that names of loaded modules are used for the interpreter's own file."""
    assert public_name("_struct") == "struct"
    assert public_name("zlib") == "zlib"
    assert public_name("_no_such_module") == "_no_such_module"


def test_a_large_file_of_marks_takes_linear_time(binary):
    """Each search starts where the last one ended."""
    doc = b"\0f($module)\n--\n\nA."
    assert len(binary(b"".join(doc + str(i).encode() for i in range(20_000)))) == 20_000


def test_the_file_is_left_open_for_its_owner(tmp_path):
    """Who opened it closes it; a file without docstrings has no entries."""
    path = tmp_path / "lib.so"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        assert isinstance(file, io.BufferedReader)
        assert compiled_entries(file, None) == ()
        assert not file.closed
