"""Texts as words, without case and punctuation, and whether one stands in another."""

import re
import unicodedata

# Letters, vowel signs and digits of the scripts that are written without spaces between words: Han, kana and bopomofo,
# Thai, Lao, Burmese, Khmer. Their punctuation and currency signs, which Unicode has among them, are not in it.
_UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e80-\u0eff\u1000-\u1049\u1050-\u109d\u1780-\u17d3\u17d7\u17dc-\u17f9"
    "\uaa60-\uaa76\uaa7a-\uaa7f\ua9e0-\ua9fe"
)
_WITHOUT_SPACES = re.compile(f"[{_UNSPACED}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Vowel signs and tones are no letters to `\w`, and a Thai word without them is another one.
_PUNCTUATION = re.compile(rf"[^\w\s{_UNSPACED}]|_")


def normalise(text: str) -> str:
    """Words without case and punctuation, one space between them; "48,213." becomes "48213"."""
    return " ".join(_PUNCTUATION.sub(" ", _THOUSANDS.sub("", text.casefold())).split())


def occurs(answer: str, text: str) -> bool:
    """Whether the answer stands in the text as whole words; both normalised already.

    A script that is written without spaces does not show where its words end, so beside one of its letters a word may
    end anywhere: "42" stands in "是42号", and not in "142号".
    """
    start = text.find(answer) if answer else -1
    while start >= 0:
        end = start + len(answer)
        if _may_part(text[max(0, start - 1) : start], answer[0]) and _may_part(answer[-1], text[end : end + 1]):
            return True
        start = text.find(answer, start + 1)
    return False


def _may_part(left: str, right: str) -> bool:
    """Whether a word may end between two characters that follow each other; at an end of the text one is empty."""
    if not left.strip() or not right.strip():
        return True
    return bool(_WITHOUT_SPACES.match(left) or _WITHOUT_SPACES.match(right)) and not _is_sign(right)


def _is_sign(character: str) -> bool:
    """Whether a character belongs to the letter before it, such as a tone or the mark of a voiced kana."""
    return unicodedata.category(character).startswith("M")
