"""RULER's question answering: what stands in the prompts, their lengths, disjoint splits and the score."""

import json
import re
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.tasks.base import Example, Split, content_id
from cokv_bench.tasks.made.draw import title_side
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.metrics import best_score
from cokv_bench.tasks.prompts import Encoding, encode_example, encode_parts
from cokv_bench.tasks.registry import TaskOptions, resolve
from cokv_bench.tasks.ruler import SUBTASKS, RulerTask
from cokv_bench.tasks.ruler.qa import Documents
from cokv_bench.tasks.ruler.qa.draft import shuffled
from cokv_bench.tasks.ruler.qa.shapes import hotpotqa, squad
from tests.tasks.test_ruler import Pieces, tokens

QA = ["qa_1", "qa_2"]
SPLITS: list[Split] = ["profile", "test", "report"]


def filler(*parts: int) -> str:
    """A sentence of 8 to 24 words that no other paragraph has."""
    return " ".join(f"w{i}of{'of'.join(map(str, parts))}" for i in range(8 + sum(parts) % 17)).capitalize() + "."


def squad_rows(articles: int = 40, paragraphs: int = 4) -> dict[str, Any]:
    """A value in SQuAD's shape; every paragraph has a question with two answers and one without any."""

    def paragraph(a: int, p: int) -> dict[str, Any]:
        context = f"{filler(a, p)} The mast of ship {a}x{p} is {a + 3} feet and {p} inches high. {filler(p, a, 1)}"
        answers = [f"{a + 3} feet and {p} inches", f"{a + 3} feet"]
        found = [{"text": text, "answer_start": context.index(text)} for text in [*answers, answers[0]]]
        return {
            "context": context,
            "qas": [
                {"question": f"How high is the mast of ship {a}x{p}?", "id": f"{a} {p}", "answers": found},
                {"question": f"Who built ship {a}x{p}?", "id": "", "is_impossible": True, "answers": []},
            ],
        }

    return {
        "version": "v2.0",
        "data": [
            {"title": f"Ship {a}", "paragraphs": [paragraph(a, p) for p in range(paragraphs)]} for a in range(articles)
        ],
    }


def hotpot_rows(questions: int = 240) -> list[dict[str, Any]]:
    """A value in HotpotQA's shape; every question has two golden paragraphs and three others."""

    def row(q: int) -> dict[str, Any]:
        golden = [
            [f"Film {q}", [f"Film {q} was made by Maker {q}.", f" {filler(q, 1)}"]],
            [f"Maker {q}", [filler(q, 2), f" Maker {q} was born in Town{q}ville."]],
        ]
        others = [[f"Thing {q}-{k}", [filler(q, k, 3), f" {filler(q, k, 4)}"]] for k in range(3)]
        return {
            "_id": str(q),
            "question": f"Where was the maker of Film {q} born?",
            "answer": f"Town{q}ville",
            "context": [others[0], golden[0], others[1], golden[1], others[2]],
            "supporting_facts": [[f"Film {q}", 0], [f"Maker {q}", 1], [f"Film {q}", 1]],
        }

    return [row(q) for q in range(questions)]


@cache
def documents() -> dict[str, Documents]:
    return {"qa_1": squad(squad_rows(), "file"), "qa_2": hotpotqa(hotpot_rows(), "file")}


def make(subtask: str, **options: Any) -> RulerTask:
    return RulerTask(subtask, Pieces(), encode_length=tokens, **{"examples": 3, "qa": documents(), **options})


def asked_of(example: Example) -> str:
    return example.prompt.rpartition("Question: ")[2]


