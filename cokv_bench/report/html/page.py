"""The page itself: sections of text, tables and figures, with style, script, data and Plotly inside."""

import importlib.util
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError
from cokv_bench.files import write_text
from cokv_bench.policies.names import label
from cokv_bench.report.figures import Figure, Group, Heat, Table
from cokv_bench.report.folders import Bench, Run
from cokv_bench.report.grids import Cell, Grid
from cokv_bench.report.html.charts import chart, comparable, gradient
from cokv_bench.report.html.embedding import data_element, text
from cokv_bench.report.html.parts import method_colours
from cokv_bench.report.html.predictions import columns
from cokv_bench.report.html.shell import document, packaged, scrolling, wide
from cokv_bench.report.layout import lay_out
from cokv_bench.report.methods import described
from cokv_bench.report.scores import methods_of
from cokv_bench.report.summary import summary
from cokv_bench.runs.finished import unfinished
from cokv_bench.scores.units import PERCENT
from cokv_bench.tasks.registry import family_of

# Tasks of one benchmark that the overview names one by one.
_FEW = 3
_GREY = "Grey: this task cannot tell methods apart at this budget; point at a number to read why."


def write_page(path: Path, runs: Sequence[Run], benches: Sequence[Bench], groups: Sequence[Group]) -> None:
    """Write a report that needs nothing but itself.

    Args:
        path: of the HTML file.
        runs, benches: what it is about.
        groups: its figures.

    Raises:
        RequestError: Plotly is not installed, or the file cannot be written.
    """
    check_plotly()
    from plotly.offline import get_plotlyjs

    folders: list[Run | Bench] = [*runs, *benches]
    figures = [chart(figure) for group in groups for figure in group.figures]
    sections = [("overview", "Overview", _overview(runs, benches)), *_tables(runs), *_groups(groups)]
    answered = [run for run in runs if run.unit is PERCENT and run.has_answers]
    if answered:
        sections.append(("predictions", "Predictions", _BROWSER))
    sections.append(("configuration", "Configuration and versions", _configuration(runs) + _configuration(benches)))
    names = ", ".join(one.name for one in folders)
    data = [data_element("figures", figures)]
    data += [data_element(f"{group.key}-pairs", comparable(group.pairs)) for group in groups if group.pairs]
    data += [data_element("answers", columns(answered))] if answered else []
    scripts = [get_plotlyjs(), packaged("common.js"), packaged("page.js")]
    write_text(path, document(names, sections, data, scripts, [packaged("page.css"), method_colours()]))


def check_plotly() -> None:
    """Raises `RequestError` with the command that mends it where Plotly is not installed."""
    if importlib.util.find_spec("plotly") is None:
        raise RequestError("The report's charts need Plotly, which is not installed: pip install 'cokv-bench[report]'")


def _overview(runs: Sequence[Run], benches: Sequence[Bench]) -> str:
    """What was found in words, what was measured, and what the methods are."""
    methods = dict.fromkeys(methods_of(runs))
    for bench in benches:
        methods |= dict.fromkeys(bench.table["method"])
    return "".join([*map(partial(_summary, several=len(runs) > 1), runs), _measured(runs, benches), _methods(methods)])


def _summary(run: Run, *, several: bool) -> str:
    told = [unfinished(run.configuration, run.records), *summary(run.tables, run.configuration, run.unit)]
    sentences = " ".join(filter(None, told))
    if not sentences:
        return ""
    name = f"<strong>{text(run.name)}.</strong> " if several else ""
    return f'<p class="summary">{name}{text(sentences)}</p>'


def _methods(methods: Iterable[str]) -> str:
    """One line about each method, for those who cannot point at a name."""
    lines = {method: described(method) for method in methods}
    told = "".join(f"<dt>{text(label(name))}</dt><dd>{text(line)}</dd>" for name, line in lines.items() if line)
    return f'<details><summary>What the methods are</summary><dl class="methods">{told}</dl></details>' if told else ""


