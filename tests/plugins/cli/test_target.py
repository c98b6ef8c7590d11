"""`module:function`: what it may be, and what is said where it is not."""

import sys

import pytest

from qp_core import QuantumPartitioner
from qp_plugins.cli.target import TargetError, UsageError, partitioner_of

MAKE = """
from qp_core import QuantumPartitioner


def make():
    return QuantumPartitioner(max_workers=3)
"""


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        pytest.param("work", "'work' names no function; write module:function", id="no colon"),
        pytest.param(":make", "':make' names no function; write module:function", id="no module"),
        pytest.param("work:", "'work:' names no function; write module:function", id="no function"),
        pytest.param("", "'' names no function; write module:function", id="nothing"),
        pytest.param("...:make", "'...:make' names no function; write module:function", id="dots"),
        pytest.param(".work:make", "'.work:make' names no function; write module:function", id="relative"),
    ],
)
def test_what_names_no_function_is_told_how_one_is_named(target, problem):
    """Nothing is imported."""
    with pytest.raises(UsageError) as caught:
        partitioner_of(target)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("make", id="function"),
        pytest.param("Maker.make", id="static method"),
        pytest.param("Maker", id="class that is a partitioner"),
        pytest.param("partial", id="partial"),
        pytest.param("with_default", id="arguments with defaults"),
        pytest.param("built_in", id="callable without a signature"),  # as many a function of C's
    ],
)
def test_whatever_can_be_called_without_arguments_will_do(module, target):
    """The partitioner is the one that was returned."""
    name = module(
        MAKE
        + """

import functools

class Maker(QuantumPartitioner):
    make = staticmethod(make)

partial = functools.partial(QuantumPartitioner, 3)

def with_default(workers=3, *more, **options):
    return QuantumPartitioner(workers)

class Hidden:
    @property
    def __signature__(self):
        raise ValueError("no signature")

    def __call__(self):
        return make()

built_in = Hidden()
"""
    )
    assert isinstance(partitioner_of(f"{name}:{target}"), QuantumPartitioner)


def test_a_module_in_a_package_of_the_current_directory_is_found(folder):
    """Dots lead into it."""
    package = folder / "package_of_this_test"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "inner.py").write_text(MAKE, encoding="utf-8")
    assert partitioner_of("package_of_this_test.inner:make").max_workers == 3


def test_the_current_directory_is_looked_into_first_and_added_once(module, folder):
    """`qp` is a script: what stands beside it is not on the path otherwise."""
    name = module(MAKE)
    for _ in range(2):
        partitioner_of(f"{name}:make")
    assert sys.path.count(str(folder)) == 1
    assert sys.path[0] == str(folder)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        pytest.param("no_such_module", "'no_such_module', looked for from {here}; check the name", id="none"),
        pytest.param("no_such.module", "'no_such', looked for from {here}; check the name", id="no package"),
        pytest.param(
            "{work}.py", "'{work}.py', looked for from {here}; write a module's name, not its file", id="file"
        ),
        pytest.param("dir/work", "'dir/work', looked for from {here}; write a module's name, not its file", id="path"),
    ],
)
def test_a_module_that_is_not_there_is_an_error_that_says_where_it_was_looked_for(module, folder, name, hint):
    """And what may be wrong with the name."""
    work = module(MAKE)
    with pytest.raises(UsageError) as caught:
        partitioner_of(f"{name.format(work=work)}:make")
    assert str(caught.value) == "there is no module " + hint.format(here=folder, work=work)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param(
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module' ({path}:1)",
            id="needs another",
        ),
        pytest.param("\n1 / 0", "ZeroDivisionError: division by zero ({path}:2)", id="raises"),
        pytest.param("def make(:", "SyntaxError: invalid syntax ({path}:1)", id="does not parse"),
        pytest.param("import sys\nsys.exit(3)", "SystemExit: 3 ({path}:2)", id="exits"),
        pytest.param("raise ValueError", "ValueError ({path}:1)", id="without a text"),
        pytest.param(
            "raise ValueError('a\\n\\x1b[31mb')", "ValueError: a\\n\\x1b[31mb ({path}:1)", id="control characters"
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_line_that_raised(module, folder, source, problem):
    """One line, where a traceback would be mostly ours."""
    name = module(source)
    with pytest.raises(TargetError) as caught:
        partitioner_of(f"{name}:make")
    expected = problem.format(path=folder / f"{name}.py")
    assert str(caught.value) == f"module {name!r} cannot be imported: {expected}"


def test_a_module_that_needs_a_missing_one_is_not_mistaken_for_a_missing_one(module):
    """Also where the name of the one begins like that of the other."""
    name = module("import flows_that_is_not_there", name="flows_that")
    with pytest.raises(TargetError, match="cannot be imported: ModuleNotFoundError"):
        partitioner_of(f"{name}:make")


def test_a_function_that_is_not_there_is_told_with_the_nearest_of_those_there_are(module):
    """Those that the module defines for others, in their order."""
    name = module(MAKE + "\ndef other(): ...\n\ndef _private(): ...\n")
    with pytest.raises(UsageError) as caught:
        partitioner_of(f"{name}:mak")
    assert str(caught.value) == (
        f"there is no function in module {name!r} named 'mak'; there are: 'make', 'other'; did you mean 'make'?"
    )


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param(
            "make = 3",
            "{target} is no function but int; name a function that returns a QuantumPartitioner",
            id="a number",
        ),
        pytest.param(
            "from qp_core import QuantumPartitioner\nmake = QuantumPartitioner()",
            "{target} is no function but QuantumPartitioner; name a function that returns a QuantumPartitioner",
            id="a partitioner itself",
        ),
        pytest.param(
            "def make(workers): ...",
            "{target} cannot be called without arguments (missing a required argument: 'workers'); name a function that needs none",
            id="needs arguments",
        ),
        pytest.param(
            "def make(): return 3", "{target} returned int; it must return a QuantumPartitioner", id="returns a number"
        ),
        pytest.param(
            "def make(): ...", "{target} returned NoneType; it must return a QuantumPartitioner", id="forgets to return"
        ),
        pytest.param(
            "async def make(): ...",
            "{target} is a coroutine function; name a plain function that returns a QuantumPartitioner",
            id="coroutine function",
        ),
    ],
)
def test_what_gives_no_partitioner_is_used_wrongly(module, source, problem):
    """A coroutine is not left unawaited."""
    target = f"{module(source)}:make"
    with pytest.raises(UsageError) as caught:
        partitioner_of(target)
    assert str(caught.value) == problem.format(target=target)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param(
            "def make():\n    raise RuntimeError('not today')", "RuntimeError: not today ({path}:2)", id="raises"
        ),
        pytest.param("def make():\n    raise SystemExit(4)", "SystemExit: 4 ({path}:2)", id="exits"),
        pytest.param(
            "from qp_core import QuantumPartitioner\ndef make():\n    p = QuantumPartitioner()\n    p.add_unit(3)",
            "TypeError: unit 'unit_0': function is 3",
            id="adds nonsense",
        ),
    ],
)
def test_a_function_that_raises_is_told_with_what_and_where(module, folder, source, problem):
    """The user's line, or that of the library which refused."""
    name = module(source)
    with pytest.raises(TargetError) as caught:
        partitioner_of(f"{name}:make")
    assert str(caught.value).startswith(f"{name}:make raised {problem.format(path=folder / f'{name}.py')}")
    assert caught.value.__cause__ is not None


def test_ctrl_c_in_a_function_is_no_error_of_it(module):
    """It stops the command."""
    name = module("def make():\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        partitioner_of(f"{name}:make")
