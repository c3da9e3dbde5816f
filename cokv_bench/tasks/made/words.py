"""Texts as words, without case and punctuation, and whether one stands in another."""

import re

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PUNCTUATION = re.compile(r"[^\w\s]|_")


def normalise(text: str) -> str:
    """Words without case and punctuation, one space between them; "48,213." becomes "48213"."""
    return " ".join(_PUNCTUATION.sub(" ", _THOUSANDS.sub("", text.casefold())).split())


def occurs(answer: str, text: str) -> bool:
    """Whether the answer stands in the text as whole words; both normalised already."""
    return bool(answer) and f" {answer} " in f" {text} "
