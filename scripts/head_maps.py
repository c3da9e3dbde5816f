"""Where the tokens went: budgets as coloured maps, a panel a file, KV heads by layers.

python scripts/head_maps.py --map SnapKV=snapkv.budgets.json --map searched=shares.json --budget 64 --out maps.png

A file is a budgets file (`*.budgets.json`), head values of a profile (`*values.json`), or shares of a search. The
colour is logarithmic, the same in all panels.
"""

from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from cokv_bench.budgets import HeadBudgets, HeadShares, HeadValues
from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError
from cokv_bench.files import make_folder

matplotlib.use("Agg")
from matplotlib import pyplot

_ENDINGS = (".png", ".svg", ".pdf")


def tokens(path: Path, budget: int) -> NDArray[np.int64]:
    """Tokens of each head, int64 [layers, kv_heads]."""
    if path.name.endswith(".budgets.json"):
        return HeadBudgets.load(path).tokens
    if path.name.endswith("values.json"):
        values = HeadValues.load(path)
        return values.budgets(budget, window=values.window)
    shares = HeadShares.load(path)
    return shares.budgets(budget, window=shares.window)


def panel_of(text: str, budget: int) -> tuple[str, NDArray[np.int64]]:
    """Title and tokens of a map that the command line names. Raises `RequestError` where it is not TITLE=FILE."""
    title, _, path = text.partition("=")
    if not path:
        raise RequestError(f"'{text}' names no map; write TITLE=FILE, such as searched=shares.json.")
    return title, tokens(Path(path), budget)


def main(
    maps: Annotated[list[str], typer.Option("--map", help="TITLE=FILE; once a panel.")],
    budget: Annotated[int, typer.Option(help="Tokens a KV head, for shares.")] = 64,
    out: Annotated[Path, typer.Option(help="PNG, SVG or PDF.")] = Path("maps.png"),
) -> None:
    """Draw the maps."""
    if out.suffix not in _ENDINGS:
        raise RequestError(f"'{out}' is no name of a figure; end it with {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}.")
    panels = [panel_of(each, budget) for each in maps]
    if len({panel.shape for _, panel in panels}) != 1:
        raise RequestError("The maps are of models of different shapes; draw one model at a time.")
    layers, heads = panels[0][1].shape
    norm = LogNorm(min(panel.min() for _, panel in panels), max(panel.max() for _, panel in panels))
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(1.5 + 0.22 * layers, 0.9 * len(panels) + 0.17 * heads * len(panels)),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for axis, (title, panel) in zip(axes[:, 0], panels, strict=True):
        image = axis.imshow(panel.T, aspect="auto", cmap="viridis", norm=norm, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("KV head", fontsize=8)
        axis.set_yticks(range(heads) if heads <= 8 else range(0, heads, 8))
        axis.tick_params(labelsize=7)
    axes[-1][0].set_xlabel("layer", fontsize=8)
    bar = figure.colorbar(image, ax=axes[:, 0])
    bar.set_label("tokens kept", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    make_folder(out.parent)
    figure.savefig(out, dpi=150)
    pyplot.close(figure)
    typer.echo(f"{len(panels)} maps are in {out}")


if __name__ == "__main__":
    run_script(main)
