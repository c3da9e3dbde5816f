"""`cokv-bench import` from outside: what it prints and writes, and that bad input is one sentence and status 2."""

import os
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadValues


def write_slice(path, **changes):
    """Four samples of coalitions of 64 among 256 players, disjoint, so that each player is in one."""
    content = {
        "cc_left": np.append(np.repeat([0.5, 0.1, 0.2, -0.3], 64), 0.0),
        "cc_right": np.zeros(257),
        "count_left": np.append(np.ones(256), 0.0),
        "count_right": np.append(np.full(256, 3.0), 0.0),
        "sampling_count": 4,
    }
    Path(path).parent.mkdir(exist_ok=True)
    np.save(path, content | changes, allow_pickle=True)


def test_import_then_budgets(cli):
    write_slice("cc_llama/cc_trec_32.npy")
    status, out, err = cli("import", "cc_llama/cc_trec_32.npy")
    assert status == 0, err
    assert out.splitlines() == [
        "Note: cc_trec_32.npy says 32 and holds size 64.",
        "Wrote profiles/Meta-Llama-3-8B-Instruct/trec/values.json: meta-llama/Meta-Llama-3-8B-Instruct, "
        "32 layers x 8 KV heads of size 128, 4 samples in slices of size 64",
        "Standard errors are unknown (only sums are published), and so are the validation examples: "
        "an evaluation on the same task may include them.",
    ]
    profile = "profiles/Meta-Llama-3-8B-Instruct/trec"
    status, _, err = cli("budgets", profile, "--budget", "128", "--alpha", "10", "--published-rounding")
    assert status == 0, err
    budgets = HeadBudgets.load(f"{profile}/cokv-128.budgets.json")
    assert budgets.model["id"] == "meta-llama/Meta-Llama-3-8B-Instruct"
    # Values above the floor are 0.8, 0.4 and 0.5 in 64 heads each: of 120 * 256 tokens, 8/17, 4/17 and 5/17.
    np.testing.assert_array_equal(budgets.tokens[::8, 0], [8 + 225, 8 + 112, 8 + 141, 8])
    status, _, err = cli("budgets", profile, "--budget", "128")
    assert status == 0, err


def test_another_model_and_layout(cli):
    write_slice("own.npy")
    status, out, err = cli(
        *("import", "own.npy", "--model", "a/b", "--task", "needle", "--out", "p"),
        *("--layers", 64, "--kv-heads", 4, "--head-dim", 96),
    )
    assert status == 0, err
    assert "a/b, 64 layers x 4 KV heads of size 96" in out
    assert HeadValues.load("p/values.json").tasks == ("needle",)


def test_a_name_that_is_not_utf8_is_refused(cli):
    name = os.fsdecode(b"sch\xf6n.json")
    Path(name).write_text('{"0-0": [0.5], "0-1": [0.5]}')
    status, out, err = cli("import", name, *("--model", "a/b", "--kv-heads", 1, "--head-dim", 8))
    assert (status, out) == (2, "")
    assert "Error: The name of the file 'sch\\udcf6n.json' is not UTF-8" in " ".join(err.split())
    assert [path.name for path in Path().iterdir()] == [name]


def test_scores_may_begin_with_a_byte_order_mark(cli):
    Path("scores.json").write_bytes(b'\xef\xbb\xbf {"0-0": [0.5], "0-1": [0.25]}')
    status, _, err = cli(
        "import", "scores.json", *("--model", "a/b", "--kv-heads", 1, "--head-dim", 8, "--out", "made")
    )
    assert status == 0, err
    assert HeadScores.load("made/scores.head_scores.json").scores.tolist() == [[0.5, 0.25]]


class Evil:
    def __reduce__(self):
        return os.system, ("touch marker",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.npy",), "Cannot read nowhere.npy"),
        (("own.npy",), "give its id with --model"),
        (("own.npy", "--model", "a/b"), "give it with --task"),
        (("own.npy", "--task", "../up", "--model", "a/b"), "A task is named '../up'"),
        (("cc_llama_trec_64.npy", "--task", "tric"), "did you mean trec"),
        (("cc_llama_trec_64.npy", "--layers", 16), "There are 256 players, but 16 layers x 8 KV heads"),
        (("evil.npy", "--task", "trec", "--model", "a/b"), "nothing was run"),
        (("text.npy",), "none of the published kinds"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(cli, arguments, words):
    write_slice("own.npy")
    write_slice("cc_llama_trec_64.npy")
    write_slice("evil.npy", cc_left=Evil())
    Path("text.npy").write_text("hello")
    status, out, err = cli("import", *arguments)
    assert status == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("profiles").exists()
    assert not Path("marker").exists()
