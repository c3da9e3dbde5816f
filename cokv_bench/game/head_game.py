"""The game of the KV heads on the examples of some tasks, one prefill an example."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from weakref import proxy

import numpy as np

from cokv_bench.engines import Call, Engine, LocalWorkers, Workers
from cokv_bench.errors import RequestError
from cokv_bench.game.coalitions import BoolArray, FloatArray
from cokv_bench.game.utilities import Case, PromptUtility, get_utility
from cokv_bench.kvcache import Prompt, Selection, prefill
from cokv_bench.kvcache.batching import free_memory
from cokv_bench.kvcache.decoding import Decoding, Work
from cokv_bench.kvcache.prefill import for_length, signals
from cokv_bench.kvcache.store import PromptStore
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Split, Task
from cokv_bench.tasks.empty import no_examples
from cokv_bench.tasks.prompts import Encoding, check_prompts, encode_parts

#: Called with examples done and examples in all.
ExampleProgress = Callable[[int, int], None]

#: Of what is free when a game begins.
DEFAULT_SHARE = 0.6
# The same with CUDA, where answers are generated in a pool that takes half of what is free (`engines/streaming.py`).
_SHARE_BESIDE_A_POOL = 0.3
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
        questions: ids appended to each prompt, by number of the row, once it is prefilled.
        batch_memory: bytes that the generated tokens of a batch may take.
        encoding: how prompts are cut.
        engine: where columns are measured; None for this process.
    """

    model: Model
    rows: list[tuple[Task, Example]]
    utility: PromptUtility
    window: int
    prompts: PromptStore
    questions: dict[int, tuple[int, ...]]
    batch_memory: int
    encoding: Encoding
    engine: "Engine[Game] | None" = None

    @property
    def players(self) -> int:
        return self.model.layers * self.model.kv_heads

    def column(self, index: int, select: Callable[[Prompt], Sequence[Selection]]) -> list[float]:
        """Utilities of what `select` chooses on the prompt of one example, measured in this process."""
        case = self._case(index)
        return self.utility.values(case, select(case.prompt))

    def work(self, index: int, select: Callable[[Prompt], Sequence[Selection]]) -> Work[list[float]]:
        """`column`, which leaves it to others to decode answers."""
        if self.utility.judge is None:
            return self.column(index, select)
        case, example = self._case(index), self.rows[index][1]
        requests = [
            Decoding(case.prompt, select(case.prompt), example.max_new_tokens, case.question, example.stop_at_newline)
        ]
        # Nothing here holds a copy of the prompt on the device while its answers are decoded.
        case = replace(case, prompt=self.prompts.kept(index))
        answers = yield requests.pop()
        return self.utility.checked(case, self.utility.judge(case, answers), len(answers))

    def _case(self, index: int) -> Case:
        task, example = self.rows[index]
        # The prompt first: with it comes its question.
        prompt = self.prompts.get(index)
        return Case(self.model, task, example, prompt, self.batch_memory, self.questions[index])

    @cached_property
    def _here(self) -> "Engine[Game]":
        """The engine of this process, kept for all columns: on a GPU it captures steps and holds room for rows."""
        # Weakly, so that both end, and free their memory, with the last user of the game.
        return LocalWorkers(self.model).open(lambda _: proxy(self))

    def columns(
        self, indices: Iterable[int], select: Callable[[Prompt], Sequence[Selection]]
    ) -> Iterator[tuple[int, list[float]]]:
        """`column` of each of some examples, in the order in which the engine has them."""
        engine = self.engine or self._here
        calls = (Call(index, _Column(index, select)) for index in indices)
        return ((call.number, column) for call, column in engine.results(calls))

    def measure(
        self,
        select: Callable[[Prompt], Sequence[Selection]],
        progress: ExampleProgress = lambda done, total: None,
        indices: Sequence[int] | None = None,
    ) -> FloatArray:
        """Utilities [selections, examples] of what `select` chooses on each prompt, or on those of some examples."""
        chosen = self.indices(indices)
        progress(0, len(chosen))
        found: dict[int, list[float]] = {}
        for index, column in self.columns(chosen, select):
            found[index] = column
            progress(len(found), len(chosen))
        return np.array([found[index] for index in chosen], dtype=np.float64).T

    def coalitions(self, members: BoolArray) -> Callable[[Prompt], list[Selection]]:
        """The selections of coalitions bool [coalitions, players], for `column` and `measure`."""
        shaped = members.reshape(-1, self.model.layers, self.model.kv_heads)
        window = self.window
        return lambda prompt: [Selection.from_coalition(inside, prompt.tokens, window) for inside in shaped]

    def shortest_prompt(self) -> int:
        """Tokens of the shortest prompt."""
        return min(self.prompt_tokens(index) for index in self.indices())

    def prompt_tokens(self, index: int) -> int:
        """Tokens of the prompt of one example."""
        return len(encode_parts(self.model, self.rows[index][1], self.encoding).prompt)

    def indices(self, some: Sequence[int] | None = None) -> Sequence[int]:
        """Numbers of the rows: some, or all of them."""
        return range(len(self.rows)) if some is None else some


