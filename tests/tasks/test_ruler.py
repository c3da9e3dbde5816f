"""RULER: what stands in the prompts, their lengths, disjoint splits and the score."""

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from cokv_bench.catalogue import catalogue
from cokv_bench.errors import RequestError
from cokv_bench.kvcache import Selection, decode, prefill
from cokv_bench.models import Model
from cokv_bench.tasks.base import Example, Split, Task, content_id
from cokv_bench.tasks.needle.haystack import read_documents, sentences
from cokv_bench.tasks.prompts import encode_example
from cokv_bench.tasks.registry import TaskOptions, resolve
from cokv_bench.tasks.ruler import SUBTASKS, RulerTask, expand
from cokv_bench.tasks.ruler.counting import frequencies, n_draws
from cokv_bench.tasks.ruler.fit import most_units
from cokv_bench.tasks.ruler.material import Different, words
from cokv_bench.tasks.ruler.score import string_match_all

TEMPLATE = 20  # tokens that a chat template would add
NEEDLE = re.compile(r"One of the secret (number|UUID)s of (\S+) is (\S+)\.")
NIAH = [name for name in SUBTASKS if name.startswith("niah")]
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

# One more unit of context has at most so many pieces: a noise sentence, a word of an essay, a needle, and three
# entries of a numbered list (cwe). A draw more (fwe) can raise several ranks at once.
UNIT = {
    "niah_single_1": 6,
    "niah_multikey_2": 18,
    "niah_multikey_3": 32,
    "vt": 6,
    "cwe": 24,
    "fwe": 12,
}


