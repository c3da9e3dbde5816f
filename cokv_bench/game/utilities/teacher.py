"""Teacher forcing: how likely an answer is under each selection, one forward pass for a batch of them."""

from collections.abc import Sequence

from cokv_bench.kvcache import Prompt, Selection, decode
from cokv_bench.models import Model


def mean_logprobs(
    model: Model, prompt: Prompt, selections: Sequence[Selection], answer: Sequence[int], *, memory: int | None = None
) -> list[float]:
    """Mean log-probability (nats a token) of an answer of two tokens or more under each selection.

    The first token is left out: it depends on the prefill alone, so no selection changes it.
    """
    rows = decode(model, prompt, selections, teacher=answer, memory=memory)
    return [float(row.logprobs[1:].double().mean()) for row in rows if row.logprobs is not None]
