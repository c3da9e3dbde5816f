"""How commands read the files of `tests.valid_files` in a folder."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cokv_bench.cli import make_app
from cokv_bench.cli.options import console
from cokv_bench.errors import RequestError
from cokv_bench.game import Ledger, LedgerHeader
from cokv_bench.game.step_journal import StepJournal
from cokv_bench.registries import EXPORTS
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
from cokv_bench.search.ledger import SearchLedger, best_round
from cokv_bench.tasks.longbench import LongBenchTask
from cokv_bench.tasks.needle.task import NeedleTask
from cokv_bench.tasks.rows.jsonl import JsonlTask
from cokv_bench.tasks.ruler import RulerTask, read_qa
from cokv_bench.tasks.text import TextTask
from tests.requests import request_of
from tests.valid_files import MODEL, SEARCH, a_profile, a_run

with tempfile.TemporaryDirectory() as _place:
    a_profile(Path(_place))
    _HEADER = Ledger.read(Path(_place) / "ledger.jsonl").header
    a_run(Path(_place))
    _CONFIGURATION = read_run(Path(_place) / "run")["configuration"]


def command(*arguments: object) -> None:
    """Run a command as the command line does, without its last net."""
    make_app()(list(map(str, arguments)), standalone_mode=False)


def whitespace_tokens(text: str, *, add_special_tokens: bool = True) -> list[int]:
    return [0] * len(text.split())


TOKENIZER: Any = SimpleNamespace(encode=whitespace_tokens)
COUNTED: dict[str, Any] = {"encode_length": lambda text: len(text.split()), "lengths": (200,), "examples": 2}


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


def export_file(name: str) -> Callable[[Path], None]:
    """To each target in turn; a refusal of one leaves nothing behind."""

    def use(folder: Path) -> None:
        refused = []
        for target in EXPORTS:
            options = {"transformers": (), "kvpress": ("--prompt", 99)}.get(target, ("--budget", 32))
            more = ("--prompt", 60) if target == "duo" else ()
            out = folder / f"{target}.out"
            try:
                command("export", folder / name, "--to", target, "--out", out, *options, *more)
            except RequestError as error:
                assert not out.exists()
                refused.append(error)
        if refused:
            raise refused[-1]

    return use


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
