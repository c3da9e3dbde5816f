"""A prompt without a model: random keys and queries, and what prefill would derive from them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cokv_bench.kvcache import Prompt


def accumulated(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Attention received over all queries, float64 and one query at a time: [kv_heads, tokens]."""
    heads, tokens, dim = queries.shape
    kv_heads = keys.shape[0]
    group = heads // kv_heads
    received = torch.zeros(kv_heads, tokens, dtype=torch.float64)
    for head in range(heads):
        for last in range(tokens):
            logits = keys[head // group, : last + 1].double() @ queries[head, last].double() / dim**0.5
            received[head // group, : last + 1] += logits.softmax(0) / group
    return received.float()


def projecting(layers: int, heads: int, dim: int, width: int, seed: int) -> Any:
    """What stands in for a model of which output projections alone are read."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(layers, width, heads * dim, generator=generator)
    blocks = [SimpleNamespace(self_attn=SimpleNamespace(o_proj=SimpleNamespace(weight=each))) for each in weights]
    decoder = SimpleNamespace(layers=blocks)
    network = SimpleNamespace(get_decoder=lambda: decoder)
    return SimpleNamespace(
        name="a stand-in", heads=heads, network=network, decoder=decoder, evicted_layers=range(len(blocks))
    )


@pytest.fixture(scope="session")
def make_prompt() -> Callable[..., Any]:
    """make_prompt(tokens, layers=2, kv_heads=2, group=2, dim=4, window=4, seed=0, sums=False, width=0).

    With a width it knows a model whose output projections have that width.
    """

    def make(
        tokens: int,
        layers: int = 2,
        kv_heads: int = 2,
        group: int = 2,
        dim: int = 4,
        window: int = 4,
        seed: int = 0,
        sums: bool = False,
        width: int = 0,
    ) -> Any:
        generator = torch.Generator().manual_seed(seed)
        queries = torch.randn(layers, kv_heads * group, tokens, dim, generator=generator)
        keys = torch.randn(layers, kv_heads, tokens, dim, generator=generator)
        token_ids = torch.randint(0, 1000, (tokens,), generator=generator)
        return Prompt(
            token_ids=token_ids,
            window=window,
            keys=list(keys),
            values=list(torch.randn(layers, kv_heads, tokens, dim, generator=generator)),
            window_queries=[q[:, -window:] for q in queries],
            accumulated_attention=[accumulated(q, k) for q, k in zip(queries, keys, strict=True)] if sums else None,
            logits=torch.zeros(8),
            model=projecting(layers, kv_heads * group, dim, width, seed) if width else None,
        )

    return make
