"""Token F1 of question answering, English (SQuAD's normalisation) and Chinese (jieba words)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

from cokv_bench.tasks.metrics.chinese import words

_ASCII_PUNCTUATION = frozenset(string.punctuation)
# The benchmark's own list. The left double angle bracket and both single ones are not in it: part of the definition.
_CHINESE_PUNCTUATION = _ASCII_PUNCTUATION | frozenset(
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～"
    "｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏"
)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def qa_f1(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """F1 of the two bags of words: lower case, without ASCII punctuation and articles; in [0, 1]."""
    return _bag_f1(_english_tokens(prediction), _english_tokens(answer))


def qa_f1_zh(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """F1 of the two bags of jieba words, without punctuation and white space; in [0, 1]."""
    return _bag_f1(_chinese_tokens(prediction), _chinese_tokens(answer))


def char_f1_zh(prediction: str, answer: str, all_classes: Sequence[str] = ()) -> float:
    """F1 of the two bags of characters, lower case, without punctuation and white space; in [0, 1].

    InfiniteBench's score of Zh.QA (OpenBMB/InfiniteBench, src/compute_scores.py).
    """
    return _bag_f1(_characters(prediction), _characters(answer))


def _characters(text: str) -> list[str]:
    return list("".join(_without(_CHINESE_PUNCTUATION, text).split()))


def _without(characters: frozenset[str], text: str) -> str:
    return "".join(character for character in text.lower() if character not in characters)


def _english_tokens(text: str) -> list[str]:
    # Punctuation goes first, so "A." is an article too and "well-known" is one word.
    return _ARTICLE.sub(" ", _without(_ASCII_PUNCTUATION, text)).split()


def _chinese_tokens(text: str) -> list[str]:
    # Words are cut before punctuation is dropped: it keeps its neighbours apart.
    cleaned = ("".join(_without(_CHINESE_PUNCTUATION, word).split()) for word in words(text))
    return [word for word in cleaned if word]


def _bag_f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    shared = (Counter(prediction) & Counter(answer)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(answer)
    return 2 * precision * recall / (precision + recall)
