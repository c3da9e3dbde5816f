"""Reproductions: what their YAML says becomes commands, and what it cannot say is refused."""

import json
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml

from cokv_bench.cli import make_app
from cokv_bench.cli.reproduce import request_of, work_of
from cokv_bench.costs.reproduction import read_reproduction
from cokv_bench.costs.steps import Work
from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.tasks import Split
from cokv_bench.tasks.longbench import expand
from cokv_bench.tasks.longbench.sizes import published_rows
from cokv_bench.tasks.registry import TaskOptions, resolve
from cokv_bench.tasks.rows.jsonl import JsonlTask
from cokv_bench.tasks.ruler import SUBTASKS

SHAPE = {
    "layers": 3,
    "heads": 6,
    "kv_heads": 2,
    "head_dim": 8,
    "hidden_size": 48,
    "intermediate_size": 64,
    "vocabulary": 260,
    "itemsize": 4,
}


GRID = {"method": "full,snapkv", "budget": 16}


def content(**changes: object) -> dict[str, object]:
    steps = [
        {
            "command": "profile",
            "each": "task",
            "options": {"tasks": "{task}", "samples": 24, "max-length": 300, "out": "p/{task}"},
        },
        {
            "command": "eval",
            "options": {"tasks": "{task}", "method": "full,snapkv", "budget": [16, 32], "max-length": 300,
                        "profile": "p/{task}", "published-rounding": True, "out": "r"},
        },
    ]  # fmt: skip
    return {
        "description": "A test.",
        "model": "m",
        "shape": SHAPE,
        "tasks": ["longbench/trec", "longbench/samsum"],
        "examples": {"longbench/trec": 200, "longbench/samsum": 20},
        "steps": steps,
        **changes,
    }


def write(folder: Path, document: object) -> Path:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def works(path: Path) -> list[Work]:
    """What each step of a file does."""
    plan = read_reproduction(path)
    commands = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    return [work_of(step.command, request_of(step, commands, path), plan.examples) for step in plan.steps]


def test_steps_become_commands(tmp_path: Path) -> None:
    plan = read_reproduction(write(tmp_path, content()))
    assert [step.command for step in plan.steps] == ["profile", "profile", "eval"]
    lines = [" ".join(step.arguments) for step in plan.steps]
    assert lines[1] == "--model m --tasks longbench/samsum --samples 24 --max-length 300 --out p/longbench-samsum"
    assert lines[2] == (
        "--model m --tasks longbench/trec,longbench/samsum --method full,snapkv --budget 16,32 --max-length 300 "
        "--profile p/longbench-trec --profile p/longbench-samsum --published-rounding --out r"
    )


def test_counts_follow_the_split(tmp_path: Path) -> None:
    done = works(write(tmp_path, content()))
    (trec,) = done[0].loads
    assert (trec.prompts, trec.rows, trec.tokens, trec.new_tokens) == (30, 48, 300, 64)
    loads = done[2].loads
    assert [(load.prompts, load.rows) for load in loads] == [(130, 3), (13, 3)]


def made_up(folder: Path, command: str, **options: object) -> list[tuple[int, int, int]]:
    """Prompts, tokens and answer tokens of the loads of one step over tasks that make their examples."""
    step = {"command": command, "options": {**(GRID if command == "eval" else {}), **options}}
    (done,) = works(write(folder, content(steps=[step])))
    return [(load.prompts, load.tokens, load.new_tokens) for load in done.loads]


def test_tasks_that_make_their_examples_need_no_counts(tmp_path: Path) -> None:
    def found(**options: object) -> list[tuple[int, int, int]]:
        return made_up(tmp_path, "eval", lengths="500,900", **options)

    assert found(tasks="needle", depths=4) == [(4, 500, 24), (4, 900, 24)]
    assert found(tasks="text,ruler/vt") == [(10, 500, 64), (10, 900, 64), (10, 500, 30), (10, 900, 30)]
    assert found(tasks="text", limit=7, **{"max-length": 300}) == [(7, 500, 64), (7, 900, 64)]
    assert found(tasks="needle", limit=7) == [(7, 500, 24), (7, 900, 24)]
    assert found(tasks="ruler/qa_1", examples=3, limit=7, **{"ruler-qa": ["none.json"]}) == [(3, 500, 32), (3, 900, 32)]
    assert made_up(tmp_path, "profile", tasks="ruler/cwe", lengths=800, examples=6) == [(6, 800, 120)]


def test_the_group_ruler_has_a_subtask_more_a_file(tmp_path: Path) -> None:
    assert len(made_up(tmp_path, "eval", tasks="ruler")) == len(SUBTASKS)
    files = ["one.json", "two.json"]
    assert len(made_up(tmp_path, "eval", tasks="ruler", **{"ruler-qa": files})) == len(SUBTASKS) + 2


