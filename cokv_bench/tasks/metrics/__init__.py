"""Metrics of a prediction against one answer, by name, and the best of them over several answers."""

from collections.abc import Sequence

from cokv_bench.registries import JOINT, METRICS, Metric

# Joint metrics for which the first answer is the right one, whatever the others are.
_OF_THE_FIRST = ("speaker",)


def best_score(metric: str, prediction: str, answers: Sequence[str], all_classes: Sequence[str] | None = None) -> float:
    """The best score of a prediction over the accepted answers, in [0, 1]; 0 without any answer.

    A metric that is marked `JOINT` looks at all answers together instead, as RULER's share of those that are found.

    Raises:
        RequestError: no metric has that name, or it cannot use these answers or classes.
    """
    score = METRICS.get(metric)
    if metric in METRICS.marked(JOINT):
        return score(prediction, answers, all_classes or ()) if answers else 0.0
    return max((score(prediction, answer, all_classes or ()) for answer in answers), default=0.0)


def asks_for_all(metric: str) -> bool:
    """Whether an answer has to give all references, rather than one of them."""
    return metric in METRICS.marked(JOINT) and metric not in _OF_THE_FIRST


def first_line(prediction: str) -> str:
    """The first line after any leading newlines, on which LongBench scores its few-shot tasks."""
    return prediction.lstrip("\n").split("\n")[0]


__all__ = ["METRICS", "Metric", "asks_for_all", "best_score", "first_line"]
