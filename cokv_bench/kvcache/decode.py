"""Decoding: all selections of a prompt as one batch, greedy or teacher forced."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.batching import logit_rows, rows_at_a_time
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.kvcache.selection import Selection
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.model import Model

Storage = Literal["shared", "ragged"]


@dataclass(frozen=True)
class Generation:
    """What one selection gave.

    Attributes:
        token_ids: generated ids, the stop token included where one came; the teacher's ids when teacher forced.
        text: the ids decoded, without special tokens.
        logprobs: float32 [tokens] log-probability of each teacher token; None for greedy decoding. The first
            does not depend on the selection.
    """

    token_ids: list[int]
    text: str
    logprobs: Tensor | None = None


@torch.inference_mode()
def decode(
    model: Model,
    prompt: Prompt,
    selections: Sequence[Selection],
    *,
    max_new_tokens: int = 32,
    teacher: Sequence[int] | Tensor | None = None,
    stop_at_newline: bool = False,
    storage: Storage = "shared",
    batch_size: int | None = None,
    memory: int | None = None,
) -> list[Generation]:
    """Continue a prompt once for each selection.

    Greedy decoding gives, for a selection that keeps everything, what `model.generate(do_sample=False)` gives.
    Selections that keep the same positions are decoded once, and rows that have finished leave the batch.

    Args:
        selections: what each row keeps of the prompt; generated tokens are always kept.
        max_new_tokens: the most tokens a row generates (greedy).
        teacher: ids to score instead of generating; one forward pass over them for the whole batch.
        stop_at_newline: end at the first newline after at least one token (LongBench's samsum).
        storage: "shared" masks over the one prompt cache (fast for many selections); "ragged" copies the kept
            positions into a compact cache that needs nothing else of the prompt's keys and values.
        batch_size: rows at a time; by default as many as fit `memory` and a workspace of a fifth of the prompt's
            own size, beyond which a larger batch is no faster.
        memory: bytes that the rows' own tokens may take; default 2 GiB.

    Returns:
        One Generation a selection, in order.

    Raises:
        RequestError: a selection made for another prompt, no tokens asked for, or an answer beyond the context.
    """
    answer = None if teacher is None else torch.as_tensor(teacher, dtype=torch.long, device="cpu").reshape(-1)
    new = max_new_tokens if answer is None else answer.numel()
    _check(model, prompt, selections, new)
    unique: dict[bytes, Selection] = {}
    for selection in selections:
        unique.setdefault(selection.key(), selection)
    # Rows of like size side by side, so that a batch in which nobody drops anything needs no mask.
    rows = sorted(unique, key=lambda key: unique[key].total)
    # The last token is never fed back, so it needs no place.
    reserve = max(1, new - 1)
    limit = batch_size or rows_at_a_time(
        model, prompt, tokens_a_pass=1 if answer is None else reserve, reserve=reserve, memory=memory
    )
    cache_class: type[SharedCache] | type[RaggedCache] = SharedCache if storage == "shared" else RaggedCache
    done: dict[bytes, Generation] = {}
    for start in range(0, len(rows), limit):
        batch = rows[start : start + limit]
        cache = cache_class(prompt, [unique[key] for key in batch], reserve)
        if answer is None:
            results = _greedy(model, prompt, cache, len(batch), new, stop_at_newline)
        else:
            results = _forced(model, prompt, cache, len(batch), answer)
        done.update(zip(batch, results, strict=True))
    return [done[selection.key()] for selection in selections]


def _check(model: Model, prompt: Prompt, selections: Sequence[Selection], new: int) -> None:
    if new < 1:
        raise RequestError("At least one token must be generated or scored.")
    if prompt.tokens + new > model.context:
        raise RequestError(
            f"A prompt of {prompt.tokens} tokens and {new} new ones exceed the context of '{model.name}', "
            f"{model.context} tokens; shorten either."
        )
    shape = (prompt.layers, prompt.kv_heads, prompt.tokens)
    for selection in selections:
        found = (selection.layers, selection.kv_heads, selection.tokens)
        if found != shape:
            raise RequestError(
                f"A selection for {found} layers, KV heads and tokens does not fit a prompt "
                f"of {shape}; select on the prompt that is decoded."
            )


def _greedy(
    model: Model, prompt: Prompt, cache: SharedCache | RaggedCache, rows: int, new: int, stop_at_newline: bool
) -> list[Generation]:
    stops = model.stop_ids | model.newline_ids if stop_at_newline else model.stop_ids
    first = prompt.logits.clone()
    if stop_at_newline:
        # The official code asks for one token at least, which also keeps an end token from coming first.
        first[list(stops)] = float("-inf")
    token = int(first.argmax())
    answers = [[token] for _ in range(rows)]
    alive = [] if token in stops else list(range(rows))
    last = torch.full((len(alive), 1), token)
    for step in range(1, new if alive else 1):
        hidden = model.hidden(last, prompt.tokens + step - 1, cache)
        states = hidden[:, -1].split(logit_rows(model, prompt))
        chosen = torch.cat([model.logits(part).argmax(-1) for part in states]).tolist()
        for row, token in zip(alive, chosen, strict=True):
            answers[row].append(token)
        going = [index for index, token in enumerate(chosen) if token not in stops]
        if not going:
            break
        if len(going) < len(alive):
            alive = [alive[index] for index in going]
            cache.keep_rows(torch.tensor(going, dtype=torch.long))
        last = torch.tensor([[chosen[index]] for index in going], dtype=torch.long)
    return [Generation(ids, model.text(ids)) for ids in answers]


def _forced(
    model: Model, prompt: Prompt, cache: SharedCache | RaggedCache, rows: int, answer: Tensor
) -> list[Generation]:
    ids = answer.tolist()
    text = model.text(ids)
    logprobs = torch.empty(rows, len(ids))
    logprobs[:, 0] = torch.log_softmax(prompt.logits, -1)[ids[0]].cpu()
    if len(ids) > 1:
        hidden = model.hidden(answer[None, :-1].expand(rows, -1), prompt.tokens, cache)
        states = hidden.flatten(0, 1).split(logit_rows(model, prompt))
        targets = answer[1:].repeat(rows).to(hidden.device).split(logit_rows(model, prompt))
        flat = [_logprobs(model.logits(part), target) for part, target in zip(states, targets, strict=True)]
        logprobs[:, 1:] = torch.cat(flat).view(rows, -1).cpu()
    return [Generation(ids, text, logprobs[row]) for row in range(rows)]


def _logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities [rows] of target ids under logits [rows, vocabulary], which are overwritten."""
    chosen = logits.gather(-1, targets[:, None])[:, 0]
    peak = logits.amax(-1)
    # In place: a copy of the logits would be the largest tensor of the whole pass.
    mass = logits.sub_(peak[:, None]).exp_().sum(-1)
    return chosen - peak - mass.log()
