"""The packaged essays and needles: varied, and the splits share nothing."""

import re
from collections import Counter

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Split, content_id
from cokv_bench.tasks.made.haystack import deal, sentences
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.needle import bank
from tests.tasks.made_needles import (
    PACKAGED,
)

# ---------------------------------------------------------------- the packaged essays


def test_the_essays_are_many_long_and_never_repeat() -> None:
    counts = [len(document.text.split()) for document in PACKAGED]
    assert len(PACKAGED) >= 20
    assert 10_000 <= sum(counts) <= 11_500
    assert all(430 <= count <= 620 for count in counts)
    paragraphs = [normalise(p) for document in PACKAGED for p in document.text.split("\n\n")]
    assert max(Counter(paragraphs).values()) == 1
    assert max(Counter(normalise(s) for d in PACKAGED for s in sentences(d.text)).values()) == 1


def test_the_reports_essays_are_like_the_others_and_new() -> None:
    own = deal()["report"]
    assert len(own) >= 10
    assert all(430 <= len(document.text.split()) <= 620 for document in own)
    found = Counter(normalise(s) for d in [*PACKAGED, *own] for s in sentences(d.text))
    assert max(found.values()) == 1


def test_the_essays_are_plain_ascii_without_digits() -> None:
    for document in [*PACKAGED, *deal()["report"]]:
        assert document.text.isascii(), document.name
        assert not re.search(r"\d", document.text), document.name  # so no number can be an answer


# ---------------------------------------------------------------- the bank


def test_the_bank_is_varied() -> None:
    families = bank.families()
    assert len(families) >= 24
    assert len({family.name for family in families}) == len(families)
    assert Counter(family.kind for family in families).keys() == {"number", "name", "place", "phrase"}
    assert min(Counter(family.kind for family in families).values()) >= 5
    assert {family.split for family in families} == {"both", "test", "report"}
    for split in ("test", "report"):
        assert 0.6 <= len(bank.families("profile")) / len(bank.families(split)) <= 0.75
    values = bank.values("all")
    assert all(len(set(values[name])) >= 60 for name in ("city", "first", "surname", "object"))
    assert all(len(set(listed)) == len(listed) for listed in values.values())


@pytest.mark.parametrize("split", ["profile", "test", "report"])
def test_needles_are_sentences_whose_question_leaves_out_the_answer(split: Split) -> None:
    for needle in bank.needles(split, 200, seed=4):
        assert needle.needle.endswith(".")
        assert needle.question.endswith("?")
        assert "{" not in needle.needle + needle.question + needle.answer
        assert occurs(normalise(needle.answer), normalise(needle.needle))
        assert not occurs(normalise(needle.answer), normalise(needle.question))
        assert needle.id == content_id(needle.needle, needle.question, needle.answer)
        assert len(needle.answer.split()) <= 4
        if needle.kind == "number":
            assert re.fullmatch(r"[1-9]\d{3,5}", needle.answer)
        # No other word of the question should lead elsewhere: most of it stands in the needle.
        asked, said = set(normalise(needle.question).split()), set(normalise(needle.needle).split())
        assert len(asked & said) / len(asked) > 0.5


@pytest.mark.parametrize("seed", [0, 1, 99])
@pytest.mark.parametrize(("one", "other"), [("profile", "test"), ("profile", "report"), ("test", "report")])
def test_needles_of_two_splits_share_nothing(seed: int, one: Split, other: Split) -> None:
    mine, theirs = bank.needles(one, 400, seed), bank.needles(other, 400, seed)
    assert not {n.id for n in mine} & {n.id for n in theirs}
    assert not {n.answer for n in mine} & {n.answer for n in theirs}
    digits = [{d for n in drawn for d in re.findall(r"\d+", n.needle)} for drawn in (mine, theirs)]
    assert digits[0]
    assert not digits[0] & digits[1]
    pairs: list[tuple[list[bank.Needle], Split]] = [(mine, other), (theirs, one)]
    for needles, foreign in pairs:
        text = normalise(" | ".join(n.needle + " " + n.question for n in needles))
        shared = [v for vs in bank.values(foreign).values() for v in vs if occurs(normalise(v), text)]
        assert not shared


def test_some_wordings_are_kept_for_the_test() -> None:
    profile = {n.family for n in bank.needles("profile", 200, 0)}
    test = {n.family for n in bank.needles("test", 200, 0)}
    report = {n.family for n in bank.needles("report", 200, 0)}
    assert profile == test & report
    assert profile < test
    assert profile < report


def test_consecutive_needles_are_varied_and_lists_extend() -> None:
    needles = bank.needles("test", 120, seed=3)
    for start in range(96):
        window = needles[start : start + 24]
        assert len({n.family for n in window}) == 24
        assert {n.kind for n in window} == {"number", "name", "place", "phrase"}
    assert bank.needles("test", 30, seed=3) == needles[:30]
    assert bank.needles("test", 30, seed=4) != needles[:30]
    assert len({n.id for n in needles}) == 120


def test_families_can_be_chosen() -> None:
    assert {n.family for n in bank.needles("test", 9, 0, families=["code", "badge"])} == {"code", "badge"}
    with pytest.raises(RequestError, match="did you mean badge"):
        bank.needles("test", 3, 0, families=["bagde"])
    other = next(family.name for family in bank.families() if family.split == "test")
    with pytest.raises(RequestError, match="belongs to split 'profile'"):
        bank.needles("profile", 3, 0, families=[other])
    with pytest.raises(RequestError, match="ran out of different needles of family 'mascot'"):
        bank.needles("profile", 10**5, 0, families=["mascot"])


@pytest.mark.parametrize("split", ["profile", "test", "report"])
def test_no_answer_stands_in_the_essays(split: Split) -> None:
    text = normalise(" ".join(document.text for dealt in deal().values() for document in dealt))
    for seed in range(3):
        found = [n.answer for n in bank.needles(split, 300, seed) if occurs(normalise(n.answer), text)]
        assert not found
