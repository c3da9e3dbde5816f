"""Tables of rows in the shapes in which others publish them: kinds of files, columns, configurations and splits."""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.runs.request import plan_request
from cokv_bench.tasks.base import Example
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import Encoding, encode_example, encode_parts
from cokv_bench.tasks.rows.jsonl import JsonlTask
from tests.hub_server import Hub, local_hub, offline
from tests.requests import request_of

ROWS = [
    {"context": f"Text {n}. ", "question": f"Who {n}? ", "answer_prefix": "It was", "answer": [f"a{n}"], "task": task}
    for n, task in enumerate(["who", "who", "when"])
]
CARD = (
    "---\nconfigs:\n- config_name: '4096'\n  data_files:\n  - split: test\n    path: 4096/test-*\n"
    "- config_name: long\n  data_files:\n  - split: test\n    path: long/test-*\n  - split: dev\n    path: long/dev-*\n"
    "---\n# Rows\n"
)


def examples(path: Path | str) -> list[Example]:
    return JsonlTask(path).examples("all")


def settings(folder: Path, text: str) -> Path:
    path = folder / "table.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(path: Path, rows: list[dict[str, Any]]) -> bytes:
    pd.DataFrame(rows).to_parquet(path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub(tmp_path / "cache", monkeypatch) as found:
        table = "datasets/me/table"
        found.files[f"{table}/README.md"] = CARD.encode()
        found.files[f"{table}/4096/test-0.parquet"] = parquet(tmp_path / "0", ROWS[:2])
        found.files[f"{table}/4096/test-1.parquet"] = parquet(tmp_path / "1", ROWS[2:])
        found.files[f"{table}/long/test-0.parquet"] = parquet(tmp_path / "2", ROWS[:1])
        found.files[f"{table}/long/dev-0.parquet"] = parquet(tmp_path / "3", ROWS[1:])
        found.files[f"{table}/plain.jsonl"] = lines(ROWS)
        yield found


def refused(path: Path | str) -> str:
    with pytest.raises(RequestError) as told:
        examples(path)
    assert len(str(told.value)) <= 400
    return str(told.value)


def test_a_table_of_kvpress_needs_no_settings(tmp_path: Path, texty: Model) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines([{**ROWS[0], "max_new_tokens": 7}, {**ROWS[1], "answer": "a1"}]))
    first, second = examples(path)
    assert (first.prompt, first.begun, first.answers) == ("Text 0. \n\nWho 0? ", "It was", ("a0",))
    assert (first.max_new_tokens, second.max_new_tokens, second.answers) == (7, 64, ("a1",))
    whole = texty.text_tokenizer.decode(encode_example(texty, first))
    assert whole.endswith("Who 0? ]It was")
    parts = encode_parts(texty, first, Encoding(question_agnostic=True))
    assert texty.text_tokenizer.decode(parts.question).strip() == "Who 0? ]It was"
    # What is set counts for all rows.
    path.with_suffix(".yaml").write_text("max_new_tokens: 9\ntemplate: '{context}{input}'\n")
    first, _ = examples(path)
    assert (first.max_new_tokens, first.prompt) == (9, "Text 0. Who 0? ")


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [{**row, "answer": f"a{n}"} for n, row in enumerate(ROWS)]
    (tmp_path / "rows.jsonl").write_bytes(lines(rows))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(lines(rows)))
    (tmp_path / "list.json").write_text(json.dumps(rows))
    parquet(tmp_path / "rows.parquet", rows)
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress((tmp_path / "rows.csv").read_bytes()))
    expected = examples(tmp_path / "rows.jsonl")
    assert [each.answers for each in expected] == [("a0",), ("a1",), ("a2",)]
    for name in ("packed.jsonl.gz", "list.json", "rows.parquet", "rows.csv", "rows.csv.gz"):
        found = examples(tmp_path / name)
        assert [(each.id, each.prompt, each.answers) for each in found] == [
            (each.id, each.prompt, each.answers) for each in expected
        ]


def test_columns_places_and_filters(tmp_path: Path) -> None:
    row = {"doc": " A text. ", "q": "Which?", "options": ["red", "blue"], "right": "blue", "set": 3, "length": "short"}
    (tmp_path / "rows.jsonl").write_bytes(lines([row, {**row, "q": "What?", "set": 4}]))
    path = settings(
        tmp_path,
        "data: rows.jsonl\nwhere: {set: 3}\nstrip: true\nmetric: choice\ntruncate: false\n"
        "template: '{context} {input} A. {A} B. {B} {C}'\n"
        "columns: {context: doc, input: q, answers: right, choices: options,"
        " A: options.0, B: options.1, length: null}\n",
    )
    (only,) = examples(path)
    assert only.prompt == "A text. Which? A. red B. blue {C}"
    assert only.question == " Which? A. red B. blue {C}"
    assert (only.answers, only.truncate) == (("B", "blue"), False)
    assert JsonlTask(path).score(only, "B") == {"score": 1.0}
    whole = settings(tmp_path, "data: rows.jsonl\ncolumns: {context: null, input: doc, answers: set, length: null}\n")
    assert [(each.prompt, each.answers) for each in examples(whole)] == [
        ("\n\n A text. ", ("3",)),
        ("\n\n A text. ", ("4",)),
    ]