def listed(example: Example) -> list[str]:
    """The documents of a prompt, which must be numbered from 1."""
    context = example.prompt.removesuffix(example.question)
    _, *found = re.split(r"(?:^|\n\n)Document (\d+):\n", context)
    assert found[::2] == [str(i) for i in range(1, len(found) // 2 + 1)]
    return found[1::2]


def golden_of(subtask: str, example: Example) -> tuple[str, ...]:
    questions = [question for side in documents()[subtask].questions.values() for question in side]
    (golden,) = [question.golden for question in questions if question.text == asked_of(example)]
    return golden


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize("length", [300, 700])
@pytest.mark.parametrize("subtask", QA)
def test_prompts_reach_the_length_and_never_exceed_it(subtask: str, length: int) -> None:
    task = make(subtask, lengths=(length,))
    assert (task.name, task.metric, task.version) == (f"ruler/{subtask}", "string_match_part", 1)
    paragraphs = [text for side in documents()[subtask].paragraphs.values() for text in side]
    longest = max(len(Pieces().encode(f"\n\nDocument 100:\n{text}")) for text in paragraphs)
    for example in task.examples("all"):
        assert length - longest < tokens(example.prompt) <= length
        assert example.id == content_id(example.prompt)
        assert example.fields == {"length": length, "subtask": subtask}
        assert (example.max_new_tokens, example.chat, example.truncate) == (32, True, False)
        assert example.prompt.endswith(example.question)


@pytest.mark.parametrize("subtask", QA)
def test_the_answer_stands_in_the_golden_documents_alone(subtask: str) -> None:
    for example in make(subtask, lengths=(550, 900), examples=8).examples("all"):
        shown, golden = listed(example), golden_of(subtask, example)
        assert len(shown) == len(set(shown)) > len(golden)
        assert set(golden) < set(shown)
        assert example.answers[0] in "\n".join(golden)
        for text in set(shown) - set(golden):
            assert not any(occurs(normalise(answer), normalise(text)) for answer in example.answers)


def test_the_answers_are_the_different_references() -> None:
    for example in make("qa_1", examples=5, lengths=(400,)).examples("test"):
        assert re.fullmatch(r"How high is the mast of ship \d+x\d+\?", asked_of(example))
        assert len(example.answers) == 2
        assert example.answers[0].startswith(example.answers[1] + " and ")
    for example in make("qa_2", examples=5, lengths=(400,)).examples("test"):
        (number,) = re.findall(r"\d+", asked_of(example))
        assert example.answers == (f"Town{number}ville",)


def test_golden_documents_stand_all_over() -> None:
    places = []
    for example in make("qa_1", lengths=(900,), examples=20).examples("test"):
        shown = listed(example)
        places.append(shown.index(golden_of("qa_1", example)[0]) / (len(shown) - 1))
    assert min(places) < 0.2
    assert max(places) > 0.8
    assert 0.3 < sum(places) / len(places) < 0.7


# ---------------------------------------------------------------- splits and seeds


@pytest.mark.parametrize("subtask", QA)
def test_two_splits_share_nothing(subtask: str) -> None:
    task = make(subtask, lengths=(500, 800), examples=8)
    sides = [task.examples(split) for split in SPLITS]
    assert task.examples("all") == [e for side in sides for e in side]
    for mine, theirs in combinations(sides, 2):
        assert len(mine) == len(theirs) == 16
        assert {asked_of(e) for e in mine}.isdisjoint(asked_of(e) for e in theirs)
        assert {text for e in mine for text in listed(e)}.isdisjoint(text for e in theirs for text in listed(e))
        assert {e.document for e in mine}.isdisjoint(e.document for e in theirs)
        assert len({e.id for e in mine + theirs}) == 32
    # Every length asks the same questions about the same paragraphs.
    assert all(len({e.document for e in side}) == len({asked_of(e) for e in side}) == 8 for side in sides)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1), st.booleans())
def test_no_file_is_dealt_to_both_splits(pairs: list[tuple[int, int]], one_title: bool) -> None:
    # Few titles, texts and questions, so that the same ones come again under other titles.
    paragraph = {"title": "", "paragraphs": []}
    rows = [
        {
            **paragraph,
            "title": "Title" if one_title else f"Title {a}",
            "paragraphs": [
                {"context": f"Text {b}.", "qas": [{"question": f"What {a}?", "answers": [{"text": "text"}]}]}
            ],
        }
        for a, b in pairs
    ]
    found = squad({"data": rows}, "file")
    held = [text for split in SPLITS for text in found.paragraphs[split]]
    assert len(set(held)) == len(held)
    texts = [question.text for split in SPLITS for question in found.questions[split]]
    assert len(set(texts)) == len(texts)
    for split in SPLITS:
        assert all(set(q.golden) <= set(found.paragraphs[split]) for q in found.questions[split])


def test_a_question_between_the_splits_is_left_out() -> None:
    found = documents()["qa_2"]
    for split in SPLITS:
        for question in found.questions[split]:
            titles = [text.partition("\n")[0] for text in question.golden]
            assert [title_side(title) for title in titles] == [split, split]
    assert 0.2 * 240 < sum(map(len, found.questions.values())) < 0.6 * 240
    assert sum(map(len, found.paragraphs.values())) == 240 * 5


@pytest.mark.parametrize("subtask", QA)
def test_seeds_reproduce_and_differ(subtask: str) -> None:
    first = make(subtask, lengths=(400, 600), seed=5).examples("all")
    assert make(subtask, lengths=(400, 600), seed=5).examples("all") == first
    assert {e.id for e in make(subtask, lengths=(400, 600), seed=6).examples("all")}.isdisjoint(e.id for e in first)
    # Neither other lengths nor more examples change an example, and every length asks the same questions.
    assert make(subtask, lengths=(600,), seed=5, examples=5).examples("test")[:3] == first[9:12]
    assert [asked_of(e) for e in first[6:9]] == [asked_of(e) for e in first[9:12]]
    assert len({asked_of(e) for e in first[6:9]}) == 3
    assert set(listed(first[6])) != set(listed(first[9]))


