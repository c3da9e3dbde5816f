"""Checkpoints that are incomplete or damaged are refused with what is wrong; a good one is one model in every dtype."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cokv_bench.errors import RequestError
from cokv_bench.models import Model, load_model
from tests.conftest import save_tiny
from tests.models.written import byte_level, change, save

Weights = dict[str, torch.Tensor]
WEIGHTS = "model.safetensors"


def rewrite(folder: Path, edit: Callable[[Weights], Weights]) -> None:
    save_file(edit(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if key not in names}


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(RequestError) as error:
        load_model(str(folder), **{"device": "cpu", **options})
    assert len(str(error.value)) <= 400
    return str(error.value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (without("model.layers.1.mlp.down_proj.weight"), ["lack model.layers.1.mlp.down_proj.weight;"]),
        (without("lm_head.weight"), ["lack lm_head.weight", "AutoModelForCausalLM", "tie_word_embeddings"]),
        (
            lambda weights: {f"module.{key}": value for key, value in weights.items()},
            ["lack lm_head.weight, model.embed_tokens.weight", "and 27 more", "'module.'"],
        ),
        (
            lambda weights: {key: value for key, value in weights.items() if ".1." not in key},
            ["lack model.layers.1.input_layernorm.weight", "and 6 more"],
        ),
        (
            lambda weights: weights | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(48)},
            ["hold model.layers.0.self_attn.q_proj.bias", "no place"],
        ),
    ],
)
def test_weights_that_would_be_made_up_or_left_out_are_named(
    tmp_path: Path, edit: Callable[[Weights], Weights], words: list[str]
) -> None:
    rewrite(save_tiny("llama", tmp_path), edit)
    found = refusal(tmp_path)
    assert all(word in found for word in words), found


def test_a_base_model_without_its_head_is_refused_and_a_tied_one_is_not(tmp_path: Path) -> None:
    for tied in (False, True):
        whole = load_model(str(save_tiny("qwen2", tmp_path / f"whole-{tied}", tie_word_embeddings=tied)), device="cpu")
        folder = tmp_path / f"base-{tied}"
        whole.network.model.save_pretrained(folder)
        if tied:
            assert load_model(str(folder), device="cpu").fingerprint["weights"] == whole.fingerprint["weights"]
        else:
            assert "lack lm_head.weight" in refusal(folder)


def test_buffers_and_heads_that_no_answer_needs_are_no_reason(tmp_path: Path) -> None:
    further = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4), "v_head.weight": torch.ones(1, 48)}
    rewrite(save_tiny("llama", tmp_path), lambda weights: weights | further)
    load_model(str(tmp_path), device="cpu")


@pytest.mark.parametrize("option", ["vocab_size", "intermediate_size"])
def test_sizes_that_do_not_fit_are_told_from_both_sides(tmp_path: Path, option: str) -> None:
    save_tiny("llama", tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())[option]
    change(tmp_path / "config.json", **{option: before - 4})
    found = refusal(tmp_path)
    assert option in found
    assert str(before) in found
    assert str(before - 4) in found


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    path = save_tiny("llama", tmp_path) / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is damaged or cut short; download it again" in refusal(tmp_path)
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 269060552\n")
    assert "model.safetensors is a Git LFS pointer" in refusal(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    whole = load_model(str(save_tiny("llama", tmp_path / "whole")), device="cpu")
    whole.network.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    shards = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(shards) > 1
    assert (
        load_model(str(tmp_path / "shards"), device="cpu", dtype="bfloat16").fingerprint["weights"]
        == (whole.fingerprint["weights"])
    )
    shards[1].write_bytes(shards[1].read_bytes()[:100])
    assert f"{shards[1].name} is damaged" in refusal(tmp_path / "shards")


def test_a_tokenizer_of_the_future_and_a_quantisation_without_its_library(tmp_path: Path) -> None:
    save(tmp_path, byte_level())
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    change(tmp_path / "tokenizer.json", model={**content["model"], "type": "FutureBPE"})
    found = refusal(tmp_path)
    assert "The tokenizer of" in found
    assert "download its tokenizer files again" in found
    change(tmp_path / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "pip install" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"device": "gpu"}, "'gpu' is not a device"),
        ({"dtype": "float99"}, "'float99' is not a dtype"),
        ({"dtype": "nn"}, "'nn' is not a dtype"),
        ({"dtype": "float8_e4m3fn"}, "'float8_e4m3fn' is not a dtype"),
        ({"dtype": torch.int8}, "is not a dtype"),
        ({"no_such_option": 1}, "no_such_option"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    assert words in refusal(save_tiny("llama", tmp_path), **options)


@pytest.mark.parametrize("kind", ["llama", "phi3"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_is_one_model_in_every_dtype(tmp_path: Path, kind: str, tied: bool) -> None:
    folder = str(save_tiny(kind, tmp_path, tie_word_embeddings=tied))
    hashes = {
        load_model(folder, device="cpu", dtype=dtype).fingerprint["weights"]
        for dtype in ("float32", "bfloat16", "float16")
    }
    assert len(hashes) == 1
    # That of the float32 network itself, as earlier files have it.
    network = load_model(folder, device="cpu").network
    assert Model("in memory", network, None).fingerprint["weights"] in hashes


def test_the_embedded_model_keeps_the_hash_of_the_files_that_ship(embedded: Model) -> None:
    assert embedded.fingerprint["weights"] == "374701eb86cb9a7d"
    halved = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    assert halved.fingerprint["weights"] == "374701eb86cb9a7d"


def test_folders_by_their_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny("llama", tmp_path / "mine")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (".", "./", "../mine", "~/mine", str(folder)):
        assert load_model(name, device="cpu").folder_name == "mine"
    assert Model("owner/name", None, None).folder_name == "name"


def test_a_config_with_settings_of_wrong_types(tmp_path: Path) -> None:
    change(save_tiny("llama", tmp_path) / "config.json", num_hidden_layers="three")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (transformers.LlamaConfig(max_position_embeddings=512), 512),
        # Beside a length that stays at the original, as Qwen2.5's card says, near it as Qwen3's, or at the end of it.
        (("yarn", 512, {"factor": 4.0, "original_max_position_embeddings": 512}), 2048),
        (("yarn", 640, {"factor": 4.0, "original_max_position_embeddings": 512}), 2048),
        (("yarn", 2048, {"factor": 4.0, "original_max_position_embeddings": 512}), 2048),
        (("yarn", 512, {"factor": 4.0}), 2048),
        (("dynamic", 512, {"factor": 4.0}), 2048),
        (("linear", 512, {"factor": 4.0}), 512),
        (("linear", 512, {"factor": 4.0, "original_max_position_embeddings": 512}), 2048),
        (
            (
                "llama3",
                4096,
                {
                    "factor": 32.0,
                    "original_max_position_embeddings": 512,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                },
            ),
            4096,
        ),
        (
            (
                "longrope",
                4096,
                {
                    "factor": 32.0,
                    "original_max_position_embeddings": 512,
                    "short_factor": [1.0] * 64,
                    "long_factor": [2.0] * 64,
                },
            ),
            4096,
        ),
    ],
)
def test_how_far_a_scaled_rope_reaches(config: Any, context: int) -> None:
    from cokv_bench.models.support import context_of

    if isinstance(config, tuple):
        kind, stated, rope = config
        rope = {"rope_type": kind, "rope_theta": 10000.0, **rope}
        config = transformers.LlamaConfig(max_position_embeddings=stated, rope_parameters=rope, head_dim=128)
    assert context_of(config) == context


def test_a_window_that_slides_within_the_extended_context_is_refused(tmp_path: Path) -> None:
    from cokv_bench.models.support import check_supported

    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 512}
    with pytest.raises(RequestError, match="sliding window of 512"):
        check_supported(
            transformers.MistralConfig(max_position_embeddings=512, sliding_window=512, rope_parameters=rope), "m"
        )


@pytest.mark.parametrize("kind", ["yarn", "dynamic"])
def test_beyond_the_original_length_answers_are_those_of_generate(tmp_path: Path, kind: str) -> None:
    from cokv_bench.kvcache import Selection, decode, prefill
    from tests.conftest import random_ids

    folder = save_tiny("llama", tmp_path, max_position_embeddings=64)
    rope = {"type": kind, "factor": 4.0, **({"original_max_position_embeddings": 64} if kind == "yarn" else {})}
    # As a user edits a file: in the words of older versions, with the rest left alone.
    change(folder / "config.json", rope_parameters=None, rope_theta=10000.0, rope_scaling=rope)
    model = load_model(str(folder), device="cpu")
    assert model.context == 256
    # A shorter one after a longer one: what was read before changes nothing.
    for tokens in (60, 200, 100):
        ids = random_ids(tokens, seed=tokens)
        plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        expected = plain.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12, min_new_tokens=1)
        prompt = prefill(model, ids)
        whole = Selection.full(model.layers, model.kv_heads, tokens)
        assert decode(model, prompt, [whole], max_new_tokens=12)[0].token_ids == expected[0, tokens:].tolist()
