"""`cokv-bench eval`: methods by budgets by tasks, one prefill an example."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.progress import progress_bar

METHODS = "full,streaming-llm,snapkv,pyramidkv,ada-snapkv,ada-pyramid,cokv"


def evaluate(
    model: o.ModelName = "smollm2-135m",
    method: Annotated[str, typer.Option(help="Methods, comma separated; see `cokv-bench ls methods`.")] = METHODS,
    budget: Annotated[
        str, typer.Option(help="Tokens kept a KV head on average, window included; comma separated.")
    ] = "128",
    tasks: Annotated[str, typer.Option(help="Tasks, comma separated; see `cokv-bench ls tasks`.")] = "needle",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: results/<model>-<hash of the settings>.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="test (not profiled on), profile, report (kept for the last word) or all.")
    ] = "test",
    leave_out_seen: Annotated[
        bool,
        typer.Option(
            "--leave-out-seen",
            help="Leave out, for all methods, the examples that a head file was made from and all others of their "
            "documents. Default: refuse to evaluate on them.",
        ),
    ] = False,
    leave_out_run: Annotated[
        list[Path] | None,
        typer.Option(help="Leave out the examples of this earlier run; may be given several times."),
    ] = None,
    seed: o.Seed = 0,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Last prompt tokens that every head keeps; part of the budget. Default: each method's own "
            "(with which its head file or its knobs were made), else 8.",
        ),
    ] = None,
    kernel: o.Kernel = None,
    pooling: o.Pooling = None,
    published_rounding: Annotated[
        bool, typer.Option("--published-rounding", help="Round as the published codes do; totals then differ.")
    ] = False,
    profile: Annotated[
        list[Path] | None,
        typer.Option(
            help="CoKV: head values (values.json or its folder); given several times, each for its own tasks."
        ),
    ] = None,
    budgets: Annotated[
        list[Path] | None,
        typer.Option(
            help="CoKV, HeadKV, CoKV-Search: a budget JSON; may be given once for each budget, or budget and task."
        ),
    ] = None,
    shares: Annotated[
        Path | None, typer.Option(help="CoKV-Search: shares.json of a search, or its folder; any budget in its range.")
    ] = None,
    head_scores: Annotated[Path | None, typer.Option(help="HeadKV: a file of head scores.")] = None,
    zeroed: Annotated[
        int | None,
        typer.Option(min=1, help="CoKV's alpha: heads with the window only. Default: the profile's choice."),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(min=1, help="HeadKV's beta: near 1, all goes by score. Default: the choice made with the scores."),
    ] = None,
    knobs: Annotated[
        str,
        typer.Option(
            help="Settings of the methods: tuned (chosen on profile examples, where the model has such a choice), "
            "papers (as published), or a file of `cokv-bench tune`."
        ),
    ] = "tuned",
    baseline: Annotated[
        str | None, typer.Option(help="Method that the others are compared with. Default: snapkv where it is run.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Published numbers beside ours: cokv, adakv or a CSV file.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Share of the work of this process, such as 2/8; all share one --out.")
    ] = None,
    memory_limit: Annotated[
        float | None, typer.Option(help="GiB for a prompt and all that decodes from it. Default: 2 for the latter.")
    ] = None,
    dry_run: o.DryRun = False,
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    question_agnostic: o.QuestionAgnostic = False,
    lengths: o.Lengths = "1024",
    depths: o.Depths = 10,
    examples: o.Examples = None,
    haystack: o.Haystack = None,
    needles: o.Needles = None,
    ruler_qa: o.RulerQa = None,
    template: o.Template = None,
    metric: o.Metric = None,
    engine: o.Engine = "local",
    workers: o.Workers = None,
    address: o.Address = None,
    revision: o.Revision = None,
    dtype: o.Dtype = None,
    device: o.Device = None,
    device_map: o.DeviceMap = None,
    trust_remote_code: o.TrustRemoteCode = False,
) -> None:
    """Evaluate eviction methods at the same budgets, as scored CSV tables.

    Every example passes prefill once; all methods and budgets decode from it. The run's folder keeps each answer
    (records.jsonl), so the same command goes on where a stopped one left off.
    """
    wanted, methods = o.names(tasks, "task"), o.names(method, "method")
    o.check_engine(engine, workers, address)
    o.check_tasks(wanted, ruler_qa)
    o.check_names("methods", methods)
    o.check_names("metrics", [] if metric is None else [metric])

    from cokv_bench.cli.estimates import print_estimate, print_power
    from cokv_bench.cli.tables import print_comparisons, print_reference, print_scores
    from cokv_bench.costs.estimate import Shape
    from cokv_bench.costs.planned import plan_loads
    from cokv_bench.models.spec import ModelSpec
    from cokv_bench.report import write_formats
    from cokv_bench.runs.execute import execute
    from cokv_bench.runs.journal import read_run
    from cokv_bench.runs.overlap import left_out_line
    from cokv_bench.runs.request import Request, plan_request
    from cokv_bench.runs.shards import Shard
    from cokv_bench.runs.sources import Sources
    from cokv_bench.scores.comparisons import choose_baseline
    from cokv_bench.scores.means import is_mean
    from cokv_bench.scores.power import observed, planned
    from cokv_bench.scores.reference import check_reference
    from cokv_bench.scores.tables import write_tables
    from cokv_bench.tasks.prompts import Encoding
    from cokv_bench.tasks.registry import TaskOptions

    request = Request(
        tasks=wanted,
        methods=methods,
        budgets=o.integers(budget, "budget"),
        split=split,
        leave_out_seen=leave_out_seen,
        leave_out_runs=tuple(leave_out_run or ()),
        seed=seed,
        window=window,
        kernel=kernel,
        pooling=pooling,
        published_rounding=published_rounding,
        knobs=knobs,
        encoding=Encoding(max_length, question_agnostic),
        sources=Sources(
            budget_files=tuple(budgets or ()),
            profiles=tuple(profile or ()),
            shares=shares,
            head_scores=head_scores,
            zeroed=zeroed,
            beta=beta,
        ),
        task_options=TaskOptions(
            data_dir=data_dir,
            limit=limit,
            seed=seed,
            lengths=tuple(o.integers(lengths, "length")),
            depths=depths,
            examples=examples,
            haystack=haystack,
            needles=needles,
            ruler_qa=tuple(ruler_qa or ()),
            template=template,
            metric=metric,
        ),
    )
    request.check()
    choose_baseline(request.methods, baseline)
    if reference is not None:
        check_reference(reference)
    share = None if shard is None else Shard.parse(shard)
    memory = None if memory_limit is None else o.gibibytes(memory_limit)
    spec = ModelSpec(model, revision, dtype, device, device_map, trust_remote_code)
    with o.workers("local" if dry_run else engine, workers, address, spec) as (pool, loaded):
        plan = plan_request(request, loaded)
        if plan.left_out:
            o.console.print(left_out_line(plan.left_out, plan.examples), highlight=False, soft_wrap=True)
        if dry_run:
            print_estimate(o.console, Shape.of(loaded), plan_loads(plan))
            print_power(o.console, planned(plan.configuration), measured=False)
            return
        folder = out or Path("results") / plan.name
        with progress_bar(o.progress_console, "Evaluating") as progress:
            execute(plan, folder, progress, workers=pool, shard=share, memory=memory)
    tables = write_tables(folder, baseline, reference=reference)
    write_formats(folder, tables, read_run(folder)["configuration"])
    print_scores(o.console, tables)
    if "comparisons.csv" in tables:
        print_comparisons(o.console, tables["comparisons.csv"])
        print_power(o.console, observed(tables["comparisons.csv"]), measured=True)
    if "reference.csv" in tables:
        print_reference(o.console, tables["reference.csv"])
    scores = tables["scores.csv"]
    there = int(scores["n"][[not is_mean(task) for task in scores["task"]]].sum())
    if there < plan.answers:
        o.console.print(f"{there} of {plan.answers} answers are there so far; the other shards bring the rest.")
    if knobs == "tuned" and "knobs" not in plan.configuration:
        o.tell(
            "The methods have their published settings; `cokv-bench tune` chooses them for a model, --knobs takes them."
        )
    o.tell(f"Tables, records and settings are in {folder}")
