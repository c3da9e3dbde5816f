"""The tables of `compare_kvpress.py`, counted from its figures."""

import csv
import io
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from kvpress_pairs import PAIRS


def positions_of(prompts: Sequence[Mapping[str, Any]], budgets: Sequence[int]) -> list[dict[str, Any]]:
    """A row per pair: the share of its tokens that kvpress keeps too, over all prompts, by budget."""
    table = []
    for pair in PAIRS:
        row: dict[str, Any] = {"method": pair.name}
        for budget in budgets:
            mine = [
                each
                for prompt in prompts
                for each in prompt["kept"]
                if each["method"] == pair.name and each["budget"] == budget
            ]
            most = sum(max(each["ours"], each["theirs"]) for each in mine)
            row[f"same at {budget}"] = f"{100 * sum(each['both'] for each in mine) / most:.2f}%"
            row[f"kvpress keeps at {budget}"] = (
                f"{sum(each['theirs'] for each in mine) / sum(each['ours'] for each in mine):.3f}"
            )
        table.append({**row, "why": pair.why})
    return table


def cells_of(prompts: Sequence[Mapping[str, Any]], budgets: Sequence[int]) -> list[dict[str, Any]]:
    """A row per timed pair and budget: medians of ratios over the prompts, and what is held, answered and found.

    Bytes are a share of the full cache's.
    """
    runs = [prompt for prompt in prompts if "cells" in prompt]
    table = []
    for place, (pair, budget) in enumerate((pair, budget) for pair in PAIRS if pair.timed for budget in budgets):
        cells = [run["cells"][place] for run in runs]
        steps = [each for each in cells if min(len(each[side]["ids"]) for side in ("ours", "theirs")) > 1]
        row: dict[str, Any] = {"method": pair.name, "budget": budget}
        row["prefill, kvpress / ours"] = ratio([(each["theirs"]["prefill"], each["ours"]["prefill"]) for each in cells])
        row["per token, kvpress / ours"] = ratio(
            [(per_token(each["theirs"]), per_token(each["ours"])) for each in steps]
        )
        for side in ("ours", "theirs"):
            held = [each[side]["bytes"] / run["full"]["bytes"] for each, run in zip(cells, runs, strict=True)]
            row[f"bytes held, {side}"] = f"{100 * median(held):.1f}%"
        row["answers alike"] = f"{sum(each['ours']['ids'] == each['theirs']['ids'] for each in cells)} of {len(cells)}"
        for side in ("ours", "theirs"):
            row[f"score, {side}"] = f"{sum(each[side]['score'] for each in cells):g} of {len(cells)}"
        table.append(row)
    return table


def grid_of(prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each timed prompt, CPU seconds of all its cells with kvpress and of the grid here, and their quotient."""
    runs = [prompt for prompt in prompts if "cells" in prompt]
    found = []
    for run in runs:
        theirs = sum(each["theirs"]["prefill"] + each["theirs"]["decode"] for each in run["cells"])
        found.append({"tokens": run["tokens"], "cells": theirs, "grid": run["grid"], "times": theirs / run["grid"]})
    return found


def per_token(side: Mapping[str, Any]) -> float:
    """CPU seconds per generated token; the first one comes from the prefill."""
    return float(side["decode"]) / (len(side["ids"]) - 1)


def ratio(pairs: Sequence[tuple[float, float]]) -> str:
    """The median of quotients."""
    return f"{median(one / two for one, two in pairs):.2f}" if pairs else ""


def as_csv(table: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
