"""From a prompt's text to token ids: the chat template, and never two BOS tokens."""

from cokv_bench.models.model import Model


def encode(model: Model, text: str, *, chat: bool) -> list[int]:
    """Token ids of a prompt.

    With `chat` and a chat template the text becomes one user turn followed by the opening of the answer; the
    template brings its own BOS. Otherwise the tokenizer adds what it adds. Reasoning models are asked not to
    think first, because the benchmarks' token limits are made for the answer alone.
    """
    tokenizer = model.text_tokenizer
    if chat and tokenizer.chat_template is not None:
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            enable_thinking=False,
        )
    return tokenizer(text).input_ids


def encode_answer(model: Model, prompt: str, answer: str, *, chat: bool) -> list[int]:
    """Token ids of a reference answer as the model would write it after this prompt, without special tokens."""
    tokenizer = model.text_tokenizer
    joined = chat and tokenizer.chat_template is not None
    needs_space = not joined and prompt[-1:].strip() != "" and answer[:1].strip() != ""
    return tokenizer.encode((" " if needs_space else "") + answer, add_special_tokens=False)
