"""How commands and scripts fail: one sentence on standard error, and an exit status."""

import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from cokv_bench.errors import RequestError

#: Exit status where the request is wrong, as a command line with unknown options has it.
BAD_REQUEST = 2

_errors = Console(stderr=True)


def fail(sentence: str, *, status: int, debug: bool = False) -> NoReturn:
    """Say what is wrong and end the process; with `debug` after the traceback of the error in hand."""
    if debug:
        traceback.print_exc()
    _errors.print(Text.assemble(("Error: ", "bold red"), sentence), soft_wrap=True)
    sys.exit(status)


def run_script(main: Callable[..., None]) -> None:
    """Run the one function of a script with the command line's options, as `typer.run` does.

    A `RequestError` ends it with its sentence and status 2; any other error shows its traceback.
    """
    try:
        typer.run(main)
    except RequestError as error:
        fail(str(error), status=BAD_REQUEST)
