"""Reproductions: what their YAML says becomes commands, and what it cannot say is refused."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.runs.reproduction import read_reproduction
from cokv_bench.tasks.registry import TaskOptions, resolve
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
    plan = read_reproduction(write(tmp_path, content()))
    (trec,) = plan.loads(plan.steps[0])
    assert (trec.prompts, trec.rows, trec.tokens, trec.new_tokens) == (30, 48, 300, 64)
    loads = plan.loads(plan.steps[2])
    assert [(load.prompts, load.rows) for load in loads] == [(170, 3), (17, 3)]


def made_up(folder: Path, command: str, **options: object) -> list[tuple[int, int, int]]:
    """Prompts, tokens and answer tokens of the loads of one step over tasks that make their examples."""
    step = {"command": command, "options": {"method": "full,snapkv", "budget": 16, **options}}
    plan = read_reproduction(write(folder, content(steps=[step])))
    return [(load.prompts, load.tokens, load.new_tokens) for load in plan.loads(plan.steps[0])]


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


def test_rows_that_nobody_counted(tmp_path: Path) -> None:
    plan = read_reproduction(write(tmp_path, content(examples={"longbench/trec": 200})))
    with pytest.raises(RequestError, match="how many rows 'longbench/samsum'"):
        plan.loads(plan.steps[2])
