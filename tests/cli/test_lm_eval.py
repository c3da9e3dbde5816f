"""`cokv-bench lm-eval`: a line for lm-evaluation-harness's own command line, and one run of it."""

import json
import sys
from pathlib import Path

import pytest

from cokv_bench.cli.lm_eval import arguments
from tests.harness.tasks import add_choices, without_lm_evals_own


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("--tasks piers", "run --model cokv-bench --tasks piers"),
        ("run --tasks piers", "run --model cokv-bench --tasks piers"),
        (
            "--model-args pretrained=a-b,method=h2o --include-path=a-b -L 3",
            "run --model cokv-bench --model_args pretrained=a-b,method=h2o --include_path=a-b -L 3",
        ),
        # The last of two counts.
        ("--model hf --model_args a=b", "run --model cokv-bench --model hf --model_args a=b"),
        ("ls tasks --include-path tasks", "ls tasks --include_path tasks"),
        ("validate --tasks a", "validate --tasks a"),
    ],
)
def test_options_are_written_as_lm_eval_has_them(typed: str, given: str) -> None:
    assert arguments(typed.split(), "cokv-bench") == given.split()


def test_without_lm_eval_the_extra_is_named(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package has the command under the module's name.
    monkeypatch.setattr(sys.modules["cokv_bench.cli.lm_eval"], "find_spec", lambda name: None)
    status, _, err = cli("lm-eval", "--tasks", "piers")
    assert status == 2
    assert "pip install 'cokv-bench[lm-eval]'" in err
    _, out, _ = cli("lm-eval", "--help")
    assert "pip install 'cokv-bench[lm-eval]'" in out


@pytest.fixture
def own_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a task."""
    without_lm_evals_own(monkeypatch)
    add_choices(tmp_path)
    return tmp_path


def test_a_task_runs_by_lm_evals_own_command_line(cli, texty_folder: Path, own_tasks: Path, tmp_path: Path) -> None:
    model = f"pretrained={texty_folder},method=snapkv:kernel=3,budget=16,question_tokens=8"
    task = ("--include-path", own_tasks, "--tasks", "piers")
    status, out, err = cli("lm-eval", "--model-args", model, *task, "--limit", "1", "--output-path", tmp_path / "out")
    assert status == 0, err
    assert "|piers|" in out.replace(" ", "")
    (file,) = (tmp_path / "out").rglob("results_*.json")
    told = json.loads(file.read_text(encoding="utf-8"))["config"]
    assert (told["model"], told["method"], told["budget"]) == ("cokv-bench", "snapkv:kernel=3", 16)


def test_bad_model_arguments_are_one_sentence_and_status_2(cli, texty_folder: Path, own_tasks: Path) -> None:
    task = ("--include-path", own_tasks, "--tasks", "piers")
    status, _, err = cli("lm-eval", f"--model-args=pretrained={texty_folder},method=snapvk", *task)
    assert status == 2
    assert "did you mean snapkv" in err.splitlines()[-1]


def test_a_task_that_lm_eval_does_not_know_is_one_sentence(cli, texty_folder: Path, own_tasks: Path) -> None:
    status, _, err = cli(
        "lm-eval", f"--model-args=pretrained={texty_folder}", "--include-path", own_tasks, "--tasks", "pears"
    )
    assert status == 2
    assert "lm-eval refuses this: Tasks not found: pears." in err
