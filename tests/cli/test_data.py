"""`cokv-bench data`: what is fetched is whole and is what the hub announced, or nothing is there."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from huggingface_hub import constants

from cokv_bench.tasks.longbench import load_rows
from tests.hub_server import Hub, forget, local_hub, offline

ROW = '{"input": "q 1", "context": "c", "answers": ["a"], "length": 7, "all_classes": null}\n'
CARD = (
    "---\nconfigs:\n"
    + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test-*\n"
        for name in ("shortdep_qa", "longdep_qa", "longdep_summarization", "shortdep_cloze")
    )
    + "---\n"
)


def zipped(members: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.delenv("COKV_BENCH_DATA", raising=False)
    with local_hub(tmp_path / "cache", monkeypatch) as found:
        members = {"data/": "", "data/hotpotqa.jsonl": ROW, "data/qasper_e.jsonl": ROW * 50}
        found.files["datasets/THUDM/LongBench/data.zip"] = zipped(members)
        found.files["datasets/THUDM/LongBench-v2/data.json"] = b"[]" + b" " * 5000
        found.files["datasets/simonjegou/loogle/README.md"] = CARD.encode()
        for name in ("shortdep_qa", "longdep_qa", "longdep_summarization", "shortdep_cloze"):
            found.files[f"datasets/simonjegou/loogle/{name}/test-0.parquet"] = b"PAR1" + name.encode()
        yield found


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_there_is(cli: Any) -> None:
    status, out, _ = cli("data", "ls")
    assert status == 0
    for name in ("longbench", "longbench-e", "longbench-v2", "ruler-hf", "infinitebench", "loogle", "scbench"):
        assert name in out


def test_longbench_is_unpacked_into_a_folder(cli: Any, hub: Hub, tmp_path: Path) -> None:
    status, out, err = cli("data", "fetch", "longbench", "--out", tmp_path / "data")
    assert status == 0, err
    assert f"--data-dir '{tmp_path / 'data'}'" in out
    assert content(tmp_path / "data") == {"hotpotqa.jsonl": ROW.encode(), "qasper_e.jsonl": ROW.encode() * 50}
    assert [row.input for row in load_rows("hotpotqa", tmp_path / "data")] == ["q 1"]
    # Without --out the cache is the folder, and tasks find it by themselves, offline too.
    status, out, _ = cli("data", "fetch", "longbench-e")
    assert "/cache/" in out
    assert [row.input for row in load_rows("hotpotqa")] == ["q 1"]
    # A folder of several benchmarks.
    (tmp_path / "data").rename(tmp_path / "longbench")
    assert [row.input for row in load_rows("hotpotqa", tmp_path)] == ["q 1"]


def test_a_table_is_fetched_with_the_configurations_that_its_tasks_read(cli: Any, hub: Hub, tmp_path: Path) -> None:
    for _ in range(2):
        status, _, err = cli("data", "fetch", "loogle", "--out", tmp_path / "loogle")
        assert status == 0, err
    names = [f"{name}/test-0.parquet" for name in ("longdep_qa", "longdep_summarization", "shortdep_qa")]
    assert sorted(content(tmp_path / "loogle")) == ["README.md", *names]
    status, _, err = cli("data", "fetch", "longbench-v2", "--out", tmp_path / "v2")
    assert status == 0, err
    assert list(content(tmp_path / "v2")) == ["data.json"]


def test_an_interrupted_download_resumes(cli: Any, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut = 1
    status, _, err = cli("data", "fetch", "longbench-v2", "--out", tmp_path / "v2")
    assert status == 0, err
    assert hub.ranges
    assert not hub.ranges[0].startswith("bytes=0-")
    assert content(tmp_path / "v2") == {"data.json": hub.files["datasets/THUDM/LongBench-v2/data.json"]}


def test_offline_the_cache_serves_and_nothing_else(
    cli: Any, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("data", "fetch", "loogle")[0] == 0
    offline(monkeypatch, True)
    asked = len(hub.asked)
    assert cli("data", "fetch", "loogle", "--out", tmp_path / "loogle")[0] == 0
    assert len(content(tmp_path / "loogle")) == 4
    for name in ("longbench", "scbench"):
        status, _, err = cli("data", "fetch", name, "--out", tmp_path / name)
        assert status == 2
        assert "is not in the local cache, and the hub cannot be reached" in " ".join(err.split())
        assert not (tmp_path / name).exists()
    assert len(hub.asked) == asked


def refused(cli: Any, tmp_path: Path, name: str) -> str:
    before = content(tmp_path / "out")
    status, _, err = cli("data", "fetch", name, "--out", tmp_path / "out")
    assert status == 2, err
    assert content(tmp_path / "out") == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    return " ".join(err.split())


def test_what_cannot_be_fetched_leaves_nothing(cli: Any, hub: Hub, tmp_path: Path) -> None:
    assert "Unknown data 'longbenhc'; did you mean longbench" in refused(cli, tmp_path, "longbenhc")
    assert "no repository 'simonjegou/ruler'" in refused(cli, tmp_path, "ruler-hf")
    hub.files["datasets/simonjegou/ruler/README.md"] = CARD.encode()
    assert "Unknown configuration of hf:simonjegou/ruler '4096'" in refused(cli, tmp_path, "ruler-hf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "holds 'mine.txt', which is not written here" in refused(cli, tmp_path, "longbench")


def test_content_that_was_not_announced_is_refused(cli: Any, hub: Hub, tmp_path: Path) -> None:
    hub.files["datasets/simonjegou/loogle/README.md"] += b"1"
    hub.spoiled = True
    assert "is damaged" in refused(cli, tmp_path, "loogle")


@pytest.mark.parametrize("member", ["../out.jsonl", "/tmp/out.jsonl", "data/../../out.jsonl", "..\\out.jsonl", "C:out"])
def test_a_member_outside_of_the_archive_is_refused(cli: Any, hub: Hub, tmp_path: Path, member: str) -> None:
    hub.files["datasets/THUDM/LongBench/data.zip"] = zipped({"data/trec.jsonl": ROW, member: ROW})
    assert "which lies outside of the archive" in refused(cli, tmp_path, "longbench")
    assert not (tmp_path / "out.jsonl").exists()


def test_an_archive_that_is_none_or_torn_is_refused(cli: Any, hub: Hub, tmp_path: Path) -> None:
    name = "datasets/THUDM/LongBench/data.zip"
    whole = hub.files[name]
    for damaged in (b"not a zip", whole.replace(b'"q 1"', b'"q 2"', 1)):
        hub.files[name] = damaged
        hub.commits += 1
        forget()
        assert "is not a readable zip file" in refused(cli, tmp_path, "longbench")


def test_a_table_is_evaluated_and_counted(cli: Any, texty_folder: Path, tmp_path: Path) -> None:
    rows = [
        {
            "context": f"The boat {n} is red. " * 10,
            "question": f"Which boat is it, {n}? ",
            "answer_prefix": "Answer: It is",
            "answer": [f"boat {n}", "e"],
            "task": "vt",
        }
        for n in range(12)
    ]
    table = tmp_path / "ruler-hf"
    (table / "4096").mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(table / "4096" / "test-0.parquet")
    card = "---\nconfigs:\n- config_name: '4096'\n  data_files:\n  - split: test\n    path: 4096/test-*\n---\n"
    (table / "README.md").write_text(card)
    asked = ("eval", "--model", texty_folder, "--tasks", "ruler-hf/4096/vt", "--data-dir", tmp_path, "--split", "all")
    methods = ("--method", "full,snapkv", "--budget", 16, "--limit", 3)
    for more in ((), ("--question-agnostic",), ("--utility", "loglik")):
        out = tmp_path / f"run{len(more)}{more[:1] == ('--utility',)}"
        status, _, err = cli(*asked, *methods, *more, "--out", out)
        assert status == 0, err
        records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
        assert len(records) == 6
        assert {record["task"] for record in records} == {"ruler-hf/4096/vt"}
    assert "ruler-hf/4096" in (tmp_path / "run0False" / "table.csv").read_text().splitlines()[0]
    status, said, err = cli(*asked, *methods, "--dry-run")
    assert status == 0, err
    assert " 3 " in " ".join(said.split())
