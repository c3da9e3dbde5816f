"""Measurements beside FullKV: bytes are those of the budget, answers are those of plain decoding."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import DynamicCache

from cokv_bench.bench import PRESETS, BenchRequest, bench, random_model, run
from cokv_bench.bench.measure import Reading, Settings, measure
from cokv_bench.bench.memory import Meter, allocated
from cokv_bench.bench.table import COLUMNS, NO_ROOM, bench_table
from cokv_bench.budget import PromptShare
from cokv_bench.budgets import HeadBudgets
from cokv_bench.errors import RequestError
from cokv_bench.models import Model, load_model
from cokv_bench.policies import get_policy
from cokv_bench.report.costs import bench_lines
from cokv_bench.report.folders import read_folders
from cokv_bench.report.static import save_beside
from cokv_bench.runs.plan import Variant
from tests.conftest import random_ids, save_tiny

SETTINGS = Settings(new_tokens=6, rows=1, window=8, chunk=32)
FULL = Variant("full", None, get_policy("full"))
CPU = torch.device("cpu")


def quiet(done: int, total: int | None, note: str) -> None:
    pass


def request(**changes: Any) -> BenchRequest:
    asked = {"methods": ["snapkv"], "budgets": [16], "lengths": [40, 70], "new_tokens": 5, "repeats": 2, "chunk": 32}
    return BenchRequest(**{**asked, **changes})


def reading(prefill: float, decode: float, **changes: Any) -> Reading:
    return Reading(prefill, prefill, decode, **{**dict.fromkeys(("graph_ms", "peak_bytes", "after_bytes")), **changes,
                                                "kv_held": 8, "kv_reserved": 0, "token_ids": []})  # fmt: skip


def plain(model: Model, ids: torch.Tensor, new: int) -> list[int]:
    """What transformers alone answers; its end token, which the measurements never let end an answer, is ruled out."""
    answer = model.network.generate(ids[None], max_new_tokens=new, min_new_tokens=new, do_sample=False)
    return answer[0, ids.numel() :].tolist()


@pytest.mark.parametrize("variant", [FULL, Variant("snapkv", 60, get_policy("snapkv"))], ids=["full", "keeps all"])
def test_what_keeps_all_answers_as_plain_generate(tiny_llama: Model, variant: Variant) -> None:
    ids = torch.tensor(random_ids(60))
    measured = measure(tiny_llama, ids, variant, SETTINGS)
    assert measured.token_ids == plain(tiny_llama, ids, SETTINGS.new_tokens)


def test_full_holds_the_bytes_of_transformers_own_cache(tiny_llama: Model) -> None:
    ids = torch.tensor(random_ids(60))
    cache = DynamicCache()
    tiny_llama.network(input_ids=ids[None], past_key_values=cache)
    own = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    measured = measure(tiny_llama, ids, FULL, SETTINGS)
    assert (measured.kv_held, measured.kv_reserved) == (own, 0)
    assert measure(tiny_llama, ids, FULL, Settings(6, 3, 8, 32)).kv_held == 3 * own


def test_every_method_holds_exactly_its_budget(tiny_llama: Model, tmp_path: Path) -> None:
    methods = ["streaming-llm", "h2o", "snapkv", "pyramidkv", "ada-snapkv", "ada-pyramid", "random"]
    table = bench(
        tiny_llama, request(methods=methods, budgets=[16, 64], lengths=[40], rows=2, repeats=1), tmp_path, quiet
    )
    assert len(table) == 1 + 2 * len(methods)
    assert (table["kv_bytes_held"] == table["kv_bytes_ideal"]).all()
    # A token of a head: a key and a value of 8 float32 numbers. Three layers of two heads, two rows.
    of_16 = table[table["budget"] == 16]
    assert set(of_16["kv_bytes_held"]) == {16 * 3 * 2 * 2 * (2 * 8 * 4)}
    assert set(of_16["kv_bytes_reserved"]) == {4 * 3 * 2 * 2 * (2 * 8 * 4)}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "bench.csv")[["method", "kv_bytes_held"]],
                                  table[["method", "kv_bytes_held"]], check_dtype=False)  # fmt: skip


def test_a_share_is_taken_of_each_length(tiny_llama: Model, tmp_path: Path) -> None:
    budgets = (16, PromptShare.parse("25%"))
    asked = request(budgets=budgets, lengths=[40, 80], new_tokens=3, repeats=1, window=4)
    table = bench(tiny_llama, asked, tmp_path, quiet)
    assert (table["kv_bytes_held"] == table["kv_bytes_ideal"]).all()
    token = 3 * 2 * (2 * 8 * 4)
    assert list(table["kv_bytes_held"]) == [token * tokens for tokens in (40, 16, 10, 80, 16, 20)]
    assert json.loads((tmp_path / "run.json").read_text())["budgets"] == [16, "25%"]
    _, (told,) = read_folders([tmp_path])
    assert list(map(str, told.table["budget"].dropna())) == ["16", "25%"] * 2
    with pytest.raises(RequestError, match=r"10% of a prompt of 40 tokens: A budget of 4 tokens.*window of 4"):
        replace(asked, budgets=(PromptShare.parse("10%"),)).variants(tiny_llama)


def test_the_process_holds_what_was_kept_and_little_else(tmp_path: Path) -> None:
    """By the allocator's count: after eviction the compact cache, before it never all layers at once."""
    if allocated(CPU) is None:
        pytest.skip("this platform counts no allocated bytes")
    sizes = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": 8}
    model = load_model(str(save_tiny("llama", tmp_path, **sizes, max_position_embeddings=4096)), device="cpu")
    ids = torch.tensor(random_ids(2000))
    settings = Settings(new_tokens=2, rows=1, window=8, chunk=500)
    measure(model, ids, Variant("snapkv", 40, get_policy("snapkv")), settings)
    small = measure(model, ids, Variant("snapkv", 40, get_policy("snapkv")), settings)
    full = measure(model, ids, FULL, settings)
    assert small.after_bytes is not None
    assert full.after_bytes is not None
    assert (small.kv_held * 50, full.kv_held) == (full.kv_held, 2000 * 8 * 8 * model.bytes_per_token)
    slack = 2**20
    assert small.kv_held <= small.after_bytes <= 1.02 * (small.kv_held + small.kv_reserved) + slack
    assert full.after_bytes >= full.kv_held
    if small.peak_bytes is not None:
        assert small.peak_bytes < full.kv_held


