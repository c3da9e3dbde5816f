"""Loading: what is supported runs, what is not is refused with the reason."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cokv_bench.errors import RequestError
from cokv_bench.kvcache import prefill
from cokv_bench.models import load_model
from cokv_bench.models.support import check_supported
from tests.conftest import random_ids, save_tiny


def test_a_folder_is_loaded_with_its_shape(tmp_path: Path) -> None:
    model = load_model(str(save_tiny("qwen3", tmp_path)), device="cpu")
    assert (model.layers, model.heads, model.kv_heads, model.head_dim) == (3, 6, 2, 8)
    assert model.context == 512
    assert model.network.dtype == torch.float32


def test_the_embedded_model_has_no_revisions() -> None:
    with pytest.raises(RequestError, match="'smollm2-135m' is on this machine and has no revisions"):
        load_model("smollm2-135m", revision="main")


def test_a_folder_without_a_tokenizer_takes_ids_only(tmp_path: Path) -> None:
    """transformers would make up an empty tokenizer from the architecture alone."""
    model = load_model(str(save_tiny("qwen3", tmp_path)), device="cpu")
    assert model.tokenizer is None
    assert model.text([5, 6]) == ""
    with pytest.raises(RequestError, match="no tokenizer"):
        _ = model.text_tokenizer


def test_dtype_is_passed_on(tmp_path: Path) -> None:
    model = load_model(str(save_tiny("llama", tmp_path)), device="cpu", dtype="bfloat16")
    assert model.network.dtype == torch.bfloat16
    assert model.bytes_per_token == 2 * model.head_dim * 2


def test_a_device_map_is_passed_on_and_changes_nothing(tmp_path: Path) -> None:
    folder = str(save_tiny("llama", tmp_path))
    ids = random_ids(30)
    mapped, plain = load_model(folder, device_map="cpu", dtype="float32"), load_model(folder, device="cpu")
    assert torch.equal(prefill(mapped, ids).logits, prefill(plain, ids).logits)


def test_the_fingerprint_tells_weights_apart_and_not_folders(tmp_path: Path) -> None:
    first = load_model(str(save_tiny("llama", tmp_path / "a")), device="cpu").fingerprint
    again = load_model(str(save_tiny("llama", tmp_path / "b")), device="cpu").fingerprint
    other = load_model(str(save_tiny("llama", tmp_path / "c", initializer_range=0.1)), device="cpu").fingerprint
    assert first["weights"] == again["weights"] != other["weights"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smollm2-135", "did you mean smollm2-135m"),
        ("./no/such/folder", "no model folder"),
        ("/no/such/folder", "no model folder"),
        ("nobody/nothing", "cannot be read"),
        ("", "name of the model is empty"),
        (" ", "name of the model is empty"),
    ],
)
def test_unknown_models(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        load_model(name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cpu", "device_map": "auto"}, "leave the device out"),
        ({"torch_dtype": "float16"}, "given as dtype="),
        ({"revision": "main"}, "has no revisions"),
        ({"attn_implementation": "eager"}, "always the project's own"),
    ],
)
def test_options_that_contradict_are_refused(texty_folder: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        load_model(texty_folder, **options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"max_position_embeddings": -5}, "max_position_embeddings is -5"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": math.inf}},
            "a number of rope_parameters is not finite",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": math.nan}},
            "a number of rope_parameters is not finite",
        ),
    ],
)
def test_a_config_that_no_decoder_can_have(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    save_tiny("llama", tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(RequestError, match=f"by its config.json {words}; correct it"):
        load_model(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (transformers.Gemma3nTextConfig(), "read the keys and values of other layers"),
        (transformers.BloomConfig(), "does not say how long a text may be"),
        (transformers.Qwen2_5_VLConfig(), "no causal language model for 'qwen2_5_vl'"),
        (transformers.MistralConfig(sliding_window=64, max_position_embeddings=512), "sliding window of 64"),
        (
            transformers.Qwen2Config(
                use_sliding_window=True, sliding_window=64, max_window_layers=0, max_position_embeddings=512
            ),
            "sliding window of 64",
        ),
        (transformers.DeepseekV3Config(), "latent vector"),
        (transformers.MambaConfig(), "state-space"),
    ],
)
def test_other_architectures_are_refused_with_the_reason(config: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check_supported(config, "some-model")


@pytest.mark.parametrize(
    "config",
    [
        transformers.MistralConfig(sliding_window=4096, max_position_embeddings=4096),
        transformers.Qwen2Config(use_sliding_window=False, sliding_window=64, max_position_embeddings=512),
        transformers.Phi3Config(sliding_window=262144),
    ],
)
def test_a_window_that_never_slides_is_no_reason(config: Any) -> None:
    check_supported(config, "some-model")


def test_pickled_weights_are_never_loaded(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RequestError, match="cannot be loaded"):
        load_model(str(tmp_path))


def test_code_of_a_model_does_not_run_unless_asked_for(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(model_type="own-kind", auto_map={"AutoConfig": "own.OwnConfig"})
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(RequestError):
        load_model(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_options_that_say_where_files_lie_hold_for_all_of_them(texty_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(texty_folder, tmp_path / "outer" / "inner")
    model = load_model(str(tmp_path / "outer"), subfolder="inner", device="cpu")
    assert model.tokenizer is not None
    assert model.fingerprint["weights"] == load_model(str(texty_folder), device="cpu").fingerprint["weights"]
