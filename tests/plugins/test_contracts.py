"""Every built-in passes the kit of its seam, whatever is installed: a new plugin is in here without a word."""

import importlib
import importlib.metadata
from concurrent.futures import ThreadPoolExecutor

import pytest

from qp_core import Plugins
from qp_core.testing import check_cache, check_executor, check_fallback, check_observer, check_strategy

PLUGINS = Plugins.installed()
FALLBACKS = {
    entry.name: entry.value
    for entry in importlib.metadata.entry_points(group="quantum_partitioner")
    if entry.name.startswith("fallbacks.")
}


def named(seam):
    """What a seam provides, as parameters."""
    slow = {"process"}  # starts processes
    return [
        pytest.param(name, id=name, marks=[pytest.mark.slow] if name in slow else []) for name in PLUGINS.provided(seam)
    ]


@pytest.mark.parametrize("name", named("executors"))
def test_every_executor_keeps_its_contract(name, nothing_left_over):
    """Each unit once, after what it needs; failures stay in their cone; the empty graph has an end."""
    if name != "custom":
        check_executor(lambda: PLUGINS.make("executors", name, None))
        return
    with ThreadPoolExecutor(2) as pool:
        check_executor(lambda: PLUGINS.make("executors", name, pool))


@pytest.mark.parametrize("name", named("strategies"))
def test_every_strategy_keeps_its_contract(name):
    """None, or every unit once; the same answer for the same plan."""
    check_strategy(PLUGINS.maker("strategies", name))


@pytest.mark.parametrize("name", named("caches"))
def test_every_cache_keeps_its_contract(name):
    """What was put is found, what was not is a miss, and both are counted."""
    check_cache(PLUGINS.maker("caches", name))


@pytest.mark.parametrize("name", named("observers"))
def test_every_observer_keeps_its_contract(name, capsys):
    """It hears of every end that a unit can have, and raises at none."""
    check_observer(PLUGINS.maker("observers", name))


@pytest.mark.parametrize("name", sorted(FALLBACKS))
def test_every_fallback_keeps_its_contract(name):
    """A unit that asks for none gets none."""
    check_fallback(importlib.import_module(FALLBACKS[name]))


def test_an_executor_that_does_not_begin_its_run_breaks_its_contract():
    """It would run units of which nobody was told."""

    class Hasty:
        def run(self, run):
            run.work_here(run.new_worker())

    with pytest.raises(AssertionError, match=r"^it must call run.begin before anything else"):
        check_executor(Hasty)
