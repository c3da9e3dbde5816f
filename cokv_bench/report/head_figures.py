"""Figures of head maps: tokens at each budget, each map against the first, what was measured, and any two maps."""

from collections.abc import Mapping, Sequence

import numpy as np

from cokv_bench.errors import RequestError
from cokv_bench.report.figures import Group, Heat, Kind, Panel, numbers
from cokv_bench.report.heads import Array, HeadMap

#: Tokens by budget and name, float64 [layers, kv_heads].
_Kept = Mapping[int, Mapping[str, Array]]
_LAYER, _KV_HEAD, _TOKENS = "layer", "KV head", "tokens kept"


def head_figures(maps: Sequence[HeadMap], budgets: Sequence[int]) -> Group | None:
    """Tokens by layer and head at each budget, each map against the first, and what was measured; None without maps.

    Raises:
        RequestError: the maps are of models of several shapes, or a budget is not above a map's window.
    """
    if not maps:
        return None
    kept = _kept(maps, budgets)
    figures: list[Heat] = []
    for budget, tokens in kept.items():
        figures.append(_tokens(tokens, budget))
        if len(tokens) > 1:
            figures.append(_against_first(tokens, budget))
    for what in dict.fromkeys(name for m in maps for name in m.measured):
        figures += [_measured(what, m) for m in maps if what in m.measured]
    about = "Layers from left to right, the heads of a layer one below the other."
    return Group("heads", "Head maps", about, tuple(figures), _pairs(maps, kept))


def _kept(maps: Sequence[HeadMap], budgets: Sequence[int]) -> _Kept:
    """Tokens of each map at the budgets asked for, and of budget files at their own; no budget without a map."""
    wanted = [*budgets, *sorted({m.budget for m in maps if m.budget is not None} - set(budgets))]
    kept = {}
    for budget in wanted:
        there = [m for m in maps if m.budget in (None, budget)]
        tokens = {m.name: m.tokens(budget).astype(np.float64) for m in there}
        if len({table.shape for table in tokens.values()}) > 1:
            raise RequestError("The head maps are of models of different shapes; report one model at a time.")
        if tokens:
            kept[budget] = tokens
    return kept


def _tokens(tokens: Mapping[str, Array], budget: int) -> Heat:
    return _heat(
        f"Tokens per head at budget {budget}",
        "Every map spends the same total, unless its file was rounded as published. Colours are logarithmic.",
        tokens,
        _TOKENS,
        (min(t.min() for t in tokens.values()), max(t.max() for t in tokens.values())),
        log=True,
    )


def _against_first(tokens: Mapping[str, Array], budget: int) -> Heat:
    first, *others = tokens
    ratios = {f"{name} to {first}": np.log2(tokens[name] / tokens[first]) for name in others}
    end = max(1.0, *(float(np.abs(ratio).max()) for ratio in ratios.values()))
    about = f"Base-2 logarithm of a head's tokens over its tokens under {first}: 1 means twice as many, -1 half."
    return _heat(
        f"Each against {first} at budget {budget}", about, ratios, "log2 of the ratio", (-end, end), diverging=True
    )


def _measured(what: str, shown: HeadMap) -> Heat:
    table = shown.measured[what]
    known = table[np.isfinite(table)]
    ends = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    about = f"In the units of the utility '{shown.utility}', as measured." if shown.utility else "As measured."
    return _heat(f"{what}, {shown.name}", about, {shown.name: table}, what, ends, rows=_rows(what))


def _rows(what: str) -> str:
    return "query head" if what == "head score" else _KV_HEAD


def _pairs(maps: Sequence[HeadMap], kept: _Kept) -> tuple[Kind, ...]:
    """Maps by what their numbers are, where there are two or more; another utility or shape is another kind."""
    tables = [
        (_TOKENS, "", f"{name}, budget {budget}", table)
        for budget, tokens in kept.items()
        for name, table in tokens.items()
    ]
    tables += [(what, m.utility, m.name, table) for m in maps for what, table in m.measured.items()]
    alike: dict[tuple[str, str, tuple[int, ...]], list[Panel]] = {}
    for what, utility, name, table in tables:
        alike.setdefault((what, utility, table.shape), []).append(_panel(name, table))
    return tuple(_kind(what, utility, tuple(panels)) for (what, utility, _), panels in alike.items() if len(panels) > 1)


def _kind(what: str, utility: str, panels: tuple[Panel, ...]) -> Kind:
    name = f"{what} ({utility})" if utility else what
    if what == _TOKENS:
        about = "Base-2 logarithm of the ratio: 1 means twice as many tokens under the first map, -1 half."
        return Kind(name, about, "log2 of the ratio", _LAYER, _KV_HEAD, panels, ratio=True)
    about = f"The {what} of the first map less that of the other."
    return Kind(name, about, "difference", _LAYER, _rows(what), panels)


def _heat(
    title: str,
    about: str,
    tables: Mapping[str, Array],
    unit: str,
    ends: tuple[float, float],
    *,
    rows: str = _KV_HEAD,
    log: bool = False,
    diverging: bool = False,
) -> Heat:
    layers, heads = next(iter(tables.values())).shape
    return Heat(
        title,
        about,
        _LAYER,
        rows,
        tuple(map(str, range(layers))),
        tuple(map(str, range(heads))),
        tuple(_panel(name, table) for name, table in tables.items()),
        unit,
        float(ends[0]),
        float(ends[1]),
        log=log,
        diverging=diverging,
    )


def _panel(name: str, table: Array) -> Panel:
    """A table [layers, heads] as a map, a row a head."""
    return Panel(name, tuple(map(numbers, table.T.tolist())))
