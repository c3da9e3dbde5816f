"""Prefill: run a prompt through the model once, layer by layer in chunks, and keep all that later work needs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from transformers.cache_utils import Cache

from cokv_bench.checks import check_count
from cokv_bench.errors import RequestError
from cokv_bench.kvcache.batching import tokens_at_a_time
from cokv_bench.kvcache.inputs import check_ids, one_row
from cokv_bench.kvcache.moments import MomentSums
from cokv_bench.kvcache.others import OtherLayers
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.received import received_attention
from cokv_bench.models.attention import AttendingLayer, formed_attention
from cokv_bench.models.finite import not_finite
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model
from cokv_bench.models.rotary import canonical_length, read_again_after, rotary_factors


@dataclass(frozen=True)
class Signals:
    """What prefill gathers beside keys, values and the queries of the window; see `prefill`."""

    accumulated_attention: bool = False
    query_moments: bool = False


def signals(needs: Collection[str]) -> dict[str, bool]:
    """The arguments of `prefill` that gather these signals and no other."""
    return {each.name: each.name in needs for each in fields(Signals)}


def prefill(
    model: Model,
    token_ids: Sequence[int] | Tensor,
    *,
    window: int = 8,
    accumulated_attention: bool = True,
    query_moments: bool = False,
    chunk: int | None = None,
    room: int = 0,
    question: Sequence[int] = (),
) -> Prompt:
    """Run a prompt through the model and keep keys, values, scorer signals and the last logits.

    Args:
        token_ids: ids of the whole prompt, [tokens] or [1, tokens].
        window: observation window w, at least 1.
        accumulated_attention: also sum the attention that each key receives (needed by H2O alone). It costs a second
            pass over the attention scores, and it never changes keys, values or logits.
        query_moments: also gather mean and covariance of the queries (needed by Expected Attention alone).
        chunk: tokens that a layer reads at a time; default as many as fit, see `tokens_at_a_time`.
        room: tokens that are going to follow the prompt, question and answer. It matters only where rotary factors
            depend on the length of the text (longrope, dynamic), which is then that of prompt and room.
        question: ids that are going to follow; kept for ceilings, and it is `room` for them.

    Raises:
        RequestError: an empty prompt, ids outside the vocabulary, a prompt that leaves no room for an answer in the
            model's context, a window or chunk below 1, logits that are not finite, a model that fails its first check,
            or one whose queries before rotary are not known, where their moments are asked for.
    """
    parts: list[Prompt] = []
    gathered = Signals(accumulated_attention, query_moments)
    asked = one_row(question)
    check_ids(model, asked)
    room = max(room, asked.numel())
    ids, logits, others = run_layers(model, token_ids, parts.append, window, gathered, chunk, room)
    if len({(part.scaling, part.softcap) for part in parts}) > 1:
        raise RequestError(
            f"The layers of '{model.name}' scale or cap attention by different numbers; rankings know one."
        )
    return Prompt(
        token_ids=ids,
        window=window,
        keys=[part.keys[0] for part in parts],
        values=[part.values[0] for part in parts],
        window_queries=[part.window_queries[0] for part in parts],
        accumulated_attention=[layer for part in parts for layer in part.accumulated_attention or ()] or None,
        logits=logits,
        query_moments=[layer for part in parts for layer in part.query_moments or ()] or None,
        scaling=parts[0].scaling,
        softcap=parts[0].softcap,
        sink_logits=[sinks for part in parts for sinks in part.sink_logits or ()] or None,
        others=others,
        model=model,
        question=tuple(asked.tolist()),
        room=room,
        read_again_after=read_again_after(model.config, ids.numel() + room),
    )


def for_length(model: Model, prompt: Prompt, length: int) -> Prompt:
    """The prompt as the start of a text of `length` tokens: itself, or read again where rotary factors differ.

    A prompt that was given more room than that stays as it is.
    """
    held, wanted = (canonical_length(model.config, each) for each in (prompt.length, max(prompt.length, length)))
    if held == wanted:
        return prompt
    return prefill(
        model,
        prompt.token_ids,
        window=prompt.window,
        accumulated_attention=prompt.accumulated_attention is not None,
        query_moments=prompt.query_moments is not None,
        room=length - prompt.tokens,
        question=prompt.question,
    )


class Ran(NamedTuple):
    """What is left of a prompt beside its layers.

    Attributes:
        token_ids: [tokens], on the CPU.
        logits: float32 [vocabulary] after the last of them.
        others: what the layers that are not evicted hold.
    """

    token_ids: Tensor
    logits: Tensor
    others: OtherLayers


@torch.inference_mode()
def run_layers(
    model: Model,
    token_ids: Sequence[int] | Tensor,
    take: Callable[[Prompt], object],
    window: int,
    gathered: Signals,
    chunk: int | None = None,
    room: int = 0,
) -> Ran:
    """Run a prompt through the model, and hand over each layer that is evicted as a prompt of one layer.

    Memory is linear in the prompt: its hidden states or its keys and values, and no score matrix of prompt by prompt,
    since attention is computed in blocks. A model that is run lean is read a layer at a time, and what `take` does not
    keep is freed before the next layer begins.

    Args:
        take: is called for each layer in order. `logits` are empty there, since they come from the last layer.
        gathered: what else is gathered for scorers.

    Raises:
        RequestError: see `prefill`.
    """
    from cokv_bench.kvcache.check import queries_before_rotary, verify  # Here, because a check prefills.

    ids = one_row(token_ids)
    _check(model, ids, window, room)
    verify(model)
    if gathered.query_moments and not (model.verdict.lean and queries_before_rotary(model)):
        raise RequestError(
            f"The queries of '{model.name}' before rotary are not known in every layer, so their moments cannot be "
            "gathered; leave out the ranking by expected attention."
        )
    if chunk is not None:
        check_count(chunk, 1, "What a layer reads at a time")
    chunk = chunk or tokens_at_a_time(model, ids.numel())
    reading = _Reading(model, ids, take, window, gathered, chunk, room)
    return reading.by_layer() if model.verdict.lean else reading.by_chunk()


@dataclass(frozen=True)
class _Reading:
    """The arguments of `run_layers`, and the two ways to run a prompt."""

    model: Model
    ids: Tensor
    take: Callable[[Prompt], object]
    window: int
    gathered: Signals
    chunk: int
    room: int

    def by_layer(self) -> Ran:
        """Its layers one by one, each over all chunks."""
        tokens = self.ids.numel()
        decoder = self.model.decoder
        positions = torch.arange(tokens, device=self.model.device)[None]
        hidden = decoder.embed_tokens(self.ids[None].to(self.model.device))
        cosines, sines = rotary_factors(decoder, hidden, positions, [tokens + self.room])
        layers = [
            _PrefillLayer(tokens, self.window, self.gathered, (cosines[0], sines[0])) for _ in range(self.model.layers)
        ]
        cache: Any = Cache(layers=layers)
        none = hidden.new_empty(0, dtype=torch.float32)
        again = read_again_after(self.model.config, tokens + self.room)
        # Looked at only if the logits are broken, so that nothing waits for the device here.
        sound: list[Tensor] = []
        for index, layer in enumerate(layers):
            for start in range(0, tokens, self.chunk):
                part = slice(start, start + self.chunk)
                hidden[:, part] = decoder.layers[index](
                    hidden[:, part],
                    attention_mask=None,
                    position_ids=positions[:, part],
                    past_key_values=cache,
                    use_cache=True,
                    position_embeddings=(cosines[:, part], sines[:, part]),
                )
            sound.append(hidden[0, -1].isfinite().all())
            self.take(
                replace(layer.release(self.ids, none, index), model=self.model, room=self.room, read_again_after=again)
            )
        logits = self.model.logits(decoder.norm(hidden[0, -1]))
        if not logits.isfinite().all():
            broken = next((index for index, flag in enumerate(sound) if not flag), None)
            raise not_finite(self.model, "logits", "" if broken is None else f" from layer {broken} on")
        return Ran(self.ids, logits, OtherLayers())

    def by_chunk(self) -> Ran:
        """By the decoder's own forward pass: keys and values of all layers are there until the last chunk is read."""
        tokens = self.ids.numel()
        positions = torch.arange(tokens, device=self.model.device)[None]
        layers = [_PrefillLayer(tokens, self.window, self.gathered) for _ in range(self.model.layers)]
        others = OtherLayers.empty(self.model)
        cache: Any = Cache(layers=others.around(layers))
        for start in range(0, tokens, self.chunk):
            part = slice(start, start + self.chunk)
            hidden = self.model.decoder_states(self.ids[None, part].to(self.model.device), positions[:, part], cache)
        logits = self.model.logits(hidden[0, -1])
        if not logits.isfinite().all():
            raise not_finite(self.model, "logits")
        none = logits.new_empty(0)
        for index, layer in enumerate(layers):
            self.take(replace(layer.release(self.ids, none, index), model=self.model, room=self.room))
        return Ran(self.ids, logits, others.alone())


