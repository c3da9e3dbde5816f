"""Metrics of a prediction against one answer, by name, and the best of them over several answers."""

from collections.abc import Sequence

from cokv_bench.registries import METRICS, Metric


def best_score(metric: str, prediction: str, answers: Sequence[str], all_classes: Sequence[str] | None = None) -> float:
    """The best score of a prediction over the accepted answers, in [0, 1]; 0 without any answer.

    Raises:
        RequestError: no metric has that name, or it cannot use these answers or classes.
    """
    score = METRICS.get(metric)
    return max((score(prediction, answer, all_classes or ()) for answer in answers), default=0.0)


def first_line(prediction: str) -> str:
    """The first line after any leading newlines, on which LongBench scores its few-shot tasks."""
    return prediction.lstrip("\n").split("\n")[0]


__all__ = ["METRICS", "Metric", "best_score", "first_line"]
