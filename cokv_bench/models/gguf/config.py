"""The transformers config of a GGUF file: what transformers reads of its settings, and what it passes over."""

import math
from collections.abc import Iterable
from typing import Any

from cokv_bench.errors import RequestError, quoted
from cokv_bench.models.gguf.header import Header

# The names that configs have for a setting; the first that a config has is set. transformers reads some of them for
# some architectures, and leaves the rest at the config class's defaults, which are those of another model.
_NAMES = {
    "context_length": ("max_position_embeddings",),
    "block_count": ("num_hidden_layers",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
}
_NEEDED = ("context_length", "block_count", "embedding_length", "attention.head_count")
_AGAIN = "convert or download it again"
_HEAD_SIZES = ("attention.key_length", "attention.value_length")
# Token ids, by their names in configs.
_IDS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
_SCALING = "rope.scaling."
# Changes no number: the vocabulary is counted, and a scaling's length and origin are told by others.
_IDLE = {"vocab_size", f"{_SCALING}finetuned"}
_FREQUENCIES = "rope_freqs.weight"
# Llama 3 stretches its rotary embedding with these constants in all releases; only the factor differs.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def check_settings(header: Header, shown: str) -> None:
    """Refuse a file with a number that no decoder can have, which would end the reading of its config with a riddle.

    Args:
        shown: the model's name, for errors.

    Raises:
        RequestError: with the first such setting.
    """
    for key, value in header.settings.items():
        numbers = value if isinstance(value, list) else [value]
        # A list has a number for each layer, and hybrids have layers without heads.
        if key in _NEEDED and value is not numbers and not (type(value) is int and value >= 1):
            expected = "a number above 0"
        elif any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            expected = "a finite number"
        else:
            continue
        raise RequestError(
            f"'{shown}' has {quoted(value)} as its setting '{header.architecture}.{key}', which must be {expected}; "
            f"{_AGAIN}."
        )


def complete(config: Any, header: Header, frequencies: Any, shown: str) -> None:
    """Give a config that transformers has made of a GGUF file all settings of the file.

    A setting that is not known here is refused: it may change every answer, and nothing would say so.

    Args:
        config: is changed.
        header: has passed `check_settings`.
        frequencies: values of the file's `rope_freqs.weight`, None where it has none.
        shown: the model's name, for errors.

    Raises:
        RequestError: a setting that is missing, or one that transformers or this project cannot follow.
    """
    settings = header.settings
    missing = [key for key in _NEEDED if key not in settings]
    if missing:
        raise RequestError(f"'{shown}' lacks the setting '{header.architecture}.{missing[0]}'; {_AGAIN}.")
    for name, key in _IDS.items():
        if f"tokenizer.ggml.{key}" not in header.values:
            setattr(config, name, None)
    settings.setdefault("attention.head_count_kv", settings["attention.head_count"])
    scaling = {key.removeprefix(_SCALING): settings.pop(key) for key in [*settings] if key.startswith(_SCALING)}
    for key in sorted(_NAMES.keys() & settings.keys()):
        _set(config, key, _single(settings.pop(key), key, header, shown), header, shown)
    rope = _rope(config)
    _set_base(rope, settings, header, shown)
    _set_scaling(rope, scaling, frequencies, header, shown)
    if "attention.key_length" in settings and hasattr(config, "head_dim"):
        config.head_dim = settings["attention.key_length"]
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if hasattr(config, "query_pre_attn_scalar"):
        config.query_pre_attn_scalar = _gemma_scale(config, size)
    for key in _HEAD_SIZES:
        if settings.pop(key, size) != size:
            raise _unread(key, header, shown)
    share = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    if settings.pop("rope.dimension_count", size * share) != size * share:
        raise _unread("rope.dimension_count", header, shown)
    left = sorted(settings.keys() - _IDLE)
    if left:
        raise _unread(left[0], header, shown)


def _set(config: Any, key: str, value: Any, header: Header, shown: str) -> None:
    name = next((name for name in _NAMES[key] if hasattr(config, name)), None)
    if name is None:
        raise _unread(key, header, shown)
    setattr(config, name, value)


def _single(value: Any, key: str, header: Header, shown: str) -> Any:
    """A setting that may stand there once for each layer, as one value."""
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise _unread(key, header, shown)
    return value[0]


def _gemma_scale(config: Any, size: int) -> int:
    """What Gemma divides queries by, squared: the head's size, but the width per head in the models of 27 billion.

    No setting says so; llama.cpp tells these models by their layers.
    """
    largest = {"gemma2": 46, "gemma3_text": 62}.get(config.model_type) == config.num_hidden_layers
    return int(config.hidden_size // config.num_attention_heads) if largest else size


def _rope(config: Any) -> dict[str, Any]:
    """The rotary settings of the layers that attend to everything."""
    found = getattr(config, "rope_parameters", None)
    if found is None:
        found = config.rope_parameters = {"rope_type": "default"}
    rope: dict[str, Any] = found.get("full_attention", found)
    return rope


def _set_base(rope: dict[str, Any], settings: dict[str, Any], header: Header, shown: str) -> None:
    base = settings.pop("rope.freq_base", None)
    # Where the file has none, the format's own default holds, whatever the config class thinks.
    rope["rope_theta"] = 10000.0 if base is None else base


def _set_scaling(rope: dict[str, Any], scaling: dict[str, Any], frequencies: Any, header: Header, shown: str) -> None:
    kind = scaling.pop("type", "none")
    factor = scaling.pop("factor", 1.0)
    scaling.pop("finetuned", None)
    length = scaling.pop("original_context_length", None)
    if scaling:
        raise _unread(_SCALING + min(scaling), header, shown)
    if frequencies is not None:
        rope.update(_llama3(rope["rope_theta"], frequencies, header, shown))
    elif kind in ("linear", "yarn"):
        rope.update(rope_type=kind, factor=factor)
        if length is not None:
            rope["original_max_position_embeddings"] = length
    elif kind != "none":
        raise _unread(f"{_SCALING}type = {kind}", header, shown)


def _llama3(base: float, frequencies: Iterable[float], header: Header, shown: str) -> dict[str, Any]:
    """The scaling that has these divisors of the rotary frequencies, in the config's words.

    llama.cpp writes Llama 3's scaling out as a tensor, one divisor per pair of dimensions; transformers reads neither
    the tensor nor anything in its place.
    """
    found = [float(value) for value in frequencies]
    factor = max(found)
    if all(math.isclose(value, 1.0, rel_tol=1e-3) for value in found):
        return {}
    low, high, length = _LLAMA3.values()
    for index, value in enumerate(found):
        turns = length / (2 * math.pi * base ** (index / len(found)))
        # From 0 for frequencies that are stretched in full to 1 for those that stay.
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        if not math.isclose(value, 1 / ((1 - kept) / factor + kept), rel_tol=1e-3):
            raise _unread(_FREQUENCIES, header, shown)
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}


def _unread(key: str, header: Header, shown: str) -> RequestError:
    return RequestError(
        f"'{shown}' cannot be converted: its setting '{header.architecture}.{key}' is not read here, and without "
        "it the model would be another; use the checkpoint in safetensors format."
    )