def _check(model: Model, ids: Tensor, window: int, room: int) -> None:
    if ids.numel() == 0:
        raise RequestError("The prompt is empty; a prompt has at least one token.")
    check_count(window, 1, "The observation window")
    check_count(room, 0, "The room after a prompt")
    if ids.numel() + max(room, 1) > model.context:
        follow = f" and {room} are to follow it" if room else ""
        raise RequestError(
            f"The prompt has {ids.numel()} tokens{follow}, and '{model.name}' holds {model.context} with the answer; "
            "shorten the prompt or cut it with a maximum length."
        )
    check_ids(model, ids)


class _PrefillLayer(AttendingLayer):
    """One layer's full cache in a buffer of the prompt's length, filled chunk by chunk."""

    held_keys: Tensor
    held_values: Tensor
    window_queries: Tensor
    accumulated: Tensor
    form: Form

    def __init__(
        self, tokens: int, window: int, gathered: Signals, factors: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """`factors`: cosines and sines [tokens, rotary dim] of the prompt, for moments of the queries."""
        super().__init__()
        self.tokens, self.window, self.accumulate, self.seen = tokens, window, gathered.accumulated_attention, 0
        self.moments = MomentSums(tokens) if gathered.query_moments else None
        self.factors = factors

    def get_seq_length(self) -> int:
        return self.seen

    def release(self, ids: Tensor, logits: Tensor, index: int) -> Prompt:
        """What was gathered, as a prompt of this layer alone; nothing of it stays here.

        Raises:
            RequestError: the network has not asked this layer to attend.
        """
        if self.seen != self.tokens:
            raise RequestError(
                f"Layer {index} of the model does not attend through transformers' attention interface, so nothing of "
                "it can be evicted."
            )
        part = Prompt(
            token_ids=ids,
            window=self.window,
            keys=[self.held_keys],
            values=[self.held_values],
            window_queries=[self.window_queries],
            accumulated_attention=[self.accumulated] if self.accumulate else None,
            logits=logits,
            query_moments=[self.moments.moments()] if self.moments else None,
            scaling=self.form.scaling,
            softcap=self.form.softcap,
            sink_logits=None if self.form.sinks is None else [self.form.sinks.detach()],
            first_layer=index,
        )
        del self.held_keys, self.held_values, self.window_queries
        if self.accumulate:
            del self.accumulated
        return part

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        kv_heads, new, dim = key.shape[1:]
        if self.seen == 0:
            self.held_keys = key.new_empty(kv_heads, self.tokens, dim)
            self.held_values = value.new_empty(kv_heads, self.tokens, value.shape[-1])
            self.window_queries = query.new_empty(query.shape[1], 0, dim)
            if self.accumulate:
                self.accumulated = query.new_zeros(kv_heads, self.tokens, dtype=torch.float32)
        end = self.seen + new
        self.held_keys[:, self.seen : end] = key[0]
        self.held_values[:, self.seen : end] = value[0]
        keys, values = self.held_keys[None, :, :end], self.held_values[None, :, :end]
        # The last w queries may lie in two chunks.
        self.window_queries = torch.cat([self.window_queries, query[0]], dim=1)[:, -self.window :].contiguous()
        out = _causal_attention(query, keys, values, form, self.seen)
        if self.accumulate:
            self.accumulated[:, :end] += received_attention(query[0], keys[0], form)
        if self.moments and self.factors:
            part = slice(self.seen, end)
            self.moments.add(query[0], *(factor[part] for factor in self.factors))
        self.form, self.seen = form, end
        return out.transpose(1, 2)


def _causal_attention(query: Tensor, keys: Tensor, values: Tensor, form: Form, seen: int) -> Tensor:
    """Of [1, heads, new, dim] over [1, kv_heads, seen + new, dim]; the new tokens are the last ones."""
    if not form.plain:
        return formed_attention(query, keys, values, None, form)
    scaling = form.scaling
    grouped = query.shape[1] != keys.shape[1]
    if seen == 0:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True, scale=scaling, enable_gqa=grouped)
    bias: Any = causal_lower_right(query.shape[2], keys.shape[2])
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=scaling, enable_gqa=grouped)
