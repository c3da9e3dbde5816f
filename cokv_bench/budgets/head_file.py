"""Head files: what is known about the heads of a model, from which the tokens of each are counted. Five kinds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cokv_bench.budgets import head_budgets, head_curves, head_scores, head_shares, head_values
from cokv_bench.budgets.head_budgets import HeadBudgets
from cokv_bench.budgets.head_curves import HeadCurves
from cokv_bench.budgets.head_scores import HeadScores
from cokv_bench.budgets.head_shares import HeadShares
from cokv_bench.budgets.head_values import HeadValues
from cokv_bench.budgets.rules import Knob
from cokv_bench.checks import strict_loads
from cokv_bench.errors import RequestError, quoted
from cokv_bench.hub import HubFile, fetch, on_hub


class HeadFile(Protocol):
    """What budgets, values, scores, shares and curves have in common."""

    @property
    def noun(self) -> str:
        """What a file of this kind is called in a sentence."""
        ...

    @property
    def key(self) -> str:
        """Under which name a run's configuration has its hash."""
        ...

    @property
    def made_by(self) -> str:
        """The command that makes one, for a refusal."""
        ...

    @property
    def model(self) -> Mapping[str, Any]:
        """Fingerprint of the model."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that it was made on."""
        ...

    @property
    def examples(self) -> tuple[str, ...]:
        """Ids of the examples that it was made on."""
        ...

    @property
    def documents(self) -> tuple[str, ...]:
        """Of these examples; empty where a file of an earlier version does not say."""
        ...

    @property
    def method(self) -> str | None:
        """The method whose rule it serves; None for any."""
        ...

    @property
    def ranking(self) -> Mapping[str, Any]:
        """Window, protected first tokens, ranking, kernel and pooling that it was made for, as far as it says."""
        ...

    @property
    def knobs(self) -> Mapping[str, Knob]:
        """The knobs of its rule by name."""
        ...

    @property
    def only_budget(self) -> int | None:
        """The budget that its tokens were counted for; None where they can be counted for any."""
        ...

    @property
    def measured(self) -> Mapping[str, NDArray[np.float64]]:
        """float64 [layers, heads] by what they are: values, standard errors (KV heads), scores (query heads)."""
        ...

    @property
    def utility(self) -> str:
        """In whose units that is; empty where it is in none."""
        ...

    def tokens_at(
        self,
        budget: int,
        *,
        window: int | None = None,
        published_rounding: bool = False,
        knobs: Mapping[str, Any] = ...,
    ) -> NDArray[np.int64]:
        """Tokens per KV head at a budget.

        Args:
            budget: tokens per KV head on average, window included.
            window: default the file's own.
            published_rounding: of its rule, where that has one.
            knobs: of its rule, by name; others are left alone, and missing ones are the file's choice.

        Returns:
            int64 [layers, kv_heads], window included.

        Raises:
            RequestError: a budget, window or knob that it cannot have.
        """
        ...

    def describe(self) -> Mapping[str, str]:
        """What else a reader should know, by what it is about."""
        ...


_Kind = type[HeadBudgets] | type[HeadValues] | type[HeadScores] | type[HeadShares] | type[HeadCurves]
_KINDS: Mapping[str, _Kind] = {
    head_budgets.KIND: HeadBudgets,
    head_values.KIND: HeadValues,
    head_scores.KIND: HeadScores,
    head_shares.KIND: HeadShares,
    head_curves.KIND: HeadCurves,
}
_OF_RULES = (HeadValues, HeadScores, HeadShares, HeadCurves)
#: By rule: its knobs, and what makes the head files that it reads.
RULE_KNOBS: Mapping[str, Mapping[str, Knob]] = {kind.method: kind.knobs for kind in _OF_RULES}
MADE_BY: Mapping[str, str] = {kind.method: kind.made_by for kind in _OF_RULES}
#: Which files stand for a folder, the first that it has.
_OF_FOLDER = ("values.json", "shares.json")


def head_file_path(path: str | Path) -> Path:
    """The file that a path names: of a folder its values or shares, and of "hf:OWNER/REPO/FILE" the local copy.

    Raises:
        RequestError: the folder has neither, or see `hub.fetch`.
    """
    if on_hub(path):
        return fetch(HubFile.parse(str(path)))
    path = Path(path)
    if not path.is_dir():
        return path
    found = [path / name for name in _OF_FOLDER if (path / name).is_file()]
    if not found:
        raise RequestError(f"{path} holds neither {' nor '.join(_OF_FOLDER)}; name a head file itself.")
    return found[0]


def load_head_file(path: str | Path) -> HeadFile:
    """Read a head file of whatever kind it says it is.

    Args:
        path: a JSON file of budgets, values, scores, shares or curves, or a folder that holds values.json or
            shares.json.

    Raises:
        RequestError: no such file, another JSON file, or one that does not pass its checks.
    """
    path = head_file_path(path)
    try:
        document = strict_loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"Cannot read the head file {path}: {error.strerror}.") from None
    except ValueError as error:
        raise RequestError(f"{path} is not a JSON file on heads: {error}.") from None
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise RequestError(f"{path} is of kind {quoted(kind)}; a head file is of kind {', '.join(_KINDS)}.")
    return _KINDS[kind].load(path)