def test_an_empty_cell_of_csv_is_no_answer_and_no_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    header = "context,input,answer,answer_prefix,length,max_new_tokens,all_classes\n"
    path.write_text(header + "It is red.,Which?,red,So,3,7,\nIt is two.,Many?, ,,,,\nIt is 3.,Many?,3.0,,3.0,7.0,\n")
    found = examples(path)
    assert [each.answers for each in found] == [("red",), (), ("3.0",)]
    assert [each.begun for each in found] == ["So", "", ""]
    assert [each.fields.get("length") for each in found] == [3, None, 3]
    assert [each.max_new_tokens for each in found] == [7, 64, 7]


def test_a_row_without_an_answer_is_not_scored(tmp_path: Path, texty: Model) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("context,input,answers\nIt is red.,Which?,red\nIt is blue.,Which?,\n")
    for metric in ("contains", "string_match_all", "qa_f1"):
        options = TaskOptions(metric=metric)
        request = request_of([f"jsonl:{path}"], ["snapkv"], (16,), options=options, split="all", knobs="papers")
        with pytest.raises(RequestError, match=r"1 of the 2 examples of .* have no answers to score against"):
            plan_request(request, texty)


@pytest.mark.parametrize(
    ("written", "answers"),
    [
        ("NaN", ()),
        ("null", ()),
        ('""', ()),
        ('["", " "]', ()),
        ("[null, NaN]", ()),
        ('["", "x", null, " y"]', ("x", " y")),
        ("7.0", ("7",)),
        ("[7.5, 7, -2.0]", ("7.5", "7", "-2")),
    ],
)
def test_gaps_are_no_answers_and_whole_numbers_have_no_point(
    tmp_path: Path, written: str, answers: tuple[str, ...]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"context": "c", "input": "q", "answers": {written}, "length": NaN, "max_new_tokens": NaN}}\n')
    (found,) = examples(path)
    assert (found.answers, found.fields, found.max_new_tokens) == (answers, {"row": 0}, 64)


@pytest.mark.parametrize("written", ["three", "3.5", "-3", "nan", "inf"])
def test_cells_that_are_no_number_are_told(tmp_path: Path, written: str) -> None:
    for column, message in (("length", "must be a number of words"), ("max_new_tokens", "a number of at least 1")):
        path = tmp_path / f"{column}.csv"
        path.write_text(f"context,input,answers,{column}\nc,q,a,{written}\n")
        assert message in refused(path)


def test_turns_are_rows_of_one_document(tmp_path: Path) -> None:
    turns = [{"input": "Who?", "answer": "Ann"}, {"input": "When?", "answer": 1907}]
    (tmp_path / "rows.jsonl").write_bytes(lines([{"input": "A text.", "turns": turns}]))
    columns = "{context: input, input: turns.input, answers: turns.answer}"
    first, second = examples(settings(tmp_path, f"data: rows.jsonl\nturns: turns\ncolumns: {columns}\n"))
    assert [first.prompt, second.prompt] == ["A text.\n\nWho?", "A text.\n\nWhen?"]
    assert (first.answers, second.answers) == (("Ann",), ("1907",))
    assert first.document == second.document
    assert first.id != second.id


