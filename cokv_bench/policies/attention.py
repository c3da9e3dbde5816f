"""The one primitive of rankings by attention: what any queries look at in a prompt, and how that becomes one number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from cokv_bench.errors import RequestError
from cokv_bench.models.form import Form

if TYPE_CHECKING:
    from cokv_bench.kvcache.prompt import Prompt

#: Queries that a ranking looks at, at most: their attention over the whole prompt is in memory at once.
MOST_QUERIES = 1024

#: How many queries `tune` lets a ranking by attention look at: those of the window (None), or a number that need not be
#: what the window keeps.
OBSERVED = (None, 16, 32, 64)

Pooling = Literal["max", "avg"]
Mean = Literal["mean", "max"]


def attention(queries: Tensor, keys: Tensor, form: Form | float, *, own: int = 0) -> Tensor:
    """Attention of queries over a prompt.

    Args:
        queries: [heads, queries, dim], rotary applied; head h reads KV head h // group.
        keys: [kv_heads, tokens, dim], rotary applied.
        form: how dot products become weights, as `prompt.form(layer)` tells, or just the factor on them.
        own: how many of the queries, the first ones, are of the prompt's last tokens; these see no token after
            their own. The others follow the prompt and see all of it.

    Returns:
        float32 [kv_heads, group, queries, tokens]; each query's sums to 1, less where a sink has a share.

    Raises:
        RequestError: shapes do not fit together.
    """
    return Form.of(form).softmax(logits(queries, keys, form, own=own))


def logits(queries: Tensor, keys: Tensor, form: Form | float, *, own: int = 0) -> Tensor:
    """What `attention` is the softmax of, dot products scaled and capped; -inf at tokens that a query does not see."""
    form = Form.of(form)
    _check_shapes(queries, keys, own)
    heads, count, dim = queries.shape
    kv_heads, tokens, _ = keys.shape
    # Half-precision logits have steps as large as the gaps between tokens at the cut: widen before multiplying.
    grouped = queries.float().reshape(kv_heads, heads // kv_heads * count, dim)
    found = (grouped @ keys.float().transpose(1, 2)).mul_(form.scaling)
    found = form.cap(found).view(kv_heads, -1, count, tokens)
    if own > 1:
        future = torch.ones(own, own, dtype=torch.bool, device=keys.device).triu(1)
        found[:, :, :own, tokens - own :].masked_fill_(future, -torch.inf)
    return found


def window_of(prompt: "Prompt", layer: int) -> Tensor:
    """`attention` of the window's queries, [kv_heads, group, window, tokens]."""
    return prompt.form(layer).softmax(window_logits(prompt, layer))


def window_logits(prompt: "Prompt", layer: int) -> Tensor:
    """`logits` of the window's queries, [kv_heads, group, window, tokens]."""
    queries = prompt.window_queries[layer]
    return logits(queries, prompt.keys[layer], prompt.form(layer), own=queries.shape[1])


def by_layer(prompt: "Prompt", score: Callable[[int], Tensor]) -> list[Tensor]:
    """What a scorer returns, from its scores of one layer: [kv_heads, tokens - window] of the layer of a number.

    Nothing is asked where the window covers the prompt: there are no columns then.
    """
    if prompt.tokens <= prompt.window:
        return [torch.zeros(prompt.kv_heads, 0) for _ in range(prompt.layers)]
    return [score(layer) for layer in range(prompt.layers)]


@dataclass(frozen=True)
class Aggregation:
    """How attention becomes one number a token.

    Attributes:
        queries, group: "mean" or "max" over the queries, and over the query heads of a KV head; with "mean" for both
            the queries come first.
        floor: raise what is below the head's mean over the tokens to that mean.
        kernel: pooling width in tokens, odd; 1 means no pooling.
        pooling: "max" or "avg"; stride 1, and the average counts the zero padding at both ends.
    """

    queries: Mean = "mean"
    group: Mean = "mean"
    floor: bool = False
    kernel: int = 7
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        check_pooling(self.kernel, self.pooling)
        for over in (self.queries, self.group):
            if over not in ("mean", "max"):
                raise RequestError(f"Attention is aggregated by 'mean' or 'max', not {over!r}.")

    def __call__(self, seen: Tensor) -> Tensor:
        """float32 [kv_heads, tokens] of attention [kv_heads, group, queries, tokens]."""
        received = _over(_over(seen, 2, self.queries), 1, self.group)
        if self.floor:
            received = received.maximum(received.mean(dim=-1, keepdim=True))
        return pooled(received, self.kernel, self.pooling)


