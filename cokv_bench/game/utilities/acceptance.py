"""Acceptance: how much of its own answer the model still says. Needs prompts and no labels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cokv_bench.game.utilities.agreement import own_answer
from cokv_bench.game.utilities.base import Case, PromptUtility
from cokv_bench.game.utilities.teacher import of_answer
from cokv_bench.registries import UTILITIES

if TYPE_CHECKING:
    from torch import Tensor

    from cokv_bench.kvcache import Selection


def accepted(logprobs: "Tensor") -> "Tensor":
    """The logarithm of the share of a text that is expected to be said before the first other token.

    With each token drawn by its probability, the first t tokens are all said with the product of their probabilities;
    the share is the mean of these products over t. It is what speculative decoding accepts of a draft that is certain
    of itself (arXiv 2211.17192). A mean of log-probabilities spreads what one token loses over the whole answer, while
    an answer that opens with another token is another answer.

    Args:
        logprobs: float [tokens], of each token after those before it.

    Returns:
        A float of at most 0, which can be differentiated.
    """
    return logprobs.cumsum(0).logsumexp(0) - math.log(len(logprobs))


def measure(case: Case, selections: "Sequence[Selection]") -> list[float]:
    """`accepted` of the full cache's greedy answer under each selection.

    The first token is left out unless a question is appended. Where the answer ends at a first token that no selection
    can change, all of them get 0, the logarithm of all of it.
    """
    answer = own_answer(case)
    if len(answer) < 2 and not case.first_token_counts:
        return [0.0] * len(selections)
    return of_answer(case, selections, answer, accepted)


ACCEPTANCE = PromptUtility(
    "acceptance",
    UTILITIES.line("acceptance"),
    measure,
    needs_answers=False,
    answer=own_answer,
    of_tokens=accepted,
    unit="nats",
)
