"""What a decoding step does between its matrix products, each in one Triton kernel.

In a step of few rows everything but the products is as much launching and waiting as work: a norm by PyTorch is six
kernels, rotary ten. Here a norm with the addition before it is one, the norms and rotary of queries and keys with the
writing of keys and values is one, and so is the gate. Arithmetic is float32; what is stored is rounded once.

Like `triton_decode`, it needs Triton and runs on CUDA devices, or in Triton's interpreter mode for tests.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_GATE_BLOCK = 1024


def add_norm(hidden: Tensor, more: Tensor | None, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`hidden + more` [rows, width], and its RMS norm.

    Args:
        more: as hidden; None for nothing to add.
    """
    rows, width = hidden.shape
    total = hidden if more is None else torch.empty_like(hidden)
    normed = torch.empty_like(hidden)
    with torch.cuda.device_of(hidden):
        _add_norm[(rows,)](
            hidden,
            hidden if more is None else more,
            weight,
            total,
            normed,
            epsilon,
            ADD=more is not None,
            WIDTH=width,
            PADDED=triton.next_power_of_2(width),
            num_warps=8,
        )
    return total, normed


def rotate_and_store(
    mixed: Tensor,
    cosines: Tensor,
    sines: Tensor,
    norms: tuple[Tensor, Tensor, float] | None,
    keys: Tensor,
    values: Tensor,
    own_starts: Tensor,
    own_counts: Tensor,
) -> Tensor:
    """Queries and keys with norm and rotary applied; keys and values go to the slots of each row's newest token.

    Args:
        mixed: [rows, (heads + 2 * kv_heads) * dim]: queries, keys and values of one token a row.
        cosines, sines: [rows, dim], whose halves are alike.
        norms: weights [dim] for queries and keys, and epsilon; None where these have no norm.
        keys, values: [slots, dim], written to.
        own_starts: int32 [rows, kv_heads], slots of first own tokens.
        own_counts: int64 [rows], own tokens, the new one included.

    Returns:
        Queries [rows, heads, dim].
    """
    rows, dim, kv_heads = len(mixed), keys.shape[1], own_starts.shape[1]
    heads = mixed.shape[1] // dim - 2 * kv_heads
    queries = mixed.new_empty(rows, heads, dim)
    query_norm, key_norm, epsilon = norms if norms is not None else (mixed, mixed, 0.0)
    with torch.cuda.device_of(mixed):
        _rotate[(rows, heads + 2 * kv_heads)](
            mixed,
            cosines,
            sines,
            query_norm,
            key_norm,
            queries,
            keys,
            values,
            own_starts,
            own_counts,
            epsilon,
            NORM=norms is not None,
            HEADS=heads,
            KV_HEADS=kv_heads,
            HALF=dim // 2,
            PADDED=triton.next_power_of_2(dim // 2),
            num_warps=1,
        )
    return queries


def gate(both: Tensor) -> Tensor:
    """SiLU of the first half times the second, [rows, 2 * inner] to [rows, inner]."""
    rows, inner = len(both), both.shape[1] // 2
    out = both.new_empty(rows, inner)
    with torch.cuda.device_of(both):
        _gate[(rows, triton.cdiv(inner, _GATE_BLOCK))](both, out, INNER=inner, BLOCK=_GATE_BLOCK, num_warps=4)
    return out


@triton.jit
def _add_norm(  # type: ignore[no-untyped-def]
    hidden, more, weight, total, normed, epsilon, ADD: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64) * WIDTH
    columns = tl.arange(0, PADDED)
    inside = columns < WIDTH
    state = tl.load(hidden + row + columns, mask=inside, other=0.0)
    if ADD:
        # Rounded as PyTorch rounds a sum, so that the norm sees what is stored.
        added = tl.load(more + row + columns, mask=inside, other=0.0).to(tl.float32)
        state = (state.to(tl.float32) + added).to(total.dtype.element_ty)
        tl.store(total + row + columns, state, mask=inside)
    wide = state.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, axis=0) / WIDTH + epsilon)
    factor = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row + columns, (wide * scale * factor).to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _rotate(  # type: ignore[no-untyped-def]
    mixed,
    cosines,
    sines,
    query_norm,
    key_norm,
    queries,
    keys,
    values,
    own_starts,
    own_counts,
    epsilon,
    NORM: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PADDED: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    dims = tl.arange(0, PADDED)
    inside = dims < HALF
    source = mixed + (row * (HEADS + 2 * KV_HEADS) + head) * (2 * HALF)
    first = tl.load(source + dims, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + HALF + dims, mask=inside, other=0.0).to(tl.float32)
    if head < HEADS + KV_HEADS:
        if NORM:
            scale = 1.0 / tl.sqrt(
                (tl.sum(first * first, axis=0) + tl.sum(second * second, axis=0)) / (2 * HALF) + epsilon
            )
            weight = query_norm
            if head >= HEADS:
                weight = key_norm
            first = first * scale * tl.load(weight + dims, mask=inside, other=0.0).to(tl.float32)
            second = second * scale * tl.load(weight + HALF + dims, mask=inside, other=0.0).to(tl.float32)
        # Both halves of the factors are alike.
        cosine = tl.load(cosines + row * (2 * HALF) + dims, mask=inside, other=0.0).to(tl.float32)
        sine = tl.load(sines + row * (2 * HALF) + dims, mask=inside, other=0.0).to(tl.float32)
        turned = first * cosine - second * sine
        second = second * cosine + first * sine
        first = turned
    if head < HEADS:
        target = queries + (row * HEADS + head) * (2 * HALF)
    else:
        pair = (head - HEADS) % KV_HEADS
        slot = (tl.load(own_starts + row * KV_HEADS + pair) + tl.load(own_counts + row) - 1).to(tl.int64)
        target = keys + slot * (2 * HALF)
        if head >= HEADS + KV_HEADS:
            target = values + slot * (2 * HALF)
    tl.store(target + dims, first.to(queries.dtype.element_ty), mask=inside)
    tl.store(target + HALF + dims, second.to(queries.dtype.element_ty), mask=inside)


@triton.jit
def _gate(both, out, INNER: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < INNER
    opened = tl.load(both + row * (2 * INNER) + columns, mask=inside, other=0.0).to(tl.float32)
    other = tl.load(both + row * (2 * INNER) + INNER + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(
        out + row * INNER + columns, (opened / (1.0 + tl.exp(-opened)) * other).to(out.dtype.element_ty), mask=inside
    )
