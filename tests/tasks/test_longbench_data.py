import json
import zipfile

import huggingface_hub
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.hub import fetch
from cokv_bench.tasks.base import content_id
from cokv_bench.tasks.longbench import LongBenchTask, load_rows
from cokv_bench.tasks.rows.rows import row_of
from cokv_bench.tasks.rows.task import fill


def row(number=0, **changes):
    base = {
        "input": f"question {number}",
        "context": f"context {number}",
        "answers": ["yes"],
        "length": 1000 * number,
        "all_classes": None,
    }
    return {**base, **changes}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in rows).encode("utf-8"))
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_layouts_of_a_copy_give_the_same_rows(tmp_path, monkeypatch):
    rows = [row(i) for i in range(3)]
    flat = write(tmp_path / "flat" / "hotpotqa.jsonl", rows)
    write(tmp_path / "nested" / "data" / "hotpotqa.jsonl", rows)
    (tmp_path / "zipped").mkdir()
    archive = write_zip(tmp_path / "zipped" / "data.zip", {"data/hotpotqa.jsonl": flat.read_bytes()})
    places = [tmp_path / "flat", tmp_path / "nested", tmp_path / "zipped", archive]
    loaded = [[(r.input, r.context, r.answers, r.length) for r in load_rows("hotpotqa", place)] for place in places]
    assert loaded[0] == [(r["input"], r["context"], ("yes",), r["length"]) for r in rows]
    assert loaded[1:] == [loaded[0]] * 3

    monkeypatch.setenv("COKV_BENCH_DATA", str(tmp_path / "nested"))
    assert [r.input for r in load_rows("hotpotqa")] == [r["input"] for r in rows]


def test_a_zip_member_that_points_outside_is_never_read_or_written(tmp_path):
    outside = write(tmp_path / "hotpotqa.jsonl", [row(1)])
    before = outside.read_bytes()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    evil = {"../../hotpotqa.jsonl": json.dumps(row(2)), "/data/hotpotqa.jsonl": json.dumps(row(3))}
    archive = write_zip(inner / "data.zip", evil)
    with pytest.raises(RequestError, match=r"no 'data/hotpotqa.jsonl'"):
        load_rows("hotpotqa", archive)
    write_zip(archive, {**evil, "data/hotpotqa.jsonl": json.dumps(row(4))})
    assert [r.input for r in load_rows("hotpotqa", inner)] == ["question 4"]
    assert outside.read_bytes() == before
    assert sorted(path.name for path in inner.iterdir()) == ["data.zip"]


def test_missing_data_says_where_to_point(tmp_path, monkeypatch):
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RequestError, match="--data-dir or COKV_BENCH_DATA"):
            load_rows("hotpotqa", place)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"not a zip")
    with pytest.raises(RequestError, match="not a readable zip"):
        load_rows("hotpotqa", bad)

    def offline(*arguments, **options):
        raise ConnectionError("no network\nmore lines")

    monkeypatch.delenv("COKV_BENCH_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(
        RequestError, match=r"^LongBench's data.zip could not be downloaded.*no network more lines\).*--data-dir"
    ):
        load_rows("hotpotqa")


def test_the_hub_archive_is_read(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "blob", {"data/hotpotqa.jsonl": json.dumps(row(7))})
    monkeypatch.delenv("COKV_BENCH_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *arguments, **options: str(archive))
    fetch.cache_clear()
    assert [r.input for r in load_rows("hotpotqa")] == ["question 7"]
    fetch.cache_clear()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not a line of JSON"),
        (b'"\xff"', "not a line of JSON"),
        (b"[1]", "JSON object, not list"),
        (b'{"context": "c", "answers": ["a"]}', "'input' is missing"),
        (b'{"input": "i", "answers": ["a"]}', "'context' is missing"),
        (b'{"input": "i", "context": "c"}', "'answers' is missing"),
        (b'{"input": 3, "context": "c", "answers": ["a"]}', "'input' must be a text, not int"),
        (b'{"question": null, "context": "c", "answers": ["a"]}', "'question' must be a text, not null"),
        (b'{"input": "i", "context": "c", "answers": "a"}', "'answers' must be a list"),
        (b'{"input": "i", "context": "c", "answers": []}', "'answers' must be a list of at least one"),
        (b'{"input": "i", "context": "c", "answers": ["a", 1]}', "'answers' must be a list"),
        (b'{"input": "i", "context": "c", "answers": ["a"], "length": "9"}', "'length' must be a number"),
        (b'{"input": "i", "context": "c", "answers": ["a"], "length": true}', "'length' must be a number"),
        (b'{"input": "i", "context": "c", "answers": ["a"], "all_classes": "x"}', "'all_classes' must be a list"),
        (b'{"input": "i", "context": "c", "answers": ["a"]}', "'length' is missing"),
    ],
)
def test_a_malformed_row_is_named_by_file_line_and_field(tmp_path, line, message):
    path = write(tmp_path / "hotpotqa.jsonl", [row(1)])
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    with pytest.raises(RequestError, match=message) as raised:
        LongBenchTask("hotpotqa", data_dir=tmp_path).examples("all")
    assert "hotpotqa.jsonl, line 3" in str(raised.value)


