"""`cokv-bench doctor`: what is installed and found, what is missing and how to fix it."""

from dataclasses import replace
from typing import Annotated

import typer
from rich.text import Text

from cokv_bench.cli import options as o
from cokv_bench.cli.groups import Only, grouped
from cokv_bench.models.spec import ModelSpec


@grouped
def doctor(
    context: typer.Context,
    spec: Annotated[ModelSpec, Only("revision", "dtype", "device", "device_map", "trust_remote_code")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Also check that this model's logits equal those of plain transformers: an embedded name, a folder, "
            "a GGUF file or a hub id (owner/name).",
            rich_help_panel="Model",
        ),
    ] = None,
) -> None:
    """Check the installation and print the command that fixes each problem."""
    from cokv_bench.doctor import findings, model_finding

    found = list(findings(context.obj))
    if model is not None:
        found.append(model_finding(model, lambda: o.load(replace(spec, name=model), runs=False)))
    rows = [
        [Text(cell, style="red" if each.mend else "") for cell in (each.thing, each.found, each.mend)] for each in found
    ]
    header = ("thing", "found", "fix with")
    o.print_table("", header, rows, words=header)
    if any(finding.mend for finding in found):
        raise typer.Exit(1)
