"""What InfiniteBench's synthetic tasks ask for: a number, a value or a name, by the rules of its scorer.

Source: OpenBMB/InfiniteBench, src/compute_scores.py.
"""

import re
from collections.abc import Sequence

from cokv_bench.errors import RequestError, quoted

_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"\d+\.\d+|\d+")
_APART = str.maketrans(dict.fromkeys("\n:\"'.,?!{}", " "))
_APART_IN_CODE = str.maketrans(dict.fromkeys("\n.`'\":", " "))


def first_integer(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Retrieve.PassKey and Retrieve.Number: 1.0 where the first run of digits is the answer, else 0.0."""
    found = _DIGITS.search(prediction)
    return float((found[0] if found else "") == answer)


def last_integer(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Code.Run: 1.0 where the last word is the answer's integer, else 0.0.

    Raises:
        RequestError: the answer is no integer.
    """
    words = prediction.translate(_APART_IN_CODE).split()
    try:
        said = int(words[-1]) if words else None
    except ValueError:
        said = None
    return float(_integer("last_integer", answer) == said)


def first_number(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Math.Find: 1.0 where the first number of the prediction is the answer; of an integer, without its decimals.

    Raises:
        RequestError: the answer is no number.
    """
    found = _NUMBER.search(prediction)
    try:
        wanted = float(answer)
    except ValueError:
        raise RequestError(f"An answer for the metric 'first_number' must be a number, not {quoted(answer)}.") from None
    if found is None:
        return 0.0
    return float((float(found[0]) if "." in answer else int(float(found[0]))) == wanted)


def among_words(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Retrieve.KV: 1.0 where the answer is one of the prediction's words, punctuation dropped, else 0.0."""
    return float(answer in prediction.translate(_APART).split())


def speaker(prediction: str, answers: Sequence[str], all_classes: Sequence[str] = ()) -> float:
    """En.Dia: 1.0 where the first answer is one of the prediction's words in capitals, else 0.0.

    As published, further names of the character do not count, nor does a name of several words.
    """
    return float(answers[0] in prediction.translate(_APART).upper().split())


def _integer(metric: str, answer: str) -> int:
    try:
        return int(answer)
    except ValueError:
        raise RequestError(f"An answer for the metric '{metric}' must be an integer, not {quoted(answer)}.") from None
