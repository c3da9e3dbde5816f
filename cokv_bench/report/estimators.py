"""Figures of estimators: how far head values have come by the length of the ledger, and what budgets of them find."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.checks import Check, an_object, listed, number, or_null, problem, text, whole
from cokv_bench.errors import RequestError
from cokv_bench.report.figures import Dot, Dots, Figure, Group, Lines, Number, Series
from cokv_bench.report.folders import short_names
from cokv_bench.scores.units import capital

_FILE: dict[str, Check] = {"rows": listed(an_object, 1), "pairs": whole(1), "budget": whole(1)}
_ROW: dict[str, Check] = {"budgets": text}
_MEASURED: dict[str, Check] = {
    **dict.fromkeys(("estimator", "sampling"), text),
    **dict.fromkeys(("found", "ci_low", "ci_high", "logprob", "standard_error"), or_null(number)),
    "half_split_correlation": or_null(number),
    "alpha": or_null(whole(0)),
}
_CORRELATION = "rank correlation of the ledger's halves"
_ERROR = "median standard error"
_PAIRS = "pairs of coalitions"


def estimators(paths: Sequence[Path]) -> Group | None:
    """How stable values are by the length of the ledger, and what budgets made of them find; None without paths.

    Args:
        paths: folders of profiles, whose ledgers are estimated again at growing lengths, and files that
            `scripts/estimator_quality.py --json` wrote.

    Raises:
        RequestError: a folder has no ledger that can be read, or a file is not one of these.
    """
    if not paths:
        return None
    folders = [path for path in paths if path.is_dir()]
    files = {path: _read(path) for path in paths if path not in folders}
    figures: list[Figure] = []
    if files:
        figures += [
            _over_files(list(files.values()), "half_split_correlation", _CORRELATION),
            _over_files(list(files.values()), "standard_error", _ERROR),
        ]
    for name, folder in zip(short_names(folders), folders, strict=True):
        figures += _over_ledger(name, folder)
    figures += [_found(path, file) for path, file in files.items()]
    about = "Values of heads by estimator and sampling, from ledgers of some lengths (pairs of coalitions)."
    return Group("estimators", "Estimators", about, tuple(figures))


def _over_ledger(name: str, folder: Path) -> list[Lines]:
    """Two figures of a profile, a line an estimator."""
    # On first use: estimators come with scipy, which takes its time.
    from cokv_bench.report.ledgers import read_growth

    grown = read_growth(folder)
    about = (
        f"The first coalitions of the profile's ledger (sampling {grown.sampling}), estimated again. An estimator has "
        "no point where they are too few."
    )
    bias = "Those of ridge include what it shrinks."
    correlations = _series((each, growth.pairs, growth.rank_correlation) for each, growth in grown.estimators.items())
    errors = _series((each, growth.pairs, growth.standard_error) for each, growth in grown.estimators.items())
    unit = f"{_ERROR} ({grown.utility})"
    return [
        Lines(f"{capital(_CORRELATION)}, {name}", about, _PAIRS, _CORRELATION, correlations, log_x=True),
        Lines(f"{capital(_ERROR)}, {name}", f"{about} {bias}", _PAIRS, unit, errors, log_x=True),
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        file = strict_loads(path.read_bytes())
        wrong = problem(file, _FILE) or next(
            (found for row in file["rows"] if (found := problem(row, _ROW, _MEASURED))), None
        )
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        wrong = f"it is not JSON ({error})"
    if wrong:
        raise RequestError(f"{path} is not a file of scripts/estimator_quality.py --json: {wrong}; write it again.")
    return dict(file)


def _over_files(files: Sequence[dict[str, Any]], what: str, told: str) -> Lines:
    points: dict[str, dict[float, float]] = {}
    for pairs, row in ((float(file["pairs"]), row) for file in files for row in file["rows"]):
        if row.get(what) is not None:
            points.setdefault(f"{row.get('estimator')}, {row.get('sampling')}", {})[pairs] = row[what]
    series = _series((name, tuple(sorted(at)), tuple(at[x] for x in sorted(at))) for name, at in points.items())
    about = "A point a file. Estimators whose errors cannot be told have none."
    return Lines(capital(told), about, _PAIRS, told, series, log_x=True)


def _series(lines: Iterable[tuple[str, tuple[float, ...], tuple[Number, ...]]]) -> tuple[Series, ...]:
    """Lines without intervals, each with a style of its own."""
    return tuple(Series.plain(name, x, y, style=style) for style, (name, x, y) in enumerate(lines))


def _found(path: Path, file: dict[str, Any]) -> Dots:
    dots = [
        Dot(
            row["budgets"].removeprefix("cokv, "),
            row.get("found"),
            row.get("ci_low"),
            row.get("ci_high"),
            cells=("" if row.get("logprob") is None else f"{row['logprob']:.3f}", str(row.get("alpha", ""))),
            style=0 if "estimator" in row else 1,
        )
        for row in file["rows"]
    ]
    title = f"Needles found with the values of {file['pairs']} pairs, {path.name}"
    about = f"{file['budget']} tokens per head, {file.get('examples', '?')} test needles; 95% intervals."
    return Dots(title, about, "estimator and sampling", "percent found", tuple(dots), ("log-probability", "alpha"))
