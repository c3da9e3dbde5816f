"""What an engine is: something that runs calls, each where its prompt already is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from cokv_bench.models import Model

Context = TypeVar("Context")


@dataclass(frozen=True)
class Call(Generic[Context]):
    """A piece of work.

    Attributes:
        number: of the example it is about; calls of one number run on one worker, where its prompt stays.
        run: the work, given what a worker holds (a model, a game).
    """

    number: int
    run: Callable[[Context], Any]


class Engine(Protocol[Context]):
    """Runs calls."""

    def results(self, calls: Iterable[Call[Context]]) -> Iterator[tuple[Call[Context], Any]]:
        """Each call with what it gave, as soon as it has finished; the order may differ.

        Calls are drawn from the iterable one or a few ahead of the work, so making them may take its time.
        """
        ...


class Workers(Protocol):
    """Processes that hold a model."""

    def open(self, make: "Callable[[Model], Context]") -> Engine[Context]:
        """An engine whose calls get what `make` gives on each worker."""
        ...
