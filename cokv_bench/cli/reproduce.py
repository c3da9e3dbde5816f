"""`cokv-bench reproduce`: the commands of a reproduction, one after the other."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cokv_bench.cli import options as o
from cokv_bench.errors import RequestError

SCRIPTS = Path(__file__).parents[2] / "scripts"


def reproduce(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="YAML file, such as configs/reproduce/smollm2.yaml.")],
    dry_run: o.DryRun = False,
) -> None:
    """Run the profiles and evaluations that a file lists; finished ones are gone through in seconds.

    Options that follow are given to each command that takes them, such as --data-dir FOLDER, --device cuda or
    --engine ray.
    """
    from cokv_bench.cli.estimates import print_estimate
    from cokv_bench.runs.reproduction import read_reproduction

    plan = read_reproduction(config)
    o.console.print(plan.description.strip(), highlight=False)
    if dry_run:
        for number, step in enumerate(plan.steps, start=1):
            o.console.print(f"{number}. {_line(step.command, step.arguments)}", highlight=False, soft_wrap=True)
        parts = [(f"{n}. {step.command} {plan.about(step)}", plan.loads(step)) for n, step in enumerate(plan.steps, 1)]
        print_estimate(o.console, plan.shape, parts)
        return
    for step in plan.steps:
        extra = [] if step.command == "headkv_scores" else context.args
        o.console.print(f"\n$ {_line(step.command, [*step.arguments, *extra])}", highlight=False, soft_wrap=True)
        if step.command == "headkv_scores":
            command = [sys.executable, str(SCRIPTS / "headkv_scores.py")]
        else:
            command = [sys.executable, "-m", "cokv_bench", step.command]
        # A process a step: what a step has held in memory, on a GPU above all, is free for the next.
        status = subprocess.run([*command, *step.arguments, *extra], check=False).returncode
        if status:
            raise RequestError(f"`{step.command}` ended with status {status}; the same command goes on from there.")


def _line(command: str, arguments: list[str]) -> str:
    start = "python scripts/headkv_scores.py" if command == "headkv_scores" else f"cokv-bench {command}"
    return f"{start} {shlex.join(arguments)}"
