"""`cokv-bench bench`: memory and latency of decoding under eviction policies, beside FullKV."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cokv_bench.bench.options import BenchOptions
from cokv_bench.cli import options as o
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.cli.progress import progress_bar
from cokv_bench.errors import RequestError
from cokv_bench.models.spec import ModelSpec
from cokv_bench.runs.heads import HeadSources

if TYPE_CHECKING:
    import pandas as pd

    from cokv_bench.models import Model

MODEL = "Model"
# CoKV needs budgets of the very model, and those of the embedded one come with the package.
METHODS = {True: ("full", "snapkv", "cokv"), False: ("full", "snapkv", "ada-snapkv")}


@grouped
def bench(
    options: BenchOptions,
    heads: Annotated[HeadSources, Only("heads", "budget_files")],
    spec: Annotated[ModelSpec, Only("revision", "dtype", "device", "trust_remote_code", "skip_check")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Embedded name, model folder, GGUF file or hub id (owner/name). Default: the embedded model.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    random_weights: Annotated[
        str | None,
        typer.Option(
            help="Use random weights in the shape of llama3-8b or llama3-1b instead of a model.", rich_help_panel=MODEL
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Number of layers of the random weights.", rich_help_panel=MODEL)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: results/bench-<model>.")] = None,
) -> None:
    """Measure prefill, time to first token, decoding and memory under eviction methods, compared with FullKV.

    Rounds over all methods, medians and spread over the rounds, ratios to FullKV within the run. The prompt is random
    token ids: speed and memory do not depend on what it says. docs/bench.md explains the columns of bench.csv.
    """
    embedded = random_weights is None and model in (None, spec.name)
    methods = options.methods or METHODS[embedded]
    o.check_methods(methods)

    from cokv_bench.bench import BenchRequest, check_preset, random_model
    from cokv_bench.bench import bench as measure_all
    from cokv_bench.report.costs import bench_lines
    from cokv_bench.report.static import PACKAGE, can_draw, save_beside

    if model is not None and random_weights is not None:
        raise RequestError(f"--model {model} and --random-weights {random_weights} exclude each other; give one.")
    if layers is not None and random_weights is None:
        raise RequestError(f"--layers {layers} is for random weights; add --random-weights llama3-8b.")
    request = BenchRequest(
        **{**vars(options), "methods": methods},
        heads=(*heads.heads, *heads.budget_files),
        any_weights=random_weights is not None,
    )
    request.check()
    loaded: Model
    if random_weights is None:
        # Another number of threads would be another measurement, so none is chosen.
        loaded = o.load(spec if model is None else replace(spec, name=model), threads=False)
    else:
        check_preset(random_weights, layers)
        o.note(f"Making random weights in the shape of {random_weights} ...")
        loaded = random_model(random_weights, layers=layers, seed=options.seed, dtype=spec.dtype, device=spec.device)
    folder = out or Path("results") / f"bench-{loaded.folder_name}"
    command = shlex.join(["cokv-bench", *sys.argv[1:]])
    try:
        with progress_bar(o.progress_console, "Measuring", "measurement") as progress:
            table = measure_all(loaded, request, folder, progress, command=command)
    except KeyboardInterrupt:
        o.tell(f"Stopped; bench.csv in {folder} has what was measured.")
        raise typer.Exit(1) from None
    _print(table)
    drawn = can_draw()
    if drawn:
        save_beside(*bench_lines(table), folder / "bench.png")
    else:
        o.tell(f"The figure needs {PACKAGE}: pip install {PACKAGE}")
    files = "bench.csv, bench.png and run.json" if drawn else "bench.csv and run.json"
    o.tell(f"{files} are in {folder}")


def _print(table: "pd.DataFrame") -> None:
    """A row a length, method and budget; what a platform does not count and what did not fit stays empty."""
    from cokv_bench.report.grids import budget_text, decimal

    first = table.iloc[0]
    o.tell(
        f"{first['model']}, {first['dtype']} on {first['device']}, {first['new_tokens']} new tokens, rows: "
        f"{first['rows']}. Medians [lowest–highest]; x: times as fast as FullKV. Memory in MiB beyond the model's."
    )
    graphs = table["graph_ms"].notna().any()
    columns = ["prompt", "method", "first\ntoken s", "decoding\nms a token", "x"]
    columns += ["as a graph\nms a token", "x"] if graphs else []

    def cells(row: Mapping[Any, Any]) -> list[str | Text]:
        low, high = (decimal(row[f"decode_ms_{end}"], 0) for end in ("low", "high"))
        held, ideal, peak, after = (
            decimal(row[name] / 2**20) for name in ("kv_bytes_held", "kv_bytes_ideal", "peak_bytes", "after_bytes")
        )
        return [
            str(row["prompt_tokens"]),
            f"{row['method']} {budget_text(row['budget'])}",
            decimal(row["ttft_s"], 2),
            Text.assemble(decimal(row["decode_ms"], 1), (f" {low}–{high}" if low else "", "dim")),
            decimal(row["decode_vs_full"], 2),
            *([decimal(row["graph_ms"], 1), decimal(row["graph_vs_full"], 2)] if graphs else []),
            peak,
            after,
            # The budget's own bytes are told where the cache holds others.
            held if held in ("", ideal) else f"{held} of {ideal}",
            row["note"] or "",
        ]

    sections = [map(cells, rows.to_dict("records")) for _, rows in table.groupby("prompt_tokens", sort=False)]
    o.print_table("", (*columns, "peak", "after", "KV", ""), *sections, words=("method", ""), wide=True)
