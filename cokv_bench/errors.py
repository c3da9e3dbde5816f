"""The one error that means: the request is wrong, and here is how to mend it."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """A request that cannot be met as it was put.

    The message is one sentence that names the thing, the place and the mend; the command line prints it
    without a traceback and exits with status 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """An error for a name that no registry holds, with the nearest names ("did you mean")."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return RequestError(f"Unknown {kind} '{name:.60}'; {hint}")


def brief(error: BaseException, most: int = 160) -> str:
    """What an error of another library says, on one line of at most `most` characters and without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".") if len(text) <= most else text[: most - 4].rsplit(" ", 1)[0] + " ..."


class Notice(UserWarning):
    """What a user should know though nothing stops; the command line prints it as a line on standard error."""
