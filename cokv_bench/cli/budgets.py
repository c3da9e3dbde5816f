"""`cokv-bench budgets`: head values to a checked budget JSON."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.option import integers


def make_budgets(
    profile: Annotated[
        Path | None, typer.Argument(help="Profile folder or values.json. Default: the embedded model's profile.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Tokens per KV head on average, window included; comma separated.")
    ] = "128",
    alpha: Annotated[
        int | None,
        typer.Option(
            "--alpha",
            "--zeroed",
            min=1,
            help="CoKV's alpha: how many of the lowest-valued heads keep only the window. Default: chosen with the "
            "profile.",
        ),
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Window of the budgets. Default: that of the profile.")
    ] = None,
    published_rounding: Annotated[
        bool, typer.Option("--published-rounding", help="Truncate as the published code does; loses tokens.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: the profile's, or the current one.")
    ] = None,
) -> None:
    """Turn head values into tokens per head by CoKV's rule, one budget JSON for each budget.

    The total is exactly budget x layers x KV heads. Use the file as `cokv-bench eval --method cokv --heads FILE`;
    it names its model and is checked when it is read.
    """
    from cokv_bench.budgets.from_profile import write_budgets
    from cokv_bench.cli.tables import print_budgets

    files = write_budgets(
        profile,
        integers(budget, "budget"),
        window=window,
        zeroed=alpha,
        published_rounding=published_rounding,
        folder=out,
    )
    for path, file in files:
        print_budgets(file)
        o.tell(f"Wrote {path}")
