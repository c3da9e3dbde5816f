"""HeadKV's head scores of a model, with the beta that is best at each budget."""

from collections.abc import Callable
from dataclasses import replace

from cokv_bench.budgets import HeadScores
from cokv_bench.game.curves import beta_curve
from cokv_bench.game.head_game import make_game
from cokv_bench.game.retrieval_scores import retrieval_scores
from cokv_bench.models import Model
from cokv_bench.tasks import Task


def measure_head_scores(
    model: Model,
    task: Task,
    *,
    window: int,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> HeadScores:
    """Score the query heads on the profile split of a task, see `retrieval_scores`, and choose beta on what was scored.

    HeadKV's beta is tried at each budget by the log-probability of the examples' answers, as CoKV's alpha is.

    Args:
        window: of the budgets that beta is tried with, in tokens.
        progress: of the scoring.

    Raises:
        RequestError: no example of the profile split holds its answer in its prompt.
    """
    scores = retrieval_scores(model, task, progress)
    game = make_game(model, [task], "loglik", window=window)
    scored = [index for index, (_, example) in enumerate(game.rows) if example.id in scores.examples]
    return replace(scores, betas=beta_curve(game, scores, indices=scored))
