"""A benchmark in one file, added from outside, is found by every command and table."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cokv_bench.errors import RequestError
from cokv_bench.runs.checked import record_problem
from cokv_bench.tasks import Example, Split, Task, content_id
from cokv_bench.tasks.family import Family, Size
from cokv_bench.tasks.registry import FAMILIES, TaskOptions, add_family, family_of
from tests.costs.test_reproduction import SHAPE

WORDS = {"profile": ("moss", "fern"), "test": ("salt", "iron"), "report": ("wool", "silk")}


class Echo:
    """A word many times, then once more: the answer is the word."""

    metric = "echoed"
    version = 1

    def __init__(self, name: str, limit: int | None) -> None:
        self.name = name
        self._limit = limit

    def examples(self, split: Split) -> list[Example]:
        found = []
        for times in (40, 50):
            for word in WORDS[split]:
                prompt = f"{self.name}: " + f"{word} " * times
                fields = {"times": times}
                found.append(Example(content_id(prompt), self.name, prompt, (word,), max_new_tokens=4, fields=fields))
        return found[: self._limit]

    def score(self, example: Example, prediction: str) -> dict[str, float]:
        return {"score": float(example.answers[0] in prediction)}


class Echoes(Family):
    name = "echo"

    def lines(self) -> Mapping[str, str]:
        return {"echo": "all echoes", "echo/loud": "a word, loudly", "echo/soft": "a word, softly"}

    def expand(self, name: str, options: TaskOptions) -> list[str]:
        return ["echo/loud", "echo/soft"] if name == "echo" else [name]

    def make(self, name: str, model: object, options: TaskOptions) -> Task:
        return Echo(name, options.limit)

    def size(self, task: str, options: TaskOptions, split: Split, rows: int | None) -> Size:
        return Size(options.limit or 4, new_tokens=4, lengths=(230,))

    def length(self, task: str) -> str | None:
        return "times"

    def tables(self, records: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
        return {"echo.csv": records.groupby("task", as_index=False).agg(n=("score", "size"))}


@pytest.fixture
def echoes() -> Iterator[Family]:
    family = Echoes()
    add_family(family)
    yield family
    del FAMILIES[family.name]


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("echoes")
def test_it_is_listed_and_its_names_are_checked(cli) -> None:
    _, out, _ = cli("ls", "tasks")
    assert "echo/soft" in out
    assert "a word, softly" in out
    status, _, err = cli("eval", "--tasks", "echo/sofd", "--method", "full")
    assert status == 2
    assert "did you mean echo/soft" in err


@pytest.mark.usefixtures("echoes")
def test_it_is_evaluated_and_tabulated(cli, texty_folder: Path) -> None:
    asked = ("--model", texty_folder, "--tasks", "echo,needle", "--lengths", "400", "--depths", "2")
    asked = (*asked, "--method", "full,snapkv", "--budget", "20")
    status, out, err = cli("eval", *asked, "--dry-run")
    assert status == 0, err
    for task, prompts in (("echo/loud", "4"), ("echo/soft", "4"), ("needle", "2")):
        assert next(line for line in out.splitlines() if task in line).split()[1] == prompts
    status, _, err = cli("eval", *asked, "--out", "run")
    assert status == 0, err
    counts = {row["task"]: row["n"] for row in rows("run/scores.csv") if row["method"] == "snapkv"}
    assert counts == {"echo/loud": "4", "echo/soft": "4", "needle": "2", "echo mean": "8"}
    assert list(rows("run/table.csv")[0]) == ["method", "budget", "echo/loud", "echo/soft", "needle", "echo mean"]
    assert {(row["task"], row["length"], row["n"]) for row in rows("run/lengths.csv")} == {
        *(("echo/loud", times, "2") for times in ("40", "50")),
        *(("echo/soft", times, "2") for times in ("40", "50")),
        ("needle", "400", "2"),
    }
    assert rows("run/echo.csv") == [{"task": "echo/loud", "n": "8"}, {"task": "echo/soft", "n": "8"}]
    assert Path("run/needle.csv").is_file()


@pytest.mark.usefixtures("echoes")
def test_heads_are_profiled_on_it(cli, texty_folder: Path) -> None:
    asked = ("--model", texty_folder, "--tasks", "echo/loud", "--limit", "2", "--samples", "4", "--out", "p")
    status, _, err = cli("profile", *asked)
    assert status == 0, err
    assert Path("p/values.json").is_file()


@pytest.mark.usefixtures("echoes")
def test_a_reproduction_counts_it(cli, tmp_path: Path) -> None:
    step = {"command": "eval", "options": {"tasks": "echo", "method": "full,snapkv", "budget": 20, "limit": 3}}
    path = tmp_path / "reproduction.yaml"
    path.write_text(yaml.safe_dump({"model": "m", "shape": SHAPE, "steps": [step]}))
    status, out, err = cli("reproduce", path, "--dry-run")
    assert status == 0, err
    line = next(line for line in map(str.strip, out.splitlines()) if line.startswith("1. eval echo"))
    assert line.split()[3:5] == ["6", "1,380"]


def test_a_benchmark_without_sizes_is_not_counted(cli, tmp_path: Path, echoes: Family, monkeypatch) -> None:
    monkeypatch.delattr(Echoes, "size")
    step = {"command": "eval", "options": {"tasks": "echo/loud", "method": "full"}}
    path = tmp_path / "reproduction.yaml"
    path.write_text(yaml.safe_dump({"model": "m", "shape": SHAPE, "steps": [step]}))
    status, out, err = cli("reproduce", path, "--dry-run")
    assert status == 0, err
    assert "Not counted: 1. eval echo/loud (the benchmark 'echo' does not say how many prompts it has)." in out


def test_its_column_of_lengths_is_checked(echoes: Family) -> None:
    record = {
        "task": "echo/loud",
        "example": "e",
        "method": "full",
        "budget": None,
        "score": 1.0,
        "prediction": "x",
        **dict.fromkeys(("prompt_tokens", "kept_tokens", "kv_bytes", "new_tokens"), 1),
    }
    assert record_problem({**record, "times": 40}, True) is None
    assert record_problem({**record, "times": "few"}, True) is None
    assert "the field 'times'" in str(record_problem({**record, "times": -1}, True))
    assert "the field 'times' is missing" in str(record_problem(record, True))


def test_two_benchmarks_never_share_a_name(echoes: Family) -> None:
    with pytest.raises(RequestError, match="There is a benchmark or task 'echo' already"):
        add_family(Echoes())

    class Second(Echoes):
        name = "second"

        def lines(self) -> Mapping[str, str]:
            return {"second": "of its own", "ruler/echo": "of another"}

    with pytest.raises(RequestError, match="'ruler/echo' already"):
        add_family(Second())


def test_records_of_a_benchmark_that_is_gone_still_have_a_mean() -> None:
    stranger = family_of("echo/loud")
    assert (stranger.name, stranger.mean("echo/loud"), stranger.knobs("echo/loud")) == ("echo", "echo", "echo")
    assert stranger.length("echo/loud") is None
    assert stranger.columns("echo/loud") == {}
