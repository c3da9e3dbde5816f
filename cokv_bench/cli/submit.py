"""`cokv-bench submit`: a finished run as a folder that may be given to others."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o


def submit(
    run: Annotated[Path, typer.Argument(help="Folder of a finished `eval`.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option(help="Short name of this submission, one word. Default: the name of the run's folder."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write. Default: submissions/NAME in the current folder.")
    ] = None,
) -> None:
    """Pack a finished run for a leaderboard: settings and scores, without texts of the examples and without paths.

    `cokv-bench leaderboard` compares such folders on the examples that they share.
    """
    from cokv_bench.files import write_folder
    from cokv_bench.runs.submission import pack

    called = name or run.resolve().name
    files = pack(run, called)
    target = out or Path("submissions") / called
    write_folder(target, files)
    size = -(-sum(map(len, files.values())) // 1024)
    o.tell(f"Wrote {target} ({', '.join(files)}; {size} KiB), without prompts, questions and answers")
