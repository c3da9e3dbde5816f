"""How segments of unequal length are cut into tiles."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.kvcache import tiling
from cokv_bench.kvcache.tiling import Tiling


@given(
    st.lists(st.lists(st.integers(0, 700), min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from([64, 128, 512]),
)
def test_tiles_hold_every_kept_token_once(lengths: list[list[int]], tile: int) -> None:
    sizes = torch.tensor(lengths, dtype=torch.int32)
    starts = (10 + sizes.flatten().cumsum(0) - sizes.flatten()).int().view_as(sizes)
    plan = Tiling.of(starts, sizes, tile=tile)
    assert plan.tiles.dtype == plan.segments.dtype == torch.int32
    slots = [(segment, slot) for segment, begin, count in plan.tiles.tolist() for slot in range(begin, begin + count)]
    wanted = zip(starts.flatten().tolist(), sizes.flatten().tolist(), strict=True)
    assert slots == [(k, slot) for k, (start, size) in enumerate(wanted) for slot in range(start, start + size)]
    counts = plan.tiles[:, 2]
    assert ((counts > 0) & (counts <= tile)).all()
    for segment, (first, pieces) in enumerate(plan.segments.tolist()):
        assert (plan.tiles[first : first + pieces, 0] == segment).all()
        assert pieces == -(-sizes.flatten()[segment] // tile)


def test_tiles_grow_with_the_cache_between_their_bounds() -> None:
    least, most = tiling.TILE_TOKENS
    found = [tiling.tile_tokens(tokens, torch.device("cpu")) for tokens in (0, 2000, 4000, 10**7)]
    assert found[0] == least
    assert least < found[2] < found[3] == most
    assert all(tile % 64 == 0 for tile in found)


def test_starts_and_lengths_must_have_one_shape() -> None:
    with pytest.raises(ValueError, match="not both 2-d alike"):
        Tiling.of(torch.zeros(2, 2), torch.zeros(4))
