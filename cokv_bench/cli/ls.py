"""`cokv-bench ls`: what there is, with one line each."""

from typing import Annotated

import typer

from cokv_bench.cli import options as o


def list_things(
    what: Annotated[
        str,
        typer.Argument(
            help="methods | tasks | models | scorers | allocators | estimators | samplings | utilities | metrics | "
            "engines | exports"
        ),
    ] = "methods",
) -> None:
    """List methods, tasks, models, estimators, samplings, utilities, metrics, engines or exports, one per line."""
    from cokv_bench.catalogue import NOTES, catalogue, origins
    from cokv_bench.registry import PACKAGE

    found = catalogue(what)
    added = {name: origin for name, origin in origins(what).items() if origin != PACKAGE}
    header = ("name", "what it is", *["from"] * bool(added))
    rows = [(name, about, *[added.get(name, PACKAGE)] * bool(added)) for name, about in found.items()]
    o.print_table(what, header, rows, words=header)
    if what in NOTES:
        o.tell(NOTES[what])
