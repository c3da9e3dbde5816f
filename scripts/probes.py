"""Probes that need no label, as utilities: by which one could choose among methods for each prompt.

cokv-bench eval --plugin scripts/probes.py --utility draft-16 --method A,B --out PROBES
python scripts/study_choice.py RUN --probe PROBES

draft-4, draft-8, draft-16   each method drafts up to so many tokens from its own evicted cache; the draft's mean
                             log-probability under the full cache less that under the evicted one, 0 where both agree
kept-attention               the share of the window's attention that falls on what is kept, mean over heads
"""

from collections.abc import Callable, Sequence

import torch

from cokv_bench.game.utilities import Case, PromptUtility, register_utility
from cokv_bench.game.utilities.teacher import of_answer
from cokv_bench.kvcache import Selection
from cokv_bench.kvcache.reading import draft
from cokv_bench.policies.attention import window_of
from cokv_bench.units import FRACTION, NATS

TOKENS = (4, 8, 16)


def drafted(tokens: int) -> Callable[[Case, Sequence[Selection]], list[float]]:
    """The measure of drafts of at most so many tokens."""

    def measure(case: Case, selections: Sequence[Selection]) -> list[float]:
        prompt = case.prompt
        written = draft(case.model, prompt, selections, tokens, case.question)
        full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        found = [0.0] * len(selections)
        texts = [tuple(each.token_ids) for each in written]
        for text in set(texts):
            # That an answer ends here is part of what it says.
            ids = text if len(text) == tokens else (*text, min(case.model.stop_ids))
            if len(ids) < 2 and not case.first_token_counts:
                continue  # The first token depends on the prefill alone: no probe can tell the methods apart by it.
            rows = [index for index, each in enumerate(texts) if each == text]
            at_full, *own = of_answer(case, [full, *(selections[row] for row in rows)], ids)
            for row, score in zip(rows, own, strict=True):
                found[row] = at_full - score
        return found

    return measure


def kept_attention(case: Case, selections: Sequence[Selection]) -> list[float]:
    """See above; heads count alike."""
    layers = range(case.prompt.layers)
    seen = torch.stack([window_of(case.prompt, layer).mean(dim=(1, 2)) for layer in layers])
    kept = [torch.stack([choice.mask(layer) for layer in layers]).to(seen.device) for choice in selections]
    return [float((seen * each).sum(dim=-1).mean()) for each in kept]


for count in TOKENS:
    register_utility(
        PromptUtility(
            f"draft-{count}",
            f"what the full cache thinks of a draft of up to {count} tokens from the evicted one",
            drafted(count),
            needs_answers=False,
            unit=NATS,
        )
    )
register_utility(
    PromptUtility(
        "kept-attention", "attention of the window that is kept", kept_attention, needs_answers=False, unit=FRACTION
    )
)
