"""`cokv-bench export` from outside: a head file to LU-KV's curves and back."""

from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadCurves, embedded, load_head_file


def test_there_and_back(cli):
    status, out, err = cli("export")
    assert status == 0, err
    assert out.splitlines() == ["Wrote smollm2-135m.shares.npy: smollm2-135m, 30 layers x 3 KV heads, lukv"]
    shares = np.load("smollm2-135m.shares.npy", allow_pickle=False)
    assert shares.shape == (99, 30, 3)
    status, out, err = cli(
        "import", "smollm2-135m.shares.npy", "--model", "smollm2-135m", "--head-dim", 64, "--out", "made"
    )
    assert status == 0, err
    assert "30 layers x 3 KV heads of size 64, pruned shares at 1 to 99 percent" in out
    made = load_head_file(Path("made/smollm2-135m.shares.curves.json"))
    assert isinstance(made, HeadCurves)
    # 5% of 4000 tokens.
    status, _, err = cli("export", embedded.values_path(), "--prompt", 4000, "--out", "own.npy")
    assert status == 0, err
    kept = 1 - np.load("own.npy")[94]
    np.testing.assert_allclose(kept * 4000, load_head_file(embedded.values_path()).tokens_at(200), atol=1e-6)
    status, out, err = cli("inspect", "made/smollm2-135m.shares.curves.json", "--budget", 64)
    assert status == 0, err
    assert "LU-KV curves imported from smollm2-135m.shares.npy" in out
    assert "of the prompt; shown for one of 4096 tokens" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.json",), "Cannot read the head file none.json"),
        (("--to", "vllm"), "lukv"),
        ((embedded.values_path(), "--prompt", 8), "A prompt of 8 tokens is not above the window of 16"),
    ],
)
def test_what_cannot_be_exported(cli, arguments, said):
    status, _, err = cli("export", *arguments)
    assert status == 2
    assert said in " ".join(err.split())
    assert not list(Path().glob("*.npy"))
