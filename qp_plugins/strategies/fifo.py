"""First in, first out: units in the order in which they become ready, in the order added among those ready from the start."""

from collections.abc import Callable, Mapping

from qp_core import ExecutionPlan, Strategy, hookimpl


class Fifo:
    """The order of arrival; a worker goes on with the first unit that it has made ready."""

    def order(self, plan: ExecutionPlan) -> None:  # noqa: ARG002 - the protocol's shape
        """No ranks at all."""
        return


@hookimpl
def qp_strategies() -> Mapping[str, Callable[[], Strategy]]:
    """Offer `fifo`."""
    return {"fifo": Fifo}
