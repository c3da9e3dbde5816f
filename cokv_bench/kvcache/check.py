"""Whether this project computes what plain transformers computes, for a model at hand: a short text says so.

A decoder is supported when it passes. The text goes through prefill, the shared cache and the ragged cache, and its
logits must be those of the network's own forward pass with transformers' eager attention and no cache at all. First the
layers are called one by one (lean on memory); where that is not all the decoder does, it is called as a whole.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache

from cokv_bench.errors import RequestError, brief
from cokv_bench.files import write_text
from cokv_bench.kvcache.moments import unrotated
from cokv_bench.kvcache.prefill import prefill
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.kvcache.selection import Selection
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.attention import IMPLEMENTATION, AttendingLayer
from cokv_bench.models.embedded import cache_folder
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import by_length, rotary_factors

TOKENS = 48
# Of them, those that are read after the prompt.
_AFTER = 8
_CHUNK = 16
# Raised when what is checked changes, so that earlier verdicts no longer count.
_VERSION = 1
# Standard deviations of the logits by which ours may differ: in float32 anywhere; in 16 bits, where a rounding may turn
# an expert's choice and so all logits of a token, at half of the tokens. More where plain transformers differs from
# itself by more, when it reads the same text as `generate` does; the second number is the most.
_TOLERANCE = 2e-3, 0.1
_TOLERANCE_16 = 0.1, 0.5
_OWN = 3.0
# Seconds of a check that are worth a file.
_WORTH_KEEPING = 0.5
# Run lean without a check: tests compare each with plain `generate`.
_LEAN = ("llama", "mistral", "phi3", "qwen2", "qwen3")


@dataclass(frozen=True)
class Outcome:
    """How a check ended that a model has passed.

    Attributes:
        lean: whether the layers are called one by one.
        difference: standard deviations by which logits differ from plain transformers'; NaN where those are not finite.
        tolerance: by which they may.
    """

    lean: bool
    difference: float
    tolerance: float


class _Differs(Exception):
    """One way to run a model does not give plain transformers' logits; the text says where."""


def verify(model: Model) -> None:
    """Find out how a model is run, unless that is known; how long checks ended is kept in the cache folder.

    Raises:
        RequestError: see `compare`.
    """
    if model.verdict.reached:
        return
    if model.skip_check:
        _decide(model, _usual(model))
        return
    path = cache_folder() / "checks" / f"{_key(model)}.json"
    known = _known(path)
    if known is not None:
        _decide(model, known.lean)
        return
    started = time.perf_counter()
    found = compare(model)
    if model.files and math.isfinite(found.difference) and time.perf_counter() - started > _WORTH_KEEPING:
        with suppress(RequestError):  # Compared again the next time.
            write_text(path, json.dumps(asdict(found)))


@torch.inference_mode()
def compare(model: Model) -> Outcome:
    """Compare a model with plain transformers; `model.verdict` is set.

    Raises:
        RequestError: logits differ, with the layer and the difference, or the network cannot be run with these caches.
        torch.OutOfMemoryError: this text does not fit the device.
    """
    try:
        return _compared(model)
    except BaseException:
        # Nothing is known of a model whose check was interrupted or ran out of memory.
        model.verdict.reached = False
        raise


def _compared(model: Model) -> Outcome:
    ids = _ids(model)
    try:
        with _plain_attention(model):
            expected = model.network(input_ids=ids[None].to(model.device), use_cache=False).logits[0].float().cpu()
        tolerance = _tolerance(model, ids, expected)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Remote code may raise anything.
        raise _refusal(model, f"transformers cannot run it on {len(ids)} tokens ({brief(error)})") from error
    if not expected.isfinite().all():
        # Prefill will say from where on.
        _decide(model, _usual(model))
        return Outcome(model.verdict.lean, math.nan, tolerance)
    failures: list[Exception] = []
    # What is not evicted needs the masks that the decoder makes for it.
    for lean in (False,) if model.hybrid else (True, False):
        _decide(model, lean)
        try:
            return Outcome(lean, _difference(model, ids, expected, tolerance), tolerance)
        except torch.OutOfMemoryError:
            raise  # It says nothing of the decoder, and the next attempt may be slower for good.
        except Exception as error:  # Layers may want arguments that they are not given.
            failures.append(error)
    last = failures[-1]
    reason = (
        str(last) if isinstance(last, _Differs | RequestError) else f"its caches cannot be replaced ({brief(last)})"
    )
    raise _refusal(model, reason) from last


