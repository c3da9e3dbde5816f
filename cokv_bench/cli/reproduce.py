"""`cokv-bench reproduce`: the commands of a reproduction, one after the other."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.errors import RequestError, unknown
from cokv_bench.plugins import arguments

if TYPE_CHECKING:
    from cokv_bench.costs.reproduction import Reproduction

#: Those of the papers, which come with the package.
SHIPPED = Path(__file__).parents[1] / "reproductions"


def reproduce(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(help="YAML file, or the name of one in configs/reproduce, such as smollm2.")
    ],
    dry_run: o.DryRun = False,
) -> None:
    """Run the profiles and evaluations that a file lists; finished ones are gone through in seconds.

    Options that follow are given to each command that takes them, such as --data-dir FOLDER, --device cuda or
    --engine ray.
    """
    from cokv_bench.costs.reproduction import read_reproduction

    plan = read_reproduction(_file(config))
    o.console.print(plan.description.strip(), highlight=False, markup=False)
    if dry_run:
        _plan(plan)
        return
    for step in plan.steps:
        extra = [] if step.command == "headkv_scores" else context.args
        o.tell(f"\n$ {_line(step.command, [*step.arguments, *extra])}")
        if step.command == "headkv_scores":
            command = [sys.executable, "-m", "cokv_bench.cli.headkv_scores"]
        else:
            command = [sys.executable, "-m", "cokv_bench", *arguments(), step.command]
        # A process a step: what a step has held in memory, on a GPU above all, is free for the next.
        status = subprocess.run([*command, *step.arguments, *extra], check=False).returncode
        if status:
            raise RequestError(f"`{step.command}` ended with status {status}; the same command resumes from there.")


def _file(named: Path) -> Path:
    """The file that a path or the name of a shipped reproduction means."""
    shipped = SHIPPED / f"{named}.yaml"
    if named.exists() or named.name != str(named) or named.suffix:
        return named
    if not shipped.is_file():
        known = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
        if known:
            raise unknown("reproduction", str(named), known)
        raise RequestError(f"There is no file {named}, and the package comes without reproductions; name a YAML file.")
    return shipped


def _plan(plan: "Reproduction") -> None:
    """Print the steps, what they take, and what of it is taken from elsewhere or not known."""
    from cokv_bench.cli.estimates import print_estimate

    steps = [(f"{number}. {step.command}", step, plan.work(step)) for number, step in enumerate(plan.steps, start=1)]
    for number, (_, step, _) in enumerate(steps, start=1):
        o.tell(f"{number}. {_line(step.command, step.arguments)}")
    parts = [(f"{name} {plan.about(step)}", work.loads) for name, step, work in steps if work.loads]
    if parts:
        print_estimate(o.console, plan.shape, parts)
    published = dict.fromkeys(task for _, _, work in steps for task in work.published)
    if published:
        o.tell(f"Rows as published, which may be more than your data has: {', '.join(published)}.")
    for name, _, work in steps:
        for task, why in work.uncounted.items():
            o.tell(f"Not counted: {name} {task} ({why}).")


def _line(command: str, arguments: list[str]) -> str:
    start = "python scripts/headkv_scores.py" if command == "headkv_scores" else f"cokv-bench {command}"
    return f"{start} {shlex.join(arguments)}"
