"""The command line: parse, call one function, print."""

import functools
import os
import sys
from collections.abc import Callable
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer

from cokv_bench.cli.bench import bench
from cokv_bench.cli.budgets import make_budgets
from cokv_bench.cli.data import fetch_data, list_data
from cokv_bench.cli.doctor import doctor
from cokv_bench.cli.eval import evaluate
from cokv_bench.cli.export import export_heads
from cokv_bench.cli.failing import StoppedError, ended
from cokv_bench.cli.head_scores import measure_head_scores
from cokv_bench.cli.import_ import import_scores
from cokv_bench.cli.inspect import inspect
from cokv_bench.cli.leaderboard import leaderboard
from cokv_bench.cli.lm_eval import lm_eval
from cokv_bench.cli.ls import list_things
from cokv_bench.cli.profile import profile_heads
from cokv_bench.cli.push import push_heads
from cokv_bench.cli.report import report
from cokv_bench.cli.reproduce import reproduce
from cokv_bench.cli.search import search_budgets
from cokv_bench.cli.submit import submit
from cokv_bench.cli.tune import tune_knobs
from cokv_bench.files import at_home
from cokv_bench.plugins import load_all

#: Commands that, stopped at any moment, resume when they are repeated.
RESUMING = frozenset({"profile", "search", "tune", "eval", "reproduce", "data fetch"})

# Read when transformers is imported: no progress bars and notes of its own between our lines.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def make_app() -> typer.Typer:
    """The Typer application with all commands. What takes seconds to import, the commands import when they run."""
    app = typer.Typer(
        help="At the same KV-cache budget, which heads should keep which tokens? Profile heads, write budgets, "
        "evaluate eviction methods. Every command works without options, on the embedded model and text.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _common(
        context: typer.Context,
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
        ] = False,
        debug: bool = typer.Option(
            False, "--debug", help="Show the traceback of an error; may stand anywhere in the line."
        ),
        plugin: Annotated[
            list[Path] | None,
            typer.Option(
                metavar="FILE.py",
                help="Python file that adds methods, utilities, estimators or metrics; repeatable, and may stand "
                "anywhere in the line. Installed plug-ins and the files in $COKV_BENCH_PLUGINS are always loaded.",
            ),
        ] = None,
    ) -> None:
        # `doctor` loads them one by one, to say which ones fail.
        context.obj = plugin or []
        if context.invoked_subcommand != "doctor":
            load_all(context.obj)

    commands: dict[str, Callable[..., None]] = {
        "profile": profile_heads,
        "budgets": make_budgets,
        "head-scores": measure_head_scores,
        "search": search_budgets,
        "tune": tune_knobs,
        "eval": evaluate,
        "bench": bench,
        "report": report,
        "inspect": inspect,
        "import": import_scores,
        "export": export_heads,
        "submit": submit,
        "leaderboard": leaderboard,
        "push": push_heads,
        "ls": list_things,
        "doctor": doctor,
    }
    for name, function in commands.items():
        app.command(name)(_stoppable(name, function))
    data = typer.Typer(help="Download the data of benchmarks from the Hugging Face hub.", no_args_is_help=True)
    data.command("fetch")(_stoppable("data fetch", fetch_data))
    data.command("ls")(_stoppable("data ls", list_data))
    app.add_typer(data, name="data")
    # What they do not know they give to the commands that they run.
    further = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("reproduce", context_settings=further)(_stoppable("reproduce", reproduce))
    app.command("lm-eval", context_settings=further)(_stoppable("lm-eval", lm_eval))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cokv-bench {installed_version('cokv-bench')}")
        raise typer.Exit


def _stoppable(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """A command that Ctrl-C ends with a sentence.

    Args:
        name: of the command, with that of its group.
    """

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **{name: _at_home(value) for name, value in options.items()})
        except KeyboardInterrupt:
            raise StoppedError(resumes=name in RESUMING) from None

    return command


def _at_home(value: Any) -> Any:
    """A path option with the user's home folder for a "~", which no shell fills inside quotes."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return at_home(value) if isinstance(value, Path) else value


def _plugins_first(arguments: list[str]) -> list[str]:
    """The line with --plugin FILE.py, which may stand anywhere in it, where Typer expects options of all commands."""
    first, others = [], []
    rest = iter(arguments)
    for argument in rest:
        file = next(rest, None) if argument == "--plugin" else None
        if file is not None:
            first += [argument, file]
        elif argument.startswith("--plugin="):
            first.append(argument)
        else:
            others.append(argument)
    return [*first, *others]


def main() -> None:
    """Run the command line. Exit status: 0 done, 2 the request is wrong, 1 anything else."""
    debug = "--debug" in sys.argv
    sys.argv = [sys.argv[0], *_plugins_first([each for each in sys.argv[1:] if each != "--debug"])]
    ended(lambda: make_app()(), debug=debug)
