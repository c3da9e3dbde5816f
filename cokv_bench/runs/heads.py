"""Files about heads that a user names, and the knobs of the rules that read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cokv_bench.option import Option

_PANEL = "Head files"
_EARLIER = "Earlier name of --heads, for a release."


@dataclass(frozen=True)
class HeadSources:
    """Files that a user names, and the knobs of the two rules.

    Attributes:
        heads: files of any kind, or folders with one: a file says what it is.
        budget_files, profiles, shares, head_scores: the same, by the options of earlier versions.
    """

    heads: Annotated[
        tuple[Path, ...],
        Option(
            "A file about heads (budgets, values, scores, shares, curves) or the folder of a profile or search; once "
            "for each. Of several, each serves its own tasks and budgets.",
            _PANEL,
        ),
    ] = ()
    budget_files: Annotated[tuple[Path, ...], Option(_EARLIER, _PANEL, name="budgets")] = ()
    profiles: Annotated[tuple[Path, ...], Option(_EARLIER, _PANEL, name="profile")] = ()
    shares: Annotated[Path | None, Option(_EARLIER, _PANEL)] = None
    head_scores: Annotated[Path | None, Option(_EARLIER, _PANEL)] = None
    zeroed: Annotated[
        int | None,
        Option("CoKV's alpha: heads with the window only. Default: the profile's choice.", _PANEL, least=1),
    ] = None
    beta: Annotated[
        float | None,
        Option("HeadKV's beta: near 1, all goes by score. Default: the choice made with the scores.", _PANEL, least=1),
    ] = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All head files, by whatever option they were named; one that is named twice counts once."""
        single = [path for path in (self.shares, self.head_scores) if path is not None]
        return tuple(dict.fromkeys((*self.heads, *self.budget_files, *self.profiles, *single)))

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs of rules that are asked for, by name."""
        return {name: value for name, value in (("alpha", self.zeroed), ("beta", self.beta)) if value is not None}
