"""Whether an answer stands in a text as whole words, with spaces between words and in scripts without."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.needle.score import score_answers


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("四十二号公园", "答案是四十二号公园。"),
        ("東京", "答えは東京です。"),
        ("東京", "東京"),
        ("サーバー", "新しいサーバーです"),
        ("สวนที่สี่", "คำตอบคือสวนที่สี่ครับ"),
        ("ភ្នំពេញ", "ទីក្រុងភ្នំពេញ។"),
        ("42", "公园是42号。"),
        ("48213", "密码是48,213。"),
        ("iPhone 手机", "他的iPhone 手机在这里"),
    ],
)
def test_scripts_without_spaces_have_no_word_boundary(answer: str, text: str) -> None:
    assert occurs(normalise(answer), normalise(text))
    assert score_answers([answer], text) == {"score": 1.0, "word_recall": 1.0}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("四十二号公园", "答案是四十二号。"),
        ("42", "公园是142号。"),
        ("42", "公园是425号。"),
        ("Ann", "他叫Anna。"),
        # A letter without its tone, or without the mark that makes it another one.
        ("ก", "กี่"),
        ("กี่", "กา"),
        ("か", "か\u3099く"),
        # With spaces between words an ending is part of the word.
        ("서울", "서울입니다"),
        ("Москва", "Москвал"),
        ("", "東京"),
        ("。", "東京。"),
    ],
)
def test_what_does_not_stand_there(answer: str, text: str) -> None:
    assert not occurs(normalise(answer), normalise(text))
    assert score_answers([answer], text)["score"] == 0.0


def test_a_run_of_characters_is_a_word_of_the_recall() -> None:
    assert score_answers(["四十二号公园 东门"], "在四十二号公园。") == {"score": 0.0, "word_recall": 0.5}


SPACED = st.text(st.sampled_from("aAbé 1,2 _.-\n한글नमस्तेשלוםعربжё\u0301"), max_size=30)


@given(SPACED, SPACED, st.booleans())
def test_with_spaces_between_words_it_stands_between_spaces(answer: str, text: str, inside: bool) -> None:
    text = text + answer + text if inside else text

    def plain(said: str) -> str:
        return " ".join(re.sub(r"[^\w\s]|_", " ", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", said.casefold())).split())

    assert (normalise(answer), normalise(text)) == (plain(answer), plain(text))
    assert occurs(plain(answer), plain(text)) == (bool(plain(answer)) and f" {plain(answer)} " in f" {plain(text)} ")
