import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.rows.truncation import truncate_middle


class Bytes:
    """A tokenizer of UTF-8 bytes with a BOS of id 256, so that seams and special tokens are easy to see."""

    def __call__(self, text, **options):
        return {"input_ids": [256, *text.encode("utf-8")]}

    def decode(self, tokens, skip_special_tokens, clean_up_tokenization_spaces):
        assert skip_special_tokens
        assert not clean_up_tokenization_spaces
        return bytes(token for token in tokens if token < 256).decode("utf-8", "replace")


def test_a_short_text_is_not_changed():
    assert truncate_middle(Bytes(), "abcdefg", 8) == "abcdefg"


def test_the_two_ends_are_kept():
    # BOS counts among the first tokens and is not part of the text; an odd maximum loses one token.
    assert truncate_middle(Bytes(), "abcdefgh", 8) == "abcefgh"
    assert truncate_middle(Bytes(), "abcdefgh", 7) == "abfgh"


def test_a_character_cut_in_two_becomes_a_replacement_character():
    assert truncate_middle(Bytes(), "aé....b", 6) == "a\ufffd..b"


@pytest.mark.parametrize("length", [1, 0, -5])
def test_a_length_without_two_ends_is_refused(length):
    with pytest.raises(RequestError, match="at least 2"):
        truncate_middle(Bytes(), "abc", length)
