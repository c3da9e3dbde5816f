"""What the tokens of a prompt do to the outputs of its heads: values, and how far they are from what a query reads."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cokv_bench.policies.attention import window_logits

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt


@dataclass(frozen=True)
class Effects:
    """One layer of a prompt as the window's queries read it; all float32, of the tokens before the window.

    Values v and outputs o are told from the mean output of the KV head. A token that takes nearly all attention has a
    value that is nearly the output, and subtracting two large numbers would leave nothing of the difference.

    Attributes:
        logits, weights: [kv_heads, group, queries, before], before and after the softmax over the whole prompt; both 0
            at tokens that a query does not see, which there are where more queries are observed than the window keeps.
        values: [kv_heads, before, dim].
        values_off, outputs_off: values, and outputs [kv_heads, group * queries, dim], less the mean output.
    """

    logits: Tensor
    weights: Tensor
    values: Tensor
    values_off: Tensor
    outputs_off: Tensor

    def distances(self) -> Tensor:
        """||v - o||^2 of each token and query, [kv_heads, group, queries, before]."""
        values, outputs = self.values_off, self.outputs_off
        # One product for the square and its three terms.
        left = torch.cat([-2 * outputs, _squares(outputs), torch.ones_like(outputs[..., :1])], dim=2)
        right = torch.cat([values, torch.ones_like(values[..., :1]), _squares(values)], dim=2)
        return (left @ right.transpose(1, 2)).clamp_(min=0).view(self.weights.shape)

    def pulls(self) -> Tensor:
        """||v||^2 - v . o = v . (v - o) of each token and query, [kv_heads, group, queries, before]."""
        own = (self.values * self.values_off).sum(dim=2)[:, None]
        return (own - self.outputs_off @ self.values.transpose(1, 2)).view(self.weights.shape)


def effects(prompt: "Prompt", layer: int) -> Effects:
    """What the tokens before the window do to what its queries read in a layer."""
    logits = window_logits(prompt, layer)
    weights = prompt.form(layer).softmax(logits)
    values = prompt.values[layer].float()
    before = prompt.tokens - prompt.window
    outputs = weights.flatten(1, 2) @ values
    center = outputs.mean(dim=1, keepdim=True)
    near = values[:, :before]
    seen = logits[..., :before].nan_to_num(neginf=0.0)
    return Effects(seen, weights[..., :before], near, near - center, outputs - center)


def _squares(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=-1, keepdim=True)
