"""Reproductions: what their YAML says becomes commands, and what it cannot say is refused."""

from pathlib import Path

import pytest
import yaml

from cokv_bench.errors import RequestError
from cokv_bench.runs.reproduction import read_reproduction

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
