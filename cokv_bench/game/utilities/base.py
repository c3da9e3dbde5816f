"""What a utility is: how good an example's answer is under each of several selections."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cokv_bench.errors import RequestError
from cokv_bench.tasks import Example, Task
from cokv_bench.units import UTILITY

if TYPE_CHECKING:
    from torch import Tensor

    from cokv_bench.kvcache import Generation, Prompt, Selection
    from cokv_bench.models import Model


@dataclass(frozen=True)
class Case:
    """One prefilled example.

    Attributes:
        question: ids that follow the compressed prompt, in a question-agnostic game; see `decode`.
        memory: bytes that the generated tokens of a batch may take, for `decode`; None for its default.
    """

    model: "Model"
    task: Task
    example: Example
    prompt: "Prompt"
    memory: int | None = None
    question: tuple[int, ...] = ()

    @property
    def first_token_counts(self) -> bool:
        """Whether selections change the first token of an answer: only after a question that is appended."""
        return bool(self.question)


def mean(logprobs: "Tensor") -> "Tensor":
    """Mean log-probability, nats per token, of float [tokens]."""
    return logprobs.mean()


@dataclass(frozen=True)
class PromptUtility:
    """A way to measure selections on one example.

    Attributes:
        name: as on the command line and in the ledger.
        description: one line.
        measure: (case, selections) -> one finite number a selection, higher is better.
        needs_answers: whether examples must have reference answers.
        answer: for a utility of the log-probabilities of an answer's tokens, the ids of that answer; a utility
            without one has no gradient.
        of_tokens: for such a utility, from the log-probabilities, float [tokens], to the utility, in a way that can be
            differentiated.
        unit: of the values, as records and tables name it.
        judge: for a utility of the answers that are generated: (case, generations) -> their values. Answers of several
            examples then decode together where a GPU allows it.
    """

    name: str
    description: str
    measure: "Callable[[Case, Sequence[Selection]], list[float]]"
    needs_answers: bool = True
    answer: Callable[[Case], Sequence[int]] | None = None
    of_tokens: "Callable[[Tensor], Tensor]" = mean
    unit: str = UTILITY
    judge: "Callable[[Case, Sequence[Generation]], list[float]] | None" = None

    def values(self, case: Case, selections: "Sequence[Selection]") -> list[float]:
        """What it measures. Raises `RequestError` as `checked` does."""
        return self.checked(case, self.measure(case, selections), len(selections))

    def checked(self, case: Case, measured: Sequence[float], count: int) -> list[float]:
        """What was measured or judged, as Python's floats; a plug-in may give anything.

        Raises:
            RequestError: it is not `count` finite numbers.
        """
        try:
            found = [float(value) for value in measured]
        except (TypeError, ValueError):
            found = []
        if len(found) != count or not all(map(math.isfinite, found)):
            raise RequestError(
                f"The utility '{self.name}' has no finite number for each of {count} selections of example "
                f"{case.example.id} of '{case.task.name}'; correct the utility, or leave the task out."
            )
        return found
