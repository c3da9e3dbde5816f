"""Search for the split of a total over the KV heads that serves best at the deployed budget.

The utility is the log-probability of answers, budgets are log-shares, and their gradient comes from one backward pass
over the prefilled prompts (`cokv_bench.kvcache.ranked`). Minibatches of some examples keep a step cheap; others, that
no step follows, choose the round to keep.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from cokv_bench.budgets.head_budgets import HeadBudgets
from cokv_bench.budgets.head_shares import WINDOW, HeadShares
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.limits import SearchLimits
from cokv_bench.search.climb import BATCH, Climb, Progress
from cokv_bench.search.examples import SearchExamples, shared_sinks
from cokv_bench.search.ledger import SearchLedger
from cokv_bench.tasks import split_rule
from cokv_bench.tasks.base import contents, made_from
from cokv_bench.tasks.prompts import reading


def search(
    examples: SearchExamples,
    folder: Path,
    budgets: Sequence[int],
    *,
    seed: int,
    stopping: SearchLimits,
    ranking: int = 0,
    progress: Progress = lambda done, total, note: None,
) -> HeadShares:
    """Search, write the ledger `search.jsonl`, `shares.json` and `cokv-search-<budget>.budgets.json` into a folder.

    Several budgets are searched side by side on the same prompts, each with log-shares of its own. A search that is
    there already is gone on with; with the same number of steps it ends with the same ledger but for the seconds,
    whether it was stopped or not.

    Args:
        budgets: tokens per KV head on average, window included.
        ranking: which of the rankings of the examples the shares are for. What is closed is told of the gap between
            equal shares under the first ranking and the full cache, whichever it is.
        progress: called after each step.

    Raises:
        RequestError: budgets that are not above the window or not below the longest prompt, too few examples, a ledger
            of another search, or a folder that cannot be written.
    """
    (shares,) = _searched(examples, folder, budgets, (ranking,), seed, stopping, progress)
    shares.save(folder / "shares.json")
    for budget in shares.knots:
        budget_file(shares, budget).save(folder / f"cokv-search-{budget}.budgets.json")
    return shares


def search_experts(
    examples: SearchExamples,
    folder: Path,
    budgets: Sequence[int],
    *,
    rankings: Sequence[int],
    seed: int,
    stopping: SearchLimits,
    progress: Progress = lambda done, total, note: None,
) -> list[HeadShares]:
    """Search several splits together, and write the ledger `search.jsonl` and `expert-<number>.shares.json`.

    Each followed example improves the expert that serves it best at its budget (hard EM), so that experts come to
    differ. In the first round nobody serves anything best yet, and tasks go round the experts. What is told to be
    closed is what the best expert of each example closes, which nobody can choose without the answers: a ceiling.

    Args:
        rankings: by expert, which of the rankings of the examples it has.

    Raises:
        RequestError: as `search` does, or fewer than two experts.
    """
    if len(rankings) < 2:
        raise RequestError("--experts needs at least 2; leave it out to search a single split.")
    found = _searched(examples, folder, budgets, tuple(rankings), seed, stopping, progress)
    for number, shares in enumerate(found, start=1):
        shares.save(folder / f"expert-{number}.shares.json")
    return found


def _searched(
    examples: SearchExamples,
    folder: Path,
    budgets: Sequence[int],
    experts: tuple[int, ...],
    seed: int,
    stopping: SearchLimits,
    progress: Progress,
) -> list[HeadShares]:
    """The shares of each expert; the ledger is in the folder."""
    examples.check_budgets(budgets)
    searched, chosen = examples.parts()
    wanted = sorted(set(budgets))
    rows = examples.used
    made = made_from(rows)
    names = [examples.rankings[place] for place in experts]
    plain = examples.rankings[0] == WINDOW and names == [WINDOW]
    protected = examples.protected([0, *experts])
    header = {
        "model": examples.model.fingerprint,
        "dtype": str(examples.model.network.dtype).removeprefix("torch."),
        "tasks": made["tasks"],
        "utilities": examples.utilities,
        "window": examples.window,
        "kernel": examples.kernel,
        "pooling": examples.pooling,
        # The first is the one of the gap, the others are those of the experts.
        **({} if plain else {"rankings": [examples.rankings[0], *names]}),
        "max_length": examples.encoding.max_length,
        "question_agnostic": examples.encoding.question_agnostic,
        "reading": reading(examples.model, [example for _, example in rows], examples.encoding),
        "contents": contents(rows),
        "budgets": wanted,
        "seed": seed,
        "batch": BATCH,
        "examples": made["examples"],
        **({"choose_on": examples.choose_on} if examples.choose_on else {}),
        # An earlier release went through the tasks of all benchmarks by turns.
        **({"turns": "benchmarks"} if len({examples.benchmark(case) for case in searched}) > 1 else {}),
        **split_rule(task for task, _ in rows),
        **({} if protected is None else {"protected": protected}),
        # An earlier release dealt examples.
        **({"dealt": "documents"} if examples.share_documents else {}),
    }
    with SearchLedger.resume(folder / "search.jsonl", header) as ledger:
        run = Climb(examples, ledger, wanted, seed, stopping, experts, progress, time.monotonic())
        run.climb(searched, chosen)
        kept = run.choose(chosen)
    search_ = {
        "seed": seed,
        "steps": ledger.rounds[-1].step,
        "seconds": round(ledger.rounds[-1].seconds, 1),
        "chosen_step": {str(budget): kept[budget].step for budget in wanted},
        "shrinkage": {str(budget): kept[budget].factor for budget in wanted},
        "gap_closed": {str(budget): kept[budget].closed for budget in wanted},
        "ledger_sha256": file_sha256(folder / "search.jsonl"),
    }
    return [
        HeadShares(
            knots=tuple(wanted),
            tables=torch.stack([kept[budget].log_shares[expert] for budget in wanted]).double().numpy(),
            window=examples.window,
            utilities=examples.utilities,
            model=examples.model.fingerprint,
            **examples.pooled(place),
            scorer=name,
            **made,
            search=search_ if len(experts) == 1 else {**search_, "expert": expert + 1, "experts": len(experts)},
        )
        for expert, (place, name) in enumerate(zip(experts, names, strict=True))
    ]


def budget_file(shares: HeadShares, budget: int) -> HeadBudgets:
    """The budget file of one budget."""
    rule = {
        "text": "searched at the deployed total: gradient ascent on the answers' log-probability",
        "parameters": {
            "method": "cokv-search",
            "kernel": shares.kernel,
            "pooling": shares.pooling,
            **({} if shares.scorer == WINDOW else {"scorer": shares.scorer}),
            **shares.search,
        },
    }
    sinks = shared_sinks(shares.scorer)
    tokens = shares.budgets(budget, window=shares.window + sinks)
    return HeadBudgets(
        shares.model,
        budget,
        shares.window,
        tokens,
        rule,
        tasks=shares.tasks,
        examples=shares.examples,
        documents=shares.documents,
        sinks=sinks,
    )
