import json

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.tasks.rows.jsonl import JsonlTask

ROWS = [{"input": f"q{i}", "context": f"c{i} {{x}}", "answers": [f"a{i}"]} for i in range(3)]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def yaml_file(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def prompts(task):
    return [example.prompt for example in task.examples("all")]


def test_defaults(rows):
    task = JsonlTask(rows)
    examples = task.examples("all")
    assert [e.prompt for e in examples] == [f"c{i} {{x}}\n\nq{i}" for i in range(3)]
    assert (task.name, task.metric) == (f"jsonl:{rows}", "qa_f1")
    first = examples[0]
    assert (first.max_new_tokens, first.chat, first.stop_at_newline, first.truncate) == (64, True, False, True)
    assert first.fields == {"row": 0}
    assert task.score(first, "A0.") == {"score": 1.0}
    assert prompts(JsonlTask(f"jsonl:{rows}", limit=2)) == [e.prompt for e in examples[:2]]


def test_length_and_classes_are_taken_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**ROWS[0], "answers": ["x"], "all_classes": ["x", "y"], "length": 4000, "_id": "k"}))
    task = JsonlTask(path, metric="classification")
    (example,) = task.examples("all")
    assert example.fields == {"row": 0, "length": 4000, "bucket": "4-8k"}
    assert task.score(example, "x or y") == {"score": 0.5}


def test_a_yaml_file_names_rows_and_rules(rows, tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir()
    text = "data: ../mine.jsonl\ntemplate: 'Q: {input}'\nmetric: code_sim\nmax_new_tokens: 7\nchat: false\n"
    task = JsonlTask(yaml_file(folder / "my.yaml", text + "stop_at_newline: true\nfirst_line: true\n"))
    example = task.examples("all")[1]
    assert example.prompt == "Q: q1"
    assert (example.max_new_tokens, example.chat, example.stop_at_newline) == (7, False, True)
    assert task.score(example, "\na1\nmore") == {"score": 1.0}


def test_a_yaml_file_beside_the_rows_is_read_and_arguments_win(rows):
    yaml_file(rows.with_suffix(".yaml"), "template: 'Q: {input}'\nmax_new_tokens: 7\nchat: false\n")
    assert prompts(JsonlTask(rows)) == ["Q: q0", "Q: q1", "Q: q2"]
    assert prompts(JsonlTask(rows.with_suffix(".yaml"))) == ["Q: q0", "Q: q1", "Q: q2"]
    example = JsonlTask(rows, template="{context}!", chat=True).examples("all")[0]
    assert (example.prompt, example.max_new_tokens, example.chat) == ("c0 {x}!", 7, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrik: qa_f1", "did you mean metric"),
        ("max_new_tokens: many", "'max_new_tokens' must be of type int"),
        ("max_new_tokens: true", "'max_new_tokens' must be of type int"),
        ("max_new_tokens: 0", "at least 1"),
        ("chat: 1", "'chat' must be of type bool"),
        ("metric: qa_f2", "did you mean qa_f1"),
        ("template: nothing here", "has neither"),
        ("- a list", "must hold keys"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_yaml_file(rows, text, message):
    with pytest.raises(RequestError, match=message):
        JsonlTask(yaml_file(rows.with_suffix(".yaml"), text))


def test_wrong_arguments_and_rows(rows, tmp_path):
    with pytest.raises(RequestError, match="has neither"):
        JsonlTask(rows, template="{question}")
    with pytest.raises(RequestError, match=r"did you mean .*rouge"):
        JsonlTask(rows, metric="rouge_l")
    with pytest.raises(RequestError, match="Cannot read"):
        JsonlTask(tmp_path / "none.jsonl").examples("all")
    with pytest.raises(RequestError, match="Cannot read"):
        JsonlTask(tmp_path / "none.yaml")
    with pytest.raises(RequestError, match=r"mine.jsonl, line 1: .*Paragraph 7"):
        JsonlTask(rows, metric="retrieval").examples("all")


def test_rows_of_the_datasets_library(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    expected = prompts(JsonlTask(rows))
    made = datasets.Dataset.from_list(ROWS)
    made.to_parquet(str(tmp_path / "rows.parquet"))
    made.save_to_disk(str(tmp_path / "saved"))
    splits = datasets.DatasetDict({"train": made.select([0]), "test": made})
    splits.save_to_disk(str(tmp_path / "splits"))
    for name in ("rows.parquet", "saved", "splits"):
        assert prompts(JsonlTask(tmp_path / name)) == expected
    datasets.DatasetDict({"a": made, "b": made}).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(RequestError, match="no split 'test' but several others: a, b"):
        JsonlTask(tmp_path / "two").examples("all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="Cannot read the data set"):
        JsonlTask(tmp_path / "empty").examples("all")
    datasets.Dataset.from_list([{"input": "q", "answers": ["a"]}]).save_to_disk(str(tmp_path / "short"))
    with pytest.raises(RequestError, match="short, row 0: field 'context' is missing"):
        JsonlTask(tmp_path / "short").examples("all")


def test_a_parquet_file_with_gaps_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{**row, "length": 60, "answers": row["answers"]} for row in ROWS]
    rows[1] |= {"length": None, "answers": None}
    pd.DataFrame(rows).to_parquet(tmp_path / "gaps.parquet")
    found = JsonlTask(tmp_path / "gaps.parquet").examples("all")
    assert [e.fields.get("length") for e in found] == [60, None, 60]
    assert [e.answers for e in found] == [("a0",), (), ("a2",)]


def test_parquet_texts_that_are_no_text_have_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    damaged = pa.array([b"a cut emoji \xed\xa0\xbd"]).view(pa.string())
    rest = pa.array(["q"]), pa.array([["a"]])
    table = pa.table({"context": damaged, "input": rest[0], "answers": rest[1]})
    pq.write_table(table, tmp_path / "damaged.parquet")
    with pytest.raises(RequestError, match=r"Cannot read the data set .*damaged.parquet") as refused:
        JsonlTask(tmp_path / "damaged.parquet").examples("all")
    assert len(str(refused.value)) < 500


def test_rows_may_do_without_answers(tmp_path):
    path = tmp_path / "unlabelled.jsonl"
    path.write_text('{"input": "q", "context": "c"}\n', encoding="utf-8")
    datasets.Dataset.from_list([{"input": "q", "context": "c"}]).save_to_disk(str(tmp_path / "saved"))
    for name in (path, tmp_path / "saved"):
        assert [example.answers for example in JsonlTask(name).examples("all")] == [()]
    path.write_text('{"input": "q", "context": "c", "answers": []}\n', encoding="utf-8")
    with pytest.raises(RequestError, match="field 'answers' must be a list of at least one text"):
        JsonlTask(path).examples("all")
