"""The task's own score of the greedy answer, as CoKV defines a coalition's utility (arXiv 2502.17501)."""

from collections.abc import Sequence

from cokv_bench.game.utilities.base import PromptUtility
from cokv_bench.kvcache import Prompt, Selection, decode
from cokv_bench.models import Model
from cokv_bench.tasks import Example, Task


def measure(
    model: Model,
    task: Task,
    example: Example,
    prompt: Prompt,
    selections: Sequence[Selection],
    *,
    memory: int | None = None,
) -> list[float]:
    """Score in [0, 1] of the greedy answer under each selection."""
    answers = decode(
        model,
        prompt,
        selections,
        max_new_tokens=example.max_new_tokens,
        stop_at_newline=example.stop_at_newline,
        memory=memory,
    )
    # Many coalitions give the same answer, and scoring a long one takes its time.
    scores = {text: task.score(example, text)["score"] for text in {answer.text for answer in answers}}
    return [scores[answer.text] for answer in answers]


METRIC = PromptUtility("metric", "the task's score of the greedy answer (as published)", measure)