def _measured(runs: Sequence[Run], benches: Sequence[Bench]) -> str:
    rows = []
    for run in runs:
        configuration = run.configuration
        tasks = configuration["tasks"]
        rows.append(
            (
                run.name,
                configuration["model"]["id"],
                ", ".join(configuration["methods"]),
                ", ".join(map(str, configuration["budgets"])),
                _in_short(tasks),
                f"{len(run.records)} {'answers' if run.unit is PERCENT else run.unit.plural}",
                run.description.get("versions", {}).get("git") or "",
            )
        )
    for bench in benches:
        table = bench.table
        methods = ", ".join(dict.fromkeys(table["method"]))
        budgets = ", ".join(map(str, sorted(table["budget"].dropna().unique())))
        lengths = ", ".join(map(str, sorted(table["prompt_tokens"].unique())))
        revision = bench.description.get("versions", {}).get("git") or ""
        about = f"memory and latency of prompts of {lengths} tokens"
        rows.append((bench.name, str(table["model"].iloc[0]), methods, budgets, about, "", revision))
    header = ("folder", "model", "methods", "budgets", "tasks", "measured", "revision")
    return _table("What was measured", Table(header, tuple(rows)), numeric=False)


def _in_short(tasks: Iterable[str]) -> str:
    """Tasks by name, those of a benchmark of several by their number."""
    names = list(tasks)
    benchmarks = {name: family_of(name).name for name in names}
    sizes = Counter(benchmarks.values())
    several = {benchmark for benchmark, size in sizes.items() if size > _FEW}
    told = dict.fromkeys(benchmarks[name] if benchmarks[name] in several else name for name in names)
    return f"{len(names)}: {', '.join(f'{each} ({sizes[each]})' if each in several else each for each in told)}"


def _tables(runs: Sequence[Run]) -> Iterable[tuple[str, str, str]]:
    for number, run in enumerate(runs):
        layout = lay_out(run.tables, run.configuration, run.unit)
        grey = any(cell.blind for cell in layout.scores.cells)
        marks = [*[_GREY] * grey, *layout.legend, *["Without a mark: within noise of it."] * bool(layout.differs)]
        notes = "".join(f"<p>{text(note)}</p>" for note in (*layout.notes, " ".join(marks)) if note)
        costs = "".join(
            f"<details><summary>{text(grid.caption)}: {text(grid.header[2])}</summary>{_grid(grid)}</details>"
            for grid in layout.costs
        )
        tests = "".join(f"<p>{text(grid.caption)}.</p>{_grid(grid)}" for grid in (*layout.primary, *layout.questions))
        title = run.unit.heading
        title += "" if len(runs) == 1 else f", {run.name}"
        yield (
            f"scores-{number}",
            title,
            f"<p>{text(layout.scores.caption)}.</p>{_grid(layout.scores)}{tests}{notes}{costs}",
        )


def _grid(grid: Grid) -> str:
    return wide("scores", grid.caption, grid.header, *([_row(row) for row in section] for section in grid.sections))


def _row(row: tuple[Cell, ...]) -> str:
    first, *others = row
    cells = f'<th scope="row"{_about(first)}>{text(first.text)}</th>' + "".join(map(_cell, others))
    return f'<tr class="ceiling">{cells}</tr>' if first.ceiling else cells


def _cell(cell: Cell) -> str:
    told = (f"<strong>{text(cell.text)}</strong>" if cell.bold else text(cell.text)) + cell.marks
    return f"<td{' class=blind' if cell.blind else ''}{_about(cell)}>{told}</td>"


def _about(cell: Cell) -> str:
    return f' title="{text(cell.about)}"' if cell.about else ""


def _groups(groups: Sequence[Group]) -> Iterable[tuple[str, str, str]]:
    number = 0
    for group in groups:
        figures = []
        for figure in group.figures:
            figures.append(_figure(number, figure))
            number += 1
        choice = ""
        if len(figures) > 1:
            options = "".join(f"<option>{text(figure.title)}</option>" for figure in group.figures)
            choice = f'<label class="choice" hidden>Figure <select data-group="{group.key}">{options}</select></label>'
        pairs = _pairs(group) if group.pairs else ""
        yield group.key, group.title, f"<p>{text(group.about)}</p>{choice}{''.join(figures)}{pairs}"


