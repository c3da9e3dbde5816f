"""The rows of a leaderboard's tables: a method and budget each, with its difference from another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from cokv_bench.policies.names import FULL, competing, is_ceiling, label
from cokv_bench.report.figures import known
from cokv_bench.report.grids import decimal, p_text
from cokv_bench.report.html.embedding import text
from cokv_bench.report.html.shell import breakable
from cokv_bench.report.methods import described
from cokv_bench.scores.boards import MEAN, Board

_MIB = 2**20
#: How a comparison ended, as the page's script knows it.
NOISE, DIFFERS, UNEQUAL, BLIND = range(4)
#: Section, first and second entry -> difference, low, high, corrected p, common examples, how it ended.
Compared = Mapping[tuple[str, int, int], tuple[float | None, float | None, float | None, float | None, int, int]]
#: What is said of a difference that is `BLIND`.
_FEW = "So few examples that no difference of any size could be significant."


def budget_rows(
    board: Board, section: str, rows: pd.DataFrame, compared: Compared, scale: tuple[float, float], *, several: bool
) -> str:
    numbers = {entry: place for place, entry in enumerate(board.entries)}
    ordered = rows.sort_values("score", ascending=False, kind="stable").to_dict("records")
    best = next((row for row in ordered if row["exact_total"] and competing([row["method"]])), None)
    reference = None if best is None else numbers[best["submission"], best["method"]]
    said = {
        "": "full cache",
        MEAN: f"mean over budgets {', '.join(map(str, board.budgets))}",
    }.get(section, f"{section} {'of the prompt' if section.endswith('%') else 'tokens per head'}")
    body = [
        f'<tr class="title"><th scope="rowgroup" colspan="{11 + several}"><span>{text(said)}</span></th></tr>',
    ]
    for row in _once(ordered):
        place = numbers.get((row["submission"], row["method"]))
        body.append(_row(board, section, row, place, reference, compared, scale, several=several))
    return f'<tbody data-section="{text(section)}">{"".join(body)}</tbody>'


def _once(rows: Iterable[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """Rows with the full caches of several submissions as one, where they have the same score."""
    found: list[dict[Any, Any]] = []
    for row in rows:
        same = next(
            (each for each in found if row["method"] == FULL and round(each["score"] - row["score"], 6) == 0), None
        )
        if same is None:
            found.append(dict(row))
        else:
            same["submission"] = f"{same['submission']}, {row['submission']}"
    return found


def _row(
    board: Board,
    section: str,
    row: Mapping[Any, Any],
    place: int | None,
    reference: int | None,
    compared: Compared,
    scale: tuple[float, float],
    *,
    several: bool,
) -> str:
    unit = board.unit
    low, high = (decimal(row[end], unit.decimals) for end in ("ci_low", "ci_high"))
    score = text(decimal(row["score"], unit.decimals))
    kept = decimal(row["kept_per_head"])
    # Long names may break between their options.
    about = described(row["method"])
    title = f' title="{text(about)}"' if about else ""
    cells = [f'<th scope="row"{title}>{breakable(label(row["method"])).replace(":", ":<wbr>")}</th>']
    cells += [f'<td class="from">{text(row["submission"])}</td>'] * several
    cells += [
        f"<td><strong>{score}</strong></td>" if place is not None and place == reference else f"<td>{score}</td>",
        f"<td>{text(unit.between(low, high) if low and high else '')}</td>",
        _strip(row, scale),
        f"<td>{text(kept)}{'' if row['exact_total'] else ' unequal'}</td>",
        f"<td>{text(decimal(known(row['kv_bytes']) and row['kv_bytes'] / _MIB))}</td>",
        f"<td>{row['n']}</td>",
    ]
    cells += _against(unit.decimals, section, place, reference, compared)
    entry = "" if place is None else f' data-entry="{place}"'
    aside = " class=ceiling" if is_ceiling(row["method"]) else ""
    return f'<tr{aside} data-name="{text(row["method"])} {text(row["submission"])}"{entry}>{"".join(cells)}</tr>'


def _against(
    decimals: int, section: str, place: int | None, reference: int | None, compared: Compared
) -> Sequence[str]:
    """Difference, interval, corrected p and common examples; what the script writes where another row is chosen."""
    if place is None or reference is None:
        return ["<td></td>"] * 4
    if place == reference:
        return ["<td>reference</td>", *["<td></td>"] * 3]
    forward = compared.get((section, place, reference))
    backward = compared.get((section, reference, place))
    found = forward or backward
    if found is None:
        return ["<td>none in common</td>", *["<td></td>"] * 3]
    difference, low, high, p, n, state = found
    if difference is None:
        return ["<td>unequal totals</td>", "<td></td>", "<td></td>", f"<td>{n}</td>"]
    if forward is None:
        difference, low, high = -difference, high and -high, low and -low
    mark = {DIFFERS: "†", BLIND: "§"}.get(state, "")
    ends = "" if low is None or high is None else f"{_signed(low, decimals)} to {_signed(high, decimals)}"
    grey = f' class="blind" title="{text(_FEW)}"' if state == BLIND else ""
    return [
        f"<td{grey}>{_signed(difference, decimals)}{mark}</td>",
        f"<td>{ends}</td>",
        f"<td>{text(p_text(p))}</td>",
        f"<td>{n}</td>",
    ]


def _signed(value: float, decimals: int) -> str:
    """With its sign, and the same for all that is nothing after rounding."""
    told = f"{value:+.{decimals}f}"
    return told.lstrip("+-") if float(told) == 0 else told.replace("-", "−")


def _strip(row: Mapping[Any, Any], scale: tuple[float, float]) -> str:
    """The score and its interval as a drawing on the scale of the table."""
    if scale[0] == scale[1]:
        return "<td></td>"
    low, high = (known(row[end]) for end in ("ci_low", "ci_high"))
    bar = ""
    if low is not None and high is not None:
        start, end = percent(low, scale), percent(high, scale)
        bar = f'<i style="left:{start}%;width:{round(end - start, 2)}%"></i>'
    place = percent(row["score"], scale)
    return f'<td class="strip" aria-hidden="true"><div>{bar}<b style="left:{place}%"></b></div></td>'


def percent(value: float, scale: tuple[float, float]) -> float:
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)
