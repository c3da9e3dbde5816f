"""How likely the reference answers of unseen examples are under each method, beside the full cache.

python scripts/search_evidence.py --tasks needle,ruler --budget 64,128,256 --out results/search/universal

Teacher forced on the test split, or with --split report on what no choice has looked at, one prefill an example.
Writes logprobs.csv (nats a token), comparisons.csv (each method against a baseline, in nats a token), gaps.csv (the
share closed of the gap between SnapKV and the full cache, with 95% intervals) and, for several budgets, gaps.png. What
is measured goes to records.jsonl first; a run that is stopped goes on.
"""

from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import pandas as pd
import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.cli.progress import progress_bar
from cokv_bench.errors import RequestError
from cokv_bench.game.utilities import Case, get_utility
from cokv_bench.kvcache import prefill
from cokv_bench.models import Model
from cokv_bench.runs.journal import Journal
from cokv_bench.runs.overlap import left_out_line
from cokv_bench.runs.plan import Job, Plan
from cokv_bench.runs.request import Request, plan_request
from cokv_bench.runs.shards import Shard
from cokv_bench.runs.sources import Sources
from cokv_bench.runs.versions import versions
from cokv_bench.scores.comparisons import choose_baseline
from cokv_bench.scores.evidence import write_evidence
from cokv_bench.scores.gaps import OVER_ALL
from cokv_bench.tasks.prompts import Encoding, encode_parts
from cokv_bench.tasks.registry import TaskOptions

matplotlib.use("Agg")
from matplotlib import pyplot

METHODS = "full,snapkv,pyramidkv,ada-snapkv,ada-pyramid,headkv,cokv,cokv-search"
# Tables of scores are in percent of a score; these are in nats.
_NATS = 100
# Wong's palette, which the colour-blind can tell apart.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#999999", "#0072B2", "#000000", "#D55E00")


def main(
    model: o.ModelName = "smollm2-135m",
    tasks: Annotated[str, typer.Option(help="Tasks, comma separated.")] = "needle",
    method: Annotated[str, typer.Option(help="Methods; the gaps are between snapkv and full.")] = METHODS,
    budget: Annotated[str, typer.Option(help="Budgets.")] = "64,128,256",
    baseline: Annotated[list[str] | None, typer.Option(help="Compared with; may be given several times.")] = None,
    split: Annotated[str, typer.Option(help="test, or report: kept for the last word.")] = "test",
    leave_out_seen: Annotated[
        bool,
        typer.Option(
            "--leave-out-seen",
            help="Leave out, for all methods, what a head file was made from and all else of the same documents.",
        ),
    ] = False,
    leave_out_run: Annotated[
        list[Path] | None,
        typer.Option(help="Leave out the examples of this earlier run; may be given several times."),
    ] = None,
    shares: Annotated[Path | None, typer.Option(help="Shares of a search. Default: the embedded ones.")] = None,
    utility: Annotated[str, typer.Option(help="loglik, or agreement with the full cache's own answer.")] = "loglik",
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    lengths: o.Lengths = "1024",
    examples: o.Examples = None,
    shard: Annotated[
        str | None, typer.Option(help="Share of this process, such as 1/2; the last call needs none.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records and tables.")] = Path("results/search/logprobs"),
) -> None:
    """Measure, then write the tables."""
    methods, baselines = o.names(method, "method"), baseline or ["snapkv"]
    for end in ("snapkv", "full"):
        if end not in methods:
            raise RequestError(f"The gap between SnapKV and the full cache needs the method '{end}'; add it.")
    for each in baselines:
        choose_baseline(methods, each)
    get_utility(utility)
    share = None if shard is None else Shard.parse(shard)
    loaded = o.load(model, revision=None, dtype=None, device=None, device_map=None, trust_remote_code=False)
    request = Request(
        tasks=o.names(tasks, "task"),
        methods=methods,
        budgets=o.integers(budget, "budget"),
        split=split,
        leave_out_seen=leave_out_seen,
        leave_out_runs=tuple(leave_out_run or ()),
        encoding=Encoding(max_length, question_agnostic=False),
        sources=Sources(shares=shares),
        task_options=TaskOptions(
            data_dir=data_dir, limit=limit, lengths=tuple(o.integers(lengths, "length")), examples=examples
        ),
    )
    plan = plan_request(request, loaded)
    if plan.left_out:
        typer.echo(left_out_line(plan.left_out, plan.examples))
    configuration = {**plan.configuration, "utility": utility}
    with (
        Journal(out, configuration, versions(), share) as journal,
        progress_bar(o.progress_console, "Measuring") as progress,
    ):
        jobs = plan.jobs if share is None else share.of(plan.jobs)
        for done, job in enumerate(jobs):
            progress(done, len(jobs), job.parts[0].task)
            if not {(part.task, part.example.id, *v.key) for part in job.parts for v in part.variants} <= journal.done:
                journal.append(_measure(plan, loaded, job, utility))
    if share is not None:
        typer.echo(f"The records of share {shard} are in {out}; the same command without --shard writes the tables")
        return
    gaps = write_evidence(out, configuration, baselines)
    if len(request.budgets) > 1:
        draw(gaps, out / "gaps.png")
    typer.echo(gaps.pivot_table(index=["budget", "task"], columns="method", values="closed").round(2).to_string())
    typer.echo(f"Tables and records are in {out}")


