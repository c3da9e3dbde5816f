"""`cokv-bench export`: a head file as other projects read it."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.option import integers


def export_heads(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Budgets, values, shares, head scores or curves, or the folder of a profile or search. "
            "Default: the embedded model's shares."
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            help="transformers | kvpress | duo | layers: a custom_generate folder, curves of pruned shares (LU-KV), "
            "DuoAttention's folder, or a list with a budget per layer. `cokv-bench ls exports` says more."
        ),
    ] = "kvpress",
    budget: Annotated[
        str | None,
        typer.Option(
            help="Tokens per KV head on average, window included, for transformers, duo and layers. Default: the only "
            "budget of the file, or 128. transformers takes several; shares give any budget."
        ),
    ] = None,
    prompt: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="For kvpress and duo: prompt length, in tokens, for which budgets are turned into shares or whole "
            "heads. Default: 4096. Not needed for curves.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file or folder. Default: in the current folder, named after the head file and the target."
        ),
    ] = None,
) -> None:
    """Write a head file for another project, without running a model.

    With the transformers folder, `generate` uses a compressed cache without this package. kvpress and LU-KV's code
    read the curves, and so does `cokv-bench import`. DuoAttention reads which heads keep the whole prompt. The list of
    layers is for runtimes that give all heads of a layer the same budget.
    """
    from cokv_bench.budgets import embedded, load_head_file
    from cokv_bench.budgets.head_file import head_file_path
    from cokv_bench.exports import Request
    from cokv_bench.registries import EXPORTS

    EXPORTS.check(to)
    path = embedded.shares_path() if file is None else head_file_path(file)
    heads = load_head_file(path)
    budgets = () if budget is None else tuple(dict.fromkeys(integers(budget, "budget")))
    written = EXPORTS.get(to)(Request(heads, path, budgets, prompt, out))
    model = heads.model
    shape = f"{model['layers']} layers x {model['kv_heads']} KV heads"
    o.tell(f"Wrote {written.path}: {model['id']}, {shape}, {EXPORTS.current(to)}")
    for note in written.notes:
        o.tell(note)
