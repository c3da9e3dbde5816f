"""`cokv-bench ls`: what there is, with one line each."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cokv_bench.cli import options as o


def list_things(
    what: Annotated[
        str,
        typer.Argument(
            help="methods | tasks | models | scorers | allocators | estimators | samplings | utilities | metrics | "
            "engines"
        ),
    ] = "methods",
) -> None:
    """List methods, tasks, models, estimators, samplings, utilities, metrics or engines, with one line each."""
    from cokv_bench.catalogue import NOTES, catalogue, origins
    from cokv_bench.registry import PACKAGE

    found = catalogue(what)
    added = {name: origin for name, origin in origins(what).items() if origin != PACKAGE}
    table = Table(title=what, title_justify="left")
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    if added:
        table.add_column("from", overflow="fold")
    for name, description in found.items():
        cells = [name, description, *([added.get(name, PACKAGE)] if added else [])]
        table.add_row(*map(escape, cells))
    o.console.print(table)
    if what in NOTES:
        o.tell(NOTES[what])
