"""The file of HeadKV head scores: how much each query head looks at what has to be found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.checked_json import Document
from cokv_bench.budgets.curves import best_setting
from cokv_bench.budgets.fingerprint import check_fingerprint
from cokv_bench.budgets.rules import BETAS, Knob, from_head_scores
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

KIND = "head-scores"
SCHEMA = 1
#: HeadKV's beta where no curve was measured: the value in CoKV's published code.
PUBLISHED_BETA = 1.01
#: Window where nobody says; scores were measured with none.
WINDOW = 8


@dataclass(frozen=True, eq=False)
class HeadScores:
    """Scores of the query heads of one model and where they come from (HeadKV, arXiv 2410.19258).

    Attributes:
        model: fingerprint of the model, with `heads` (query heads a layer) besides the usual fields.
        scores: float64 [layers, heads], not negative.
        source: how the scores were measured, in words.
        tasks: names of the tasks.
        examples: ids of the examples; no evaluation may use them or their documents.
        documents: of these examples (`Example.document`); empty in files of earlier versions, which do not say.
        betas: budget -> HeadKV's beta -> mean utility on these examples; empty where none was measured.

    Raises:
        RequestError: scores that do not have the model's shape, or are negative or not finite.
    """

    noun: ClassVar[str] = "file of head scores"
    key: ClassVar[str] = "head_scores"
    made_by: ClassVar[str] = "`cokv-bench head-scores`"
    method: ClassVar[str] = "headkv"
    knobs: ClassVar[Mapping[str, Knob]] = {"beta": Knob(float, (None, *BETAS))}
    ranking: ClassVar[Mapping[str, Any]] = {}
    only_budget: ClassVar[None] = None
    utility: ClassVar[str] = ""

    model: Mapping[str, Any]
    scores: NDArray[np.float64]
    source: str
    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    documents: tuple[str, ...] = ()
    betas: Mapping[int, Mapping[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fingerprint(self.model)
        scores = np.array(self.scores, dtype=np.float64)
        expected = (self.model["layers"], self.model.get("heads"))
        if scores.shape != expected:
            raise RequestError(f"The scores have the shape {list(scores.shape)}; expected {list(expected)}.")
        if not np.isfinite(scores).all() or (scores < 0).any():
            raise RequestError("Head scores must be finite and not negative.")
        object.__setattr__(self, "scores", scores)

    def beta(self, budget: int) -> float:
        """HeadKV's beta: the best of the curve at the nearest budget (by ratio), the published one without a curve."""
        return best_setting(self.betas, budget) if self.betas else PUBLISHED_BETA

    def budgets(
        self, budget: int, *, window: int, beta: float | None = None, published_rounding: bool = False
    ) -> NDArray[np.int64]:
        """Tokens per KV head by HeadKV's rule, int64 [layers, kv_heads], window included; default `beta(budget)`."""
        return from_head_scores(
            self.scores,
            budget,
            window=window,
            beta=self.beta(budget) if beta is None else beta,
            kv_heads=self.model["kv_heads"],
            published_rounding=published_rounding,
        )

    def tokens_at(
        self,
        budget: int,
        *,
        window: int | None = None,
        published_rounding: bool = False,
        knobs: Mapping[str, Any] = MappingProxyType({}),
    ) -> NDArray[np.int64]:
        """`budgets` with the knob beta; the window defaults to 8."""
        return self.budgets(
            budget,
            window=WINDOW if window is None else window,
            beta=knobs.get("beta"),
            published_rounding=published_rounding,
        )

    @property
    def measured(self) -> dict[str, NDArray[np.float64]]:
        return {"head score": self.scores}

    def describe(self) -> dict[str, str]:
        """What else a reader should know, by what it is about."""
        return {"Source": self.source}

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
                "betas": {budget: dict(curve) for budget, curve in self.betas.items()},
                "scores": self.scores.tolist(),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "HeadScores":
        """Read and check a file of head scores.

        Raises:
            RequestError: no such file, not our JSON, or numbers that do not fit; one sentence that names the file.
        """
        document = Document(path, KIND, SCHEMA)
        model = document.model()
        with document.naming():
            heads = model.get("heads")
            if not isinstance(heads, int) or heads < 1:
                raise RequestError(f"The model fingerprint has heads {heads!r:.60}; expected a positive integer.")
        scores = document.floats("scores", model["layers"], heads)
        with document.naming():
            return cls(
                model,
                scores,
                document.text("source"),
                betas=document.curves("betas", float),
                **document.made_from(),
            )
