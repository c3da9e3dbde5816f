"""The one error that means: the request is wrong, and here is how to fix it."""

import difflib
import re
from collections.abc import Iterable
from itertools import accumulate

#: The most characters of a refusal.
LONGEST = 400
#: The most characters of a value, or of a word, that a refusal quotes.
_QUOTED = 60
# What may be cut where a refusal is too long: quoted values, and words that no language has.
_LONG = re.compile(rf"'[^']{{{_QUOTED},}}'|\"[^\"]{{{_QUOTED},}}\"|[^\s'\"]{{{_QUOTED},}}")


class RequestError(ValueError):
    """A request that cannot be met as it was put.

    The message is one sentence that says what is wrong, where, and how to fix it; the command line prints it
    without a traceback and exits with status 2. It stands on one line and has at most `LONGEST` characters: where it
    would have more, what it quotes is cut.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_short(message))


def quoted(value: object) -> str:
    """A value as a refusal shows it: its beginning, where it is long."""
    return _cut(repr(value))


def unknown(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """An error for a name that no registry holds, with the nearest names ("did you mean")."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower()[:_QUOTED], names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {_listed(names)}."
    return RequestError(f"Unknown {kind} '{_cut(name)}'; {hint}")


def _listed(names: list[str]) -> str:
    """Names with commas; of many the first ones, none of them cut, and how many more there are."""
    room = LONGEST // 2
    shown = [name for name, end in zip(names, accumulate(len(name) + 2 for name in names), strict=True) if end <= room]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _short(message: str) -> str:
    sentence = " ".join(message.split())
    if len(sentence) > LONGEST:
        sentence = _LONG.sub(lambda long: _cut(long[0]), sentence)
    if len(sentence) > LONGEST:
        # What to do stands at the end.
        end = LONGEST // 3
        sentence = f"{sentence[: LONGEST - end - 5]} ... {sentence[-end:]}"
    return sentence


def _cut(text: str) -> str:
    """A text of at most `_QUOTED` characters, its closing quotation mark kept."""
    if len(text) <= _QUOTED:
        return text
    mark = text[-1] if text[-1] in "'\"" and text[0] == text[-1] else ""
    return f"{text[: _QUOTED - 3 - len(mark)]}...{mark}"


def brief(error: BaseException, most: int = 160) -> str:
    """What an error of another library says, on one line of at most `most` characters and without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        # It says no more than the key.
        text = f"there is no {text}"
    return text.rstrip(".") if len(text) <= most else text[: most - 4].rsplit(" ", 1)[0] + " ..."


class Notice(UserWarning):
    """What a user should know though nothing stops; the command line prints it as a line on standard error."""
