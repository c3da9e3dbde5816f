"""RULER's generated subtasks: what stands in the prompts, and the score."""

import re
from collections import Counter

import pytest

from cokv_bench.tasks.base import Example
from cokv_bench.tasks.made.fit import most_units
from cokv_bench.tasks.made.haystack import read_documents, sentences
from cokv_bench.tasks.metrics import best_score
from cokv_bench.tasks.ruler.counting import frequencies, n_draws
from cokv_bench.tasks.ruler.material import words
from tests.tasks.test_ruler import NEEDLE, NIAH, Pieces, context_of, make, parts_of

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


# ---------------------------------------------------------------- needles

# subtask: keys hidden (None: the haystack's too), values of a key, keys asked, forms of key and value
SHAPES = {
    "niah_single_1": (1, 1, 1, r"[a-z]+-[a-z]+", r"\d{7}"),
    "niah_single_2": (1, 1, 1, r"[a-z]+-[a-z]+", r"\d{7}"),
    "niah_single_3": (1, 1, 1, r"[a-z]+-[a-z]+", UUID),
    "niah_multikey_1": (4, 1, 1, r"[a-z]+-[a-z]+", r"\d{7}"),
    "niah_multikey_2": (None, 1, 1, r"[a-z]+-[a-z]+", r"\d{7}"),
    "niah_multikey_3": (None, 1, 1, UUID, UUID),
    "niah_multivalue": (1, 4, 1, r"[a-z]+-[a-z]+", r"\d{7}"),
    "niah_multiquery": (4, 1, 4, r"[a-z]+-[a-z]+", r"\d{7}"),
}


@pytest.mark.parametrize("subtask", NIAH)
def test_the_asked_values_stand_in_the_text_once(subtask: str) -> None:
    keys, values, asked, key_form, value_form = SHAPES[subtask]
    for example in make(subtask, lengths=(900,)).examples("all"):
        found = [(key, value) for _, key, value in NEEDLE.findall(context_of(example))]
        counts = Counter(key for key, _ in found)
        assert len(counts) == keys if keys else len(counts) > 10
        assert set(counts.values()) == {values}
        assert all(re.fullmatch(key_form, key) and re.fullmatch(value_form, value) for key, value in found)
        wanted = [key for key in counts if key in example.question]
        assert len(wanted) == asked
        assert Counter(value for key, value in found if key in wanted) == Counter(example.answers)
        assert all(example.prompt.count(answer) == 1 for answer in example.answers)


def test_haystacks_are_what_they_are_called() -> None:
    for subtask, kind in {"niah_single_1": "noise", "niah_single_2": "essays", "niah_multikey_2": "needles"}.items():
        (example,) = make(subtask, lengths=(900,), examples=1).examples("test")
        rest = NEEDLE.sub("", context_of(example))
        if kind == "needles":
            assert not rest.strip()
            continue
        held = Counter(sentence.strip() for sentence in sentences(rest))
        essays = {s.strip() for document in read_documents() for s in sentences(document.text)}
        if kind == "noise":
            assert len(held) == 5
            assert max(held.values()) - min(held.values()) <= 1
        else:  # all but the last one, which is cut short
            assert len(set(held) - essays) <= 1


def test_needles_are_placed_all_over() -> None:
    places = []
    for example in make("niah_single_2", lengths=(900,), examples=40).examples("test"):
        context = context_of(example)
        places.append(context.index("One of the secret") / len(context))
    assert min(places) < 0.15
    assert max(places) > 0.85
    assert 0.35 < sum(places) / len(places) < 0.65


# ---------------------------------------------------------------- variable tracking


def test_following_the_assignments_gives_the_answers() -> None:
    for example in make("vt", lengths=(700, 2000)).examples("all"):
        held: dict[str, str] = {}
        order = []
        for name, source in re.findall(r"VAR ([A-Z]+) = (VAR [A-Z]+|\d+)\.", context_of(example)):
            # A name is assigned before it is read, so one pass is enough.
            held[name] = held[source.removeprefix("VAR ")] if source.startswith("VAR ") else source
            order.append(name)
        asked = re.search(r"\d{5}", example.question)
        assert asked
        assert tuple(order) == example.answers
        assert len(set(order)) == 5
        assert set(held.values()) == {asked[0]}


@pytest.mark.parametrize("length", [700, 3000])
def test_a_worked_chain_stands_before_the_task(length: int) -> None:
    for example in make("vt", lengths=(length,)).examples("all"):
        shown, context = parts_of(example)
        body, _, answer = shown.rpartition("\n\nAnswer: ")
        names = re.findall(r"VAR ([A-Z]+) = ", body)
        assert answer == " ".join(names)
        assert all(len(name) == 3 for name in names)
        assert len(set(names)) == 5
        # As published, of 500 tokens whatever the length, so a noise sentence more has no room.
        assert 494 < len(Pieces().encode(shown)) <= 500
        values = re.findall(r"\d{5}", body + context + example.question)
        assert (values[0], values[2]) == (values[1], values[3])
        assert values[0] != values[2]


