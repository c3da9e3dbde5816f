"""RULER: lengths, disjoint splits, seeds, names and bad requests, whatever the subtask."""

import re
from itertools import pairwise
from typing import Any

import pytest

from cokv_bench.catalogue import catalogue
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.tasks.base import Example, Split, Task, content_id
from cokv_bench.tasks.made.haystack import sentences
from cokv_bench.tasks.prompts import Encoding, encode_example, encode_parts
from cokv_bench.tasks.registry import TaskOptions, resolve
from cokv_bench.tasks.ruler import FROM_FILE, SUBTASKS, RulerTask, expand
from cokv_bench.tasks.ruler.material import Different, words

TEMPLATE = 20  # tokens that a chat template would add
SPLITS: tuple[Split, ...] = ("profile", "test", "report")
NEEDLE = re.compile(r"One of the secret (number|UUID)s of (\S+) is (\S+)\.")
NIAH = [name for name in SUBTASKS if name.startswith("niah")]

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


def parts_of(example: Example) -> tuple[str, str]:
    """The worked example, empty where there is none, and the context, without instructions and question."""
    before = example.prompt.removesuffix(example.question)
    shown, answer, rest = before.rpartition("\n\nAnswer: ")
    return shown + answer + rest.partition("\n\n")[0] if answer else "", (
        rest.partition("\n\n")[2] if answer else before
    ).partition("\n\n")[2]


def context_of(example: Example) -> str:
    return parts_of(example)[1]


@pytest.mark.parametrize("length", [700, 4500])
@pytest.mark.parametrize("subtask", SUBTASKS)
def test_prompts_reach_the_length_and_never_exceed_it(subtask: str, length: int) -> None:
    task: Task = make(subtask, lengths=(length,), examples=2)
    version = 2 if subtask in {"vt", "cwe"} else 1
    assert (task.name, task.metric, task.version) == (f"ruler/{subtask}", "string_match_all", version)
    for example in task.examples("all"):
        assert length - UNIT.get(subtask, 6) < tokens(example.prompt) <= length
        assert example.id == content_id(example.prompt)
        assert example.fields == {"length": length, "subtask": subtask}
        assert example.prompt.endswith(example.question)
        assert (example.task, example.chat, example.truncate) == (task.name, True, False)


def test_the_published_answer_lengths() -> None:
    lengths = {name: subtask.max_new_tokens for name, subtask in SUBTASKS.items()}
    assert lengths == {**dict.fromkeys(NIAH, 128), "vt": 30, "cwe": 120, "fwe": 50}


# ---------------------------------------------------------------- splits, seeds, lengths


def secrets(example: Example) -> set[str]:
    """Keys, values, variables and words of an example, a worked one before it included."""
    found = {text for _, key, value in NEEDLE.findall(example.prompt) for text in (key, value)}
    found |= {text for pair in re.findall(r"VAR ([A-Z]+) = (?:VAR )?(\w+)\.", example.prompt) for text in pair}
    if example.fields["subtask"] == "cwe":
        found |= set(re.findall(r"\d+\. (\S+)", example.prompt))
    if example.fields["subtask"] == "fwe":
        found |= set(context_of(example).split()) - {"..."}
    return found


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_two_splits_share_nothing(subtask: str) -> None:
    task = make(subtask, lengths=(700, 1500), examples=4)
    sides = [task.examples(split) for split in SPLITS]
    assert [len(side) for side in sides] == [8, 8, 8]
    whole = task.examples("all")
    assert whole == [example for side in sides for example in side]
    read = [{text for example in side for text in secrets(example)} for side in sides]
    assert all(set(e.answers) <= secrets(e) for e in whole)
    assert not read[0] & read[1]
    assert not read[2] & (read[0] | read[1])
    assert len({e.id for e in whole}) == len({e.document for e in whole}) == 24
    assert len({e.answers for e in whole}) == 24