@dataclass(frozen=True)
class _Column:
    """A call that measures one example wherever it runs."""

    index: int
    select: Callable[[Prompt], Sequence[Selection]]

    def __call__(self, game: Game) -> list[float]:
        return game.column(self.index, self.select)

    def work(self, game: Game) -> Work[list[float]]:
        """See `Game.work`."""
        return game.work(self.index, self.select)


def make_game(
    model: Model,
    tasks: Sequence[Task],
    utility: str,
    *,
    window: int,
    encoding: Encoding | None = None,
    split: Split = "profile",
    memory_limit: int | None = None,
    spill_folder: Path | None = None,
    workers: Workers | None = None,
    needs: frozenset[str] = frozenset(),
) -> Game:
    """The game on a split of some tasks; heads are profiled on "profile", budgets can be judged on "test".

    Args:
        memory_limit: bytes for prompts and batches together; default 60% of what is free, on a GPU 30%. Prompts beyond
            three quarters of it go to a file.
        spill_folder: where that file is made; default the system's temporary folder.
        workers: where columns are measured; default this process.
        needs: signals of `prefill` that selections read, such as "accumulated_attention" for H2O's.

    Raises:
        RequestError: an unknown utility, or examples that cannot be played, see `playing_rows`.
    """
    chosen = get_utility(utility)
    encoding = encoding or Encoding()
    rows = playing_rows(model, tasks, chosen, encoding, split)
    deal = partial(
        _deal,
        rows=rows,
        utility=chosen,
        window=window,
        encoding=encoding,
        memory_limit=memory_limit,
        spill_folder=spill_folder,
        needs=needs,
    )
    game = deal(model)
    return game if workers is None else replace(game, engine=workers.open(deal))


def playing_rows(
    model: Model, tasks: Sequence[Task], utility: PromptUtility, encoding: Encoding, split: Split = "profile"
) -> list[tuple[Task, Example]]:
    """The examples of a split with their tasks, checked for what the utility needs and for length.

    Raises:
        RequestError: tasks without examples in the split or without the answers that the utility needs, or a prompt
            longer than the context of the model.
    """
    rows = [(task, example) for task in tasks for example in task.examples(split)]
    if not rows:
        raise no_examples(split, tasks)
    if utility.needs_answers:
        for task, example in rows:
            if not example.answers:
                raise RequestError(
                    f"Example {example.id} of '{task.name}' has no reference answer, which the utility "
                    f"'{utility.name}' scores; add it, or use --utility agreement."
                )
    check_prompts(model, [example for _, example in rows], encoding)
    return rows


def _deal(
    model: Model,
    *,
    rows: list[tuple[Task, Example]],
    utility: PromptUtility,
    window: int,
    encoding: Encoding,
    memory_limit: int | None,
    spill_folder: Path | None,
    needs: frozenset[str],
) -> Game:
    """The game as one process plays it, with prompts of its own."""
    share = _SHARE_BESIDE_A_POOL if model.device.type == "cuda" else DEFAULT_SHARE
    limit = memory_limit or int(share * free_memory(model.device))
    questions: dict[int, tuple[int, ...]] = {}

    def make(number: int) -> Prompt:
        task, example = rows[number]
        encoded = encode_parts(model, example, encoding)
        questions[number] = question = tuple(encoded.question)
        prompt = prefill(model, encoded.prompt, window=window, **signals(needs), question=question)
        if utility.answer is None:
            return prompt
        # Every coalition is scored on this answer, so the prompt is read once as the start of that very text.
        answer = utility.answer(Case(model, task, example, prompt, question=question))
        return for_length(model, prompt, prompt.tokens + len(question) + len(answer))

    prompt_memory = int(_PROMPT_SHARE * limit)
    store = PromptStore(make, limit=prompt_memory, folder=spill_folder)
    return Game(model, rows, utility, window, store, questions, limit - prompt_memory, encoding)
