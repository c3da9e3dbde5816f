"""Random scores: the control that any scorer has to beat."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("random", "chance, from a seed and the prompt", "Random")


@dataclass(frozen=True)
class Random:
    """Scores a prompt by chance, from `seed` and the prompt's own tokens.

    The same prompt gets the same scores in every process and in any order of prompts.
    """

    seed: int = 0

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        token_ids = prompt.token_ids.cpu().to(torch.int64).numpy().tobytes()
        digest = hashlib.sha256(f"{self.seed}:".encode() + token_ids).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        before = max(prompt.tokens - prompt.window, 0)
        drawn = [
            torch.rand(prompt.kv_heads, before, generator=generator) for _ in range(prompt.first_layer + prompt.layers)
        ]
        return drawn[prompt.first_layer :]
