"""`cokv-bench import`: published head scores to this project's files."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o


def import_scores(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CoKV's slices (.npy, all of a task together, or .npz), HeadKV's scores (JSON, .npz), LU-KV's curves "
            "(.npy).",
        ),
    ],
    task: Annotated[
        str | None, typer.Option(help="Only this task, such as trec. Default: all that the files hold.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name of the model as `eval` will get it. Default: read from the file's name.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Number of layers. Default: known for published models.")
    ] = None,
    kv_heads: Annotated[
        int | None, typer.Option(min=1, help="KV heads per layer. Default: known for published models.")
    ] = None,
    head_dim: Annotated[
        int | None, typer.Option(min=1, help="Dimension of a head. Default: known for published models.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a single result. Default: profiles/<model>/<task>, one per task.")
    ] = None,
) -> None:
    """Turn the head data published with CoKV, HeadKV and LU-KV into checked files, without running a model.

    CoKV's slices become a values.json for `cokv-bench budgets` and `cokv-bench eval --heads`; HeadKV's scores become
    a *.head_scores.json and LU-KV's curves a *.curves.json (the split `curves`) for `cokv-bench eval --heads`. Pickles
    in the files are read as data: nothing is run.
    """
    from cokv_bench.budgets import HeadCurves, HeadValues
    from cokv_bench.budgets.importers import Layout, convert

    result = convert(files, model=model, task=task, layout=Layout(layers, kv_heads, head_dim), folder=out)
    for sentence in result.oddities:
        o.tell(f"Note: {sentence}.")
    for path, content in result.files:
        m = content.model
        line = f"Wrote {path}: {m['id']}, {m['layers']} layers x {m['kv_heads']} KV heads of size {m['head_dim']}"
        if isinstance(content, HeadValues):
            sizes = ", ".join(str(one["size"]) for one in content.source["slices"])
            line += f", {content.samples} samples in slices of size {sizes}"
        elif isinstance(content, HeadCurves):
            line += ", pruned shares at 1 to 99 percent"
        else:
            line += f", {m['heads']} query heads a layer"
        o.tell(line)
    if any(isinstance(content, HeadValues) for _, content in result.files):
        o.tell(
            "Standard errors are unknown (only sums are published), and so are the validation examples: "
            "an evaluation on the same task may include them."
        )
