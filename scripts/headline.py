"""One figure of a few methods in several runs: a panel for each benchmark, scores by tokens kept per head.

python scripts/headline.py "needles=results/rankings/needles:needle" "RULER=results/rankings/scores:ruler mean" \\
  --method full,snapkv,searched=cokv-search:file=fading --out results/headline.png
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.policies.names import label
from cokv_bench.report.figures import Lines
from cokv_bench.report.folders import read_folders
from cokv_bench.report.methods import styles
from cokv_bench.report.scores import curves
from cokv_bench.report.static import check_drawing, save_beside


def main(
    panels: Annotated[list[str], typer.Argument(help="TITLE=RUN:TASK each; a mean is a task too.")],
    method: Annotated[str, typer.Option(help="Methods with commas between them, NAME= before one to call it so.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    title: Annotated[str, typer.Option(help="Above all panels.")] = "Scores by tokens kept per head",
) -> None:
    """Draw the panels side by side."""
    check_drawing()
    named = dict(_named(each) for each in method.split(","))
    save_beside(title, [_panel(panel, named) for panel in panels], out)
    typer.echo(f"Wrote {out}")


def _named(text: str) -> tuple[str, str]:
    """A method and what it is called."""
    name, sign, method = text.partition("=")
    # An option of a method has an equals sign as well, behind a colon.
    return (method, name) if sign and ":" not in name else (text, label(text))


def _panel(text: str, named: dict[str, str]) -> Lines:
    """The lines of one benchmark; a method has the same look in all panels.

    Raises:
        RequestError: the panel is not written as it should be, the folder is no run, or the run lacks the task.
    """
    title, _, place = text.partition("=")
    folder, _, task = place.rpartition(":")
    if not folder:
        raise RequestError(f"{text} is no panel; write TITLE=RUN:TASK, such as needles=results/run:needle.")
    (run,), _ = read_folders([Path(folder)])
    scores = run.tables["scores.csv"]
    scores = scores[scores["method"].isin(named) & (scores["task"] == task)]
    if scores.empty:
        raise RequestError(f"{folder} has no scores of these methods on '{task}'; its tables name its tasks.")
    group = curves(run.unit, [replace(run, tables={"scores.csv": scores})])
    assert group is not None
    figure = group.figures[0]
    assert isinstance(figure, Lines)
    looks, methods = styles(list(named)), {label(each): each for each in named}
    lines = [
        replace(line, name=named[methods[line.name]], style=looks.get(methods[line.name], 0)) for line in figure.series
    ]
    return replace(figure, title=f"{title}, {figure.about.removesuffix('.')}", series=tuple(lines))


if __name__ == "__main__":
    run_script(main)
