"""The chat template: a text as a user's turn, followed by the opening of the answer."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from itertools import cycle
from typing import Any

from cokv_bench.errors import RequestError, brief

# A template that writes the date always gets this one, which Llama 3's templates name where they have no clock: prompts
# of one run are those of any other, at any hour and on any host.
_DAY = datetime(2024, 7, 26)
_WRITTEN = {
    **{f"%-{letter}": str(int(_DAY.strftime(f"%{letter}"))) for letter in "dmyHIMSj"},
    **{f"%{letter}": _DAY.strftime(f"%{letter}") for letter in "aAwdbBmyYHIMpjSfUWcxX"},
}
# transformers lets no function into a template, so the clock is replaced by a macro that reads the day's parts.
_CLOCK = (
    "{%- macro strftime_now(form) -%}{%- set day = namespace(text=form) -%}"
    "{%- for part, written in fixed_day.items() -%}{%- set day.text = day.text | replace(part, written) -%}"
    "{%- endfor -%}{{ day.text }}{%- endmacro %}{{ '' }}"
)
# gpt-oss opens a turn and then names its channel. The benchmarks' token limits are made for the answer, the last one.
_TURN, _ANSWER = "<|start|>assistant", "<|channel|>final<|message|>"
# A line break stays one in a prompt and becomes two characters in a Python list that a template prints as it is.
_PROBE = "Which stone is grey?\nThe one by the river."
# Stands where an answer goes.
_REPLY = "It is the stone by the river."


class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        name: the model's, for errors.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    def render(self, text: str) -> str:
        """The prompt of a text. Reasoning models are asked not to think first.

        Raises:
            RequestError: the template fails on a single user's turn or does not write its text, or there are several
                templates and no default.
        """
        rendered = self._apply([text], in_parts=self._in_parts)
        if not _holds(rendered, text):
            raise RequestError(
                f"The chat template of '{self._name}' changes the text of a prompt ('{text.strip():.60}'); correct "
                "the template in the tokenizer's files, or remove it to use plain prompts."
            )
        return rendered

    def go_on(self, answer: str, question: str) -> str:
        """What follows the prompt of a text: an answer, another question, and the opening of the next answer.

        Raises:
            RequestError: the template cannot write a second turn of the user.
        """
        rendered = self._apply([_PROBE, _REPLY, question], in_parts=self._in_parts)
        before, _, after = rendered.partition(_REPLY)
        if not before or not _holds(after, question):
            raise RequestError(
                f"The chat template of '{self._name}' does not write a second question after an answer; correct the "
                "template in the tokenizer's files, or ask one question per context."
            )
        return answer + after

    @cached_property
    def _in_parts(self) -> bool:
        """Whether the template wants content as a list of parts, as templates of multimodal models do."""
        failure: RequestError | None = None
        for in_parts in (False, True):
            try:
                if _holds(self._apply([_PROBE], in_parts=in_parts), _PROBE):
                    return in_parts
            except RequestError as error:
                failure = failure or error
        raise failure or RequestError(
            f"The chat template of '{self._name}' leaves out what a user writes, as a string and as parts alike; "
            "correct the template in the tokenizer's files, or remove it to use plain prompts."
        )

    def _apply(self, turns: Sequence[str], *, in_parts: bool) -> str:
        """The turns as the template writes them, the user's first, with the opening of the next answer."""
        templates = self._tokenizer.chat_template
        if isinstance(templates, dict) and "default" not in templates:
            raise RequestError(
                f"'{self._name}' has chat templates named {', '.join(sorted(templates))} and none named 'default'; "
                "give that name to one of them in the tokenizer's files."
            )
        template = templates["default"] if isinstance(templates, dict) else templates
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}] if in_parts else text}
            for role, text in zip(cycle(("user", "assistant")), turns, strict=False)
        ]
        try:
            rendered = str(
                self._tokenizer.apply_chat_template(
                    messages,
                    add_generation_prompt=True,
                    tokenize=False,
                    enable_thinking=False,
                    chat_template=_CLOCK + template if "strftime_now" in template else template,
                    fixed_day=_WRITTEN,
                )
            )
        except Exception as error:  # A template may raise what it likes.
            raise RequestError(
                f"The chat template of '{self._name}' fails on a user's turn: {brief(error)}; correct the template in "
                "the tokenizer's files, or remove it to use plain prompts."
            ) from error
        return rendered + _ANSWER if rendered.endswith(_TURN) and _ANSWER in template else rendered


def _holds(rendered: str, text: str) -> bool:
    # Templates may strip the white space around a turn.
    return text.strip() in rendered
