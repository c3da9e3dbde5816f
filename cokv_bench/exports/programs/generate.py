"""Text from a compressed KV cache in which each KV head of a model keeps its own number of prompt tokens.

transformers loads this file from a folder or hub repository:

    model.generate(**inputs, custom_generate=FOLDER, trust_remote_code=True, budget=64)

It is the whole program and needs torch and transformers alone (and numpy, which transformers requires). The prompt is
read by the model's own forward pass with SDPA. As soon as a layer has read it, each KV head of the layer keeps its
best-ranked tokens, and the rest is freed. Then transformers' own decoding loop goes on from what is kept, so sampling,
streamers and stopping criteria work as ever. `cokv-bench export --to transformers` wrote the numbers into `HEADS`.
"""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import sdpa_mask

#: The content of heads.json: `model`, `ranking`, `default_budget`, and either `knots` and `log_shares` or `tokens`.
HEADS: dict[str, Any] = {}

#: Under which name transformers knows the attention function below.
IMPLEMENTATION = "head_budgets"
#: Generated tokens that there is room for before the buffers of a layer grow.
_ROOM = 32
# Parts of a token that differ by less than a millionth are equal when tokens are apportioned.
_DECIMALS = 6
# Arguments of `generate` that need another cache, or a cache that goes back.
_REFUSED = (
    "past_key_values", "assistant_model", "prompt_lookup_num_tokens", "negative_prompt_ids", "inputs_embeds",
    "cache_implementation", "prefill_chunk_size",
)  # fmt: skip


def generate(model: Any, input_ids: Any = None, inputs: Any = None, budget: int | None = None, **kwargs: Any) -> Any:
    """`model.generate` from a compressed cache.

    Args:
        model: the decoder that the numbers were made for, on any device.
        input_ids, inputs: int64 [1, tokens], one prompt without padding.
        budget: prompt tokens per KV head on average, window included; shorter prompts are kept whole.
        kwargs: all that `model.generate` takes and that needs no other cache.

    Returns:
        What `model.generate` returns.

    Raises:
        ValueError: another model's shape, several prompts, padding, a budget that the numbers do not have, or an
            argument that cannot be met.
    """
    ids = inputs if input_ids is None else input_ids
    _check(model, ids, kwargs)
    asked = HEADS["default_budget"] if budget is None else budget
    cache = Cache(layers=evicting_layers(HEADS, asked, ids.shape[1]))
    before = model.config._attn_implementation
    model.set_attn_implementation(IMPLEMENTATION)
    try:
        # Not `model.generate`, which is this very function where a model's own repository holds it.
        return type(model).generate(model, ids, past_key_values=cache, **kwargs)
    finally:
        model.set_attn_implementation(before)


def _check(model: Any, ids: Any, kwargs: dict[str, Any]) -> None:
    if ids is None or ids.ndim != 2 or ids.shape[0] != 1:
        raise ValueError("Give one prompt as input_ids of shape [1, tokens]; prompts are generated from one by one.")
    mask = kwargs.get("attention_mask")
    if mask is not None and not bool(mask.all()):
        raise ValueError("The prompt is padded (attention_mask has zeros); give it without padding.")
    for name in _REFUSED:
        if kwargs.get(name) is not None:
            raise ValueError(f"A compressed cache cannot serve the argument '{name}'; leave it out.")
    if kwargs.get("use_cache") is False:
        raise ValueError("Without a cache there is nothing to compress; leave out use_cache=False.")
    config, wanted = model.config.get_text_config(decoder=True), HEADS["model"]
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if (config.num_hidden_layers, kv_heads) != (wanted["layers"], wanted["kv_heads"]):
        raise ValueError(
            f"The budgets are for {wanted['id']}, {wanted['layers']} layers x {wanted['kv_heads']} KV heads; this "
            f"model has {config.num_hidden_layers} x {kv_heads}."
        )
    window = getattr(config, "sliding_window", None)
    slides = window is not None and window < config.max_position_embeddings
    types = getattr(config, "layer_types", None) or ["sliding_attention" if slides else "full_attention"]
    whole = {"full_attention"} if slides else {"full_attention", "sliding_attention"}
    if set(types) - whole:
        raise ValueError("Layers of this model do not attend to the whole text, so their tokens cannot be ranked.")
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "longrope":
        raise ValueError("The rotary factors of this model change with the text's length (longrope); use another one.")


