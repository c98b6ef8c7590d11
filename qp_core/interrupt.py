"""Run: Ctrl-C and SIGTERM while a run goes on.

While the main thread waits in `execute`, both signals go to the run instead of raising at some random line (while it reads a stream
or runs an event loop, SIGTERM does, which would end the process; Ctrl-C is theirs to handle): the first stops
handing out units and gives running ones a grace, the second stops at once, and a third comes out where the run should be
gone and is not, since something holds it up (an observer that hangs). Handlers that the program has set for itself are
left alone. `Leave` is how who reads a stream or awaits a run leaves it, when KeyboardInterrupt or a cancellation comes out there.
"""

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from qp_core.context import ExecutionContext
from qp_core.run import INTERRUPT, Run


@contextlib.contextmanager
def signals_of(run: Run, *, waits: bool = True) -> Iterator[None]:
    """Send Ctrl-C and SIGTERM to a run; does nothing outside the main thread.

    Args:
        run: The run.
        waits: Whether the calling thread waits for it and does nothing else; if not, it is sent SIGTERM only.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced: dict[int, Any] = {}
    handler = _Handler(run, replaced)
    defaults: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, default in defaults.items():
        before = signal.getsignal(number)
        if isinstance(before, _Handler):
            before.give_back()
        if (waits or number == signal.SIGTERM) and signal.getsignal(number) == default:
            replaced[number] = signal.signal(number, handler)
    if waits:
        # Where Ctrl-C is ignored, as in what a shell runs in the background, no handler raises anything either.
        raises_nothing = signal.getsignal(signal.SIGINT) in {signal.SIG_IGN, signal.SIG_DFL}
        run.stopping.guarded = signal.SIGINT in replaced or raises_nothing
    try:
        yield
    finally:
        handler.leave()


class _Handler:
    """Handles signals for one run. It may run between any two bytecodes of the main thread, so it takes no lock that this may hold."""

    def __init__(self, run: Run, replaced: Mapping[int, Any]) -> None:
        self._run = run
        self._replaced = replaced
        self._left = False
        self._leaving = threading.RLock()  # whoever holds it in another thread waits for nothing
        self._own = 0  # signals that were sent from beside, and have not come yet
        self._told: ExecutionContext | None = None

    def leave(self) -> None:
        """The run is over: give the signals back, unless somebody has set other handlers meanwhile."""
        with self._leaving:
            self._left = True
        self.give_back()

    def give_back(self) -> None:
        """Give the signals back if the run has been left, in another thread perhaps, which could not."""
        if self._left and threading.current_thread() is threading.main_thread():
            for number, before in self._replaced.items():
                if signal.getsignal(number) is self:
                    signal.signal(number, before)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        run, stopping = self._run, self._run.stopping
        own, self._own = self._own, 0
        if self._left:
            if not own:  # left in another thread, which could not take the handler away
                self.leave()
                signal.raise_signal(number)
            return
        stopping.note_signal()
        worker = run.here
        while worker is not None and worker.inner is not None:
            worker = worker.inner  # a run in its unit, in this thread: may that one's unit be interrupted?
        if stopping.out_of_patience:
            self.leave()
            raise KeyboardInterrupt
        if worker is None:
            run.inbox.put(INTERRUPT)  # SimpleQueue.put may be called from here
        elif stopping.signals == 1:
            # The main thread runs the units itself and may hold any lock, so another thread has to act. Not
            # threading.Thread: its start() takes locks that the main thread may hold.
            _thread.start_new_thread(_act_aside, (run, self.interrupt_main))
        elif worker.context is not None and worker.context is not worker.outside and worker.context is not self._told:
            # Only in the unit, and once for each: while the engine settles it, one would leave locks taken and the unit without an end.
            self._told = worker.context
            raise KeyboardInterrupt

    def interrupt_main(self) -> None:
        """Send the main thread a further signal, unless the run has been left: then it would come out at some line of the program."""
        with self._leaving:
            if not self._left:
                self._own += 1
                _interrupt_main(next(iter(self._replaced), signal.SIGINT))


def _interrupt_main(number: int = signal.SIGINT) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _act_aside(run: Run, interrupt_main: Callable[[], object] = _interrupt_main) -> None:
    """Halt a run whose units run in the main thread; after the grace, interrupt the unit that is running."""
    run.stopping.halt_aside()
    ends = run.clock.now() + run.options.grace_s
    while run.clock.now() < ends:
        time.sleep(0.01)
        if run.over:
            return
    if not run.over:
        interrupt_main()


class Leave:
    """Called by whoever waits for a run and leaves it: the first time what runs may go on for the grace, the second time it ends at once.

    Ctrl-C may raise KeyboardInterrupt at any line of the main thread. Were that a line of the engine, its locks would stay taken; so
    the run is stopped in a thread beside, and who leaves only waits: until nothing more is handed out, and then for the end.

    Args:
        run: The run.
        reason: What stops it.
    """

    def __init__(self, run: Run, reason: str) -> None:
        self._run = run
        self._reason = reason
        self._turn = threading.Lock()

    def __call__(self) -> None:
        """Leave the run; returns when it hands out nothing more."""
        stopped = threading.Event()
        try:
            _thread.start_new_thread(self._stop, (stopped,))
        except RuntimeError:  # "can't start new thread"
            self._stop(stopped)
        stopped.wait()

    def _stop(self, stopped: threading.Event) -> None:
        try:
            with self._turn:
                if not self._run.over:
                    self._run.stopping.interrupt(self._reason)
        except BaseException as error:  # noqa: BLE001 - nothing may be lost in a thread; who waits raises it
            self._run.stopping.break_off(error)
        finally:
            stopped.set()
