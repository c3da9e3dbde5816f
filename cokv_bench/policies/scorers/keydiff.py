"""Key difference: keys unlike the head's mean key are kept (KeyDiff, arXiv 2504.15364)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("keydiff", "keys least like the head's mean key (KeyDiff, arXiv 2504.15364)", "KeyDiff")


@dataclass(frozen=True)
class KeyDiff:
    """Scores a token by minus the cosine of its key and the mean of all the head's keys, each of length 1 there.

    Keys alone decide, so no question is needed. The paper evicts block by block while it reads; here, as in other
    evaluations of it, the whole prompt is ranked at once.
    """

    def __call__(self, prompt: "Prompt") -> list[Tensor]:
        """One float32 [kv_heads, tokens - window] a layer; no columns where the window covers the prompt."""
        before = max(prompt.tokens - prompt.window, 0)
        scores = []
        for keys in prompt.keys:
            directions = functional.normalize(keys.float(), dim=-1)
            anchor = functional.normalize(directions.mean(dim=1), dim=-1)
            scores.append(-(directions[:, :before] @ anchor[..., None]).squeeze(-1))
        return scores
