"""Tables of a run of log-probabilities: how likely the references are under each method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.runs.checked import tabular
from cokv_bench.runs.journal import read_records
from cokv_bench.scores.comparisons import comparisons_table
from cokv_bench.scores.gaps import gaps_table
from cokv_bench.scores.tables import scores_table

_COLUMNS = ["method", "budget", "task", "n", "logprob", "ci_low", "ci_high", "kept_per_head", "exact_total"]


def write_evidence(folder: Path, configuration: dict[str, Any], baselines: Sequence[str]) -> pd.DataFrame:
    """Write logprobs.csv (nats per token), comparisons.csv and gaps.csv of a run into its folder.

    Args:
        configuration: of the run.
        baselines: methods that the others are compared with, one after the other.

    Returns:
        The table of gaps, see `gaps_table`.

    Raises:
        RequestError: the folder holds no records.
    """
    records = read_records(folder)
    if not records:
        raise RequestError(f"{folder} holds no records yet, so there is nothing to tabulate; measure first.")
    frame = pd.DataFrame([tabular(record) for record in records]).astype({"budget": "Int64"})
    # A log-probability is kept as a hundredth of a score.
    scores = scores_table(frame, configuration).rename(columns={"score": "logprob"})
    gaps = gaps_table(frame)
    compared = pd.concat([comparisons_table(frame, configuration, each) for each in baselines])
    for name, table in (("logprobs", scores[_COLUMNS]), ("comparisons", compared), ("gaps", gaps)):
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return gaps
