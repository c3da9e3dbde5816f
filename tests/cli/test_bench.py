"""`cokv-bench bench`: the files it writes, and what it refuses."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cokv_bench.bench.table import COLUMNS

SMALL = ("--lengths", "100,200", "--budget", "16", "--new-tokens", "4", "--repeats", "1", "--device", "cpu")


def test_a_benchmark_is_a_table_a_figure_and_its_settings(cli, texty_folder: Path) -> None:
    status, out, err = cli("bench", "--model", texty_folder, *SMALL, "--budget", "16,32", "--out", "found")
    assert status == 0, err
    assert "ada-snapkv 32" in out
    table = pd.read_csv("found/bench.csv")
    assert tuple(table.columns) == COLUMNS
    assert list(table["method"]) == ["full", "snapkv", "snapkv", "ada-snapkv", "ada-snapkv"] * 2
    assert list(table["prompt_tokens"].unique()) == [100, 200]
    assert (table["kv_bytes_held"] == table["kv_bytes_ideal"]).all()
    assert json.loads(Path("found/run.json").read_text())["command"].startswith("cokv-bench bench --model")


def test_no_figure_without_matplotlib_and_a_word_about_it(
    cli, texty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cokv_bench.report.static.PACKAGE", "no_such_package")
    status, out, err = cli("bench", "--model", texty_folder, *SMALL, "--method", "full")
    assert status == 0, err
    assert "pip install no_such_package" in out
    assert {path.name for path in Path("results/bench-texty").iterdir()} == {"bench.csv", "run.json"}


def test_ctrl_c_says_what_is_kept(cli, texty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cokv_bench.bench.run.measure", stop)
    status, out, _ = cli("bench", "--model", texty_folder, *SMALL)
    assert status == 1
    assert "has what was measured" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "snapvk"), "did you mean snapkv"),
        (("--budget", "8"), "nothing beyond the observation window"),
        (("--lengths", "4096"), "exceed the context"),
        (("--lengths", "long"), "whole numbers"),
        (("--new-tokens", "1"), "ask for at least 2"),
        (("--method", "cokv"), "name the file or its folder with --heads"),
        (("--method", "cokv", "--budgets", "nowhere.json"), "nowhere.json"),
        (("--random-weights", "llama3-8b"), "exclude each other"),
        (("--layers", "2"), "--random-weights"),
        (("--out", "/proc/no"), "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    cli, texty_folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    status, _, err = cli("bench", "--model", texty_folder, *SMALL, *arguments)
    assert status == 2, err
    assert words in err
    assert "Traceback" not in err
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--random-weights", "llama3-8"), "did you mean llama3-8b"),
        (("--random-weights", "llama3-8b", "--layers", "40"), "from 1 to 32"),
        (("--random-weights", "llama3-8b", "--dtype", "int8"), "use float32, bfloat16 or float16"),
        (("--random-weights", "llama3-8b", "--device", "gpu7"), "no device 'gpu7'"),
    ],
)
def test_bad_shapes_are_one_sentence_and_status_2(cli, arguments: tuple[str, ...], words: str) -> None:
    status, _, err = cli("bench", *arguments)
    assert status == 2, err
    assert words in err
    assert "Traceback" not in err
