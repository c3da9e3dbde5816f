"""How good are budgets made from a ledger's first N pairs, by estimator? Measured on needles of the test split.

    python scripts/estimator_quality.py profiles/embedded --examples 60 --json results/smollm2-135m/estimators.json

The ledger's coalitions are estimated anew, without the model, for each estimator and number of pairs; each makes CoKV
budgets for several alphas, the best alpha by the ledger's own validation examples is taken, and the budgets are
evaluated on needles that no profile has seen, beside FullKV, SnapKV and Ada-SnapKV at the same total.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from scipy.stats import spearmanr

from cokv_bench.budgets import from_head_values
from cokv_bench.cli import options as o
from cokv_bench.cli.progress import progress_bar
from cokv_bench.files import write_json
from cokv_bench.game import Ledger, get_estimator
from cokv_bench.game.profile import alpha_curve, make_game
from cokv_bench.game.utilities import get_utility
from cokv_bench.kvcache import Prompt, Selection
from cokv_bench.models import load_model
from cokv_bench.policies import get_policy
from cokv_bench.runs.tables import interval
from cokv_bench.tasks.registry import TaskOptions, resolve


def half_split_correlation(name: str, coalitions: np.ndarray, utilities: np.ndarray, sizes: Sequence[int]) -> float:
    """Rank correlation of the values from one half of the pairs with those from the other."""
    # Sizes take turns pair by pair, so halves take turns round by round to hold all of them.
    pair = np.arange(len(utilities)) // 2 // len(sizes)
    halves = [get_estimator(name).run(coalitions[pair % 2 == k], utilities[pair % 2 == k]).values for k in (0, 1)]
    return float(spearmanr(*halves).statistic)


def main(
    profile: Annotated[Path, typer.Argument(help="Folder of a profile on needles.")] = Path("profiles/embedded"),
    budget: Annotated[int, typer.Option(help="Tokens a KV head, window included.")] = 64,
    pairs: Annotated[str, typer.Option(help="Numbers of pairs, comma separated.")] = "160,500",
    estimators: Annotated[str, typer.Option(help="Estimators, comma separated.")] = "ssv,ridge",
    examples: Annotated[int, typer.Option(help="Test needles.")] = 60,
    json: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
) -> None:
    """Compare estimators by the budgets that they lead to."""
    ledger = Ledger.read(profile / "ledger.jsonl")
    model = load_model(str(ledger.header.model["id"]))
    lengths = (1024,)
    validation = make_game(
        model,
        resolve(["needle"], model, TaskOptions(lengths=lengths, examples=len(ledger.header.examples))),
        "loglik",
        window=ledger.header.window,
    )
    coalitions, utilities = ledger.coalitions(), ledger.utilities().mean(axis=1)
    sizes = ledger.header.config["sizes"]
    rows: list[dict[str, Any]] = []
    policies = {name: get_policy(name) for name in ("full", "snapkv", "ada-snapkv")}
    with progress_bar(o.progress_console, "Choosing alpha") as progress:
        cells = [(name, count) for name in o.names(estimators, "estimator") for count in o.integers(pairs, "pairs")]
        for index, (name, count) in enumerate(cells):
            progress(index, len(cells), name)
            known = slice(0, 2 * count)
            values = get_estimator(name).run(coalitions[known], utilities[known]).values
            shape = (model.layers, model.kv_heads)
            curve = alpha_curve(validation, values.reshape(shape), budgets=[budget])[budget]
            alpha = max(curve, key=curve.__getitem__)
            label = f"cokv, {name}, {count} pairs"
            tokens = from_head_values(values.reshape(shape), budget, window=ledger.header.window, zeroed=alpha)
            policies[label] = get_policy("cokv", budgets=lambda _, tokens=tokens: tokens)
            correlation = half_split_correlation(name, coalitions[known], utilities[known], sizes)
            rows.append({"budgets": label, "alpha": alpha, "half_split_correlation": correlation})
        progress(len(cells), len(cells), "done")
    test = resolve(["needle"], model, TaskOptions(lengths=lengths, examples=examples))
    game = make_game(model, test, "metric", window=ledger.header.window, split="test")

    def select(prompt: Prompt) -> list[Selection]:
        return [p.select(prompt, None if name == "full" else budget) for name, p in policies.items()]

    measured = {}
    for utility in ("metric", "loglik"):
        with progress_bar(o.progress_console, f"Test needles, {utility}") as progress:
            # The second utility finds the prompts of the first one prefilled.
            measured[utility] = replace(game, utility=get_utility(utility)).measure(select, progress)
    table = Table(title=f"Budgets of {budget} tokens a head on {examples} test needles of 1024 tokens")
    for column in ("budgets", "alpha", "half-split rank correlation", "found %", "95%", "log-probability"):
        table.add_column(column)
    figures = []
    for index, label in enumerate(policies):
        row: dict[str, Any] = next((row for row in rows if row["budgets"] == label), {"budgets": label})
        found = 100 * measured["metric"][index]
        low, high = interval(found, seed=0)
        row.update(found=found.mean(), ci_low=low, ci_high=high, logprob=measured["loglik"][index].mean())
        figures.append(row)
        stability = row.get("half_split_correlation")
        table.add_row(
            label,
            str(row.get("alpha", "")),
            "" if stability is None else f"{stability:.2f}",
            f"{found.mean():.0f}",
            f"{low:.0f} to {high:.0f}",
            f"{row['logprob']:.2f}",
        )
    o.console.print(table)
    if json is not None:
        write_json(json, {"budget": budget, "examples": examples, "model": model.name, "rows": figures})


if __name__ == "__main__":
    typer.run(main)