def test_a_row_that_cannot_be_scored_is_refused_before_any_generation(tmp_path):
    write(tmp_path / "trec.jsonl", [row(1)])
    with pytest.raises(RequestError, match=r"trec.jsonl, line 1: .*all_classes"):
        LongBenchTask("trec", data_dir=tmp_path).examples("all")


def test_only_line_feeds_end_a_row(tmp_path):
    text = "one\u2028two\u2029three\x85four\x0bfive\x1cend"
    write(tmp_path / "lcc.jsonl", [row(context=text), row(1)])
    assert [r.context for r in load_rows("lcc", tmp_path)] == [text, "context 1"]


def test_carriage_returns_a_byte_order_mark_and_the_mirrors_column_are_read(tmp_path):
    mirrored = {("question" if key == "input" else key): value for key, value in row(5).items()}
    (tmp_path / "qasper.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(mirrored).encode() + b"\r\n\r\n")
    assert [r.input for r in load_rows("qasper", tmp_path)] == ["question 5"]


def test_splits_share_nothing_and_miss_nothing(tmp_path):
    write(tmp_path / "qasper.jsonl", [row(i) for i in range(200)])
    task = LongBenchTask("qasper", data_dir=tmp_path)
    splits = ("profile", "test", "report", "all")
    profile, test, report, everything = ([e.id for e in task.examples(split)] for split in splits)
    assert len(profile) + len(test) + len(report) == len(everything) == 200
    assert {*profile, *test, *report} == set(everything)
    assert 10 < len(profile) < 50
    assert 20 < len(report) < 60
    # In file order, and the limit takes the first of the split.
    assert test == [example for example in everything if example in set(test)]
    limited = LongBenchTask("qasper", data_dir=tmp_path, limit=7)
    assert [e.id for e in limited.examples("test")] == test[:7]
    other = LongBenchTask("qasper", data_dir=tmp_path, seed=1)
    assert [e.id for e in other.examples("profile")] != profile
    none = LongBenchTask("qasper", data_dir=tmp_path, profile_share=0)
    assert none.examples("profile") == []
    # What is set aside for the report does not depend on how much is profiled on.
    assert [e.id for e in none.examples("report")] == report


def test_the_same_row_is_the_same_example_in_both_files(tmp_path):
    classes = ["yes", "no"]
    shared = row(3, all_classes=classes)
    write(tmp_path / "trec.jsonl", [row(1, all_classes=classes), shared, row(4, all_classes=classes)])
    write(tmp_path / "trec_e.jsonl", [{**shared, "_id": "x", "length": 9000}])
    plain = LongBenchTask("trec", data_dir=tmp_path).examples("all")
    (e,) = LongBenchTask("longbench/trec_e", data_dir=tmp_path).examples("all")
    assert e.id == plain[1].id
    assert len({example.id for example in plain}) == 3
    assert (plain[1].task, e.task) == ("longbench/trec", "longbench/trec_e")
    assert plain[1].fields == {"row": 1, "length": 3000, "bucket": "0-4k"}
    assert e.fields == {"row": 0, "length": 9000, "bucket": "8k+"}


def test_rows_that_are_equal_in_all_are_one(tmp_path):
    write(tmp_path / "qasper.jsonl", [row(1), row(2), row(1), row(2, length=3)])
    examples = LongBenchTask("qasper", data_dir=tmp_path).examples("all")
    assert [e.fields["row"] for e in examples] == [0, 1]
    assert [e.id for e in examples] == [content_id(f"question {i}", f"context {i}") for i in (1, 2)]


def test_rows_with_the_same_text_and_other_answers_are_examples_of_their_own(tmp_path):
    six = [row(1, answers=[f"summary {i}"]) for i in range(6)]
    write(tmp_path / "qasper.jsonl", [*six, row(2), six[3]])
    examples = LongBenchTask("qasper", data_dir=tmp_path).examples("all")
    assert [e.answers for e in examples] == [*[(f"summary {i}",) for i in range(6)], ("yes",)]
    assert [e.id for e in examples[:6]] == [content_id("question 1", "context 1", f"summary {i}") for i in range(6)]
    assert examples[6].id == content_id("question 2", "context 2")
    # In whatever order they stand, and of one document.
    write(tmp_path / "qasper.jsonl", [row(2), *reversed(six)])
    turned = LongBenchTask("qasper", data_dir=tmp_path)
    assert {(e.id, e.answers) for e in turned.examples("all")} == {(e.id, e.answers) for e in examples}
    assert len({e.document for e in examples[:6]}) == 1
    # Files of earlier versions know the row that was kept by its texts alone.
    assert turned.documents()[content_id("question 1", "context 1")] == examples[0].document


def test_rows_that_differ_in_their_classes_alone_are_examples_of_their_own(tmp_path):
    write(tmp_path / "trec.jsonl", [row(1, all_classes=["yes", other]) for other in ("no", "maybe")])
    examples = LongBenchTask("trec", data_dir=tmp_path).examples("all")
    assert [e.all_classes for e in examples] == [("yes", "no"), ("yes", "maybe")]
    assert len({e.id for e in examples}) == 2


def test_halves_of_surrogate_pairs_are_read_as_the_replacement_character(tmp_path):
    cut = {"context": "a cut \ud83d", "input": "\udc00?", "answers": ["\ud83dx"], "all_classes": ["\ud83dx", "y\ud83d"]}
    line = json.dumps({**row(1), **cut, "emoji": "\ud83d\ude00"})
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "trec.jsonl").write_text(line)
    write_zip(tmp_path / "data.zip", {"data/trec.jsonl": line})
    for place in (tmp_path / "flat", tmp_path / "data.zip"):
        (found,) = load_rows("trec", place)
        assert (found.context, found.input, found.answers) == ("a cut \ufffd", "\ufffd?", ("\ufffdx",))
        assert found.all_classes == ("\ufffdx", "y\ufffd")
        (example,) = LongBenchTask("trec", data_dir=place).examples("all")
        example.prompt.encode()
    (tmp_path / "flat" / "trec.jsonl").write_text(json.dumps({**row(1, all_classes=["yes"]), "context": "\U0001f600"}))
    assert load_rows("trec", tmp_path / "flat")[0].context == "\U0001f600"


