"""Calls one after the other, in this process."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cokv_bench.engines.base import Call, Context, Engine

if TYPE_CHECKING:
    from cokv_bench.models import Model

T = TypeVar("T")
_END: Any = object()


class LocalWorkers:
    """This process with its model."""

    def __init__(self, model: "Model") -> None:
        self._model = model

    def open(self, make: "Callable[[Model], Context]") -> "Engine[Context]":
        """An engine whose calls get what `make` gives for the model."""
        if self._model.device.type == "cuda":
            from cokv_bench.engines.streaming import StreamingEngine  # Here, because it imports torch.

            return StreamingEngine(self._model, make(self._model))
        if self._model.device.type == "cpu":
            from cokv_bench.engines.joint import JointEngine  # Here, because it imports torch.

            return JointEngine(self._model, make(self._model))
        return LocalEngine(make(self._model))


class LocalEngine(Generic[Context]):
    """Runs calls in their order; the next one is made while one runs."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def results(self, calls: Iterable[Call[Context]]) -> Iterator[tuple[Call[Context], Any]]:
        """See `Engine.results`."""
        for call in one_ahead(calls):
            yield call, call.run(self._context)


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, the next of which is made by a second thread while one is in use."""
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, source, _END)
            yield item
