"""How an answer is looked for in a prediction."""

import re
from collections.abc import Iterable

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PUNCTUATION = re.compile(r"[^\w\s]|_")


def normalise(text: str) -> str:
    """Words without case and punctuation, one space between them; "48,213." becomes "48213"."""
    return " ".join(_PUNCTUATION.sub(" ", _THOUSANDS.sub("", text.casefold())).split())


def occurs(answer: str, text: str) -> bool:
    """Whether the answer stands in the text as whole words; both normalised already."""
    return bool(answer) and f" {answer} " in f" {text} "


def score_answers(answers: Iterable[str], prediction: str) -> dict[str, float]:
    """The best over the answers of each measure.

    "score" is 1.0 where an answer occurs whole in the prediction, "word_recall" the share of the answer's
    different words that occur anywhere in it (the measure of the published needle tests).
    """
    said = normalise(prediction)
    words = set(said.split())
    best = {"score": 0.0, "word_recall": 0.0}
    for answer in map(normalise, answers):
        wanted = set(answer.split())
        best["score"] = max(best["score"], float(occurs(answer, said)))
        best["word_recall"] = max(best["word_recall"], len(wanted & words) / len(wanted) if wanted else 0.0)
    return best
