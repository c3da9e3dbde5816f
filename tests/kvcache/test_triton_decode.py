"""The split-KV kernel against plain attention, segment by segment, in buffers where every other slot is NaN.

The kernels run on a CUDA device if there is one, otherwise in Triton's interpreter mode. That must be on before
anything imports Triton, as transformers does: without a device, one test runs this file once more in a process of its
own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="The split-KV kernel needs Triton (pip install triton), which is not installed.")

from cokv_bench.kvcache import RaggedCache, Selection, prefill, ragged, tiling, triton_decode
from cokv_bench.kvcache.decoding import Decoding
from cokv_bench.kvcache.pool import Pool
from cokv_bench.kvcache.stream import Stream, prepare
from cokv_bench.kvcache.tiling import Tiling
from cokv_bench.kvcache.triton_decode import decode_attention
from cokv_bench.policies import get_policy
from tests.conftest import random_ids
from tests.kvcache.kernels import DEVICE, INTERPRETED, RUNS_HERE, poisoned, whole_interpreter  # noqa: F401 - fixtures

#: A tile small enough that a few hundred tokens are several.
TILE = 64


@dataclass
class Case:
    """Arguments of an attention, and the plan of its cache."""

    query: Tensor
    keys: Tensor
    values: Tensor
    starts: Tensor
    lengths: Tensor
    own_starts: Tensor
    own_count: int
    tile: int | None = TILE

    @property
    def scaling(self) -> float:
        return self.query.shape[-1] ** -0.5

    @property
    def plan(self) -> Tiling:
        return Tiling.of(self.starts.to(DEVICE), self.lengths.to(DEVICE), tile=self.tile)

    def run(self, plan: Tiling, own_count: Tensor | int) -> Tensor:
        query, keys, values, own_starts = (
            part.to(DEVICE) for part in (self.query, self.keys, self.values, self.own_starts)
        )
        return decode_attention(query, keys, values, plan, own_starts, own_count, self.scaling).cpu()

    def expected(self, own_count: int | Sequence[int]) -> Tensor:
        parts = self.query, self.keys, self.values, self.starts, self.lengths, self.own_starts
        own_counts = [own_count] * len(self.lengths) if isinstance(own_count, int) else own_count
        return reference(*parts, own_counts, self.scaling)


def reference(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    lengths: Tensor,
    own_starts: Tensor,
    own_counts: Sequence[int],
    scaling: float,
) -> Tensor:
    """Attention in float32, one segment after the other; [rows, heads, dim]."""
    rows, kv_heads = starts.shape
    grouped = query.float().unflatten(1, (kv_heads, -1))
    result = torch.empty_like(grouped)
    for row in range(rows):
        for head in range(kv_heads):
            kept = starts[row, head] + torch.arange(int(lengths[row, head]))
            own = own_starts[row, head] + torch.arange(own_counts[row])
            slots = torch.cat([kept, own])
            scores = grouped[row, head] @ keys[slots].float().T * scaling
            result[row, head] = torch.softmax(scores, dim=-1) @ values[slots].float()
    return result.flatten(1, 2)


def make_case(
    lengths: list[list[int]],
    *,
    group: int = 2,
    dim: int = 64,
    own_count: int = 3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    tile: int | None = TILE,
) -> Case:
    """Segments and own parts in random order with slots of NaN between them, and room for more own tokens."""
    rng = np.random.default_rng(seed)
    sizes = torch.tensor(lengths, dtype=torch.int32)
    rows, kv_heads = sizes.shape
    parts = [*sizes.flatten().tolist(), *[own_count] * (rows * kv_heads)]
    places, slot = [0] * len(parts), 1
    for part in rng.permutation(len(parts)).tolist():
        places[part] = slot
        slot += parts[part] + int(rng.integers(1, 2 * kv_heads))
    torch.manual_seed(seed)
    keys, values = torch.full((2, slot, dim), float("nan"), dtype=dtype)
    for place, size in zip(places, parts, strict=True):
        # Scores of some size: weights that differ, and maxima that move from tile to tile.
        keys[place : place + size] = 2 * torch.randn(size, dim)
        values[place : place + size] = torch.randn(size, dim)
    places_32 = torch.tensor(places, dtype=torch.int32)
    return Case(
        torch.randn(rows, kv_heads * group, dim).to(dtype),
        keys,
        values,
        places_32[: rows * kv_heads].view(rows, kv_heads),
        sizes,
        places_32[rows * kv_heads :].view(rows, kv_heads),
        own_count,
        tile,
    )


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 4), rng.integers(1, 5)
    few, some = rng.integers(0, 3, shape), rng.integers(0, 200, shape)
    lengths = np.where(rng.random(shape) < 0.4, few, some)
    lengths.flat[rng.integers(lengths.size)] = rng.integers(200, 500)
    return make_case(
        lengths.tolist(),
        group=int(rng.choice([1, 3, 4, 8])),
        dim=int(rng.choice([64, 80, 128])),
        own_count=int(rng.choice([1, 2, 70])),
        seed=seed,
    )


def half(case: Case) -> None:
    case.query = case.query.half()


def transposed(case: Case) -> None:
    case.query = case.query.transpose(0, 1).contiguous().transpose(0, 1)


def narrow(case: Case) -> None:
    case.keys, case.values = case.keys[:, 1:], case.values[:, 1:]


def one_row_less(case: Case) -> None:
    case.query = case.query[1:]


def long_places(case: Case) -> None:
    case.own_starts = case.own_starts.long()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (half, "Queries are torch.float16"),
        (transposed, "contiguous"),
        (narrow, "64 channels"),
        (one_row_less, "1 rows of 4 heads"),
        (long_places, "own_starts must be int32"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(spoil: Callable[[Case], None], message: str) -> None:
    case = make_case([[3, 2], [0, 1]])
    spoil(case)
    with pytest.raises(ValueError, match=message):
        case.run(case.plan, 1)


@pytest.mark.parametrize("count", [0, torch.ones(1), torch.ones(2, dtype=torch.int32)])
def test_a_wrong_number_of_own_tokens_is_refused(count: Any) -> None:
    case = make_case([[3]])
    with pytest.raises(ValueError, match="own"):
        case.run(case.plan, count)


@pytest.mark.skipif(RUNS_HERE, reason="The kernels run in this process.")
def test_kernels_in_interpreter_mode() -> None:
    file = Path(__file__).resolve()
    files = [str(file), str(file.with_name("test_triton_step.py"))]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files, "-k", "TestKernels"],
        cwd=file.parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("poisoned", "whole_interpreter")
class TestKernels:
    """What runs kernels; collected only where they can run."""

    __test__ = RUNS_HERE

    @pytest.mark.parametrize("seed", range(12))
    def test_random_caches(self, seed: int) -> None:
        case = random_case(seed)
        found = case.run(case.plan, case.own_count)
        assert (found - case.expected(case.own_count)).abs().max() < 2e-5

    @pytest.mark.parametrize(
        "lengths",
        [
            [[0]],
            [[1]],
            [[64]],
            [[65]],
            [[0, 0, 0], [1, 0, 300]],
            [[1100, 1, 0, 63]],  # More tiles than are combined at a time.
        ],
        ids=str,
    )
    @pytest.mark.parametrize("own_count", [1, 130])
    def test_extreme_lengths(self, lengths: list[list[int]], own_count: int) -> None:
        case = make_case(lengths, group=4, own_count=own_count)
        found = case.run(case.plan, own_count)
        assert (found - case.expected(own_count)).abs().max() < 2e-5

    @pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)], ids=str)
    @pytest.mark.parametrize("dim", [64, 80, 96, 128])
    def test_half_precision(self, dtype: torch.dtype, error: float, dim: int) -> None:
        case = make_case([[0, 200], [70, 1]], group=4, dim=dim, dtype=dtype)
        found = case.run(case.plan, 3)
        assert found.dtype == dtype
        expected = case.expected(3)
        # The result's own rounding is relative, and some of its channels are above 1. The interpreter cuts off where
        # a device rounds to nearest, so its error in bfloat16 is twice as large.
        assert ((found.float() - expected).abs() / expected.abs().clamp(min=1)).max() < error

    def test_tiles_by_the_size_of_the_cache(self) -> None:
        case = make_case([[400, 0], [3, 250]], dim=128, group=8, tile=None)
        plan = case.plan
        assert len(plan.tiles) > 3
        assert (case.run(plan, 3) - case.expected(3)).abs().max() < 2e-5

    def test_the_count_on_the_device_is_read_at_each_call(self) -> None:
        case = make_case([[100, 5], [0, 33]], own_count=9)
        plan, count = case.plan, torch.ones(1, dtype=torch.int32, device=DEVICE)
        for own_count in (1, 4, 9):
            count.fill_(own_count)
            found = case.run(plan, count)
            assert torch.equal(found, case.run(plan, own_count))
            assert (found - case.expected(own_count)).abs().max() < 2e-5

    def test_rows_may_have_generated_unequal_numbers_of_tokens(self) -> None:
        case = make_case([[100, 5], [0, 33], [1, 70]], own_count=80)
        counts = [1, 80, 7]
        found = case.run(case.plan, torch.tensor(counts, device=DEVICE))
        assert (found - case.expected(counts)).abs().max() < 2e-5

    def test_slots_beyond_two_to_the_31_elements(self) -> None:
        # Pages of the buffer that nobody touches take no memory on a CPU.
        torch.utils.deterministic.fill_uninitialized_memory = False
        first = 2**25
        buffer = torch.empty(first + 300, 64, dtype=torch.float16, device=DEVICE)
        buffer[first:] = torch.randn(300, 64)
        starts, lengths, own_starts = (
            torch.tensor(n, dtype=torch.int32) for n in ([[first]], [[200]], [[first + 250]])
        )
        query = torch.randn(1, 2, 64).half()
        plan = Tiling.of(starts.to(DEVICE), lengths.to(DEVICE), tile=TILE)
        found = decode_attention(query.to(DEVICE), buffer, buffer, plan, own_starts.to(DEVICE), 5, 0.125)
        near = buffer[first:].cpu()
        expected = reference(query, near, near, starts - first, lengths, own_starts - first, [5], 0.125)
        assert (found.cpu().float() - expected).abs().max() < 2e-3

    def test_calls_share_scratch_and_leave_nothing_in_it(self) -> None:
        case = make_case([[100, 5], [0, 150]])
        plan = case.plan
        scratch = plan.scratch(2, 64)
        assert all(part.isnan().all() for part in scratch)
        first = case.run(plan, 3)
        assert all(part.isfinite().all() for part in scratch)
        for part in scratch:
            part.fill_(float("nan"))
        assert torch.equal(case.run(plan, 3), first)
        assert all(one.data_ptr() == other.data_ptr() for one, other in zip(scratch, plan.scratch(2, 64), strict=True))

    @pytest.mark.skipif(not INTERPRETED, reason="On a GPU, tests/gpu compares whole answers.")
    def test_the_ragged_cache_decodes_with_it(self, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        ids = random_ids(90)
        prompt = prefill(tiny_llama, ids, window=4)
        choices = [get_policy(name).select(prompt, 20) for name in ("snapkv", "ada-snapkv")]
        steps = torch.tensor(random_ids(5, seed=1))[None].expand(2, -1)

        def states() -> Tensor:
            cache = RaggedCache(prompt, choices, reserve=2)
            with torch.no_grad():
                found = [tiny_llama.hidden(steps[:, i : i + 1], 90 + i, cache) for i in range(5)]
                cache.crop(-3)
                cache.keep_rows(torch.tensor([1]))
                return torch.stack([*found, tiny_llama.hidden(steps[1:, 2:3], 92, cache).expand(2, -1, -1)])

        expected = states()
        torch.testing.assert_close(expected[-1][1], expected[2][1])
        monkeypatch.setattr(ragged, "decode_kernel", lambda device: triton_decode)
        torch.testing.assert_close(states(), expected, atol=2e-5, rtol=2e-5)

    @pytest.mark.skipif(not INTERPRETED, reason="On a GPU, tests/gpu compares whole answers.")
    def test_rows_of_several_prompts_decode_with_it(self, tiny_llama: Any) -> None:
        requests = []
        for tokens, question in ((90, ()), (40, (5, 6, 7))):
            prompt = prefill(tiny_llama, random_ids(tokens), window=4)
            full = Selection.full(prompt.layers, prompt.kv_heads, tokens)
            requests.append(Decoding(prompt, [get_policy("ada-snapkv").select(prompt, 20), full], 6, question))
        flow = Stream(tiny_llama, Pool(2000, requests[0].prompt, decode_attention), graphs=False)
        found = {}
        for request in requests:
            ready = prepare(tiny_llama, request)
            assert ready is not None
            found[flow.admit(ready)] = request
        while flow.busy:
            for name, answers in flow.advance():
                assert answers == found.pop(name).alone(tiny_llama)
        assert not found

    def test_plans_share_a_workspace_that_grows(self) -> None:
        small, large = make_case([[100, 5]]), make_case([[900, 700], [3, 50]], seed=1)
        workspace = tiling.Workspace()
        plans = [
            Tiling.of(case.starts.to(DEVICE), case.lengths.to(DEVICE), workspace=workspace, tile=TILE)
            for case in (small, large)
        ]
        for case, plan in ((small, plans[0]), (large, plans[1]), (small, plans[0])):
            assert (case.run(plan, 3) - case.expected(3)).abs().max() < 2e-5
        assert plans[0].scratch(2, 64)[0].data_ptr() == plans[1].scratch(2, 64)[0].data_ptr()
