"""Summary-level ROUGE-L as the `rouge` package defines it, without its recursion.

LongBench scores summaries with `rouge` 1.0.1, whose number differs from `rouge-score`'s in three ways: texts are
cut into sentences at every period; a longest common subsequence (LCS) counts each distinct word once, over all
pairs of sentences; precision and recall divide by the number of distinct words. The package recurses once per word
and so fails on a long sentence, where the official scorer then gives 0. The walk below is iterative: it gives the
package's number for short texts and the same definition's number for long ones.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cokv_bench.tasks.metrics.chinese import words

_EPSILON = 1e-8  # In the package's F; a perfect summary scores 0.999999995.


def rouge(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """F of summary-level ROUGE-L over words between white space, case kept; in [0, 1).

    A text without any sentence (empty, or periods only) scores 0.
    """
    precision, recall = _overlap(prediction, answer)
    return 2.0 * precision * recall / (precision + recall + _EPSILON)


def _overlap(prediction: str, answer: str) -> tuple[float, float]:
    """Precision and recall; 0 and 0 for a text without any sentence."""
    predicted, reference = _sentences(prediction), _sentences(answer)
    if not predicted or not reference:
        return 0.0, 0.0
    indexed = [_Indexed.of(sentence) for sentence in predicted]
    common: set[str] = set()
    for sentence in reference:
        for candidate in indexed:
            common.update(_subsequence(sentence, candidate))
    recall = len(common) / len({word for sentence in reference for word in sentence})
    precision = len(common) / len({word for sentence in predicted for word in sentence})
    return precision, recall


def rouge_recall(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """Recall of the same summary-level ROUGE-L, which LooGLE reports; in [0, 1]."""
    return _overlap(prediction, answer)[1]


def rouge_zh(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """`rouge` over jieba's words; in [0, 1)."""
    return rouge(" ".join(words(prediction)), " ".join(words(answer)))


def _sentences(text: str) -> list[list[str]]:
    """Word lists between periods. White space alone is a sentence of one empty word, as in the package."""
    return [part.split() or [""] for part in text.split(".") if part]


@dataclass(frozen=True)
class _Indexed:
    """A sentence and, for each word, the bit mask of the positions at which it stands."""

    length: int
    masks: dict[str, int]

    @classmethod
    def of(cls, sentence: Sequence[str]) -> "_Indexed":
        masks: dict[str, int] = defaultdict(int)
        for position, word in enumerate(sentence):
            masks[word] |= 1 << position
        return cls(len(sentence), dict(masks))


def _subsequence(reference: Sequence[str], candidate: _Indexed) -> list[str]:
    """The words of one LCS, last first: among equally long ones, the one that the package's table walk finds.

    Bit-parallel LCS (Hyyrö 2004). In row i, bit j is 0 where L[i, j + 1] = L[i, j] + 1, with L the table of LCS
    lengths. The package walks back from the end: a match goes diagonally, otherwise up if L[i-1, j] > L[i, j-1],
    otherwise left. At a mismatch L[i, j] is the larger of the two, so "up" is just "bit j - 1 of row i is 0".
    """
    every = (1 << candidate.length) - 1
    row, rows = every, []
    for word in reference:
        matches = row & candidate.masks.get(word, 0)
        row = ((row + matches) | (row - matches)) & every
        rows.append(row)
    found = []
    i, j = len(reference), candidate.length
    while i > 0 and j > 0:
        word, bit = reference[i - 1], 1 << (j - 1)
        if candidate.masks.get(word, 0) & bit:
            found.append(word)
            i, j = i - 1, j - 1
        elif rows[i - 1] & bit:
            j -= 1
        else:
            i -= 1
    return found
