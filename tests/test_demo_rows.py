"""The demonstration's question-answering rows: made by the script, answerable, and read by the loader."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cokv_bench.tasks.rows.jsonl import JsonlTask

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "configs/demo"
ESSAYS = ROOT / "cokv_bench/tasks/made/haystack"
SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "to", "is", "was", "or", "and"}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DEMO / "essays.jsonl").read_bytes().decode("utf-8").splitlines()]


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    return yaml.safe_load((DEMO / "questions.yaml").read_text(encoding="utf-8"))


def essay(stem: str) -> str:
    return (ESSAYS / f"{stem}.txt").read_text(encoding="utf-8")


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def test_the_rows_are_what_the_script_makes(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, str(ROOT / "scripts/make_demo_rows.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"24 rows written to {out}\n"
    assert out.read_bytes() == (DEMO / "essays.jsonl").read_bytes()


def test_questions_are_many_and_different(questions: list[dict[str, Any]]) -> None:
    assert len(questions) == len({entry["question"].lower() for entry in questions}) == 24
    assert len({entry["essay"] for entry in questions}) >= 18
    for entry in questions:
        assert 1 <= len(entry["answers"]) <= 3
        assert all(1 <= len(answer.split()) <= 8 for answer in entry["answers"])


def test_answers_are_words_of_the_essay(rows: list[dict[str, Any]], questions: list[dict[str, Any]]) -> None:
    for row, entry in zip(rows, questions, strict=True):
        assert (row["input"], row["answers"]) == (entry["question"], entry["answers"])
        known = set(words(essay(entry["essay"])))
        assert {word for answer in row["answers"] for word in words(answer)} - SMALL_WORDS <= known
        assert any(answer.lower() in row["context"].lower() for answer in row["answers"])


def test_contexts_hold_the_whole_essay_and_the_answer_in_no_other(
    rows: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    places = []
    for row, entry in zip(rows, questions, strict=True):
        passages = re.split(r"(?:\n\n)?Passage \d:\n", row["context"])[1:]
        assert len(passages) == 3
        place = next(i for i, text in enumerate(passages) if text.split() == essay(entry["essay"]).split())
        places.append(place)
        others = [text for i, text in enumerate(passages) if i != place]
        assert all(text[-1] in ".!?" for text in others)
        assert not any(re.search(rf"\b{re.escape(row['answers'][0])}\b", text, re.I) for text in others)
        assert 700 <= row["length"] == len(row["context"].split()) <= 760
    assert {places.count(place) for place in range(3)} == {8}


def test_rows_follow_the_schema(rows: list[dict[str, Any]]) -> None:
    keys = ["input", "context", "answers", "length", "dataset", "language", "all_classes", "_id"]
    assert all(list(row) == keys for row in rows)
    assert {(row["dataset"], row["language"], row["all_classes"]) for row in rows} == {("essays", "en", None)}
    assert len({row["_id"] for row in rows}) == 24


def test_the_loader_reads_them(rows: list[dict[str, Any]]) -> None:
    task = JsonlTask(f"jsonl:{DEMO / 'essays.yaml'}")
    examples = task.examples("all")
    assert [example.id for example in examples] == [row["_id"] for row in rows]
    assert task.metric == "qa_f1"
    for example, row in zip(examples, rows, strict=True):
        assert row["context"] in example.prompt
        assert row["input"] in example.prompt
        assert (example.max_new_tokens, example.chat) == (32, True)
        assert task.score(example, row["answers"][0])["score"] == 1.0
    assert task.examples("profile")
    assert task.examples("test")
