"""The game of the KV heads on the examples of some tasks, one prefill an example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray
from cokv_bench.game.utilities import Case, PromptUtility, get_utility
from cokv_bench.kvcache import Prompt, Selection, prefill
from cokv_bench.kvcache.store import PromptStore
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Split, Task
from cokv_bench.tasks.prompts import check_lengths, encode_example

#: Called with examples done and examples in all.
ExampleProgress = Callable[[int, int], None]

# Of what is free when a game begins.
_DEFAULT_SHARE = 0.6
# Of the limit; the rest is for the tokens that a batch generates.
_PROMPT_SHARE = 0.75


@dataclass(frozen=True)
class Game:
    """The heads of a model playing for the answers to some examples.

    A player is a KV head; players of a coalition keep the whole prompt, the others the window only. A coalition's
    utility is the mean over the examples. Each example is prefilled once, when it is first needed.

    Attributes:
        rows: the examples with their tasks.
        prompts: the prefilled prompts, by number of the row.
        batch_memory: bytes that the generated tokens of a batch may take.
        max_length: cut of long prompts, for tasks that cut.
    """

    model: Model
    rows: list[tuple[Task, Example]]
    utility: PromptUtility
    window: int
    prompts: PromptStore
    batch_memory: int
    max_length: int | None = None

    @property
    def players(self) -> int:
        return self.model.layers * self.model.kv_heads

    def column(self, index: int, select: Callable[[Prompt], Sequence[Selection]]) -> list[float]:
        """Utilities of what `select` chooses on the prompt of one example."""
        task, example = self.rows[index]
        prompt = self.prompts.get(index)
        return self.utility.measure(Case(self.model, task, example, prompt, self.batch_memory), select(prompt))

    def measure(
        self,
        select: Callable[[Prompt], Sequence[Selection]],
        progress: ExampleProgress = lambda done, total: None,
    ) -> FloatArray:
        """Utilities [selections, examples] of what `select` chooses on each prompt."""
        columns = []
        for index in range(len(self.rows)):
            progress(index, len(self.rows))
            columns.append(self.column(index, select))
        progress(len(self.rows), len(self.rows))
        return np.array(columns, dtype=np.float64).T

    def coalitions(self, members: BoolArray) -> Callable[[Prompt], list[Selection]]:
        """The selections of coalitions bool [coalitions, players], for `column` and `measure`."""
        shaped = members.reshape(-1, self.model.layers, self.model.kv_heads)
        return lambda prompt: [Selection.from_coalition(inside, prompt.tokens, self.window) for inside in shaped]


def make_game(
    model: Model,
    tasks: Sequence[Task],
    utility: str,
    *,
    window: int,
    max_length: int | None = None,
    split: Split = "profile",
    memory_limit: int | None = None,
    spill_folder: Path | None = None,
) -> Game:
    """The game on a split of some tasks; heads are profiled on "profile", budgets can be judged on "test".

    Args:
        memory_limit: bytes for prompts and batches together; default 60% of what is free. Prompts beyond three
            quarters of it go to a file.
        spill_folder: where that file is made; default the system's temporary folder.

    Raises:
        RequestError: an unknown utility, tasks without examples in the split or without the answers that the
            utility needs, or a prompt longer than the context of the model.
    """
    chosen = get_utility(utility)
    rows = [(task, example) for task in tasks for example in task.examples(split)]
    if not rows:
        raise RequestError(f"The tasks have no examples in their {split} split; name others, or more data.")
    if chosen.needs_answers:
        for task, example in rows:
            if not example.answers:
                raise RequestError(
                    f"Example {example.id} of '{task.name}' has no reference answer, which the utility "
                    f"'{utility}' scores; add it, or profile with --utility agreement."
                )
    check_lengths(model, [example for _, example in rows])
    limit = memory_limit or int(_DEFAULT_SHARE * _free_memory(model.device))

    def make(number: int) -> Prompt:
        ids = encode_example(model, rows[number][1], max_length=max_length)
        return prefill(model, ids, window=window, accumulated_attention=False)

    prompt_memory = int(_PROMPT_SHARE * limit)
    store = PromptStore(make, limit=prompt_memory, folder=spill_folder)
    return Game(model, rows, chosen, window, store, limit - prompt_memory, max_length)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
