"""Metrics of published tables, on values that follow from their published scorers by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge import Rouge

from cokv_bench.errors import RequestError
from cokv_bench.tasks.metrics import METRICS, best_score


@pytest.mark.parametrize(
    ("metric", "prediction", "answers", "score"),
    [
        # RULER: the share of the references, or any of them; inside longer words too, case ignored.
        ("string_match_all", "They are 12345 and APPLE pies.", ["1234", "apple", "pear", "fig"], 0.5),
        ("string_match_all", "", ["a"], 0.0),
        ("string_match_part", "It was Normandy", ["france", "normandy"], 1.0),
        ("string_match_part", "It was Brittany", ["france", "normandy"], 0.0),
        # SCBench: the same, case kept.
        ("contains", 'The value is "ab-12"', ["ab-12"], 1.0),
        ("contains", "AB-12", ["ab-12"], 0.0),
        # LongBench v2: stars are dropped, brackets come first, nothing else is a choice.
        ("choice_stated", "**The correct answer is (C)**.", ["C"], 1.0),
        ("choice_stated", "The correct answer is C", ["C"], 1.0),
        ("choice_stated", "The correct answer is A, no: The correct answer is (B)", ["B"], 1.0),
        ("choice_stated", "The correct answer is (B). The correct answer is (C).", ["C"], 0.0),
        ("choice_stated", "C", ["C"], 0.0),
        ("choice_stated", "the correct answer is (C)", ["C"], 0.0),
        ("choice_stated", "The correct answer is (E)", ["E"], 0.0),
        # InfiniteBench En.MC: first letter, the option itself, what follows a phrase, the first word that is a letter.
        ("choice", "B. Walking", ["Walking", "B"], 1.0),
        ("choice", "Be kind", ["Walking", "B"], 1.0),
        ("choice", "Dogs", ["Walking", "B"], 0.0),
        ("choice", " Walking ", ["Walking", "B"], 1.0),
        ("choice", "I think the answer is: B", ["Walking", "B"], 1.0),
        ("choice", "So the answer is Walking there", ["Walking", "B"], 1.0),
        ("choice", "So the answer is", ["Walking", "B"], 0.0),
        ("choice", "It must be B or C", ["Walking", "B"], 1.0),
        ("choice", "It must be AB or B", ["Walking", "B"], 0.0),
        ("choice", "no idea", ["Walking", "B"], 0.0),
        ("choice", "  ", ["Walking", "B"], 0.0),
        # Code.Debug: the letter with a full stop or colon, or a phrase before letter or name.
        ("choice_code", "C: it returns", ["run", "C"], 1.0),
        ("choice_code", "C", ["run", "C"], 0.0),
        ("choice_code", "The correct option is: C", ["run", "C"], 1.0),
        ("choice_code", "the answer is: `run`", ["run", "C"], 1.0),
        ("choice_code", "the answer is:run", ["run", "C"], 0.0),
        ("choice_code", "the answer is:", ["run", "C"], 0.0),
        # Retrieve.PassKey and Retrieve.Number.
        ("first_integer", "key 71432.", ["71432"], 1.0),
        ("first_integer", "-0071432", ["71432"], 0.0),
        ("first_integer", "1 71432", ["71432"], 0.0),
        ("first_integer", "none", ["71432"], 0.0),
        # Retrieve.KV.
        ("among_words", '{"k": "ab-1"}', ["ab-1"], 1.0),
        ("among_words", "xab-1", ["ab-1"], 0.0),
        # Code.Run: the last word, a minus sign kept.
        ("last_integer", "The return value is: -12.", ["-12"], 1.0),
        ("last_integer", "-12 it is", ["-12"], 0.0),
        ("last_integer", "", ["-12"], 0.0),
        # Math.Find: an integer is compared without decimals, a decimal number as it is.
        ("first_number", "It is 7.9 or 8", ["7"], 1.0),
        ("first_number", "It is 7.5", ["7.5"], 1.0),
        ("first_number", "-7", ["7"], 1.0),
        ("first_number", "seven", ["7"], 0.0),
        # En.Dia: the first name alone, and only as one word.
        ("speaker", "Perhaps Ace.", ["ACE", "ACE ROTHSTEIN"], 1.0),
        ("speaker", "Rothstein", ["ACE", "ROTHSTEIN"], 0.0),
        # Zh.QA: two of three characters, and of two.
        ("char_f1_zh", "红 苹。果", ["苹果"], 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        # LooGLE: three of the reference's four distinct words are in a common subsequence.
        ("rouge_recall", "the cat sat", ["the cat sat down"], 0.75),
        ("rouge_recall", "", ["the cat"], 0.0),
        # Lines are sentences: the order of the lines is free, as it is not in ROUGE-L.
        ("rouge_score_lsum", "c d\na b", ["a b\nc d"], 1.0),
        ("rouge_score_l", "c d\na b", ["a b\nc d"], 0.5),
    ],
)
def test_scores_by_hand(metric: str, prediction: str, answers: list[str], score: float) -> None:
    assert best_score(metric, prediction, answers) == pytest.approx(score, abs=1e-12)


def test_no_answer_scores_nothing() -> None:
    assert best_score("string_match_all", "a", []) == 0.0
    assert best_score("contains", "a", []) == 0.0


@pytest.mark.parametrize("metric", ["last_integer", "first_number"])
def test_an_answer_that_is_no_number_is_refused(metric: str) -> None:
    with pytest.raises(RequestError, match=f"An answer for the metric '{metric}' must be an? .*, not 'seven'"):
        best_score(metric, "", ["seven"])


@settings(max_examples=100)
@given(*[st.lists(st.sampled_from(["a", "b", "c", "A", "b.", ".", "3.5"]), min_size=1, max_size=30).map(" ".join)] * 2)
def test_recall_is_the_rouge_packages(prediction: str, answer: str) -> None:
    try:
        expected = Rouge().get_scores([prediction], [answer])[0]["rouge-l"]["r"]
    except ValueError:  # A text without a sentence.
        expected = 0.0
    assert METRICS["rouge_recall"](prediction, answer, ()) == pytest.approx(expected, abs=1e-12)
