"""Chinese word segmentation, one shared jieba tokenizer with the default dictionary."""

import functools
import logging
from typing import Any

import jieba


@functools.cache
def _segmenter() -> Any:
    # A tokenizer of our own: a dictionary that the host program loads into jieba's global one moves no score.
    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()


def words(text: str) -> list[str]:
    """The words of a text in order, punctuation and white space included as words (jieba's exact mode)."""
    return list(_segmenter().cut(text, cut_all=False))
