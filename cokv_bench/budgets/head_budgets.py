"""The budget file: how many prompt tokens each KV head of one model keeps, checked when made and when read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets.checked_json import Document, check_ranking, is_integer
from cokv_bench.budgets.fingerprint import check_fingerprint, check_same_model
from cokv_bench.budgets.rules import Knob
from cokv_bench.errors import RequestError
from cokv_bench.files import write_json

KIND = "head-budgets"
SCHEMA = 1


@dataclass(frozen=True, eq=False)
class HeadBudgets:
    """Tokens per KV head, with the model and the rule they belong to.

    Attributes:
        model: fingerprint: `id`, `layers`, `kv_heads`, `head_dim`, `weights` (hash or None).
        budget: mean tokens per KV head, window included.
        window: the last prompt tokens that every head keeps.
        tokens: int64 [layers, kv_heads], window included, read-only.
        rule: `text`, how the tokens were found in words, and `parameters`, an object. Only where the parameters say
            `published_rounding: true` may the total miss budget * layers * kv_heads, by less than a token per head.
        profile_sha256: hash of the head values file the budgets came from, None where there is none.
        path: the file the budgets were read from; errors name it.
        tasks: names of the tasks that the budgets were found on.
        examples: ids of the examples that they were found on; no evaluation may use them or their documents.
        documents: of these examples (`Example.document`); empty in files of earlier versions, which do not say.
        sinks: the first prompt tokens that every head keeps as well; 0 where the file does not say.

    Raises:
        RequestError: a sum, shape or range that does not fit, one sentence with what was found and expected.
    """

    noun: ClassVar[str] = "budget file"
    key: ClassVar[str] = "files"
    made_by: ClassVar[str] = "`cokv-bench budgets` or `cokv-bench search`"
    knobs: ClassVar[Mapping[str, Knob]] = {}
    measured: ClassVar[Mapping[str, NDArray[np.float64]]] = {}
    utility: ClassVar[str] = ""

    model: Mapping[str, Any]
    budget: int
    window: int
    tokens: NDArray[np.int64]
    rule: Mapping[str, Any]
    profile_sha256: str | None = None
    path: Path | None = field(default=None, repr=False)
    tasks: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    sinks: int = 0

    def __post_init__(self) -> None:
        check_fingerprint(self.model)
        tokens = np.array(self.tokens)
        if not np.issubdtype(tokens.dtype, np.integer):
            raise RequestError(f"The tokens are of type {tokens.dtype}; expected integers.")
        tokens = tokens.astype(np.int64)
        tokens.setflags(write=False)
        object.__setattr__(self, "tokens", tokens)
        for name in ("budget", "window", "sinks"):
            value = getattr(self, name)
            if isinstance(value, np.integer):  # equal to an int everywhere but in JSON
                object.__setattr__(self, name, int(value))
        self._check()

    @property
    def total(self) -> int:
        """Tokens kept by all heads together."""
        return int(self.tokens.sum())

    @property
    def method(self) -> str | None:
        """The method whose rule made the budgets, where the rule says so."""
        return self.rule["parameters"].get("method")

    @property
    def only_budget(self) -> int:
        return self.budget

    @property
    def ranking(self) -> dict[str, Any]:
        """The window and protected first tokens, and the ranking, kernel and pooling of a search, which others lack."""
        parameters = self.rule["parameters"]
        return {
            "window": self.window,
            **({"sinks": self.sinks} if self.sinks else {}),
            **{name: parameters[name] for name in ("kernel", "pooling", "scorer") if name in parameters},
        }

    def tokens_at(
        self,
        budget: int,
        *,
        window: int | None = None,
        published_rounding: bool = False,
        knobs: Mapping[str, Any] = MappingProxyType({}),
    ) -> NDArray[np.int64]:
        """Its own tokens, which were counted when it was made.

        Args:
            window: how many tokens every head keeps, protected first ones included; None for the file's own.

        Raises:
            RequestError: another budget, or another number of tokens that every head keeps.
        """
        if budget != self.budget or window not in (None, self.window + self.sinks):
            name = f"{self.noun} {self.path}" if self.path else self.noun
            asked = "" if window is None else f" with {window} such tokens"
            raise RequestError(
                f"The {name} holds a budget of {self.budget} of which every head keeps {self._kept_in_words}, not "
                f"{budget}{asked}; use its own --window and --sinks, or make one for these."
            )
        return self.tokens

    @property
    def _kept_in_words(self) -> str:
        return f"a window of {self.window} and {self.sinks or 'no'} protected first tokens"

    def describe(self) -> dict[str, str]:
        """What else a reader should know, by what it is about."""
        return {
            "Rule": self.rule["text"],
            "Tokens": f"{self.total} in all, budget {self.budget}, window {self.window}"
            + (f", first tokens {self.sinks}" if self.sinks else ""),
        }

    def _check(self) -> None:
        layers, kv_heads = self.model["layers"], self.model["kv_heads"]
        if not isinstance(self.rule.get("text"), str) or not isinstance(self.rule.get("parameters"), Mapping):
            raise RequestError(f"The rule is {dict(self.rule)!r:.60}; expected a 'text' and an object 'parameters'.")
        check_ranking(self.rule["parameters"])
        if self.tokens.shape != (layers, kv_heads):
            raise RequestError(
                f"The tokens have the shape {list(self.tokens.shape)}; "
                f"expected {[layers, kv_heads]} (layers, KV heads)."
            )
        if not is_integer(self.window) or not is_integer(self.budget) or not 1 <= self.window <= self.budget:
            raise RequestError(
                f"Window {self.window!r:.60} and budget {self.budget!r:.60} do not fit; expected 1 <= window <= budget."
            )
        if not is_integer(self.sinks) or not 0 <= self.sinks <= self.budget - self.window:
            raise RequestError(
                f"The {self.sinks!r:.60} protected first tokens do not fit; expected 0 to {self.budget - self.window}, "
                "the budget without the window."
            )
        if (self.tokens < self.window + self.sinks).any():
            layer, head = np.argwhere(self.tokens < self.window + self.sinks)[0]
            also = f" and the {self.sinks} protected first tokens" if self.sinks else ""
            raise RequestError(
                f"Layer {layer}, KV head {head} keeps {self.tokens[layer, head]} tokens; "
                f"expected at least the window of {self.window}{also}."
            )
        nominal = self.budget * layers * kv_heads
        slack = layers * kv_heads - 1 if self.rule["parameters"].get("published_rounding") is True else 0
        if abs(self.total - nominal) > slack:
            raise RequestError(
                f"The tokens sum to {self.total}; expected {nominal} "
                f"(budget {self.budget} x {layers} layers x {kv_heads} KV heads)."
            )

    def check_model(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse to be used with another model.

        Raises:
            RequestError: the model has another shape, other weights or, where weights are unknown, another id.
        """
        check_same_model(
            self.model, fingerprint, f"The budget file {self.path}" if self.path else "This set of budgets"
        )

    def save(self, path: str | Path) -> None:
        """Write the file in one step; a crash leaves the old file or the new one."""
        write_json(
            path,
            {
                "kind": KIND,
                "schema": SCHEMA,
                "model": dict(self.model),
                "budget": self.budget,
                "window": self.window,
                **({"sinks": self.sinks} if self.sinks else {}),
                "total": self.total,
                "rule": dict(self.rule),
                "profile_sha256": self.profile_sha256,
                "tasks": list(self.tasks),
                "examples": list(self.examples),
                **({"documents": list(self.documents)} if self.documents else {}),
                "tokens": self.tokens.tolist(),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "HeadBudgets":
        """Read and check a budget file.

        Raises:
            RequestError: no such file, not our JSON, another schema, or numbers that do not fit together; one sentence
                that names the file, what was found and what was expected.
        """
        document = Document(path, KIND, SCHEMA)
        model = document.model()
        tokens = document.integers("tokens", model["layers"], model["kv_heads"])
        total = document.integer("total")
        if total != int(tokens.sum()):
            raise RequestError(
                f"{document.path}: the field 'total' is {total}; expected {int(tokens.sum())}, the sum of the tokens."
            )
        budget, window = document.integer("budget"), document.integer("window")
        rule, profile = document.mapping("rule"), document.optional_text("profile_sha256")
        origin, sinks = document.made_from(), document.optional_integer("sinks") or 0
        with document.naming():
            return cls(model, budget, window, tokens, rule, profile, document.path, **origin, sinks=sinks)