def test_what_is_estimated_is_what_the_tasks_make(texty: Model, tmp_path: Path) -> None:
    lengths = (900, 1200)
    for task in resolve(["needle", "text", "ruler/vt", "ruler/fwe"], texty, TaskOptions(lengths=lengths)):
        counted = Counter((e.fields["length"], e.max_new_tokens) for e in task.examples("test"))
        loads = made_up(tmp_path, "eval", tasks=task.name, lengths=list(lengths))
        assert counted == {(tokens, new): prompts for prompts, tokens, new in loads}


@pytest.mark.parametrize(
    ("task", "said"), [("ruler/vtt", "did you mean ruler/vt"), ("ruler/qa_1", "--ruler-qa"), ("neddle", "Unknown")]
)
def test_unknown_tasks(tmp_path: Path, task: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        made_up(tmp_path, "eval", tasks=task)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("just text", "must hold keys"),
        (content(stepz=[]), "stepz"),
        ({key: value for key, value in content().items() if key != "model"}, "lacks the key 'model'"),
        (content(shape={"layers": 3}), "whole numbers for"),
        (content(shape={**SHAPE, "layers": "3"}), "whole numbers for"),
        (content(steps=[{"command": "rm", "options": {}}]), "rm"),
        (content(steps=[{"command": "eval"}]), "must have a 'command'"),
        (content(steps="eval"), "must have a 'command'"),
    ],
)
def test_what_is_no_reproduction(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        read_reproduction(write(tmp_path, document))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_reproduction(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(RequestError, match="not valid YAML"):
        read_reproduction(broken)


def done_on(folder: Path, tasks: str, command: str = "eval", **changes: object) -> Work:
    options = {"tasks": tasks, **(GRID if command == "eval" else {}), "max-length": 300, **changes}
    (done,) = works(write(folder, content(steps=[{"command": command, "options": options}])))
    return done


def test_rows_that_the_file_does_not_count_are_those_published(tmp_path: Path) -> None:
    done = done_on(tmp_path, "longbench-e,longbench/qasper_e,longbench/trec")
    assert [load.prompts for load in done.loads[:3]] == [224 - 34 - 45, 150 - 22 - 30, 300 - 45 - 60]
    assert (len(done.loads), done.loads[-1].prompts) == (14, 130)
    assert done.published == expand("longbench-e")
    assert done.uncounted == {}
    (load,) = done_on(tmp_path, "longbench/lcc_e", "profile", limit=7).loads
    assert (load.prompts, load.tokens, load.new_tokens) == (7, 300, 64)


def test_the_group_longbench_is_what_eval_makes_of_it(tmp_path: Path) -> None:
    done = done_on(tmp_path, "longbench")
    assert len(done.loads) == 16
    assert set(done.published) == set(expand("longbench")) - {"longbench/trec", "longbench/samsum"}


def test_published_rows() -> None:
    assert sum(map(published_rows, expand("longbench/all"))) == 4750
    assert sum(map(published_rows, expand("longbench-e"))) == 3668


def test_own_rows_are_counted(tmp_path: Path) -> None:
    lines = [{"input": f"What is {n}?", "context": f"It is {n}.", "answers": [str(n)]} for n in range(40)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]))
    (tmp_path / "own.yaml").write_text("max_new_tokens: 9\n")
    task = f"jsonl:{tmp_path / 'own.jsonl'}"
    examples = {split: len(JsonlTask(task).examples(split)) for split in get_args(Split)}
    assert examples["profile"] + examples["test"] + examples["report"] == examples["all"] == 40
    for command, split in (("profile", "profile"), ("eval", "test"), ("eval", "report"), ("eval", "all")):
        further = {"split": split} if command == "eval" else {}
        (load,) = done_on(tmp_path, task, command, **further).loads
        assert (load.prompts, load.tokens, load.new_tokens) == (examples[split], 300, 9)
    assert done_on(tmp_path, task, limit=5).loads[0].prompts == 5
    step = {"command": "eval", "options": {"tasks": "jsonl:none.jsonl", "method": "full", "max-length": 300}}
    (done,) = works(write(tmp_path, content(examples={"jsonl:none.jsonl": 100}, steps=[step])))
    assert done.loads[0].prompts == 65
    (load,) = done_on(tmp_path, "longbench/lcc", split="report").loads
    assert load.prompts == 100
    with pytest.raises(RequestError, match="did you mean report"):
        done_on(tmp_path, "longbench/lcc", split="reprot")


def test_what_cannot_be_counted_says_why(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("data: hf:owner/name\n")
    tasks = {"jsonl:none.jsonl": "No such file", "jsonl:hf:owner/name": "on the hub", "jsonl:none.yaml": "No such file"}
    tasks[f"jsonl:{tmp_path / 'hub.yaml'}"] = "on the hub"
    done = done_on(tmp_path, ",".join(["longbench/trec", *tasks]))
    assert len(done.loads) == 1
    assert list(done.uncounted) == list(tasks)
    for task, why in tasks.items():
        assert why in done.uncounted[task]
    steps = [{"command": "eval", "options": {"tasks": "longbench/trec,needle", "method": "full"}}]
    (done,) = works(write(tmp_path, content(steps=steps)))
    assert len(done.loads) == 1
    assert "max-length" in done.uncounted["longbench/trec"]
