"""What an export is asked for and what it says of what it wrote."""

from dataclasses import dataclass
from pathlib import Path

from cokv_bench.budgets.head_curves import PROMPT
from cokv_bench.budgets.head_file import HeadFile
from cokv_bench.errors import RequestError, quoted

#: Tokens per KV head where neither the request nor the file says how many.
BUDGET = 128


@dataclass(frozen=True)
class Request:
    """A head file to export, with the options of the command.

    Attributes:
        file: the head file.
        path: where it was read from.
        budgets: tokens per KV head on average, window included; empty where none was asked for.
        prompt: tokens of the prompt that shares and whole heads are counted for; None where none was asked for.
        out: the file or folder to write; None for a name made from the head file's, in the current folder.
    """

    file: HeadFile
    path: Path
    budgets: tuple[int, ...] = ()
    prompt: int | None = None
    out: Path | None = None

    @property
    def prompt_tokens(self) -> int:
        """The prompt that was asked for, or the usual one."""
        return PROMPT if self.prompt is None else self.prompt

    def target(self, ending: str) -> Path:
        """Where to write: what was asked for, or the head file's name without `.json`, followed by `ending`."""
        return Path(f"{self.path.stem}{ending}") if self.out is None else self.out

    @staticmethod
    def refuse_other(path: Path, found: object, own: object, what: str) -> None:
        """Refuse to write over an export of another model.

        Args:
            found: what is there says of its model; None where there is nothing, or nothing that says so.
            own: what the export would say.
            what: these are, such as "layers".

        Raises:
            RequestError: the two differ.
        """
        if found is not None and found != own:
            raise RequestError(
                f"{path} is of another model ({what} {quoted(found)}, not {quoted(own)}) and would be lost; name "
                "another place with --out."
            )

    def several_budgets(self) -> tuple[int, ...]:
        """The budgets that were asked for, else the only one of the file, else 128."""
        return self.budgets or (self.file.only_budget or BUDGET,)

    def one_budget(self, target: str) -> int:
        """The budget of a target that holds one.

        Raises:
            RequestError: several were asked for.
        """
        first, *others = self.several_budgets()
        if others:
            raise RequestError(
                f"An export to '{target}' holds one budget, and --budget names {len(others) + 1}; export each on its "
                "own."
            )
        return first

    def refuse(self, target: str, *options: str) -> None:
        """Refuse options that a target has no use for.

        Args:
            options: "budget" or "prompt".

        Raises:
            RequestError: one of them was asked for.
        """
        given = {"budget": bool(self.budgets), "prompt": self.prompt is not None}
        for option in options:
            if given[option]:
                raise RequestError(f"An export to '{target}' does not depend on --{option}; leave it out.")


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the file or folder.
        notes: sentences about it that the user should read.
    """

    path: Path
    notes: tuple[str, ...] = ()