def test_rows_that_differ_in_their_options_alone_are_examples_of_their_own(tmp_path: Path) -> None:
    row = {"context": "c", "input": "q", "answers": ["A"]}
    (tmp_path / "rows.jsonl").write_bytes(lines([{**row, "A": "x"}, {**row, "A": "y"}, {**row, "A": "y"}]))
    found = examples(settings(tmp_path, "data: rows.jsonl\ntemplate: '{context}{input}{A}'\ncolumns: {A: A}\n"))
    assert [each.prompt for each in found] == ["cqx", "cqy"]
    assert found[0].id != found[1].id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {input: questions}", "line 1: Unknown column 'questions'; did you mean question"),
        ("columns: {A: choices.7}\ntemplate: '{A}{input}'", "line 1: Unknown column 'choices.7'"),
        ("columns: {1: question}", "must give names of columns, or null"),
        ("columns: {input: [a]}", "must give names of columns, or null"),
        ("where: {tsk: who}", "line 1: Unknown column 'tsk'; did you mean task"),
        ("where: {task: why}", "has 3 rows, but none of them with task = why"),
        ("turns: task", "column 'task' must be a list of turns"),
        ("columns: {choices: answer, answers: question}", "is not among the choices"),
        ("columns: {choices: task}", "is not among the choices"),
        ("columns: {max_new_tokens: task}", "must be a number of at least 1, not 'who'"),
        ("columns: {A: answer}\ntemplate: '{A}{input}'", "the column of 'A' must be a text"),
        ("columns: {length: task}", "field 'length' must be a number of words"),
        ("config: x", "is one file, which has no configurations or splits"),
        ("split: test", "is one file, which has no configurations or splits"),
    ],
)
def test_what_is_wrong_with_columns_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(lines(ROWS))
    assert message in refused(settings(tmp_path, f"data: rows.jsonl\n{text}\n"))


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.jsonl.gz", gzip.compress(b"{}\n")[:-6], "is not a whole gzip file"),
        ("b.jsonl.gz", b"plain", "is not a whole gzip file"),
        ("c.json", b'{"a": 1}', "must hold a list of objects"),
        ("d.json", b"[1]", "row 0: must be a JSON object, not int"),
        ("e.json", b"[", "is not JSON in UTF-8"),
        ("f.csv", b"a,b\n\xff\n", "is not a CSV file in UTF-8"),
        ("g.csv", b"", "is not a CSV file in UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        assert message in refused(tmp_path / name)


def test_a_table_on_the_hub_has_configurations_splits_and_revisions(hub: Hub, tmp_path: Path) -> None:
    def prompts(text: str) -> list[str]:
        return [each.prompt[5] for each in examples(settings(tmp_path, text))]

    assert prompts("data: hf:me/table\nconfig: '4096'\n") == ["0", "1", "2"]
    assert prompts("data: hf:me/table@v1\nconfig: long\n") == ["0"]
    assert prompts("data: hf:me/table\nconfig: long\nsplit: dev\n") == ["1", "2"]
    assert prompts("data: hf:me/table/plain.jsonl\nwhere: {task: when}\n") == ["2"]
    # Only what a configuration needs was downloaded, and once for each revision.
    asked = [path for command, path in hub.asked if command == "GET" and "/resolve/" in path]
    assert len(asked) == len(set(asked))
    assert not any("plain" in path for path in asked[:-1])


def test_what_the_hub_does_not_have_is_told(hub: Hub, tmp_path: Path) -> None:
    def told(text: str) -> str:
        return refused(settings(tmp_path, text))

    assert "Unknown configuration of hf:me/table '8192'; known: 4096, long" in told("data: hf:me/table\nconfig: '8192'")
    assert "has several configurations (4096, long); name one as config" in told("data: hf:me/table")
    assert "Unknown split of hf:me/table 'train'" in told("data: hf:me/table\nconfig: long\nsplit: train")
    assert "no repository 'me/other'" in told("data: hf:me/other\nconfig: x")
    assert "no revision 'v7'" in told("data: hf:me/table@v7\nconfig: long")
    assert "no file 'other.jsonl'" in told("data: hf:me/table/other.jsonl")
    assert "does not name a file" in told("data: 'hf:table'")
    hub.files["datasets/me/bare/rows.jsonl"] = lines(ROWS)
    assert "declares no configurations" in told("data: hf:me/bare\nconfig: x")
    assert len(examples("hf:me/bare")) == 3


def test_offline_the_cache_serves_and_nothing_else(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settings(tmp_path, "data: hf:me/table\nconfig: '4096'\n")
    online = [each.id for each in examples(path)]
    offline(monkeypatch, True)
    before = len(hub.asked)
    assert [each.id for each in examples(path)] == online
    other = refused(settings(tmp_path, "data: hf:me/table\nconfig: long\n"))
    assert "has no file 'long/test-*'" in other
    assert "hf:me/other is not in the local cache, and the hub cannot be reached" in refused("hf:me/other")
    assert len(hub.asked) == before


def test_a_folder_that_is_the_copy_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    for name, content in hub.files.items():
        path = tmp_path / "copy" / name.removeprefix("datasets/me/table/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert len(examples(settings(tmp_path, "data: copy\nconfig: '4096'\n"))) == 3
    assert "Unknown configuration" in refused(settings(tmp_path, "data: copy\nconfig: x\n"))
    (tmp_path / "copy/long/test-0.parquet").unlink()
    assert "none of the files" in refused(settings(tmp_path, "data: copy\nconfig: long\n"))
