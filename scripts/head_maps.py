"""Where the tokens went: budgets as coloured maps, a panel a file, KV heads by layers.

python scripts/head_maps.py --map SnapKV=snapkv.budgets.json --map searched=shares.json --budget 64 --out maps.png

A file is any that `cokv-bench report --heads` takes: budgets, values, shares or head scores. The colour is logarithmic,
the same in all panels.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.files import make_folder
from cokv_bench.report.head_figures import head_figures
from cokv_bench.report.heads import named_map
from cokv_bench.report.static import ENDINGS, save


def main(
    maps: Annotated[list[str], typer.Option("--map", help="NAME=FILE; once a panel.")],
    budget: Annotated[int, typer.Option(help="Tokens per KV head; a budgets file has its own.")] = 64,
    out: Annotated[Path, typer.Option(help="PNG, SVG or PDF.")] = Path("maps.png"),
) -> None:
    """Draw the maps."""
    if out.suffix.removeprefix(".") not in ENDINGS:
        raise RequestError(f"'{out}' is no name of a figure; end it with .{' or .'.join(ENDINGS)}.")
    # Budgets files are shown beside the others whatever their budget is.
    group = head_figures([replace(named_map(each), budget=None) for each in maps], [budget])
    assert group is not None
    make_folder(out.parent)
    save(group.figures[0], out)
    o.tell(f"{len(maps)} maps are in {out}")


if __name__ == "__main__":
    run_script(main)
