"""From a prompt's text to token ids: the chat template, and never two BOS tokens."""

from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.models.model import Model


def encode(model: Model, text: str, *, chat: bool) -> list[int]:
    """Token ids of a prompt.

    With `chat` and a chat template the text becomes one user turn followed by the opening of the answer; the
    template brings its own BOS. Otherwise the tokenizer adds what it adds. Reasoning models are asked not to
    think first, because the benchmarks' token limits are made for the answer alone.
    """
    tokenizer = model.text_tokenizer
    if chat and tokenizer.chat_template is not None:
        return _templated(model, text, tokenize=True)
    return tokenizer(text).input_ids


def _templated(model: Model, text: str, *, tokenize: bool) -> Any:
    """The text as a user's turn and the opening of the answer, as token ids or as text."""
    return model.text_tokenizer.apply_chat_template(
        [{"role": "user", "content": text}],
        add_generation_prompt=True,
        tokenize=tokenize,
        return_dict=False,
        enable_thinking=False,
    )


def encode_apart(model: Model, text: str, question: str, *, chat: bool) -> tuple[list[int], list[int]]:
    """Token ids of a prompt in two parts, each encoded on its own as if the second were not known yet.

    Args:
        text: the whole prompt, which ends with the question.
        question: what comes after the context; the chat template's opening of the answer goes with it.

    Raises:
        RequestError: the text does not end with the question, or the chat template changes it.
    """
    tokenizer = model.text_tokenizer
    templated = chat and tokenizer.chat_template is not None
    whole = _templated(model, text, tokenize=False) if templated else text
    asked = question.strip()
    # Templates may strip the text, so the question is looked for without the white space at its ends.
    start = whole.rfind(asked) - (len(question) - len(question.lstrip()))
    if not asked or not text.rstrip().endswith(asked) or start < 0 or not whole[start:].lstrip().startswith(asked):
        raise RequestError(f"The prompt does not end with its question ('{asked:.60}'), so it cannot be cut before it.")
    context = tokenizer.encode(whole[:start], add_special_tokens=not templated)
    return context, tokenizer.encode(whole[start:], add_special_tokens=False)


def encode_answer(model: Model, prompt: str, answer: str, *, chat: bool) -> list[int]:
    """Token ids of a reference answer as the model would write it after this prompt, without special tokens."""
    tokenizer = model.text_tokenizer
    joined = chat and tokenizer.chat_template is not None
    needs_space = not joined and prompt[-1:].strip() != "" and answer[:1].strip() != ""
    return tokenizer.encode((" " if needs_space else "") + answer, add_special_tokens=False)