def _decide(model: Model, lean: bool) -> None:
    model.verdict.lean, model.verdict.reached = lean, True


def _usual(model: Model) -> bool:
    """Whether a model is run lean where nothing is compared; it must be where rotary factors depend on the length."""
    return not model.hybrid and (model.config.model_type in _LEAN or by_length(model.config))


def _refusal(model: Model, reason: str) -> RequestError:
    return RequestError(f"Model '{model.name}' ({model.config.model_type}) cannot be used: {reason.rstrip('.')}.")


def _difference(model: Model, ids: Tensor, expected: Tensor, tolerance: float) -> float:
    """The largest difference. Raises `_Differs` where it is above the tolerance, and where shapes do not serve."""
    if not model.verdict.lean and by_length(model.config):
        raise _Differs(
            "its rotary factors change with the length of a text, and its layers cannot be called one by one"
        )
    before = len(ids) - _AFTER
    prompt = prefill(model, ids[:before], accumulated_attention=False, chunk=_CHUNK, room=_AFTER)
    _check_shapes(model, prompt)
    everything = [Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)] * 2
    worst = 0.0
    for name, cache, sizes in (
        ("the shared cache", SharedCache(prompt, everything, _AFTER), [_AFTER]),
        ("the ragged cache", RaggedCache(prompt, everything, _AFTER), [3, *[1] * (_AFTER - 3)]),
    ):
        found = [prompt.logits.expand(2, 1, -1)]
        for part in ids[before:].split(sizes):
            position = before - 1 + sum(each.shape[1] for each in found)
            states = model.hidden(part[None].expand(2, -1), position, cache, len(ids))
            found.append(model.logits(states))
        for row in torch.cat(found, dim=1).float().cpu():
            apart = _apart(model, row, expected[before - 1 :])
            # NaN is above any tolerance.
            if not apart <= tolerance:
                raise _Differs(
                    f"its logits by prefill and {name} differ from plain transformers' by {apart:.2g} standard "
                    f"deviations{_layer(model, ids, tolerance)}; --skip-check runs it all the same"
                )
            worst = max(worst, apart)
    return worst


def _check_shapes(model: Model, prompt: Prompt) -> None:
    wanted = (model.kv_heads, prompt.tokens, model.head_dim)
    for layer, (keys, values) in enumerate(zip(prompt.keys, prompt.values, strict=True)):
        for name, part in (("keys", keys), ("values", values)):
            if tuple(part.shape) != wanted:
                raise _Differs(
                    f"layer {model.evicted_layers[layer]} has {name} of {part.shape[0]} heads by {part.shape[2]}, and "
                    f"budgets are for layers that all have {wanted[0]} by {wanted[2]}"
                )


def _apart(model: Model, ours: Tensor, theirs: Tensor) -> float:
    """By how many standard deviations two tensors [tokens, numbers] differ."""
    if model.network.dtype.itemsize > 2:
        return float((ours - theirs).abs().max() / theirs.std())
    return float(((ours - theirs).square().mean(dim=1).sqrt() / theirs.std()).median())


def _tolerance(model: Model, ids: Tensor, expected: Tensor) -> float:
    least, most = _TOLERANCE if model.network.dtype.itemsize > 2 else _TOLERANCE_16
    before = len(ids) - _AFTER
    cache = DynamicCache(config=model.config)
    with _plain_attention(model):
        found = [
            model.network(input_ids=part[None].to(model.device), past_key_values=cache, use_cache=True).logits[0, -1:]
            for part in ids.split([before, *[1] * _AFTER])
        ]
    own = _apart(model, torch.cat(found).float().cpu(), expected[before - 1 :])
    # Where it is not a number, the least is right.
    return min(most, max(least, _OWN * own)) if math.isfinite(own) else least


