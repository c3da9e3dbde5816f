"""Every file that a command reads, damaged in thousands of ways: it is read, or refused in one short sentence.

`KINDS` lists the files with a valid example each, and how a command reads them. Anything but a result or a
`RequestError` of at most 400 characters fails. `COKV_BENCH_FUZZ=1000` tries as many inputs of each kind.
"""

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues
from cokv_bench.budgets.knobs import Knobs, Tried, Tuning
from cokv_bench.cli import make_app
from cokv_bench.cli.options import console
from cokv_bench.errors import LONGEST, RequestError
from cokv_bench.game import Ledger, LedgerHeader
from cokv_bench.game.step_journal import StepJournal
from cokv_bench.report import write_formats
from cokv_bench.report.folders import read_folders
from cokv_bench.report.groups import make_groups
from cokv_bench.report.heads import named_map
from cokv_bench.report.html import write_page
from cokv_bench.report.terminal import print_maps
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.journal import Journal, read_run
from cokv_bench.runs.knobs import find_knobs
from cokv_bench.runs.sources import static_budgets
from cokv_bench.scores.reference import read_reference
from cokv_bench.scores.tables import write_tables
from cokv_bench.search.ledger import Ends, Round, SearchLedger, best_round
from cokv_bench.tasks.longbench import LongBenchTask
from cokv_bench.tasks.needle.task import NeedleTask
from cokv_bench.tasks.rows.jsonl import JsonlTask
from cokv_bench.tasks.ruler import RulerTask, read_qa
from cokv_bench.tasks.text import TextTask
from tests.cli.test_import import write_slice
from tests.costs.test_reproduction import SHAPE
from tests.mutations import damaged
from tests.report.made_run import make_run
from tests.report.test_estimators import make_ledger
from tests.report.test_logprobs import make_logprobs
from tests.requests import request_of
from tests.tasks.test_ruler_qa import hotpot_rows, squad_rows

INPUTS = int(os.environ.get("COKV_BENCH_FUZZ", "65"))
MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None}
SEARCH = {"model": MODEL, "budgets": [16, 32], "seed": 0, "examples": ["a", "b"]}


def command(*arguments: object) -> None:
    """Run a command as the command line does, without its last net."""
    make_app()(list(map(str, arguments)), standalone_mode=False)


def whitespace_tokens(text: str, *, add_special_tokens: bool = True) -> list[int]:
    return [0] * len(text.split())


TOKENIZER: Any = SimpleNamespace(encode=whitespace_tokens)
COUNTED: dict[str, Any] = {"encode_length": lambda text: len(text.split()), "lengths": (200,), "examples": 2}


# ---------------------------------------------------------------- valid files


def a_run(folder: Path) -> None:
    make_run(folder / "run", examples=2)
    write_tables(folder / "run")


def log_probabilities(folder: Path) -> None:
    make_logprobs(folder / "run", tables=True)


def a_bench(folder: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "results" / "gpu" / "decode", folder / "run")


def a_profile(folder: Path) -> None:
    make_ledger(folder, 6)
    with StepJournal.open(folder, Ledger.read(folder / "ledger.jsonl").header, 0, 2) as journal:
        journal.append(1, [0.5, 0.25])


def a_search(folder: Path) -> None:
    with SearchLedger.resume(folder / "search.jsonl", SEARCH) as ledger:
        table = [[[0.5] * 3] * 2] * 2
        ledger.append(Ends([-0.5, None], {"16": [-2.0, None], "32": [-1.0, None]}))
        for step in (10, 20):
            ledger.append(Round(step, 1.5, 0.25, {"16": 0.5, "32": 0.75}, table, table, table, table))


