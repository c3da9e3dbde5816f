"""`cokv-bench push`: a head file on the Hugging Face hub, for others to use by name."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.errors import RequestError


def push_heads(
    file: Annotated[Path, typer.Argument(help="Budgets, values, shares, head scores or curves, or a folder with one.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/REPO", help="Hub repository; created if it does not exist.")
    ],
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of a run whose scores and primary tests go into the card."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a new repository as private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the file's section of the card.")] = False,
) -> None:
    """Publish a head file on the Hugging Face hub, with a card that says how it was made.

    Others use it as `--heads hf:OWNER/REPO/FILE.json`. You need to be logged in (`hf auth login`).
    """
    from cokv_bench.budgets.card import card_section
    from cokv_bench.budgets.head_file import head_file_path, load_head_file
    from cokv_bench.budgets.hub import push

    path = head_file_path(file)
    section = card_section(load_head_file(path), path.name, repository, None if run is None else _table(run))
    if dry_run:
        typer.echo(section)
        return
    name = push(path, repository, section, private=private)
    o.tell(f"Published {name}; use it with --heads {name}")


def _table(run: Path) -> str:
    """The tables of a run as Markdown."""
    path = run / "table.md"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); name the folder of an `eval`.") from None
