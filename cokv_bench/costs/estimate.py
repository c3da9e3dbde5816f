"""What work costs before it is done: operations, memory, and a rough time on this machine."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from cokv_bench.models import Model

# Share of a matrix product's speed at which the parts of the work run (embedded model, two CPU cores, at 1k to 4k).
_PREFILL_EFFICIENCY = 0.9
_DECODE_EFFICIENCY = 0.35
_SECONDS_OF_MEASURING = 0.5


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder with gated MLPs that decide its cost. `itemsize` is bytes a weight and a cache entry.

    `layers` are those that attend to all of the text. A hybrid has `network_layers` in all, of which the others cost as
    many weights and, roughly, nothing by the length of the text. Of experts `intermediate_size` counts those that a
    token goes through, side by side; `weight_bytes` is what all weights take in memory, where that is another number.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden_size: int
    intermediate_size: int
    vocabulary: int
    itemsize: int
    network_layers: int | None = None
    weight_bytes: int | None = None

    @classmethod
    def of(cls, model: "Model") -> "Shape":
        """Of a loaded model."""
        return cls(
            layers=model.layers,
            heads=model.heads,
            kv_heads=model.kv_heads,
            head_dim=model.head_dim,
            hidden_size=model.config.hidden_size,
            intermediate_size=model.inner_width,
            vocabulary=model.network.get_input_embeddings().num_embeddings,
            itemsize=model.network.dtype.itemsize,
            network_layers=model.network_layers,
            weight_bytes=sum(weights.nbytes for weights in model.network.parameters()),
        )

    @property
    def layer_weights(self) -> int:
        """Weights of all layers, embeddings left out."""
        attention = self.hidden_size * self.head_dim * 2 * (self.heads + self.kv_heads)
        return (self.network_layers or self.layers) * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def output_weights(self) -> int:
        """Weights of the output layer."""
        return self.vocabulary * self.hidden_size

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of a token, all layers and heads."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.itemsize


@dataclass(frozen=True)
class Load:
    """Prompts of a kind and what decodes from each.

    Attributes:
        prompts: how many are prefilled.
        tokens: of a prompt.
        rows: answers decoded from each.
        new_tokens: the most tokens of an answer, an appended question included.
        accumulated: whether prefill also sums attention (H2O).
    """

    prompts: int
    tokens: int
    rows: int
    new_tokens: int
    accumulated: bool = False


@dataclass(frozen=True)
class Cost:
    """Operations (floating point), bytes at the peak, and the counts they come from."""

    prompts: int
    prompt_tokens: int
    answers: int
    prefill: float
    decode: float
    memory: int

    def seconds(self, speed: float) -> float:
        """Rough time where a matrix product does `speed` operations a second."""
        return self.prefill / (_PREFILL_EFFICIENCY * speed) + self.decode / (_DECODE_EFFICIENCY * speed)


def estimate(shape: Shape, loads: Iterable[Load]) -> Cost:
    """Add up what loads cost; answers are taken to reach their limit of tokens, so this is the most."""
    from cokv_bench.kvcache.batching import DEFAULT_MEMORY  # Imports torch.

    loads = list(loads)
    prefill = decode = 0.0
    memory = 0
    width = shape.layers * shape.heads * shape.head_dim
    for load in loads:
        # Half of the square is causal, a multiply and an add each, for scores and for values.
        attention = 2.0 * width * load.tokens**2 * (1.5 if load.accumulated else 1.0)
        prefill += load.prompts * (2.0 * shape.layer_weights * load.tokens + attention + 2 * shape.output_weights)
        steps = load.prompts * load.rows * max(0, load.new_tokens - 1)
        decode += steps * (2.0 * (shape.layer_weights + shape.output_weights) + 4.0 * width * load.tokens)
        own = load.rows * load.new_tokens * shape.token_bytes
        memory = max(memory, load.tokens * shape.token_bytes + min(own, DEFAULT_MEMORY))
    weights = shape.weight_bytes or (shape.layer_weights + shape.output_weights) * shape.itemsize
    return Cost(
        prompts=sum(load.prompts for load in loads),
        prompt_tokens=sum(load.prompts * load.tokens for load in loads),
        answers=sum(load.prompts * load.rows for load in loads),
        prefill=prefill,
        decode=decode,
        memory=weights + memory,
    )


def matrix_speed(device: "torch.device", dtype: "torch.dtype") -> float:
    """Operations a second of a large matrix product here, measured for half a second."""
    import torch  # Takes seconds, and files of reproductions are read without it.

    left = torch.randn(512, 2048, device=device).to(dtype)
    right = torch.randn(2048, 2048, device=device).to(dtype)
    products = 0
    _ = left @ right
    started = time.perf_counter()
    while time.perf_counter() - started < _SECONDS_OF_MEASURING:
        result = left @ right
        # Asks for a value, so that a device has really finished.
        result[0, 0].item()
        products += 1
    return products * 2.0 * 512 * 2048 * 2048 / (time.perf_counter() - started)
