"""kvpress and this project on the same prompts: what both keep, what that takes, and what they answer.

python scripts/compare_kvpress.py --kvpress-python PYTHON --out FOLDER

kvpress wants another release of transformers, so it runs in a process of its own, `kvpress_side.py`, with the
interpreter of an environment that has it. Both sides read the same token ids with the same weights in float32, compress
at the end of the prompt, and answer greedily. The pairs of methods are those of `kvpress_pairs.py`.

Positions are compared for every pair, budget and prompt. Times, bytes and answers are of the pairs that are `timed`, on
the prompts of the first task: kvpress runs a prefill per method and budget, this project first alone (a prefill, one
selection, a compact cache) and then as a grid from one prefill. Both sides take turns, method by method, and times are
CPU seconds of one thread, so other work on the machine counts for neither.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from kvpress_pairs import PAIRS, WINDOW, Pair
from kvpress_tables import as_csv, cells_of, grid_of, positions_of

from cokv_bench import get_policy
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json, write_text
from cokv_bench.kvcache import RaggedCache, Selection, decode, prefill
from cokv_bench.kvcache.prefill import signals
from cokv_bench.models import Model
from cokv_bench.models.embedded import NAMES, embedded_folder
from cokv_bench.models.spec import ModelSpec
from cokv_bench.runs.grid import Grid
from cokv_bench.runs.versions import versions
from cokv_bench.tasks import Example, Task
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.options import TaskOptions
from cokv_bench.tasks.prompts import encode_parts
from cokv_bench.tasks.registry import resolve

INTERPRETER = "COKV_BENCH_KVPRESS_PYTHON"
SIDE = Path(__file__).with_name("kvpress_side.py")
_TASKS = TaskOptions(names=("needle", "ruler/vt"), lengths=(1024, 2048), examples=1)

Table = list[list[list[int]]]


@grouped
def main(
    model: Annotated[ModelSpec, Only("name")],
    grid: Annotated[Grid, Only("budgets", "split")] = Grid(budgets=(64, 128, 256), split="report"),  # noqa: B008 - frozen
    tasks: Annotated[TaskOptions, Only("names", "lengths", "examples")] = _TASKS,
    kvpress_python: Annotated[
        str, typer.Option(envvar=INTERPRETER, help="Interpreter that finds kvpress. Default: the one that runs this.")
    ] = sys.executable,
    out: Annotated[Path, typer.Option(help="Folder for figures and tables.")] = Path("results/comparison/kvpress"),
) -> None:
    """Compare kvpress with this project on the same prompts, and write figures and tables."""
    budgets = [budget for budget in grid.budgets if isinstance(budget, int)]
    if len(budgets) < len(grid.budgets):
        raise RequestError("Both sides are compared at numbers of tokens; name no share of the prompt with --budget.")
    other = Other(kvpress_python, folder_of(model))
    if other.missing:
        o.tell(f"Skipped: {other.missing}. Name the interpreter of an environment that has it (--kvpress-python).")
        return
    torch.set_num_threads(1)
    loaded = o.load(model)
    found = resolve(tasks.names, loaded, tasks)
    # Tasks take turns, so a run that is stopped has seen them all.
    turns = zip_longest(*([(task, example) for example in task.examples(grid.split)] for task in found))
    rows = [each for turn in turns for each in turn if each is not None]
    prompts = []
    for number, (task, example) in enumerate(rows, 1):
        ids = encode_parts(loaded, example, Encoding()).prompt
        o.note(f"Prompt {number} of {len(rows)}: {task.name}, {len(ids)} tokens ...")
        row: dict[str, Any] = {"task": task.name, "example": example.id, "tokens": len(ids)}
        row["kept"], alike = kept_by_both(loaded, other, ids, budgets)
        if task is found[0]:
            row |= timed(loaded, other, task, example, ids, budgets, alike)
        prompts.append(row)
        # After each prompt, so that a stopped run leaves what it has measured.
        tables = write(out, loaded, other, prompts, budgets)
    other.close()
    for name, table in tables.items():
        o.print_table(name, tuple(table[0]), [[str(cell) for cell in row.values()] for row in table], words=["method"])
    o.tell(f"Figures and tables are in {out}")


def write(
    out: Path, model: Model, other: "Other", prompts: Sequence[Mapping[str, Any]], budgets: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Write what was measured on some prompts; returns the tables by name."""
    figures = {
        "date": date.today().isoformat(),
        "model": model.fingerprint,
        "budgets": budgets,
        "pairs": [
            {"name": pair.name, "ours": pair.ours, "theirs": pair.theirs(budgets[0]), "why": pair.why} for pair in PAIRS
        ],
        "prompts": prompts,
        "grid": grid_of(prompts),
        "kvpress": other.versions,
        "versions": versions(),
    }
    write_json(out / "kvpress.json", figures)
    tables = {"positions": positions_of(prompts, budgets), "cells": cells_of(prompts, budgets)}
    for name, table in tables.items():
        write_text(out / f"{name}.csv", as_csv(table))
    return tables


