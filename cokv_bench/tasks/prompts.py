"""From an example to the token ids that a model reads."""

from collections.abc import Iterable

from cokv_bench.errors import RequestError
from cokv_bench.models import Model, encode
from cokv_bench.tasks.base import Example
from cokv_bench.tasks.longbench.truncation import truncate_middle


def check_lengths(model: Model, examples: Iterable[Example]) -> None:
    """Refuse prompts that the model cannot hold before any work is done.

    Raises:
        RequestError: a prompt that must not be cut is longer than the model's context.
    """
    for example in examples:
        if not example.truncate:
            encode_example(model, example)


def encode_example(model: Model, example: Example, *, max_length: int | None = None) -> list[int]:
    """Token ids of an example's prompt, cut to fit where its task says so.

    LongBench's order of steps: cut the middle out of the bare prompt, then add the chat template. The cut text is
    decoded and encoded again, which can change its length by some tokens, and the template adds more; where the
    result still leaves no room for the answer in the model's context, the cut is repeated with less.

    Args:
        max_length: the most prompt tokens before the chat template; default what the model's context leaves.

    Raises:
        RequestError: a prompt that must not be cut is longer than the model's context.
    """
    room = model.context - example.max_new_tokens
    if not example.truncate:
        ids = encode(model, example.prompt, chat=example.chat)
        if len(ids) > room:
            raise RequestError(
                f"A prompt of task '{example.task}' has {len(ids)} tokens and '{model.name}' holds {model.context} "
                f"with the answer's {example.max_new_tokens}; ask for shorter prompts."
            )
        return ids
    limit = room if max_length is None else max_length
    while True:
        text = truncate_middle(model.text_tokenizer, example.prompt, limit)
        ids = encode(model, text, chat=example.chat)
        if len(ids) <= room:
            return ids
        limit -= max(2, len(ids) - room)
