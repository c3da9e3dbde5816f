"""Choosing alpha, how many heads keep the window only, on a profile's own validation examples."""

from collections.abc import Sequence

from cokv_bench.budgets import from_head_values
from cokv_bench.game.coalitions import FloatArray
from cokv_bench.game.head_game import Game
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.policies import get_policy

#: Numbers of heads left with the window only that CoKV's authors choose from.
ALPHAS = (1, 5, 10, 15, 20, 30, 40)
#: Budgets at which alpha is chosen; other budgets take the choice of the nearest.
ALPHA_BUDGETS = (32, 64, 128, 256, 512)


def alpha_curve(game: Game, values: FloatArray, budgets: Sequence[int] = ALPHA_BUDGETS) -> dict[int, dict[int, float]]:
    """Mean utility on the game's own examples for each budget and alpha (how many heads keep the window only).

    These are the profile's validation examples; evaluation examples play no part in the choice.

    Args:
        values: head values [layers, kv_heads].
        budgets: those that are not between the window and the shortest prompt are left out.
    """
    alphas = [alpha for alpha in ALPHAS if alpha < game.players]
    shortest = game.shortest_prompt()
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