def test_counters_see_a_tensor_come_and_go() -> None:
    if allocated(CPU) is None:
        pytest.skip("this platform counts no allocated bytes")
    mebibytes = 2**20
    meter = Meter.start(CPU)
    tensor = torch.ones(64 * mebibytes, dtype=torch.uint8)
    assert 64 * mebibytes <= meter.held() < 72 * mebibytes
    del tensor
    assert meter.held() < 8 * mebibytes
    if meter.peak() is not None:
        # The resident set is counted in batches of pages.
        assert 60 * mebibytes <= meter.peak() < 96 * mebibytes
        # Another meter starts from what is resident now.
        assert Meter.start(CPU).peak() < 8 * mebibytes


def test_what_is_not_counted_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cokv_bench.bench.memory.sys.platform", "darwin")
    monkeypatch.setattr("cokv_bench.bench.memory._CLEAR_REFS", tmp_path / "no" / "such")
    monkeypatch.setattr("cokv_bench.bench.memory._STATUS", tmp_path / "none")
    meter = Meter.start(CPU)
    assert meter.held() is None
    assert meter.peak() is None


def test_rounds_take_every_method_in_turn(tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def record(model: Model, ids: torch.Tensor, variant: Variant, settings: Settings) -> Reading:
        seen.append((variant.method, ids.numel(), settings.new_tokens))
        return reading(1.0, 1.0)

    monkeypatch.setattr(run, "measure", record)
    bench(tiny_llama, request(methods=["snapkv", "full"]), tmp_path, quiet)
    warm = [("full", 40, 2), ("snapkv", 40, 2)]
    one_round = [("full", 40, 5), ("snapkv", 40, 5), ("full", 70, 5), ("snapkv", 70, 5)]
    assert seen == warm + one_round * 2


def test_medians_spread_and_ratios_are_over_the_rounds(tiny_llama: Model) -> None:
    other = Variant("snapkv", 16, get_policy("snapkv"))
    table = bench_table(
        tiny_llama,
        request(lengths=[40]),
        {
            (40, FULL): [reading(4.0, 30.0), reading(2.0, 10.0), reading(3.0, 20.0)],
            (40, other): [reading(6.0, 4.0, peak_bytes=7), reading(6.0, 5.0, peak_bytes=9), reading(6.0, 9.0)],
        },
    )
    assert list(table.columns) == list(COLUMNS)
    full, snapkv = table.to_dict("records")
    assert (full["decode_ms"], full["decode_ms_low"], full["decode_ms_high"]) == (20.0, 10.0, 30.0)
    assert (full["decode_vs_full"], full["prefill_vs_full"]) == (1.0, 1.0)
    assert (snapkv["decode_vs_full"], snapkv["prefill_vs_full"]) == (4.0, 0.5)
    assert snapkv["peak_bytes"] == 8
    assert pd.isna(full["peak_bytes"])


def failing(error: Callable[[], BaseException], after: int) -> Callable[..., Reading]:
    """A measurement of snapkv fails once so many of it were made."""
    left = [after]

    def take(model: Model, ids: torch.Tensor, variant: Variant, settings: Settings) -> Reading:
        if variant.method == "snapkv":
            left[0] -= 1
            if left[0] < 0:
                raise error()
        return measure(model, ids, variant, settings)

    return take


def test_another_error_is_not_taken_for_too_little_memory(
    tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "measure", failing(lambda: RuntimeError("shapes differ"), after=0))
    with pytest.raises(RuntimeError, match="shapes differ"):
        bench(tiny_llama, request(methods=["snapkv"]), tmp_path, quiet)


def of_a_cpu() -> RuntimeError:
    """What torch raises where a CPU's memory does not suffice."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    return raised.value


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, of_a_cpu])
def test_what_does_not_fit_is_noted_and_the_rest_goes_on(
    tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    monkeypatch.setattr(run, "measure", failing(error, after=0))
    asked = request(methods=["snapkv", "random"])
    bench(tiny_llama, asked, tmp_path, quiet)
    table = pd.read_csv(tmp_path / "bench.csv")
    none = table[table["method"] == "snapkv"]
    assert list(none["note"]) == [NO_ROOM] * 2
    assert none[["decode_ms", "peak_bytes", "kv_bytes_held"]].isna().all(axis=None)
    others = table[table["method"] != "snapkv"]
    assert list(others["repeats"]) == [2] * 4
    assert others["note"].isna().all()


def test_a_stopped_run_keeps_what_was_measured(
    tiny_llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Warm-up, the first length, and then no more.
    monkeypatch.setattr(run, "measure", failing(KeyboardInterrupt, after=2))
    with pytest.raises(KeyboardInterrupt):
        bench(tiny_llama, request(), tmp_path, quiet)
    table = pd.read_csv(tmp_path / "bench.csv")
    assert list(zip(table["method"], table["prompt_tokens"], strict=True)) == [
        ("full", 40),
        ("snapkv", 40),
        ("full", 70),
    ]


@pytest.fixture
def small_shape(monkeypatch: pytest.MonkeyPatch) -> str:
    """A preset that takes no memory."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    monkeypatch.setitem(PRESETS, "small", {**PRESETS["llama3-1b"], **sizes, "vocab_size": 100, "num_hidden_layers": 3})
    return "small"


def test_random_weights_have_the_shape_and_the_seed(small_shape: str) -> None:
    one, same, other = (random_model(small_shape, layers=2, seed=seed, device="cpu") for seed in (1, 1, 2))
    assert (one.layers, one.kv_heads, one.head_dim) == (2, 2, 8)
    assert one.network.dtype == torch.float32
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint
    assert one.network.lm_head.weight is one.network.get_input_embeddings().weight
    logits = one.network(input_ids=torch.tensor([random_ids(9)]).clamp(max=99)).logits
    assert logits.isfinite().all()
    assert logits.std() > 0
    assert random_model(small_shape, dtype="bfloat16", device="cpu").network.dtype == torch.bfloat16


def test_the_large_shape_is_that_of_llama_3_8b() -> None:
    shape = PRESETS["llama3-8b"]
    width, inner, layers, words = (
        shape[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    )
    groups = shape["num_attention_heads"] // shape["num_key_value_heads"]
    attention = 2 * width * width + 2 * width * width // groups
    weights = 2 * words * width + layers * (attention + 3 * width * inner + 2 * width) + width
    assert weights == 8_030_261_248  # as the model card of the checkpoint counts them


def save_budgets(path: Path, kv_heads: int) -> Path:
    model = {"id": "someone's", "layers": 3, "kv_heads": kv_heads, "head_dim": 8, "weights": "0123"}
    tokens = np.full((3, kv_heads), 20)
    tokens[0, 0], tokens[1, 1] = 30, 10
    HeadBudgets(model, 20, 8, tokens, {"text": "made up", "parameters": {}}).save(path)
    return path


def test_random_weights_take_budgets_of_any_model_of_their_shape(small_shape: str, tmp_path: Path) -> None:
    model = random_model(small_shape, device="cpu")
    fits, other, again = (
        save_budgets(tmp_path / f"{name}.json", heads) for name, heads in (("a", 2), ("b", 4), ("c", 2))
    )
    asked = {"methods": ["cokv"], "budgets": [20], "any_weights": True, "repeats": 1}
    table = bench(model, request(**asked, budget_files=(fits,)), tmp_path, quiet)
    assert (table["kv_bytes_held"] == table["kv_bytes_ideal"]).all()
    for changes, words in (
        ({}, "No head budgets for 'cokv'.*--heads"),
        ({"budget_files": (other,)}, "3 layers x 4 KV heads.*3 x 2"),
        ({"budget_files": (fits,), "budgets": [20, 40]}, r"budget of 40; there is \[20\]"),
        ({"budget_files": (fits, again)}, "one budget file of 20 tokens must be made from it.*none of the 2 is"),
    ):
        with pytest.raises(RequestError, match=words):
            request(**{**asked, **changes}).variants(model)
    with pytest.raises(RequestError, match="another model"):
        request(**{**asked, "any_weights": False}, budget_files=(fits,)).variants(model)


def test_the_figure_has_gaps_where_nothing_was_counted(tiny_llama: Model, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table = bench(tiny_llama, request(repeats=1), tmp_path, quiet)
    # What was not counted or did not fit leaves a gap.
    table.loc[0, ["peak_bytes", "decode_ms", "decode_ms_low", "decode_ms_high"]] = None
    title, (latency, memory) = bench_lines(table)
    assert "rows: 1" in title
    assert None in [y for series in latency.series for y in series.y]
    assert {series.dash for series in memory.series} == {0, 1}
    save_beside(title, [latency, memory], tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 5000
    nothing = bench_table(tiny_llama, request(), {(40, FULL): None})
    assert nothing["decode_ms"].isna().all()
    save_beside(*bench_lines(nothing), tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").is_file()


def test_a_run_says_what_it_was(tiny_llama: Model, tmp_path: Path) -> None:
    bench(tiny_llama, request(repeats=1, seed=4), tmp_path, quiet, command="cokv-bench bench --seed 4")
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["command"] == "cokv-bench bench --seed 4"
    assert told["seed"] == 4
    assert told["versions"]["torch"] == torch.__version__
    assert told["model"] == tiny_llama.fingerprint
