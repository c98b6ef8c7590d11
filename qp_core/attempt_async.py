"""Run: how one unit is tried on an event loop. The same steps as in a thread (`attempt_thread`), with `await` where those block.

A worker is a task that runs one unit after another. A plain coroutine is awaited right in that task: only where it waits is another
task made, for the next unit. What blocks, or may have to be stopped, is started beside it: coroutines in a task, functions in
a thread.
"""

import asyncio
import contextlib
import contextvars
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, cast

import attrs

from qp_core.attempt import Attempts, Failure, OffLoop
from qp_core.clock import Timer
from qp_core.context import ExecutionContext
from qp_core.crew import Worker
from qp_core.fallback import Substitute
from qp_core.frontier import LOST, NONE_READY
from qp_core.ledger import CANCELED
from qp_core.loop import Raised, opened, task_of
from qp_core.settlement import AnyUnit
from qp_core.vocabulary import is_awaitable, is_coroutine_function

_LOOP_TURN_S = 0.005  # how long units that never wait may keep an event loop from everything else


async def serve(attempts: Attempts, worker: Worker, off_loop: OffLoop) -> None:  # noqa: C901 - its steps are written out: their cost is every unit's
    """Run ready units on the current event loop until none is.

    Args:
        attempts: The run's.
        worker: The current task's.
        off_loop: Where functions that block are run.
    """
    nodes, now, complete = attempts.ledger.plan.nodes, attempts.clock.now, attempts.frontier.complete
    home, who, variables = attempts.home, worker.number, contextvars.copy_context
    new, fits, argument = ExecutionContext.__new__, attempts.fits, attempts.argument
    plain, own = attempts.plain, variables()
    task = worker.task = cast("asyncio.Task[None]", asyncio.current_task())
    step = _Step(asyncio.get_running_loop(), attempts.frontier.help)
    number = attempts.frontier.arrive(who)
    ended = now()
    turn_ends = ended + _LOOP_TURN_S
    while number >= 0:
        unit = nodes[number]
        function = unit.function
        makes = (  # `is_coroutine_function`, written out for what units mostly are
            function.__code__.co_flags & inspect.CO_COROUTINE
            if type(function) is types.FunctionType
            else is_coroutine_function(function)
        )
        if not plain or not makes or unit.timeout is not None or unit.retries:
            number = await _beside(attempts, worker, number, unit, off_loop)
            ended = now()
        else:
            context = new(ExecutionContext).bound(home, number)
            worker.started = started = now()
            worker.context = context
            try:
                value = await function(context if fits else argument)
            except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
                number = await _failed(attempts, worker, number, Failure(error, context, started), off_loop)
                ended = now()
            else:
                worker.context = None  # before another unit is handed out, which has not begun
                ended = now()
                if context.notes is None:
                    number = complete(number, who, value, started, ended)
                else:
                    number = attempts.succeeded(worker, number, value, context)
                del value, context  # or they would live on while the next unit runs
            try:
                changed = variables() != own  # where nothing was set, as nearly always, it asks no value
            except Exception:  # noqa: BLE001 - a value's comparison is the user's (an array's has no truth), and only a changed one is asked
                changed = True
            if changed or task.cancelling():
                # The unit has set context variables, or cancelled its task, which is ours. No other unit may see that: another task goes on.
                if number >= 0 and not attempts.frontier.put_back(number, who):
                    attempts.settlement.failure(number, who, asyncio.CancelledError(), CANCELED)
                return
        if step.over:
            step.begin()  # it waited, so others have had their turn
            turn_ends = ended + _LOOP_TURN_S
        elif number >= 0 and ended > turn_ends:
            number = await _next_turn(attempts, worker, number, step)
            turn_ends = now() + _LOOP_TURN_S


class _Step:
    """Notices when a worker's task waits inside a unit, and then makes room for another worker.

    A callback that is scheduled when a step of the task begins runs as soon as that step is over: so units that never wait pay
    nothing for being watched.
    """

    __slots__ = ("_help", "_loop", "over", "resting")

    def __init__(self, loop: asyncio.AbstractEventLoop, help_: Callable[[], None]) -> None:
        self._loop = loop
        self._help = help_
        self.resting = False
        self.begin()

    def begin(self) -> None:
        """The task has been resumed."""
        self.over = False
        self._loop.call_soon(self._end)

    def _end(self) -> None:
        self.over = True
        if not self.resting:
            self._help()


async def _next_turn(attempts: Attempts, worker: Worker, number: int, step: _Step) -> int:
    """Let others on this loop have their turn; the unit that was just taken waits for it too.

    Returns:
        The unit; `NONE_READY` where the run was stopped meanwhile, and the unit ended with it.
    """
    step.resting = True
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        if attempts.frontier.halted is not None:
            attempts.settlement.failure(number, worker.number, error, CANCELED)
            return NONE_READY
    finally:
        step.resting = False
    step.begin()
    return number


