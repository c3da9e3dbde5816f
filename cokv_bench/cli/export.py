"""`cokv-bench export`: a head file as other projects read it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cokv_bench.cli import options as o


def export_heads(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Budgets, values, shares, head scores or curves, or the folder of a profile or search. "
            "Default: the embedded model's shares."
        ),
    ] = None,
    to: Annotated[
        Literal["lukv"],
        typer.Option(help="lukv: the pruned share of each head at 1 to 99 percent, [99, layers, KV heads], as .npy."),
    ] = "lukv",
    prompt: Annotated[
        int, typer.Option(min=2, help="Tokens of the prompt in which budgets become shares; curves are shares already.")
    ] = 4096,
    out: Annotated[
        Path | None, typer.Option(help="The file. Default: NAME.npy in the current folder, NAME as the head file's.")
    ] = None,
) -> None:
    """Write a head file for another project, without running a model.

    LU-KV's curves are read by kvpress and by LU-KV's own code; `cokv-bench import` reads them back.
    """
    from cokv_bench.budgets import embedded, load_head_file
    from cokv_bench.budgets.export import write_curves
    from cokv_bench.budgets.head_file import head_file_path

    path = embedded.shares_path() if file is None else head_file_path(file)
    target = Path(f"{path.stem}.npy") if out is None else out
    heads = load_head_file(path)
    write_curves(heads, target, prompt=prompt)
    model = heads.model
    o.tell(f"Wrote {target}: {model['id']}, {model['layers']} layers x {model['kv_heads']} KV heads, {to}")
