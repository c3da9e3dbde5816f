"""The words and wordings: each of one split, and all that their slots name is there."""

import re
from collections import Counter
from importlib import resources

import pytest

from cokv_bench.tasks.base import Split
from cokv_bench.tasks.recall import bank
from cokv_bench.tasks.recall.dice import Dice
from cokv_bench.tasks.recall.fill import SLOT, Words, plural, slots, write
from cokv_bench.tasks.recall.values import drawn

SPLITS: tuple[Split, ...] = ("profile", "test", "report")
#: Slots that the code fills with what an example holds already.
GIVEN = {"question", "cloze", "speaker", "one", "other", "noun", "n", "item", "key", "column", "line", "name"}
TOLD = [name for name in bank.sections() if name.startswith("tell_")]


def test_no_two_splits_share_an_entry() -> None:
    sides: dict[str, set[str]] = {}
    for name, listed in bank.sections().items():
        if len(listed) == 1:
            continue
        parts = [bank.entries(name, split) for split in SPLITS]
        assert Counter(entry for part in parts for entry in part) == Counter(listed)
        assert all(parts), name
        for split, part in zip(SPLITS, parts, strict=True):
            for entry in part:
                sides.setdefault(" ".join(entry.casefold().split()), set()).add(split)
    assert not {entry for entry, side in sides.items() if len(side) > 1}


def test_no_entry_is_listed_twice_and_no_list_is_headed_twice() -> None:
    for name, listed in bank.sections().items():
        assert len(set(listed)) == len(listed), name
    folder = resources.files("cokv_bench.tasks.recall").joinpath("words")
    heads = [head for file in folder.iterdir() for head in re.findall(r"(?m)^\[(\w+)\]$", file.read_text("utf-8"))]
    assert sorted(heads) == sorted(bank.sections())


def test_every_slot_names_a_list_or_a_drawn_value() -> None:
    for name, listed in bank.sections().items():
        for _, slot, _, _ in (found for entry in listed for found in SLOT.findall(entry)):
            known = slot.lower() in bank.sections() or drawn(slot.lower(), "test", Dice("0")) is not None
            assert known or slot in GIVEN, (name, slot)


@pytest.mark.parametrize("name", TOLD)
def test_every_fact_marks_an_answer_that_its_question_does_not_tell(name: str) -> None:
    for entry in bank.sections()[name]:
        told, question, *cloze = entry.split(" | ")
        assert len(cloze) <= 1
        marked = [slot.lower() + digit for mark, slot, digit, _ in SLOT.findall(told) if mark]
        assert len(marked) == 1, entry
        # Whoever asks knows what the fact is about, and not the answer.
        for asked in (question, *cloze):
            assert set(slots(asked)) - GIVEN <= set(slots(told)), entry
            assert marked[0] not in slots(asked), entry


def test_there_are_dozens_of_wordings() -> None:
    told = sum(len(bank.sections()[name]) for name in TOLD)
    asked = sum(len(listed) for name, listed in bank.sections().items() if name.endswith("ask"))
    assert told > 200
    assert asked > 100
    assert len(bank.sections()["before"]) > 20


def test_values_that_are_drawn_belong_to_one_split() -> None:
    found = {
        split: {drawn(kind, split, Dice(f"{kind} {i}")) for kind in ("time", "percent", "money") for i in range(400)}
        for split in SPLITS
    }
    assert not found["profile"] & found["test"]
    assert not found["report"] & (found["profile"] | found["test"])


def test_templates_by_hand() -> None:
    values = {"site": "old abbey", "job": "butcher", "person2": "Ann Lee", "const": "big heap", "thing": "ash box"}
    assert write("{Site} of {person2}: a {site}", values) == "Old abbey of Ann Lee: an old abbey"
    assert write("{job}s of A {=thing}", values) == "butchers of An ash box"
    assert write("{CONST} = {n}", {**values, "n": "3"}) == "BIG_HEAP = 3"
    assert [plural(noun) for noun in ("dairy", "tray", "fireman", "box", "class", "cat")] == [
        "dairies",
        "trays",
        "firemen",
        "boxes",
        "classes",
        "cats",
    ]
    words = Words("test")
    two = words.fill(["{town} {town2} {=number}"], Dice("1"))
    assert two.answer == "number"
    assert len(set(two.values.values())) == 3
    assert two == words.fill(["{town} {town2} {=number}"], Dice("1"))
