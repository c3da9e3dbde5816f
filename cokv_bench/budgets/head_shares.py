"""How the heads of a model share any budget in a range: the file that a search ends in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budget import check_above
from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.checked_json import Document, check_ranking
from cokv_bench.budgets.fingerprint import check_fingerprint
from cokv_bench.budgets.rules import Knob
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

#: The ranking of files that name none: that of SnapKV.
WINDOW = "window"
KIND = "head-shares"
SCHEMA = 2


@dataclass(frozen=True, eq=False)
class HeadShares:
    """Log-shares of the tokens beyond the window at some budgets, between them linear in the logarithm of the budget.

    A head's share at a budget is proportional to the exponential of its log-share there; below the lowest budget and
    above the highest those of the lowest and the highest hold.

    Attributes:
        knots: the budgets that were searched, rising, in tokens per head with the window.
        tables: float64 [knots, layers, kv_heads], log-shares at each of them, each up to a constant.
        window: the last prompt tokens that every head keeps.
        utilities: names of the utilities that were maximised.
        tasks: names of the tasks.
        examples: ids of the examples searched and chosen on; no evaluation may use them or their documents.
        model: fingerprint of the model.
        search: how it was found: seed, steps, utilities; for the reader.
        kernel, pooling: how scores were pooled when the heads' tokens were ranked.
        scorer: the ranking by which they were, with its options; a method that names none of its own has this one.
        documents: of these examples (`Example.document`); empty in files of earlier versions, which do not say.

    Raises:
        RequestError: tables that do not have the model's shape or are not finite, or budgets that do not rise.
    """

    noun: ClassVar[str] = "file of shares"
    key: ClassVar[str] = "shares"
    made_by: ClassVar[str] = "`cokv-bench search`"
    method: ClassVar[str] = "cokv-search"
    knobs: ClassVar[Mapping[str, Knob]] = {}
    only_budget: ClassVar[None] = None
    measured: ClassVar[Mapping[str, NDArray[np.float64]]] = {}
    utility: ClassVar[str] = ""

    knots: tuple[int, ...]
    tables: NDArray[np.float64]
    window: int
    utilities: tuple[str, ...]
    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    model: Mapping[str, Any]
    search: Mapping[str, Any]
    kernel: int = 7
    pooling: str = "max"
    scorer: str = WINDOW
    documents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fingerprint(self.model)
        window, rising = self.window, list(self.knots)
        if not rising or not 1 <= window < rising[0] or sorted(set(rising)) != rising:
            raise RequestError(
                f"Window {window} and budgets {', '.join(map(str, rising)) or 'of none'} do not fit; expected budgets "
                "that rise, the first above the window."
            )
        check_ranking({"kernel": self.kernel, "pooling": self.pooling, "scorer": self.scorer})
        shape = (len(rising), self.model["layers"], self.model["kv_heads"])
        tables = np.array(self.tables, dtype=np.float64)
        if tables.shape != shape or not np.isfinite(tables).all():
            raise RequestError(
                f"The log-shares must be finite numbers of the shape {list(shape)} (budgets, layers, KV heads); "
                f"given {list(tables.shape)}."
            )
        tables.setflags(write=False)
        object.__setattr__(self, "tables", tables)

    def log_shares(self, budget: int) -> NDArray[np.float64]:
        """float64 [layers, kv_heads] at a budget, up to a constant."""
        return np.asarray(np.tensordot(knot_weights(self.knots, budget), self.tables, axes=1))

    def budgets(self, budget: int, *, window: int) -> NDArray[np.int64]:
        """Tokens per KV head, int64 [layers, kv_heads], window included, budget * layers * kv_heads in all.

        Raises:
            RequestError: the budget is not above the window.
        """
        check_above(budget, window)
        shares = self.log_shares(budget)
        total = (budget - window) * shares.size
        return window + apportion(np.exp(shares - shares.max()), total, cap=total)

    @property
    def ranking(self) -> dict[str, Any]:
        own = {} if self.scorer == WINDOW else {"scorer": self.scorer}
        return {"window": self.window, "kernel": self.kernel, "pooling": self.pooling, **own}

    def tokens_at(
        self,
        budget: int,
        *,
        window: int | None = None,
        published_rounding: bool = False,
        knobs: Mapping[str, Any] = MappingProxyType({}),
    ) -> NDArray[np.int64]:
        """`budgets`, always exact; the window defaults to that of the search."""
        return self.budgets(budget, window=self.window if window is None else window)

    def describe(self) -> dict[str, str]:
        """What else a reader should know, by what it is about."""
        searched = f"budgets {', '.join(map(str, self.knots))}; utilities {', '.join(self.utilities)}"
        return {"Searched": searched, "Ranking": self.scorer}

    def save(self, path: str | Path) -> None:
        """Write the file in one step; a crash leaves the old file or the new one."""
        write_json(
            path,
            {
                "kind": KIND,
                "schema": SCHEMA,
                "model": dict(self.model),
                "tasks": list(self.tasks),
                "utilities": list(self.utilities),
                "window": self.window,
                "kernel": self.kernel,
                "pooling": self.pooling,
                **({} if self.scorer == WINDOW else {"scorer": self.scorer}),
                "knots": list(self.knots),
                "search": dict(self.search),
                "examples": list(self.examples),
                **({"documents": list(self.documents)} if self.documents else {}),
                "log_shares": self.tables.tolist(),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "HeadShares":
        """Read and check a file of head shares.

        Raises:
            RequestError: no such file, not our JSON, another schema, or numbers that do not fit; one sentence with the
                file, what was found and what was expected.
        """
        document = Document(path, KIND, SCHEMA)
        model = document.model()
        knots = document.counts("knots")
        fields: dict[str, Any] = {
            "knots": knots,
            "tables": document.tables("log_shares", len(knots), model["layers"], model["kv_heads"]),
            "window": document.integer("window"),
            "utilities": document.texts("utilities"),
            **document.made_from(),
            "search": document.mapping("search"),
        }
        # Files of the first searches do not say; they were all ranked as SnapKV ranks.
        pooled = {
            "kernel": document.optional_integer("kernel"),
            **{name: document.optional_text(name) for name in ("pooling", "scorer")},
        }
        fields |= {name: value for name, value in pooled.items() if value is not None}
        with document.naming():
            return cls(model=model, **fields)


def knot_weights(knots: Sequence[int], budget: int) -> list[float]:
    """What the table of each knot counts at a budget: linear in its logarithm between neighbours, 1 in all."""
    logs = [math.log2(knot) for knot in knots]
    place = math.log2(min(max(budget, knots[0]), knots[-1]))
    return [float(np.interp(place, logs, row)) for row in np.eye(len(logs))]
