"""Needles of the user's own."""

import json
import re
from pathlib import Path

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.base import in_profile_split
from cokv_bench.tasks.needle.user import read_needles
from tests.tasks.made_needles import (
    SPLITS,
    make,
)


def write_needles(path: Path, count: int) -> Path:
    rows = [
        {"needle": f"The hat of guest {i} is worth qq{i} coins.", "question": f"Worth of hat {i}?", "answer": f"qq{i}"}
        for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def test_the_users_needles_are_split_and_reused(tmp_path: Path) -> None:
    task = make(lengths=(200, 300), depths=10, needles=write_needles(tmp_path / "n.jsonl", 20))
    sides = [task.examples(split) for split in SPLITS]
    assert [len(examples) for examples in sides] == [20, 20, 20]
    ids = [{e.fields["needle"] for e in examples} for examples in sides]
    assert not ids[0] & ids[1]
    assert not ids[2] & (ids[0] | ids[1])
    assert len(ids[0] | ids[1] | ids[2]) == 20
    assert all(in_profile_split(i, share=0.3) for i in ids[0])
    assert {e.fields["kind"] for e in sides[0]} == {"user"}


def test_few_needles_of_the_user_may_leave_the_report_empty(tmp_path: Path) -> None:
    path = write_needles(tmp_path / "n.jsonl", 20)
    reported = {needle.needle for needle in read_needles(path)["report"]}
    assert reported
    path.write_text(
        "\n".join(row for row in path.read_text().splitlines() if json.loads(row)["needle"] not in reported)
    )
    task = make(lengths=(200,), depths=2, needles=path)
    assert task.examples("report") == []
    assert task.examples("all") == task.examples("profile") + task.examples("test")


def test_needles_with_equal_prompts_and_other_answers_are_examples_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "hay").mkdir()
    (tmp_path / "hay" / "a.txt").write_text("One sentence alone.")
    asked = {"needle": "Tea is served late.", "question": "When is tea?"}
    path = tmp_path / "n.jsonl"
    path.write_text("".join(json.dumps({**asked, "answer": f"hour {i}"}) + "\n" for i in range(12)))
    task = make(lengths=(200,), depths=1, examples=12, haystack=tmp_path / "hay", needles=path)
    found = task.examples("all")
    assert len({e.prompt for e in found}) == 1
    assert {e.answers for e in found} == {(f"hour {i}",) for i in range(12)}
    assert len({e.id for e in found}) == len(found) == 12


def test_a_list_of_answers(tmp_path: Path) -> None:
    path = write_needles(tmp_path / "n.jsonl", 20)
    row = {"needle": "Tea is at noon.", "question": "When is tea?", "answer": ["noon", "twelve"]}
    path.write_text(path.read_text() + "\n\n" + json.dumps(row))
    examples = make(lengths=(200,), depths=20, needles=path).examples("all")
    (tea,) = {e.answers for e in examples if "Tea is at noon." in e.prompt}
    assert tea == ("noon", "twelve")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{nonsense", "line 2 is not valid JSON"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"question": "Q?", "answer": "a"}', "line 2 has no text in the field 'needle'"),
        ('{"needle": "N.", "question": 3, "answer": "a"}', "line 2 has no text in the field 'question'"),
        ('{"needle": "N.", "question": "Q?"}', "line 2 has no usable field 'answer'"),
        ('{"needle": "N.", "question": "Q?", "answer": []}', "line 2 has no usable field 'answer'"),
        ('{"needle": "N.", "question": "Q?", "answer": ["a", "!"]}', "line 2 has no usable field 'answer'"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, problem: str) -> None:
    path = write_needles(tmp_path / "n.jsonl", 1)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RequestError, match=r"n\.jsonl', " + re.escape(problem)):
        make(needles=path)


def test_too_few_needles_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least 2 are needed"):
        make(needles=write_needles(tmp_path / "n.jsonl", 1))
    with pytest.raises(RequestError, match="not readable"):
        make(needles=tmp_path / "missing.jsonl")
