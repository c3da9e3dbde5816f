"""`cokv-bench doctor`: what is installed and found, what is missing and how to fix it."""

import typer
from rich.text import Text

from cokv_bench.cli import options as o


def doctor(context: typer.Context) -> None:
    """Show versions, devices, model and data found, what is missing, and the command that fixes it."""
    from cokv_bench.doctor import findings

    found = list(findings(context.obj))
    rows = [
        [Text(cell, style="red" if each.mend else "") for cell in (each.thing, each.found, each.mend)] for each in found
    ]
    header = ("thing", "found", "fix with")
    o.print_table("", header, rows, words=header)
    if any(finding.mend for finding in found):
        raise typer.Exit(1)
