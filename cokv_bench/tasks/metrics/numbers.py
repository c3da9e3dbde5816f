"""Tasks answered with a number: which share of the numbers in the prediction is the right one."""

import re
from collections.abc import Sequence

from cokv_bench.errors import RequestError

_NUMBER = re.compile(r"\d+")


def count(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Share of the digit runs in the prediction that equal the answer; 0 without any; in [0, 1]."""
    numbers = _NUMBER.findall(prediction)
    return numbers.count(answer) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """`count` against the number of an answer such as "Paragraph 7"; in [0, 1].

    Raises:
        RequestError: the answer holds no "Paragraph N".
    """
    return count(prediction, _labelled("Paragraph ", answer))


def retrieval_zh(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """`count` against the number of an answer such as "段落7"; in [0, 1].

    Raises:
        RequestError: the answer holds no "段落N".
    """
    return count(prediction, _labelled("段落", answer))


def _labelled(label: str, answer: str) -> str:
    found = re.search(rf"{label}(\d+)", answer)
    if found is None:
        raise RequestError(f"A retrieval answer must read like '{label}7', not {answer!r:.60}.")
    return found.group(1)