def received(prompt: "Prompt", over: Mean) -> list[Tensor]:
    """The mean over the group of what the window's queries look at, float32 [kv_heads, tokens] a layer, not pooled.

    It is remembered in `prompt.shared`: methods that observe the same queries differ in the tokens that they keep and
    in their pooling.

    Args:
        over: "mean" or "max" over the queries.
    """
    key = ("received", prompt.window_queries[0].shape[1], over)
    if key not in prompt.shared:
        aggregation = Aggregation(queries=over, kernel=1)
        prompt.shared[key] = [aggregation(window_of(prompt, layer)) for layer in range(prompt.layers)]
    found: list[Tensor] = prompt.shared[key]
    return found


@dataclass(frozen=True)
class Pools:
    """A scorer whose scores are pooled, and what `cokv-bench tune` tries for it."""

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "window": (8, 4, 16, 32, 64),
        "observe": OBSERVED,
        "kernel": (7, 3, 11, 21, 31),
        "pooling": ("max", "avg"),
    }

    kernel: int = 7
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        check_pooling(self.kernel, self.pooling)


def pooled(scores: Tensor, kernel: int, pooling: Pooling) -> Tensor:
    """Each token's score with those of its neighbours, float32 [kv_heads, tokens]; see `Aggregation`."""
    if kernel == 1 or scores.shape[-1] == 0:
        return scores
    # A wider kernel sees no further token, and its average has more zeros.
    width = min(kernel, 2 * scores.shape[-1] - 1)
    pool = functional.max_pool1d if pooling == "max" else functional.avg_pool1d
    return pool(scores, width, stride=1, padding=width // 2) * (1 if pooling == "max" else width / kernel)


def _over(seen: Tensor, dim: int, how: Mean) -> Tensor:
    return seen.mean(dim=dim) if how == "mean" else seen.amax(dim=dim)


def check_pooling(kernel: int, pooling: str) -> None:
    """Refuse what would shift or change the length of the scores.

    Raises:
        RequestError: the kernel is not a positive odd int, or the pooling is neither "max" nor "avg".
    """
    if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
        raise RequestError(f"The pooling kernel must be a positive odd number of tokens, not {kernel!r}.")
    if pooling not in ("max", "avg"):
        raise RequestError(f"Pooling is 'max' or 'avg', not {pooling!r}; kernel=1 means none.")


def check_queries(count: int, what: str) -> None:
    """Refuse more queries than memory has room for. Raises `RequestError` where they are above `MOST_QUERIES`."""
    if count > MOST_QUERIES:
        raise RequestError(
            f"{what} are at most {MOST_QUERIES}, not {count}, since memory grows with them times the prompt; h2o ranks "
            "by all queries of a prompt."
        )


def _check_shapes(queries: Tensor, keys: Tensor, own: int) -> None:
    shapes = f"queries {tuple(queries.shape)}, keys {tuple(keys.shape)}"
    if queries.ndim != 3 or keys.ndim != 3 or queries.shape[2] != keys.shape[2]:
        raise RequestError(f"Queries are [heads, queries, dim] and keys [kv_heads, tokens, dim]; given {shapes}.")
    if keys.shape[0] == 0 or queries.shape[0] == 0 or queries.shape[0] % keys.shape[0]:
        raise RequestError(f"Query heads must be a multiple of KV heads; given {shapes}.")
    if queries.shape[1] == 0 or keys.shape[1] == 0 or not 0 <= own <= min(queries.shape[1], keys.shape[1]):
        raise RequestError(f"There must be a query, and those of the prompt must fit into it; given {shapes}.")
