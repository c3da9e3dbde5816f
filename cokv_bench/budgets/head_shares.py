"""How the heads of a model share any budget in a range: the file that a search ends in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.checked_json import Document
from cokv_bench.budgets.fingerprint import check_fingerprint
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

KIND = "head-shares"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class HeadShares:
    """Log-shares of the tokens beyond the window, linear in the logarithm of the budget.

    At budget B a head's share is proportional to exp(level + slope * log2(B / middle)), B taken within the range that
    was searched.

    Attributes:
        level, slope: float64 [layers, kv_heads].
        lowest, highest: the range of budgets, in tokens a head with the window; `middle` is their geometric mean.
        window: the last prompt tokens that every head keeps.
        utilities: names of the utilities that were maximised.
        tasks: names of the tasks.
        examples: ids of the examples searched and chosen on; no evaluation may use them.
        model: fingerprint of the model.
        search: how it was found: seed, steps, utilities; for the reader.
        kernel, pooling: how the window's scores were pooled when the heads' tokens were ranked.

    Raises:
        RequestError: arrays that do not have the model's shape or are not finite, or a range that is none.
    """

    level: NDArray[np.float64]
    slope: NDArray[np.float64]
    lowest: int
    highest: int
    window: int
    utilities: tuple[str, ...]
    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    model: Mapping[str, Any]
    search: Mapping[str, Any]
    kernel: int = 7
    pooling: str = "max"

    def __post_init__(self) -> None:
        check_fingerprint(self.model)
        shape = (self.model["layers"], self.model["kv_heads"])
        for name in ("level", "slope"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape or not np.isfinite(array).all():
                raise RequestError(
                    f"The {name} must be finite numbers of the shape {list(shape)} (layers, KV heads); "
                    f"given {list(array.shape)}."
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not 1 <= self.window < self.lowest <= self.highest:
            raise RequestError(
                f"Window {self.window} and budgets {self.lowest} to {self.highest} do not fit; expected "
                "window < lowest <= highest."
            )

    @property
    def middle(self) -> float:
        """The budget at which the slope plays no part."""
        return math.sqrt(self.lowest * self.highest)

    def log_shares(self, budget: int) -> NDArray[np.float64]:
        """float64 [layers, kv_heads] at a budget, up to a constant."""
        within = min(max(budget, self.lowest), self.highest)
        return np.asarray(self.level + self.slope * math.log2(within / self.middle))

    def budgets(self, budget: int, *, window: int) -> NDArray[np.int64]:
        """Tokens a KV head, int64 [layers, kv_heads], window included, budget * layers * kv_heads in all.

        Raises:
            RequestError: the budget is not above the window.
        """
        if budget <= window:
            raise RequestError(f"A budget of {budget} tokens a head is not above the window of {window}; raise it.")
        shares = self.log_shares(budget)
        total = (budget - window) * shares.size
        return window + apportion(np.exp(shares - shares.max()), total, cap=total)

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
                "lowest": self.lowest,
                "highest": self.highest,
                "search": dict(self.search),
                "examples": list(self.examples),
                "level": self.level.tolist(),
                "slope": self.slope.tolist(),
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
        model = document.mapping("model")
        with document.naming():
            check_fingerprint(model)
        layers, kv_heads = model["layers"], model["kv_heads"]
        fields: dict[str, Any] = {
            "level": document.floats("level", layers, kv_heads),
            "slope": document.floats("slope", layers, kv_heads),
            **{name: document.integer(name) for name in ("lowest", "highest", "window")},
            "utilities": document.texts("utilities"),
            "tasks": document.texts("tasks"),
            "examples": document.texts("examples"),
            "search": document.mapping("search"),
        }
        # Files of the first searches do not say; they were all ranked as SnapKV ranks.
        pooled = {"kernel": document.optional_integer("kernel"), "pooling": document.optional_text("pooling")}
        fields |= {name: value for name, value in pooled.items() if value is not None}
        with document.naming():
            return cls(model=model, **fields)
