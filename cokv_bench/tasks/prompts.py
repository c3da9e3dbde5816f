"""From an example to the token ids that a model reads."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cokv_bench.errors import Notice, RequestError
from cokv_bench.models import encode, encode_apart
from cokv_bench.tasks.base import Example
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.rows.truncation import LEAST, truncate_middle

if TYPE_CHECKING:
    from cokv_bench.models import Model


@dataclass(frozen=True)
class Encoded:
    """Token ids of an example: those that pass prefill and are compressed, and those appended afterwards."""

    prompt: list[int]
    question: list[int]


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
    room = model.context - example.max_new_tokens
    return room if encoding.max_length is None else min(room, encoding.max_length)


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
    room = model.context - example.max_new_tokens
    limit = _limit(model, example, encoding)
    while True:
        if example.truncate and limit < LEAST and (encoding.max_length is None or encoding.max_length >= LEAST):
            raise RequestError(
                f"'{model.name}' holds {model.context} tokens (max_position_embeddings in its config.json), which "
                f"leaves no room for a prompt of '{example.task}' before an answer of {example.max_new_tokens}; use a "
                "model that holds more, or another task."
            )
        text = truncate_middle(model.text_tokenizer, example.prompt, limit) if example.truncate else example.prompt
        encoded = _encode(model, example, text, encoding)
        tokens = len(encoded.prompt) + len(encoded.question)
        if tokens <= room:
            return encoded
        if not example.truncate:
            raise RequestError(
                f"A prompt of task '{example.task}' has {tokens} tokens and '{model.name}' holds {model.context} "
                f"with the answer's {example.max_new_tokens}; ask for shorter prompts."
            )
        limit -= max(2, tokens - room)


def _encode(model: "Model", example: Example, text: str, encoding: Encoding) -> Encoded:
    if not encoding.question_agnostic:
        return Encoded(encode(model, text, chat=example.chat, begun=example.begun), [])
    try:
        return Encoded(*encode_apart(model, text, example.question, chat=example.chat, begun=example.begun))
    except RequestError as error:
        raise RequestError(f"Example {example.id} of '{example.task}': {error}") from None
