"""A run's scores beside published ones."""

import pandas as pd

from cokv_bench.report.grids import Cell, Grid, budget_text, decimal
from cokv_bench.scores.units import PERCENT


def beside_reference(reference: pd.DataFrame) -> tuple[Grid, str]:
    """The run's scores beside published ones, and a sentence where these are for another model, else nothing.

    Args:
        reference: as `reference_table` makes it.
    """
    several = reference["published_model"].nunique() > 1
    for_model = ("published for",) * several
    header = ("method", "budget", "task", *for_model, "published", "n", "here", "95%", "points")
    rows = []
    for row in reference.to_dict("records"):
        low, high = decimal(row["ci_low"], 0), decimal(row["ci_high"], 0)
        texts = (
            row["method"],
            budget_text(row["budget"]),
            row["task"],
            *(row["published_model"],) * several,
            f"{row['published']:.2f}",
            str(row["n"]),
            f"{row['score']:.2f}",
            PERCENT.between(low, high) if low and high else "",
            "" if pd.isna(row["difference"]) else f"{row['difference']:+.2f}",
        )
        rows.append(tuple(map(Cell, texts)))
    note = ""
    if not reference["same_model"].any():
        models = " and ".join(reference["published_model"].unique())
        note = f"Published for {models}, another model than this run's: no differences are taken."
    return Grid(f"Next to {', '.join(reference['source'].unique())}", header, (tuple(rows),)), note