@pytest.mark.parametrize(("length", "read"), [(60, 60), (60.0, 60), (float("nan"), None), (None, None), (0.0, 0)])
def test_lengths_of_columns_with_gaps(length, read):
    assert row_of({**row(1), "length": length}, "file, row 0", 0).length == read


@pytest.mark.parametrize("length", [60.5, float("inf"), -1, -1.0, True, "60", [60], "9" * 5000])
def test_lengths_that_are_none(length):
    with pytest.raises(RequestError, match=r"^file, row 0: field 'length' must be a number of words") as refused:
        row_of({**row(1), "length": length}, "file, row 0", 0)
    assert len(str(refused.value)) < 150


def test_an_example_carries_the_rules_of_its_task(tmp_path):
    write(tmp_path / "samsum.jsonl", [row(1, context="Dialogue {input}", input="{context} {0}")])
    task = LongBenchTask("samsum", data_dir=tmp_path)
    (example,) = task.examples("all")
    assert example.prompt.endswith("\n\nDialogue {input}\n\n{context} {0}")
    assert example.stop_at_newline
    assert example.truncate
    assert not example.chat
    assert example.max_new_tokens == 128
    assert (task.name, task.metric, task.version) == ("longbench/samsum", "rouge", 1)
    assert set(task.score(example, "yes")) == {"score", "rouge_score_l"}


def test_a_template_is_filled_once():
    filled = fill('{"q": {input}, "c": {context}, {context} {other}}', "{input} 100%", "{context} \\1")
    assert filled == '{"q": {context} \\1, "c": {input} 100%, {input} 100% {other}}'
    with pytest.raises(RequestError, match="has neither"):
        fill("no place {question}", "c", "i")


@pytest.mark.parametrize("options", [{"limit": 0}, {"profile_share": 1.5}])
def test_options_out_of_range(tmp_path, options):
    with pytest.raises(RequestError):
        LongBenchTask("qasper", data_dir=tmp_path, **options)


def test_an_unknown_task_is_refused_at_once():
    with pytest.raises(RequestError, match="did you mean"):
        LongBenchTask("longbench/hotpot_qa")
