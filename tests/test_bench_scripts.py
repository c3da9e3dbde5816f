"""The benchmarks of `scripts/`: they run, and what they time is what they say."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer

from cokv_bench.bench import PRESETS
from cokv_bench.cli import make_app
from cokv_bench.registries import SCORERS
from cokv_bench.tasks.longbench.specs import groups
from tests.scripted import script


def test_bench_profile(texty_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    script("bench_profile").main(
        name=str(texty_folder),
        length=400,
        examples=2,
        coalitions=24,
        repeated=3,
        repeats=1,
        window=8,
        seed=0,
        json=file,
    )
    figures = json.loads(file.read_text())
    assert figures["compared"] == 6
    # Ours and the published way give the same answers; on random weights two tokens may tie.
    assert figures["other_tokens"] == figures["ties"]
    for name in "bc":
        assert figures[f"{name}_ratio"] == pytest.approx(figures["a_seconds"] / figures[f"{name}_seconds"])
        assert figures[f"{name}_memory"] > 1
    assert f"{6 - figures['other_utilities']} of 6 utilities equal" in capsys.readouterr().out


def test_the_peak_is_the_most_that_existed_at_a_time() -> None:

    def work() -> None:
        one = torch.empty(2**20)
        del one
        two = torch.empty(2**18)
        three = torch.empty(2**17)
        del two, three

    assert script("bench_profile").peak_bytes(work) == pytest.approx(4 * 2**20, abs=4096)


def test_bench_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, file = script("bench_search"), tmp_path / "cost.json"
    small = {**PRESETS["llama3-8b"], "hidden_size": 128, "intermediate_size": 256, "vocab_size": 100}
    monkeypatch.setitem(PRESETS, "small", small)
    module.main(
        "small", depths="1,2", length=200, answer=6, budget=32, repeats=1, prompts=2, steps=2, device="cpu",
        json_file=file,
    )  # fmt: skip
    figures = json.loads(file.read_text())
    assert figures["shape"] == small
    assert figures["device"] == "cpu"
    assert [each["layers"] for each in figures["measured"]] == [1, 2]
    assert figures["extrapolated"]["layers"] == 32
    # 8 KV heads of 4 channels, keys and values, in float32.
    assert figures["measured"][1]["prompt_bytes"] == 2 * 200 * 8 * 4 * 2 * 4
    assert module.extend([1, 2], [{"x": 3.0}, {"x": 5.0}], 32)["x"] == pytest.approx(65)


def test_bench_coalition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, file = script("bench_coalition"), tmp_path / "coalition.json"
    small = {**PRESETS["llama3-8b"], "hidden_size": 128, "intermediate_size": 256, "vocab_size": 100}
    monkeypatch.setitem(PRESETS, "small", small)
    module.main("small", layers=1, length=60, answer=4, coalitions=3, repeats=2, device="cpu", json_file=file)
    figures = json.loads(file.read_text())
    assert {name: len(times) for name, times in figures["seconds"].items()} == {"a": 2, "b": 2, "c": 2}
    medians = {name: float(np.median(times)) for name, times in figures["seconds"].items()}
    assert figures["ratios"]["c"] == pytest.approx(medians["a"] / medians["c"])
    assert (figures["prompt_tokens"], figures["coalitions"]) == (60, 3)


def test_bench_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, file = script("bench_table"), tmp_path / "table.json"
    small = {**PRESETS["llama3-8b"], "hidden_size": 128, "intermediate_size": 256, "vocab_size": 100}
    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setattr(module, "BUDGETS", (12, 24))
    monkeypatch.setattr(module, "spec_of", lambda name: SimpleNamespace(max_new_tokens=5))
    module.main("small", layers=1, rows=4, longest=60, cell_rows=2, device="cpu", data_dir=None, json_file=file)
    figures = json.loads(file.read_text())
    assert figures["rows"] == [[60, 5]] * 4
    assert figures["cells"] == 11
    assert figures["grid_to_full"] == pytest.approx(figures["seconds"]["grid"] / figures["seconds"]["full"])
    assert 0 < figures["seconds"]["floor"] < figures["seconds"]["full"]
    assert figures["step"]["floor_ms"] > 0
    assert figures["step"]["to_floor"] == pytest.approx(figures["step"]["ms"] / figures["step"]["floor_ms"])
    assert figures["cells_to_grid"] == pytest.approx(figures["cells_seconds"] / figures["seconds"]["grid"])
    assert figures["few_kernels"] is False  # A CPU's steps are the layers' own.


def test_a_table_that_is_cut_short_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, file = script("bench_table"), tmp_path / "table.json"
    small = {**PRESETS["llama3-8b"], "hidden_size": 128, "intermediate_size": 256, "vocab_size": 100}
    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setattr(module, "BUDGETS", (12,))
    monkeypatch.setattr(module, "spec_of", lambda name: SimpleNamespace(max_new_tokens=5))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "step_figures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.main("small", layers=1, rows=2, longest=60, cell_rows=2, device="cpu", data_dir=None, json_file=file)
    figures = json.loads(file.read_text())
    assert figures["seconds"]["grid"] > 0
    assert "step" not in figures


def test_cells_cost_what_their_own_prompts_and_answers_cost() -> None:
    """Two prompts were read at 1 ms a token and 2 ms a step; all rows are charged by that."""
    readings = [
        (100, SimpleNamespace(prefill_s=0.1, decode_ms=2.0)),
        (300, SimpleNamespace(prefill_s=0.3, decode_ms=2.0)),
    ]
    assert script("bench_table").cell_seconds(readings, [(1000, 11), (50, 1)]) == pytest.approx(1.05 + 0.02)


def test_the_sample_of_the_table_has_each_task_as_often_as_the_table() -> None:
    module = script("bench_table")
    lengths = json.loads(module.LENGTHS.read_text())
    assert list(lengths) == groups()["longbench"]
    found = module.sample(lengths, 375, 7950)
    limits = [new for _, new in found]
    # Of 3,750 published rows 150 are multifieldqa_en's, 200 trec's and 500 each those of code; summaries have 600.
    assert (limits.count(64), limits.count(512)) == (135, 60)
    assert max(tokens for tokens, _ in found) == 7950


def test_every_ranking_is_timed(texty_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "rankings.json"
    script("bench_rankings").main(name=str(texty_folder), lengths="400", repeats=1, json_file=file)
    found = json.loads(file.read_text())
    assert 390 <= found["tokens"] <= 400
    assert [row["ranking"] for row in found["rankings"]] == list(SCORERS)
    for row in found["rankings"]:
        # Shares are told to four digits, seconds to the microsecond: a toy's prefill of 6 ms included.
        assert row["of_prefill"] == pytest.approx(row["seconds"] / found["prefill_seconds"], rel=1e-2, abs=1e-3)


def test_every_probe_is_timed(texty_folder: Path, tmp_path: Path, registries_restored: None) -> None:
    file = tmp_path / "probes.json"
    script("bench_probes").main(name=str(texty_folder), method="snapkv,laq", lengths="400", repeats=1, json_file=file)
    found = json.loads(file.read_text())
    assert found["methods"] == ["snapkv", "laq"]
    assert list(found["of_prefill"]) == ["selecting", "draft-4", "draft-8", "draft-16", "kept-attention"]
    assert min(found["of_prefill"].values()) > 0


def test_bench_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways agree, or the script itself fails."""
    module, file = script("bench_attention"), tmp_path / "attention.json"
    lengths = {"unequal": [8, 40, 9], "one": [5], "alike": [16, 16]}
    monkeypatch.setattr(module, "layers", lambda: {name: [module.Layer(each, 3, 16)] for name, each in lengths.items()})
    module.main(repeats=2, json=file)
    figures = json.loads(file.read_text())["microseconds"]
    assert [each["case"] for each in figures] == list(lengths)
    assert [each["longest"] for each in figures] == [40, 5, 16]
    assert all(each[way] > 0 for each in figures for way in module.WAYS)


