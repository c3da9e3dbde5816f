"""Recall: lengths, splits that share nothing, answers that stand where they should, scores, names."""

import hashlib
import re
from itertools import pairwise
from typing import Any

import pytest

from cokv_bench.catalogue import catalogue
from cokv_bench.errors import RequestError
from cokv_bench.models import Model, encode_answer
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.haystack import read_documents, sentences
from cokv_bench.tasks.made.words import normalise
from cokv_bench.tasks.prompts import Encoding, encode_example, encode_parts
from cokv_bench.tasks.recall.family import RECALL
from cokv_bench.tasks.recall.genres import GENRES
from cokv_bench.tasks.recall.score import METRICS
from cokv_bench.tasks.recall.subtasks import SUBTASKS
from cokv_bench.tasks.recall.task import RecallTask
from cokv_bench.tasks.registry import TaskOptions, resolve

TEMPLATE = 20  # tokens that a chat template would add
SPLITS: tuple[Split, ...] = ("profile", "test", "report")
# Pieces that one more unit of text has at most: a sentence of an essay, a function of code.
UNIT = 130
ALL = list(SUBTASKS)


class Pieces:
    """A tokenizer whose tokens are pieces of words, at most four letters long, with the gap before them."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [len(piece) for piece in re.findall(r"\s*\S{1,4}", text)]


def bare(text: str) -> int:
    return len(Pieces().encode(text))


def tokens(text: str) -> int:
    return TEMPLATE + bare(text)


def make(name: str, **options: Any) -> RecallTask:
    return RecallTask(name, Pieces(), encode_length=tokens, bare_length=bare, **{"examples": 6, **options})


def length_of(example: Example) -> int:
    return (tokens if example.chat else bare)(example.prompt)


def context_of(example: Example) -> str:
    return example.prompt.removesuffix(example.question)


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize("length", [512, 2048])
@pytest.mark.parametrize("name", ALL)
def test_prompts_reach_the_length_and_never_exceed_it(name: str, length: int) -> None:
    task = make(name, lengths=(length,))
    assert (task.name, task.metric, task.version) == (f"recall/{name}", SUBTASKS[name].metric, 1)
    for example in task.examples("all"):
        assert length - UNIT < length_of(example) <= length
        assert example.id == content_id(example.prompt)
        assert example.fields["length"] == length
        assert example.max_new_tokens == SUBTASKS[name].max_new_tokens
        assert example.prompt.endswith(example.question)
        assert example.question.strip()


@pytest.mark.parametrize("name", ALL)
def test_a_length_that_the_shortest_prompt_exceeds(name: str) -> None:
    with pytest.raises(RequestError, match=rf"Length 12 is too short for the task 'recall/{name}'.*up to \d+ tokens"):
        make(name, lengths=(12,)).examples("test")


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("name", [name for name in ALL if name != "labels"])
def test_the_answer_stands_in_the_text_once(name: str) -> None:
    for example in make(name, lengths=(900,), examples=20).examples("all"):
        text = f" {normalise(context_of(example))} ".replace(" ", "  ")
        values = example.answers[-1].split(", ") if name == "several" else [example.answers[-1]]
        assert [text.count(f" {normalise(value)} ".replace(" ", "  ")) for value in values] == [1] * len(values)


def test_the_asked_label_was_seen_and_nobody_is_told_it_at_the_end() -> None:
    chances = []
    for example in make("labels", lengths=(900,), examples=20).examples("all"):
        assert example.all_classes
        assert example.answers[0] in example.all_classes
        if example.fields["kind"] == "label":
            assert len(example.all_classes) >= 4
            # The subject of the last text has its label three times.
            assert sum(context_of(example).count(f" {label}") > 0 for label in example.all_classes) > 1
            assert example.answers[0] in context_of(example)
            assert not any(example.question.rstrip().endswith(label) for label in example.all_classes)
        else:
            assert len(example.all_classes) == 2
            assert all(each in example.question for each in example.all_classes)
            chances.append(example.answers[0] == example.all_classes[0])
    assert 0.2 < sum(chances) / len(chances) < 0.8


@pytest.mark.parametrize("name", ALL)
def test_right_and_wrong_answers(name: str) -> None:
    task = make(name, lengths=(600,), examples=8)
    examples = task.examples("test")
    for example, other in pairwise(examples):
        assert all(task.score(example, answer)["score"] == 1.0 for answer in example.answers)
        assert task.score(example, "")["score"] == 0.0
        assert task.score(example, "I do not know.")["score"] < 0.5
        if example.all_classes:
            assert task.score(example, " and ".join(example.all_classes))["score"] <= 0.5
        elif name not in ("code", "quotes"):
            assert task.score(example, f"It is {example.answers[-1]}, I think.\n\nNext")["score"] == 1.0
            assert task.score(example, other.answers[-1])["score"] < 1.0


def test_scores_by_hand() -> None:
    def score(metric: str, prediction: str, *answers: str, classes: tuple[str, ...] | None = None) -> float:
        return METRICS[metric](Example("id", "t", "p", answers, 8, all_classes=classes), prediction)

    assert score("found", "It was 48,213.", "48213") == 1.0
    assert score("found", "It was 482134.", "48213") == 0.0
    assert score("found", "lives in Ashcombe", "Ada Lee. Ada Lee lives in Ashcombe", "Ashcombe") == 1.0
    assert score("share_found", "Redmire and Pendry", "Pendry, Saltburn, Redmire, Eskwater") == 0.5
    assert score("qa_f1", '\n"Only the cook knew."\nAnd then', "Only the cook knew.") == 1.0
    assert score("code_sim", "\n    x = 1\n    y = 2", "\n    x = 1") == 1.0
    assert score("classification", " chess\nText: opera", "chess", classes=("chess", "opera")) == 1.0
    assert score("classification", "chess or opera", "chess", classes=("chess", "opera")) == 0.5


# ---------------------------------------------------------------- splits, seeds, variety


def shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.casefold())
    return {" ".join(words[i : i + 8]) for i in range(len(words) - 7)}


@pytest.mark.parametrize("name", ALL)
def test_two_splits_share_nothing(name: str) -> None:
    task = make(name, lengths=(700, 1500), examples=12)
    sides = [task.examples(split) for split in SPLITS]
    assert task.examples("all") == [example for side in sides for example in side]
    # Eight words in a row are a wording or an essay, whatever stands in its slots.
    read = [{each for example in side for each in shingles(example.prompt)} for side in sides]
    answered = [
        {each for example in side for answer in example.answers for each in answer.split(", ")} for side in sides
    ]
    for found in (read, answered):
        assert not found[0] & found[1]
        assert not found[2] & (found[0] | found[1])
    whole = [example for side in sides for example in side]
    assert len({example.id for example in whole}) == len({example.document for example in whole}) == 72


def test_splits_read_different_essays() -> None:
    every = {sentence.strip() for document in read_documents() for sentence in sentences(document.text)}
    read = []
    for split in SPLITS:
        made = [
            e for e in make("phrases", lengths=(1500,), examples=40).examples(split) if e.fields["genre"] == "essays"
        ]
        read.append({s.strip() for e in made for s in sentences(context_of(e))})
    assert all(len(side) > 20 for side in read)
    assert read[0] & every
    assert read[1] & every
    assert not read[0] & read[1]
    assert not read[2] & (read[0] | read[1])


def test_genres_kinds_chat_and_places_vary() -> None:
    made = [e for name in ("numbers", "phrases") for e in make(name, lengths=(512,), examples=100).examples("profile")]
    assert {e.fields["genre"] for e in made} == set(GENRES)
    assert len({e.fields["kind"] for e in made}) == 14
    assert 0.25 < sum(e.chat for e in made) / len(made) < 0.55
    depths = sorted(e.fields["depth"] for e in made)
    assert depths[20] < 20
    assert depths[-20] > 80
    assert 40 < sum(depths) / len(depths) < 60
    # No instruction and no question of an example stands there for many others.
    assert len({e.prompt.split("\n")[0] for e in made}) > 100
    assert len({re.sub(r"[A-Z0-9]\w*", "", e.question) for e in made}) > 120


@pytest.mark.parametrize("name", ALL)
def test_seeds_reproduce_and_differ(name: str) -> None:
    first = make(name, lengths=(600, 800), seed=5).examples("all")
    assert make(name, lengths=(600, 800), seed=5).examples("all") == first
    assert {e.id for e in make(name, lengths=(600, 800), seed=6).examples("all")}.isdisjoint(e.id for e in first)
    # Neither other lengths nor more examples change an example.
    assert make(name, lengths=(800,), seed=5, examples=9).examples("test")[:6] == first[18:24]


def test_the_draws_stay_what_they_are() -> None:
    """Runs of different machines and versions are compared, so a change here asks for a new version of the task."""
    digests = {}
    for name in ALL:
        made = make(name, lengths=(600,), examples=3).examples("test")
        told = "\0".join(text for e in made for text in (e.prompt, *e.answers, str(e.chat)))
        digests[name] = hashlib.sha256(told.encode()).hexdigest()[:12]
    assert digests == {
        "numbers": "4859e4548c82",
        "phrases": "10a3bdff1d4a",
        "quotes": "c58183f22cde",
        "several": "d47e558deb29",
        "code": "14e3b9d34efd",
        "tables": "7134deb65398",
        "lists": "fe8e0229cb6e",
        "dialogue": "247b7ae47db1",
        "steps": "8c3610833494",
        "labels": "d506350e7ded",
    }


# ---------------------------------------------------------------- names, models


def test_names_of_the_command_line(texty: Model) -> None:
    tasks = resolve(["recall/code", "recall"], texty, TaskOptions(lengths=(1500,), limit=2, seed=3))
    assert sorted(task.name for task in tasks) == sorted(f"recall/{name}" for name in ALL)
    for task in tasks:
        for example in task.examples("test"):
            assert 1500 - 500 < len(encode_example(texty, example)) <= 1500
    listed = catalogue("tasks")
    assert {"recall", *(f"recall/{name}" for name in ALL)} <= set(listed)
    size = RECALL.size("recall/several", TaskOptions(lengths=(512, 1024)), "profile", None)
    assert (size.examples, size.new_tokens, size.lengths) == (10, 64, (512, 1024))
    assert RECALL.length("recall/several") == "length"
    with pytest.raises(RequestError, match="did you mean recall/quotes"):
        resolve(["recall/quote"], texty, TaskOptions())
    with pytest.raises(RequestError, match="asked for 0 examples"):
        make("code", examples=0)


@pytest.mark.parametrize("name", ALL)
def test_the_question_can_be_kept_apart(texty: Model, name: str) -> None:
    (task,) = resolve([f"recall/{name}"], texty, TaskOptions(lengths=(1500,), examples=4))
    for example in task.examples("test"):
        apart = encode_parts(texty, example, Encoding(question_agnostic=True))
        assert apart.prompt + apart.question == encode_example(texty, example)
        # A token a byte, and the end of the template.
        assert len(apart.question) == len(example.question.encode()) + example.chat


@pytest.mark.parametrize("name", ALL)
def test_the_reference_goes_on_where_the_prompt_ends(texty: Model, name: str) -> None:
    """A line, row or sentence that is begun again has, once the reference is joined to it, the text's own signs."""
    (task,) = resolve([f"recall/{name}"], texty, TaskOptions(lengths=(1500,), examples=12))
    again = 0
    for example in task.examples("test"):
        ids = encode_answer(texty, example.prompt, example.answers[0], chat=example.chat)
        joined = example.question + texty.text_tokenizer.decode(ids)
        last = joined.rstrip().rsplit("\n", 1)[-1].strip()
        again += not example.chat and last in context_of(example)
    assert again >= (3 if name in ("code", "tables", "lists", "dialogue") else 0)
