"""Which decoders this project runs, and the reason where it does not."""

from typing import Any

from cokv_bench.errors import RequestError

# Each is tested with tiny random weights against plain `generate` in tests/kvcache.
SUPPORTED = ("llama", "mistral", "phi3", "qwen2", "qwen3")


def check_supported(config: Any, name: str) -> None:
    """Raise `RequestError` with the reason if a transformers config describes a decoder that cannot be run."""
    reason = _reason(config)
    if reason:
        raise RequestError(
            f"Model '{name}' cannot be used: {reason}; supported are {', '.join(SUPPORTED)} decoders "
            "in which every layer attends to all tokens."
        )


def context_of(config: Any) -> int:
    """The most tokens that prompt and answer may have together, by a transformers config, as serving engines derive it.

    `max_position_embeddings`, or the original length times the factor where a scaling of the rotary embedding reaches
    further: YaRN is switched on by a `rope_scaling` beside a `max_position_embeddings` that stays at (or near) the
    original, and dynamic NTK takes that number for its scale, so it must stay. Llama 3's scaling and long rope state
    the length that they reach in `max_position_embeddings`; linear scaling does so, or not, without telling which,
    so it reaches further only where it names its original length.
    """
    stated = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or {}
    kind, factor = rope.get("rope_type"), rope.get("factor")
    original = rope.get("original_max_position_embeddings", stated if kind == "dynamic" else None)
    if kind not in ("linear", "dynamic", "yarn") or not factor or not original:
        return stated
    return max(stated, int(original * factor))


def _reason(config: Any) -> str | None:
    kind = getattr(config, "model_type", "unknown")
    layer_types = set(getattr(config, "layer_types", None) or ())
    if getattr(config, "kv_lora_rank", None):
        return f"'{kind}' caches a latent vector instead of keys and values per head"
    if "mamba" in kind or layer_types & {"mamba", "linear_attention", "conv", "recurrent", "hybrid"}:
        return f"'{kind}' has state-space or linear-attention layers, which keep no keys per token"
    if kind not in SUPPORTED:
        return f"the architecture '{kind}' is not one that is tested here"
    if _slides(config, layer_types):
        return f"its layers attend to a sliding window of {config.sliding_window} tokens only"
    return None


def _slides(config: Any, layer_types: set[str]) -> bool:
    window = getattr(config, "sliding_window", None)
    if window is None or window >= context_of(config):
        return False
    if layer_types:
        return layer_types != {"full_attention"}
    return True
