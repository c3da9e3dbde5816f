"""`cokv-bench leaderboard`: runs of several origins on one page, compared on the examples that they share."""

from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o


def leaderboard(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Submissions (`cokv-bench submit`) or folders of finished runs.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("leaderboard.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Leaderboard",
) -> None:
    """Compare finished runs on one static page: scores with intervals, and paired tests on common examples.

    The file needs no network and no other file. Runs that differ in model, dtype, task version or examples are
    never mixed.
    """
    from cokv_bench.files import check_target
    from cokv_bench.report.html.leaderboard import write_leaderboard
    from cokv_bench.report.leaderboard import read_submissions
    from cokv_bench.scores.boards import make_boards

    check_target(out)
    submissions = read_submissions(folders)
    boards = make_boards(submissions)
    write_leaderboard(out, title, submissions, boards)
    size = out.stat().st_size / 2**20
    o.tell(f"Wrote {out} ({size:.1f} MiB): {len(submissions)} submissions, {len(boards)} groups of tables")
