"""What all tests share: Hypothesis's profiles, the installed plugins, a clock that jumps, and a look at what is left behind.

`HYPOTHESIS_PROFILE=deep` (or `--hypothesis-profile=deep`) looks for bugs with many random examples; the default is the same every time.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, settings

from qp_core.plugins import Plugins
from qp_core.testing import FakeClock

pytest.register_assert_rewrite("tests.properties.checks", "tests.properties.lanes", "tests.properties.bodies")

# No deadline: other work on the machine must not fail a test. Fixtures of a test are the same for all of its examples, which is what is meant.
_ALWAYS = {
    "deadline": None,
    "print_blob": True,
    "report_multiple_bugs": False,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
}
settings.register_profile("fast", max_examples=20, derandomize=True, **_ALWAYS)
settings.register_profile("deep", max_examples=2_000, derandomize=False, **_ALWAYS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A job in the background of a shell ignores Ctrl-C, and so would every program that a test starts and stops that way. What
# has a handler here has the default one there.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_PATIENCE_S = 60  # how long threads may take to be gone; only ever spent by a test that fails


@pytest.fixture(scope="session")
def plugins():
    """The installed plugins, found once."""
    return Plugins.installed()


@pytest.fixture
def clock():
    """A clock that jumps to the next due time when no unit is running."""
    return FakeClock()


def engine_threads():
    """The threads that runs have started and that are alive.

    Returns:
        A set.
    """
    return {thread for thread in threading.enumerate() if thread.name.startswith("qp-")}


@pytest.fixture
def unhurried(monkeypatch):
    """Runs that wait as long as it takes for cancelled coroutines to end, where they give them a moment in earnest.

    For tests of coroutines that do end: on a machine that is busy for that moment, they would be reported as left behind, and rightly.
    """
    for moment in (
        "qp_core.stopping.Stopping.last_moment_s",
        "qp_plugins.executors.threads._MOMENT_S",
        "qp_plugins.executors.aio._MOMENT_S",
    ):
        monkeypatch.setattr(moment, _PATIENCE_S)


@pytest.fixture
def nothing_left_over():
    """Fails a test after which threads of its runs are still there; a former test's may be there all the while."""
    before = engine_threads()
    yield
    ends = time.monotonic() + _PATIENCE_S
    while engine_threads() - before and time.monotonic() < ends:
        gc.collect()
        time.sleep(0.01)
    assert engine_threads() - before == set()


@pytest.fixture
def quiet_engine():
    """Keeps the warnings of runs that are meant to fail out of the log: a property makes thousands."""
    logger = logging.getLogger("qp_core")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@pytest.fixture
def nervous_threads():
    """Threads take turns after a microsecond, so that they meet in the midst of things."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
