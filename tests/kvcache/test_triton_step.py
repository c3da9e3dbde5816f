"""The kernels between a step's matrix products against plain PyTorch; run as `test_triton_decode` runs its own."""

import pytest
import torch

pytest.importorskip("triton", reason="The step's kernels need Triton (pip install triton), which is not installed.")

from cokv_bench.kvcache import triton_step
from tests.kvcache import plain_step
from tests.kvcache.kernels import DEVICE, RUNS_HERE, poisoned, whole_interpreter  # noqa: F401 - fixtures

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)


@pytest.mark.usefixtures("poisoned", "whole_interpreter")
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
class TestKernels:
    """What runs kernels; collected only where they can run."""

    __test__ = RUNS_HERE

    @pytest.mark.parametrize("width", [48, 128, 200])
    @pytest.mark.parametrize("adds", [False, True])
    def test_sum_and_norm(self, dtype: torch.dtype, width: int, adds: bool) -> None:
        hidden, more, weight = noise(3, width, dtype=dtype), noise(3, width, dtype=dtype, seed=1), noise(width, seed=2)
        arguments = (3 * hidden, more if adds else None, weight.to(dtype), 1e-5)
        total, normed = triton_step.add_norm(*arguments)
        expected = plain_step.add_norm(*arguments)
        torch.testing.assert_close(total, expected[0], atol=0, rtol=TOLERANCES[dtype] / 2)
        torch.testing.assert_close(normed, expected[1], atol=TOLERANCES[dtype], rtol=TOLERANCES[dtype])

    @pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(6, 2, 8), (4, 1, 64), (3, 3, 96)])
    @pytest.mark.parametrize("norms", [False, True])
    def test_rotary_and_storage(self, dtype: torch.dtype, heads: int, kv_heads: int, dim: int, norms: bool) -> None:
        rows = 3
        mixed = noise(rows, (heads + 2 * kv_heads) * dim, dtype=dtype)
        angles = noise(rows, dim // 2, seed=1).repeat(1, 2)
        weights = (noise(dim, dtype=dtype, seed=2), noise(dim, dtype=dtype, seed=3), 1e-6) if norms else None
        starts = (7 + 11 * torch.randperm(rows * kv_heads)).view(rows, kv_heads).int().to(DEVICE)
        counts = torch.tensor([1, 9, 4], device=DEVICE)
        stores = [torch.full((7 + 11 * rows * kv_heads, dim), float("nan"), dtype=dtype, device=DEVICE) for _ in "kvkv"]
        found, expected = (
            kernels.rotate_and_store(
                mixed, angles.cos().to(dtype), angles.sin().to(dtype), weights, *held, starts, counts
            )
            for kernels, held in ((triton_step, stores[:2]), (plain_step, stores[2:]))
        )
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
        for one, other in zip(stores[:2], stores[2:], strict=True):
            # Nothing but the newest token of each row was written.
            torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance, equal_nan=True)

    @pytest.mark.parametrize("inner", [64, 1500])
    def test_the_gate(self, dtype: torch.dtype, inner: int) -> None:
        both = noise(2, 2 * inner, dtype=dtype)
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(triton_step.gate(both), plain_step.gate(both), atol=tolerance, rtol=tolerance)
