"""Needle in a Haystack: lengths, depths, examples, the haystack's text and the score."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import Example, Task, content_id
from cokv_bench.tasks.made.haystack import Haystack, deal, read_documents, sentences
from cokv_bench.tasks.made.words import normalise, occurs
from cokv_bench.tasks.needle.insert import insert
from cokv_bench.tasks.needle.task import NeedleTask, depths_of, request
from tests.tasks.made_needles import (
    PACKAGED,
    SHARED_HAYSTACK,
    SPLITS,
    TEMPLATE,
    Pieces,
    context_of,
    make,
    needle_of,
    tokens,
)

# ---------------------------------------------------------------- lengths and depths


@pytest.mark.parametrize("length", [128, 500, 1024, 3000])
def test_prompts_reach_the_length_and_never_exceed_it(length: int) -> None:
    for example in make(lengths=(length,), depths=5).examples("all"):
        measured = TEMPLATE + tokens(example.prompt)
        # One more word would not fit, and no word of the essays has more than five pieces.
        assert length - 6 <= measured <= length
        assert example.fields["length"] == length
        assert not example.truncate
        assert example.chat


def test_a_text_too_short_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("A first short sentence. A second one, a bit longer! And a third?")
    (example,) = make(lengths=(400,), depths=1, haystack=tmp_path).examples("test")
    assert 400 - 6 <= TEMPLATE + tokens(example.prompt) <= 400
    assert example.prompt.count("A second one, a bit longer!") > 5


@pytest.mark.parametrize("length", [600, 2000])
def test_needles_stand_at_the_sentence_end_before_the_asked_depth(length: int) -> None:
    examples = make(lengths=(length,), depths=11).examples("test")
    assert [example.fields["depth"] for example in examples] == [10.0 * i for i in range(11)]
    for example in examples:
        needle, context, depth = needle_of(example), context_of(example), example.fields["depth"]
        before, _, after = context.partition(needle)
        before, after = before.rstrip(), after.lstrip()
        total = tokens(before) + tokens(after)
        assert not before or re.search(r"[.!?][\"')]?$", before)
        assert tokens(before) <= total * depth / 100 + 1
        if depth == 0:
            assert not before
        elif depth == 100:
            assert not after
        else:  # the next sentence end lies beyond the depth, so no nearer place was passed by
            following = re.split(r"(?<=[.!?])[\"')]?\s", after, maxsplit=1)[0]
            assert tokens(before) + tokens(following) >= total * depth / 100 - 1
        assert example.fields["placed"] == pytest.approx(100 * tokens(before) / total, abs=0.5)


def test_insert_by_hand() -> None:
    text, counts = ["One two.", " Three four.", "\n\nFive six."], [2, 2, 2]

    def placed(sentences: list[str], counts: list[int], needle: str, depth: float) -> tuple[str, float]:
        text, (place,) = insert(sentences, counts, [(needle, depth)])
        return text, place

    assert placed(text, counts, "X.", 0) == ("X. One two. Three four.\n\nFive six.", 0.0)
    assert placed(text, counts, "X.", 33)[0].startswith("X. One")
    assert placed(text, counts, "X.", 34)[0] == "One two. X. Three four.\n\nFive six."
    assert placed(text, counts, "X.", 70) == ("One two. Three four. X.\n\nFive six.", pytest.approx(66.67, abs=0.01))
    assert placed(text, counts, "X.", 100) == ("One two. Three four.\n\nFive six. X.", 100.0)
    assert placed(["A b.", " C d."], [2, 2], "X.", 50)[0] == "A b. X. C d."
    assert placed([], [], "X.", 50) == ("X.", 0.0)


def test_depth_grids() -> None:
    assert depths_of(1, None) == [50.0]
    assert depths_of(5, None) == [0.0, 25.0, 50.0, 75.0, 100.0]
    assert depths_of(10, None)[3] == pytest.approx(100 * 3 / 9, abs=0.01)
    assert depths_of(3, 7) == [0.0, 50.0, 100.0, 0.0, 50.0, 100.0, 0.0]
    assert depths_of(11, 3) == [0.0, 50.0, 100.0]
    assert depths_of(11, 1) == [50.0]
    assert depths_of(10, 4) == sorted(set(depths_of(10, 4)))
    assert len(depths_of(10, 4)) == 4


# ---------------------------------------------------------------- examples


def test_the_task_is_a_task_and_ids_follow_the_content() -> None:
    task: Task = make(depths=2)
    assert (task.name, task.metric, task.version) == ("needle", "found", 1)
    for example in task.examples("all"):
        assert example.id == content_id(example.prompt)
        assert example.task == "needle"
        assert set(example.fields) == {"length", "depth", "placed", "needle", "family", "kind"}
        assert example.prompt.endswith(example.question)
        assert example.question.startswith(request("").rstrip())


def test_two_splits_share_no_needle_answer_or_sentence() -> None:
    task = make(lengths=(300, 600), depths=6, examples=12)
    sides = [task.examples(split) for split in SPLITS]
    assert task.examples("all") == [example for side_ in sides for example in side_]
    for mine, theirs in combinations(sides, 2):
        assert len(mine) == len(theirs) == 24
        assert not {e.id for e in mine} & {e.id for e in theirs}
        assert not {e.document for e in mine} & {e.document for e in theirs}
        assert not {a for e in mine for a in e.answers} & {a for e in theirs for a in e.answers}
        read = [{s.strip() for e in side_ for s in sentences(context_of(e))[1:-1]} for side_ in (mine, theirs)]
        assert not read[0] & read[1]
    assert all(e.document == e.fields["needle"] for side_ in sides for e in side_)


def test_files_are_dealt_to_the_splits(tmp_path: Path) -> None:
    names = {split: {d.name for d in dealt} for split, dealt in deal().items()}
    assert not names["profile"] & names["test"]
    assert names["profile"] | names["test"] == {d.name for d in PACKAGED}
    assert abs(len(names["profile"]) - len(names["test"])) <= 1
    for count, expected in {
        1: {"profile": "a", "test": "a", "report": "a"},
        2: {"profile": "b", "test": "a", "report": "a"},
        3: {"profile": "b", "test": "a", "report": "c"},
        7: {"profile": "bdf", "test": "ae", "report": "cg"},
    }.items():
        folder = tmp_path / str(count)
        folder.mkdir()
        for name in "abcdefg"[:count]:
            (folder / f"{name}.txt").write_text("Only this.")
        assert {split: "".join(d.name[0] for d in dealt) for split, dealt in deal(folder).items()} == expected


def test_every_example_has_its_own_needle_and_beginning() -> None:
    examples = make(lengths=(300, 301, 1000), depths=5, examples=30).examples("test")
    assert len({e.fields["needle"] for e in examples}) == len(examples) == 90
    beginnings = Counter(e.prompt[:60] for e in examples if e.fields["depth"] > 0)
    assert max(beginnings.values()) <= 3


def test_a_length_does_not_depend_on_the_others() -> None:
    both = make(lengths=(300, 500), depths=3).examples("test")
    assert both[3:] == make(lengths=(500,), depths=3).examples("test")
    assert {e.id for e in both}.isdisjoint(e.id for e in make(lengths=(300, 500), depths=3, seed=1).examples("test"))


def test_the_same_in_every_process() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import made_needles as t; "
        "print([e.id for e in t.make(lengths=(200, 300), depths=4).examples('all')])"
    )
    here = str(Path(__file__).parents[1])
    printed = {
        subprocess.run(
            [sys.executable, "-c", program, here],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {str([e.id for e in make(lengths=(200, 300), depths=4).examples("all")]) + "\n"}


# ---------------------------------------------------------------- the haystack's text


def test_sentences_keep_every_word_and_both_gaps() -> None:
    text = 'He said "Go." Then he\nwent! Did he? Yes.\n\n  A heading\n\nThe end, No.3.'
    found = sentences(text)
    assert found == ['\n\nHe said "Go."', " Then he went!", " Did he?", " Yes.", "\n\nA heading", "\n\nThe end, No.3."]
    for document in PACKAGED:
        assert "".join(sentences(document.text)).split() == document.text.split()
    assert sentences("他来了。她走了！好吗？") == ["\n\n他来了。", " 她走了！", " 好吗？"]


def test_every_cut_ends_with_a_sentence() -> None:
    haystack = Haystack(PACKAGED[:2], Pieces())
    stretch = haystack.stretch(3, 200)
    whole = "".join(stretch.cut(stretch.n_words)[0])
    for n_words in range(1, stretch.n_words + 1):
        texts, counts = stretch.cut(n_words)
        text = "".join(texts)
        assert len(text.split()) == n_words
        assert whole.startswith(text.rstrip(".!?\"'"))
        assert re.search(r"[.!?][\"')]?$", text)
        assert sum(counts) == pytest.approx(tokens(text), abs=2)
    assert stretch.cut(0) == ([], [])


@pytest.mark.skipif(not SHARED_HAYSTACK.is_dir(), reason="the published essays are not beside the project")
def test_the_published_essays_as_a_users_folder() -> None:
    documents = read_documents(SHARED_HAYSTACK)
    assert len(documents) > 10
    text = normalise(" ".join(document.text for document in documents))
    for example in make(lengths=(1000,), depths=10, haystack=SHARED_HAYSTACK).examples("all"):
        assert 1000 - 20 <= TEMPLATE + tokens(example.prompt) <= 1000
        assert not occurs(normalise(example.answers[0]), text)
        assert abs(example.fields["placed"] - example.fields["depth"]) < 25


@pytest.mark.parametrize("between", [" and ", "和"])
def test_needles_whose_answer_stands_in_the_users_text_are_passed_by(tmp_path: Path, between: str) -> None:
    names = [e.answers[0] for e in make(lengths=(200,), depths=10).examples("test")]
    (tmp_path / "a.txt").write_text(between.join(["Here are some words. ", *names, "."]), encoding="utf-8")
    others = make(lengths=(200,), depths=10, haystack=tmp_path).examples("test")
    assert len(others) == 10
    assert not {a for e in others for a in e.answers} & set(names)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'.*nowhere' does not exist; give"):
        make(haystack=tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"has no \.txt file"):
        make(haystack=tmp_path)
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(RequestError, match=r"has no \.txt file with text"):
        make(haystack=tmp_path)
    (tmp_path / "latin.txt").write_bytes("Café.".encode("latin-1"))
    with pytest.raises(RequestError, match=r"latin\.txt' is not readable as UTF-8"):
        make(haystack=tmp_path)


# ---------------------------------------------------------------- bad arguments and the score


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"lengths": (1024, 63)}, "asked for 63 tokens per prompt; give at least 64"),
        ({"lengths": ()}, "no length"),
        ({"depths": 0}, "0 depths"),
        ({"examples": 0}, "0 examples"),
        ({"max_new_tokens": 0}, "0 max_new_tokens"),
    ],
)
def test_bad_arguments(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        make(**options)


def test_a_length_that_question_and_template_exceed() -> None:
    task = NeedleTask(Pieces(), encode_length=lambda prompt: 90 + tokens(prompt), lengths=(100,))
    with pytest.raises(RequestError, match="leaves no room for a haystack"):
        task.examples("test")


@pytest.mark.parametrize(
    ("answers", "prediction", "score", "recall"),
    [
        (("48213",), "The code is 48213.", 1.0, 1.0),
        (("48213",), "It is 48,213!", 1.0, 1.0),
        (("48213",), "It is 482130.", 0.0, 0.0),
        (("48213",), "", 0.0, 0.0),
        (("Anna Keller",), "anna  KELLER's house", 1.0, 1.0),
        (("Anna Keller",), "Keller, Anna", 0.0, 1.0),
        (("Anna Keller",), "Anna Kellerman", 0.0, 0.5),
        (("Rio",), "A trio played.", 0.0, 0.0),
        (("brass telescope",), '"Brass-telescope"', 1.0, 1.0),
        (("noon", "twelve"), "At twelve o'clock.", 1.0, 1.0),
        (("red red fox",), "a red cat", 0.0, 0.5),
    ],
)
def test_score(answers: tuple[str, ...], prediction: str, score: float, recall: float) -> None:
    example = Example("id", "needle", "prompt", answers, 24)
    assert make(depths=1).score(example, prediction) == {"score": score, "word_recall": recall}