class Other:
    """kvpress in its process.

    Attributes:
        missing: why it cannot be run; empty where it can.
        versions: of kvpress and what it stands on.
    """

    def __init__(self, python: str, folder: Path) -> None:
        """Raises `RequestError` where there is no such interpreter."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                [python, str(SIDE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        except OSError as error:
            raise RequestError(
                f"{python} cannot be started ({error.strerror}); give --kvpress-python the interpreter of an "
                "environment that has kvpress."
            ) from None
        hello = self.ask({"model": str(folder)})
        self.missing, self.versions = hello.get("missing", ""), hello.get("versions", {})

    def ask(self, request: Mapping[str, Any]) -> Any:
        """The answer to a request, see `kvpress_side.py`. Raises `RequestError` where the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self._process.stdout.readline()
        if not answer:
            raise RequestError(f"kvpress's process has ended (status {self._process.wait()}); its error stands above.")
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def folder_of(model: ModelSpec) -> Path:
    """The folder from which both sides load a model.

    Raises:
        RequestError: it is neither embedded nor a folder.
    """
    if model.name in NAMES:
        return embedded_folder()
    if not Path(model.name).is_dir():
        raise RequestError(f"kvpress loads '{model.name}' from a folder; name one, or the embedded model.")
    return Path(model.name)


def ratio(tokens: int, budget: int) -> float:
    """The compression ratio that keeps so many tokens.

    A thousandth of a token more, since kvpress cuts off what rounding leaves below a whole one.
    """
    return 1 - (budget + 1e-3) / tokens


def kept_by_both(
    model: Model, other: Other, ids: Sequence[int], budgets: Sequence[int]
) -> tuple[list[dict[str, Any]], dict[tuple[str, int], Table]]:
    """How far each pair agrees at each budget on a prompt; and what kvpress keeps."""
    theirs = {}
    # Those that share a plain prefill come last: what then runs alone finds its keys among that prefill's.
    for way in ("kvzip", "eager", "shared"):
        pairs = [pair for pair in PAIRS if pair.way == way]
        for (pair, budget), kept in zip(
            ((pair, budget) for pair in pairs for budget in budgets),
            kept_by_kvpress(other, ids, pairs, budgets),
            strict=True,
        ):
            theirs[pair.name, budget] = kept
    needs = frozenset().union(*(get_policy(pair.ours).needs for pair in PAIRS))
    prompt = prefill(model, ids, window=WINDOW, **signals(needs))
    rows = [
        {"method": pair.name, "budget": budget}
        | agreement(get_policy(pair.ours).select(prompt, budget), theirs[pair.name, budget])
        for pair in PAIRS
        for budget in budgets
    ]
    return rows, theirs


def kept_by_kvpress(other: Other, ids: Sequence[int], pairs: Sequence[Pair], budgets: Sequence[int]) -> list[Table]:
    """What the presses of pairs of one way keep, pair by pair at each budget, from one reading of the prompt."""
    ratios = [ratio(len(ids), budget) for budget in budgets]
    if pairs[0].way == "kvzip":
        (pair,) = pairs
        _, options = pair.theirs(budgets[0])
        asked: dict[str, Any] = {"kvzip": options, "ratios": ratios}
    else:
        cells = [
            {"press": pair.theirs(budget), "ratio": share}
            for pair in pairs
            for budget, share in zip(budgets, ratios, strict=True)
        ]
        asked = {"cells": cells, "eager": pairs[0].way == "eager"}
    found: list[Table] = other.ask({"ids": ids, **asked})["kept"]
    return found


def agreement(mine: Selection, theirs: Table) -> dict[str, Any]:
    """Tokens that each side keeps in all heads together, and how many of them are the same."""
    kept = torch.zeros_like(mine.kept)
    for layer, heads in enumerate(theirs):
        for head, places in enumerate(heads):
            kept[layer, head, places] = True
    return {"ours": mine.total, "theirs": int(kept.sum()), "both": int((mine.kept & kept).sum())}


