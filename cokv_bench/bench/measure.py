"""One measurement: a prompt is prefilled, what a method drops is dropped, and the answer is decoded."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from cokv_bench.bench.memory import Meter
from cokv_bench.bench.timing import clock
from cokv_bench.kvcache import RaggedCache, compress
from cokv_bench.kvcache.graph import GraphStep
from cokv_bench.kvcache.ragged import RaggedLayer
from cokv_bench.models import Model
from cokv_bench.models.finite import not_finite
from cokv_bench.runs.plan import Variant


@dataclass(frozen=True)
class Settings:
    """What all measurements of a run have in common.

    Attributes:
        new_tokens: tokens of an answer, at least 2: the first comes from the prompt alone and is no decoding.
        rows: equal prompts that are decoded as one batch.
        window: observation window of the methods, in tokens.
        chunk: prompt tokens that a layer reads at a time where a method compresses, None for as many as fit; FullKV's
            prefill is one pass.
        replayed: whether steps are also timed as a CUDA graph.
    """

    new_tokens: int
    rows: int
    window: int
    chunk: int | None = None
    replayed: bool = True


@dataclass(frozen=True)
class Reading:
    """What one measurement gave. Bytes are beyond the model's own; None where the platform does not count them.

    Attributes:
        prefill_s: seconds until the last prompt token's logits are there and what the method drops is freed.
        ttft_s: seconds until the first new token is known on the host.
        decode_ms: milliseconds a decoding step, that is a token of each row, mean over the steps.
        graph_ms: the same for steps that are replayed as one CUDA graph; None where there is none.
        peak_bytes: the most that was needed, from prefill to the last token.
        after_bytes: what is allocated between prefill with eviction and decoding.
        kv_held: bytes of the prompt's keys and values that are kept, all rows.
        kv_reserved: bytes set aside for keys and values of new tokens, all rows.
        token_ids: the answer of the first row, new_tokens ids.
    """

    prefill_s: float
    ttft_s: float
    decode_ms: float
    graph_ms: float | None
    peak_bytes: int | None
    after_bytes: int | None
    kv_held: int
    kv_reserved: int
    token_ids: list[int]


@torch.inference_mode()
def measure(model: Model, token_ids: Tensor, variant: Variant, settings: Settings) -> Reading:
    """Measure a method at a budget on one prompt.

    FullKV (no budget) is transformers alone: one forward pass into its `DynamicCache`, which grows as it does there.
    Every other method prefills with `compress` and decodes from its compact cache. Both are decoded by the same
    `generate`, whose own work for each token is therefore in both times.

    Args:
        token_ids: int64 [tokens], on the model's device.
        variant: the method; a budget of None is FullKV.

    Raises:
        torch.OutOfMemoryError: it does not fit the device.
    """
    device = model.device
    meter = Meter.start(device)
    started = clock(device)
    if variant.budget is None:
        cache, logits = _prefill_plain(model, token_ids)
    else:
        cache, logits = _prefill_compressed(model, token_ids, variant, settings)
    prefilled = clock(device)
    first = int(logits.argmax())
    known = clock(device)
    if not logits.isfinite().all():
        raise not_finite(model, "logits")
    del logits
    if variant.budget is None:
        cache.reorder_cache(torch.zeros(settings.rows, dtype=torch.long, device=device))
        evicted = [cache.layers[number] for number in model.evicted_layers]
        held, reserved = sum(layer.keys.nbytes + layer.values.nbytes for layer in evicted), 0
    else:
        held, reserved = cache.kept_bytes, cache.reserved_bytes
    after = meter.held()
    prompt = torch.cat([token_ids, token_ids.new_tensor([first])]).repeat(settings.rows, 1)
    steps = settings.new_tokens - 1
    began = clock(device)
    answer = model.network.generate(
        prompt,
        # Random ids may be padding or end tokens, which generate would otherwise read as such.
        attention_mask=torch.ones_like(prompt),
        past_key_values=cache,
        max_new_tokens=steps,
        min_new_tokens=steps,
        do_sample=False,
    )
    ended = clock(device)
    peak = meter.peak()
    return Reading(
        prefill_s=prefilled - started,
        ttft_s=known - started,
        decode_ms=1000 * (ended - began) / steps,
        graph_ms=_graph_ms_if_it_fits(model, cache, prompt, steps) if settings.replayed else None,
        peak_bytes=peak,
        after_bytes=after,
        kv_held=held,
        kv_reserved=reserved,
        token_ids=answer[0, token_ids.numel() :].tolist(),
    )


def _prefill_plain(model: Model, token_ids: Tensor) -> tuple[Any, Tensor]:
    """Transformers' own cache of a prompt, and the logits [vocabulary] after it."""
    cache: Any = DynamicCache(config=model.config)
    output = model.network(input_ids=token_ids[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache, output.logits[0, -1]


def _prefill_compressed(model: Model, token_ids: Tensor, variant: Variant, settings: Settings) -> tuple[Any, Tensor]:
    """The compact cache of a prompt for all rows, and the logits [vocabulary] after it."""
    compressed = compress(
        model,
        token_ids,
        variant.policy,
        variant.budget,
        window=settings.window,
        chunk=settings.chunk,
        # The last token of an answer is never fed back.
        reserve=settings.new_tokens - 1,
        rows=settings.rows,
    )
    return compressed.cache, compressed.logits


def _graph_ms_if_it_fits(model: Model, cache: Any, prompt: Tensor, steps: int) -> float | None:
    """`_graph_ms`, or None where the device has no room for it; the rest of a reading counts all the same."""
    try:
        return _graph_ms(model, cache, prompt, steps)
    except torch.OutOfMemoryError:
        return None


def _graph_ms(model: Model, cache: Any, prompt: Tensor, steps: int) -> float | None:
    """Milliseconds a step of `GraphStep` after the same prompt [rows, tokens + 1], the most likely token each time.

    None without a GPU, where steps cannot be captured, and where FullKV has no room in the graph's layout.
    """
    tokens = prompt.shape[1] - 1
    if steps < 2 or model.device.type != "cuda" or not model.verdict.lean:
        return None
    cache.crop(tokens - cache.layers[0].get_seq_length())
    if not isinstance(cache, RaggedCache):
        cache = _as_ragged(cache, steps)
    if not GraphStep.serves(model, cache):
        return None
    step, chosen = GraphStep(model, cache, len(prompt), prompt.shape[1]), prompt[:, -1:]
    # The first step captures the graph.
    chosen = model.logits(step(chosen, tokens)).argmax(-1, keepdim=True)
    began = clock(model.device)
    for number in range(1, steps):
        chosen = model.logits(step(chosen, tokens + number)).argmax(-1, keepdim=True)
    return 1000 * (clock(model.device) - began) / (steps - 1)


def _as_ragged(cache: Any, reserve: int) -> RaggedCache:
    """FullKV of equal rows in the compact cache's layout; the other is emptied layer by layer."""
    layers = []
    for layer in cache.layers:
        keys, values = layer.keys, layer.values
        layer.keys = layer.values = None
        everything = torch.ones(keys.shape[:3], dtype=torch.bool)
        layers.append(RaggedLayer(keys[0], values[0], everything, reserve))
    return RaggedCache.of_layers(layers)
