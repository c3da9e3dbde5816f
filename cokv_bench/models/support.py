"""Which decoders cannot be run whatever a check says, and which of their layers are evicted."""

import math
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
)

from cokv_bench.errors import RequestError

# Layer types of transformers that choose nothing beyond a window; an indexed or sparse one looks where it likes.
_ATTENTION = frozenset({"full_attention", "attention", "sliding_attention", "chunked_attention", "hybrid"})

# Of a decoder, each 1 or more where a config has it.
_COUNTS = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings")


def check_supported(config: Any, name: str) -> None:
    """Raise `RequestError` with the reason if a transformers config describes a decoder that cannot be run.

    Others may still be refused by `cokv_bench.kvcache.check`, which looks at what they compute.
    """
    reason = _no_decoder(config)
    wrong = None if reason else _impossible(text_config(config))
    if wrong:
        raise RequestError(
            f"Model '{name}' cannot be used: by its config.json {wrong}; correct it, or download the model again."
        )
    reason = reason or _reason(text_config(config))
    if reason:
        raise RequestError(
            f"Model '{name}' cannot be used: {reason}; use a decoder that keeps keys and values per head and has "
            "layers that attend to all tokens."
        )


def text_config(config: Any) -> Any:
    """The part of a config that describes the decoder of text; the config itself where that is all there is."""
    return config.get_text_config(decoder=True)


def evicted_layers(config: Any) -> tuple[int, ...]:
    """Numbers in the network of the layers that attend to all of the text, by the decoder's config.

    A window as long as the longest text is none. The other layers slide, chunk or keep a state; transformers' own
    cache layers serve them.
    """
    layers = DynamicCache(config=config).layers
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * len(layers)
    return tuple(
        number
        for number, (layer, kind) in enumerate(zip(layers, kinds, strict=True))
        if kind in _ATTENTION and _attends_to_all(layer, config)
    )


def keeps_states(config: Any) -> bool:
    """Whether any layer keeps a state, by the decoder's config."""
    return any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in DynamicCache(config=config).layers)


def rope_of(config: Any) -> dict[str, Any]:
    """The rotary parameters of the layers that attend to all of the text."""
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    nested = rope.get("full_attention")
    return nested if isinstance(nested, dict) else rope


def context_of(config: Any) -> int:
    """The most tokens that prompt and answer may have together, by a transformers config, as serving engines derive it.

    `max_position_embeddings`, or the original length times the factor where a scaling of the rotary embedding reaches
    further: YaRN is switched on by a `rope_scaling` beside a `max_position_embeddings` that stays at (or near) the
    original, and dynamic NTK takes that number for its scale, so it must stay. Llama 3's scaling and long rope state
    the length that they reach in `max_position_embeddings`; linear scaling does so, or not, without telling which,
    so it reaches further only where it names its original length.
    """
    stated = int(config.max_position_embeddings)
    rope = rope_of(config)
    kind, factor = rope.get("rope_type"), rope.get("factor")
    original = rope.get("original_max_position_embeddings", stated if kind == "dynamic" else None)
    if kind not in ("linear", "dynamic", "yarn") or not factor or not original:
        return stated
    return max(stated, int(original * factor))


def _attends_to_all(layer: Any, config: Any) -> bool:
    if isinstance(layer, DynamicSlidingWindowLayer) and not isinstance(layer, LinearAttentionCacheLayerMixin):
        return bool(layer.sliding_window >= context_of(config))
    # Other subclasses keep something beside keys and values, or read them in a way of their own.
    return type(layer) in (DynamicLayer, LinearAttentionAndFullAttentionLayer)


def _impossible(config: Any) -> str | None:
    """What no decoder can have, as the end of a sentence; other numbers show when weights are loaded."""
    for name in _COUNTS:
        count = getattr(config, name, None)
        if isinstance(count, int) and count < 1:
            return f"{name} is {count}"
    if not _finite(getattr(config, "rope_parameters", None)):
        return "a number of rope_parameters is not finite"
    return None


def _finite(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _no_decoder(config: Any) -> str | None:
    # Code that a checkpoint brings along says so itself.
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or getattr(config, "auto_map", None):
        return None
    return f"transformers has no causal language model for '{config.model_type}' (AutoModelForCausalLM)"


def _reason(config: Any) -> str | None:
    kind = getattr(config, "model_type", "unknown")
    if getattr(config, "kv_lora_rank", None):
        return f"'{kind}' caches a latent vector instead of keys and values per head"
    if getattr(config, "num_kv_shared_layers", None) or "reuse" in (getattr(config, "kv_sharing_modes", None) or ()):
        return f"some layers of '{kind}' read the keys and values of other layers"
    layers = DynamicCache(config=config).layers
    if not any(isinstance(layer, DynamicLayer) for layer in layers):
        return f"the layers of '{kind}' keep a state (state-space or linear attention) instead of all tokens"
    if getattr(config, "max_position_embeddings", None) is None:
        return f"the config of '{kind}' does not say how long a text may be (max_position_embeddings)"
    if evicted_layers(config):
        return None
    windows = {layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)}
    if windows and all(isinstance(layer, DynamicSlidingWindowLayer) for layer in layers):
        return f"its layers attend to a sliding window of {max(windows)} tokens only"
    return f"no layer of '{kind}' attends to all tokens"