def test_the_draws_stay_what_they_are() -> None:
    """Runs of different machines and versions are compared, so a change here asks for a new version of the subtask."""
    made = [make(subtask, lengths=(500,), examples=1).examples("test")[0] for subtask in QA]
    assert [asked_of(example) for example in made] == [
        "How high is the mast of ship 28x2?",
        "Where was the maker of Film 72 born?",
    ]
    assert [example.id for example in made] == ["8f61571ec7564bef", "fd26006e6d2780e5"]


@given(st.lists(st.integers()), st.data())
def test_an_order_holds_every_item_once(items: list[int], data: st.DataObject) -> None:
    below: Callable[[int, int], int] = lambda n, _: data.draw(st.integers(0, n - 1))  # noqa: E731
    assert sorted(shuffled(items, below)) == sorted(items)


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("subtask", QA)
@pytest.mark.parametrize("split", SPLITS)
def test_a_file_fills_the_length_that_its_refusal_names(subtask: str, split: Split) -> None:
    with pytest.raises(
        RequestError, match=rf"more than the question file of the task 'ruler/{subtask}' can"
    ) as refused:
        make(subtask, lengths=(50_000,), examples=4).examples(split)
    (fills,) = re.findall(rf"for the {split} split make prompts of (\d+) tokens", str(refused.value))
    made = make(subtask, lengths=(int(fills),), examples=4).examples(split)
    assert max(tokens(example.prompt) for example in made) == int(fills)
    with pytest.raises(RequestError, match=f"ask for at most {fills}"):
        make(subtask, lengths=(int(fills) + 1,), examples=4).examples(split)


def test_more_examples_than_questions() -> None:
    has = len(documents()["qa_1"].questions["profile"])
    assert len(make("qa_1", lengths=(300,), examples=has).examples("profile")) == has
    with pytest.raises(RequestError, match=rf"has {has} questions for the profile split.*lower --examples"):
        make("qa_1", lengths=(300,), examples=has + 1).examples("profile")


@pytest.mark.parametrize("subtask", QA)
def test_a_length_that_the_golden_documents_exceed(subtask: str) -> None:
    with pytest.raises(RequestError, match=rf"Length 60 is too short for the task 'ruler/{subtask}'") as refused:
        make(subtask, lengths=(60,), examples=6).examples("test")
    (needs,) = re.findall(r"take up to (\d+) tokens", str(refused.value))
    assert len(make(subtask, lengths=(int(needs),), examples=6).examples("test")) == 6


def test_a_subtask_without_its_file() -> None:
    with pytest.raises(RequestError, match=r"'ruler/qa_1' needs.*SQuAD's shape.*--ruler-qa.*dev-v2\.0\.json at https"):
        make("qa_1", qa={"qa_2": documents()["qa_2"]})
    with pytest.raises(RequestError, match=r"HotpotQA's shape.*--ruler-qa.*hotpot_dev_distractor_v1\.json at https"):
        make("qa_2", qa=None)


def test_names_of_the_command_line(texty: Model, tmp_path: Path) -> None:
    one, two = tmp_path / "first.json", tmp_path / "second.json"
    one.write_text(json.dumps(hotpot_rows()))
    two.write_text(json.dumps(squad_rows()))
    options = TaskOptions(lengths=(1900,), limit=2, ruler_qa=(one, two))
    assert [task.name for task in resolve(["ruler"], texty, options)] == [f"ruler/{name}" for name in [*SUBTASKS, *QA]]
    only = TaskOptions(ruler_qa=(two,))
    assert [task.name for task in resolve(["ruler"], texty, only)][len(SUBTASKS) :] == ["ruler/qa_1"]
    assert [task.name for task in resolve(["ruler"], texty, TaskOptions())] == [f"ruler/{name}" for name in SUBTASKS]
    with pytest.raises(RequestError, match="'ruler/qa_2' needs a file"):
        resolve(["ruler/qa_2"], texty, only)
    for task in resolve(["ruler/qa_1", "ruler/qa_2"], texty, options):
        for example in task.examples("all"):
            apart = encode_parts(texty, example, Encoding(question_agnostic=True))
            assert apart.prompt + apart.question == encode_example(texty, example)
            assert len(apart.prompt + apart.question) <= 1900


@pytest.mark.parametrize(
    ("references", "prediction", "score"),
    [
        (["12 feet", "twelve feet"], "It is TWELVE FEET high.", 1.0),
        (["12 feet", "twelve feet"], "12 feet, that is twelve feet", 1.0),
        (["12 feet", "twelve feet"], "twelve", 0.0),
        (["town"], "Uptown", 1.0),
        (["town"], "", 0.0),
    ],
)
def test_score(references: list[str], prediction: str, score: float) -> None:
    assert best_score("string_match_part", prediction, references) == score
    example = Example("id", "ruler/qa_1", "prompt", tuple(references), 32)
    assert make("qa_1").score(example, prediction) == {"score": score}
