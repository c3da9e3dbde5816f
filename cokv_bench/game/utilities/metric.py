"""The task's own score of the greedy answer, as CoKV defines a coalition's utility (arXiv 2502.17501)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cokv_bench.checks import between_0_and_1, check_scores
from cokv_bench.game.utilities.base import Case, PromptUtility
from cokv_bench.registries import UTILITIES
from cokv_bench.units import FRACTION

if TYPE_CHECKING:
    from cokv_bench.kvcache import Generation, Selection


def measure(case: Case, selections: "Sequence[Selection]") -> list[float]:
    """Score in [0, 1] of the greedy answer under each selection."""
    from cokv_bench.kvcache import decode  # On first use: the names of utilities are told without torch.

    answers = decode(
        case.model,
        case.prompt,
        selections,
        max_new_tokens=case.example.max_new_tokens,
        question=case.question,
        stop_at_newline=case.example.stop_at_newline,
        memory=case.memory,
    )
    return judge(case, answers)


def judge(case: Case, answers: "Sequence[Generation]") -> list[float]:
    """Score in [0, 1] of each answer."""
    # Many coalitions give the same answer, and scoring a long one takes its time.
    scores = {text: case.task.score(case.example, text) for text in {answer.text for answer in answers}}
    metric = f"The metric '{case.task.metric}'"
    check_scores(scores.values(), between_0_and_1, metric, case.task.name, case.example.id)
    return [scores[answer.text]["score"] for answer in answers]


METRIC = PromptUtility("metric", UTILITIES.line("metric"), measure, judge=judge, unit=FRACTION)