# ---- How many tokens each head keeps


def tokens_per_head(heads: dict[str, Any], budget: int, tokens: int) -> Any:
    """What each KV head keeps of a prompt.

    Args:
        heads: as `HEADS`.
        budget: tokens per KV head on average, window included.
        tokens: of the prompt.

    Returns:
        int64 [layers, kv_heads], window included; budget * layers * kv_heads in all, or the whole prompt where that
        has no more than `budget` tokens.

    Raises:
        ValueError: a budget that is no whole number above what every head keeps, or that no table is for.
    """
    held = heads["ranking"]["window"] + heads["ranking"]["sinks"]
    if not isinstance(budget, Integral) or isinstance(budget, bool) or budget <= held:
        raise ValueError(f"The budget is a whole number above the {held} tokens that every head keeps, not {budget!r}.")
    shape = heads["model"]["layers"], heads["model"]["kv_heads"]
    if tokens <= budget:
        return np.full(shape, tokens, dtype=np.int64)
    if "tokens" not in heads:
        shares = _log_shares(heads["knots"], np.array(heads["log_shares"], dtype=np.float64), int(budget))
        total = (budget - held) * shares.size
        given = held + apportion(np.exp(shares - shares.max()), total, total)
    elif str(budget) in heads["tokens"]:
        given = np.array(heads["tokens"][str(budget)], dtype=np.int64)
    else:
        raise ValueError(f"There are tables for the budgets {', '.join(heads['tokens'])}, not for {budget}.")
    # No head keeps more than the prompt; the others share what is left of it.
    return held + apportion(np.maximum(given - held, 0), (budget - held) * given.size, tokens - held)


def _log_shares(knots: list[int], tables: Any, budget: int) -> Any:
    """float64 [layers, kv_heads], linear in the logarithm of the budget between the knots and constant beyond them."""
    logs = [math.log2(knot) for knot in knots]
    place = math.log2(min(max(budget, knots[0]), knots[-1]))
    weights = [float(np.interp(place, logs, row)) for row in np.eye(len(logs))]
    return np.tensordot(weights, tables, axes=1)


