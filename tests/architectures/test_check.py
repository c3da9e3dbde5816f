"""The check of a model: what it finds, what it says, and that it is made once."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest
import torch
import transformers

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.kvcache.check import Outcome, compare, verify
from cokv_bench.models import Model, load_model
from cokv_bench.models.form import Form
from cokv_bench.models.model import Verdict
from tests.architectures.toys import save_toy
from tests.conftest import random_ids

check = importlib.import_module("cokv_bench.kvcache.check")


def toy(name: str, folder: Path, dtype: str = "float32", **options: bool) -> Model:
    return load_model(str(save_toy(name, folder / name)), device="cpu", dtype=dtype, **options)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "left_out"), [("gemma2", "softcap"), ("gpt_oss", "sinks")])
def test_attention_that_is_not_the_models_is_refused_with_the_layer_and_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, left_out: str, dtype: str
) -> None:
    model = toy(name, tmp_path, dtype)
    assert not compare(model).lean
    attention = importlib.import_module("cokv_bench.models.attention")
    monkeypatch.setattr(attention, "Form", lambda *of: dataclasses.replace(Form(*of), **{left_out: None}))
    with pytest.raises(
        RequestError, match=r"by [\d.]+ standard deviations, from layer [0-3] on; --skip-check"
    ) as refusal:
        compare(model)
    assert len(str(refusal.value)) <= 400
    assert not model.verdict.reached
    with pytest.raises(RequestError, match="cannot be used"):
        prefill(model, random_ids(20))


def test_states_that_rows_share_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row needs its own copy of what other layers hold, from where the prompt ended."""
    model = toy("qwen3_next", tmp_path)
    others = importlib.import_module("cokv_bench.kvcache.others")
    monkeypatch.setattr(others, "deepcopy", lambda layer: layer)
    with pytest.raises(RequestError, match="the ragged cache differ"):
        compare(model)


def test_a_verdict_is_kept_where_it_took_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COKV_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(check, "_WORTH_KEEPING", -1.0)
    model = toy("granite", tmp_path)
    verify(model)
    (path,) = (tmp_path / "cache" / "checks").iterdir()
    kept = Outcome(**json.loads(path.read_text()))
    assert (kept.lean, kept.tolerance) == (False, 2e-3)

    def fail(model: Model) -> Outcome:
        raise AssertionError("compared again")

    monkeypatch.setattr(check, "compare", fail)
    again = dataclasses.replace(model, verdict=Verdict())
    verify(again)
    assert again.verdict == Verdict(lean=False, reached=True)
    # Other weights are another model, and a damaged file is none.
    with pytest.raises(AssertionError, match="compared again"):
        verify(toy("llama", tmp_path))
    path.write_text('{"lean": "perhaps"}')
    with pytest.raises(AssertionError, match="compared again"):
        verify(dataclasses.replace(model, verdict=Verdict()))


@pytest.mark.parametrize(("name", "lean"), [("llama", True), ("olmo2", False), ("gemma3_text", False)])
def test_without_a_check_the_way_that_always_serves_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lean: bool
) -> None:
    ids = random_ids(40)
    model = toy(name, tmp_path, skip_check=True)
    monkeypatch.setattr(check, "compare", lambda model: pytest.fail("compared"))
    prompt = prefill(model, ids)
    assert model.verdict.lean == lean
    with torch.inference_mode():
        plain = model.network(torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(prompt.logits, plain, atol=1e-3, rtol=1e-3)


def test_rotary_factors_by_length_need_layers_that_are_called_one_by_one(tmp_path: Path) -> None:
    folder = save_toy("granite", tmp_path / "granite")
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    settings["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    path.write_text(json.dumps(settings))
    with pytest.raises(RequestError, match="rotary factors change with the length"):
        prefill(load_model(str(folder), device="cpu"), random_ids(20))


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_check_that_was_cut_short_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setenv("COKV_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(check, "_WORTH_KEEPING", -1.0)
    model, ids = toy("llama", tmp_path), random_ids(40)

    def stop(*of: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(check, "SharedCache", stop)
        with pytest.raises(error):
            prefill(model, ids)
    assert not model.verdict.reached
    assert not (tmp_path / "cache" / "checks").exists()
    verify(model)
    assert model.verdict.lean


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "llama"])
def test_plain_generation_of_padded_rows_stays_plain(tmp_path: Path, name: str) -> None:
    ours = toy(name, tmp_path).network
    eager = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, attn_implementation="eager")
    first, second = random_ids(12), random_ids(7, seed=1)
    rows = torch.tensor([first, [0] * 5 + second])
    mask = torch.tensor([[1] * 12, [0] * 5 + [1] * 7])
    told = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
    assert ours.generate(rows, **told).tolist() == eager.generate(rows, **told).tolist()
    with torch.inference_mode():
        logits = [network(rows, attention_mask=mask).logits[mask.bool()] for network in (ours, eager)]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


def test_a_mask_that_is_added_masks(tmp_path: Path) -> None:
    network, ids = toy("gemma2", tmp_path).network, torch.tensor([random_ids(12)])
    added = torch.full((12, 12), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.inference_mode():
        masks = dict.fromkeys(("full_attention", "sliding_attention"), added)
        torch.testing.assert_close(network(ids, attention_mask=masks).logits, network(ids).logits, atol=1e-4, rtol=1e-4)