def test_bench_shared(texty_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "shared.json"
    script("bench_shared").main(model=str(texty_folder), length=100, answers="2,9", coalitions=3, repeats=1, json=file)
    cases = json.loads(file.read_text())["cases"]
    assert [(each["dtype"], each["answer"]) for each in cases] == [
        (dtype, new) for dtype in ("float32", "bfloat16") for new in (2, 9)
    ]
    for each in cases:
        assert each["ratio"] == pytest.approx(each["written"] / each["flash"])
        # Both ways say the same, up to rounding; nothing would differ if both were one.
        assert each["differ"] < (1e-4 if each["dtype"] == "float32" else 0.05)
    assert any(each["differ"] for each in cases)


@pytest.mark.parametrize("kind", ["equal", "unequal"])
def test_the_kernel_is_timed_on_exactly_its_budget(kind: str) -> None:
    lengths = script("bench_kernel").draw_lengths(kind, 5, 100)
    assert lengths.shape == (5, 8)
    assert lengths.sum() == 5 * 8 * 100
    assert lengths.min() >= 0
    assert (lengths == 100).all() == (kind == "equal")


def test_the_parts_of_bench_gpu_are_commands_that_exist(tmp_path: Path) -> None:
    parts = script("bench_gpu").parts(tmp_path, 2)
    for command in parts.values():
        if command[0] == "-m":
            assert command[1] in ("cokv_bench", "pytest")
        else:
            assert Path(command[0]).is_file()
    bench = typer.main.get_command(make_app()).commands["bench"]  # type: ignore[attr-defined]
    asked = [command[3:] for command in parts.values() if command[1] == "cokv_bench"]
    assert {bench.make_context("bench", arguments).params["random_weights"] for arguments in asked} == {"llama3-8b"}


def test_a_part_of_bench_gpu_that_hangs_is_stopped() -> None:
    run_part = script("bench_gpu").run_part
    assert run_part(["-c", "raise SystemExit(3)"], 60) == 3
    assert run_part(["-c", "import time; time.sleep(60)"], 1) is None
