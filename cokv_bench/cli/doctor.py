"""`cokv-bench doctor`: what is installed and found, what is missing and how to fix it."""

import typer
from rich.markup import escape
from rich.table import Table

from cokv_bench.cli import options as o


def doctor(context: typer.Context) -> None:
    """Show versions, devices, model and data found, what is missing, and the command that fixes it."""
    from cokv_bench.doctor import findings

    table = Table()
    for column in ("thing", "found", "fix with"):
        table.add_column(column, overflow="fold")
    found = list(findings(context.obj))
    for finding in found:
        style = "red" if finding.mend else None
        table.add_row(finding.thing, escape(finding.found), escape(finding.mend), style=style)
    o.console.print(table)
    if any(finding.mend for finding in found):
        raise typer.Exit(1)
