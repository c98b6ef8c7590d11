"""Processes: units as jobs for the standard library's process pool, a new one for each run.

Started by forkserver (spawn where there is none), never forked from a parent that has threads. Functions, contexts and results
are pickled, lambdas and closures by value. What this pool cannot do: stop a unit that has run out of time (it is reported as
abandoned), and outlive the death of one worker (all units that it held fail with it).
"""

import contextlib
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from qp_core import ExecutionPlan, Executor, ExecutorFactory, Run, available_cores, hookimpl
from qp_plugins.executors.futures import FuturesExecutor

_BASE = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)


_NEEDED = __name__  # this very module, and with it the core
_MOST = 61 if sys.platform == "win32" else sys.maxsize  # Windows waits for no more than 63 handles at once
_hiding = threading.Lock()
_LAST_S = 5.0  # how long a process that is told to end may take, before it is killed


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep new processes from running the program's main module again.

    They need nothing from it: what is defined there travels by value. So scripts without an `if __name__ == "__main__"`, notebooks and
    standard input work too.
    """
    main = sys.modules["__main__"]
    with _hiding:  # two runs that start processes at the same time must not hide what the other has hidden already
        hidden: dict[str, Any] = {
            name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
        }
        main.__spec__ = None
        try:
            yield
        finally:
            main.__dict__.update(hidden)


def _preload() -> None:
    """Have the fork server import what every process needs, once: each starts in a tenth of the time."""
    if _BASE.get_start_method() != "forkserver":
        return
    from multiprocessing.forkserver import _forkserver  # noqa: PLC0415 - only where there is one

    wanted = _forkserver._preload_modules  # type: ignore[attr-defined] # noqa: SLF001 - what others have asked for stays
    if _NEEDED not in wanted:
        _BASE.set_forkserver_preload([*wanted, _NEEDED, "cloudpickle"])


def _leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; what it means, the coordinating one decides.

    A handler and not SIG_IGN, which programs that a unit starts would inherit.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)  # noqa: ARG005 - a handler's shape


class _Process(_BASE.Process):  # type: ignore[name-defined, misc] # which class that is, the platform decides
    """A process that starts without the main module."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        with _main_hidden():
            return _BASE.Process._Popen(process_obj)  # type: ignore[attr-defined] # noqa: SLF001 - the seam that its own contexts use


class _Context(type(_BASE)):  # type: ignore[misc] # which class that is, the platform decides
    """multiprocessing's context, with these processes."""

    Process = _Process


class ProcessExecutor:
    """Runs units in up to `max_workers` processes."""

    def workers(self, asked: int | None, plan: ExecutionPlan) -> int:
        """As many as was asked for, else one a core, but never more than there are units, nor than the pool can have."""
        return max(1, min(asked or available_cores(), len(plan), _MOST))

    def run(self, run: Run) -> None:
        """Run every unit, and end the processes."""
        _preload()
        pool = ProcessPoolExecutor(run.max_workers, mp_context=_Context(), initializer=_leave_interrupts_to_parent)
        try:
            FuturesExecutor(pool).run(run)
        finally:
            _end(pool, kill=run.stuck or not run.over)


def _end(pool: ProcessPoolExecutor, *, kill: bool) -> None:
    """End a pool's processes and its thread, whatever the units left running in them."""
    # The pool offers no other way to end a worker that is stuck.
    children = list((pool._processes or {}).values())  # noqa: SLF001 - see above
    manager: Any = pool._executor_manager_thread  # noqa: SLF001 - see above
    pool.shutdown(wait=False, cancel_futures=True)
    ends = time.monotonic() + (0.0 if kill else _LAST_S)
    for child in children:
        child.join(max(0.0, ends - time.monotonic()))
        if child.is_alive():
            child.kill()
    for child in children:
        child.join()
    if manager is not None:
        manager.join()


def _make(_: Any) -> Executor:
    return ProcessExecutor()


@hookimpl
def qp_executors() -> Mapping[str, ExecutorFactory]:
    """Offer `process`."""
    return {"process": _make}
