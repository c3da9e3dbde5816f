"""Code completion: edit similarity of the first line of code."""

from collections.abc import Sequence

from fuzzywuzzy import fuzz

if fuzz.SequenceMatcher.__module__ != "fuzzywuzzy.StringMatcher":
    raise ImportError(
        "fuzzywuzzy runs without python-Levenshtein and would score code by another algorithm; "
        "install it with: pip install python-Levenshtein"
    )

_NOT_CODE = ("`", "#", "//")


def code_sim(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Edit similarity in whole percent, as a number in [0, 1], of the answer and the first line of code.

    The first line without a back-tick, "#" or "//" counts as code, so a blank line does too.
    """
    lines = prediction.lstrip("\n").split("\n")
    code = next((line for line in lines if not any(mark in line for mark in _NOT_CODE)), "")
    return float(fuzz.ratio(code, answer)) / 100
