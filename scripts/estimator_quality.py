"""How good are head values, by estimator and sampling, at equal cost? Measured on needles of the test split.

    python scripts/estimator_quality.py --pairs 500 --json results/smollm2-135m/estimators.json

For each sampling a ledger of the same number of coalitions is made on the same validation needles (or gone on with).
Each estimator that can use it makes head values: how alike do the ledger's two halves rank the heads? Then CoKV
budgets, alpha by the validation needles, are evaluated on needles that no profile has seen, beside FullKV, SnapKV and
Ada-SnapKV at the same total.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cokv_bench.budgets import from_head_values
from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.groups import grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.errors import RequestError
from cokv_bench.game import ESTIMATORS, SAMPLINGS, Ledger, get_estimator, get_sampling
from cokv_bench.game.curves import alpha_curve
from cokv_bench.game.head_game import Game, make_game
from cokv_bench.game.profile import profile
from cokv_bench.game.stability import stability
from cokv_bench.game.stopping import Stopping
from cokv_bench.game.utilities import get_utility
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.models import Model
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import names
from cokv_bench.policies import Policy, get_policy
from cokv_bench.report.figures import known, numbers
from cokv_bench.scores.intervals import SCORES, interval
from cokv_bench.tasks.registry import TaskOptions, resolve

_LENGTH = 1024


def make_ledgers(game: Game, samplings: Sequence[str], folder: Path, pairs: int, seed: int) -> dict[str, Ledger]:
    """A ledger of each sampling, by name."""
    ledgers = {}
    for name in samplings:
        # Any estimator that can read it will do: what is wanted is the ledger.
        estimator = next(e for e in ESTIMATORS.values() if name in (e.sampling, *e.also) and e.name != "ssv")
        with progress_bar(o.progress_console, name, "evaluation") as progress:
            profile(
                game,
                folder / name,
                estimator=estimator.name,
                sampling=name,
                seed=seed,
                stopping=Stopping(samples=pairs),
                progress=progress,
            )
        ledgers[name] = Ledger.read(folder / name / "ledger.jsonl")
    return ledgers


def judge(
    game: Game, ledger: Ledger, sampling: str, estimator: str, budget: int
) -> tuple[dict[str, Any], Policy | None]:
    """What is known of one estimator on one ledger, and the policy that its values make; None where it has none."""
    plan = get_sampling(sampling).plan(game.players, ledger.header.seed)
    coalitions, utilities = ledger.coalitions(), ledger.utilities().mean(axis=1)
    units = plan.units(0, len(coalitions))
    result, stable = stability(get_estimator(estimator), coalitions, utilities, units, ledger.sizes())
    row: dict[str, Any] = {
        "budgets": f"cokv, {estimator}, {sampling}",
        "estimator": estimator,
        "sampling": sampling,
        "half_split_correlation": known(stable.rank_correlation),
        "standard_error": known(stable.standard_error),
    }
    if not np.isfinite(result.values).all():
        return row, None
    values = result.values.reshape(game.model.layers, game.model.kv_heads)
    curve = alpha_curve(game, values, budgets=[budget])[budget]
    row["alpha"] = max(curve, key=curve.__getitem__)
    tokens = from_head_values(values, budget, window=game.window, zeroed=row["alpha"])
    return row, get_policy("cokv", budgets=lambda _: tokens)


def evaluate(model: Model, policies: dict[str, Policy], budget: int, window: int, examples: int) -> dict[str, Any]:
    """Scores and log-probabilities [policies, examples] on test needles."""
    tasks = resolve(["needle"], model, TaskOptions(lengths=(_LENGTH,), examples=examples))
    game = make_game(model, tasks, "metric", window=window, split="test")

    def select(prompt: Prompt) -> list[Selection]:
        return [p.select(prompt, None if name == "full" else budget) for name, p in policies.items()]

    measured = {}
    for utility in ("metric", "loglik"):
        with progress_bar(o.progress_console, f"Test needles, {utility}", "example") as progress:
            # The second utility finds the prompts of the first one prefilled.
            measured[utility] = replace(game, utility=get_utility(utility)).measure(
                select, lambda done, total, show=progress: show(done, total, "needles")
            )
    return measured


@grouped
def main(
    model: ModelSpec,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of coalitions of each ledger.")] = 500,
    validation: Annotated[int, typer.Option(min=1, help="Needles to profile on.")] = 16,
    examples: Annotated[int, typer.Option(min=2, help="Test needles.")] = 60,
    budget: Annotated[int, typer.Option(help="Tokens per KV head, window included.")] = 64,
    window: o.Window = 8,
    seed: o.Seed = 0,
    samplings: Annotated[str, typer.Option(help="Samplings, comma separated.")] = ",".join(SAMPLINGS),
    folder: Annotated[Path, typer.Option(help="Where the ledgers are kept.")] = Path("profiles/estimators"),
    json: o.JsonFile = None,
) -> None:
    """Compare estimators and samplings by the stability of their values and the budgets that they lead to."""
    wanted = names(samplings, "sampling")
    for name in wanted:
        get_sampling(name)
    loaded = o.load(model)
    tasks = resolve(["needle"], loaded, TaskOptions(lengths=(_LENGTH,), examples=validation, seed=seed))
    game = make_game(loaded, tasks, "loglik", window=window, spill_folder=folder)
    shortest = game.shortest_prompt()
    if not window < budget < shortest:
        raise RequestError(
            f"A budget of {budget} tokens does not lie between window ({window}) and prompt ({shortest})."
        )
    ledgers = make_ledgers(game, wanted, folder, pairs, seed)
    policies = {name: get_policy(name) for name in ("full", "snapkv", "ada-snapkv")}
    rows: list[dict[str, Any]] = [{"budgets": name} for name in policies]
    with progress_bar(o.progress_console, "Choosing alpha", "estimator") as progress:
        cells = [(e, s) for e in ESTIMATORS.values() for s in (e.sampling, *e.also) if s in ledgers]
        for index, (estimator, sampling) in enumerate(cells):
            progress(index, len(cells), estimator.name)
            row, policy = judge(game, ledgers[sampling], sampling, estimator.name, budget)
            rows.append(row)
            if policy is not None:
                policies[row["budgets"]] = policy
        progress(len(cells), len(cells), "done")
    measured = evaluate(loaded, policies, budget, window, examples)
    for index, label in enumerate(policies):
        row = next(row for row in rows if row["budgets"] == label)
        found = 100 * measured["metric"][index]
        low, high = numbers(interval([found], SCORES))
        row |= {"ci_low": low, "ci_high": high, "found": found.mean(), "logprob": measured["loglik"][index].mean()}
    o.print_table(
        f"{budget} tokens per head on {examples} test needles of {_LENGTH} tokens, {pairs} pairs",
        ("method", "sampling", "alpha", "halves", "error", "found\n%", "95%", "log-\nprob."),
        map(_cells, rows),
        words=("method", "sampling"),
    )
    settings = {"budget": budget, "pairs": pairs, "validation": validation, "examples": examples, "seed": seed}
    o.save_figures(json, {"model": loaded.name, **settings, "rows": rows})


def _cells(row: dict[str, Any]) -> list[str]:
    """A row of the table; what is not known stays empty."""

    def number(name: str, decimals: int) -> str:
        return "" if row.get(name) is None else f"{row[name]:.{decimals}f}"

    interval = " to ".join(filter(None, (number("ci_low", 0), number("ci_high", 0))))
    measured = (number("half_split_correlation", 2), number("standard_error", 2), number("found", 0), interval)
    start = (row.get("estimator", row["budgets"]), row.get("sampling", ""), str(row.get("alpha", "")))
    return [*start, *measured, number("logprob", 2)]


if __name__ == "__main__":
    run_script(main)
