"""Profiling: play the game of the KV heads on validation examples, one prefill an example."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from cokv_bench.budgets import HeadValues, from_head_values
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.game.coalitions import BoolArray, FloatArray
from cokv_bench.game.estimators import get_estimator
from cokv_bench.game.ledger import Ledger
from cokv_bench.game.ledger_format import LedgerHeader, Row
from cokv_bench.game.sampling import Plan
from cokv_bench.game.utilities import PromptUtility, get_utility
from cokv_bench.kvcache import Prompt, Selection, prefill
from cokv_bench.models import Model
from cokv_bench.policies import get_policy
from cokv_bench.tasks import Example, Split, Task
from cokv_bench.tasks.prompts import check_lengths, encode_example

Progress = Callable[[int, int, str], None]

#: Numbers of heads left with the window only that CoKV's authors choose from.
ALPHAS = (1, 5, 10, 15, 20, 30, 40)
#: Budgets at which alpha is chosen; other budgets take the choice of the nearest.
ALPHA_BUDGETS = (32, 64, 128, 256, 512)
_COALITIONS_PER_STEP = 64


@dataclass(frozen=True)
class Game:
    """The heads of a model playing for the answers to some examples.

    A player is a KV head; players of a coalition keep the whole prompt, the others the window only. A coalition's
    utility is the mean over the examples. Each example is prefilled once, when it is first needed.
    """

    model: Model
    rows: list[tuple[Task, Example]]
    utility: PromptUtility
    window: int
    prompts: dict[int, Prompt]
    max_length: int | None = None

    @property
    def players(self) -> int:
        return self.model.layers * self.model.kv_heads

    def prompt(self, index: int) -> Prompt:
        """The prefilled prompt of an example, kept from then on."""
        if index not in self.prompts:
            example = self.rows[index][1]
            ids = encode_example(self.model, example, max_length=self.max_length)
            self._check_memory(index, len(ids))
            self.prompts[index] = prefill(self.model, ids, window=self.window, accumulated_attention=False)
        return self.prompts[index]

    def _check_memory(self, index: int, tokens: int) -> None:
        need = tokens * self.model.bytes_per_token * self.players * (len(self.rows) - index)
        free = psutil.virtual_memory().available
        if self.model.device.type == "cpu" and need > 0.8 * free:
            raise RequestError(
                f"Keeping {len(self.rows)} prompts needs about {need / 2**30:.1f} GiB more and {free / 2**30:.1f} GiB "
                "are free; use fewer or shorter examples."
            )

    def measure(
        self,
        select: Callable[[Prompt], Sequence[Selection]],
        progress: Progress = lambda done, total, note: None,
    ) -> FloatArray:
        """Utilities [selections, examples] of what `select` chooses on each prompt."""
        columns = []
        for index, (task, example) in enumerate(self.rows):
            progress(index, len(self.rows), task.name)
            prompt = self.prompt(index)
            columns.append(self.utility.measure(self.model, task, example, prompt, select(prompt)))
        progress(len(self.rows), len(self.rows), "done")
        return np.array(columns, dtype=np.float64).T

    def coalition_utilities(self, members: BoolArray) -> FloatArray:
        """Utilities [coalitions, examples] of coalitions bool [coalitions, players]."""
        shaped = members.reshape(-1, self.model.layers, self.model.kv_heads)
        return self.measure(lambda prompt: [Selection.from_coalition(m, prompt.tokens, self.window) for m in shaped])


def make_game(
    model: Model,
    tasks: Sequence[Task],
    utility: str,
    *,
    window: int,
    max_length: int | None = None,
    split: Split = "profile",
) -> Game:
    """The game on a split of some tasks; heads are profiled on "profile", budgets can be judged on "test".

    Raises:
        RequestError: an unknown utility, tasks without examples in the split, or a prompt longer than the
            context of the model.
    """
    chosen = get_utility(utility)
    rows = [(task, example) for task in tasks for example in task.examples(split)]
    if not rows:
        raise RequestError(f"The tasks have no examples in their {split} split; name others, or more data.")
    check_lengths(model, [example for _, example in rows])
    return Game(model, rows, chosen, window, {}, max_length)


def default_folder(model: Model, tasks: Sequence[str]) -> Path:
    """Where a profile goes unless told: profiles/<model>/<tasks>."""
    names = [re.sub(r"[^\w.+-]+", "-", task) for task in tasks]
    return Path("profiles") / Path(model.name).name / "+".join(names)


def profile(
    game: Game,
    folder: Path,
    *,
    estimator: str,
    samples: int,
    seed: int,
    progress: Progress = lambda done, total, note: None,
) -> HeadValues:
    """Sample coalitions into the folder's ledger, estimate head values, choose alpha, write `values.json`.

    A ledger that is there already is gone on with: coalitions depend on the seed and their number alone.

    Args:
        samples: pairs of a coalition and its complement.
        progress: called with coalitions done, coalitions in all, and what is going on.

    Raises:
        RequestError: unknown estimator, fewer than one pair, or a ledger of something else.
    """
    chosen = get_estimator(estimator)
    if samples < 1:
        raise RequestError(f"{samples} samples estimate nothing; ask for at least one pair.")
    sizes = chosen.sizes(game.players)
    plan = Plan(game.players, sizes, seed)
    header = LedgerHeader(
        model=game.model.fingerprint,
        tasks=tuple(dict.fromkeys(task.name for task, _ in game.rows)),
        window=game.window,
        utility=game.utility.name,
        seed=seed,
        examples=tuple(example.id for _, example in game.rows),
        players=(game.model.layers, game.model.kv_heads),
        config={"sizes": list(sizes), "max_length": game.max_length},
    )
    path = folder / "ledger.jsonl"
    with Ledger.open(path, header) as ledger:
        todo = [k for k in range(2 * samples) if k not in ledger.done]
        for start in range(0, len(todo), _COALITIONS_PER_STEP):
            progress(2 * samples - len(todo) + start, 2 * samples, "coalitions")
            ks = todo[start : start + _COALITIONS_PER_STEP]
            members = np.array([plan.coalition(k) for k in ks])
            utilities = game.coalition_utilities(members)
            ledger.append(Row(k, plan.size(k), m, u.tolist()) for k, m, u in zip(ks, members, utilities, strict=True))
        progress(2 * samples, 2 * samples, "estimating")
        result = chosen.run(ledger.coalitions(), ledger.utilities().mean(axis=1))
    shape = (game.model.layers, game.model.kv_heads)
    values = result.values.reshape(shape)
    head_values = HeadValues(
        values=values,
        standard_errors=result.standard_errors.reshape(shape),
        estimator=estimator,
        samples=result.samples,
        seed=seed,
        utility=game.utility.name,
        window=game.window,
        tasks=header.tasks,
        examples=header.examples,
        model=header.model,
        ledger_sha256=file_sha256(path),
        alphas=alpha_curve(game, values),
    )
    head_values.save(folder / "values.json")
    return head_values


def alpha_curve(game: Game, values: FloatArray, budgets: Sequence[int] = ALPHA_BUDGETS) -> dict[int, dict[int, float]]:
    """Mean utility on the game's own examples for each budget and alpha (how many heads keep the window only).

    These are the profile's validation examples; evaluation examples play no part in the choice.

    Args:
        values: head values [layers, kv_heads].
        budgets: those that are not between the window and the shortest prompt are left out.
    """
    alphas = [alpha for alpha in ALPHAS if alpha < game.players]
    shortest = min(game.prompt(index).tokens for index in range(len(game.rows)))
    budgets = [budget for budget in budgets if game.window < budget < shortest]
    cells = [(budget, alpha) for budget in budgets for alpha in alphas]
    if not cells:
        return {}

    def select(prompt: Prompt) -> list[Selection]:
        choices = []
        for budget, alpha in cells:
            tokens = from_head_values(values, budget, window=game.window, zeroed=alpha)
            choices.append(get_policy("cokv", budgets=lambda _, tokens=tokens: tokens).select(prompt, budget))
        return choices

    means = game.measure(select).mean(axis=1)
    curve: dict[int, dict[int, float]] = {budget: {} for budget in budgets}
    for (budget, alpha), mean in zip(cells, means, strict=True):
        curve[budget][alpha] = float(mean)
    return curve
