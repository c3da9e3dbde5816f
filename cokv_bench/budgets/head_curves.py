"""The file of head curves: which share of a prompt each head keeps, by the share that all keep (LU-KV, 2602.08585)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budget import check_above
from cokv_bench.budgets.apportion import apportion
from cokv_bench.budgets.checked_json import Document
from cokv_bench.budgets.fingerprint import check_fingerprint
from cokv_bench.budgets.rules import Knob
from cokv_bench.checks import check_count
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

KIND = "head-curves"
SCHEMA = 1
#: Rows of a table: 1 to 99 percent of the cache pruned.
PERCENTS = 99
#: Tokens of the prompt whose shares are counted where there is none.
PROMPT = 4096
#: Window where nobody says; published curves come with a window of one token and four sinks.
WINDOW = 8


@dataclass(frozen=True, eq=False)
class HeadCurves:
    """The pruned share of each head at every percent of the cache that is pruned.

    Between two percents a head's share is linear; at 0 no head prunes anything, and at 100 all prune everything.

    Attributes:
        model: fingerprint of the model.
        pruned: float64 [99, layers, kv_heads], in [0, 1]; row i is for i + 1 percent pruned in all.
        source: where the curves come from, in words.
        tasks: names of the tasks that they were made on.
        examples: ids of the examples; no evaluation may use them or their documents.
        documents: of these examples.

    Raises:
        RequestError: curves that do not have the model's shape, are no shares, or hold kept shares.
    """

    noun: ClassVar[str] = "file of curves"
    key: ClassVar[str] = "curves"
    made_by: ClassVar[str] = "`cokv-bench import`"
    method: ClassVar[str] = "curves"
    knobs: ClassVar[Mapping[str, Knob]] = {"prompt": Knob(int, ())}
    ranking: ClassVar[Mapping[str, Any]] = {}
    only_budget: ClassVar[None] = None
    measured: ClassVar[Mapping[str, NDArray[np.float64]]] = {}
    utility: ClassVar[str] = ""

    model: Mapping[str, Any]
    pruned: NDArray[np.float64]
    source: str
    tasks: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fingerprint(self.model)
        pruned = np.array(self.pruned, dtype=np.float64)
        shape = (PERCENTS, self.model["layers"], self.model["kv_heads"])
        if pruned.shape != shape:
            raise RequestError(
                f"The curves have the shape {list(pruned.shape)}; expected {list(shape)} (percents, layers, KV heads)."
            )
        if not ((pruned >= 0) & (pruned <= 1)).all():
            raise RequestError("Curves must hold shares from 0 to 1.")
        if pruned[-1].mean() <= pruned[0].mean():
            raise RequestError(
                "The curves do not rise with the percent that is pruned; expected pruned shares, not kept ones."
            )
        pruned.setflags(write=False)
        object.__setattr__(self, "pruned", pruned)

    def kept(self, share: float) -> NDArray[np.float64]:
        """Which share of a prompt each head keeps, float64 [layers, kv_heads], where all keep `share` of it."""
        ends = np.zeros_like(self.pruned[:1]), np.ones_like(self.pruned[:1])
        table = np.concatenate([ends[0], self.pruned, ends[1]])
        place = min(max(100 * (1 - share), 0.0), 100.0)
        below = min(int(place), PERCENTS)
        # Mixed so that a whole percent is its own row to the last bit.
        mixed = (1 - (place - below)) * table[below] + (place - below) * table[below + 1]
        return np.asarray(1 - mixed)

    def budgets(self, budget: int, *, window: int, prompt: int) -> NDArray[np.int64]:
        """Tokens per KV head, int64 [layers, kv_heads], window included, budget * layers * kv_heads in all.

        Args:
            prompt: its tokens; no head keeps more, unless the budget does.

        Raises:
            RequestError: the budget is not above the window, or the prompt has no whole number of tokens.
        """
        check_above(budget, window)
        check_count(prompt, 1, "A prompt")
        beyond = np.maximum(self.kept(budget / prompt) * prompt - window, 0)
        return window + apportion(beyond, (budget - window) * beyond.size, cap=max(prompt, budget) - window)

    def tokens_at(
        self,
        budget: int,
        *,
        window: int | None = None,
        published_rounding: bool = False,
        knobs: Mapping[str, Any] = MappingProxyType({}),
    ) -> NDArray[np.int64]:
        """`budgets` with the knob prompt, always exact; the window defaults to 8 and the prompt to 4096 tokens."""
        return self.budgets(budget, window=WINDOW if window is None else window, prompt=knobs.get("prompt", PROMPT))

    def describe(self) -> dict[str, str]:
        """What else a reader should know, by what it is about."""
        return {"Source": self.source, "Shares": f"of the prompt; shown for one of {PROMPT} tokens"}

    def save(self, path: str | Path) -> None:
        """Write the file in one step."""
        write_json(
            path,
            {
                "kind": KIND,
                "schema": SCHEMA,
                "model": dict(self.model),
                "source": self.source,
                "tasks": list(self.tasks),
                "examples": list(self.examples),
                **({"documents": list(self.documents)} if self.documents else {}),
                "pruned": self.pruned.tolist(),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "HeadCurves":
        """Read and check a file of head curves.

        Raises:
            RequestError: no such file, not our JSON, or numbers that do not fit; one sentence that names the file.
        """
        document = Document(path, KIND, SCHEMA)
        model = document.model()
        pruned = document.tables("pruned", PERCENTS, model["layers"], model["kv_heads"])
        with document.naming():
            return cls(model, pruned, document.text("source"), **document.made_from())
