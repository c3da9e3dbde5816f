"""RULER as a benchmark."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cokv_bench.tasks.base import Task
from cokv_bench.tasks.made.family import MadeFamily, prompt_length
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.ruler.qa import Documents, read_qa
from cokv_bench.tasks.ruler.subtasks import FROM_FILE, PREFIX, SUBTASKS, expand, max_new_tokens
from cokv_bench.tasks.ruler.task import RulerTask

if TYPE_CHECKING:
    from cokv_bench.models import Model


#: For `cokv-bench ls`: name, line, and what it is.
ENTRY = ("ruler", "RULER's subtasks, made at any length", "RULER")


class Ruler(MadeFamily):
    """Its subtasks, such as "ruler/vt", and all of them as "ruler"."""

    name = PREFIX.rstrip("/")

    def lines(self) -> Mapping[str, str]:
        """The group, then the subtasks, those from the user's file last."""
        descriptions = {name: subtask.description for name, subtask in SUBTASKS.items()} | FROM_FILE
        made = len(SUBTASKS)
        return {
            self.name: f"the {made} subtasks of RULER that are made up at any length, and those from your file",
            **{PREFIX + name: f"RULER: {description}" for name, description in descriptions.items()},
        }

    def expand(self, name: str, options: TaskOptions) -> list[str]:
        """The subtasks; each file of questions makes one, and which one only the file tells.

        Raises:
            RequestError: a subtask that needs a file, and none is given.
        """
        files = len(options.ruler_qa)
        from_file = list(FROM_FILE)[:files] if name == self.name else FROM_FILE if files else ()
        return [PREFIX + subtask for subtask in expand(name, from_file)]

    def make(self, name: str, model: "Model", options: TaskOptions) -> Task:
        """A subtask. Raises `RequestError` as `RulerTask` does, or where its file of questions cannot be used."""
        (task,) = self.tasks(name, model, options)
        return task

    def tasks(self, name: str, model: "Model", options: TaskOptions) -> list[Task]:
        """As `expand` says, after a look into the files of questions; they are read once for the whole group."""
        asks = name == self.name or name.removeprefix(PREFIX) in FROM_FILE
        qa = read_qa(options.ruler_qa) if asks else {}
        return [self._task(subtask, model, options, qa) for subtask in expand(name, qa)]

    def _task(self, subtask: str, model: "Model", options: TaskOptions, qa: Mapping[str, Documents]) -> RulerTask:
        return RulerTask(
            subtask,
            model.text_tokenizer,
            encode_length=prompt_length(model),
            lengths=options.lengths,
            examples=options.examples_a_length,
            seed=options.seed,
            qa=qa,
            questions=options.questions,
        )

    def several(self, task: str) -> bool:
        """The needles and the chains."""
        found = SUBTASKS.get(task.removeprefix(PREFIX))
        return found is not None and found.several

    def new_tokens(self, task: str) -> int:
        """The published most tokens of the subtask's answers."""
        return max_new_tokens(task.removeprefix(PREFIX))


RULER = Ruler()
