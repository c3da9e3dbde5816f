"""`cokv-bench data`: what benchmarks have on the hub, and how it comes here."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o


def fetch_data(
    name: Annotated[str, typer.Argument(help="Benchmark, as `cokv-bench data ls` lists them.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to create for the data. Default: the hub's cache, where tasks find it without an option."
        ),
    ] = None,
) -> None:
    """Download a benchmark's data, compare it with the hub's hashes, and print the folder for --data-dir.

    The same command resumes an interrupted download. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the usual variables for
    proxies count.
    """
    from cokv_bench.tasks.downloads import fetch_data as fetch

    folder = fetch(name, out)
    o.tell(f"The data of {name} is in {folder}; use it with --data-dir '{folder}'")


def list_data() -> None:
    """List what can be fetched, one benchmark per line."""
    from cokv_bench.tasks.downloads import downloads

    header = ("name", "what it is", "source")
    rows = [(name, each.line, each.source) for name, each in downloads().items()]
    o.print_table("data", header, rows, words=header)
