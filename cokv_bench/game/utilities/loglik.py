"""Mean log-probability of the reference answer, teacher forced: one forward pass for a batch of selections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cokv_bench.errors import RequestError
from cokv_bench.game.utilities.base import Case, PromptUtility
from cokv_bench.game.utilities.teacher import of_answer
from cokv_bench.registries import UTILITIES
from cokv_bench.units import NATS

if TYPE_CHECKING:
    from cokv_bench.kvcache import Selection


def reference(case: Case) -> list[int]:
    """Ids of the first reference answer, up to the task's token limit.

    An answer of one token is followed by the model's stop token unless a question is appended, since no selection
    changes the first.

    Raises:
        RequestError: a reference answer without a token.
    """
    from cokv_bench.models import encode_answer  # On first use: the names of utilities are told without torch.

    example = case.example
    answer = encode_answer(case.model, example.prompt, example.answers[0], chat=example.chat, begun=example.begun)
    if not answer:
        raise RequestError(f"Example {example.id} of '{case.task.name}' has an empty reference answer; leave it out.")
    if len(answer) == 1 and not case.first_token_counts:
        answer = [*answer, min(case.model.stop_ids)]
    return answer[: max(2, example.max_new_tokens)]


def measure(case: Case, selections: "Sequence[Selection]") -> list[float]:
    """Mean log-probability (nats per token) of the first reference answer under each selection.

    The first token is left out unless a question is appended.

    Raises:
        RequestError: a reference answer without a token.
    """
    return of_answer(case, selections, reference(case))


LOGLIK = PromptUtility("loglik", UTILITIES.line("loglik"), measure, answer=reference, unit=NATS)
