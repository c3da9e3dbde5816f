"""A leaderboard as one HTML file: a table per set of equal examples, and differences on common examples."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.files import write_text
from cokv_bench.policies.names import FULL, competing, label
from cokv_bench.report.figures import known
from cokv_bench.report.grids import decimal
from cokv_bench.report.html.embedding import data_element, text
from cokv_bench.report.html.shell import Section, breakable, document, packaged, scrolling, wide
from cokv_bench.scores.boards import MEAN, Board, Entry, ExampleSet, Submission
from cokv_bench.scores.units import PERCENT

_MIB = 2**20
_SORTED = {"": "", "text": ' class="from" data-sort="text"', "number": ' data-sort="number"'}
_FROM_BEST = "difference from the best row"
#: How a comparison ended, as the page's script knows it.
_NOISE, _DIFFERS, _UNEQUAL, _BLIND = range(4)
#: Section, first and second entry -> difference, low, high, corrected p, common examples, how it ended.
_Compared = Mapping[tuple[str, int, int], tuple[float | None, float | None, float | None, float | None, int, int]]


def write_leaderboard(path: Path, title: str, submissions: Sequence[Submission], boards: Sequence[Board]) -> None:
    """Write a page that needs nothing but itself.

    Args:
        path: of the HTML file.
        title: of the page.
        submissions: what it is about.
        boards: what `make_boards` makes of them.

    Raises:
        RequestError: the file cannot be written.
    """
    compared = [_compared(board) for board in boards]
    sections: list[Section] = [("overview", "Overview", _overview(submissions, boards))]
    body = [_board(number, *each) for number, each in enumerate(zip(boards, compared, strict=True))]
    sections += [("boards", "Tables", _CONTROLS + "".join(body))]
    sections += [("submissions", "Submissions", _submissions(submissions))]
    data = data_element("boards-data", [_data(*each) for each in zip(boards, compared, strict=True)])
    styles = [packaged("page.css"), packaged("leaderboard.css")]
    scripts = [packaged("common.js"), packaged("leaderboard.js")]
    write_text(path, document(title, sections, [data], scripts, styles))


def _compared(board: Board) -> _Compared:
    found = {}
    for row in board.pairs.to_dict("records"):
        state = (
            _UNEQUAL
            if pd.isna(row["difference"])
            else _DIFFERS
            if not row["within_noise"]
            else _NOISE
            if row["discriminates"]
            else _BLIND
        )
        difference, low, high, p = (known(row[name]) for name in ("difference", "ci_low", "ci_high", "p_adjusted"))
        found[row["section"], row["one"], row["other"]] = (difference, low, high, p, int(row["n"]), state)
    return found


def _data(board: Board, compared: _Compared) -> dict[str, Any]:
    """What the script needs to take another row as the one to compare with."""
    pairs: dict[str, list[list[Any]]] = {}
    for (section, one, other), (*numbers, n, state) in compared.items():
        short = [None if value is None else float(f"{value:.5g}") for value in numbers]
        pairs.setdefault(section, []).append([one, other, *short, n, state])
    return {
        "decimals": board.unit.decimals,
        "entries": [_entry(board, entry) for entry in board.entries],
        "pairs": pairs,
    }


def _entry(board: Board, entry: Entry) -> str:
    """A method, with its submission where the board has the method of several."""
    name, method = entry
    several = Counter(other for _, other in board.entries)[method] > 1
    return f"{label(method)} · {name}" if several else label(method)


def _heading(board: Board) -> str:
    hidden = ", question hidden" if board.question_agnostic else ""
    return f"{board.benchmark}, {board.model}, {board.dtype}{hidden}: {board.unit.noun}"


def _overview(submissions: Sequence[Submission], boards: Sequence[Board]) -> str:
    rows = []
    for number, board in enumerate(boards):
        examples = " and ".join(str(each.examples) for each in board.sets)
        names = {name for each in board.sets for name in each.submissions}
        budgets = ", ".join(section for section in board.sections if section != MEAN)
        cells = (board.model, board.unit.noun, examples, str(len(names)), str(len(board.entries)), budgets)
        link = f'<td><a href="#board-{number}">{text(board.benchmark)}</a></td>'
        rows.append(link + "".join(f"<td>{text(cell)}</td>" for cell in cells))
    header = ("benchmark", "model", "measured", "examples", "submissions", "rows", "budgets")
    return _ABOUT.format(count=len(submissions)) + wide("numbers plain", "Boards", header, rows)


def _board(number: int, board: Board, compared: _Compared) -> str:
    options = "".join(
        f'<option value="{place}">{text(_entry(board, entry))}</option>' for place, entry in enumerate(board.entries)
    )
    tested = board.pairs["p_adjusted"].notna()
    of_means = int((tested & (board.pairs["section"] == MEAN)).sum())
    single = int(tested.sum()) - of_means
    corrected = f"p is corrected for {single} pairs at single budgets" if single else ""
    if of_means:
        corrected = f"p is corrected for {of_means} pairs of means, and for {single} at single budgets"
    if len(board.sets) > 1:
        corrected += ". Pairs of rows in two tables are among them where they share examples"
    tables = "".join(_set(board, each, compared) for each in board.sets)
    told = {"board": number, "model": board.model, "benchmark": board.benchmark, "measured": board.unit.noun}
    attributes = "".join(f' data-{name}="{text(value)}"' for name, value in told.items())
    return (
        f'<article class="board" id="board-{number}"{attributes}><h3>{text(_heading(board))}</h3>'
        '<label class="choice" hidden>Compare with <select name="reference"><option value="">the best row of each '
        f"table and budget</option>{options}</select></label>{tables}<p>{text(corrected)}.</p></article>"
    )


def _set(board: Board, of: ExampleSet, compared: _Compared) -> str:
    rows = board.scores[board.scores["submission"].isin(of.submissions)]
    ends = [value for value in pd.concat([rows["ci_low"], rows["ci_high"], rows["score"]]) if known(value) is not None]
    scale = (min(ends), max(ends))
    several = len(of.submissions) > 1
    body = "".join(
        _section(board, section, rows[rows["section"] == section], compared, scale, several=several)
        for section in ("", *board.sections)
        if (rows["section"] == section).any()
    )
    head = [
        ("method", "text"),
        *[("submission", "text")] * several,
        (board.unit.noun if board.unit is PERCENT else board.unit.short, "number"),
        ("95%", ""),
    ]
    head += [("", ""), ("tokens per head", "number"), ("KV MiB", "number"), ("n", "number")]
    head += [(board.unit.short, "number"), ("95%", ""), ("corrected p", "number"), ("common n", "number")]
    header = "".join(f'<th scope="col"{_SORTED[kind]}>{breakable(name)}</th>' for name, kind in head)
    over = f'<td colspan="{6 + several}"></td><th scope="colgroup" colspan="4" class="against">{_FROM_BEST}</th>'
    return (
        f'<section class="set">{_about(of)}{scrolling(_heading(board))}'
        f'<table class="scores ranks"{_level(rows, scale)}><thead><tr class="over"><th></th>{over}</tr>'
        f"<tr>{header}</tr></thead>{body}</table></div></section>"
    )


def _level(rows: pd.DataFrame, scale: tuple[float, float]) -> str:
    """The full cache's score as a place in drawings of scores, where all submissions have one and the same."""
    levels = {round(float(score), 6) for score in rows.loc[rows["method"] == FULL, "score"]}
    return f' style="--full:{_percent(levels.pop(), scale)}%"' if len(levels) == 1 and scale[0] < scale[1] else ""


