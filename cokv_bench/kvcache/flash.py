"""Attention in parts by PyTorch's flash kernel for CPUs, which never writes the scores down.

A part is attention over some of the tokens, with the logarithm of its sum of exponentials (its mass). Parts add up to
attention over all the tokens, weighted by their masses (Dao et al., FlashAttention, arXiv 2205.14135).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cokv_bench.kvcache.generated import own_token_scores
from cokv_bench.models.form import Form

# What `scaled_dot_product_attention` calls, which keeps the masses to itself. Dot products are float32 in any dtype.
_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class Part(NamedTuple):
    """Attention over some of the tokens.

    Attributes:
        out: [..., queries, dim].
        mass: float32 [..., queries], the logarithm of the sum of the exponentials of the logits.
    """

    out: Tensor
    mass: Tensor


def serves(device: torch.device, form: Form) -> bool:
    """Whether the kernel computes such attention. Sinks are a part of their own; a softcap changes each logit."""
    return device.type == "cpu" and form.softcap is None


def over_shared(queries: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Part:
    """Queries [kv_heads, queries, dim] of any rows over keys that all of them read, [kv_heads, tokens, dim]."""
    out, mass = _kernel(queries[None], keys[None], values[None], 0.0, False, scale=scaling)
    return Part(out[0], mass[0])


def over_own(grouped: Tensor, keys: Tensor, values: Tensor, form: Form, new: int) -> Part:
    """Queries over their row's own tokens, causal among the new ones.

    Args:
        grouped: [rows, kv_heads, group * new, dim].
        keys, values: [rows, kv_heads, count, dim], the new ones last.
    """
    if new == 1 or new < keys.shape[2]:
        scores = own_token_scores(grouped, keys, form, new)
        mass = scores.logsumexp(dim=-1)
        weights = scores.sub_(mass[..., None]).exp_().to(values.dtype)
        return Part(torch.matmul(weights, values), mass)
    # A KV head's queries are the heads of one call, which read its keys through an expanded view.
    asking = grouped.flatten(0, 1).unflatten(1, (-1, new))
    shape = (asking.shape[0], asking.shape[1], new, keys.shape[-1])
    own = (held.flatten(0, 1)[:, None].expand(shape) for held in (keys, values))
    out, mass = _kernel(asking, *own, 0.0, True, scale=form.scaling)
    return Part(out.reshape(grouped.shape), mass.reshape(grouped.shape[:-1]))


def joined(first: Part, second: Part, form: Form) -> Tensor:
    """Attention over the tokens of both parts, [rows, kv_heads, queries, dim]; a sink takes its share."""
    total = torch.logaddexp(first.mass, second.mass)
    sinks = form.sink_logits(*total.shape[1:])
    if sinks is not None:
        total = torch.logaddexp(total, sinks[..., 0])
    # In float32: the shares have few digits in 16 bits.
    shares = [(part.mass - total).exp_()[..., None] for part in (first, second)]
    return (first.out * shares[0]).add_(second.out * shares[1]).to(first.out.dtype)
