"""What `submit` packs: all numbers of a finished run, and nothing that is not the submitter's to give."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cokv_bench.errors import RequestError
from cokv_bench.files import write_folder
from cokv_bench.lists import join
from cokv_bench.report.folders import read_folders
from cokv_bench.runs.anonymous import anonymous, without_folders
from cokv_bench.runs.journal import Journal, read_run
from cokv_bench.runs.shards import Shard
from cokv_bench.runs.submission import RECORDS, pack, read_finished
from cokv_bench.scores.tables import count_tables
from tests.report.made_run import make_run

OWN = "jsonl:/home/ann/rows of mine/own.jsonl"
#: What texts of examples, and whatever a task writes beside them, are recognised by.
SECRET = "the safe of Ann"


def private_run(folder: Path) -> Path:
    """A run on a user's own rows, whose records quote them and whose settings name folders."""
    make_run(folder)
    for path in (folder / "run.json", folder / "records.jsonl", folder / "examples.jsonl"):
        path.write_text(path.read_text().replace("jsonl:<b>own</b>.jsonl", OWN))
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for line in lines:
        line |= {
            "prediction": f"{SECRET} says",
            "kind": SECRET,
            "context": [SECRET],
            "place": {"text": SECRET},
            "row": 7,
        }
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = json.loads((folder / "run.json").read_text())
    content["configuration"]["model"]["id"] = "/data/models/tiny"
    content["configuration"]["reading"] = {"tokenizer": "t", "cut": {OWN: 500}}
    content["request"] = {
        "model": "/data/models/tiny",
        "tasks": f"needle,{OWN}",
        "heads": ["mine=~ann/heads/a.json", "results/b.json"],
        "data-dir": "../secret/data/",
        "haystack": "C:\\Users\\ann\\texts",
        "leave-out-seen": True,
        "template": "Yes/no? /context/ {context}",
        "address": "ray://10.0.0.7:10001",
        "out": "/home/ann/results",
        "budget": "64,128",
    }
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def contents(files: dict[str, bytes]) -> str:
    return "\n".join((gzip.decompress(data) if name.endswith(".gz") else data).decode() for name, data in files.items())


def test_no_text_of_the_rows_and_no_folder_is_packed(tmp_path: Path) -> None:
    files = pack(private_run(tmp_path / "run"), "mine")
    assert set(files) == {"README.md", "run.json", RECORDS}
    packed = contents(files)
    for private in (SECRET, "Which <i>", "No. 3", "prediction", "/home", "ann", "/data", "Users", "secret", "10.0.0.7"):
        assert private not in packed, private
    records = [json.loads(line) for line in gzip.decompress(files[RECORDS]).splitlines()]
    names = {"task", "example", "method", "budget", "score", "unit", "prompt_tokens", "kept_tokens", "kv_bytes"}
    assert set().union(*records) == names | {"new_tokens", "row", "length", "depth", "word_recall"}
    assert {record["task"] for record in records} == {"needle", "jsonl:own.jsonl"}
    description = json.loads(files["run.json"])
    assert set(description["configuration"]["tasks"]) == {"needle", "jsonl:own.jsonl"}
    assert description["configuration"]["reading"]["cut"] == {"jsonl:own.jsonl": 500}
    assert description["versions"] == {"git": "abc123"}
    assert description["request"] == {
        "model": "tiny",
        "tasks": "needle,jsonl:own.jsonl",
        "heads": ["mine=a.json", "results/b.json"],
        "data-dir": "data",
        "haystack": "texts",
        "leave-out-seen": True,
        "template": "Yes/no? /context/ {context}",
        "budget": "64,128",
    }
    assert "cokv-bench eval --model tiny --tasks needle,jsonl:own.jsonl --heads mine=a.json" in packed
    assert "--leave-out-seen --template 'Yes/no?" in packed


def test_a_submission_has_the_tables_of_its_run_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    files = pack(run, "mine")
    assert pack(run, "mine") == files
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").unlink()
    (run / "records-1of2.jsonl").write_text("".join(lines[1::2]))
    (run / "records-2of2.jsonl").write_text("".join(lines[::2]))
    assert pack(run, "mine") == files
    write_folder(tmp_path / "packed", files)
    before, after = read_finished(run), read_finished(tmp_path / "packed")
    assert (before.name, after.name) == (None, "mine")
    tables = [count_tables(each.records, each.description["configuration"]) for each in (before, after)]
    assert tables[0].keys() == tables[1].keys()
    for name, table in tables[0].items():
        assert table.equals(tables[1][name]), name
    # A report shows all that is there.
    (report,), _ = read_folders([tmp_path / "packed"])
    assert not report.has_answers
    assert pack(tmp_path / "packed", "mine")["run.json"] == files["run.json"]


