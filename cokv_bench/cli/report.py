"""`cokv-bench report`: runs as one HTML file, as figures, or in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.outcome import print_summary, print_unfinished
from cokv_bench.cli.progress import progress_bar
from cokv_bench.errors import RequestError

if TYPE_CHECKING:
    from cokv_bench.report.figures import Group
    from cokv_bench.report.folders import Run


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs, and of benchmarks (those with bench.csv).", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option(help="The HTML file. Default: report.html in the first folder.")] = None,
    heads: Annotated[
        list[str] | None,
        typer.Option(
            "--heads",
            help="NAME=FILE: show a map of budgets, values, shares or head scores; repeatable. "
            "Those of the embedded files are known.",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Budget at which head maps are shown. Default: those of the runs, or 128."),
    ] = None,
    estimators: Annotated[
        list[Path] | None,
        typer.Option(
            help="Show how estimates change as the ledger of this profile folder grows, or what "
            "scripts/estimator_quality.py --json wrote; repeatable."
        ),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for every figure as PNG, SVG and PDF (needs matplotlib).")
    ] = None,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Show the report in the terminal instead of writing a page.")
    ] = False,
    recount: Annotated[
        bool,
        typer.Option(
            "--recount",
            help="Recompute the tables of the runs from their records and write them into their folders. The baselines "
            "are those that comparisons.csv or run.json names, else snapkv. Default: show the stored tables.",
        ),
    ] = False,
) -> None:
    """Show runs side by side: scores, differences, needles, head maps, costs and every answer, as one HTML file.

    The file needs no network and no other file. Several runs are compared in the same figures.
    """
    from cokv_bench.report.figures import named
    from cokv_bench.report.folders import read_folders
    from cokv_bench.report.groups import make_groups
    from cokv_bench.report.heads import named_map
    from cokv_bench.report.html.page import check_plotly, write_page
    from cokv_bench.report.static import check_drawing, draw_all
    from cokv_bench.scores.tables import Results

    if terminal and out is not None:
        raise RequestError("--terminal writes no page, so --out says nothing; leave one of them out.")
    if not terminal:
        check_plotly()
    if figures is not None:
        check_drawing()
    if recount:
        _recount(runs)
    found, benches = read_folders(runs)
    maps = [named_map(text) for text in heads or ()]
    groups = make_groups(found, benches, heads=maps, estimated=estimators or (), budget=budget)
    if terminal:
        _show(found, groups)
    else:
        target = out or runs[0] / "report.html"
        write_page(target, found, benches, groups)
        size = target.stat().st_size / 2**20
        for run in found:
            name = run.name if len(found) > 1 else None
            print_unfinished(run)
            print_summary(Results(run.tables, run.configuration, run.unit), name)
        o.tell(f"Wrote {target} ({size:.1f} MiB)")
    if figures is not None:
        drawn = list(named(groups))
        with progress_bar(o.progress_console, "Drawing", "figure") as progress:
            draw_all(drawn, figures, progress)
        o.tell(f"{len(drawn)} figures are in {figures}")


def _recount(folders: "Sequence[Path]") -> None:
    from cokv_bench.report import write_results
    from cokv_bench.report.folders import BENCH
    from cokv_bench.runs.journal import read_run
    from cokv_bench.scores.tables import COMPARISONS, named_baselines

    for folder in folders:
        if not (folder / BENCH).is_file():
            named = named_baselines(folder, read_run(folder)["configuration"])
            tables = write_results(folder, named).tables
            compared = ""
            if COMPARISONS in tables:
                compared = f", compared with {', '.join(tables[COMPARISONS]['baseline'].unique())}"
                compared += "" if named else " (its files name no baseline)"
            o.tell(f"Recomputed the tables of {folder}{compared}")


def _show(runs: "Sequence[Run]", groups: "Sequence[Group]") -> None:
    """Tables of each run, then the maps, and costs as tables; what else the page has needs the page."""
    from cokv_bench.report.layout import lay_out
    from cokv_bench.report.terminal import print_lines, print_maps, print_tables
    from cokv_bench.scores.tables import Results

    for run in runs:
        if len(runs) > 1:
            o.console.print(run.name, highlight=False, markup=False, style="bold")
        print_tables(o.console, lay_out(run.tables, run.configuration, run.unit), run.unit)
        print_unfinished(run)
        print_summary(Results(run.tables, run.configuration, run.unit))
    for group in groups:
        print_maps(o.console, group)
        if group.key in ("costs", "estimators"):
            print_lines(o.console, group.figures)
        elif group.key.endswith("gaps"):
            # What sums the first run up; figures of single tasks are for the page.
            print_lines(o.console, group.figures[:1])
