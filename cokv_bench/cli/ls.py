"""`cokv-bench ls`: what there is, with one line each."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cokv_bench.cli import options as o


def list_things(
    what: Annotated[
        str, typer.Argument(help="methods | tasks | models | estimators | samplings | utilities")
    ] = "methods",
) -> None:
    """List methods, tasks, models, estimators, samplings or utilities, with one line each."""
    from cokv_bench.catalogue import catalogue

    table = Table(title=what, title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    for name, description in catalogue(what).items():
        table.add_row(escape(name), escape(description))
    o.console.print(table)
