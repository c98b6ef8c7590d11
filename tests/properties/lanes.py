"""Every way to run a partitioner that a property must hold for."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

STRATEGIES = ("fifo", "priority")


@attrs.frozen(kw_only=True)
class Lane:
    """One way to run: where, with how many workers, what kind of functions, through which door.

    Attributes:
        mode: The execution mode.
        workers: The bound that is asked for; None asks for none.
        kind: The kind of the units' functions.
        door: The method of the partitioner.
        pool: For `custom`: how many threads the pool has.
    """

    mode: str
    workers: int | None = None
    kind: str = "function"
    door: str = "execute"
    pool: int = 0

    @property
    def name(self):
        """A short name for test ids."""
        return "-".join(
            str(part)
            for part in (self.mode, self.workers, self.kind, self.door)
            if part not in {None, "function", "execute"}
        )

    @property
    def bound(self):
        """The most units at once; None where there is no bound."""
        bounds = [1 if self.mode == "sequential" else self.workers, self.pool or None]
        return min((bound for bound in bounds if bound is not None), default=None)

    def run(self, partitioner, context, **options):
        """Execute.

        Returns:
            The result.
        """
        options.setdefault("max_workers", self.workers)
        if not self.pool:
            return getattr(self, f"_{self.door}")(partitioner, context, execution_mode=self.mode, **options)
        with ThreadPoolExecutor(self.pool) as pool:
            return partitioner.execute(context, self.mode, custom_executor=pool, **options)

    @staticmethod
    def _execute(partitioner, context, **options):
        return partitioner.execute(context, **options)

    @staticmethod
    def _execute_async(partitioner, context, **options):
        return asyncio.run(partitioner.execute_async(context, **options))

    @staticmethod
    def _inside_a_loop(partitioner, context, **options):
        async def main():
            return partitioner.execute(context, **options)

        return asyncio.run(main())

    @staticmethod
    def _stream(partitioner, context, **options):
        seen = [unit_id for unit_id, _ in partitioner.stream(context, **options)]
        assert sorted(seen) == sorted(partitioner.last_result.report.units)
        return partitioner.last_result

    @staticmethod
    def _astream(partitioner, context, **options):
        async def main():
            return [unit_id async for unit_id, _ in partitioner.astream(context, **options)]

        seen = asyncio.run(main())
        assert sorted(seen) == sorted(partitioner.last_result.report.units)
        return partitioner.last_result


LANES = [
    Lane(mode="sequential"),
    Lane(mode="sequential", kind="mixed"),
    Lane(mode="thread", workers=1),
    Lane(mode="thread", workers=2),
    Lane(mode="thread", workers=7),
    Lane(mode="thread"),
    Lane(mode="thread", workers=3, kind="mixed"),
    Lane(mode="async", workers=1, kind="coroutine"),
    Lane(mode="async", workers=3, kind="coroutine"),
    Lane(mode="async", kind="coroutine"),
    Lane(mode="async", workers=2),
    Lane(mode="async"),
    Lane(mode="async", workers=3, kind="mixed"),
    Lane(mode="async", kind="awaitable", door="inside_a_loop"),
    Lane(mode="async", workers=2, kind="mixed", door="execute_async"),
    Lane(mode="thread", workers=2, kind="mixed", door="execute_async"),
    Lane(mode="thread", workers=2, door="stream"),
    Lane(mode="async", workers=3, kind="mixed", door="astream"),
    Lane(mode="custom", pool=3),
    Lane(mode="custom", workers=2, pool=4, kind="mixed"),
]
"""Every lane but that of processes, which costs more and has tests of its own."""

PROCESSES = Lane(mode="process", workers=2)


def every_lane(*lanes):
    """Parametrise a test over lanes.

    Args:
        *lanes: Which; all but processes if none is named.

    Returns:
        A decorator.
    """
    return pytest.mark.parametrize("lane", [pytest.param(lane, id=lane.name) for lane in lanes or LANES])


def one_per_mode(**changes):
    """A lane of each mode with the same number of workers where there is a choice.

    Args:
        **changes: For all of them.

    Returns:
        Lanes.
    """
    workers = changes.pop("workers", 3)
    lanes = [
        Lane(mode="thread", workers=workers),
        Lane(mode="async", workers=workers, kind="coroutine"),
        Lane(mode="async", workers=workers),
        Lane(mode="custom", pool=workers),
    ]
    return [attrs.evolve(lane, **changes) for lane in lanes]