async def _beside(attempts: Attempts, worker: Worker, number: int, unit: AnyUnit, off_loop: OffLoop) -> int:
    """Run a unit in a task or thread beside this task, because it blocks, or may have to be given up or told of."""
    expired = attempts.passed_on(number)
    if expired is not None:
        return await _fall_back(attempts, worker, number, expired, off_loop)
    opening = attempts.open(worker, number, unit)
    if isinstance(opening, int):
        return opening
    context, key = opening
    attempt = _Attempt(attempts, worker, number, unit, context)
    attempts.frontier.help()
    makes = is_coroutine_function(unit.function)
    if makes and not attempts.announce(worker, number, unit, context):
        return LOST
    try:
        try:
            # Opened here, where what was raised is caught: a StopIteration does not survive leaving a coroutine.
            value = opened(await (attempt.in_task() if makes else attempt.in_thread(off_loop)))
        finally:  # before the fallback, which has all the time that it needs
            if attempt.timer is not None:
                attempts.timers.cancel(attempt.timer)
    except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
        return await _failed(attempts, worker, number, Failure(error, context, worker.started), off_loop)
    if attempt.broken is not None:
        raise attempt.broken
    return attempts.succeeded(worker, number, value, context, key)


@attrs.define(eq=False)
class _Attempt:
    """One attempt beside the task of its worker."""

    attempts: Attempts
    worker: Worker
    number: int
    unit: AnyUnit
    context: ExecutionContext
    timer: Timer | None = None
    broken: BaseException | None = None
    """What an observer raised that nobody may stop: no affair of the unit's."""

    @property
    def _argument(self) -> Any:
        return self.context if self.attempts.fits else self.attempts.argument

    async def in_task(self) -> Any:
        """Call a coroutine function.

        Returns:
            Its result, to be `opened`.
        """
        return await self._awaited(self.unit.function(self._argument))

    async def in_thread(self, off_loop: OffLoop) -> Any:
        """Call a function in a thread, where its time begins only when it has one; await here what it may return to be awaited.

        Returns:
            Its result, to be `opened`.
        """
        value = await _to_its_end(off_loop(self._called, self.worker), self.worker)
        return await self._awaited(value) if is_awaitable(value) else value

    def _called(self) -> Any:
        try:
            if not self.attempts.announce(self.worker, self.number, self.unit, self.context):
                return None  # lost
        except BaseException as error:  # noqa: BLE001 - raised where the run can be broken off
            self.broken = error
            return None
        try:
            self.timer = self.attempts.limit(self.worker, self.number, self.unit)
            value = self.worker.variables.copy().run(self.unit.function, self._argument)
        except BaseException as error:  # noqa: BLE001 - a future refuses some of what a unit may raise
            return Raised(error)
        if self.worker.abandoned and asyncio.iscoroutine(value):
            value.close()  # nobody is there to await it
        return value

    async def _awaited(self, value: Any) -> Any:
        worker, loop = self.worker, asyncio.get_running_loop()
        task = task_of(loop, value, worker.variables.copy())
        worker.awaiting = _Cancelable(loop, task)
        if self.timer is None:
            self.timer = self.attempts.limit(worker, self.number, self.unit)
        if worker.abandoned or self.attempts.crew.stopping:  # before there was anything to cancel
            worker.told = worker.abandoned
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            if task.done() and not task.cancelled():
                return task.result()  # the unit had ended when its worker was cancelled
            raise
        finally:
            worker.awaiting = None


@attrs.define(eq=False)
class _Cancelable:
    """A task that other threads may cancel."""

    loop: asyncio.AbstractEventLoop
    task: "asyncio.Task[Any]"

    def cancel(self) -> None:
        """Cancel the task."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs there
            self.loop.call_soon_threadsafe(self.task.cancel)


async def _to_its_end(future: "asyncio.Future[Any]", worker: Worker) -> Any:
    """Wait for a function in a thread. Being cancelled does not end it, so it does not end the wait, unless the function was given up."""
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            if worker.abandoned:
                future.add_done_callback(_discard)
                raise
    worker.still_busy = worker.let_go = None
    return future.result()


def _discard(future: "asyncio.Future[Any]") -> None:
    """Close a coroutine that a unit or fallback made after it was given up: nobody will await it."""
    outcome = None if future.cancelled() else future.result()
    value = outcome.value if isinstance(outcome, Substitute) else outcome
    if asyncio.iscoroutine(value):
        value.close()


async def _failed(attempts: Attempts, worker: Worker, number: int, failure: Failure, off_loop: OffLoop) -> int:
    settled = attempts.judge(worker, number, failure)
    if settled is None:
        return await _fall_back(attempts, worker, number, failure, off_loop)
    return attempts.after(worker, settled)


async def _fall_back(attempts: Attempts, worker: Worker, number: int, failure: Failure, off_loop: OffLoop) -> int:
    """End a unit whose last attempt failed; a fallback that is a function may block, and is called in a thread."""
    ask = functools.partial(attempts.offered, worker, number, failure)
    if attempts.ledger.plan.nodes[number].fallback is None:
        substitute = ask()
    else:
        attempts.frontier.help()
        substitute = opened(await _to_its_end(off_loop(functools.partial(_boxed, ask), worker), worker))
    if substitute is not None and is_awaitable(substitute.value):
        try:
            task = task_of(asyncio.get_running_loop(), substitute.value, worker.variables.copy())
            if worker.abandoned or attempts.crew.stopping:  # this worker was cancelled while it waited for the function
                task.cancel()
            substitute = Substitute(opened(await task))
        except BaseException as raised:  # noqa: BLE001 - a fallback that fails leaves its unit failed
            substitute, failure = None, attempts.without_fallback(failure, raised)
    return attempts.end(worker, number, failure, substitute)


def _boxed(call: "functools.partial[Any]") -> Any:
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 - a future refuses some exceptions
        return Raised(error)
