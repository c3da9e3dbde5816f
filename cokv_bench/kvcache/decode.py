"""Decoding: all selections of a prompt as one batch, greedy or teacher forced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from cokv_bench.checks import check_count, is_whole
from cokv_bench.errors import RequestError, quoted
from cokv_bench.kvcache.answers import Answers, Ending, most_likely, read_question
from cokv_bench.kvcache.batching import logit_rows, rows_at_a_time
from cokv_bench.kvcache.graph import GraphStep
from cokv_bench.kvcache.inputs import check_ids, check_read_by, one_row
from cokv_bench.kvcache.prefill import for_length
from cokv_bench.kvcache.prompt import Prompt
from cokv_bench.kvcache.ragged import RaggedCache
from cokv_bench.kvcache.selection import Selection, check_shapes
from cokv_bench.kvcache.shared import SharedCache
from cokv_bench.models.finite import not_finite
from cokv_bench.models.model import Model

Storage = Literal["shared", "ragged"]

# Steps that repay the capture of a CUDA graph, which takes about as long as three of them.
_WORTH_A_GRAPH = 8


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
    question: Sequence[int] | Tensor = (),
    stop_at_newline: bool = False,
    until: Sequence[str] = (),
    storage: Storage = "shared",
    batch_size: int | None = None,
    memory: int | None = None,
) -> list[Generation]:
    """Continue a prompt once for each selection.

    Greedy decoding gives, for a selection that keeps everything, what `model.network.generate(do_sample=False)` gives:
    the most likely token each time, with no penalty and no suppressed token (`load_model` takes these settings out of
    the network's generation config). Teacher forcing gives the log-probabilities of one forward pass over the whole
    text. Selections that keep the same positions are decoded once, and rows that have finished leave the batch.

    Where rotary factors depend on the length of the text, they are those of the whole text. Greedy decoding beyond
    the window of a `longrope` model does as `generate` does: at the crossing the text so far is read again with the
    long factors, and each row keeps the same positions of the prompt. With `dynamic`, as in `generate`, each new token
    has the factors of the text so far and earlier keys keep theirs.

    Args:
        selections: what each row keeps of the prompt; generated tokens are always kept.
        max_new_tokens: the most tokens a row generates (greedy).
        teacher: ids to score instead of generating; one forward pass over them for the whole batch.
        question: ids that follow the prompt in every row and see only what the row keeps of it (question-agnostic
            compression); the first token of an answer then depends on the selection too.
        stop_at_newline: end at the first newline after at least one token (LongBench's samsum).
        until: a text or several that end a generated answer once it holds one of them; special tokens are part of the
            text. The answer keeps what ended it.
        storage: "shared" masks over the one prompt cache (fast for many selections); "ragged" copies the kept
            positions into a compact cache that needs nothing else of the prompt's keys and values.
        batch_size: rows at a time; by default as many as fit `memory` and a workspace of a fifth of the prompt's
            own size, beyond which a larger batch is no faster.
        memory: bytes that the rows' own tokens may take; default 2 GiB.

    Returns:
        One Generation a selection, in order.

    Raises:
        RequestError: a selection made for another prompt, a prompt of another model, ids that the model does not have,
            no tokens asked for, an answer beyond the context, a batch or storage that there is not, or logits that are
            not finite.
    """
    asked = one_row(question)
    answer = None if teacher is None else one_row(teacher)
    new = max_new_tokens if answer is None else answer.numel()
    check(model, prompt, selections, asked.numel(), new)
    for ids in (asked, *(() if answer is None else (answer,))):
        check_ids(model, ids)
    if batch_size is not None and not (is_whole(batch_size) and batch_size >= 1):
        raise RequestError(f"A batch has at least one row, not {quoted(batch_size)}.")
    if storage not in get_args(Storage):
        raise RequestError(f"Rows are kept 'shared' or 'ragged', not {storage!r}.")
    whole = prompt.tokens + asked.numel() + new
    # Where rotary factors depend on the length, the prompt is read again if it was prefilled for another one.
    prompt = for_length(model, prompt, whole if answer is not None else prompt.tokens + asked.numel())
    longer = once(lambda: for_length(model, prompt, whole))
    unique: dict[bytes, Selection] = {}
    for selection in selections:
        unique.setdefault(selection.key(), selection)
    # Rows of like size side by side, so that a batch in which nobody drops anything needs no mask.
    rows = sorted(unique, key=lambda key: unique[key].total)
    # The last token is never fed back, so it needs no place.
    reserve = max(1, asked.numel() + new - 1)
    limit = batch_size or rows_at_a_time(
        model, prompt, tokens_a_pass=1 if answer is None else reserve, reserve=reserve, memory=memory
    )
    cache_class: type[SharedCache] | type[RaggedCache] = SharedCache if storage == "shared" else RaggedCache
    done: dict[bytes, Generation] = {}
    for start in range(0, len(rows), limit):
        batch = rows[start : start + limit]
        choices = [unique[key] for key in batch]
        if answer is None:
            make = partial(cache_class, reserve=reserve)
            ending = Ending.of(model, new, stop_at_newline, until)
            results = _greedy(model, prompt, longer, choices, make, asked, ending)
        else:
            results = _forced(model, prompt, cache_class(prompt, choices, reserve), len(batch), asked, answer)
        done.update(zip(batch, results, strict=True))
    return [done[selection.key()] for selection in selections]


def check(model: Model, prompt: Prompt, selections: Sequence[Selection], asked: int, new: int) -> None:
    """Refuse what cannot be decoded.

    Args:
        asked, new: tokens of a question after the prompt, and of an answer.

    Raises:
        RequestError: see `decode`.
    """
    check_count(new, 1, "An answer")
    if prompt.tokens + asked + new > model.context:
        raise RequestError(
            f"A prompt of {prompt.tokens + asked} tokens and {new} new ones exceed the context of '{model.name}', "
            f"{model.context} tokens; shorten either."
        )
    check_read_by(model, prompt)
    check_shapes(prompt, selections)


def _greedy(
    model: Model,
    prompt: Prompt,
    longer: Callable[[], Prompt],
    selections: Sequence[Selection],
    make_cache: Callable[[Prompt, Sequence[Selection]], SharedCache | RaggedCache],
    question: Tensor,
    ending: Ending,
) -> list[Generation]:
    """`longer` gives the prompt with the rotary factors of the longest text that there can be."""
    answers = Answers(model, prompt, make_cache(prompt, selections), len(selections), question, ending)
    advance = None
    while answers.hear():
        if answers.fewer or advance is None:
            advance = stepper(model, answers.cache, len(answers.alive), answers.left, prompt.length)
        if answers.position == prompt.read_again_after:
            # The next token has other rotary factors, and so have all before it from now on.
            prompt = longer()
            answers.cache = make_cache(prompt, [selections[row] for row in answers.alive])
            advance = stepper(model, answers.cache, len(answers.alive), answers.left, prompt.length)
            said = torch.tensor([answers.ids[row] for row in answers.alive])
            so_far = torch.cat([question.expand(len(said), -1), said], dim=1)
            states = read_question(model, prompt, answers.cache, so_far)
        else:
            states = advance(torch.tensor(answers.coming)[:, None], answers.position)
        answers.coming = most_likely(model, states, logit_rows(model, prompt))
        answers.position += 1
    return [Generation(ids, model.text(ids)) for ids in answers.ids]


def stepper(
    model: Model, cache: SharedCache | RaggedCache, rows: int, steps: int, length: int
) -> Callable[[Tensor, int], Tensor]:
    """What reads one new token a row, ids [rows, 1] and their position, and gives hidden states [rows, width].

    Args:
        steps: that are going to be taken.
        length: of a text with the rotary factors of every step.
    """
    if steps >= _WORTH_A_GRAPH and isinstance(cache, RaggedCache) and GraphStep.serves(model, cache):
        return GraphStep(model, cache, rows, length)
    return lambda token_ids, position: model.hidden(token_ids, position, cache, length)[:, -1]


def _forced(
    model: Model, prompt: Prompt, cache: SharedCache | RaggedCache, rows: int, question: Tensor, answer: Tensor
) -> list[Generation]:
    ids = answer.tolist()
    text = model.text(ids)
    logprobs = torch.empty(rows, len(ids))
    # Without a question the prompt's own logits give the first token.
    start = 0 if question.numel() else 1
    if not question.numel():
        logprobs[:, 0] = torch.log_softmax(prompt.logits, -1)[ids[0]].cpu()
    if len(ids) > start:
        read = torch.cat([question, answer[:-1]])
        length = max(prompt.length, prompt.tokens + question.numel() + len(ids))
        hidden = model.hidden(read[None].expand(rows, -1), prompt.tokens, cache, length)[:, start - len(ids) :]
        states = hidden.flatten(0, 1).split(logit_rows(model, prompt))
        targets = answer[start:].repeat(rows).to(hidden.device).split(logit_rows(model, prompt))
        flat = [_logprobs(model.logits(part), target) for part, target in zip(states, targets, strict=True)]
        logprobs[:, start:] = torch.cat(flat).view(rows, -1).cpu()
    if not logprobs.isfinite().all():
        raise not_finite(model, "log-probabilities of an answer")
    return [Generation(ids, text, logprobs[row]) for row in range(rows)]


def _logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities [rows] of target ids under logits [rows, vocabulary], which are overwritten."""
    chosen = logits.gather(-1, targets[:, None])[:, 0]
    peak = logits.amax(-1)
    # In place: a copy of the logits would be the largest tensor of the whole pass.
    mass = logits.sub_(peak[:, None]).exp_().sum(-1)
    return chosen - peak - mass.log()
