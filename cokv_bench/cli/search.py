"""`cokv-bench search`: the split of a total over the heads that serves best, searched at that total."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.groups import grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.errors import RequestError
from cokv_bench.limits import SearchLimits
from cokv_bench.models.spec import ModelSpec
from cokv_bench.option import Option, gibibytes
from cokv_bench.policies.names import check_ranking
from cokv_bench.tasks.encoding import Encoding
from cokv_bench.tasks.families import LeaveOut, folder_name
from cokv_bench.tasks.options import TaskOptions

if TYPE_CHECKING:
    from cokv_bench.search import SearchExamples


@dataclass(frozen=True)
class Aim:
    """What is searched for: budgets, the utility that they serve, and the ranking that they go with."""

    budgets: Annotated[
        tuple[int, ...],
        Option(
            "Tokens per KV head on average, window included. Several, comma separated, share one search.", name="budget"
        ),
    ] = (64,)
    utilities: Annotated[
        tuple[str, ...],
        Option(
            "What is maximised: agreement or acceptance (need no labels) or loglik. Several, comma separated, have "
            "equal weight.",
            name="utility",
        ),
    ] = ("agreement",)
    window: Annotated[int, Option("Last prompt tokens that every head keeps; part of the budget.", least=1)] = 8
    choose_on: Annotated[
        tuple[str, ...],
        Option(
            "Tasks or benchmarks that choose the result and are never optimised on, so that it carries over to other "
            "tasks. Default: every fourth document of each task."
        ),
    ] = ()
    rankings: Annotated[
        tuple[str, ...],
        Option(
            "Scorer that ranks the tokens of each head, with or without options (`cokv-bench ls scorers`). Several, "
            "comma separated, are searched one by one on the same prompts, each into its own folder.",
            name="ranking",
        ),
    ] = ("window",)
    experts: Annotated[
        int | None,
        Option(
            "Search this many splits together; each example improves the split that suits it best. They take turns "
            "over the rankings. Default: one split per ranking, searched alone.",
            least=2,
        ),
    ] = None
    kernel: Annotated[
        int | None,
        Option("Width of the pooling over scores, in tokens, if rankings pool. Default: each one's own.", least=1),
    ] = None
    pooling: Annotated[str | None, Option("Pooling over scores: max or avg. Default: each ranking's own.")] = None


@grouped
def search_budgets(
    model: ModelSpec,
    aim: Aim,
    encoding: Encoding,
    limits: SearchLimits,
    left_out: LeaveOut,
    tasks: TaskOptions = TaskOptions(examples=60),  # noqa: B008 - frozen
    memory_limit: Annotated[
        float | None, typer.Option(help="GiB for prompts. Default: 60% of what is free; those beyond go to a file.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Folder for prefilled prompts: kept there, and not prefilled again by the next search."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: profiles/<model>/<tasks>-search.")] = None,
) -> None:
    """Search how the KV heads should share a budget, on the profile split of some tasks, and write budget files.

    Gradient ascent on the answers' log-probability at the deployed total. Repeat the command to resume an interrupted
    search.
    """
    o.check_tasks(tasks)
    o.check_names("utilities", aim.utilities)
    for name in aim.rankings:
        check_ranking(name)
    if aim.experts is not None and aim.experts < len(aim.rankings):
        raise RequestError(
            f"{aim.experts} experts cannot take turns over {len(aim.rankings)} rankings, of which the last would have "
            "none; search for more experts, or under fewer rankings."
        )
    families = left_out.families

    from cokv_bench.game.profile import default_folder
    from cokv_bench.search import SearchExamples
    from cokv_bench.tasks.registry import resolve

    loaded = o.load(model)
    folder = out or default_folder(loaded, tasks.names, "-search")
    material = SearchExamples(
        loaded,
        resolve(tasks.names, loaded, tasks),
        aim.utilities,
        window=aim.window,
        kernel=aim.kernel,
        pooling=aim.pooling,
        rankings=aim.rankings,
        budgets=aim.budgets,
        choose_on=aim.choose_on,
        encoding=encoding,
        memory_limit=None if memory_limit is None else gibibytes(memory_limit),
        spill_folder=folder,
        prompts=prompts,
    )
    turns = [(folder / family.folder, material.without(family.tasks)) for family in families] or [(folder, material)]
    for own, examples in turns:
        _search_all(examples, own, aim, tasks.seed, limits)


def _search_all(material: "SearchExamples", folder: Path, aim: Aim, seed: int, limits: SearchLimits) -> None:
    """Search under each ranking, or experts together, and tell what was found."""
    from cokv_bench.cli.tables import print_budgets
    from cokv_bench.search import search
    from cokv_bench.search.search import budget_file

    if aim.experts is not None:
        _search_experts(material, folder, aim, aim.experts, seed, limits)
        return
    for ranking, name in enumerate(material.rankings):
        own = folder if len(material.rankings) == 1 else folder / folder_name(name)
        with progress_bar(
            o.progress_console, f"Searching ({name})" if own != folder else "Searching", "step"
        ) as progress:
            shares = search(
                material,
                own,
                aim.budgets,
                seed=seed,
                stopping=limits,
                ranking=ranking,
                progress=progress,
            )
        print_budgets(budget_file(shares, aim.budgets[0]))
        closed = ", ".join(f"{share:.0%} at {known}" for known, share in shares.search["gap_closed"].items())
        o.tell(
            f"Of the gap between equal shares{_under(material.rankings)} and the full cache, the examples to choose on "
            f"say, {closed} is closed.\nBudgets, shares and the search's ledger are in {own}"
        )


def _search_experts(
    material: "SearchExamples", folder: Path, aim: Aim, count: int, seed: int, limits: SearchLimits
) -> None:
    from cokv_bench.search import search_experts

    rankings = [number % len(material.rankings) for number in range(count)]
    with progress_bar(o.progress_console, "Searching together", "step") as progress:
        found = search_experts(
            material, folder, aim.budgets, rankings=rankings, seed=seed, stopping=limits, progress=progress
        )
    closed = ", ".join(f"{share:.0%} at {known}" for known, share in found[0].search["gap_closed"].items())
    o.tell(
        f"Of the gap between equal shares{_under(material.rankings)} and the full cache, the best of {len(found)} "
        f"experts for each example to choose on closes {closed}.\nTheir shares and the search's ledger are in "
        f"{folder}"
    )


def _under(rankings: Sequence[str]) -> str:
    """By which ranking equal shares are measured, where there are several."""
    return f" under '{rankings[0]}'" if len(rankings) > 1 else ""
