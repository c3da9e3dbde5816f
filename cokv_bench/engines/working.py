"""Calls that leave decoding to who runs them."""

from typing import Any, Protocol, runtime_checkable

from cokv_bench.kvcache.decoding import Work


@runtime_checkable
class Working(Protocol):
    """A call that leaves decoding to others."""

    def work(self, context: Any) -> Work[Any]:
        """What the call does, asking for answers on its way."""
        ...
