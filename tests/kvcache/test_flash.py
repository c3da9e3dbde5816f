"""Attention in parts against one softmax in float64 over all the tokens."""

import pytest
import torch
from torch import Tensor

from cokv_bench.kvcache.flash import Part, joined, over_own, over_shared, serves
from cokv_bench.models.form import Form

ROWS, KV_HEADS, GROUP, DIM = 3, 2, 2, 16
SCALING = 0.3


def made(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_one_softmax(grouped: Tensor, keys: Tensor, values: Tensor, new: int, sinks: Tensor | None) -> Tensor:
    """`keys`, `values` [rows, kv_heads, tokens, dim], those of the new tokens last."""
    asked = grouped.double().unflatten(2, (GROUP, new))
    logits = torch.einsum("rhgnd,rhtd->rhgnt", asked, keys.double()) * SCALING
    tokens = keys.shape[2]
    for index in range(new):
        logits[:, :, :, index, tokens - new + index + 1 :] = float("-inf")
    if sinks is not None:
        column = sinks.double().view(1, KV_HEADS, GROUP, 1, 1).expand(*logits.shape[:-1], 1)
        logits = torch.cat([logits, column], dim=-1)
    weights = logits.softmax(-1)[..., :tokens]
    return torch.einsum("rhgnt,rhtd->rhgnd", weights, values.double()).flatten(2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize(("before", "new"), [(0, 1), (4, 1), (0, 7), (5, 6)])
@pytest.mark.parametrize("shared", [0, 1, 40])
def test_parts_add_up_to_attention_over_all_tokens(
    dtype: torch.dtype, with_sinks: bool, before: int, new: int, shared: int
) -> None:
    count = before + new
    form = Form(SCALING, sinks=made(KV_HEADS * GROUP, seed=9) if with_sinks else None)
    grouped = made(ROWS, KV_HEADS, GROUP * new, DIM, seed=1, dtype=dtype)
    keys, values = (made(KV_HEADS, shared, DIM, seed=seed, dtype=dtype) for seed in (2, 3))
    own_keys, own_values = (made(ROWS, KV_HEADS, count, DIM, seed=seed, dtype=dtype) for seed in (4, 5))
    own = over_own(grouped, own_keys, own_values, form, new)
    if shared:
        read = over_shared(grouped.transpose(0, 1).flatten(1, 2), keys, values, SCALING)
        prompt = Part(*(each.unflatten(1, (ROWS, GROUP * new)).transpose(0, 1) for each in read))
    else:
        prompt = Part(torch.zeros_like(own.out), torch.full_like(own.mass, float("-inf")))
    found = joined(prompt, own, form)
    whole = (
        torch.cat([of_prompt.expand(ROWS, -1, -1, -1), of_row], dim=2)
        for of_prompt, of_row in ((keys, own_keys), (values, own_values))
    )
    expected = by_one_softmax(grouped, *whole, new, form.sinks)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2 if dtype == torch.bfloat16 else 3e-3
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


def test_products_beyond_float16_stay_finite() -> None:
    """Raw products of 67500 exceed what float16 holds."""
    queries, keys = (torch.zeros(1, 1, DIM, dtype=torch.float16) for _ in range(2))
    queries[..., 0], keys[..., 0] = 150.0, 450.0
    values = made(1, 1, DIM, dtype=torch.float16)
    found = over_shared(queries, keys, values, 0.25)
    assert torch.equal(found.out, values)
    assert found.mass.item() == pytest.approx(0.25 * 67500)


def test_a_softcap_and_other_devices_are_left_to_scores_that_are_written_down() -> None:
    cpu = torch.device("cpu")
    assert serves(cpu, Form(1.0))
    assert serves(cpu, Form(1.0, sinks=torch.zeros(2)))
    assert not serves(cpu, Form(1.0, softcap=30.0))
    assert not serves(torch.device("cuda"), Form(1.0))
