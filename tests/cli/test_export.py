"""`cokv-bench export` from outside: a head file to what each target reads, and LU-KV's curves back."""

import json
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadCurves, embedded, load_head_file
from tests.exports.made import TOY, shares


@pytest.mark.parametrize("to", ["kvpress", "lukv"])
def test_there_and_back(cli, to):
    status, out, err = cli("export", "--to", to)
    assert status == 0, err
    assert out.splitlines() == ["Wrote smollm2-135m.shares.npy: smollm2-135m, 30 layers x 3 KV heads, kvpress"]
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
    status, _, err = cli("export", embedded.values_path(), "--to", to, "--prompt", 4000, "--out", "own.npy")
    assert status == 0, err
    kept = 1 - np.load("own.npy")[94]
    np.testing.assert_allclose(kept * 4000, load_head_file(embedded.values_path()).tokens_at(200, window=8), atol=1e-6)
    status, out, err = cli("inspect", "made/smollm2-135m.shares.curves.json", "--budget", 64)
    assert status == 0, err
    assert "LU-KV curves imported from smollm2-135m.shares.npy" in out
    assert "of the prompt; shown for one of 4096 tokens" in out
    # Curves stay what they are, and count no tokens.
    status, _, err = cli("export", "made/smollm2-135m.shares.curves.json", "--to", "transformers")
    assert status == 2
    assert "holds shares of a prompt, and an export to 'transformers' counts tokens" in err
    assert sorted(path.name for path in Path().iterdir()) == ["made", "own.npy", "smollm2-135m.shares.npy"]


@pytest.mark.parametrize(
    ("to", "name", "files"),
    [
        (
            "transformers",
            "smollm2-135m.values-transformers",
            ("README.md", "custom_generate/generate.py", "heads.json"),
        ),
        ("duo", "smollm2-135m.values-duo-64", ("config.json", "full_attention_heads.tsv")),
        ("layers", "smollm2-135m.values-layers-64.json", ("",)),
    ],
)
def test_each_target(cli, to, name, files):
    path = Path("smollm2-135m.values.json")
    path.write_bytes(embedded.values_path().read_bytes())
    prompt = ("--prompt", 600) if to == "duo" else ()
    # Again, for what an earlier export has left is replaced.
    for _ in range(2):
        status, out, err = cli("export", path, "--to", to, "--budget", 64, *prompt)
        assert status == 0, err
        assert out.splitlines()[0] == f"Wrote {name}: smollm2-135m, 30 layers x 3 KV heads, {to}"
        assert len(out.splitlines()) > 1
    assert all((Path(name) / file).is_file() for file in files)
    assert sorted(each.name for each in Path().iterdir()) == sorted([name, path.name])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.json",), "Cannot read the head file none.json"),
        (("--to", "vllm"), "Unknown export target 'vllm'; known: duo, kvpress, layers, transformers"),
        (("--to", "layer"), "did you mean layers?"),
        ((embedded.values_path(), "--prompt", 8), "A prompt of 8 tokens is not above the window of 8"),
        (("--budget", 64), "'kvpress' does not depend on --budget"),
        (("--to", "transformers", "--prompt", 600), "'transformers' does not depend on --prompt"),
        (("--to", "transformers", "--budget", 4), "leaves nothing beyond the observation window of 4"),
        (("--to", "layers", "--budget", "many"), "not a list of whole numbers for budget"),
        (("--to", "layers", "--budget", "25%"), "not a list of whole numbers for budget"),
        (("--to", "duo", "--budget", 16), "leaves no head the whole prompt"),
        (("--to", "layers", "--out", "folder"), "cannot be written"),
        (("--to", "duo", "--out", "folder"), "The folder folder holds 'mine.txt', which is not written here"),
        (("--to", "transformers", "--out", "folder/mine.txt"), "folder/mine.txt is a file; name a folder"),
        (("--to", "transformers", "--out", "folder/mine.txt/below"), "cannot be written"),
    ],
)
def test_what_cannot_be_exported(cli, arguments, said):
    Path("folder").mkdir()
    Path("folder/mine.txt").write_text("mine")
    status, out, err = cli("export", *arguments)
    assert status == 2
    assert out == ""
    assert said in " ".join(err.split())
    assert len(err.strip().splitlines()) == 1
    assert [str(path) for path in Path().rglob("*")] == ["folder", "folder/mine.txt"]
    assert Path("folder/mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("transformers", "'other', not 'smollm2-135m'"),
        ("duo", "named 'other', not 'smollm2-135m'"),
        ("layers", "layers: 3, not 30"),
        ("kvpress", "layers and KV heads (3, 2), not (30, 3)"),
    ],
)
def test_an_export_of_another_model_is_not_replaced(cli, to, said):
    shares({**TOY, "id": "other"}).save("toy.json")
    more = () if to == "kvpress" else ("--budget", 64)
    more += ("--prompt", 300) if to == "duo" else ()
    for _ in range(2):
        status, out, err = cli("export", "toy.json", "--to", to, "--out", "made", *more)
        assert status == 0, err
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    status, out, err = cli("export", "--to", to, "--out", "made", *more)
    assert (status, out) == (2, "")
    place = "made/heads.json" if to == "transformers" else "made"
    assert f"{place} is of another model ({said}) and would be lost" in " ".join(err.split())
    assert "--out" in err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_what_there_is(cli):
    status, out, _ = cli("ls", "exports")
    assert status == 0
    assert all(name in out for name in ("transformers", "kvpress", "duo", "layers"))


def test_a_ranking_that_is_not_known_outside(cli):
    document = {**json.loads(embedded.shares_path().read_bytes()), "scorer": "kvzip"}
    Path("shares.json").write_text(json.dumps(document))
    status, _, err = cli("export", "shares.json", "--to", "transformers")
    assert status == 2
    assert "shares.json ranks tokens by 'kvzip'" in err
    assert "window and fading" in err
    assert [path.name for path in Path().iterdir()] == ["shares.json"]
