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
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Fewest and most tokens of a tile. Below, a tile's start-up outweighs its work; above, the last tiles run alone.
TILE_TOKENS = (128, 2048)

# Tiles a multiprocessor that a cache is cut into if it is large enough: two or three run there at a time, so this is
# about three rounds of them, and the last round, which is never full, is a small part of the whole.
_TILES_A_MULTIPROCESSOR = 8

# Tokens and bytes that a program reads of the keys at a time, and as many of the values; several such blocks are on
# their way to shared memory at once.
_BLOCK_TOKENS = 64
_BLOCK_BYTES = 2**14

# Partial results that are combined at a time.
_CHUNK = 16

# The tensor cores' smallest number of rows: a smaller group of query heads is padded to it.
_DOT_ROWS = 16


@dataclass(frozen=True, eq=False)
class Tiling:
    """The tiles of a cache's kept prompt tokens, and memory for their partial results.

    It holds as long as the kept tokens stay where they are. Plans that are used in turn can share a workspace.

    Attributes:
        rows, kv_heads: the segments' shape.
        tiles: int32 [tiles, 3], the segment of each tile, its first slot and its number of tokens.
        segments: int32 [rows * kv_heads, 2], the place in `tiles` of each segment's first tile and its number of
            tiles.
        own_count: int32 [1], where a number of own tokens that is given as an int is put.
        workspace: where partial results are put; calls of all plans that share it must not overlap.
    """

    rows: int
    kv_heads: int
    tiles: Tensor
    segments: Tensor
    own_count: Tensor
    workspace: "Workspace"

    @classmethod
    def of(
        cls,
        starts: Tensor,
        lengths: Tensor,
        *,
        device: torch.device | None = None,
        workspace: "Workspace | None" = None,
        tile: int | None = None,
    ) -> "Tiling":
        """The plan of a cache.

        Args:
            starts: integers [rows, kv_heads], the slot of each segment's first kept token.
            lengths: integers [rows, kv_heads], its number of kept tokens, 0 or more.
            device: where the cache lies; default where `starts` does.
            workspace: shared with other plans; default one of its own.
            tile: the most tokens of a tile; by default what fills the device.

        Raises:
            ValueError: the shapes differ.
        """
        if starts.shape != lengths.shape or starts.dim() != 2:
            raise ValueError(f"starts {tuple(starts.shape)} and lengths {tuple(lengths.shape)} are not both 2-d alike.")
        rows, kv_heads = starts.shape
        device = device or starts.device
        begins, counts = torch.stack([starts, lengths]).flatten(1).long().cpu()
        most = tile or _tile_tokens(int(counts.sum()), device)
        pieces = -(-counts // most)
        # Pieces of equal size, in whole blocks: a head just longer than a tile must not leave a tile of one token.
        sizes = -(-counts // pieces.clamp(min=1))
        sizes = (-(-sizes // _BLOCK_TOKENS) * _BLOCK_TOKENS).clamp(min=_BLOCK_TOKENS)
        pieces = -(-counts // sizes)
        firsts = pieces.cumsum(0) - pieces
        segment = torch.arange(len(counts)).repeat_interleave(pieces)
        done = (torch.arange(len(segment)) - firsts[segment]) * sizes[segment]
        tokens = torch.minimum(sizes[segment], counts[segment] - done)
        tiles = torch.stack([segment, begins[segment] + done, tokens], dim=1)
        table = torch.stack([firsts, pieces], dim=1)
        flat = torch.cat([table.flatten(), tiles.flatten()]).int().to(device)
        return cls(
            rows,
            kv_heads,
            flat[table.numel() :].view(-1, 3),
            flat[: table.numel()].view(-1, 2),
            torch.ones(1, dtype=torch.int32, device=device),
            Workspace() if workspace is None else workspace,
        )

    def scratch(self, group: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Memory for partial results, float32: a segment's own tokens first, then the tiles.

        Returns:
            The scores' maxima and the sums of weights, [segments + tiles, group] each, and the weighted values,
            [segments + tiles, group, dim].
        """
        size = (len(self.segments) + len(self.tiles)) * group
        floats = self.workspace.floats(size * (dim + 2), self.tiles.device)
        maxima, sums, weighted = floats.split([size, size, size * dim])
        return maxima.view(-1, group), sums.view(-1, group), weighted.view(-1, group, dim)


class Workspace:
    """Memory for partial results on each device, which grows to the largest that was asked for."""

    def __init__(self) -> None:
        self._buffers: dict[torch.device, Tensor] = {}

    def floats(self, count: int, device: torch.device) -> Tensor:
        """float32 [count], the same memory as before unless it has to grow."""
        if device not in self._buffers or len(self._buffers[device]) < count:
            self._buffers[device] = torch.empty(count, dtype=torch.float32, device=device)
        return self._buffers[device][:count]


def decode_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    plan: Tiling,
    own_starts: Tensor,
    own_count: Tensor | int,
    scaling: float,
) -> Tensor:
    """Attention of one new token a row to what its heads keep of the prompt and to the row's own tokens.

    Apart from the result, a call after the first allocates nothing, and it never waits for the device: it can be
    captured in a CUDA graph, `own_count` then as a tensor that is changed between replays.

    Args:
        query: [rows, heads, dim], contiguous; head q reads KV head `q // (heads / kv_heads)`.
        keys, values: [slots, dim], contiguous, of the query's type: float32, bfloat16 or float16.
        plan: where the kept prompt tokens lie.
        own_starts: int32 [rows, kv_heads], the slot of each segment's first own token; the others follow.
        own_count: own tokens of each row, the new one included, so 1 or more; an int, or int32 or int64 [1] on the
            device.
        scaling: factor of the scores before the softmax.

    Returns:
        [rows, heads, dim] of the query's type.

    Raises:
        ValueError: the arguments do not fit together.
    """
    rows, heads, dim = query.shape
    _check(query, keys, values, plan, own_starts, own_count)
    if isinstance(own_count, int):
        own_count = plan.own_count.fill_(own_count)
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
            own_count,
            maxima,
            sums,
            weighted,
            segments,
            scaling * math.log2(math.e),
            GROUP=group,
            PADDED_GROUP=max(_DOT_ROWS, triton.next_power_of_2(group)),
            DIM=dim,
            PADDED_DIM=max(_DOT_ROWS, padded_dim),
            BLOCK=max(_DOT_ROWS, min(_BLOCK_TOKENS, _BLOCK_BYTES // (padded_dim * query.element_size()))),
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
    query: Tensor, keys: Tensor, values: Tensor, plan: Tiling, own_starts: Tensor, own_count: Tensor | int
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
    if isinstance(own_count, Tensor):
        if own_count.dtype not in (torch.int32, torch.int64) or own_count.numel() != 1:
            raise ValueError("own_count must be an int, int32 [1] or int64 [1].")
    elif own_count < 1:
        raise ValueError(f"{own_count} own tokens; the new token is one of them.")


def _tile_tokens(tokens: int, device: torch.device) -> int:
    """The most tokens of a tile where all heads together keep `tokens`, a multiple of the block."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    share = tokens // (processors * _TILES_A_MULTIPROCESSOR)
    least, most = TILE_TOKENS
    return min(max(share // _BLOCK_TOKENS * _BLOCK_TOKENS, least), most)


# Neither the number of segments nor where a list lies in memory is worth a compilation of its own.
@triton.jit(do_not_specialize=["segments"], do_not_specialize_on_alignment=["tiles", "own_starts", "own_count"])
def _attend(  # type: ignore[no-untyped-def]
    query,
    keys,
    values,
    tiles,
    own_starts,
    own_count,
    maxima,
    sums,
    weighted,
    segments,
    scale,
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
        count = tl.load(own_count).to(tl.int32)
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
