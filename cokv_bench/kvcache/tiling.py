"""Where the kept tokens of a cache lie, cut into tiles of like size: what a split-KV kernel works through.

Long heads have many tiles, short ones few, and a head without kept tokens none. A row's KV head is a *segment*, number
`row * kv_heads + head`. This module needs no Triton.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

#: Tokens that a program of the kernel reads at a time.
BLOCK_TOKENS = 64

#: Fewest and most tokens of a tile. Below, a tile's start-up outweighs its work; above, the last tiles run alone.
TILE_TOKENS = (128, 2048)

#: Tiles a multiprocessor that a cache is cut into if it is large enough: two or three run there at a time, so this is
#: about three rounds of them, and the last round, which is never full, is a small part of the whole.
TILES_A_MULTIPROCESSOR = 8


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
        device = device or starts.device
        begins, counts = torch.stack([starts, lengths]).flatten(1).long().cpu()
        tiles, segments = cut(begins, counts, tile or tile_tokens(int(counts.sum()), device))
        flat = torch.cat([segments.flatten(), tiles.flatten()]).int().to(device)
        rows, kv_heads = starts.shape
        return cls(
            rows,
            kv_heads,
            flat[segments.numel() :].view(-1, 3),
            flat[: segments.numel()].view(-1, 2),
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


def cut(begins: Tensor, counts: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The tiles of segments of `counts` tokens that begin at the slots `begins`, both int64 [segments] on the CPU.

    Args:
        most: tokens of a tile.

    Returns:
        int64 [tiles, 3] and [segments, 2], see `Tiling`.
    """
    pieces = -(-counts // most)
    # Pieces of equal size, in whole blocks: a head just longer than a tile must not leave a tile of one token.
    sizes = -(-counts // pieces.clamp(min=1))
    sizes = (-(-sizes // BLOCK_TOKENS) * BLOCK_TOKENS).clamp(min=BLOCK_TOKENS)
    pieces = -(-counts // sizes)
    firsts = pieces.cumsum(0) - pieces
    segment = torch.arange(len(counts)).repeat_interleave(pieces)
    done = (torch.arange(len(segment)) - firsts[segment]) * sizes[segment]
    tokens = torch.minimum(sizes[segment], counts[segment] - done)
    return torch.stack([segment, begins[segment] + done, tokens], dim=1), torch.stack([firsts, pieces], dim=1)


def tile_tokens(tokens: int, device: torch.device) -> int:
    """The most tokens of a tile where all heads together keep `tokens`, a multiple of the block."""
    share = tokens // (multiprocessors(device) * TILES_A_MULTIPROCESSOR)
    least, most = TILE_TOKENS
    return min(max(share // BLOCK_TOKENS * BLOCK_TOKENS, least), most)


def multiprocessors(device: torch.device) -> int:
    """Of a CUDA device; 1 elsewhere."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