# ---------------------------------------------------------------- counting


@pytest.mark.parametrize(("length", "often", "rarely"), [(700, 6, 1), (4095, 6, 1), (4096, 30, 3)])
def test_the_common_words_are_the_asked_ones(length: int, often: int, rarely: int) -> None:
    for example in make("cwe", lengths=(length,), examples=2).examples("all"):
        listed = re.findall(r"(\d+)\. (\S+)", context_of(example))
        assert [int(number) for number, _ in listed] == list(range(1, len(listed) + 1))
        counts = Counter(word for _, word in listed)
        assert {word for word, count in counts.items() if count == often} == set(example.answers)
        assert set(counts.values()) == {often, rarely}
        assert len(example.answers) == 10


def test_a_long_list_goes_on_with_pairs_of_other_words() -> None:
    (example,) = make("cwe", lengths=(40_000,), examples=1).examples("profile")
    counts = Counter(re.findall(r"\d+\. (\S+)", context_of(example)))
    pairs = [word for word in counts if "-" in word]
    assert len(pairs) > 100
    assert {half for pair in pairs for half in pair.split("-")} <= set(words("profile")) - set(example.answers)
    assert Counter(counts.values()) == {30: 10, 3: len(counts) - 10}


@pytest.mark.parametrize("length", [300, 700, 4500])
def test_the_frequent_words_are_the_asked_ones(length: int) -> None:
    for example in make("fwe", lengths=(length,)).examples("all"):
        counts = Counter(context_of(example).split())
        dots, *ranked = counts.most_common()
        assert dots[0] == "..."
        assert {word for word, _ in ranked[:3]} == set(example.answers)
        assert len(ranked) == 3 or ranked[2][1] > ranked[3][1]
        assert counts.total() * 0.5 < dots[1] < counts.total() * 0.8


def test_frequencies_by_hand() -> None:
    # 1000 / (pi^2 / 6) = 607.9; the following ranks have a quarter, a ninth, a sixteenth, ...
    assert frequencies(1000)[:5] == [607, 151, 67, 37, 24]
    assert frequencies(1) == []
    assert frequencies(27) == [16, 4, 1, 1]
    assert [n_draws(units) for units in (0, 14, 15, 16)] == [27, 41, 53, 54]
    for units in range(2000):
        ranked = [*frequencies(n_draws(units)), 0]
        assert ranked[3] > ranked[4]
        assert len(ranked) >= 5


@pytest.mark.parametrize(("length", "size", "often", "rarely"), [(900, 20, 3, 1), (4096, 40, 10, 3)])
def test_a_worked_list_stands_before_the_task(length: int, size: int, often: int, rarely: int) -> None:
    for example in make("cwe", lengths=(length,), examples=2).examples("all"):
        shown, context = parts_of(example)
        body, _, answer = shown.rpartition("\n\nAnswer: ")
        counts = Counter(re.findall(r"\d+\. (\S+)", body))
        common = re.findall(r"\d+\. (\S+)", answer)
        assert [counts[word] for word in common] == [often] * 10
        assert sorted(counts.values()) == [rarely] * (size - 10) + [often] * 10
        assert not set(counts) & set(re.findall(r"\d+\. (\S+)", context))


def test_the_answers_of_a_list_cannot_be_told_by_their_places() -> None:
    first: list[str] = []
    for example in make("cwe", lengths=(2000,), examples=10).examples("test"):
        listed = re.findall(r"\d+\. (\S+)", context_of(example))
        first += [word for word in dict.fromkeys(listed[:20]) if word in example.answers]
    # Chance alone puts a few of the ten among the first 20; all ten would mean that the list begins with them.
    assert len(first) / 10 < 6


# ---------------------------------------------------------------- fit and score


def test_fit_by_hand() -> None:
    assert most_units(100, lambda units: 10 + 3 * units) == 30
    assert most_units(100, lambda units: 100 + units) == 0
    assert most_units(100, lambda units: 101 + units) == -1
    assert most_units(5, lambda units: units) == 5


@pytest.mark.parametrize(
    ("references", "prediction", "score"),
    [
        (["1234567"], "It is 1234567.", 1.0),
        (["1234567"], "It is 123456.", 0.0),
        (["1234567"], "", 0.0),
        (["ABCDE", "FGHIJ"], "abcde, then nothing", 0.5),
        (["stone", "river", "lamp", "road"], "Stone; RIVER; lamplight", 0.75),
    ],
)
def test_score(references: list[str], prediction: str, score: float) -> None:
    assert best_score("string_match_all", prediction, references) == score
    assert best_score("string_match_part", prediction, references) == float(score > 0)
    example = Example("id", "ruler/vt", "prompt", tuple(references), 30)
    assert make("vt").score(example, prediction) == {"score": score}
