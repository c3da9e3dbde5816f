"""Tiny GGUF files with random weights, written as llama.cpp's converter writes them."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from cokv_bench.errors import RequestError
from cokv_bench.models import Model, load_model
from tests.conftest import save_tiny
from tests.models.written import byte_level

TEXT = "  Where was the boat?  1,234 ÄÖ\n\n    return <|end|> don't"
TOKENS = "tokenizer.ggml."
# Sizes that the quantised formats' blocks of 32 divide.
SIZES = {"vocab_size": 360, "hidden_size": 96, "intermediate_size": 64, "num_attention_heads": 6}
_TOKENS = {"bos": 1, "eos": 2}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "self_attn.qkv_proj": "attn_qkv",
    "mlp.gate_up_proj": "ffn_up",
}
# Gemma has norms behind its parts as well, and the names of others mean other places.
_GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
# llama.cpp's names of architectures, where transformers has another.
_KINDS = {"gemma3_text": "gemma3", "qwen3_moe": "qwen3moe"}


def plain(kind: str, folder: Path, tokenizer: Any = None, **changes: Any) -> Path:
    """A tiny model in transformers' format, of sizes that can be quantised."""
    save_tiny(kind, folder, **{**SIZES, **changes})
    (byte_level() if tokenizer is None else tokenizer).save_pretrained(folder)
    return folder


def write(
    source: Path,
    path: Path,
    *,
    settings: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    quantized: gguf.GGMLQuantizationType | None = None,
) -> Path:
    """The GGUF file of a model that `plain` has saved.

    Args:
        settings: of the metadata, by full key, beside or instead of the model's own; None leaves one out.
        tensors: further ones, float32.
        quantized: the format of the matrices; float32 by default.
    """
    network = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = network.config
    kind = _KINDS.get(config.model_type, config.model_type)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, kind)
    heads = {"head_count": config.num_attention_heads, "head_count_kv": config.num_key_value_heads}
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values: dict[str, Any] = {
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.feed_forward_length": config.intermediate_size,
        **{f"{kind}.attention.{key}": value for key, value in heads.items()},
        f"{kind}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{kind}.rope.freq_base": float(_rope(config)["rope_theta"]),
        **({f"{kind}.rope.dimension_count": size} if kind in ("llama", "phi3") else {}),
        **({f"{kind}.attention.key_length": size} if kind in ("qwen3", "qwen3moe", "gemma3") else {}),
        **tokenizer_settings(source, config.vocab_size),
        **(settings or {}),
    }
    for key, value in values.items():
        _add(writer, key, value)
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if ".experts." in name:
            _add_experts(writer, name, array)
            continue
        if kind == "gemma3" and "norm" in name:
            array = array + 1
        if kind == "llama" and ".q_proj." in name:
            array = _interleaved(array, heads["head_count"])
        if kind == "llama" and ".k_proj." in name:
            array = _interleaved(array, heads["head_count_kv"])
        if quantized is not None and array.ndim == 2:
            writer.add_tensor(_name(name, kind), gguf.quants.quantize(array, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(_name(name, kind), array)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tokenizer_settings(source: Path, size: int) -> dict[str, Any]:
    """The metadata of a byte-level tokenizer, with BOS before each text, filled up to a size with unused tokens."""
    content = json.loads((source / "tokenizer.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    special = {token["content"] for token in content["added_tokens"]}
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in content["model"]["merges"]]
    unused = [f"[PAD{index}]" for index in range(len(tokens), size)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens + unused,
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token in tokens] + [5] * len(unused),
        "tokenizer.ggml.merges": merges,
        **{f"tokenizer.ggml.{name}_token_id": index for name, index in _TOKENS.items()},
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def _rope(config: Any) -> dict[str, Any]:
    return config.rope_parameters.get("full_attention", config.rope_parameters)


def _name(name: str, kind: str) -> str:
    names = _NAMES | (_GEMMA if kind == "gemma3" else {})
    stem, suffix = name.rsplit(".", 1)
    if stem in names:
        return f"{names[stem]}.{suffix}"
    layer, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{names[part]}.{suffix}"


def _add_experts(writer: gguf.GGUFWriter, name: str, array: np.ndarray) -> None:
    """The experts of a layer, whose gate and up matrices transformers joins."""
    block = f"blk.{name.split('.')[2]}"
    gate, *up = np.split(array, 2, axis=1) if name.endswith("gate_up_proj") else (array,)
    parts = {"gate": gate, "up": up[0]} if up else {"down": gate}
    for part, matrices in parts.items():
        writer.add_tensor(f"{block}.ffn_{part}_exps.weight", np.ascontiguousarray(matrices))


def _interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix in llama.cpp's order, where the halves of a head that turn together alternate."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def load(path: Path | str, **options: Any) -> Model:
    return load_model(str(path), device="cpu", **options)


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(RequestError) as error:
        load(path, **options)
    found = str(error.value)
    assert len(found) <= 400
    assert found.endswith((".", "gguf"))
    return found


def logits(model: Model, ids: list[int]) -> torch.Tensor:
    return model.network(torch.tensor([ids])).logits
