"""Plain text as a benchmark."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cokv_bench.tasks.made.family import MadeFamily, prompt_length
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.text.task import MAX_NEW_TOKENS, TextTask

if TYPE_CHECKING:
    from cokv_bench.models import Model


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("text", "a text to continue; no labels", "TEXT")


class Text(MadeFamily):
    """One task, "text"."""

    name = TextTask.name

    def lines(self) -> Mapping[str, str]:
        """The task."""
        return {self.name: "a text, then the first words of one of its passages to continue; no labels (embedded text)"}

    def make(self, name: str, model: "Model", options: TaskOptions) -> TextTask:
        """The task over the embedded text or the user's. Raises `RequestError` as `TextTask` does."""
        return TextTask(
            model.text_tokenizer,
            encode_length=prompt_length(model, chat=False),
            lengths=options.lengths,
            examples=options.examples_a_length,
            folder=options.haystack,
            seed=options.seed,
        )

    def new_tokens(self, task: str) -> int:
        """Those of `TextTask`."""
        return MAX_NEW_TOKENS


TEXT = Text()
