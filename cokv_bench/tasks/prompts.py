"""From an example to the token ids that a model reads."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cokv_bench.errors import Notice, RequestError
from cokv_bench.models import encode, encode_apart, encode_turn
from cokv_bench.tasks.base import Example
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.rows.truncation import LEAST, truncate_middle

if TYPE_CHECKING:
    from cokv_bench.models import Model


@dataclass(frozen=True)
class Encoded:
    """Token ids of an example: those that pass prefill and are compressed, and those appended afterwards.

    Attributes:
        later: what is appended in place of `question` for each further question of the context.
    """

    prompt: list[int]
    question: list[int]
    later: tuple[list[int], ...] = ()


def check_prompts(model: "Model", examples: Sequence[Example], encoding: Encoding) -> None:
    """Refuse prompts that the model cannot hold, or that have no question to append, before any work is done.

    A `Notice` says where prompts are cut to less than the encoding's `max_length`.

    Raises:
        RequestError: a prompt that must not be cut is longer than the model's context, or a question-agnostic run of
            a prompt without a question at its end.
    """
    for example in examples:
        if encoding.question_agnostic and not example.question.strip():
            raise RequestError(
                f"Prompts of '{example.task}' have no question after the context (example {example.id}), so they "
                "cannot be compressed before it is known; leave out --question-agnostic or the task."
            )
        if not example.truncate:
            encode_parts(model, example, encoding)
    short = {task: cut for task, cut in _cuts(model, examples, encoding).items() if cut != encoding.max_length}
    if encoding.max_length is not None and short:
        names = ", ".join(list(short)[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
        warnings.warn(
            f"Prompts of {names} are cut at {min(short.values())} tokens, not at --max-length {encoding.max_length}: "
            f"'{model.name}' holds {model.context} with the answer's (max_position_embeddings and rope_parameters in "
            "its config.json).",
            Notice,
            stacklevel=2,
        )


def reading(model: "Model", examples: Sequence[Example], encoding: Encoding) -> dict[str, Any]:
    """What decides, beside the model's weights, which tokens it reads of examples, for the identity of results.

    `Model.reading`, and "cut": by task, the tokens that prompts are cut to where the task says so.
    """
    return {**model.reading, "cut": _cuts(model, examples, encoding)}


def _cuts(model: "Model", examples: Sequence[Example], encoding: Encoding) -> dict[str, int]:
    cuts: dict[str, int] = {}
    for example in examples:
        if example.truncate:
            limit = _limit(model, example, encoding)
            cuts[example.task] = min(limit, cuts.get(example.task, limit))
    return cuts


def _limit(model: "Model", example: Example, encoding: Encoding) -> int:
    """The most tokens of a prompt before its chat template."""
    room = model.context - _longest_answer(example)
    return room if encoding.max_length is None else min(room, encoding.max_length)


def _longest_answer(example: Example) -> int:
    """The most tokens of an answer to any of its questions."""
    return max(each.max_new_tokens for each in (example, *example.later))


def encode_example(model: "Model", example: Example, *, max_length: int | None = None) -> list[int]:
    """Token ids of an example's whole prompt, as `encode_parts` makes them."""
    return encode_parts(model, example, Encoding(max_length)).prompt


def encode_parts(model: "Model", example: Example, encoding: Encoding) -> Encoded:
    """Token ids of an example's prompt and question, cut to fit where its task says so.

    LongBench's order of steps: cut the middle out of the bare prompt, then add the chat template. The cut text is
    decoded and encoded again, which can change its length by some tokens, and the template adds more; where the
    result still leaves no room for the answer in the model's context, the cut is repeated with less.

    Raises:
        RequestError: a prompt that must not be cut is longer than the model's context, the context has no room for a
            prompt before an answer, or the question of a question-agnostic run does not outlast the cut.
    """
    answer = _longest_answer(example)
    room = model.context - answer
    limit = _limit(model, example, encoding)
    while True:
        if example.truncate and limit < LEAST and (encoding.max_length is None or encoding.max_length >= LEAST):
            raise RequestError(
                f"'{model.name}' holds {model.context} tokens (max_position_embeddings in its config.json), which "
                f"leaves no room for a prompt of '{example.task}' before an answer of {answer}; use a "
                "model that holds more, or another task."
            )
        text = truncate_middle(model.text_tokenizer, example.prompt, limit) if example.truncate else example.prompt
        encoded = _encode(model, example, text, encoding)
        tokens = len(encoded.prompt) + max(map(len, (encoded.question, *encoded.later)))
        if tokens <= room:
            return encoded
        if not example.truncate:
            raise RequestError(
                f"A prompt of task '{example.task}' has {tokens} tokens and '{model.name}' holds {model.context} "
                f"with the answer's {answer}; ask for shorter prompts."
            )
        limit -= max(2, tokens - room)


def _encode(model: "Model", example: Example, text: str, encoding: Encoding) -> Encoded:
    if not encoding.question_agnostic:
        prompt = encode(model, text, chat=example.chat, begun=example.begun)
        return Encoded(prompt, [], _after_first(model, example))
    asked = (example, *example.later)
    try:
        prompt, question, *later = encode_apart(
            model,
            text,
            *(each.question for each in asked),
            chat=example.chat,
            begun=[each.begun for each in asked],
        )
        return Encoded(prompt, question, tuple(later))
    except RequestError as error:
        raise RequestError(f"Example {example.id} of '{example.task}': {error}") from None


def _after_first(model: "Model", example: Example) -> tuple[list[int], ...]:
    """What follows a prompt that holds the first question, for each later one: the reference answer, then the question.

    All methods are told the same answer, and no question follows another one's. (SCBench goes on from the reference
    answers too.) Where all references are asked for, all are told (`Example.told`).
    """
    if not example.later:
        return ()
    if not example.answers:
        raise RequestError(
            f"Example {example.id} of '{example.task}' has no answer, which its later questions follow; add one, or "
            "compress the context alone with --question-agnostic."
        )
    # An answer whose beginning stands in the prompt goes on from it.
    answer = (" " if example.begun else "") + example.told
    return tuple(
        encode_turn(model, answer, each.question, chat=example.chat, begun=each.begun) for each in example.later
    )
