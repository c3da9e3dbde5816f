"""Whether one of a few methods can be chosen for each prompt, and what that would be worth.

python scripts/study_choice.py RUN --probe DRAFTS --probe KEPT --method cokv-search:file=a,cokv-search:file=b

RUN measures a utility such as loglik; each other run measures a probe (scripts/probes.py) of the same methods on the
same examples, at some of its budgets. Without probes, only what the answers say is told. Ways to choose, each as gain
over gap:
best              by what RUN says of the very example: a ceiling, which takes the answers to know
by task           by the other examples of the task: an oracle of another kind, since users do not name their tasks
by a probe        the method whose probe is highest
by all probes     by a ridge regression on the probes of all methods, learnt on the other tasks, if there are any
by the question   by the same on what is seen without a model: the length of the prompt, and length, lines, digits,
                  capitals and punctuation of the question (where a folder has its examples.jsonl, as every run that
                  `cokv-bench eval` has just finished)

Each way but the ceiling is tested against the best single method of its budget, which these very examples name.
"""

import json
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.report.grids import budget_phrase, ends
from cokv_bench.runs.examples import EXAMPLES
from cokv_bench.runs.journal import read_records
from cokv_bench.scores.differences import tested, weighed
from cokv_bench.scores.gaps import LOWER, OVER_ALL, UPPER, gaps_table, is_sum
from cokv_bench.scores.tables import frame_of

Floats = NDArray[np.float64]
Picks = NDArray[np.int64]
#: The ceiling.
BEST = "best"
_PENALTY = 10.0


def main(
    run: Annotated[Path, typer.Argument(help="Folder of the run that measured the utility.")],
    method: Annotated[str, typer.Option(help="The methods to choose among, with commas.")],
    probe: Annotated[list[Path], typer.Option(help="Folder of a run that measured a probe; once for each.")] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Table to write, CSV.")] = None,
) -> None:
    """Print the gain over gap of each method and of each way to choose among them, over all tasks and by benchmark."""
    methods = method.split(",")
    scores = frame_of(read_records(run))
    probes = {folder.name: frame_of(read_records(folder)) for folder in probe}
    looks = _looks(scores, [run, *probe])
    for frame in probes.values():
        scores = scores[scores["budget"].isna() | scores["budget"].isin(frame["budget"])]
    chosen = [scores[scores["method"].isin([UPPER, LOWER, *methods])]]
    tests = []
    for budget, at in scores.dropna(subset="budget").groupby("budget"):
        table = _wide(at, methods)
        told = {
            name: _of(_wide(frame[frame["budget"] == budget], methods), table.index, f"The run {name} has no records")
            for name, frame in probes.items()
        }
        seen = None if looks is None else _of(looks, table.index, f"The {EXAMPLES} of these runs says nothing")
        ways = {way: table.to_numpy()[np.arange(len(table)), picks] for way, picks in _ways(table, told, seen)}
        index = table.index.to_frame(index=False)
        chosen += [index.assign(budget=budget, method=way, score=picked) for way, picked in ways.items()]
        tests.append(_tests(table, ways).assign(budget=budget))
    gaps = gaps_table(pd.concat(chosen, ignore_index=True))
    over = gaps[gaps["task"].map(is_sum) & ~gaps["method"].isin([UPPER, LOWER])]
    for (budget, task), part in over[over["task"].str.startswith(OVER_ALL)].groupby(["budget", "task"], sort=False):
        rows = [
            (row.method, f"{row.closed:.2f}", ends(row.closed_ci_low, row.closed_ci_high, 2))
            for row in part.itertuples()
        ]
        o.print_table(f"{task} at {budget_phrase(budget)}", ("method", "closed", "95%"), rows, words=["method"])
    every = pd.concat(tests, ignore_index=True)
    o.print_table(
        "Less the best single method, nats per token, mean over tasks",
        ("at", "way", "best single", "difference", "p, corrected"),
        [
            (budget_phrase(row.budget), row.method, row.single, f"{row.difference:+.3f}", f"{row.p_adjusted:.4f}")
            for row in every.itertuples()
        ],
        words=["at", "way", "best single"],
    )
    if out is not None:
        write_text(out, over.to_csv(index=False))
        write_text(out.with_name(f"{out.stem}-tests.csv"), every.to_csv(index=False))