def test_every_text_belongs_to_one_split() -> None:
    # Random values rarely meet by chance, so here both splits are offered the same few.
    mine, theirs = (Different(split, lambda i: str(i // 2)).first(100) for split in ("profile", "test"))
    assert len(set(mine)) == len(set(theirs)) == 100
    assert not set(mine) & set(theirs)


def test_splits_read_different_essays() -> None:
    task = make("niah_single_2", lengths=(3000,))
    read = [
        {s.strip() for e in task.examples(split) for s in sentences(NEEDLE.sub("", context_of(e)))[:-1]}
        for split in SPLITS
    ]
    assert all(read)
    assert not read[0] & read[1]
    assert not read[2] & (read[0] | read[1])


def test_no_word_of_the_report_is_a_form_of_another_splits() -> None:
    others = {*words("profile"), *words("test")}
    assert not [(a, b) for a in words("report") for b in others if a.startswith(b) or b.startswith(a)]


@pytest.mark.parametrize("split", SPLITS)
def test_the_word_list_is_long_and_without_inflections(split: Split) -> None:
    listed = words(split)
    assert len(listed) > 600
    assert all(re.fullmatch(r"[a-z]{4,}", word) for word in listed)
    assert not any(b.startswith(a) for a, b in pairwise(listed))


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_seeds_reproduce_and_differ(subtask: str) -> None:
    first = make(subtask, lengths=(700, 900), seed=5).examples("all")
    assert make(subtask, lengths=(700, 900), seed=5).examples("all") == first
    assert {e.id for e in make(subtask, lengths=(700, 900), seed=6).examples("all")}.isdisjoint(e.id for e in first)
    # Neither other lengths nor more examples change an example.
    assert make(subtask, lengths=(900,), seed=5, examples=5).examples("test")[:3] == first[9:12]


def test_the_draws_stay_what_they_are() -> None:
    """Runs of different machines and versions are compared, so a change here asks for a new version of the task."""
    (vt,) = make("vt", examples=1).examples("test")
    (niah,) = make("niah_multikey_3", examples=1).examples("test")
    (cwe,) = make("cwe", examples=1).examples("test")
    assert (vt.id, cwe.id) == ("6977655bbb5e0342", "530b5599144e8b45")
    assert vt.answers == ("QIDMU", "UZTDP", "OUMUZ", "TWIIJ", "MHZYF")
    assert niah.answers == ("65c22aef-d6c1-4e1d-8ac2-d5ee9aebfc38",)


# ---------------------------------------------------------------- names and bad requests


def test_names_of_the_command_line(texty: Model) -> None:
    options = TaskOptions(lengths=(1600,), limit=2, seed=3)
    tasks = resolve(["ruler/vt", "ruler"], texty, options)
    assert sorted(task.name for task in tasks) == sorted(f"ruler/{name}" for name in SUBTASKS)
    assert tasks[0].name == "ruler/vt"
    for example in tasks[0].examples("all"):
        assert 1600 - 30 < len(encode_example(texty, example)) <= 1600
    assert len(tasks[0].examples("test")) == 2
    assert len(resolve(["ruler/vt"], texty, TaskOptions(lengths=(1000,)))[0].examples("test")) == 10
    listed = catalogue("tasks")
    assert {"ruler", *(f"ruler/{name}" for name in [*SUBTASKS, *FROM_FILE])} <= set(listed)
    assert all("from your file" in listed[f"ruler/{name}"] for name in FROM_FILE)


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_the_question_can_be_kept_apart(texty: Model, subtask: str) -> None:
    (task,) = resolve([f"ruler/{subtask}"], texty, TaskOptions(lengths=(1900,), examples=1))
    (example,) = task.examples("test")
    apart = encode_parts(texty, example, Encoding(question_agnostic=True))
    assert apart.prompt + apart.question == encode_example(texty, example)
    assert len(apart.question) == len(example.question) + 1  # A token a byte, and the end of the template.


def test_bad_requests(texty: Model) -> None:
    with pytest.raises(RequestError, match=r"'ruler/niah_singel_1'; did you mean ruler/niah_single_1"):
        resolve(["ruler/niah_singel_1"], texty, TaskOptions())
    with pytest.raises(RequestError, match="did you mean ruler"):
        resolve(["rulr"], texty, TaskOptions())
    with pytest.raises(RequestError, match="Unknown task 'ruler/'"):
        expand("ruler/", {})
    with pytest.raises(RequestError, match="'ruler/vt' has no length"):
        make("vt", lengths=())
    with pytest.raises(RequestError, match="asked for 0 tokens per prompt"):
        make("vt", lengths=(100, 0))
    with pytest.raises(RequestError, match="asked for 0 examples"):
        make("vt", examples=0)


@pytest.mark.parametrize("subtask", SUBTASKS)
def test_a_length_that_the_shortest_prompt_exceeds(subtask: str) -> None:
    with pytest.raises(
        RequestError, match=rf"Length 60 is too short for the task 'ruler/{subtask}'.*take up to \d+ tokens"
    ):
        make(subtask, lengths=(60,)).examples("test")
