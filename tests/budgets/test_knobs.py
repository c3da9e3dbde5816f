"""The file of chosen knobs, and HeadKV's beta chosen like CoKV's alpha."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadScores, from_head_scores
from cokv_bench.budgets.knobs import Knobs, Tried, Tuning
from cokv_bench.errors import RequestError

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": "ab12"}
TUNING = Tuning(
    tasks=("longbench/qasper",),
    examples=("aa", "bb"),
    documents=("cc",),
    utility="loglik",
    curves={
        "snapkv": {
            64: [Tried({"kernel": 7, "pooling": "max"}, -1.0), Tried({"kernel": 11, "pooling": "avg"}, -0.5)],
            256: [Tried({"kernel": 7, "pooling": "max"}, -0.25), Tried({"kernel": 11, "pooling": "avg"}, -0.25)],
        }
    },
)
KNOBS = Knobs(MODEL, 8, False, {"longbench": TUNING})


def test_round_trip_and_the_choice_by_benchmark_method_and_nearest_budget(tmp_path: Path) -> None:
    KNOBS.save(tmp_path / "knobs.json")
    read = Knobs.load(tmp_path / "knobs.json")
    assert read == KNOBS
    best = {"kernel": 11, "pooling": "avg"}
    assert read.chosen("snapkv", "longbench", 64) == best
    # 127 is nearer to 64 than to 256 by ratio, 129 is not; where settings are equally good the published one is kept.
    assert read.chosen("snapkv", "longbench", 127) == best
    assert read.chosen("snapkv", "longbench", 129) == {"kernel": 7, "pooling": "max"}
    assert read.chosen("pyramidkv", "longbench", 64) == {}
    # Nothing here was tried with another window than the file's, and a budget has to lie above it.
    assert read.chosen("snapkv", "longbench", 64, window=8) == best
    assert read.chosen("snapkv", "longbench", 64, window=16) == read.chosen("snapkv", "longbench", 8) == {}
    assert read.windows == {8}
    # So does what is protected: that of the run, or else of the setting.
    assert read.chosen("snapkv", "longbench", 12, sinks=3) == best
    assert read.chosen("snapkv", "longbench", 12, sinks=4) == {}
    assert read.chosen("snapkv", "needle", 64) == {}


def test_files_with_one_utility_for_all_benchmarks(tmp_path: Path) -> None:
    KNOBS.save(tmp_path / "knobs.json")
    content = json.loads((tmp_path / "knobs.json").read_text())
    content["utility"] = content["benchmarks"]["longbench"].pop("utility")
    (tmp_path / "knobs.json").write_text(json.dumps(content))
    assert Knobs.load(tmp_path / "knobs.json") == KNOBS
    del content["utility"]
    (tmp_path / "knobs.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match="'longbench' must hold tasks, examples, documents, utility and curves"):
        Knobs.load(tmp_path / "knobs.json")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "head-values"}, "expected 'knobs'"),
        ({"window": "8"}, "'window' is '8'"),
        ({"benchmarks": []}, "'benchmarks' is"),
        ({"benchmarks": {"needle": 3}}, "'needle' must hold tasks"),
        ({"benchmarks": {"needle": {"tasks": [], "examples": [], "documents": []}}}, "'needle' must hold"),
        (
            {
                "benchmarks": {
                    "needle": {"tasks": [], "examples": [], "documents": [], "curves": {"snapkv": {"64": []}}}
                }
            },
            "'needle' must hold",
        ),
    ],
)
def test_other_content_is_refused_in_a_sentence(tmp_path: Path, change: dict, told: str) -> None:
    path = tmp_path / "knobs.json"
    KNOBS.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RequestError, match=told) as error:
        Knobs.load(path)
    assert str(path) in str(error.value)


def test_head_scores_choose_beta_by_their_curve_and_keep_it_in_the_file(tmp_path: Path) -> None:
    scores = HeadScores(
        {**MODEL, "heads": 6},
        np.arange(12.0).reshape(2, 6),
        "by hand",
        ("needle",),
        ("aa",),
        betas={64: {1.01: -2.0, 2.0: -1.0}},
    )
    scores.save(tmp_path / "scores.json")
    read = HeadScores.load(tmp_path / "scores.json")
    assert read.betas == scores.betas
    assert read.beta(32) == 2.0
    wanted = from_head_scores(read.scores, 64, window=8, beta=2.0, kv_heads=3)
    np.testing.assert_array_equal(read.budgets(64, window=8), wanted)
    asked = from_head_scores(read.scores, 64, window=8, beta=1.01, kv_heads=3)
    np.testing.assert_array_equal(read.budgets(64, window=8, beta=1.01), asked)
    assert not np.array_equal(wanted, asked)
    # Published scores bring no curve: they are used with the value in the published code.
    assert replace(scores, betas={}).beta(64) == 1.01
