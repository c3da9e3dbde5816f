"""Independent computations in float64, one number at a time, for the tests of rankings."""

import math
from dataclasses import replace

import torch

#: Of prompts: queries of a group and of one, windows of one token and of all but one, more queries than the window.
SHAPES = [
    {"tokens": 17},
    {"tokens": 13, "kv_heads": 3, "group": 1, "window": 2},
    {"tokens": 11, "kv_heads": 1, "group": 3, "window": 1, "dim": 6},
    {"tokens": 5},
    {"tokens": 14, "window": 5, "keeps": 2},
]


def prompt_of(make_prompt, keeps=None, **shape):
    """A prompt with fewer tokens in the window than its queries are, if `keeps` says so."""
    prompt = make_prompt(**shape)
    return prompt if keeps is None else replace(prompt, window=keeps)


def attention(queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and scaled products of the last queries, [heads, queries, tokens]; products are 0 where none is seen."""
    heads, window, dim = queries.shape
    kv_heads, tokens, _ = keys.shape
    weights = torch.zeros(heads, window, tokens, dtype=torch.float64)
    products = torch.zeros_like(weights)
    for head in range(heads):
        mine = keys[head * kv_heads // heads].double()
        for row in range(window):
            seen = tokens - window + row + 1
            logits = [math.fsum((queries[head, row].double() * mine[p]).tolist()) / math.sqrt(dim) for p in range(seen)]
            parts = [math.exp(logit - max(logits)) for logit in logits]
            products[head, row, :seen] = torch.tensor(logits, dtype=torch.float64)
            weights[head, row, :seen] = torch.tensor(parts, dtype=torch.float64) / math.fsum(parts)
    return weights, products


def pooled(row: list[float], kernel: int, pooling: str) -> list[float]:
    reach = kernel // 2
    around = [row[max(at - reach, 0) : at + reach + 1] for at in range(len(row))]
    return [max(each) if pooling == "max" else sum(each) / kernel for each in around]


def norms(prompt, layer: int) -> list[list[float]]:
    """||v W_O||_1 of each KV head's tokens, mean over its query heads."""
    weight = prompt.model.network.get_decoder().layers[layer].self_attn.o_proj.weight.detach().double()
    values = prompt.values[layer].double()
    kv_heads, tokens, dim = values.shape
    heads = prompt.model.heads
    group = heads // kv_heads
    found = [[0.0] * tokens for _ in range(kv_heads)]
    for head in range(heads):
        columns = weight[:, head * dim : (head + 1) * dim]
        for p in range(tokens):
            projected = [sum((columns[out] * values[head // group, p]).tolist()) for out in range(weight.shape[0])]
            found[head // group][p] += sum(abs(x) for x in projected) / group
    return found


def ranks(scores: list[float]) -> list[int]:
    """Place of each token; equal scores: the lower position first."""
    order = sorted(range(len(scores)), key=lambda p: (-scores[p], p))
    return [order.index(p) for p in range(len(scores))]