def spoil(run: Path, how: str) -> None:
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    content = json.loads((run / "run.json").read_text())
    if how == "stopped":
        lines = lines[:-3]
    elif how == "torn":
        lines[-1] = lines[-1][:40]
    elif how == "damaged":
        lines[4] = "{}\n"
    elif how == "method":
        content["configuration"]["methods"].append("h2o")
    elif how == "more":
        content["configuration"]["tasks"]["needle"]["examples"] = 11
    elif how == "uncounted":
        del content["configuration"]["tasks"]["needle"]["examples"]
    (run / "records.jsonl").write_text("".join(lines))
    (run / "run.json").write_text("[" if how == "no json" else json.dumps(content))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("stopped", r"is not finished: it has 11 of 12 records of 'jsonl:.*' for 'ada-snapkv' at 128"),
        ("torn", "is not finished: it has 11 of 12"),
        ("damaged", "line 5 is not a record"),
        ("method", "0 of 12 records of 'needle' for 'h2o' at 64"),
        ("more", "records of 12 examples of 'needle', and its run.json says 11"),
        ("uncounted", "does not say how many examples 'needle' has"),
        ("no json", "is not JSON"),
    ],
)
def test_what_is_not_finished_or_damaged_is_refused(tmp_path: Path, how: str, says: str) -> None:
    run = make_run(tmp_path / "run")
    spoil(run, how)
    with pytest.raises(RequestError, match=says):
        pack(run, "mine")


@pytest.mark.parametrize("name", ["", "two words", "-first", "../up", "a/b", "x" * 61])
def test_names_are_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="no name of a submission"):
        pack(tmp_path, name)


def test_a_submission_that_was_changed_is_refused(tmp_path: Path) -> None:
    files = pack(make_run(tmp_path / "run"), "mine")
    lines = gzip.decompress(files[RECORDS]).replace(b'"score":0.0', b'"score":1.0')
    write_folder(tmp_path / "better", {**files, RECORDS: gzip.compress(lines)})
    with pytest.raises(RequestError, match="not those that were packed"):
        read_finished(tmp_path / "better")
    write_folder(
        tmp_path / "later", {**files, "run.json": files["run.json"].replace(b'"format": "1"', b'"format": "2"')}
    )
    with pytest.raises(RequestError, match="not of a submission that this version reads"):
        read_finished(tmp_path / "later")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_a_folder_that_a_run_is_refused_stays_as_it_is(tmp_path: Path, packed: bool, shard: Shard | None) -> None:
    run = make_run(tmp_path / "run")
    folder = tmp_path / "packed" if packed else run
    if packed:
        write_folder(folder, pack(run, "mine"))
    configuration = read_run(folder)["configuration"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    # The records of a submission are those that were packed, whoever could add to them.
    for other in ({"seed": 5}, {}) if packed else ({"seed": 5},):
        with pytest.raises(RequestError, match="holds a submission" if packed else "other settings"):
            Journal(folder, {**configuration, **other}, {}, shard)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    read_finished(folder)


def test_two_files_of_one_name_are_not_confused(tmp_path: Path) -> None:
    run = private_run(tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    content["configuration"]["reading"]["cut"]["jsonl:/tmp/own.jsonl"] = 400
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match=r"both be 'jsonl:own\.jsonl' without their folders"):
        pack(run, "mine")


@pytest.mark.parametrize(
    "text",
    [
        "needle,longbench/hotpotqa",
        "hf:owner/name",
        "owner/model",
        "cokv-search:file=a,snapkv:kernel=7",
        "25%",
        "1/2",
        "",
    ],
)
def test_names_are_no_paths(text: str) -> None:
    assert without_folders(text) == text


@pytest.mark.parametrize("folder", ["a, b", "o'neil", 'the "old" ones', "x;y (2)", "a,b'c\"d"])
def test_folders_may_be_called_anything(tmp_path: Path, folder: str) -> None:
    assert without_folders(f"jsonl:/home/{folder}/secret/rows.jsonl") == "jsonl:rows.jsonl"
    assert without_folders(f"first=../{folder}/x.json") == "first=x.json"
    task = f"jsonl:/home/{folder.replace(chr(34), '')}/secret/own.jsonl"
    run = private_run(tmp_path / "run")
    for path in (run / "run.json", run / "records.jsonl"):
        path.write_text(path.read_text().replace(OWN, task))
    content = json.loads((run / "run.json").read_text())
    content["request"]["tasks"] = join([task, "longbench/hotpotqa"])
    content["request"]["haystack"] = f"/srv/{folder}/texts"
    (run / "run.json").write_text(json.dumps(content))
    files = pack(run, "mine")
    assert "secret" not in contents(files)
    request = json.loads(files["run.json"])["request"]
    assert (request["tasks"], request["haystack"]) == ("jsonl:own.jsonl,longbench/hotpotqa", "texts")


_PARTS = st.text("abc. -_,;'\"()", min_size=1).filter(lambda part: part.strip(". "))


@given(st.lists(_PARTS, min_size=2, max_size=4), st.sampled_from(["/", "~/", "../", "./", "C:\\", "\\\\"]))
def test_of_a_path_the_last_part_remains(parts: list[str], start: str) -> None:
    separator = "\\" if "\\" in start else "/"
    path = start + separator.join(parts)
    last = parts[-1].rstrip(" ")
    document: Any = {f"jsonl:{path}": [f"label={path}", 3, None, {"x": path}]}
    assert anonymous(document) == {f"jsonl:{last}": [f"label={last}", 3, None, {"x": last}]}