def apportion(shares: Any, total: int, cap: int) -> Any:
    """Split a total by shares into whole numbers of at most `cap` each, by largest remainders.

    What exceeds a cap goes to the others in proportion to their shares; those without a share come last, evenly. Equal
    remainders favour the lower index.
    """
    flat = np.asarray(shares, dtype=np.float64).ravel()
    ideal = np.round(_capped(flat, float(total), float(cap)), _DECIMALS)
    whole = np.floor(ideal).astype(np.int64)
    remainder = np.where(whole < cap, np.round(ideal - whole, _DECIMALS), -1.0)
    order = np.argsort(-remainder, kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return whole.reshape(np.shape(shares))


def _capped(shares: Any, left: float, cap: float) -> Any:
    """The real-valued split that sums to `left`, min(cap, scale * share)."""
    split, unfilled = np.zeros_like(shares), shares > 0
    if not unfilled.any():
        return np.full_like(shares, left / shares.size)
    while unfilled.any() and left > 0:
        offer = shares * (left / shares[unfilled].sum())
        full = unfilled & (offer >= cap)
        if not full.any():
            split[unfilled] = offer[unfilled]
            return split
        split[full] = cap
        left -= cap * int(full.sum())
        unfilled &= ~full
    if left > 0:
        rest = split == 0
        split[rest] = left / int(rest.sum())
    return split


# ---- Which tokens these are


def rank_scores(ranking: dict[str, Any], budget: int, queries: Any, keys: Any, scaling: float) -> Any:
    """How much each KV head wants each token before the window.

    Args:
        ranking: `name`, `window`, and what its rule below reads.
        budget: tokens per KV head on average.
        queries: [heads, observed, dim], of the prompt's last tokens, rotary applied; KV head h // group is theirs.
        keys: [kv_heads, tokens, dim], rotary applied.
        scaling: factor on the dot products.

    Returns:
        float32 [kv_heads, tokens - window].
    """
    kv_heads, tokens, dim = keys.shape
    observed = queries.shape[1]
    logits = queries.float().reshape(kv_heads, -1, dim) @ keys.float().transpose(1, 2) * scaling
    logits = logits.view(kv_heads, -1, observed, tokens)
    future = torch.ones(observed, observed, dtype=torch.bool, device=keys.device).triu(1)
    logits[..., tokens - observed :].masked_fill_(future, float("-inf"))
    # [kv_heads, group, observed, tokens - window]
    seen = logits.softmax(dim=-1)[..., : tokens - ranking["window"]]
    return _RANKINGS[ranking["name"]](seen, ranking, budget)


def _window_attention(seen: Any, ranking: dict[str, Any], budget: int) -> Any:
    """SnapKV (arXiv 2404.14469): mean over the queries, mean over the group, pooled over neighbouring tokens."""
    over = seen.mean(dim=2) if ranking["queries"] == "mean" else seen.amax(dim=2)
    return _pooled(over.mean(dim=1), ranking["kernel"], ranking["pooling"])


def _fading(seen: Any, ranking: dict[str, Any], budget: int) -> Any:
    """The largest attention of any query, halved every `half` tokens of its age; averaged over group and a phrase."""
    age = torch.arange(seen.shape[2] - 1, -1, -1, device=seen.device)
    most = (seen * torch.exp2(-age / ranking["half"])[:, None]).amax(dim=2)
    width = ranking["width"]
    if width is None:
        width = min(max(int(ranking["phrase"] * budget) // 2 * 2 + 1, ranking["narrowest"]), ranking["widest"])
    return _pooled(most.mean(dim=1), width, "avg")


_RANKINGS: dict[str, Callable[[Any, dict[str, Any], int], Any]] = {
    "window": _window_attention,
    "fading": _fading,
}


def _pooled(scores: Any, kernel: int, pooling: str) -> Any:
    if kernel == 1 or scores.shape[-1] == 0:
        return scores
    # A wider kernel sees no further token, and its average has more zeros.
    width = min(kernel, 2 * scores.shape[-1] - 1)
    if pooling == "max":
        return F.max_pool1d(scores, width, stride=1, padding=width // 2)
    return F.avg_pool1d(scores, width, stride=1, padding=width // 2) * (width / kernel)


def kept_positions(ranking: dict[str, Any], scores: Any, counts: list[int]) -> list[Any]:
    """The positions that each KV head keeps, ascending.

    Args:
        scores: [kv_heads, tokens - window]; equal scores favour the lower position.
        counts: tokens of each head, window included.

    Raises:
        ValueError: a score is NaN.
    """
    if scores.isnan().any():
        raise ValueError("The attention of this prompt is not a number in some layer; load the model in a wider dtype.")
    before, window = scores.shape[1], ranking["window"]
    scores = scores.clone()
    scores[:, : ranking["sinks"]] = float("inf")
    order = scores.argsort(dim=1, descending=True, stable=True)
    recent = torch.arange(before, before + window, device=scores.device)
    return [torch.cat([row[: count - window].sort().values, recent]) for row, count in zip(order, counts, strict=True)]


# ---- Where they are kept, and how a model reads them


class EvictingLayer(CacheLayerMixin):
    """One layer of the cache: it keeps a part of the prompt as soon as it has been read, and all that follows.

    The model hands new keys and values to `update`, which hands them back with a reference to this layer; the
    registered attention function then calls `attend`.

    Attributes:
        counts: tokens of the prompt that each KV head keeps, window included.
        prompt: its tokens.
        seen: tokens of the text so far.
        keys_of, values_of: of each KV head, [kept + room, dim]; what it keeps of the prompt, then generated tokens.
    """

    is_compileable = False
    is_croppable = False

    def __init__(self, ranking: dict[str, Any], budget: int, counts: list[int], prompt: int) -> None:
        super().__init__()
        self.ranking, self.budget, self.counts, self.prompt = ranking, budget, counts, prompt
        self.seen, self.room = 0, 0
        self.keys_of: list[Any] = []
        self.values_of: list[Any] = []

    def attend(self, module: Any, query: Any, key: Any, value: Any, scaling: float, kwargs: dict[str, Any]) -> Any:
        """Attention output [1, new, heads, dim] of query [1, heads, new, dim], key and value [1, kv_heads, new, dim].

        Raises:
            ValueError: several rows, or pieces of a text that are neither the prompt nor one token.
        """
        if query.shape[0] != 1:
            raise ValueError("A compressed cache serves one row; leave out beams and num_return_sequences.")
        if query.shape[2] != (1 if self.seen else self.prompt):
            raise ValueError(f"{query.shape[2]} tokens at a time; a prompt is read at once, and then token by token.")
        if not self.seen:
            self._evict(query[0], key[0], value[0], scaling)
            self.seen = self.prompt
            return AttentionInterface()["sdpa"](module, query, key, value, None, scaling=scaling, **kwargs)[0]
        own = self.seen - self.prompt
        if own == self.room:
            self._grow(_ROOM)
        found = []
        # The query heads of a KV head are the rows of one matrix.
        grouped = query[0].reshape(key.shape[1], -1, query.shape[-1])
        for head, count in enumerate(self.counts):
            end = count + own + 1
            self.keys_of[head][end - 1], self.values_of[head][end - 1] = key[0, head, 0], value[0, head, 0]
            queries, keys, values = grouped[head], self.keys_of[head][:end], self.values_of[head][:end]
            found.append(
                F.scaled_dot_product_attention(queries[None, None], keys[None, None], values[None, None], scale=scaling)
            )
        self.seen += 1
        return torch.cat(found).view(1, 1, query.shape[1], value.shape[-1])

    def _evict(self, query: Any, key: Any, value: Any, scaling: float) -> None:
        positions: list[Any] = [slice(None)] * len(self.counts)
        if min(self.counts) < self.prompt:
            scores = rank_scores(self.ranking, self.budget, query[:, -self.ranking["observe"] :], key, scaling)
            positions = kept_positions(self.ranking, scores, self.counts)
        self.keys_of = [part[places].clone() for part, places in zip(key, positions, strict=True)]
        self.values_of = [part[places].clone() for part, places in zip(value, positions, strict=True)]

    def _grow(self, new: int) -> None:
        for held in (self.keys_of, self.values_of):
            held[:] = [torch.cat([part, part.new_empty(new, part.shape[1])]) for part in held]
        self.room += new

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        tagged = key_states.view_as(key_states)
        tagged.evicting_layer = self
        return tagged, value_states

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # A square says to transformers that plain causal order needs no mask.
        return query_length, 0

    def get_max_length(self) -> int:
        return -1

    # What earlier releases of transformers 5 call it.
    get_max_cache_shape = get_max_length


def evicting_layers(heads: dict[str, Any], budget: int, tokens: int) -> list[Any]:
    """Empty layers of a cache for one prompt, see `tokens_per_head`."""
    table = tokens_per_head(heads, budget, tokens).tolist()
    return [EvictingLayer(heads["ranking"], budget, counts, tokens) for counts in table]


def attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, Any]:
    """The registered attention function: that of the layer's cache, or transformers' SDPA for any other cache.

    Raises:
        ValueError: earlier tokens are masked, logits are capped, or a sink takes a share of the attention.
    """
    layer = getattr(key, "evicting_layer", None)
    if layer is None:
        return AttentionInterface()["sdpa"](module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if attention_mask is not None or kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ValueError("This model masks, caps or sinks attention in a way that a compressed cache cannot follow.")
    return layer.attend(
        module, query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling, kwargs
    ), None


AttentionInterface.register(IMPLEMENTATION, attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
