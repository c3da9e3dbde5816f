"""What a utility is: how good an example's answer is under each of several selections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Task


@dataclass(frozen=True)
class PromptUtility:
    """A way to measure selections on one example.

    Attributes:
        name: as on the command line and in the ledger.
        description: one line.
        measure: (model, task, example, prompt, selections) -> one finite number a selection, higher is better.
    """

    name: str
    description: str
    measure: Callable[[Model, Task, Example, Prompt, Sequence[Selection]], list[float]]
