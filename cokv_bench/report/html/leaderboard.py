"""A leaderboard as one HTML file: a table per set of equal examples, and differences on common examples."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cokv_bench.files import write_text
from cokv_bench.policies.names import FULL, label
from cokv_bench.report.figures import known
from cokv_bench.report.html.embedding import data_element, text
from cokv_bench.report.html.ranks import BLIND, DIFFERS, NOISE, UNEQUAL, Compared, budget_rows, percent
from cokv_bench.report.html.shell import Section, breakable, document, packaged, scrolling, wide
from cokv_bench.scores.boards import MEAN, Board, Entry, ExampleSet
from cokv_bench.scores.submissions import Submission
from cokv_bench.scores.units import PERCENT

_SORTED = {"": "", "text": ' class="from" data-sort="text"', "number": ' data-sort="number"'}
_FROM_BEST = "difference from the best row"


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


def _compared(board: Board) -> Compared:
    found = {}
    for row in board.pairs.to_dict("records"):
        state = (
            UNEQUAL
            if pd.isna(row["difference"])
            else DIFFERS
            if not row["within_noise"]
            else NOISE
            if row["discriminates"]
            else BLIND
        )
        difference, low, high, p = (known(row[name]) for name in ("difference", "ci_low", "ci_high", "p_adjusted"))
        found[row["section"], row["one"], row["other"]] = (difference, low, high, p, int(row["n"]), state)
    return found


def _data(board: Board, compared: Compared) -> dict[str, Any]:
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


def _board(number: int, board: Board, compared: Compared) -> str:
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


def _set(board: Board, of: ExampleSet, compared: Compared) -> str:
    rows = board.scores[board.scores["submission"].isin(of.submissions)]
    ends = [value for value in pd.concat([rows["ci_low"], rows["ci_high"], rows["score"]]) if known(value) is not None]
    scale = (min(ends), max(ends))
    several = len(of.submissions) > 1
    body = "".join(
        budget_rows(board, section, rows[rows["section"] == section], compared, scale, several=several)
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
    return f' style="--full:{percent(levels.pop(), scale)}%"' if len(levels) == 1 and scale[0] < scale[1] else ""


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