def timed(
    model: Model,
    other: Other,
    task: Task,
    example: Example,
    ids: Sequence[int],
    budgets: Sequence[int],
    alike: Mapping[tuple[str, int], Table],
) -> dict[str, Any]:
    """Times, bytes and answers of the timed pairs on one prompt, each alone, and of this project's grid."""
    stops = sorted(model.stop_ids | (model.newline_ids if example.stop_at_newline else frozenset()))
    limits = {"new": example.max_new_tokens, "stops": stops}
    pairs = [pair for pair in PAIRS if pair.timed]

    def scored(told: Sequence[int]) -> dict[str, Any]:
        return {"ids": list(told), "score": task.score(example, model.text(list(told)))["score"]}

    full = theirs_alone(other, {"press": None, "ratio": 0.0}, limits, scored)
    before, _ = seconds(lambda: as_grid(model, example, ids, pairs, budgets))
    cells: list[dict[str, Any]] = []
    for number, pair in enumerate(pairs):
        sides = {
            "ours": partial(ours_alone, model, example, ids, pair, budgets, scored),
            "theirs": lambda pair=pair: [
                theirs_alone(
                    other,
                    {"press": pair.theirs(budget), "ratio": ratio(len(ids), budget)},
                    limits,
                    scored,
                    alike[pair.name, budget],
                )
                for budget in budgets
            ],
        }
        # Who comes first changes from method to method.
        done = {side: sides[side]() for side in (list(sides) if number % 2 else list(sides)[::-1])}
        cells += [
            {"method": pair.name, "budget": budget, "ours": ours, "theirs": theirs}
            for budget, ours, theirs in zip(budgets, done["ours"], done["theirs"], strict=True)
        ]
    after, answers = seconds(lambda: as_grid(model, example, ids, pairs, budgets))
    same = [told == each["ours"]["ids"] for told, each in zip(answers, cells, strict=True)]
    return {"full": full, "cells": cells, "grid": (before + after) / 2, "grid_answers_same": same}


def theirs_alone(
    other: Other,
    asked: Mapping[str, Any],
    limits: Mapping[str, Any],
    scored: Callable[..., dict[str, Any]],
    alike: Table | None = None,
) -> dict[str, Any]:
    """kvpress alone, and whether it keeps what it does where presses share a prefill."""
    answer = other.ask({"cell": asked, **limits})
    told = {name: answer[name] for name in ("prefill", "decode", "bytes")}
    kept = {} if alike is None else {"as_together": answer["kept"] == alike}
    return {**told, **kept, **scored(answer["ids"])}


def ours_alone(
    model: Model,
    example: Example,
    ids: Sequence[int],
    pair: Pair,
    budgets: Sequence[int],
    scored: Callable[..., dict[str, Any]],
) -> list[dict[str, Any]]:
    """One method here at each budget, in a compact cache; each budget counts a prefill and a ranking of its own."""
    policy = get_policy(pair.ours)
    read, prompt = seconds(lambda: prefill(model, ids, window=WINDOW, **signals(policy.needs)))
    rows = []
    for budget in budgets:
        # Nothing that an earlier budget has counted.
        prompt.memo.clear()
        prompt.shared.clear()
        chosen, choice = seconds(lambda budget=budget: policy.select(prompt, budget))
        decoded, (answer,) = seconds(
            lambda choice=choice: decode(model, prompt, [choice], storage="ragged", **ending(example))
        )
        size = RaggedCache(prompt, [choice], reserve=1).kept_bytes
        rows.append({"prefill": read + chosen, "decode": decoded, "bytes": size, **scored(answer.token_ids)})
    return rows


def ending(example: Example) -> dict[str, Any]:
    """How answers to an example end, for `decode`."""
    return {"max_new_tokens": example.max_new_tokens, "stop_at_newline": example.stop_at_newline}


def as_grid(
    model: Model, example: Example, ids: Sequence[int], pairs: Sequence[Pair], budgets: Sequence[int]
) -> list[list[int]]:
    """Answers of all methods at all budgets from one prefill."""
    policies = [get_policy(pair.ours) for pair in pairs]
    prompt = prefill(model, ids, window=WINDOW, **signals(frozenset().union(*(each.needs for each in policies))))
    choices = [policy.select(prompt, budget) for policy in policies for budget in budgets]
    return [answer.token_ids for answer in decode(model, prompt, choices, **ending(example))]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds that some work takes, and what it gives."""
    started = time.process_time()
    found = work()
    return time.process_time() - started, found


if __name__ == "__main__":
    run_script(main)