class Pieces:
    """A tokenizer whose tokens are pieces of words, at most four letters long, with the gap before them."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [len(piece) for piece in re.findall(r"\s*\S{1,4}", text)]


def tokens(text: str) -> int:
    return TEMPLATE + len(Pieces().encode(text))


def make(subtask: str, **options: Any) -> RulerTask:
    return RulerTask(subtask, Pieces(), encode_length=tokens, **{"examples": 3, **options})


def context_of(example: Example) -> str:
    return example.prompt.partition("\n\n")[2].rpartition("\n\n")[0]


def question_of(example: Example) -> str:
    return example.prompt.rpartition("\n\n")[2]


@pytest.mark.parametrize("length", [700, 4500])
@pytest.mark.parametrize("subtask", SUBTASKS)
def test_prompts_reach_the_length_and_never_exceed_it(subtask: str, length: int) -> None:
    task: Task = make(subtask, lengths=(length,), examples=2)
    assert (task.name, task.metric, task.version) == (f"ruler/{subtask}", "string_match_all", 1)
    for example in task.examples("all"):
        assert length - UNIT.get(subtask, 6) < tokens(example.prompt) <= length
        assert example.id == content_id(example.prompt)
        assert example.fields == {"length": length, "subtask": subtask}
        assert (example.task, example.chat, example.truncate) == (task.name, True, False)


def test_the_published_answer_lengths() -> None:
    lengths = {name: subtask.max_new_tokens for name, subtask in SUBTASKS.items()}
    assert lengths == {**dict.fromkeys(NIAH, 128), "vt": 30, "cwe": 120, "fwe": 50}


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
        wanted = [key for key in counts if key in question_of(example)]
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
        asked = re.search(r"\d{5}", question_of(example))
        assert asked
        assert tuple(order) == example.answers
        assert len(set(order)) == 5
        assert set(held.values()) == {asked[0]}


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


# ---------------------------------------------------------------- splits, seeds, lengths


def secrets(example: Example) -> set[str]:
    """Keys, values, variables and words of an example."""
    context = context_of(example)
    found = {text for _, key, value in NEEDLE.findall(context) for text in (key, value)}
    found |= {text for pair in re.findall(r"VAR ([A-Z]+) = (?:VAR )?(\w+)\.", context) for text in pair}
    if example.fields["subtask"] == "cwe":
        found |= set(re.findall(r"\d+\. (\S+)", context))
    if example.fields["subtask"] == "fwe":
        found |= set(context.split()) - {"..."}
    return found


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_profile_and_test_share_nothing(subtask: str) -> None:
    task = make(subtask, lengths=(700, 1500), examples=4)
    mine, theirs = task.examples("profile"), task.examples("test")
    assert len(mine) == len(theirs) == 8
    assert task.examples("all") == mine + theirs
    read = [{text for example in side for text in secrets(example)} for side in (mine, theirs)]
    assert all(set(e.answers) <= secrets(e) for e in mine + theirs)
    assert not read[0] & read[1]
    assert len({e.id for e in mine + theirs}) == 16
    assert len({e.answers for e in mine + theirs}) == 16


def test_every_text_belongs_to_one_split() -> None:
    # Random values rarely meet by chance, so here both splits are offered the same few.
    mine, theirs = (Different(split, lambda i: str(i // 2)).first(100) for split in ("profile", "test"))
    assert len(set(mine)) == len(set(theirs)) == 100
    assert not set(mine) & set(theirs)


def test_profile_and_test_read_different_essays() -> None:
    task = make("niah_single_2", lengths=(3000,))
    read = [
        {s.strip() for e in task.examples(split) for s in sentences(NEEDLE.sub("", context_of(e)))[:-1]}
        for split in ("profile", "test")
    ]
    assert all(read)
    assert not read[0] & read[1]


@pytest.mark.parametrize("split", ["profile", "test"])
def test_the_word_list_is_long_and_without_inflections(split: Split) -> None:
    listed = words(split)
    assert len(listed) > 600
    assert all(re.fullmatch(r"[a-z]{4,}", word) for word in listed)
    assert not any(b.startswith(a) for a, b in pairwise(listed))


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_seeds_reproduce_and_differ(subtask: str) -> None:
    first = make(subtask, lengths=(600, 800), seed=5).examples("all")
    assert make(subtask, lengths=(600, 800), seed=5).examples("all") == first
    assert {e.id for e in make(subtask, lengths=(600, 800), seed=6).examples("all")}.isdisjoint(e.id for e in first)
    # Neither other lengths nor more examples change an example.
    assert make(subtask, lengths=(800,), seed=5, examples=5).examples("test")[:3] == first[9:]


def test_the_draws_stay_what_they_are() -> None:
    """Runs of different machines and versions are compared, so a change here asks for a new version of the task."""
    (vt,) = make("vt", examples=1).examples("test")
    (niah,) = make("niah_multikey_3", examples=1).examples("test")
    assert vt.answers == ("QIDMU", "UZTDP", "OUMUZ", "TWIIJ", "MHZYF")
    assert niah.answers == ("65c22aef-d6c1-4e1d-8ac2-d5ee9aebfc38",)


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
    assert string_match_all(prediction, references) == score
    example = Example("id", "ruler/vt", "prompt", tuple(references), 30)
    assert make("vt").score(example, prediction) == {"score": score}


# ---------------------------------------------------------------- names and bad requests


def test_names_of_the_command_line(texty: Model) -> None:
    options = TaskOptions(lengths=(1600,), limit=2, seed=3)
    tasks = resolve(["ruler/vt", "ruler"], texty, options)
    assert sorted(task.name for task in tasks) == sorted(f"ruler/{name}" for name in SUBTASKS)
    assert tasks[0].name == "ruler/vt"
    for example in tasks[0].examples("all"):
        assert 1600 - 30 < len(encode_example(texty, example)) <= 1600
    assert len(tasks[0].examples("test")) == 2
    assert len(resolve(["ruler/vt"], texty, TaskOptions(lengths=(700,)))[0].examples("test")) == 10
    assert {"ruler", *(f"ruler/{name}" for name in SUBTASKS)} <= set(catalogue("tasks"))


def test_bad_requests(texty: Model) -> None:
    with pytest.raises(RequestError, match=r"'ruler/niah_singel_1'; did you mean ruler/niah_single_1"):
        resolve(["ruler/niah_singel_1"], texty, TaskOptions())
    with pytest.raises(RequestError, match="did you mean ruler"):
        resolve(["rulr"], texty, TaskOptions())
    with pytest.raises(RequestError, match="Unknown task 'ruler/'"):
        expand("ruler/")
    with pytest.raises(RequestError, match="'ruler/vt' has no length"):
        make("vt", lengths=())
    with pytest.raises(RequestError, match="asked for 0 tokens a prompt"):
        make("vt", lengths=(100, 0))
    with pytest.raises(RequestError, match="asked for 0 examples"):
        make("vt", examples=0)


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_a_length_that_the_shortest_prompt_exceeds(subtask: str) -> None:
    with pytest.raises(RequestError, match=rf"Length 60 is too short for the task 'ruler/{subtask}'.*takes \d+ tokens"):
        make(subtask, lengths=(60,)).examples("test")


@pytest.mark.model
def test_the_embedded_model_finds_needles_with_the_full_cache(embedded: Model) -> None:
    (task,) = resolve(["ruler/niah_single_1"], embedded, TaskOptions(lengths=(512,), examples=4))
    found = []
    for example in task.examples("test"):
        prompt = prefill(embedded, encode_example(embedded, example), accumulated_attention=False)
        full = Selection.full(prompt.layers, prompt.kv_heads, prompt.tokens)
        answer = decode(embedded, prompt, [full], max_new_tokens=24)[0]
        found.append(task.score(example, answer.text)["score"])
    assert sum(found) >= 3