def _percent(value: float, scale: tuple[float, float]) -> float:
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)


def _about(of: ExampleSet) -> str:
    low, high = of.tokens
    length = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    names = ", ".join(of.submissions)
    told = (
        f"<p><strong>{of.examples} examples</strong>, prompts of {length} tokens, split "
        f"{text(' and '.join(of.splits))}. Submission{'s' * (len(of.submissions) > 1)}: {text(names)}."
    )
    if of.blind:
        told += " The full cache is not above chance here, so no method can be told from another."
    if len(of.tasks) == 1:
        return f"{told}</p>"
    tasks = ", ".join(f"{task} ({n})" for task, n in of.tasks.items())
    return f"{told}</p><details><summary>{len(of.tasks)} tasks</summary><p>{text(tasks)}</p></details>"


def _section(
    board: Board, section: str, rows: pd.DataFrame, compared: _Compared, scale: tuple[float, float], *, several: bool
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
    compared: _Compared,
    scale: tuple[float, float],
    *,
    several: bool,
) -> str:
    unit = board.unit
    low, high = (decimal(row[end], unit.decimals) for end in ("ci_low", "ci_high"))
    score = text(decimal(row["score"], unit.decimals))
    kept = decimal(row["kept_per_head"])
    # Long names may break between their options.
    cells = [f'<th scope="row">{breakable(label(row["method"])).replace(":", ":<wbr>")}</th>']
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
    return f'<tr data-name="{text(row["method"])} {text(row["submission"])}"{entry}>{"".join(cells)}</tr>'


