"""Decode attention over a KV cache whose heads keep unequal numbers of tokens: a split-KV Triton kernel.

Split-KV decode (FlashDecoding, Dao et al., 2023) cuts the keys and values of a head into tiles, attends to each tile
on its own with an online softmax, and combines the partial results. Here the tiles come from a list, made once a
cache: long heads have many tiles, short ones few, and a head without kept tokens none, so unequal heads fill the
multiprocessors as evenly as equal ones. A tile is read once for all query heads of its group.

A row's KV head is a *segment*, number `row * kv_heads + head`. Its tokens lie in one flat buffer [slots, dim] each for
keys and values: the kept prompt tokens one after the other, and from some other slot on those that the row generated.

This module needs Triton and is imported by nothing that is imported without it. It runs on CUDA devices, and on a CPU
in Triton's interpreter mode (`TRITON_INTERPRET=1` before anything imports Triton), which is for tests alone.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from cokv_bench.kvcache.tiling import BLOCK_TOKENS, Tiling

# Bytes that a program reads of the keys at a time, and as many of the values; several such blocks are on their way to
# shared memory at once.
_BLOCK_BYTES = 2**14

# Partial results that are combined at a time.
_CHUNK = 16

# The tensor cores' smallest number of rows: a smaller group of query heads is padded to it.
_DOT_ROWS = 16


def decode_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    plan: Tiling,
    own_starts: Tensor,
    own_counts: Tensor | int,
    scaling: float,
) -> Tensor:
    """Attention of one new token a row to what its heads keep of the prompt and to the row's own tokens.

    Apart from the result, a call after the first allocates nothing, and it never waits for the device: it can be
    captured in a CUDA graph, `own_counts` then as a tensor that is changed between replays.

    Args:
        query: [rows, heads, dim], contiguous; head q reads KV head `q // (heads / kv_heads)`.
        keys, values: [slots, dim], contiguous, of the query's type: float32, bfloat16 or float16.
        plan: where the kept prompt tokens lie.
        own_starts: int32 [rows, kv_heads], the slot of each segment's first own token; the others follow.
        own_counts: own tokens of each row, the new one included, so 1 or more: an int, or on the device int32 or int64,
            [1] for all rows or [rows].
        scaling: factor of the scores before the softmax.

    Returns:
        [rows, heads, dim] of the query's type.

    Raises:
        ValueError: the arguments do not fit together.
    """
    rows, heads, dim = query.shape
    _check(query, keys, values, plan, own_starts, own_counts)
    if isinstance(own_counts, int):
        own_counts = plan.own_count.fill_(own_counts)
    group, segments = heads // plan.kv_heads, rows * plan.kv_heads
    padded_dim = triton.next_power_of_2(dim)
    maxima, sums, weighted = plan.scratch(group, dim)
    result = torch.empty_like(query)
    # A kernel runs on the current device, which need not be that of a layer of a model spread over several.
    with torch.cuda.device_of(query):
        _attend[(segments + len(plan.tiles),)](
            query,
            keys,
            values,
            plan.tiles,
            own_starts,
            own_counts,
            maxima,
            sums,
            weighted,
            segments,
            scaling * math.log2(math.e),
            # How many segments share a number of own tokens: those of a row, or all.
            plan.kv_heads if len(own_counts) == rows else segments,
            GROUP=group,
            PADDED_GROUP=max(_DOT_ROWS, triton.next_power_of_2(group)),
            DIM=dim,
            PADDED_DIM=max(_DOT_ROWS, padded_dim),
            BLOCK=max(_DOT_ROWS, min(BLOCK_TOKENS, _BLOCK_BYTES // (padded_dim * query.element_size()))),
            num_warps=4,
            num_stages=3,
        )
        _combine[(rows * heads,)](
            result,
            maxima,
            sums,
            weighted,
            plan.segments,
            segments,
            GROUP=group,
            DIM=dim,
            PADDED_DIM=padded_dim,
            CHUNK=_CHUNK,
            num_warps=4,
        )
    return result


def _check(
    query: Tensor, keys: Tensor, values: Tensor, plan: Tiling, own_starts: Tensor, own_counts: Tensor | int
) -> None:
    """Refuse what the kernels would read past the end of, or misread."""
    rows, heads, dim = query.shape
    if rows != plan.rows or heads % plan.kv_heads:
        raise ValueError(f"{rows} rows of {heads} heads, but a plan of {plan.rows} rows and {plan.kv_heads} KV heads.")
    if keys.shape != values.shape or keys.shape[1] != dim:
        raise ValueError(f"Keys {tuple(keys.shape)} and values {tuple(values.shape)} for queries of {dim} channels.")
    if not query.dtype == keys.dtype == values.dtype:
        raise ValueError(f"Queries are {query.dtype}, keys {keys.dtype}, values {values.dtype}; they must be the same.")
    if not (query.is_contiguous() and keys.is_contiguous() and values.is_contiguous()):
        raise ValueError("Queries, keys and values must be contiguous.")
    places = (rows, plan.kv_heads)
    if own_starts.dtype != torch.int32 or own_starts.shape != places or not own_starts.is_contiguous():
        raise ValueError(f"own_starts must be int32 {list(places)}, contiguous.")
    if isinstance(own_counts, Tensor):
        if own_counts.dtype not in (torch.int32, torch.int64) or own_counts.shape not in ((1,), (rows,)):
            raise ValueError(f"own_counts must be an int, or int32 or int64 of shape [1] or [{rows}].")
    elif own_counts < 1:
        raise ValueError(f"{own_counts} own tokens; the new token is one of them.")


# Neither the number of segments nor where a list lies in memory is worth a compilation of its own.
@triton.jit(
    do_not_specialize=["segments", "alike"], do_not_specialize_on_alignment=["tiles", "own_starts", "own_counts"]
)
def _attend(  # type: ignore[no-untyped-def]
    query,
    keys,
    values,
    tiles,
    own_starts,
    own_counts,
    maxima,
    sums,
    weighted,
    segments,
    scale,
    alike,
    GROUP: tl.constexpr,
    PADDED_GROUP: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Attend to the own tokens of a segment (the first `segments` programs) or to a tile of kept tokens.

    `scale` is the scores' factor times log2(e): weights are powers of two.
    """
    program = tl.program_id(0)
    if program < segments:
        segment = program
        begin = tl.load(own_starts + segment)
        count = tl.load(own_counts + segment // alike).to(tl.int32)
    else:
        work = tiles + (program - segments) * 3
        segment = tl.load(work)
        begin = tl.load(work + 1)
        count = tl.load(work + 2)

    members = tl.arange(0, PADDED_GROUP)
    dims = tl.arange(0, PADDED_DIM)
    places = members[:, None] * DIM + dims[None, :]
    real = (members[:, None] < GROUP) & (dims[None, :] < DIM)
    queries = tl.load(query + segment.to(tl.int64) * (GROUP * DIM) + places, mask=real, other=0.0)

    # A buffer can have more than 2^31 elements, but the slots of one program do not lie that far apart.
    first_key = keys + begin.to(tl.int64) * DIM
    first_value = values + begin.to(tl.int64) * DIM
    maximum = tl.full([PADDED_GROUP], float("-inf"), tl.float32)
    total = tl.zeros([PADDED_GROUP], tl.float32)
    output = tl.zeros([PADDED_GROUP, PADDED_DIM], tl.float32)
    for start in tl.range(0, count, BLOCK):
        tokens = start + tl.arange(0, BLOCK)
        inside = tokens < count
        offsets = tokens[:, None] * DIM + dims[None, :]
        # Nothing is read beyond the segment, so that whatever lies there, NaN included, cannot show in the result.
        readable = inside[:, None] & (dims[None, :] < DIM)
        key = tl.load(first_key + offsets, mask=readable, other=0.0)
        scores = tl.dot(queries, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        # Each block has a token inside, so the maximum is finite from the first block on.
        higher = tl.maximum(maximum, tl.max(scores, axis=1))
        shrink = tl.exp2(maximum - higher)
        weights = tl.exp2(scores - higher[:, None])
        value = tl.load(first_value + offsets, mask=readable, other=0.0)
        total = total * shrink + tl.sum(weights, axis=1)
        output = tl.dot(weights.to(value.dtype), value, output * shrink[:, None], input_precision="ieee")
        maximum = higher

    place = program.to(tl.int64) * GROUP
    tl.store(maxima + place + members, maximum, mask=members < GROUP)
    tl.store(sums + place + members, total, mask=members < GROUP)
    tl.store(weighted + place * DIM + places, output, mask=real)


@triton.jit(do_not_specialize=["segments"], do_not_specialize_on_alignment=["table"])
def _combine(  # type: ignore[no-untyped-def]
    result,
    maxima,
    sums,
    weighted,
    table,
    segments,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Combine the partial results of one row and query head, its number `row * heads + head`."""
    number = tl.program_id(0)
    segment = number // GROUP
    first = tl.load(table + segment * 2)
    pieces = tl.load(table + segment * 2 + 1)
    dims = tl.arange(0, PADDED_DIM)
    real = dims < DIM

    # The own tokens' part is there for every segment, and never empty.
    maximum = tl.load(maxima + number)
    total = tl.load(sums + number)
    output = tl.load(weighted + number.to(tl.int64) * DIM + dims, mask=real, other=0.0)
    for start in tl.range(0, pieces, CHUNK):
        piece = start + tl.arange(0, CHUNK)
        there = piece < pieces
        place = (segments + first + piece).to(tl.int64) * GROUP + number % GROUP
        maxima_here = tl.load(maxima + place, mask=there, other=float("-inf"))
        sums_here = tl.load(sums + place, mask=there, other=0.0)
        readable = there[:, None] & real[None, :]
        part = tl.load(weighted + place[:, None] * DIM + dims[None, :], mask=readable, other=0.0)
        higher = tl.maximum(maximum, tl.max(maxima_here, axis=0))
        shrink = tl.exp2(maximum - higher)
        weights = tl.exp2(maxima_here - higher)
        total = total * shrink + tl.sum(weights * sums_here, axis=0)
        output = output * shrink + tl.sum(weights[:, None] * part, axis=0)
        maximum = higher
    tl.store(result + number.to(tl.int64) * DIM + dims, (output / total).to(result.dtype.element_ty), mask=real)
