"""From a prompt's text to token ids: the chat template, and never two BOS tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.models.model import Model

# Texts that end a word in every tokenizer. One of them before a text keeps a tokenizer from adding the space that
# SentencePiece writes before a text's first word; the second is for texts that begin with line breaks.
_ANCHORS = ("\n", ":")


def encode(model: "Model", text: str, *, chat: bool, begun: str = "") -> list[int]:
    """Token ids of a prompt.

    With `chat` and a chat template the text becomes one user turn followed by the opening of the answer; the
    template brings its own BOS. Otherwise the tokenizer puts before the text what it puts there, and nothing after
    it, where an EOS would tell the model that the text is over. Reasoning models are asked not to think first,
    because the benchmarks' token limits are made for the answer alone.

    Args:
        begun: how the answer begins, which the model only continues. Without a chat template white space keeps it apart
            from the text: its own, the text's, or else a line break.

    Raises:
        RequestError: the chat template cannot write the text as a user's turn.
    """
    return _ids(model, *_written(model, text, chat, begun))


def encode_apart(
    model: "Model", text: str, *questions: str, chat: bool, begun: str | Sequence[str] = ""
) -> tuple[list[int], ...]:
    """Token ids of a context, then those of each question about it; joined, a context and a question are what `encode`
    gives for the whole prompt.

    The context has the tokens that it has on its own and before each question, so it tells nothing of any. A token with
    characters of both, such as a full stop and the question's line breaks, goes with the question.

    Args:
        text: the whole prompt, which ends with the first question.
        questions: what comes after the context; the chat template's opening of the answer goes with each.
        begun: how the answer begins, as for `encode`, one text for all questions or one for each; it goes with the
            question too.

    Raises:
        RequestError: the text does not end with the first question, or the chat template cannot write it.
    """
    context = text.rstrip().removesuffix(questions[0].rstrip())
    prompts = [text, *(context + question for question in questions[1:])]
    alone, wholes = list[list[int]](), list[list[int]]()
    beginnings = [begun] * len(questions) if isinstance(begun, str) else begun
    for prompt, question, beginning in zip(prompts, questions, beginnings, strict=True):
        whole, bare = _written(model, prompt, chat)
        asked = question.strip()
        # Templates may strip the text, so the question is looked for without the white space at its ends.
        start = whole.rfind(asked) - (len(question) - len(question.lstrip()))
        found = start >= 0 and whole[start:].lstrip().startswith(asked)
        if not asked or not prompt.rstrip().endswith(asked) or not found:
            raise RequestError(
                f"The prompt does not end with its question ('{asked:.60}'), so it cannot be cut before it."
            )
        wholes.append(_ids(model, *_written(model, prompt, chat, beginning)))
        alone.append(_ids(model, whole[:start], bare))
    common = min(_common(wholes[0], each) for each in (*wholes, *alone))
    return wholes[0][:common], *(each[common:] for each in wholes)


def encode_turn(model: "Model", answer: str, question: str, *, chat: bool, begun: str = "") -> list[int]:
    """Token ids of what follows a prompt where the talk goes on: its answer, another question, and the opening of the
    next answer. Without a chat template an empty line stands between answer and question.

    Args:
        begun: how the next answer begins, as for `encode`.

    Raises:
        RequestError: the chat template cannot write a second turn.
    """
    template = model.template if chat else None
    if template is not None:
        return _continued(model, template.go_on(answer, question.strip()) + begun)
    return _continued(model, _meet(f" {answer.strip()}\n\n{question.strip()}", begun))


def encode_answer(model: "Model", prompt: str, answer: str, *, chat: bool, begun: str = "") -> list[int]:
    """Token ids of a reference answer as the model would write it after this prompt, without special tokens.

    Prompt and answer are encoded as one text and cut where the prompt's own tokens end, so that the joined ids are
    those of the joined text. That is impossible where a token has characters of both, such as a prompt's last line
    break and the spaces that indent the answer: the prompt is encoded before its answer is known. The answer is then
    encoded on its own, without the space that some tokenizers put before a text.
    """
    text, bare = _written(model, prompt, chat, begun)
    needs_space = (bare or begun != "") and text[-1:].strip() != "" and answer[:1].strip() != ""
    following = (" " if needs_space else "") + answer
    before, whole = _ids(model, text, bare), _ids(model, text + following, bare)
    return whole[len(before) :] if whole[: len(before)] == before else _continued(model, following)


def _written(model: "Model", text: str, chat: bool, begun: str = "") -> tuple[str, bool]:
    """The text as the model reads it, and whether it is bare: without a template that writes the special tokens."""
    template = model.template if chat else None
    if template is not None:
        return template.render(text) + begun, False
    return _meet(text, begun), True


def _meet(text: str, begun: str) -> str:
    """A text without a template and the beginning of its answer, with white space in between."""
    meet = begun[:1].strip() != "" and text[-1:].strip() != ""
    return text + "\n" * meet + begun


def _ids(model: "Model", text: str, bare: bool) -> list[int]:
    ids: list[int] = model.text_tokenizer(text, add_special_tokens=bare).input_ids
    return ids[: len(ids) - model.closing_tokens] if bare else ids


def _common(first: list[int], second: list[int]) -> int:
    """Length of the longest prefix that both have."""
    differ = (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return next(differ, min(len(first), len(second)))


def _continued(model: "Model", text: str) -> list[int]:
    """Token ids of a text that goes on after others."""
    for anchor in _ANCHORS:
        before, whole = _ids(model, anchor, False), _ids(model, anchor + text, False)
        if whole[: len(before)] == before:
            return whole[len(before) :]
    return _ids(model, text, False)
