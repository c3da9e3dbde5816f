"""A ceiling is told, marked, and compared with nothing."""

import pandas as pd
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.report.layout import lay_out
from cokv_bench.scores.comparisons import choose_baselines, comparisons_table
from cokv_bench.scores.gaps import gaps_table
from tests.scores.test_comparisons import CONFIGURATION, records

SCORES = {
    "full": {"t/a": [1.0, 1.0, 1.0]},
    "snapkv": {"t/a": [0.0, 0.0, 1.0]},
    "x": {"t/a": [0.0, 1.0, 1.0]},
    "oracle+uniform": {"t/a": [1.0, 1.0, 1.0]},
}


def frame() -> pd.DataFrame:
    table = records(SCORES)
    return table.assign(budget=table["budget"].mask(table["method"] == "full"))


def test_it_is_in_no_test_and_no_baseline() -> None:
    assert list(comparisons_table(frame(), CONFIGURATION, "snapkv")["method"]) == ["x"]
    assert choose_baselines(["oracle+uniform", "x"]) == ["x"]
    with pytest.raises(RequestError, match="baseline"):
        choose_baselines(["oracle+uniform", "x"], ["oracle+uniform"])


def test_its_share_of_the_gap_is_told() -> None:
    table = gaps_table(frame()).set_index(["method", "task"])
    assert table.loc[("oracle+uniform", "t/a"), "closed"] == pytest.approx(1.0)


def test_it_is_marked_and_never_the_best() -> None:
    wide = pd.DataFrame(
        [("full", None, 100.0), ("snapkv", 64, 33.3), ("x", 64, 66.7), ("oracle+uniform", 64, 100.0)],
        columns=["method", "budget", "t/a"],
    )
    scores = wide.rename(columns={"t/a": "score"}).assign(
        task="t/a", n=3, ci_low=0.0, ci_high=100.0, kept_per_head=64.0, exact_total=True
    )
    told = {**CONFIGURATION, "tasks": {"t/a": {}}, "model": {"id": "m"}, "split": "test", "window": 8}
    layout = lay_out({"table.csv": wide, "scores.csv": scores}, told)
    rows = {row[0].text: row[2] for section in layout.scores.sections for row in section}
    assert set(rows) == {"full", "snapkv", "x", "oracle+uniform (ceiling)"}
    assert [name for name, cell in rows.items() if cell.bold] == ["x"]
    assert "Bold: the best of each budget, the full cache and ceilings aside." in layout.notes
    assert {row[0].text for section in layout.costs[0].sections for row in section} == set(rows)
