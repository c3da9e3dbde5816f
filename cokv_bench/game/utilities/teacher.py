"""Teacher forcing: how likely an answer is under each selection, one forward pass for a batch of them."""

from collections.abc import Sequence

from cokv_bench.game.utilities.base import Case
from cokv_bench.kvcache import Selection, decode


def mean_logprobs(case: Case, selections: Sequence[Selection], answer: Sequence[int]) -> list[float]:
    """Mean log-probability (nats a token) of an answer of two tokens or more under each selection.

    The first token is left out: it depends on the prefill alone, so no selection changes it.
    """
    rows = decode(case.model, case.prompt, selections, teacher=answer, memory=case.memory)
    return [float(row.logprobs[1:].double().mean()) for row in rows if row.logprobs is not None]
