"""Run: how one unit is tried in a thread that may block, or as a job for a pool; the steps are `attempt`'s.

The loop over plain units is written for speed, since its cost is paid by every unit of every graph.
"""

import concurrent.futures

from qp_core.attempt import Attempts, Failure
from qp_core.context import ExecutionContext
from qp_core.crew import Worker
from qp_core.errors import WorkerLostError, told
from qp_core.fallback import Substitute
from qp_core.frontier import LOST
from qp_core.job import Job, JobOutcome
from qp_core.settlement import AnyUnit, add_note
from qp_core.vocabulary import is_awaitable


def run_ready(attempts: Attempts, worker: Worker, number: int) -> int:
    """Run this unit in the calling thread, then one that became ready, and so on until none is.

    Args:
        attempts: The run's.
        worker: The thread's.
        number: A unit that was taken.

    Returns:
        `NONE_READY`, or `LOST` where the worker was given up with its unit.
    """
    nodes, now, complete = attempts.ledger.plan.nodes, attempts.clock.now, attempts.frontier.complete
    home, variables, who = attempts.home, worker.variables, worker.number
    new, fits, argument = ExecutionContext.__new__, attempts.fits, attempts.argument
    plain, awaits = attempts.plain, worker.awaits
    while number >= 0:
        unit = nodes[number]
        if not plain or unit.timeout is not None or unit.retries:
            number = _in_thread(attempts, worker, number, unit)
            continue
        context = new(ExecutionContext).bound(home, number)
        worker.started = started = now()
        try:
            worker.context = context  # after `started`: who sees the one may rely on the other
            value = variables.copy().run(unit.function, context if fits else argument)
            kind = type(value)
            if kind not in awaits:
                awaits[kind] = is_awaitable(value)
            if awaits[kind]:
                value = attempts.await_elsewhere(worker, value)
            worker.context = None
        except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
            worker.outside = context  # before anything is called: no signal is handled in between
            number = _failed(attempts, worker, number, Failure(error, context, started))
            continue
        ended = now()
        if context.notes is None:
            number = complete(number, who, value, started, ended)
        else:
            number = attempts.succeeded(worker, number, value, context)
        del value, context  # or they would live on while the next unit runs
    return number


def _in_thread(attempts: Attempts, worker: Worker, number: int, unit: AnyUnit) -> int:
    opening = _begun(attempts, worker, number, unit)
    if isinstance(opening, int):
        return opening
    context, key = opening
    timer = attempts.limit(worker, number, unit)
    try:
        try:
            worker.outside = None
            value = worker.variables.copy().run(unit.function, context if attempts.fits else attempts.argument)
            if is_awaitable(value):
                value = attempts.await_elsewhere(worker, value)
        finally:  # before the fallback, which has all the time that it needs
            worker.outside = context
            if timer is not None:
                attempts.timers.cancel(timer)
    except BaseException as error:  # noqa: BLE001 - whatever a unit raises is its outcome
        return _failed(attempts, worker, number, Failure(error, context, worker.started))
    return attempts.succeeded(worker, number, value, context, key)


def _begun(attempts: Attempts, worker: Worker, number: int, unit: AnyUnit) -> tuple[ExecutionContext, str | None] | int:
    """Begin an attempt, up to the call: its context and cache key; or, where there is none to make, what follows for this worker."""
    expired = attempts.passed_on(number)
    if expired is not None:
        return _fall_back(attempts, worker, number, expired)
    opening = attempts.open(worker, number, unit)
    if isinstance(opening, int) or attempts.announce(worker, number, unit, opening[0]):
        return opening
    return LOST


def _failed(attempts: Attempts, worker: Worker, number: int, failure: Failure) -> int:
    settled = attempts.judge(worker, number, failure)
    if settled is None:
        return _fall_back(attempts, worker, number, failure)
    return attempts.after(worker, settled)


def _fall_back(attempts: Attempts, worker: Worker, number: int, failure: Failure) -> int:
    """End a unit whose last attempt failed: with what stands in for its result, or without one."""
    substitute = attempts.offered(worker, number, failure)
    if substitute is not None and is_awaitable(substitute.value):
        try:
            substitute = Substitute(attempts.await_elsewhere(worker, substitute.value))
        except BaseException as raised:  # noqa: BLE001 - a fallback that fails leaves its unit failed
            substitute, failure = None, attempts.without_fallback(failure, raised)
    return attempts.end(worker, number, failure, substitute)


def job(attempts: Attempts, worker: Worker, number: int) -> Job | int:
    """One attempt of a unit, to be called in a pool.

    Args:
        attempts: The run's.
        worker: The place in the pool.
        number: A unit that was taken.

    Returns:
        The job; or, where the unit is settled already (its result was in the cache), the next unit for this place, or `NONE_READY`;
        or `LOST` where the place was given up.
    """
    unit = attempts.ledger.plan.nodes[number]
    opening = _begun(attempts, worker, number, unit)
    if isinstance(opening, int):
        return opening
    context, worker.key = opening
    worker.timer = attempts.limit(worker, number, unit)
    return Job(
        unit.id, unit.function, context if attempts.fits else attempts.argument, context, worker.variables.copy()
    )


def job_done(attempts: Attempts, worker: Worker, number: int, outcome: JobOutcome | BaseException) -> int:
    """Settle what a job came to.

    Args:
        attempts: The run's.
        worker: The place in the pool.
        number: The unit.
        outcome: What the job returned, or what the pool raised instead.

    Returns:
        The next unit for this place, `NONE_READY`, or `LOST` where the place was given up.
    """
    timer, worker.timer = worker.timer, None
    if timer is not None:
        attempts.timers.cancel(timer)
    context = worker.context
    if context is None:
        return LOST
    if isinstance(outcome, BaseException):
        error = outcome
        if isinstance(outcome, concurrent.futures.BrokenExecutor):
            error = WorkerLostError(attempts.ledger.plan.nodes[number].id, told(outcome))
            error.__cause__ = outcome
        return _failed(attempts, worker, number, Failure(error, context, worker.started))
    worker.started = outcome.started
    context.take_back(outcome.metrics, outcome.writes)
    if outcome.error is None:
        return attempts.succeeded(worker, number, outcome.value, context, worker.key)
    if outcome.error.__traceback__ is None:
        add_note(outcome.error, f"in the worker:\n{outcome.trace}")
    return _failed(attempts, worker, number, Failure(outcome.error, context, outcome.started))