def _against(
    decimals: int, section: str, place: int | None, reference: int | None, compared: _Compared
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
    mark = {_DIFFERS: "†", _BLIND: "§"}.get(state, "")
    ends = "" if low is None or high is None else f"{_signed(low, decimals)} to {_signed(high, decimals)}"
    told = "<0.001" if p is not None and p < 0.001 else decimal(p, 3)
    return [
        f"<td>{_signed(difference, decimals)}{mark}</td>",
        f"<td>{ends}</td>",
        f"<td>{text(told)}</td>",
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
        start, end = _percent(low, scale), _percent(high, scale)
        bar = f'<i style="left:{start}%;width:{round(end - start, 2)}%"></i>'
    place = _percent(row["score"], scale)
    return f'<td class="strip" aria-hidden="true"><div>{bar}<b style="left:{place}%"></b></div></td>'


def _submissions(submissions: Sequence[Submission]) -> str:
    rows = []
    for each in submissions:
        settings, versions = each.configuration, each.description.get("versions", {})
        benchmarks = ", ".join(f"{name} ({len(tasks)})" for name, (_, tasks) in each.benchmarks.items())
        chosen = settings.get("knobs")
        rows.append(
            (
                each.name,
                settings["model"]["id"],
                str(settings["model"].get("weights") or "not hashed"),
                str(settings.get("dtype", "unknown")),
                "scores" if each.unit is PERCENT else each.unit.noun,
                benchmarks,
                ", ".join(map(str, settings["budgets"])),
                f"{settings['split']}, seed {settings['seed']}",
                "published" if chosen is None else f"chosen, hash {_digest(chosen)}",
                f"{versions.get('cokv-bench', 'unknown')}, {versions.get('git') or 'revision unknown'}",
                str(len(each.records)),
            )
        )
    header = ("submission", "model", "weights", "dtype", "measured", "benchmarks (tasks)", "budgets", "split", "knobs")
    cells = ("".join(f"<td>{text(cell)}</td>" for cell in row) for row in rows)
    return wide("words", "Submissions", (*header, "code", "records"), cells)


def _digest(knobs: Mapping[str, Any]) -> str:
    """What tells chosen settings of methods from others."""
    return hashlib.sha256(json.dumps(knobs, sort_keys=True).encode()).hexdigest()[:8]


_ABOUT = """
<p>{count} submissions, made with <code>cokv-bench submit</code>, or runs of <code>cokv-bench eval</code>. A table holds
rows that were measured on the very same examples, with the same model, dtype, task versions and way to read a prompt.
Scores of different tables are not comparable.</p>
<p>Differences are paired example by example, over the examples that both rows have (“common n”), at the same budget
and only where both kept as many tokens. Any two rows may be compared: p-values come from joint sign flips and are
corrected for all pairs of a group of tables. † marks a corrected p below 0.05, § a pair that no result could tell apart
with so few examples. Intervals are 95% and hold for new examples of the same tasks. The full cache and ceilings are
shown for orientation, and are in no test; the line in the drawings is the full cache.</p>
"""
_CONTROLS = """
<form id="controls" hidden>
<label>Search <input type="search" name="search" placeholder="method or submission"></label>
<label>Model <select name="model"></select></label>
<label>Benchmark <select name="benchmark"></select></label>
<label>Measured <select name="measured"></select></label>
<label>Budget <select name="section"></select></label>
</form>
<p id="count" role="status"></p>
"""
