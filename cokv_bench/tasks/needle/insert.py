"""Where needles go: each at the sentence end nearest before its asked depth."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def insert(
    sentences: Sequence[str], counts: Sequence[int], needles: Sequence[tuple[str, float]]
) -> tuple[str, list[float]]:
    """The text with the needles in it, and the depth in percent that each really has.

    Args:
        sentences: the haystack; every sentence but the first carries the gap before it.
        counts: tokens of each sentence.
        needles: a sentence and its depth each: 0 (at the very start) to 100 (at the very end), in percent of the
            haystack's tokens; in between the needle moves back to the nearest sentence end. Those of one place keep
            their order.
    """
    before = [0, *accumulate(counts)]
    # The small term keeps a depth that names a sentence end exactly from falling to the end before it.
    places = [
        len(sentences) if depth >= 100 else bisect_right(before, before[-1] * depth / 100 + 1e-9) - 1
        for _, depth in needles
    ]
    parts = [needle for (needle, _), place in zip(needles, places, strict=True) if place == 0]
    text = " ".join([*parts, *["".join(sentences[:1])] * bool(sentences)])
    for number in range(1, len(sentences) + 1):
        here = [f" {needle}" for (needle, _), place in zip(needles, places, strict=True) if place == number]
        text += "".join([*here, *sentences[number : number + 1]])
    return text, [100 * before[place] / before[-1] if place else 0.0 for place in places]
