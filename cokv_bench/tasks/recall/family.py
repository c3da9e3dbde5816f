"""Retrieval and recall of wide variety as a benchmark."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cokv_bench.tasks.made.family import MadeFamily, prompt_length
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.recall.subtasks import PREFIX, SUBTASKS, subtask
from cokv_bench.tasks.recall.task import RecallTask

if TYPE_CHECKING:
    from cokv_bench.models import Model


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("recall", "recall of many kinds in many genres, for searches", "RECALL")


class Recall(MadeFamily):
    """Its tasks, such as "recall/code", and all of them as "recall"."""

    name = PREFIX.rstrip("/")

    def lines(self) -> Mapping[str, str]:
        """The group, then the tasks."""
        return {
            self.name: f"all {len(SUBTASKS)} kinds of recall in many genres and wordings, for searches and profiles",
            **{PREFIX + name: f"recall: {each.description}" for name, each in SUBTASKS.items()},
        }

    def expand(self, name: str, options: TaskOptions) -> list[str]:
        """The tasks."""
        return [PREFIX + each for each in SUBTASKS] if name == self.name else [name]

    def make(self, name: str, model: "Model", options: TaskOptions) -> RecallTask:
        """A task. Raises `RequestError` as `RecallTask` does."""
        return RecallTask(
            name.removeprefix(PREFIX),
            model.text_tokenizer,
            encode_length=prompt_length(model),
            bare_length=prompt_length(model, chat=False),
            lengths=options.lengths,
            examples=options.examples_a_length,
            seed=options.seed,
        )

    def new_tokens(self, task: str) -> int:
        """Those of the kind."""
        return subtask(task).max_new_tokens


RECALL = Recall()
