"""Figures of estimators, from ledgers of profiles and from files."""

from pathlib import Path

import numpy as np
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.game import Ledger, LedgerHeader, Row, get_estimator, get_sampling, stability
from cokv_bench.report.estimators import estimators
from cokv_bench.report.figures import Lines
from cokv_bench.report.ledgers import read_growth

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": [1], "pairs": 2}', '{"rows": [], "pairs": NaN}'])
def test_a_file_of_no_estimators(tmp_path: Path, content: str) -> None:
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(RequestError, match="estimator_quality"):
        estimators([tmp_path / "file.json"])


def make_ledger(folder: Path, pairs: int, sampling: str = "slices") -> tuple[np.ndarray, np.ndarray]:
    """A ledger of an additive game of 2 x 3 heads with noise; its coalitions and mean utilities."""
    plan = get_sampling(sampling).plan(6, 0)
    coalitions, random = plan.coalitions(0, 2 * pairs), np.random.default_rng(0)
    utilities = coalitions @ np.arange(6.0)[:, None] + random.normal(size=(2 * pairs, 2))
    header = LedgerHeader(
        model={"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None},
        tasks=("needle",),
        window=8,
        utility="loglik",
        seed=0,
        examples=("a", "b"),
        players=(2, 3),
        config=plan.config(),
    )
    rows = zip(range(2 * pairs), plan.row_sizes(0, 2 * pairs), coalitions, utilities, strict=True)
    with Ledger.open(folder / "ledger.jsonl", header) as ledger:
        ledger.append([Row(*row) for row in rows])
    return coalitions, utilities.mean(axis=1)


def test_a_ledger_that_lacks_a_coalition_has_no_growth(tmp_path: Path) -> None:
    make_ledger(tmp_path, 20)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:8] + lines[9:]))
    with pytest.raises(RequestError, match="lacks coalition 7 and has later ones"):
        read_growth(tmp_path)


def test_estimators_of_a_profile_by_the_length_of_its_ledger(tmp_path: Path) -> None:
    coalitions, utilities = make_ledger(tmp_path / "a" / "p", 320)
    make_ledger(tmp_path / "b" / "p", 20, "uniform")
    group = estimators([tmp_path / "a" / "p", tmp_path / "b" / "p", RESULTS / "smollm2-135m" / "estimators.json"])
    assert group is not None
    titles = [made.title for made in group.figures]
    assert titles[2:6] == [f"{what}, {p}" for p in ("a/p", "b/p") for what in (titles[0], titles[1])]
    halves, errors, *uniform = group.figures[2:6]
    assert isinstance(halves, Lines)
    assert isinstance(errors, Lines)
    assert [series.name for series in halves.series] == ["ssv", "cc", "kernelshap", "ridge"]
    assert {name for lines in uniform for name in (s.name for s in lines.series)} == {"banzhaf", "ridge"}
    assert errors.y_label == "median standard error (loglik)"
    for correlation, error in zip(halves.series, errors.series, strict=True):
        assert correlation.x == error.x == (5, 10, 20, 40, 80, 160, 320)
        for place, rows in ((3, 80), (6, 640)):
            units, sizes = np.arange(rows) // 2, get_sampling("slices").plan(6, 0).row_sizes(0, rows)
            found = stability(get_estimator(correlation.name), coalitions[:rows], utilities[:rows], units, sizes)[1]
            assert correlation.y[place] == pytest.approx(found.rank_correlation)
            assert error.y[place] == pytest.approx(found.standard_error)
    ssv = errors.series[0].y
    assert ssv[-1] is not None
    assert 0 < ssv[-1] < ssv[-3]  # type: ignore[operator]


def test_ledgers_end_with_whole_units(tmp_path: Path) -> None:
    make_ledger(tmp_path, 31, "permutation")
    units = get_sampling("permutation").plan(6, 0).units(0, 62)
    pairs = read_growth(tmp_path).estimators["permutation"].pairs
    assert pairs[-1] == 31
    for rows in (int(2 * length) for length in pairs[:-1]):
        assert units[rows - 1] != units[rows]


def test_profiles_without_coalitions(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"ledger\.jsonl cannot be read"):
        estimators([tmp_path])
    make_ledger(tmp_path, 0)
    with pytest.raises(RequestError, match="no coalition yet"):
        estimators([tmp_path])