def _pairs(group: Group) -> str:
    """Two choices and the figure of their difference, which the page's script fills."""
    return (
        f'<figure class="pairs" data-pairs="{group.key}-pairs" hidden><figcaption><strong>Any two maps.</strong> '
        '<span role="status"></span></figcaption><form><label>Map <select name="one"></select></label>'
        '<label>Compared with <select name="other"></select></label></form>'
        f'{_scale(group.pairs[0].difference)}<div class="maps" role="img"></div>'
        f"{_numbers('any two maps', Table((), ()))}</figure>"
    )


def _scale(figure: Heat) -> str:
    colours, ticks = gradient(figure)
    spoken = "".join(f"<span>{text(tick)}</span>" for tick in ticks)
    return (
        f'<div class="scale"><span>{text(figure.unit)}</span><div><div class="bar" style="background:'
        f'linear-gradient(to right,{",".join(colours)})"></div><div class="ticks">{spoken}</div></div></div>'
    )


def _figure(number: int, figure: Figure) -> str:
    scale = _scale(figure) if isinstance(figure, Heat) else ""
    kind = "maps" if isinstance(figure, Heat) else "plot"
    return (
        f'<figure class="figure"><figcaption><strong>{text(figure.title)}.</strong> {text(figure.about)}</figcaption>'
        f'{scale}<div class="{kind}" data-figure="{number}" role="img" aria-label="{text(figure.title)}; '
        f'its numbers are in the table below"></div>'
        f"{_numbers(figure.title, figure.table)}</figure>"
    )


def _numbers(name: str, table: Table) -> str:
    return f"<details><summary>Numbers of this figure</summary>{_table(f'Numbers of {name}', table)}</details>"


def _table(name: str, table: Table, *, numeric: bool = True) -> str:
    rows = ("".join(f"<td>{text(cell)}</td>" for cell in row) for row in table.rows)
    return wide("numbers" if numeric else "words", name, table.header, rows)


def _configuration(folders: Sequence[Run] | Sequence[Bench]) -> str:
    """A row a setting, a column a folder of one kind; rows that differ are marked. Nothing of no folder."""
    if not folders:
        return ""
    settings = [dict(_flat(one.description)) for one in folders]
    rows = []
    for key in dict.fromkeys(key for one in settings for key in one):
        values = [one.get(key, "") for one in settings]
        differs = len(set(values)) > 1
        cells = "".join(f"<td>{text(value)}</td>" for value in values)
        mark = " ≠" if differs else ""
        rows.append(f'<tr{" class=differs" if differs else ""}><th scope="row">{text(key)}{mark}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{text(one.name)}</th>' for one in folders)
    told = "<p>≠ marks settings that differ between the folders.</p>" if len(folders) > 1 else ""
    return (
        f'{told}{scrolling("Configuration")}<table class="words"><thead><tr><th scope="col">setting</th>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _flat(document: dict[str, Any], path: str = "") -> Iterable[tuple[str, str]]:
    """A JSON object as its values by path; lists as they are written."""
    for key, value in document.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, name)
        else:
            yield name.removeprefix("configuration."), value if isinstance(value, str) else json.dumps(value)


_BROWSER = """
<p>Every answer of every method, and its own score. An answer counts as right from a score of 50% on.</p>
<form id="filters" hidden>
<label>Search <input type="search" name="search" placeholder="question, reference, answer or id"></label>
<label>Run <select name="run"></select></label>
<label>Task <select name="task"></select></label>
<label>Method <select name="method"></select></label>
<label>Budget <select name="budget"></select></label>
<label>Outcome <select name="outcome">
<option value="">all</option>
<option value="lost">FullKV right, this method wrong</option>
<option value="won">FullKV wrong, this method right</option>
</select></label>
</form>
<p id="count" role="status">The answers need JavaScript.</p>
<div id="answers-list"></div>
<p class="pager" hidden><button type="button" id="previous">Previous</button> <span id="where"></span>
<button type="button" id="next">Next</button></p>
"""
