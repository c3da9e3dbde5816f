"""Random weights in the shape of a known model: speed and memory depend on shapes, not on what was learnt."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.initialization import no_init_weights

from cokv_bench.errors import RequestError, unknown
from cokv_bench.models import Model
from cokv_bench.models.attention import IMPLEMENTATION

# Wider than that of the checkpoints: prompts of 128k tokens leave room for an answer, and random weights do not care.
_CONTEXT = 2**17 + 2**12

#: Shapes by name, as arguments of `LlamaConfig`.
PRESETS: dict[str, dict[str, Any]] = {
    "llama3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": _CONTEXT,
    },
    "llama3-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "max_position_embeddings": _CONTEXT,
    },
}
# Of the checkpoints' own initialisation: with it activations stay finite in every dtype.
_SPREAD = 0.02


def random_model(
    preset: str,
    *,
    layers: int | None = None,
    seed: int = 0,
    dtype: str | None = None,
    device: str | None = None,
) -> Model:
    """A model of a known shape with random weights, made where it will run, without a tokenizer.

    Args:
        preset: a key of `PRESETS`.
        layers: fewer layers than the shape has, to fit a smaller machine.
        seed: of the weights.
        dtype: "float32", "bfloat16", "float16" or "auto"; default float32 on the CPU, bfloat16 elsewhere.
        device: "cpu", "cuda", "cuda:1"; default CUDA where there is one.

    Raises:
        RequestError: no such shape, more layers than it has, no such dtype or device.
    """
    check_preset(preset, layers)
    place = _device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = _dtype(dtype, place)
    config = LlamaConfig(**PRESETS[preset])
    config.num_hidden_layers = layers or config.num_hidden_layers
    # Filling billions of weights twice, as their layers and then the model would, takes minutes on a CPU.
    with place, no_init_weights():
        network = AutoModelForCausalLM.from_config(config, dtype=kind, attn_implementation=IMPLEMENTATION)
    network.tie_weights()
    network.eval().requires_grad_(False)
    generator = torch.Generator(place).manual_seed(seed)
    for weights in network.parameters():
        # The vectors are the norms' factors.
        weights.normal_(0, _SPREAD, generator=generator) if weights.ndim > 1 else weights.fill_(1)
    depth = "" if layers is None else f"-{layers}-layers"
    # There is nothing that random weights could be wrong about, and rounding after many layers of them differs widely.
    return Model(f"random-{preset}{depth}", network, None, skip_check=True)


def check_preset(preset: str, layers: int | None) -> None:
    """Refuse a shape that is not known, or more layers than it has.

    Raises:
        RequestError: with the known names or the number of layers.
    """
    if preset not in PRESETS:
        raise unknown("shape of random weights", preset, PRESETS)
    most = PRESETS[preset]["num_hidden_layers"]
    if layers is not None and not 1 <= layers <= most:
        raise RequestError(f"The shape '{preset}' has {most} layers, so --layers {layers} must be from 1 to {most}.")


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise RequestError(f"There is no device '{name}' here ({reason}); use cpu, cuda or cuda:1.") from error


def _dtype(name: str | None, place: torch.device) -> torch.dtype:
    if name in (None, "auto"):
        return torch.float32 if place.type == "cpu" else torch.bfloat16
    kind = getattr(torch, str(name), None)
    if kind not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise RequestError(f"Random weights cannot be of dtype '{name}'; use float32, bfloat16 or float16.")
    return kind
