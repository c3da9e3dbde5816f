"""The file of head values that a profile ends in and that budgets are made from."""

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
from cokv_bench.budgets.rules import ALPHAS, Knob, from_head_values
from cokv_bench.checks import Check, number, or_null, problem, text
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

KIND = "head-values"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class HeadValues:
    """Values of the KV heads of one model and where they come from.

    Attributes:
        values: float64 [layers, kv_heads], in the units of the utility.
        standard_errors: float64 [layers, kv_heads], from the sampling of coalitions; NaN or inf where unknown (null in
            the file, NaN when read).
        estimator: name of the estimator.
        samples: complementary pairs of coalitions.
        seed: seed of the sampling plan, None where unknown.
        utility: name of the utility.
        window: tokens that heads outside a coalition kept.
        tasks: names of the tasks.
        examples: ids of the validation examples; no evaluation may use them or their documents.
        model: fingerprint of the model: `id`, `layers`, `kv_heads`, `head_dim`, `weights` (hash or None).
        ledger_sha256: hash of the ledger, None where there is none (imported scores).
        alphas: budget -> alpha (heads that keep the window only) -> mean utility on the validation examples.
        status: how far the ledger had come and why sampling stopped, see `cokv_bench.game.stopping.status`; empty for
            imported values.
        documents: of these examples (`Example.document`); empty in files of earlier versions, which do not say.
        source: what imported values were made from: files, hashes, slices; empty for values that were measured here.

    Raises:
        RequestError: arrays that do not have the model's shape, a value that is not finite, or a standard error
            below zero.
    """

    noun: ClassVar[str] = "profile"
    key: ClassVar[str] = "profile"
    made_by: ClassVar[str] = "`cokv-bench profile`"
    method: ClassVar[str] = "cokv"
    knobs: ClassVar[Mapping[str, Knob]] = {"alpha": Knob(int, (None, *ALPHAS))}
    ranking: ClassVar[Mapping[str, Any]] = {}
    only_budget: ClassVar[None] = None

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    estimator: str
    samples: int
    seed: int | None
    utility: str
    window: int
    tasks: tuple[str, ...]
    examples: tuple[str, ...]
    model: Mapping[str, Any]
    ledger_sha256: str | None = None
    alphas: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    documents: tuple[str, ...] = ()

    def alpha(self, budget: int) -> int:
        """How many heads keep the window only: the best of the curve at the nearest budget (by ratio).

        Without a curve it is a ninth of the heads, 10 of 90.
        """
        if not self.alphas:
            return max(1, self.values.size // 9)
        return best_setting(self.alphas, budget)

    def budgets(
        self, budget: int, *, window: int, zeroed: int | None = None, published_rounding: bool = False
    ) -> NDArray[np.int64]:
        """Tokens per KV head by CoKV's rule, int64 [layers, kv_heads] with the window; `zeroed` defaults to `alpha`."""
        return from_head_values(
            self.values,
            budget,
            window=window,
            zeroed=self.alpha(budget) if zeroed is None else zeroed,
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
        """`budgets` with the knob alpha; the window defaults to the profile's."""
        return self.budgets(
            budget,
            window=self.window if window is None else window,
            zeroed=knobs.get("alpha"),
            published_rounding=published_rounding,
        )

    @property
    def measured(self) -> dict[str, NDArray[np.float64]]:
        return {"head value": self.values, "standard error": self.standard_errors}

    def describe(self) -> dict[str, str]:
        """What else a reader should know, by what it is about."""
        told = {"Sampled": f"{self.samples} pairs, estimator {self.estimator}, utility {self.utility}"}
        if self.status:
            told["Status"] = self._told_status()
        for budget, curve in self.alphas.items():
            shown = ", ".join(f"{alpha}: {utility:.3f}" for alpha, utility in curve.items())
            told[f"Utility by alpha at budget {budget}"] = f"{shown}; best {self.alpha(budget)}"
        return told

    def _told_status(self) -> str:
        """Why sampling stopped and how far the ledger had come, in a sentence or two."""
        names = ("standard_error", "rank_correlation", "reliability", "mean_absolute_difference", "published_threshold")
        error, correlation, reliability, difference, threshold = (
            "unknown" if self.status.get(name) is None else f"{self.status[name]:.4g}" for name in names
        )
        return (
            f"Sampling '{self.status.get('sampling')}' ended by {self.status.get('stopped_by')}. "
            f"Median standard error {error}; "
            f"the ledger's halves have a rank correlation of {correlation} (expected between ledgers of this length: "
            f"{reliability}) and differ by {difference} on average (published stop: below {threshold})."
        )

    def __post_init__(self) -> None:
        check_fingerprint(self.model)
        shape = (self.model["layers"], self.model["kv_heads"])
        for name in ("values", "standard_errors"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape:
                raise RequestError(
                    f"The {name} have the shape {list(array.shape)}; expected {list(shape)} (layers, KV heads)."
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not np.isfinite(self.values).all():
            layer, head = np.argwhere(~np.isfinite(self.values))[0]
            raise RequestError(
                f"The value of layer {layer}, KV head {head} is {self.values[layer, head]}; "
                "values must be finite, so sample more coalitions."
            )
        if (self.standard_errors < 0).any():
            raise RequestError(f"A standard error is {np.nanmin(self.standard_errors)}; expected none below zero.")

    def save(self, path: str | Path) -> None:
        """Write the file in one step; a crash leaves the old file or the new one."""
        errors = [[cell if np.isfinite(cell) else None for cell in row] for row in self.standard_errors.tolist()]
        write_json(
            path,
            {
                "kind": KIND,
                "schema": SCHEMA,
                "model": dict(self.model),
                "tasks": list(self.tasks),
                "utility": self.utility,
                "window": self.window,
                "estimator": self.estimator,
                "samples": self.samples,
                "seed": self.seed,
                "ledger_sha256": self.ledger_sha256,
                "examples": list(self.examples),
                **({"documents": list(self.documents)} if self.documents else {}),
                "alphas": {budget: dict(curve) for budget, curve in self.alphas.items()},
                "status": dict(self.status),
                "source": dict(self.source),
                "values": self.values.tolist(),
                "standard_errors": errors,
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "HeadValues":
        """Read and check a file of head values.

        Raises:
            RequestError: no such file, not our JSON, another schema, a table that does not have the model's shape or
                a number that is not finite; one sentence with the file, what was found and what was expected.
        """
        document = Document(path, KIND, SCHEMA)
        model = document.model()
        layers, kv_heads = model["layers"], model["kv_heads"]
        fields: dict[str, Any] = {
            "values": document.floats("values", layers, kv_heads),
            "standard_errors": document.floats("standard_errors", layers, kv_heads, null=True),
            "estimator": document.text("estimator"),
            "samples": document.integer("samples"),
            "seed": document.optional_integer("seed"),
            "utility": document.text("utility"),
            "window": document.integer("window"),
            **document.made_from(),
            "ledger_sha256": document.optional_text("ledger_sha256"),
            "alphas": document.curves("alphas", int),
            **{name: document.mapping(name) for name in ("status", "source") if name in document.data},
        }
        wrong = problem(fields.get("status", {}), {}, _STATUS)
        if wrong:
            raise RequestError(f"{document.path}: in 'status' {wrong}.")
        with document.naming():
            return cls(model=model, **fields)


_STATUS: dict[str, Check] = {
    **dict.fromkeys(("sampling", "stopped_by"), text),
    **dict.fromkeys(("standard_error", "rank_correlation", "reliability"), or_null(number)),
    **dict.fromkeys(("mean_absolute_difference", "published_threshold"), or_null(number)),
}
