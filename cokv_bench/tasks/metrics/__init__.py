"""Metrics of a prediction against one answer, by name, and the best of them over several answers."""

from collections.abc import Callable, Sequence

from cokv_bench.errors import unknown
from cokv_bench.tasks.metrics.classes import classification
from cokv_bench.tasks.metrics.edit_similarity import code_sim
from cokv_bench.tasks.metrics.f1 import qa_f1, qa_f1_zh
from cokv_bench.tasks.metrics.numbers import count, retrieval, retrieval_zh
from cokv_bench.tasks.metrics.rouge_l import rouge, rouge_zh
from cokv_bench.tasks.metrics.rouge_sentence import rouge_score_l

Metric = Callable[[str, str, Sequence[str]], float]
"""(prediction, answer, class names of the task) -> score in [0, 1]."""

METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        qa_f1,
        qa_f1_zh,
        rouge,
        rouge_zh,
        rouge_score_l,
        classification,
        count,
        retrieval,
        retrieval_zh,
        code_sim,
    )
}


def best_score(metric: str, prediction: str, answers: Sequence[str], all_classes: Sequence[str] | None = None) -> float:
    """The best score of a prediction over the accepted answers, in [0, 1]; 0 without any answer.

    Raises:
        RequestError: no metric has that name, or it cannot use these answers or classes.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    score = METRICS[metric]
    return max((score(prediction, answer, all_classes or ()) for answer in answers), default=0.0)


def first_line(prediction: str) -> str:
    """The first line after any leading newlines, on which LongBench scores its few-shot tasks."""
    return prediction.lstrip("\n").split("\n")[0]
