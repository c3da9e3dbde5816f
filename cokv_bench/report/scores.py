"""Figures of scores: against the budget, against the baseline, and of needles by length and depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cokv_bench.policies.names import is_ceiling, label
from cokv_bench.report.axes import Axis, axes
from cokv_bench.report.figures import Dot, Dots, Group, Heat, Lines, Panel, Series, known, numbers, ranked
from cokv_bench.report.folders import Run
from cokv_bench.report.methods import described, styles
from cokv_bench.report.palettes import look
from cokv_bench.scores.means import is_mean, overall
from cokv_bench.scores.units import PERCENT, Unit, capital


def methods_of(runs: Sequence[Run]) -> list[str]:
    """The methods of some runs, one after the other."""
    return [method for run in runs for method in run.configuration["methods"]]


def line_name(run: Run, method: str, runs: Sequence[Run]) -> str:
    """A method, with its run where there are several."""
    return label(method) if len(runs) == 1 else f"{label(method)} · {run.name}"


def by_unit(runs: Sequence[Run]) -> dict[Unit, list[Run]]:
    """Runs whose numbers can stand in one figure."""
    alike: dict[Unit, list[Run]] = {}
    for run in runs:
        alike.setdefault(run.unit, []).append(run)
    return alike


def curves(unit: Unit, runs: Sequence[Run]) -> Group | None:
    """Numbers of one unit against budgets, a figure per task and axis, a line per method; what sums up comes first."""
    tasks = _ordered([task for run in runs for task in run.tables["scores.csv"]["task"].unique()])
    figures = [_curve(unit, task, runs, axis) for task in tasks for axis in axes(_of_task(task, runs))]
    about = (
        f"{unit.caption}, with 95% intervals for new examples of these tasks. Points of one budget stand side by side."
    )
    return Group(f"{unit.key}curves", f"{unit.title} against budget", about, tuple(figures)) if figures else None


def _ordered(tasks: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(tasks))
    single = [task for task in names if not is_mean(task)]
    wholes = [task for task in overall(single) if task in names]
    return [
        *wholes,
        *(name for name in names if is_mean(name) and name not in wholes),
        *(task for task in single if task not in wholes),
    ]


def _of_task(task: str, runs: Sequence[Run]) -> list[pd.DataFrame]:
    """Of each run the scores of a task."""
    tables = [run.tables["scores.csv"] for run in runs]
    return [scores[scores["task"] == task] for scores in tables]


def _curve(unit: Unit, task: str, runs: Sequence[Run], axis: Axis) -> Lines:
    series = []
    style = styles(methods_of(runs))
    counts = set()
    for place, (run, scores) in enumerate(zip(runs, _of_task(task, runs), strict=True)):
        for method, rows in axis.rows(scores).groupby("method", sort=False):
            counts |= set(rows["n"])
            ordered = rows.sort_values("x")
            number = style.get(str(method), 0)
            series.append(
                Series(
                    line_name(run, str(method), runs),
                    tuple(ordered["x"]),
                    numbers(ordered["score"]),
                    numbers(ordered["ci_low"]),
                    numbers(ordered["ci_high"]),
                    style=number,
                    reference=bool(rows["budget"].isna().all()),
                    ceiling=is_ceiling(str(method)),
                    dash=look(number).dash if len(runs) == 1 else place,
                    about=described(str(method)),
                )
            )
    told = " or ".join(str(count) for count in sorted(counts))
    title, examples = f"{task}, {unit.noun} against {axis.noun}", f"{told} examples."
    return Lines(title, examples, axis.label, unit.axis, ranked(series), log_x=True, apart=True, x_sign=axis.sign)


def differences(unit: Unit, runs: Sequence[Run]) -> Group | None:
    """What each method gains over each baseline, paired by example; None where no run compares."""
    figures = []
    for run in runs:
        table = run.tables.get("comparisons.csv", pd.DataFrame({"baseline": []}))
        for baseline, compared in table.groupby("baseline", sort=False):
            for task in _ordered(list(compared["task"])):
                figures.append(_forest(run, str(baseline), task, compared[compared["task"] == task], runs))
    about = (
        f"{capital(unit.gain)} over the baseline at the same budget, paired example by example, with 95% intervals. "
        "Means over the budgets are the primary tests, single budgets and tasks are secondary. Hollow: within noise "
        "(corrected p of 0.05 or more). Grey: cannot discriminate. Unequal totals are not compared."
    )
    title = "Differences with the baseline" if unit is PERCENT else f"Differences in {unit.noun}"
    return Group(f"{unit.key}differences", title, about, tuple(figures)) if figures else None


def _forest(run: Run, baseline: str, task: str, rows: pd.DataFrame, runs: Sequence[Run]) -> Dots:
    dots = []
    style = styles(methods_of(runs))
    for row in rows.to_dict("records"):
        missing = pd.isna(row["difference"])
        noise = not missing and bool(row["within_noise"])
        cells = (
            ("", "", "", "unequal totals, not compared")
            if missing
            else (
                f"{row['p_adjusted']:.3f}",
                f"{row['wins']:.0f}/{row['ties']:.0f}/{row['losses']:.0f}",
                f"{row['win_probability']:.2f}",
                _verdict(row),
            )
        )
        dots.append(
            Dot(
                f"{row['method']} {'mean' if pd.isna(row['budget']) else row['budget']}",
                known(row["difference"]),
                known(row["ci_low"]),
                known(row["ci_high"]),
                cells=(str(row["n"]), *cells),
                style=style[row["method"]],
                faint=noise,
                blind=noise and not row["discriminates"],
            )
        )
    gain = f"{run.unit.gain} over {baseline}"
    title = f"{task}, {gain}" + ("" if len(runs) == 1 else f" · {run.name}")
    columns = ("n", "corrected p", "won/tied/lost", "win probability", "verdict")
    about = f"{rows['n'].max()} examples."
    return Dots(title, about, "method and budget", gain, tuple(dots), columns, zero=True)


def _verdict(row: Mapping[Any, Any]) -> str:
    if not row["within_noise"]:
        return "differs"
    return "within noise" if row["discriminates"] else "cannot discriminate"


def needles(runs: Sequence[Run]) -> Group | None:
    """Percent found by length and depth, a map a method, a figure a budget, FullKV first; None without needles."""
    having = [run for run in runs if "needle.csv" in run.tables]
    if not having:
        return None
    tables = {run.name: run.tables["needle.csv"] for run in having}
    every = pd.concat(tables.values())
    lengths = sorted(every["length"].astype(int).unique())
    depths = sorted(every["depth"].astype(float).unique())
    figures = []
    for budget in sorted(every["budget"].dropna().unique()):
        panels = []
        for run in having:
            table = tables[run.name]
            shown = table[table["budget"].isna() | (table["budget"] == budget)]
            for method, rows in shown.groupby("method", sort=False):
                cells = {(int(r["length"]), float(r["depth"])): known(r["score"]) for r in rows.to_dict("records")}
                values = tuple(tuple(cells.get((length, depth)) for length in lengths) for depth in depths)
                panels.append(Panel(line_name(run, str(method), runs), values))
        figures.append(
            Heat(
                f"Needles found at budget {budget}",
                "Where the needle stood in the prompt (0% is the start), by the length of the prompt.",
                "prompt (tokens)",
                "depth (%)",
                tuple(map(str, lengths)),
                tuple(f"{depth:.3g}" for depth in depths),
                tuple(panels),
                "percent found",
                0.0,
                100.0,
            )
        )
    about = "Percent of the needles that the answer names, a map a method, the full cache first."
    return Group("needles", "Needle in a Haystack", about, tuple(figures)) if figures else None
