"""One valid file of each kind that commands read, written into a folder."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import yaml

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues
from cokv_bench.budgets.knobs import Knobs, Tried, Tuning
from cokv_bench.game import Ledger
from cokv_bench.game.step_journal import StepJournal
from cokv_bench.scores.tables import write_tables
from cokv_bench.search.ledger import Ends, Round, SearchLedger
from tests.cli.test_import import write_slice
from tests.costs.test_reproduction import SHAPE
from tests.report.made_run import make_run
from tests.report.test_estimators import make_ledger
from tests.report.test_logprobs import make_logprobs
from tests.tasks.test_ruler_qa import hotpot_rows, squad_rows

MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None}
SEARCH = {"model": MODEL, "budgets": [16, 32], "seed": 0, "examples": ["a", "b"]}


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
    tuning = Tuning(("needle",), ("a",), ("b",), "loglik", curves)
    Knobs(MODEL, 8, False, {"needle": tuning}).save(folder / "knobs.json")


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
