"""What commands and scripts say on standard error: notices, and how they fail with one sentence and a status."""

import codecs
import io
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from cokv_bench.errors import Notice, RequestError

#: Exit status where the request is wrong, as a command line with unknown options has it.
BAD_REQUEST = 2

_errors = Console(stderr=True)
_PLAIN = "cokv-bench-plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A dash for dashes, and a question mark for whatever else a terminal's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join("-" if each in "\u2013\u2014" else "?" for each in error.object[error.start : error.end]), error.end


codecs.register_error(_PLAIN, _plain)


def print_anywhere() -> None:
    """Let both streams take any text: after hours of work no character may be an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)


def fail(sentence: str, *, status: int, debug: bool = False) -> NoReturn:
    """Say what is wrong and end the process; with `debug` after the traceback of the error in hand."""
    if debug:
        traceback.print_exc()
    _errors.print(Text.assemble(("Error: ", "bold red"), sentence), soft_wrap=True)
    sys.exit(status)


def show_notices() -> None:
    """From now on print a `Notice` as one line of its own; other warnings stay as they are."""
    others = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            _errors.print(Text.assemble(("Note: ", "bold yellow"), str(message)), soft_wrap=True)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show


class StoppedError(Exception):
    """Ctrl-C; Typer would end the process without a word about what is kept.

    Attributes:
        resumes: whether the command keeps what it has done, and resumes it.
    """

    def __init__(self, *, resumes: bool) -> None:
        super().__init__()
        self.resumes = resumes


def ended(function: Callable[[], None], *, debug: bool = False) -> None:
    """Call a function, and end the process with a sentence where it fails.

    Exit status: 0 done, 2 the request is wrong, 1 anything else.
    """
    print_anywhere()
    show_notices()
    try:
        function()
    except RequestError as error:
        fail(str(error), status=BAD_REQUEST, debug=debug)
    except StoppedError as stopped:
        kept = "; what was done is kept, and the same command resumes it" if stopped.resumes else ""
        fail(f"Stopped{kept}.", status=1, debug=debug)
    except KeyboardInterrupt:
        fail("Stopped.", status=1, debug=debug)
    except Exception as error:
        fail(f"{type(error).__name__}: {error} (--debug shows the traceback)", status=1, debug=debug)


def run_script(main: Callable[..., None]) -> None:
    """Run the one function of a script with the command line's options, as `typer.run` does.

    A `RequestError` ends it with its sentence and status 2; any other error shows its traceback.
    """
    print_anywhere()
    show_notices()
    try:
        typer.run(main)
    except RequestError as error:
        fail(str(error), status=BAD_REQUEST)
