"""Head maps: what our JSON files say of each head, and the budgets of a run's static methods where they are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadShares, HeadValues, embedded
from cokv_bench.budgets.checked_json import strict_loads
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.report.figures import Group, Heat, Number, Panel

#: Budget of maps where no run has one.
BUDGET = 128
HeadFile = HeadBudgets | HeadValues | HeadScores | HeadShares
_KINDS: dict[str, type[HeadBudgets] | type[HeadValues] | type[HeadScores] | type[HeadShares]] = {
    "head-budgets": HeadBudgets,
    "head-values": HeadValues,
    "head-scores": HeadScores,
    "head-shares": HeadShares,
}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadMap:
    """What is known of a model's heads under one name.

    Attributes:
        name: for the reader.
        tokens: budget -> tokens a KV head, int64 [layers, kv_heads]; of a budgets file, whatever is asked, its own.
        budget: the only budget that there is, of a budgets file.
        measured: float64 [layers, heads] by what they are: values, standard errors (KV heads), scores (query heads).
    """

    name: str
    tokens: Callable[[int], NDArray[np.int64]]
    budget: int | None = None
    measured: Mapping[str, Array] = field(default_factory=dict)


def load_heads(path: Path) -> HeadFile:
    """Read any of our files on heads: budgets, values, shares or head scores; of a folder its values or shares.

    Raises:
        RequestError: no such file, another JSON file, or one that does not pass its checks.
    """
    if path.is_dir():
        found = [path / name for name in ("values.json", "shares.json") if (path / name).is_file()]
        if not found:
            raise RequestError(f"{path} holds neither values.json nor shares.json; name a file of head budgets.")
        path = found[0]
    try:
        document = strict_loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not a JSON file on heads: {error}.") from None
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RequestError(f"{path} is of kind {kind!r}; expected {', '.join(_KINDS)}.")
    return _KINDS[kind].load(path)


def head_map(
    name: str,
    file: HeadFile,
    *,
    window: int | None = None,
    zeroed: int | None = None,
    beta: float = embedded.BETA,
    published_rounding: bool = False,
) -> HeadMap:
    """A file as a map.

    Args:
        window: of the budgets; default the file's own, or 8 for head scores.
        zeroed: CoKV's alpha; default the profile's choice.
        beta: HeadKV's.
        published_rounding: of CoKV's and HeadKV's rules.
    """
    if isinstance(file, HeadBudgets):
        return HeadMap(name, lambda budget: file.tokens, file.budget)
    if isinstance(file, HeadShares):
        return HeadMap(name, lambda budget: file.budgets(budget, window=window or file.window))
    if isinstance(file, HeadScores):
        return HeadMap(
            name,
            lambda budget: file.budgets(
                budget, window=window or embedded.WINDOW, beta=beta, published_rounding=published_rounding
            ),
            measured={"head score": file.scores},
        )
    return HeadMap(
        name,
        lambda budget: file.budgets(
            budget, window=window or file.window, zeroed=zeroed, published_rounding=published_rounding
        ),
        measured={"head value": file.values, "standard error": file.standard_errors},
    )


def named_map(text: str) -> HeadMap:
    """A map that the command line names. Raises `RequestError` where it is not NAME=FILE, or the file is not ours."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise RequestError(f"'{text}' names no head map; write NAME=FILE, such as searched=shares.json.")
    return head_map(name, load_heads(Path(path)))


def maps_of_run(configuration: Mapping[str, Any]) -> list[HeadMap]:
    """Maps of a run's methods whose budgets came from the embedded files; those of other files must be named."""
    shipped = {
        "profile": embedded.values_path(),
        "head_scores": embedded.scores_path(),
        "shares": embedded.shares_path(),
    }
    maps = []
    for method, source in configuration.get("head_budgets", {}).items():
        for key, path in shipped.items():
            if source.get(key) == file_sha256(path):
                made = head_map(
                    method,
                    load_heads(path),
                    window=configuration["window"],
                    zeroed=source.get("zeroed"),
                    beta=source.get("beta", embedded.BETA),
                    published_rounding=configuration.get("published_rounding", False),
                )
                maps.append(made)
    return maps


def head_figures(maps: Sequence[HeadMap], budgets: Sequence[int]) -> Group | None:
    """Tokens by layer and head at each budget, differences to the first map, and what was measured; None without maps.

    Raises:
        RequestError: the maps are of models of several shapes, or a budget is not above a map's window.
    """
    if not maps:
        return None
    wanted = [*budgets, *sorted({m.budget for m in maps if m.budget is not None} - set(budgets))]
    figures: list[Heat] = []
    for budget in wanted:
        there = [m for m in maps if m.budget in (None, budget)]
        tokens = {m.name: m.tokens(budget).astype(np.float64) for m in there}
        if len({table.shape for table in tokens.values()}) > 1:
            raise RequestError("The head maps are of models of different shapes; report one model at a time.")
        if tokens:
            figures.append(tokens_figure(tokens, budget))
        if len(tokens) > 1:
            figures.append(_differences(tokens, budget))
    for what in dict.fromkeys(name for m in maps for name in m.measured):
        figures += [_measured(what, m) for m in maps if what in m.measured]
    about = "Layers from left to right, the heads of a layer one below the other."
    return Group("heads", "Head maps", about, tuple(figures))


def tokens_figure(tokens: Mapping[str, Array], budget: int) -> Heat:
    """Maps of tokens [layers, kv_heads] by name, with logarithmic colours."""
    return _heat(
        f"Tokens a head at budget {budget}",
        "Every map spends the same total, unless its file was rounded as published. Colours are logarithmic.",
        tokens,
        "tokens kept",
        (min(t.min() for t in tokens.values()), max(t.max() for t in tokens.values())),
        log=True,
    )


def _differences(tokens: Mapping[str, Array], budget: int) -> Heat:
    first, *others = tokens
    ratios = {f"{name} to {first}": np.log2(tokens[name] / tokens[first]) for name in others}
    end = max(1.0, *(float(np.abs(ratio).max()) for ratio in ratios.values()))
    about = f"Base-2 logarithm of a head's tokens over its tokens under {first}: 1 means twice as many, -1 half."
    return _heat(f"Against {first} at budget {budget}", about, ratios, "log2 of the ratio", (-end, end), diverging=True)


def _measured(what: str, shown: HeadMap) -> Heat:
    table = shown.measured[what]
    known = table[np.isfinite(table)]
    ends = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    query = what == "head score"
    about = "Scores of query heads, as measured." if query else "In the units of the profile's utility, as measured."
    return _heat(f"{what}, {shown.name}", about, {shown.name: table}, what, ends, rows="head" if query else "KV head")


def _heat(
    title: str,
    about: str,
    tables: Mapping[str, Array],
    unit: str,
    ends: tuple[float, float],
    *,
    rows: str = "KV head",
    log: bool = False,
    diverging: bool = False,
) -> Heat:
    layers, heads = next(iter(tables.values())).shape
    return Heat(
        title,
        about,
        "layer",
        rows,
        tuple(map(str, range(layers))),
        tuple(map(str, range(heads))),
        tuple(
            Panel(name, tuple(tuple(map(_known, row)) for row in table.T.tolist())) for name, table in tables.items()
        ),
        unit,
        float(ends[0]),
        float(ends[1]),
        log=log,
        diverging=diverging,
    )


def _known(value: float) -> Number:
    return value if np.isfinite(value) else None
