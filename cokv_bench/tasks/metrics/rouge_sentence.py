"""ROUGE-L and ROUGE-Lsum of the `rouge-score` package, the numbers that most summarisation work reports."""

import functools
from collections.abc import Sequence
from typing import Any


@functools.cache
def _scorer() -> Any:
    # Imported on first use: it loads NLTK, over a second, which most runs never need.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL", "rougeLsum"], use_stemmer=False)


def rouge_score_l(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """F of sentence-level ROUGE-L over lower-case [a-z0-9]+ words, no stemming; in [0, 1]. English only."""
    return float(_scorer().score(answer, prediction)["rougeL"].fmeasure)


def rouge_score_lsum(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """F of summary-level ROUGE-L over the same words; line breaks end sentences; in [0, 1]. English only."""
    return float(_scorer().score(answer, prediction)["rougeLsum"].fmeasure)
