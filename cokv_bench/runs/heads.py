"""Files about heads that a user names, and the knobs of the rules that read them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cokv_bench.files import at_home
from cokv_bench.option import Option
from cokv_bench.policies.names import shortest

_PANEL = "Head files"
# A label with its file, such as first=profiles/a/shares.json.
_LABELLED = re.compile(r"(?P<label>[\w.-]+)=(?P<path>.+)", re.ASCII)
_EARLIER = "Earlier name of --heads."


@dataclass(frozen=True)
class HeadSources:
    """Files that a user names, and the knobs of the two rules.

    Attributes:
        heads: files of any kind, or folders with one: a file says what it is. With a label before it, as in
            "first=shares.json", a file serves the methods that name it, such as cokv-search:file=first, and no other.
        budget_files, profiles, shares, head_scores: the same, by the options of earlier versions.
    """

    heads: Annotated[
        tuple[Path, ...],
        Option(
            "Head file (budgets, values, scores, shares, curves), the folder of a profile or search, or a file on the "
            "hub (hf:OWNER/REPO/FILE); repeatable. Each file is used for the tasks and budgets that it was made for. "
            "LABEL=FILE is used by methods that name it, such as cokv-search:file=LABEL.",
            _PANEL,
        ),
    ] = ()
    budget_files: Annotated[tuple[Path, ...], Option(_EARLIER, _PANEL, name="budgets")] = ()
    profiles: Annotated[tuple[Path, ...], Option(_EARLIER, _PANEL, name="profile")] = ()
    shares: Annotated[Path | None, Option(_EARLIER, _PANEL)] = None
    head_scores: Annotated[Path | None, Option(_EARLIER, _PANEL)] = None
    zeroed: Annotated[
        int | None,
        Option(
            "CoKV's alpha: how many of the lowest-valued heads keep only the window. Default: chosen with the profile.",
            _PANEL,
            least=1,
            name="alpha",
            earlier="zeroed",
        ),
    ] = None
    beta: Annotated[
        float | None,
        Option(
            "HeadKV's beta, 1 or more: the nearer to 1, the more of the budget follows the head scores. Default: "
            "chosen with the scores.",
            _PANEL,
            least=1,
            name="headkv_beta",
            earlier="beta",
        ),
    ] = None

    @property
    def files(self) -> tuple[tuple[str | None, Path], ...]:
        """All head files with their labels, by whatever option they were named; one that is named twice counts once."""
        single = [path for path in (self.shares, self.head_scores) if path is not None]
        named = (*map(_labelled, self.heads), *((None, path) for path in (*self.budget_files, *self.profiles, *single)))
        return tuple(dict.fromkeys(named))

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs of rules that are asked for, by name."""
        return {name: value for name, value in (("alpha", self.zeroed), ("beta", self.beta)) if value is not None}


def _labelled(path: Path) -> tuple[str | None, Path]:
    """A label, None where there is none, and the file."""
    found = _LABELLED.fullmatch(str(path))
    if found is None or path.exists():
        return None, path
    # As a method's name has it, in which numbers are in their shortest form.
    return shortest(found["label"]), at_home(Path(found["path"]))
