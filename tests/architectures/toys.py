"""Tiny random-weight networks of many architectures of transformers, each with what makes it unlike a Llama."""

from pathlib import Path
from typing import Any

import torch
import transformers

SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# A prompt of the tests is longer than these windows by far.
WINDOW = 16
_SLIDING = {"sliding_window": WINDOW}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, **_SLIDING}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_expand": 2}
_NEMOTRON = {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1}
_PER_LAYER = {"vocab_size_per_layer_input": 260, "hidden_size_per_layer_input": 8}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "partial_rotary_factor": 0.5,
}

#: The architecture's `model_type` (with a word where a setting matters), and what its config has beside the sizes.
TOYS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "mistral, sliding": _SLIDING,
    "ministral3": {"sliding_window": None},
    "phi3": {"sliding_window": None},
    "qwen2": {},
    "qwen2, sliding": {"use_sliding_window": True, "max_window_layers": 2, **_SLIDING},
    "qwen3": {},
    "qwen3_moe": {**_EXPERTS, "decoder_sparse_step": 1},
    "mixtral": {**_EXPERTS, "sliding_window": None},
    "olmo2": {},
    "olmoe": {**_EXPERTS},
    "olmo3": _MIXED,
    "granite": {
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.2,
        "logits_scaling": 4.0,
    },
    "granitemoe": {**_EXPERTS, "embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2},
    "granitemoehybrid": {
        **_EXPERTS,
        **_MAMBA,
        "layer_types": ["mamba", "attention"] * 2,
        "shared_intermediate_size": 48,
        "position_embedding_type": "rope",
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": {**_EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5, **_MIXED},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 12, "attn_logit_softcapping": 4.0, "final_logit_softcapping": 6.0, **_MIXED},
    "gemma3_text": {"query_pre_attn_scalar": 12, **_MIXED},
    "gpt_oss": {**_EXPERTS, **_MIXED},
    "llama4_text": {
        **_EXPERTS,
        "intermediate_size_mlp": 48,
        "attention_chunk_size": WINDOW,
        "no_rope_layers": [1, 0, 1, 0],
        "layer_types": ["chunked_attention", "full_attention"] * 2,
        "floor_scale": 16,
        "interleave_moe_layer_step": 2,
    },
    "smollm3": {"no_rope_layer_interval": 2},
    "exaone4": _MIXED,
    "seed_oss": {},
    "ernie4_5": {},
    "hunyuan_v1_dense": {},
    "starcoder2": {"sliding_window": None},
    "stablelm": {},
    "qwen3_next": {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 24},
    "qwen3_5_text": {**_LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "bamba": {**_MAMBA, "attn_layer_indices": [1, 3]},
    "jamba": {**_EXPERTS, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64},
    "zamba2": {
        **_MAMBA,
        "mamba_ngroups": 1,
        "n_mamba_heads": 4,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": False,
    },
    "nemotron_h": {**_NEMOTRON, "layers_block_type": ["mamba", "attention", "mlp", "attention"]},
    "gemma3n_text": {**_PER_LAYER, "num_kv_shared_layers": 2, **_MIXED},
    "gemma4_text": {**_PER_LAYER, **_MIXED, "global_head_dim": 16, "num_global_key_value_heads": 1},
    "deepseek_v3": {
        "kv_lora_rank": 16,
        "q_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "moe_intermediate_size": 24,
        "num_key_value_heads": 4,
    },
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8},
    "gpt2": {"num_key_value_heads": None, "n_positions": 512, "n_embd": 32, "n_layer": 4, "n_head": 4},
}

#: Toys that are refused, and what the sentence says.
REFUSED = {
    "mistral, sliding": "sliding window of 16 tokens only",
    "jamba": "differ from plain transformers'",
    "mamba2": "keep a state",
    "gemma3n_text": "read the keys and values of other layers",
    "deepseek_v3": "latent vector",
}


def save_toy(name: str, folder: Path) -> Path:
    """Save a toy of `TOYS` as a checkpoint without a tokenizer."""
    kind = name.split(",")[0]
    known = transformers.CONFIG_MAPPING[kind]
    config = known(**{**SIZES, **TOYS[name]})
    torch.manual_seed(3)
    network = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, part in network.named_parameters():
            # Weights that a fresh network has at 0 or 1, where a mistake would not show.
            if part.ndim == 1 and not key.endswith("A_log"):
                part.add_(torch.randn_like(part) * 0.2)
    network.save_pretrained(folder)
    return folder
