import ast
import io
import pathlib
import textwrap

import pytest

from atlas_adapters.ingestion.docstrings import compiled_entries, docstring_entries, public_name

SOURCE = textwrap.dedent(
    '''
    """The module."""

    import sys


    class A:
        """A class."""

        @property
        def x(self) -> int:
            """A property."""
            return 1

        class Inner:
            "An inner class."

        def silent(self):
            return 2


    async def run(a,
                  b):
        """Run.

        For long.
        """

        def nobody_sees_me():
            """Hidden."""


    try:
        import zlib
    except ImportError:
        def fallback(): "A fall-back."
    else:
        if sys.version_info > (3,):
            def modern():
                """Modern."""
    '''
)


def found(source=SOURCE):
    """The entries of a source by title."""
    return {entry.title: entry for entry in docstring_entries(source, "mod")}


def test_module_classes_and_functions_are_found_wherever_they_are_defined():
    """In blocks too; but not inside functions, and not where there is no docstring."""
    assert list(found()) == [
        "mod",
        "mod.A",
        "mod.A.x",
        "mod.A.Inner",
        "mod.run",
        "mod.fallback",
        "mod.modern",
    ]


def test_an_entry_is_the_source_from_its_definition_to_the_end_of_its_docstring():
    """So the signature is quoted with it, and its place in the file is exact."""
    entries = found()
    assert entries["mod"].text == '"""The module."""'
    assert entries["mod.A.x"].text == 'def x(self) -> int:\n        """A property."""'
    assert entries["mod.run"].text.startswith("async def run(a,\n              b):\n")
    assert entries["mod.run"].text.endswith('For long.\n    """')
    assert all(SOURCE[one.start :].startswith(one.text) for one in entries.values())


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["CRLF", "CR"])
def test_places_are_exact_whatever_ends_a_line(end):
    """Old Macs and Windows count too."""
    source = 'x = "é"\n\ndef f():\n    """Do."""\n'.replace("\n", end)
    entry = found(source)["mod.f"]
    assert source[entry.start : entry.start + len(entry.text)] == f'def f():{end}    """Do."""'


def test_places_are_exact_behind_letters_of_several_bytes_and_form_feeds():
    """The parser counts UTF-8 bytes in a line; a form feed ends none."""
    source = 'x = "éü漢😀"; y = 1\n\f\nclass É:\n    def f(self, é="漢"): """Tú."""; z = 2\n'
    entry = found(source)["mod.É.f"]
    assert entry.text == 'def f(self, é="漢"): """Tú."""'
    assert source.index("def f") == entry.start


def test_places_are_exact_in_this_very_file():
    """Every documented function of this file is found where it stands."""
    with pathlib.Path(__file__).open(encoding="utf-8") as file:
        source = file.read()
    titles = [entry.title for entry in docstring_entries(source, "mod") if source[entry.start :].startswith(entry.text)]
    documented = [
        f"mod.{node.name}"
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
    ]
    assert titles == documented


def test_odd_escapes_warn_nobody():
    r"""The parser warns of `\d`; that is the author's business, not the reader's."""
    assert found('def f():\n    """A \\d."""\n')["mod.f"].text == 'def f():\n    """A \\d."""'


def test_no_docstring_is_no_entry():
    """A string that is computed documents nothing."""
    assert docstring_entries("x = 1\nf'no {x} docstring'\n", "mod") == ()


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
