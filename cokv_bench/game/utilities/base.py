"""What a utility is: how good an example's answer is under each of several selections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Task


class Measure(Protocol):
    """How a utility is measured."""

    def __call__(
        self,
        model: Model,
        task: Task,
        example: Example,
        prompt: Prompt,
        selections: Sequence[Selection],
        *,
        memory: int | None = None,
    ) -> list[float]:
        """One finite number a selection, higher is better; `memory` is passed to `decode`."""
        ...


@dataclass(frozen=True)
class PromptUtility:
    """A way to measure selections on one example.

    Attributes:
        name: as on the command line and in the ledger.
        description: one line.
        measure: see `Measure`.
        needs_answers: whether examples must have reference answers.
    """

    name: str
    description: str
    measure: Measure
    needs_answers: bool = True
