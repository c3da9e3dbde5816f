"""The model of a GGUF file is that of its checkpoint: weights, settings and rotary embeddings."""

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from cokv_bench.kvcache import prefill
from cokv_bench.models.gguf import convert as conversion
from cokv_bench.models.gguf.config import complete
from cokv_bench.models.gguf.header import Header
from tests.conftest import random_ids
from tests.models.gguf_files import SIZES, load, logits, plain, write
from tests.models.written import byte_level

pytestmark = pytest.mark.filterwarnings("ignore::cokv_bench.errors.Notice")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
        ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
        ("phi3", {}),
        # Its head size is neither its width over its heads nor the 128 of the config class.
        ("qwen3", {"head_dim": 24, "max_position_embeddings": 1024}),
    ],
)
def test_a_file_is_its_checkpoint(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    source = plain(kind, tmp_path / "plain", **changes)
    expected, found = load(source), load(write(source, tmp_path / "tiny.gguf"))
    ids = random_ids(60)
    assert torch.equal(logits(found, ids), logits(expected, ids))
    assert torch.equal(prefill(found, ids).logits, prefill(expected, ids).logits)
    assert found.fingerprint["weights"] == expected.fingerprint["weights"]
    assert (found.context, found.head_dim, found.kv_heads) == (expected.context, expected.head_dim, expected.kv_heads)
    assert found.reading["rope"] == expected.reading["rope"]
    assert found.reading["chat_template"] == expected.reading["chat_template"]
    assert found.folder_name == "tiny"
    assert found.ignored_generation_settings == {}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (
            transformers.Gemma3TextConfig(
                **SIZES, num_hidden_layers=7, num_key_value_heads=1, head_dim=32, sliding_window=64,
                query_pre_attn_scalar=32,
            ),
            {"gemma3.attention.value_length": 32, "gemma3.attention.sliding_window": 64},
        ),
        (
            transformers.Qwen3MoeConfig(
                **SIZES, num_hidden_layers=2, num_key_value_heads=2, head_dim=16, num_experts=6, num_experts_per_tok=3,
                moe_intermediate_size=32, norm_topk_prob=True,
            ),
            {
                "qwen3moe.expert_count": 6,
                "qwen3moe.expert_used_count": 3,
                "qwen3moe.expert_feed_forward_length": 32,
            },
        ),
    ],
)  # fmt: skip
def test_hybrids_and_mixtures_of_experts(tmp_path: Path, config: Any, settings: dict[str, Any]) -> None:
    config.update({"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.3})
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "plain")
    byte_level().save_pretrained(tmp_path / "plain")
    file = write(tmp_path / "plain", tmp_path / "tiny.gguf", settings=settings)
    ids = torch.tensor([random_ids(150)])
    expected, found = (
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        for folder in (tmp_path / "plain", conversion.converted_folder(file, "tiny"))
    )
    # llama.cpp adds one to Gemma's norms, and taking it off again rounds.
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.parametrize(("layers", "divisor"), [(62, 16), (48, 32)])
def test_what_gemma_divides_queries_by(layers: int, divisor: int) -> None:
    """By the head's size, and in the model of 27 billion weights by the width per head; no setting says so."""
    config = transformers.Gemma3TextConfig(**SIZES, num_hidden_layers=layers, head_dim=8, query_pre_attn_scalar=256)
    settings = {"context_length": 512, "block_count": layers, "embedding_length": 96, "attention.key_length": 32}
    values = {f"gemma3.{key}": value for key, value in {**settings, "attention.head_count": 6}.items()}
    complete(config, Header(Path(), {"general.architecture": "gemma3", **values}, {}), None, "tiny")
    assert config.query_pre_attn_scalar == divisor


def test_quantised_weights_are_the_numbers_that_they_stand_for(tmp_path: Path, llama: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    found = load(write(llama, tmp_path / "q8.gguf", quantized=kind))
    rounded = shutil.copytree(llama, tmp_path / "rounded")
    weights = {
        name: torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(tensor.numpy(), kind), kind))
        if tensor.ndim == 2
        else tensor
        for name, tensor in load_file(llama / "model.safetensors").items()
    }
    save_file(weights, rounded / "model.safetensors", metadata={"format": "pt"})
    ids = random_ids(40)
    assert torch.equal(logits(found, ids), logits(load(rounded), ids))
    assert not torch.equal(logits(found, ids), logits(load(llama), ids))
    assert found.fingerprint["weights"] == load(rounded).fingerprint["weights"]


def llama3_frequencies(factor: float, base: float = 10000.0, size: int = 16) -> np.ndarray:
    """Divisors of the rotary frequencies, by transformers' own function."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": base, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = transformers.LlamaConfig(head_dim=size, rope_parameters=rope, max_position_embeddings=131072)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / base ** (torch.arange(0, size, 2) / size)
    return (plain / scaled).numpy().astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_stretches_its_rotary_embedding(tmp_path: Path, factor: float) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    source = plain("llama", tmp_path / "plain", rope_parameters=rope, max_position_embeddings=131072)
    tensors = {"rope_freqs.weight": llama3_frequencies(factor)}
    assert 1.0 < tensors["rope_freqs.weight"][-2] < tensors["rope_freqs.weight"][-1] == factor
    found, expected = load(write(source, tmp_path / "tiny.gguf", tensors=tensors)), load(source)
    assert found.reading["rope"] == expected.reading["rope"]
    assert found.context == 131072
    assert torch.equal(logits(found, random_ids(300)), logits(expected, random_ids(300)))


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_other_scalings_of_the_rotary_embedding(tmp_path: Path, kind: str) -> None:
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    source = plain("qwen2", tmp_path / "plain", rope_parameters=rope)
    settings = {"type": kind, "factor": 4.0, "original_context_length": 128}
    file = write(
        source, tmp_path / "tiny.gguf", settings={f"qwen2.rope.scaling.{key}": value for key, value in settings.items()}
    )
    ids = random_ids(300)
    assert torch.equal(logits(load(file), ids), logits(load(source), ids))
    assert load(file).context == load(source).context
