"""Multiple choice: which letter a prediction names, by the rules of three published scorers."""

import re
from collections.abc import Sequence

_LETTERS = "ABCD"
_STATED = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))


def choice_stated(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """LongBench v2's accuracy: 1.0 where the prediction says "The correct answer is (B)" with the answer's letter.

    Stars are passed over, brackets may be missing, and the first such sentence counts, one with brackets before one
    without. A prediction without such a sentence scores 0.0. Source: THUDM/LongBench, pred.py.
    """
    said = prediction.replace("*", "")
    found = next((match for form in _STATED if (match := form.search(said))), None)
    return float(found is not None and found[1] == answer)


def choice(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """InfiniteBench's accuracy of En.MC: 1.0 where the prediction names the answer, which is a letter or an option.

    The first of these decides: a first letter from A to D, a prediction that is the answer, what follows "answer
    is:" or the like, the first word that is a letter. Source: OpenBMB/InfiniteBench, src/compute_scores.py.
    """
    said = prediction.strip()
    if not said:
        return 0.0
    if said[0] in _LETTERS:
        return float(said[0] == answer)
    if said == answer:
        return 1.0
    said = _single_spaces(said, ("\n", '"', "'", ".", ",", "?", "!", "{", "}"))
    after = _after(said, ("answer is:", "answer:", "answer is", "option is"))
    if after is not None:
        return float(after.startswith(answer))
    # As published, a word such as "AB" counts as a letter too, and as a wrong one.
    named = next((word for word in said.split() if word in _LETTERS), None)
    return float(named == answer)


def choice_code(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """InfiniteBench's accuracy of Code.Debug: 1.0 where the prediction names the answer, a letter or a function.

    It must begin with the letter and a full stop or colon, or name the answer after "answer is:" or the like. Source:
    OpenBMB/InfiniteBench, src/compute_scores.py.
    """
    said = prediction.strip()
    if said[:2] in (f"{answer}.", f"{answer}:"):
        return 1.0
    said = _single_spaces(said, ("\n", "`", "'", '"', "-", "*", "Option", "option"))
    after = _after(said, ("answer is:", "is:", "answer:", "correct option is:"))
    return float(after is not None and after.startswith(answer))


def _single_spaces(text: str, dropped: Sequence[str]) -> str:
    """The text with a space for each dropped part, and one space for several."""
    for part in dropped:
        text = text.replace(part, " ")
    return re.sub(" +", " ", text)


def _after(text: str, phrases: Sequence[str]) -> str | None:
    """What follows the first of the phrases that occurs, and the character after it; None where none occurs.

    A text that ends there names nothing, which is empty here.
    """
    for phrase in phrases:
        place = text.find(phrase)
        if place >= 0:
            return text[place + len(phrase) + 1 :]
    return None
