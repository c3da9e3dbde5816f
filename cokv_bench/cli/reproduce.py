"""`cokv-bench reproduce`: the requests of a reproduction, one after the other."""

import multiprocessing
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cokv_bench.cli import options as o
from cokv_bench.cli.eval import evaluate
from cokv_bench.cli.failing import BAD_REQUEST, ended, fail
from cokv_bench.cli.groups import settings_of
from cokv_bench.cli.head_scores import measure_head_scores
from cokv_bench.cli.profile import profile_heads
from cokv_bench.cli.search import search_budgets
from cokv_bench.cli.tune import tune_knobs
from cokv_bench.errors import RequestError, quoted, unknown
from cokv_bench.plugins import Plugin, load_same, loaded

if TYPE_CHECKING:
    from cokv_bench.costs.reproduction import Reproduction, Step
    from cokv_bench.costs.steps import Work

#: The commands of the application by name, as Typer made them.
Commands = Mapping[str, Any]
# Options that would make every step the same.
_OF_STEPS = ("--config", "--out")

#: Those of the papers, which come with the package.
SHIPPED = Path(__file__).parents[1] / "reproductions"


def reproduce(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="YAML file, or the name of a built-in one, such as smollm2.")],
    dry_run: o.DryRun = False,
) -> None:
    """Run the profiles and evaluations that a file lists; finished ones are skipped in seconds.

    Options that follow are given to each command that takes them, such as --data-dir FOLDER, --device cuda or
    --engine ray.
    """
    from cokv_bench.costs.reproduction import read_reproduction

    path = _file(config)
    plan = read_reproduction(path)
    commands: Commands = context.parent.command.commands  # type: ignore[union-attr]
    _refuse_strangers(context.args, [_command(commands, step) for step in plan.steps])
    requests = [request_of(step, commands, path, context.args) for step in plan.steps]
    o.console.print(plan.description.strip(), highlight=False, markup=False)
    if dry_run:
        _plan(plan, requests)
        return
    for number, (step, request) in enumerate(zip(plan.steps, requests, strict=True), start=1):
        o.tell(f"\n$ {line_of(step, _taken(context.args, _command(commands, step)))}")
        status = spawned(step, request)
        if status:
            said = f"Step {number}, `{step.command}`, ended with status {status}; the same command resumes from there."
            if status == BAD_REQUEST:
                raise RequestError(said)
            fail(said, status=1)


def _function(command: str) -> Callable[..., None]:
    functions = {"profile": profile_heads, "search": search_budgets, "tune": tune_knobs, "eval": evaluate}
    return functions.get(command, measure_head_scores)


def spawned(step: "Step", request: Mapping[str, Any]) -> int:
    """Run a step in a process of its own, and return its exit status.

    What a step has held in memory, on a GPU above all, is free for the next. Ctrl-C, or an interrupt of this process
    alone, stops the step as well.
    """
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(step.command, request, loaded()))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.terminate()
        process.join()
        raise
    return process.exitcode or 0


def _run(command: str, request: Mapping[str, Any], plugins: Sequence[Plugin]) -> None:
    def run() -> None:
        load_same(plugins)
        try:
            _function(command).__wrapped__(**request)  # type: ignore[attr-defined]
        except KeyboardInterrupt:
            sys.exit(1)

    # A terminal interrupts both processes: the first one stops this one, and says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ended(run)


def _command(commands: Commands, step: "Step") -> Any:
    """The command of a step, as Typer made it."""
    return commands["head-scores" if step.command == "headkv_scores" else step.command]


