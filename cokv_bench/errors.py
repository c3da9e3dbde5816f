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
    return RequestError(f"Unknown {kind} '{name}'; {hint}")
