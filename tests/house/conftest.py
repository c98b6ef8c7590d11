"""What the tests of the house share: where it stands, and which files belong to it."""

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("qp_core", "qp_plugins", "atlas_adapters")


@pytest.fixture(scope="session")
def root():
    """The top of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def pyproject():
    """pyproject.toml, read."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def modules():
    """The source files of the three packages, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


@pytest.fixture(scope="session")
def listed():
    """What git knows, links included; where there is no git or no repository, the test is skipped."""
    try:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607 - whichever git there is
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"which files belong to the repository only git can say: {error}")
    return [ROOT / name for name in names.decode().split("\0") if name]


@pytest.fixture(scope="session")
def tracked(listed):
    """The files that git knows."""
    return [path for path in listed if path.is_file()]  # one that is being removed is listed still