def head_files(folder: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    HeadValues(
        *(values, np.full((2, 3), 0.1), "ssv", 8, 0, "loglik", 8, ("needle",), ("a",), MODEL),
        alphas={64: {1: 0.5, 2: 0.25}},
        status={
            "sampling": "slices",
            "stopped_by": "samples",
            **dict.fromkeys(("standard_error", "rank_correlation", "reliability"), 0.5),
            **dict.fromkeys(("mean_absolute_difference", "published_threshold"), None),
        },
    ).save(folder / "values.json")
    HeadScores({**MODEL, "heads": 6}, np.ones((2, 6)), "made up", (), ()).save(folder / "scores.json")
    HeadShares((16, 32), np.zeros((2, 2, 3)), 8, ("loglik",), ("needle",), ("a",), MODEL, {"seed": 0}).save(
        folder / "shares.json"
    )
    rule = {"text": "made up", "parameters": {"method": "cokv", "kernel": 7, "pooling": "max"}}
    HeadBudgets(MODEL, 32, 8, np.full((2, 3), 32), rule, None, None, ("needle",), ("a",)).save(folder / "budgets.json")
    tried = [Tried({"kernel": 7, "pooling": "max"}, -1.0), Tried({"kernel": 11, "pooling": "avg"}, -0.5)]
    curves = {"snapkv": {32: tried}, "pyramidkv": {32: [Tried({"beta": 2}, -1.0)]}}
    tuning = Tuning(("needle",), ("a",), ("b",), curves)
    Knobs(MODEL, 8, "loglik", False, {"needle": tuning}).save(folder / "knobs.json")


def published(folder: Path) -> None:
    write_slice(folder / "cc_llama" / "cc_trec_32.npy")
    heads = {f"{layer}-{head}": [0.5, 0.25] for layer in range(2) for head in range(4)}
    (folder / "heads.json").write_text(json.dumps(heads))
    samples = np.ones((2, 4, 3), np.float32)
    np.savez(folder / "heads.npz", samples=samples, mean=samples.mean(-1))


def a_reproduction(folder: Path) -> None:
    tasks = {"tasks": "needle,longbench/trec,ruler/vt,jsonl:rows.jsonl", "lengths": [500, 1000], "max-length": 900}
    document = {
        "description": "Two steps.",
        "model": "m",
        "shape": SHAPE,
        "examples": {"longbench/trec": 20},
        "tasks": ["longbench/trec", "needle"],
        "steps": [
            {"command": "profile", "options": {**tasks, "samples": 24, "limit": 4, "out": "p"}},
            {"command": "headkv_scores", "options": {"examples": 2}},
            {
                "command": "eval",
                "each": "task",
                "options": {"tasks": "{task}", "method": "full,cokv", "budget": 20, "profile": ["p/{task}"]},
            },
        ],
    }
    (folder / "steps.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def rows(folder: Path) -> None:
    lines = [
        {
            "input": f"Which {i}?",
            "context": f"It is {i}.",
            "answers": ["abbreviation"],
            "length": 3,
            "all_classes": ["abbreviation", "entity"],
        }
        for i in range(8)
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    for path in ("rows.jsonl", "trec.jsonl"):
        (folder / path).write_text(text)
    (folder / "rules.yaml").write_text(
        "data: rows.jsonl\ntemplate: '{context} {input}'\nmetric: classification\nmax_new_tokens: 4\nchat: true\n"
    )
    (folder / "zip").mkdir()
    with zipfile.ZipFile(folder / "zip" / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/trec.jsonl", text)


def questions(folder: Path) -> None:
    (folder / "squad.json").write_text(json.dumps(squad_rows()))
    (folder / "hotpot.json").write_text(json.dumps(hotpot_rows()))


def needles(folder: Path) -> None:
    lines = [{"needle": f"The code is {i}.", "question": "What is the code?", "answer": [str(i)]} for i in range(12)]
    (folder / "needles.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "hay").mkdir()
    for name in "ab":
        (folder / "hay" / f"{name}.txt").write_text("The river runs by the old mill and the town. It is long.\n\n" * 9)


def a_reference(folder: Path) -> None:
    (folder / "reference.csv").write_text(
        "source,model,model_ids,mode,method,budget,task,score\n"
        "paper,Llama,meta/llama,question-aware,snapkv,64,needle,50.5\n"
        "paper,Llama,meta/llama,question-aware,full,,needle,80\n"
    )
    a_run(folder)


def estimator_quality(folder: Path) -> None:
    row = {"budgets": "cokv, ssv", "estimator": "ssv", "sampling": "slices", "standard_error": 0.5}
    row |= {"half_split_correlation": 0.75, "found": 50.0, "ci_low": 40.0, "ci_high": 60.0, "logprob": -0.5, "alpha": 2}
    file = {"pairs": 240, "budget": 64, "examples": 20, "rows": [row, {"budgets": "snapkv", "found": 20.0}]}
    (folder / "estimators.json").write_text(json.dumps(file))


# ---------------------------------------------------------------- as commands read them


def inspect_run(folder: Path) -> None:
    command("inspect", folder / "run")


def report_in_the_terminal(folder: Path) -> None:
    command("report", folder / "run", "--terminal")


def report_as_a_page(folder: Path) -> None:
    runs, benches = read_folders([folder / "run"])
    write_page(folder / "report.html", runs, benches, make_groups(runs, benches))


def resume_run(folder: Path) -> None:
    with Journal(folder / "run", _CONFIGURATION, {}):
        pass
    write_formats(folder / "run", write_tables(folder / "run"), read_run(folder / "run")["configuration"])


def estimate_again(folder: Path) -> None:
    make_groups([], [], estimated=[folder])


def resume_profile(folder: Path) -> None:
    header = LedgerHeader(MODEL, ("needle",), 8, "loglik", 0, ("a", "b"), (2, 3), _HEADER.config)
    with Ledger.open(folder / "ledger.jsonl", header) as ledger:
        ledger.utilities(), ledger.coalitions(), ledger.sizes()
        with StepJournal.open(folder, header, 0, 2) as journal:
            np.array(list(journal.columns.values()), dtype=float)


def resume_search(folder: Path) -> None:
    with SearchLedger.resume(folder / "search.jsonl", SEARCH) as ledger:
        for one in ledger.rounds:
            shapes = [
                np.array(table, dtype=float).shape for table in (one.parameters, one.average, one.first, one.second)
            ]
            assert shapes == [(2, 2, 3)] * 4
            assert one.seconds + one.followed + one.merit < 1e9
            assert one.step >= 0
        if ledger.rounds:
            assert {best_round(ledger.rounds, budget).step for budget in (16, 32)}
        if ledger.ends:
            assert set(ledger.ends.uniform) == {"16", "32"}
            for column in (ledger.ends.full, *ledger.ends.uniform.values()):
                assert len(column) == 2
                np.array([value for value in column if value is not None], dtype=float)


def inspect_file(name: str) -> Callable[[Path], None]:
    return lambda folder: command("inspect", folder / name, "--budget", 24)


def make_budgets(folder: Path) -> None:
    command("budgets", folder / "values.json", "--budget", "24,64", "--out", folder)


def evaluate_with(method: str, **files: Any) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        named = {
            key: (folder / name,) if key != "shares" and key != "head_scores" else folder / name
            for key, name in files.items()
        }
        model: Any = SimpleNamespace(name="toy", fingerprint=MODEL)
        found = static_budgets(
            method, model, [32], ["needle"], window=8, published_rounding=False, sources=HeadSources(**named)
        )
        for source in found.values():
            assert source.tokens(32, window=8, knobs={}).sum() > 0
            json.dumps([source.description, source.ranking, *source.examples, *source.tasks])

    return use


def choose_knobs(folder: Path) -> None:
    model: Any = SimpleNamespace(name="toy", fingerprint=MODEL)
    knobs = find_knobs(str(folder / "knobs.json"), model, 8, False, "test")
    json.dumps(knobs.description(["needle"], [24, 64], {"snapkv": None, "pyramidkv": None}))
    for method in ("snapkv", "pyramidkv"):
        request_of([], [method], [32]).policy(method, None, knobs.options(method, "needle", 32))


def head_map(name: str) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        groups = make_groups([], [], heads=[named_map(f"own={folder / name}")], budget=24)
        write_page(folder / "report.html", [], [], groups)
        for group in groups:
            print_maps(console, group)

    return use


def import_file(name: str, *options: object) -> Callable[[Path], None]:
    return lambda folder: command("import", folder / name, *options, "--out", folder / "out")


def plan_reproduction(folder: Path) -> None:
    command("reproduce", folder / "steps.yaml", "--dry-run")


def own_rows(name: str) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        task = JsonlTask(folder / name)
        for example in task.examples("all"):
            task.score(example, "It is abbreviation.")

    return use


def longbench(place: str) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        task = LongBenchTask("trec", data_dir=folder / place)
        for example in task.examples("all"):
            task.score(example, "abbreviation")

    return use


def ask(name: str) -> Callable[[Path], None]:
    def use(folder: Path) -> None:
        for subtask, found in read_qa([folder / name]).items():
            RulerTask(subtask, TOKENIZER, qa={subtask: found}, **{**COUNTED, "examples": 1}).examples("test")

    return use


def hide_needles(folder: Path) -> None:
    task = NeedleTask(TOKENIZER, needles=folder / "needles.jsonl", haystack=folder / "hay", **COUNTED)
    for example in task.examples("all"):
        task.score(example, "The code is 3.")


def read_on(folder: Path) -> None:
    TextTask(TOKENIZER, folder=folder / "hay", **COUNTED).examples("all")


def compare(folder: Path) -> None:
    read_reference(str(folder / "reference.csv"))
    write_tables(folder / "run", reference=str(folder / "reference.csv"))


def show_estimators(folder: Path) -> None:
    command("report", folder / "run", "--terminal", "--estimators", folder / "estimators.json")


@dataclass(frozen=True)
class Kind:
    """A file that commands read.

    Attributes:
        file: which of those that `make` writes.
        uses: how commands read it.
        structure: for `damaged`; the file's own ending where it says enough.
    """

    make: Callable[[Path], None]
    file: str
    uses: tuple[Callable[[Path], None], ...]

    @property
    def structure(self) -> str:
        ending = Path(self.file).suffix.removeprefix(".")
        return {"npz": "zip"}.get(ending, ending)


def with_a_run(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        a_run(folder)
        make(folder)

    return both


READ_RUN = (inspect_run, report_in_the_terminal, report_as_a_page)
# Once a table is not used, it is counted again from the records, which takes long; the figures are the same.
READ_TABLES = (inspect_run, inspect_run, inspect_run, report_in_the_terminal)
KINDS = (
    Kind(a_run, "run/run.json", (*READ_RUN, resume_run)),
    Kind(a_run, "run/records.jsonl", (*READ_RUN, resume_run)),
    Kind(a_run, "run/scores.csv", READ_TABLES),
    Kind(a_run, "run/comparisons.csv", READ_TABLES),
    Kind(a_run, "run/needle.csv", READ_TABLES),
    Kind(a_run, "run/examples.jsonl", (report_as_a_page,)),
    Kind(log_probabilities, "run/run.json", READ_RUN),
    Kind(log_probabilities, "run/records.jsonl", READ_RUN),
    Kind(log_probabilities, "run/logprobs.csv", READ_TABLES),
    Kind(log_probabilities, "run/comparisons.csv", READ_TABLES),
    Kind(log_probabilities, "run/gaps.csv", READ_TABLES),
    Kind(a_bench, "run/bench.csv", READ_RUN),
    Kind(a_bench, "run/run.json", READ_RUN),
    Kind(a_profile, "ledger.jsonl", (estimate_again, resume_profile)),
    Kind(a_profile, "step.jsonl", (resume_profile,)),
    Kind(a_search, "search.jsonl", (resume_search,)),
    Kind(
        head_files,
        "values.json",
        (
            inspect_file("values.json"),
            make_budgets,
            evaluate_with("cokv", profiles="values.json"),
            head_map("values.json"),
        ),
    ),
    Kind(
        head_files,
        "scores.json",
        (inspect_file("scores.json"), evaluate_with("headkv", head_scores="scores.json"), head_map("scores.json")),
    ),
    Kind(
        head_files,
        "shares.json",
        (inspect_file("shares.json"), evaluate_with("cokv-search", shares="shares.json"), head_map("shares.json")),
    ),
    Kind(
        head_files,
        "budgets.json",
        (inspect_file("budgets.json"), evaluate_with("cokv", budget_files="budgets.json"), head_map("budgets.json")),
    ),
    Kind(head_files, "knobs.json", (inspect_file("knobs.json"), choose_knobs)),
    Kind(published, "cc_llama/cc_trec_32.npy", (import_file("cc_llama/cc_trec_32.npy"),)),
    Kind(published, "heads.json", (import_file("heads.json", "--model", "a/b", "--kv-heads", 2, "--head-dim", 4),)),
    Kind(published, "heads.npz", (import_file("heads.npz", "--model", "a/b", "--kv-heads", 2, "--head-dim", 4),)),
    Kind(a_reproduction, "steps.yaml", (plan_reproduction,)),
    Kind(rows, "rows.jsonl", (own_rows("rows.jsonl"), own_rows("rules.yaml"))),
    Kind(rows, "rules.yaml", (own_rows("rules.yaml"),)),
    Kind(rows, "trec.jsonl", (longbench("."),)),
    Kind(rows, "zip/data.zip", (longbench("zip"), longbench("zip/data.zip"))),
    Kind(questions, "squad.json", (ask("squad.json"),)),
    Kind(questions, "hotpot.json", (ask("hotpot.json"),)),
    Kind(needles, "needles.jsonl", (hide_needles,)),
    Kind(needles, "hay/a.txt", (hide_needles, read_on)),
    Kind(a_reference, "reference.csv", (compare,)),
    Kind(with_a_run(estimator_quality), "estimators.json", (show_estimators,)),
)

with tempfile.TemporaryDirectory() as _place:
    a_profile(Path(_place))
    _HEADER = Ledger.read(Path(_place) / "ledger.jsonl").header
    a_run(Path(_place))
    _CONFIGURATION = read_run(Path(_place) / "run")["configuration"]


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """The folder of a kind's valid files, made once."""
    made: dict[Callable[[Path], None], Path] = {}

    def folder(kind: Kind) -> Path:
        if kind.make not in made:
            made[kind.make] = tmp_path_factory.mktemp("valid")
            kind.make(made[kind.make])
        return made[kind.make]

    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a second of matrix products nor megabytes of Plotly for each input."""
    monkeypatch.setattr("cokv_bench.cli.estimates.matrix_speed", lambda *_: 1e9, raising=False)
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")


def attempt(kind: Kind, source: Path, rng: random.Random) -> str | None:
    """Damage a copy of the valid files and let a command read it; the refusal, None where it was read."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), contextlib.chdir(place):
        warnings.simplefilter("ignore")
        folder = Path(place) / "f"
        shutil.copytree(source, folder)
        path = folder / kind.file
        whole = path.read_bytes()
        path.unlink()
        what = rng.randint(0, 40)
        if what == 0:
            path.mkdir()
        elif what > 1:
            path.write_bytes(damaged(whole, kind.structure, rng))
        use = rng.choice(kind.uses)
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                use(folder)
        except RequestError as error:
            return str(error)
        return None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.make.__name__}-{kind.file}")
def test_whole_files_are_read(kind: Kind, valid: Callable[[Kind], Path], tmp_path: Path) -> None:
    """What is damaged below is good to begin with."""
    shutil.copytree(valid(kind), tmp_path / "f")
    for use in kind.uses:
        use(tmp_path / "f")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.make.__name__}-{kind.file}")
def test_damaged_files_are_read_or_refused(kind: Kind, valid: Callable[[Kind], Path]) -> None:
    source = valid(kind)
    # Tables that are refused are counted again from the records, which takes most of the time.
    inputs = INPUTS // 2 if kind.uses is READ_TABLES else INPUTS

    @settings(
        max_examples=inputs, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 2**64))
    def check(seed: int) -> None:
        refusal = attempt(kind, source, random.Random(seed))
        assert refusal is None or (0 < len(refusal) <= LONGEST and "\n" not in refusal), refusal

    check()
