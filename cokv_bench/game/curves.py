"""Choosing a knob of a static budget rule on the profile's own examples: CoKV's alpha and HeadKV's beta."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import HeadScores, from_head_values
from cokv_bench.budgets.rules import ALPHAS, BETAS
from cokv_bench.game.coalitions import FloatArray
from cokv_bench.game.head_game import ExampleProgress, Game
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.policies import get_policy

#: Budgets at which they are chosen; other budgets take the choice of the nearest.
CURVE_BUDGETS = (32, 64, 128, 256, 512)

_Setting = TypeVar("_Setting", bound=float)


def alpha_curve(
    game: Game,
    values: FloatArray,
    budgets: Sequence[int] = CURVE_BUDGETS,
    indices: Sequence[int] | None = None,
    progress: ExampleProgress = lambda done, total: None,
) -> dict[int, dict[int, float]]:
    """Mean utility on the game's own examples for each budget and alpha (how many heads keep the window only).

    These are the profile's validation examples; evaluation examples play no part in the choice.

    Args:
        values: head values [layers, kv_heads].
        budgets: those that are not between the window and the longest prompt are left out. Each is measured on the
            examples that are longer than it, for the others keep all of their prompt with any alpha.
        indices: numbers of the examples that count; default all of them.
        progress: called after each example.
    """
    alphas = [alpha for alpha in ALPHAS if alpha < game.players]

    def rule(budget: int, alpha: int) -> NDArray[np.int64]:
        return from_head_values(values, budget, window=game.window, zeroed=alpha)

    return _curve(game, budgets, alphas, rule, indices, progress)


def beta_curve(
    game: Game,
    scores: HeadScores,
    budgets: Sequence[int] = CURVE_BUDGETS,
    indices: Sequence[int] | None = None,
) -> dict[int, dict[float, float]]:
    """The same for HeadKV's beta: mean utility on the game's own examples for each budget and beta."""

    def rule(budget: int, beta: float) -> NDArray[np.int64]:
        return scores.budgets(budget, window=game.window, beta=beta)

    return _curve(game, budgets, BETAS, rule, indices)


def _curve(
    game: Game,
    budgets: Sequence[int],
    settings: Sequence[_Setting],
    rule: Callable[[int, _Setting], NDArray[np.int64]],
    indices: Sequence[int] | None = None,
    progress: ExampleProgress = lambda done, total: None,
) -> dict[int, dict[_Setting, float]]:
    """Mean utilities by budget and setting; `rule` gives int [layers, kv_heads], window included."""
    lengths = {index: game.prompt_tokens(index) for index in game.indices(indices)}
    budgets = [budget for budget in budgets if game.window < budget < max(lengths.values())]
    cells = [(budget, setting) for budget in budgets for setting in settings]
    if not cells:
        return {}
    longer = {index: tokens for index, tokens in lengths.items() if tokens > min(budgets)}

    def select(prompt: Prompt) -> list[Selection]:
        choices = []
        for budget, setting in cells:
            # Any static method serves: they rank tokens alike.
            policy = get_policy("cokv", budgets={budget: rule(budget, setting)}.__getitem__)
            choices.append(policy.select(prompt, budget))
        return choices

    # A prompt that is kept whole at some of the budgets is scored there as well, and does not count.
    utilities = game.measure(select, progress, list(longer))
    curve: dict[int, dict[_Setting, float]] = {budget: {} for budget in budgets}
    for (budget, setting), measured in zip(cells, utilities, strict=True):
        curve[budget][setting] = float(measured[[tokens > budget for tokens in longer.values()]].mean())
    return curve
