"""LongBench's middle truncation of prompts that are too long."""

from typing import Any

from cokv_bench.errors import RequestError

#: Tokens of a cut prompt, one of each end.
LEAST = 2


def truncate_middle(tokenizer: Any, text: str, max_length: int) -> str:
    """The text itself if it has at most `max_length` tokens, otherwise its two ends without the middle.

    As the official code does it: the text is tokenized as the tokenizer does by default (a BOS that it adds counts
    as a token), the first and the last `max_length // 2` tokens are decoded separately without special tokens, and
    the two texts are joined. A character cut in two at the seam becomes U+FFFD. Tokenizing the result can
    give a few tokens more or fewer than `max_length`, and a chat template adds its own: whoever runs the model
    must check the final length against the context limit.

    Args:
        tokenizer: a transformers tokenizer.
        text: prompt before any chat template.
        max_length: tokens, at least 2.

    Raises:
        RequestError: `max_length` is below 2.
    """
    if max_length < LEAST:
        raise RequestError(
            f"A prompt cannot be cut to {max_length} tokens; the maximum length must be at least {LEAST}."
        )
    tokens = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    if len(tokens) <= max_length:
        return text
    half = max_length // 2
    ends = (tokens[:half], tokens[-half:])
    return "".join(tokenizer.decode(end, skip_special_tokens=True, clean_up_tokenization_spaces=False) for end in ends)