def request_of(step: "Step", commands: Commands, where: Path, further: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments of a step's function, by its parameters.

    Args:
        commands: of the application.
        where: the file, for errors.
        further: options of the command line, which come before those of the step where its command has them.

    Raises:
        RequestError: an option that the command does not have, or a value that it does not take.
    """
    command = _command(commands, step)
    settings = settings_of(typer.Context(command), step.options, str(where))
    filled = command.make_context(step.command, _taken(further, command), default_map=settings)
    return dict(_function(step.command).gather(filled.params))  # type: ignore[attr-defined]


def _taken(further: Sequence[str], command: Any) -> list[str]:
    """Those of the further options that a command has, with their values."""
    known = {opt for each in command.params for opt in each.opts}
    taken: list[str] = []
    keep = False
    for argument in further:
        keep = argument.partition("=")[0] in known if argument.startswith("--") else keep
        taken += [argument] * keep
    return taken


def _refuse_strangers(further: Sequence[str], commands: Sequence[Any]) -> None:
    """Further options that no step takes are slips, and so is what is no option and no option's value."""
    flags = {opt: each.is_flag for command in commands for each in command.params for opt in each.opts}
    expects_value = False
    for argument in further:
        name, equals, _ = argument.partition("=")
        if name in _OF_STEPS:
            raise RequestError(f"Each step has a {name} of its own, or its options; copy the file and change it there.")
        if expects_value and not argument.startswith("--"):
            expects_value = False
        elif name in flags:
            expects_value = not equals and not flags[name]
        elif argument.startswith("--"):
            raise unknown("option", name, sorted(flags))
        else:
            raise RequestError(
                f"Nothing takes {quoted(argument)}; after the file stand options of its steps, such as --device cuda."
            )


def _file(named: Path) -> Path:
    """The file that a path or the name of a shipped reproduction means."""
    shipped = SHIPPED / f"{named}.yaml"
    # A folder of results may well have the name of what made it.
    if named.is_file() or named.name != str(named) or named.suffix in (".yaml", ".yml"):
        return named
    if not shipped.is_file():
        raise unknown("reproduction", str(named), sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    return shipped


def _plan(plan: "Reproduction", requests: Sequence[Mapping[str, Any]]) -> None:
    """Print the steps, what they take, and what of it is taken from elsewhere or not known."""
    from cokv_bench.cli.estimates import print_estimate

    for number, step in enumerate(plan.steps, start=1):
        o.tell(f"{number}. {line_of(step)}")
    works = [work_of(step.command, request, plan.examples) for step, request in zip(plan.steps, requests, strict=True)]
    names = [f"{number}. {step.command}" for number, step in enumerate(plan.steps, start=1)]
    parts = [
        (f"{name} {_about(request)}", work.loads) for name, request, work in zip(names, requests, works, strict=True)
    ]
    if any(loads for _, loads in parts):
        print_estimate(plan.shape, [part for part in parts if part[1]])
    published = dict.fromkeys(task for work in works for task in work.published)
    if published:
        o.tell(f"Rows as published, which may be more than your data has: {', '.join(published)}.")
    for name, work in zip(names, works, strict=True):
        for task, why in work.uncounted.items():
            o.tell(f"Not counted: {name} {task} ({why}).")


def work_of(command: str, request: Mapping[str, Any], counted: Mapping[str, int]) -> "Work":
    """What a step does. Raises `RequestError` where one of its tasks is unknown."""
    from cokv_bench.costs.steps import Work, eval_work, profile_work, scores_work
    from cokv_bench.tasks.encoding import Encoding

    tasks, encoding = request["tasks"], request.get("encoding", Encoding())
    if command == "eval":
        return eval_work(request["grid"], tasks, encoding, counted)
    if command == "profile":
        return profile_work(request["stopping"], tasks, encoding, counted)
    if command in ("search", "tune"):
        return Work(uncounted=dict.fromkeys(tasks.names, f"what a {command} takes is not estimated"))
    return scores_work(tasks, encoding, counted)


def _about(request: Mapping[str, Any]) -> str:
    """The tasks of a step in a few words."""
    tasks = request["tasks"].names
    return ", ".join(tasks) if len(tasks) < 3 else f"{tasks[0]} and {len(tasks) - 1} more"


def line_of(step: "Step", further: Sequence[str] = ()) -> str:
    command = "head-scores" if step.command == "headkv_scores" else step.command
    return f"cokv-bench {command} {shlex.join([*step.arguments, *further])}"
