"""`cokv-bench lm-eval`: lm-evaluation-harness's own command line, on a model whose prompts are evicted."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

import typer

from cokv_bench.errors import RequestError, brief


def lm_eval(context: typer.Context) -> None:
    """Run tasks of lm-evaluation-harness under an eviction method.

    All options are lm-eval's own (`lm_eval run --help`), with dashes or underscores, and so are the commands ls and
    validate. The model is `cokv-bench` and takes --model-args pretrained=MODEL,method=snapkv,budget=128. It needs
    `pip install 'cokv-bench\\[lm-eval]'`.
    """
    if find_spec("lm_eval") is None:
        raise RequestError("lm-evaluation-harness is not installed; run pip install 'cokv-bench[lm-eval]'.")
    from lm_eval.__main__ import cli_evaluate

    from cokv_bench.harness.lm_eval_model import NAME

    sys.argv = ["lm_eval", *arguments(context.args, NAME)]
    try:
        cli_evaluate()
    except RequestError:
        raise
    except ValueError as error:
        # Such as tasks that it does not know.
        raise RequestError(f"lm-eval refuses this: {brief(error)}.") from error


def arguments(given: Sequence[str], model: str) -> list[str]:
    """What lm-eval's command line is given: the command and the model named, options as it writes them."""
    command, *rest = given if given and not given[0].startswith("-") else ["run", *given]
    return [command, *(["--model", model] if command == "run" else []), *map(_underscored, rest)]


def _underscored(argument: str) -> str:
    """An option with underscores; anything else as it is."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"
