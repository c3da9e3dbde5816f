"""Teacher forcing: how likely an answer is under each selection, one forward pass for a batch of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cokv_bench.game.utilities.base import Case, mean

if TYPE_CHECKING:
    from torch import Tensor

    from cokv_bench.kvcache import Selection


def of_answer(
    case: Case,
    selections: "Sequence[Selection]",
    answer: Sequence[int],
    of_tokens: "Callable[[Tensor], Tensor]" = mean,
) -> list[float]:
    """What the log-probabilities of an answer's tokens come to under each selection; by default their mean in nats.

    The first token is left out where it depends on the prefill alone, so that no selection changes it; the answer
    then has two tokens or more.
    """
    from cokv_bench.kvcache import decode  # On first use: the names of utilities are told without torch.

    rows = decode(case.model, case.prompt, selections, teacher=answer, question=case.question, memory=case.memory)
    start = 0 if case.first_token_counts else 1
    return [float(of_tokens(row.logprobs[start:].double())) for row in rows if row.logprobs is not None]
