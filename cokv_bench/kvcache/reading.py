"""Reading on after a prompt to see what later tokens look at: their queries over its keys, without another prefill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.inputs import check_ids, one_row
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.selection import Selection
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.attention import AttendingLayer
from cokv_bench.models.form import Form
from cokv_bench.models.model import Model

#: Is called for each layer in order with its number, its new queries [rows, heads, new, dim] (rotary applied), and the
#: keys [rows, kv_heads, count, dim] of all tokens after the prompt, the new ones last.
Hear = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)
class Draft:
    """What was written after a prompt, and how it looked at the prompt.

    Attributes:
        token_ids: of the draft, without a token that ends an answer.
        queries: a tensor a layer, [heads, read, dim], rotary applied: of all tokens after the prompt, a question's
            before those of the draft.
    """

    token_ids: list[int]
    queries: list[Tensor]


class ListeningCache(SharedCache):
    """A `SharedCache` whose layers tell what their new tokens ask."""

    def __init__(self, prompt: Prompt, selections: Sequence[Selection], reserve: int, hear: Hear) -> None:
        super().__init__(prompt, selections, reserve)
        self.replace_evicted(lambda index, layer: _Listening(layer, index, hear))


class _Listening(AttendingLayer):
    def __init__(self, layer: Any, index: int, hear: Hear) -> None:
        super().__init__()
        self.layer, self.index, self.hear = layer, index, hear

    def get_seq_length(self) -> int:
        return int(self.layer.get_seq_length())

    def keep_rows(self, rows: Tensor) -> None:
        self.layer.keep_rows(rows)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        out: Tensor = self.layer.attend(query, key, value, form)
        own = self.layer.own
        self.hear(self.index, query, own.keys[:, :, : own.count])
        return out


def room_after(model: Model, prompt: Prompt) -> int:
    """Tokens that fit after a prompt: up to the model's context, and to where rotary factors change (longrope)."""
    return min(model.context, prompt.read_again_after or model.context) - prompt.tokens


@torch.inference_mode()
def listen(
    model: Model,
    prompt: Prompt,
    token_ids: Sequence[int] | Tensor,
    hear: Hear,
    *,
    selection: Selection | None = None,
    chunk: int = 512,
) -> None:
    """Read tokens after a prompt, one row of them, and hear what they ask of each layer.

    Args:
        token_ids: [new] ids.
        selection: what they see of the prompt; all of it by default.
        chunk: tokens that are read at a time.

    Raises:
        RequestError: no ids, several rows, ids that the model does not have, or more than `room_after` says.
    """
    ids = one_row(token_ids)[None]
    check_ids(model, ids)
    room = room_after(model, prompt)
    if not 0 < ids.shape[1] <= room:
        raise RequestError(f"1 to {room} tokens can be read after this prompt, not {ids.shape[1]}.")
    kept = selection or Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
    cache = ListeningCache(prompt, [kept], ids.shape[1], hear)
    position = prompt.tokens
    for part in ids.split(chunk, dim=1):
        model.hidden(part, position, cache, prompt.length)
        position += part.shape[1]


def queries_after(
    model: Model,
    prompt: Prompt,
    token_ids: Sequence[int] | Tensor,
    *,
    selection: Selection | None = None,
) -> list[Tensor]:
    """The queries of tokens that follow a prompt, a tensor a layer, [heads, new, dim]; arguments as for `listen`."""
    heard: list[list[Tensor]] = [[] for _ in range(prompt.layers)]

    def hear(layer: int, queries: Tensor, keys: Tensor) -> None:
        heard[layer].append(queries[0])

    listen(model, prompt, token_ids, hear, selection=selection)
    return [torch.cat(parts, dim=1) for parts in heard]


@torch.inference_mode()
def draft(
    model: Model, prompt: Prompt, selections: Sequence[Selection], tokens: int, question: Sequence[int] = ()
) -> list[Draft]:
    """Write on greedily, once for each selection, all of them as one batch.

    A draft ends before a token that ends an answer, where the context of the model does, and where rotary factors
    change (longrope).

    Args:
        selections: what each draft sees of the prompt.
        tokens: the most of each draft.
        question: ids that follow the prompt, and that the drafts follow.
    """
    tokens = min(tokens, room_after(model, prompt) - len(question))
    rows = len(selections)
    heard: list[list[Tensor]] = [[] for _ in range(prompt.layers)]

    def hear(layer: int, queries: Tensor, keys: Tensor) -> None:
        heard[layer].append(queries)

    cache = ListeningCache(prompt, selections, max(1, len(question) + max(tokens, 0)), hear)
    chosen = prompt.logits.argmax().expand(rows)
    position = prompt.tokens
    if question:
        asked = torch.tensor(list(question))[None].expand(rows, -1)
        states = model.hidden(asked, position, cache, prompt.length)[:, -1]
        chosen = model.logits(states).argmax(-1)
        position += len(question)
    written = []
    ended = torch.zeros(rows, dtype=torch.bool)
    for step in range(tokens):
        written.append(chosen.cpu())
        ended |= torch.tensor([token in model.stop_ids for token in written[-1].tolist()])
        if ended.all():
            break
        states = model.hidden(chosen[:, None], position + step, cache, prompt.length)[:, -1]
        if step < tokens - 1:
            chosen = model.logits(states).argmax(-1)
    ids = torch.stack(written, dim=1).tolist() if written else [[] for _ in range(rows)]
    lengths = [next((place for place, token in enumerate(row) if token in model.stop_ids), len(row)) for row in ids]
    # Where nothing was read, for lack of room or of anything to say, there are no queries in any row.
    layers = [
        torch.cat(parts, dim=2) if parts else own[None, :, :0].expand(rows, -1, -1, -1)
        for parts, own in zip(heard, prompt.window_queries, strict=True)
    ]
    return [
        Draft(ids[row][:count], [layer[row, :, : len(question) + count] for layer in layers])
        for row, count in enumerate(lengths)
    ]
