"""Where a needle goes: at the sentence end nearest before the asked depth."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


def insert(sentences: Sequence[str], counts: Sequence[int], needle: str, depth: float) -> tuple[str, float]:
    """The text with the needle in it, and the depth in percent that the needle really has.

    Args:
        sentences: the haystack; every sentence but the first carries the gap before it.
        counts: tokens of each sentence.
        needle: one sentence.
        depth: 0 (at the very start) to 100 (at the very end), in percent of the haystack's tokens; in between
            the needle moves back to the nearest sentence end.
    """
    before = [0, *accumulate(counts)]
    # The small term keeps a depth that names a sentence end exactly from falling to the end before it.
    place = len(sentences) if depth >= 100 else bisect_right(before, before[-1] * depth / 100 + 1e-9) - 1
    if place == 0:
        gap = " " if sentences else ""
        return needle + gap + "".join(sentences), 0.0
    text = "".join(sentences[:place]) + " " + needle + "".join(sentences[place:])
    return text, 100 * before[place] / before[-1]