def _layer(model: Model, ids: Tensor, tolerance: float) -> str:
    """Where the hidden states of prefill begin to differ, as the end of a sentence."""
    before = len(ids) - _AFTER
    with _states(model) as ours:
        prefill(model, ids[:before], accumulated_attention=False, chunk=_CHUNK, room=_AFTER)
    with _plain_attention(model), _states(model) as theirs:
        model.network(input_ids=ids[None, :before].to(model.device), use_cache=False)
    for layer, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if not _apart(model, torch.cat(one), torch.cat(other)) <= tolerance:
            return f", from layer {layer} on"
    return ", after prefill"


@torch.inference_mode()
def queries_before_rotary(model: Model) -> bool:
    """Whether `unrotated` gives back the queries of every layer of a model that is run lean.

    Not where a layer does not turn them at all, turns neighbours instead of halves, or turns before a norm.
    """
    if model.verdict.unrotates is None:
        try:
            model.verdict.unrotates = all(_unrotates(model, layer) for layer in range(model.layers))
        except torch.OutOfMemoryError:
            raise
        except Exception:  # A layer may want arguments that it is not given.
            model.verdict.unrotates = False
    return model.verdict.unrotates


def _unrotates(model: Model, layer: int) -> bool:
    ids = _ids(model)[None, :_AFTER].to(model.device)
    positions = torch.arange(1, 1 + ids.shape[1], device=model.device)[None]
    hidden = model.decoder.embed_tokens(ids)
    cosines, sines = rotary_factors(model.decoder, hidden, positions, [1 + ids.shape[1]])
    asked = []
    for factors in ((cosines, sines), (torch.ones_like(cosines), torch.zeros_like(sines))):
        layers = [_Asked() for _ in range(model.layers)]
        model.decoder.layers[layer](
            hidden,
            attention_mask=None,
            position_ids=positions,
            past_key_values=Cache(layers=layers),
            use_cache=True,
            position_embeddings=factors,
        )
        asked.append(layers[layer].query[0].float())
    turned, plain = asked
    back = unrotated(turned, cosines[0], sines[0])
    return bool((back - plain).abs().max() <= 0.05 * plain.std())


class _Asked(AttendingLayer):
    """Remembers the queries, and attends to nothing."""

    query: Tensor

    def get_seq_length(self) -> int:
        return 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        self.query = query
        return torch.zeros_like(query).transpose(1, 2)


@contextmanager
def _states(model: Model) -> Iterator[list[list[Tensor]]]:
    """What each layer hands on, [tokens, width] a call, for as long as the context lasts."""
    layers = model.decoder.layers
    found: list[list[Tensor]] = [[] for _ in layers]

    def hear(place: int) -> Any:
        def hook(module: Any, arguments: Any, output: Any) -> None:
            found[place].append((output[0] if isinstance(output, tuple) else output)[0].float().cpu())

        return hook

    handles = [layer.register_forward_hook(hear(place)) for place, layer in enumerate(layers)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _plain_attention(model: Model) -> Iterator[None]:
    """Transformers' eager attention, which knows all that an architecture asks for."""
    model.network.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.network.set_attn_implementation(IMPLEMENTATION)


def _ids(model: Model) -> Tensor:
    # Special tokens lie at either end of a vocabulary.
    vocabulary = model.network.get_input_embeddings().num_embeddings
    count = min(TOKENS, model.context)
    return torch.randint(vocabulary // 8, vocabulary // 2, (count,), generator=torch.Generator().manual_seed(0))


def _known(path: Path) -> Outcome | None:
    try:
        found = Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if isinstance(found.lean, bool) else None


def _key(model: Model) -> str:
    told = {
        "check": _VERSION,
        "model": model.fingerprint,
        "config": model.config.to_json_string(),
        "dtype": str(model.network.dtype),
        "device": model.device.type,
        "versions": {name: version(name) for name in ("cokv-bench", "torch", "transformers")},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]
