"""Named tables on made-up rows in the shape in which they are published."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.registries import FAMILIES
from cokv_bench.tasks.base import Example, Task
from cokv_bench.tasks.family import UncountedError
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.registry import check, expand, family_of, resolve
from cokv_bench.tasks.rows.settings import check_settings, rules_of, table_of
from cokv_bench.tasks.tables.family import PublishedTable

TABLES = [family for family in FAMILIES.values() if isinstance(family, PublishedTable)]
V2 = "LongBench-v2/data.json"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.delenv("COKV_BENCH_DATA", raising=False)


def write(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> None:
    """A copy of a repository that `push_to_hub` has written: a card, and a folder for each configuration."""
    card = ["---", "configs:"]
    for config, rows in tables.items():
        (folder / config).mkdir(parents=True)
        name = f"{config}/test-00000-of-00001.parquet"
        pd.DataFrame(rows).to_parquet(folder / name)
        card += [f"- config_name: '{config}'", "  data_files:", "  - split: test", f"    path: {config}/test-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")


def made(name: str, texty: Model, folder: Path) -> tuple[Task, list[Example]]:
    (task,) = resolve([name], texty, TaskOptions(names=(name,), data_dir=folder))
    return task, task.examples("all")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_what_the_files_say_is_whole(table: PublishedTable) -> None:
    assert set(table.described) <= {"about", "source", "lengths", "select", "rows", "shared", "tasks"}
    assert FAMILIES.line(table.name) == table.described["about"]
    for task, settings in table.settings.items():
        check_settings(settings, task)
        # A dry run counts with it.
        assert settings["max_new_tokens"] > 0
        rules_of(settings, table_of("file", settings), task)
        check([task], TaskOptions(names=(task,)))
        assert family_of(task) is table
        if "rows" in table.described:
            assert table.size(task, TaskOptions(), "all", None).examples > 100
        else:
            with pytest.raises(UncountedError, match="its number of rows is not known"):
                table.size(task, TaskOptions(), "all", None)
            assert table.size(task, TaskOptions(), "all", 40).examples == 40


def test_groups_and_means() -> None:
    options = TaskOptions()
    assert len(expand("ruler-hf", options)) == 39
    tasks = expand("ruler-hf/8192", options)
    assert len(tasks) == 13
    assert {family_of(task).mean(task) for task in tasks} == {"ruler-hf/8192"}
    assert family_of("scbench/kv").mean("scbench/kv") == "scbench"
    with pytest.raises(RequestError, match="did you mean ruler-hf/4096/vt"):
        expand("ruler-hf/4096/vtt", options)


def test_ruler(texty: Model, tmp_path: Path) -> None:
    row = {
        "context": "Some magic numbers are hidden. One of the special magic numbers for moss is: 71.\n",
        "question": "What are all the special magic numbers for moss mentioned in the provided text? ",
        "answer_prefix": "The special magic numbers for moss mentioned in the provided text are",
        "answer": ["71", "83"],
        "max_new_tokens": 128,
    }
    rows = [{**row, "task": task} for task in ("niah_multivalue", "vt", "qa_1")]
    write(tmp_path / "ruler-hf", {"4096": rows, "8192": rows[:1]})
    task, (example,) = made("ruler-hf/4096/niah_multivalue", texty, tmp_path)
    assert example.prompt == row["context"] + row["question"]
    assert (example.question, example.begun) == (row["question"], row["answer_prefix"])
    assert (example.max_new_tokens, example.truncate, example.chat) == (128, False, True)
    assert task.score(example, " 71 and 8") == {"score": 0.5}
    task, (example,) = made("ruler-hf/4096/qa_1", texty, tmp_path)
    assert task.score(example, " 71 and 8") == {"score": 1.0}
    with pytest.raises(RequestError, match="has 1 rows, but none of them with task = vt"):
        made("ruler-hf/8192/vt", texty, tmp_path)
    with pytest.raises(RequestError, match=r"Unknown configuration of .* '16384'; known: 4096, 8192"):
        made("ruler-hf/16384/vt", texty, tmp_path)


def test_longbench_v2(texty: Model, tmp_path: Path) -> None:
    row = {"_id": "1", "domain": "d", "sub_domain": "s", "difficulty": "easy", "length": "short", "context": " Text. "}
    options = {f"choice_{letter}": f"{letter.lower()} {{input}} " for letter in "ABCD"}
    (tmp_path / "data.json").write_text(json.dumps([{**row, **options, "question": "Why?\n", "answer": "C"}]))
    task, (example,) = made("longbench-v2", texty, tmp_path)
    assert example.prompt == (
        "Please read the following text and answer the question below.\n\n<text>\nText.\n</text>\n\n"
        "What is the correct answer to this question: Why?\nChoices:\n(A) a {input}\n(B) b {input}\n(C) c {input}\n"
        '(D) d {input}\n\nFormat your response as follows: "The correct answer is (insert answer here)".'
    )
    assert example.question.startswith("\n</text>\n\nWhat is")
    assert (example.answers, example.max_new_tokens, example.fields) == (("C",), 128, {"row": 0})
    assert task.score(example, "The correct answer is **(C)**") == {"score": 1.0}
    assert task.score(example, "The correct answer is (B) or (C)") == {"score": 0.0}


@pytest.mark.parametrize(
    ("name", "answer", "right", "wrong"),
    [
        ("passkey", ["71432"], "71432.", "7143"),
        ("number_string", ["2200012222"], " 2200012222", "220001222"),
        ("kv_retrieval", ["00a00042-6bcb"], ' "00a00042-6bcb"', "00a00042-6bc"),
        ("longdialogue_qa_eng", ["ACE", "ACE ROTHSTEIN"], "Ace", "Rothstein"),
        ("longbook_qa_eng", ['"Peyton"'], "the Peyton", "Seb"),
        ("longbook_qa_chn", ["苹果"], "苹果。", "梨"),
        ("longbook_choice_eng", ["B"], " B. Walking", "It is A or B"),
        ("longbook_sum_eng", ["A book."], "a book", ""),
        ("code_run", ["-12"], "is -12", "12"),
        ("code_debug", ["C"], "C. run", "C"),
        ("math_find", ["93"], "93.5", "9"),
    ],
)
def test_infinitebench(texty: Model, tmp_path: Path, name: str, answer: list[str], right: str, wrong: str) -> None:
    row = {"context": "Text.\n\n", "question": "Which?", "answer_prefix": "It is", "answer": answer, "task": name}
    write(tmp_path, {name: [{**row, "max_new_tokens": 7}]})
    task, (example,) = made(f"infinitebench/{name}", texty, tmp_path)
    assert (example.prompt, example.question, example.begun) == ("Text.\n\nWhich?", "Which?", "It is")
    assert task.score(example, right) == {"score": pytest.approx(1.0)}
    assert task.score(example, wrong)["score"] == 0.0


def test_loogle(texty: Model, tmp_path: Path) -> None:
    row = {"context": "Texts.", "question": "\nQuestion: Who?\n", "answer_prefix": "Answer: ", "answer": "the old boat"}
    write(tmp_path, {"shortdep_qa": [{**row, "task": "shortdep_qa", "max_new_tokens": 300}]})
    task, (example,) = made("loogle/shortdep_qa", texty, tmp_path)
    assert (example.prompt, example.begun) == ("Texts.\nQuestion: Who?\n", "Answer: ")
    assert task.score(example, "an old boat on the sea") == {"score": pytest.approx(2 / 3)}


def test_scbench(texty: Model, tmp_path: Path) -> None:
    options = ["Ann", "Bob", "Cy", "Di"]
    choice = [
        {"input": "Who?", "answer": "Bob", "options": options},
        {"input": "And?", "answer": "Di", "options": options},
    ]
    write(
        tmp_path,
        {
            "scbench_kv": [{"id": 1, "context": "{}", "multi_turns": [{"input": "Key:", "answer": "ab-1"}]}],
            "scbench_vt": [{"input": "VAR A = 1", "multi_turns": [{"input": "Find", "answer": ["A", "BCD"]}]}],
            "scbench_choice_eng": [{"id": 1, "context": "Book.", "multi_turns": choice}],
        },
    )
    task, (example,) = made("scbench/kv", texty, tmp_path)
    assert (
        example.prompt == "Extract the value corresponding to the specified key in the JSON object below.\n\n{}\n\nKey:"
    )
    assert [task.score(example, said)["score"] for said in ("is xab-1x", "AB-1")] == [1.0, 0.0]
    task, (example,) = made("scbench/vt", texty, tmp_path)
    assert example.prompt == "VAR A = 1\n\nFind"
    assert task.score(example, "a and b") == {"score": 0.5}
    task, (first, second) = made("scbench/choice_eng", texty, tmp_path)
    assert first.prompt == (
        "Read the book and answer the question.\n\nBook.\n\nQuestion: Who?\nA. Ann\nB. Bob\nC. Cy\nD. Di\n\n"
        "The the correct answer is"
    )
    assert (first.answers, second.answers) == (("B", "Bob"), ("D", "Di"))
    assert [task.score(first, said)["score"] for said in ("B", "Bob", "D", "It is A")] == [1.0, 1.0, 0.0, 0.0]


def test_a_folder_without_the_table_is_told_and_the_variable_may_lack_it(
    texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        RequestError, match=r"no README.md of 'loogle' in .*; fetch it with `cokv-bench data fetch loogle"
    ):
        made("loogle/longdep_qa", texty, tmp_path)
    with pytest.raises(RequestError, match=r"no data.json of 'longbench-v2'"):
        made("longbench-v2", texty, tmp_path)
    monkeypatch.setenv("COKV_BENCH_DATA", str(tmp_path))
    (task,) = resolve(["loogle/longdep_qa"], texty, TaskOptions())
    with pytest.raises(RequestError, match="hf:simonjegou/loogle is not in the local cache"):
        task.examples("all")
