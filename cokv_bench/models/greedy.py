"""Plain greedy decoding: what a checkpoint's generation settings would do to it, and a network without them."""

from typing import Any

from transformers import GenerationConfig

# Settings that leave the most likely token the most likely one, or only say how long an answer is or what is returned;
# the rest, those of later versions of transformers included, are taken to change answers.
_HARMLESS = frozenset(
    {
        "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
        "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id",
        "max_length", "max_new_tokens", "max_time", "num_return_sequences", "renormalize_logits",
        "length_penalty", "early_stopping", "diversity_penalty", "num_beam_groups", "low_memory",
        "use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "compile_config",
        "disable_compile", "continuous_batching_config", "return_dict_in_generate", "output_attentions",
        "output_hidden_states", "output_scores", "output_logits", "is_assistant", "num_assistant_tokens",
        "num_assistant_tokens_schedule", "assistant_confidence_threshold", "prompt_lookup_num_tokens",
        "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind", "target_lookbehind",
        "assistant_ensemble_weight", "speculation_type", "use_mtp", "transformers_version",
    }
)  # fmt: skip
# Values that switch a setting off, beside empty ones.
_OFF = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "guidance_scale": 1.0, "num_beams": 1}


def make_greedy(network: Any) -> dict[str, Any]:
    """Leave a network's `generate` nothing but its special tokens.

    Returns:
        The settings that would have changed greedy answers, by name; empty for most checkpoints.
    """
    settings = network.generation_config
    left_out = {
        name: value
        for name, value in settings.to_diff_dict().items()
        if name not in _HARMLESS and not name.startswith("_") and value and value != _OFF.get(name)
    }
    network.generation_config = GenerationConfig(
        eos_token_id=settings.eos_token_id, bos_token_id=settings.bos_token_id, pad_token_id=settings.pad_token_id
    )
    return left_out


def in_words(settings: dict[str, Any]) -> str:
    """Settings as one line, long values cut."""
    return ", ".join(f"{name}={value!s:.40}" for name, value in sorted(settings.items()))
