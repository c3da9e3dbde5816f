"""How predictions are scored, by the names that tasks give for their metric."""

from collections.abc import Callable, Sequence

from cokv_bench.tasks.base import Example
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.metrics import best_score, first_line

#: Between the values of an answer that has several.
BETWEEN = ", "


def found(example: Example, prediction: str) -> float:
    """1.0 where an answer stands in the prediction as whole words, otherwise 0.0."""
    return float(any(_stands(answer, prediction) for answer in example.answers))


def share_found(example: Example, prediction: str) -> float:
    """The share of the answer's values that stand in the prediction as whole words."""
    values = example.answers[0].split(BETWEEN)
    return sum(_stands(value, prediction) for value in values) / len(values)


def _stands(answer: str, prediction: str) -> bool:
    return occurs(normalise(answer), normalise(prediction))


def _of_line(metric: str) -> Callable[[Example, str], float]:
    def score(example: Example, prediction: str) -> float:
        line = first_line(prediction.strip())
        return best_score(metric, line, example.answers, example.all_classes)

    return score


def code_similarity(example: Example, prediction: str) -> float:
    """Edit similarity of the first line of code and the answer, indentation left out."""
    lines: Sequence[str] = [line.strip() for line in prediction.strip().split("\n")]
    return best_score("code_sim", "\n".join(lines), [answer.strip() for answer in example.answers])


METRICS: dict[str, Callable[[Example, str], float]] = {
    "found": found,
    "share_found": share_found,
    "qa_f1": _of_line("qa_f1"),
    "code_sim": code_similarity,
    "classification": _of_line("classification"),
}