def _measure(plan: Plan, model: Model, job: Job, utility: str) -> list[dict[str, Any]]:
    """Records of a job; a log-probability is kept as a hundredth of a score."""
    encoded = encode_parts(model, job.parts[0].example, plan.encoding)
    accumulated = any(v.policy.needs_accumulated_attention for part in job.parts for v in part.variants)
    prompt = prefill(model, encoded.prompt, window=plan.window, accumulated_attention=accumulated)
    records = []
    for part in job.parts:
        case = Case(model, plan.tasks[part.task], part.example, prompt, question=tuple(encoded.question))
        choices = [variant.policy.select(prompt, variant.budget) for variant in part.variants]
        for variant, choice, value in zip(
            part.variants, choices, get_utility(utility).measure(case, choices), strict=True
        ):
            records.append(
                {
                    "task": part.task,
                    "example": part.example.id,
                    "method": variant.method,
                    "budget": variant.budget,
                    "score": value / _NATS,
                    "prompt_tokens": prompt.tokens,
                    "kept_tokens": choice.total,
                    "kv_bytes": choice.total * model.bytes_per_token,
                    "new_tokens": 0,
                }
            )
    return records


def draw(gaps: pd.DataFrame, path: Path) -> None:
    """Gain over gap by budget with its 95% intervals, a line a method."""
    whole = gaps[(gaps["task"] == OVER_ALL) & (gaps["method"] != "snapkv")]
    figure, axis = pyplot.subplots(figsize=(7.6, 4), layout="constrained")
    budgets = sorted(whole["budget"].unique())
    # The searched shares come last, on top of the others; markers tell the methods apart without colour.
    methods = sorted(whole["method"].unique(), key=lambda method: (method == "cokv-search", method))
    for method, marker, colour in zip(methods, "sDv^<P*o", _COLOURS, strict=False):
        line = whole[whole["method"] == method].set_index("budget").reindex(budgets)
        ends = (line["closed"] - line["closed_ci_low"], line["closed_ci_high"] - line["closed"])
        # Side by side, so that their intervals can be read.
        places = np.arange(len(budgets)) + 0.04 * (methods.index(method) - (len(methods) - 1) / 2)
        axis.errorbar(places, line["closed"], ends, marker=marker, color=colour, label=method, elinewidth=1, capsize=2)
    axis.axhline(0, color="grey", linewidth=0.8)
    axis.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axis.set_xticks(range(len(budgets)), [str(budget) for budget in budgets])
    axis.set_xlabel("tokens a KV head")
    axis.set_ylabel("gap between SnapKV and the full cache, closed")
    # Beside the axes: inside it would hide points.
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    run_script(main)
