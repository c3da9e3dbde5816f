"""Everything that a GPU has to show, one part after another; figures go to results/gpu, each with its command.

    python scripts/bench_gpu.py

It takes about ten minutes on a card of 80 GB, which long prompts in the shape of Llama-3-8B need; the most important
parts come first. A part that fails or takes too long does not stop the others; the exit status then is 1. A machine
without a network runs it with the PyTorch that it has, after `pip install --no-deps --no-build-isolation -e .`.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from cokv_bench.cli.failing import run_script
from cokv_bench.errors import RequestError

# As one would type it: commands are recorded.
SCRIPTS = Path(os.path.relpath(Path(__file__).parent))


def parts(out: Path, layers: int | None) -> dict[str, list[str]]:
    """The commands by name; `layers` makes the models shallower, to try them."""
    here, there = shlex.quote(str(SCRIPTS)), shlex.quote(str(out))
    depth = "" if layers is None else f"--layers {layers}"
    depths = "16,32" if layers is None else f"1,{max(layers, 2)}"
    bench = f"-m cokv_bench bench --random-weights llama3-8b --budget 128 {depth}"
    adaptive = f"{bench} --method full,ada-snapkv --new-tokens 64 --repeats 3"
    lines = {
        "tests": "-m pytest -q -p no:cacheprovider tests/gpu tests/kvcache/test_triton_decode.py "
        "tests/kvcache/test_triton_step.py",
        "table": f"{here}/bench_table.py {depth} --json {there}/bench_table.json",
        "coalition": f"{here}/bench_coalition.py {depth} --length 8192 --json {there}/bench_coalition.json",
        "decode": f"{adaptive} --lengths 4096,32768,131072 --out {there}/decode",
        "kernel": f"{here}/bench_kernel.py --json {there}/bench_kernel.json",
        "batch": f"{adaptive} --lengths 32768 --rows 8 --out {there}/batch",
        "search": f"{here}/bench_search.py --depths {depths} --json {there}/bench_search.json",
        "h2o": f"{bench} --method full,h2o --lengths 32768 --new-tokens 8 --repeats 1 --out {there}/h2o",
    }
    return {name: shlex.split(line) for name, line in lines.items()}


def main(
    only: Annotated[str | None, typer.Option(help="Parts, comma separated. Default: all.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Shallower models, to try the parts.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("results/gpu"),
    part_limit: Annotated[float, typer.Option(min=1, help="Seconds after which a part is stopped.")] = 240,
) -> None:
    """Run the parts and tell how each ended."""
    if not torch.cuda.is_available():
        raise RequestError("These benchmarks need a CUDA device, and there is none.")
    commands = parts(out, layers)
    names = list(commands) if only is None else only.split(",")
    if unknown := [name for name in names if name not in commands]:
        raise RequestError(f"There is no part '{unknown[0]}'; the parts are {', '.join(commands)}.")
    ended = {}
    for name in names:
        typer.echo(f"== {name}: {shlex.join(['python', *commands[name]])}")
        started = time.monotonic()
        ended[name] = run_part(commands[name], part_limit)
        how = "was stopped" if ended[name] is None else f"ended with status {ended[name]}"
        typer.echo(f"== {name} {how} after {time.monotonic() - started:.0f} s")
    raise typer.Exit(int(any(status != 0 for status in ended.values())))


def run_part(command: list[str], limit: float) -> int | None:
    """The exit status of a command of Python's; None where it was stopped after `limit` seconds."""
    try:
        return subprocess.run([sys.executable, *command], timeout=limit).returncode
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    run_script(main)