def _tests(table: pd.DataFrame, ways: dict[str, Floats]) -> pd.DataFrame:
    """Of each way but the ceiling against the method that is best for all examples."""
    single = str(table.groupby(level="task").mean().mean().idxmax())
    less = pd.DataFrame({way: picked for way, picked in ways.items() if way != BEST}, index=table.index)
    return tested(weighed(less.sub(table[single], axis=0))).assign(single=single)


def _wide(frame: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """A row an example, a column a method. Raises `RequestError` where a method was not measured."""
    table = frame.pivot_table(index=["task", "example"], columns="method", values="score", sort=False)
    missing = [each for each in methods if each not in table]
    if missing:
        raise RequestError(
            f"A run has no records of '{missing[0]}'; evaluate it there too, or leave it out of --method."
        )
    return table[list(methods)].dropna()


def _of(table: pd.DataFrame, rows: pd.MultiIndex, without: str) -> pd.DataFrame:
    """The rows of some examples. Raises `RequestError` where one is missing, with a sentence that begins as given."""
    missing = rows.difference(table.index)
    if len(missing):
        task, example = missing[0]
        raise RequestError(
            f"{without} of {len(missing)} of the {len(rows)} examples, such as '{example}' of '{task}'; evaluate the "
            "same examples in all of these runs."
        )
    return table.loc[rows]


def _looks(scores: pd.DataFrame, folders: Sequence[Path]) -> pd.DataFrame | None:
    """What the prompts look like, a row an example; None where no folder tells what was asked."""
    asked = next((path for folder in folders if (path := folder / EXAMPLES).exists()), None)
    if asked is None:
        return None
    examples = [json.loads(line) for line in asked.read_text().splitlines()]
    table = pd.DataFrame([(each["task"], each["example"], *_look(each["question"])) for each in examples])
    tokens = scores.groupby(["task", "example"])["prompt_tokens"].first()
    return table.set_index([0, 1]).assign(tokens=np.log(tokens))


def _look(question: str) -> tuple[float, ...]:
    """Features of a question: logarithms of its words and lines, and shares of kinds of characters."""
    kinds = (str.isdigit, str.isupper, string.punctuation.__contains__)
    shares = [sum(map(kind, question)) / max(len(question), 1) for kind in kinds]
    return np.log1p(len(question.split())), np.log1p(question.count("\n")), *shares


def _ways(
    table: pd.DataFrame, probes: dict[str, pd.DataFrame], looks: pd.DataFrame | None
) -> Iterator[tuple[str, Picks]]:
    """Each way to choose with the number of the method that it picks for each example."""
    scores, tasks = table.to_numpy(), table.index.get_level_values("task").to_numpy()
    yield BEST, scores.argmax(axis=1)
    others = [scores[(tasks == task) & (np.arange(len(tasks)) != row)] for row, task in enumerate(tasks)]
    # Of a task's only row nothing but other tasks may tell.
    parts = [part if len(part) else np.delete(scores, row, axis=0) for row, part in enumerate(others)]
    yield "by task", np.array([part.mean(axis=0).argmax() for part in parts])
    for name, told in probes.items():
        yield f"by {name}", told.to_numpy().argmax(axis=1)
    # What is learnt is learnt on other tasks.
    several = len(set(tasks)) > 1
    if probes and several:
        features = np.concatenate([told.to_numpy() for told in probes.values()], axis=1)
        yield "by all probes", _learnt(features, scores, tasks)
    if looks is not None and several:
        yield "by the question", _learnt(looks.to_numpy(), scores, tasks)


def _learnt(features: Floats, scores: Floats, tasks: NDArray[np.object_]) -> Picks:
    """The method that a regression on features of the examples says is best, learnt on all tasks but the example's."""
    picks = np.zeros(len(tasks), dtype=np.int64)
    less = scores - scores.mean(axis=1, keepdims=True)
    for task in dict.fromkeys(tasks):
        of_task = tasks == task
        model = make_pipeline(StandardScaler(), Ridge(_PENALTY)).fit(features[~of_task], less[~of_task])
        picks[of_task] = model.predict(features[of_task]).argmax(axis=1)
    return picks


if __name__ == "__main__":
    run_script(main)
