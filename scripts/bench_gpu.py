"""Everything that a GPU has to show, one part after another; figures go to results/gpu, each with its command.

    python scripts/bench_gpu.py

It takes about ten minutes on a card of 80 GB, which long prompts in the shape of Llama-3-8B need. A part that fails
does not stop the others; the exit status then is 1.
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
_LLAMA = ["-m", "cokv_bench", "bench", "--random-weights", "llama3-8b", "--budget", "128"]


def parts(out: Path, layers: int | None) -> dict[str, list[str]]:
    """The commands by name; `layers` makes the models shallower, to try them."""
    depth = [] if layers is None else ["--layers", str(layers)]
    depths = "16,32" if layers is None else f"1,{max(layers, 2)}"
    tests = ["tests/gpu", "tests/kvcache/test_triton_decode.py"]
    return {
        "tests": ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        "kernel": [str(SCRIPTS / "bench_kernel.py"), "--json", str(out / "bench_kernel.json")],
        "decode": [
            *_LLAMA, *depth, "--method", "full,ada-snapkv", "--lengths", "4096,32768,131072",
            "--new-tokens", "64", "--repeats", "3", "--chunk", "8192", "--out", str(out / "decode"),
        ],
        "batch": [
            *_LLAMA, *depth, "--method", "full,ada-snapkv", "--lengths", "32768", "--rows", "8",
            "--new-tokens", "64", "--repeats", "3", "--chunk", "8192", "--out", str(out / "batch"),
        ],
        "h2o": [
            *_LLAMA, *depth, "--method", "full,h2o", "--lengths", "32768", "--new-tokens", "8", "--repeats", "1",
            "--chunk", "8192", "--out", str(out / "h2o"),
        ],
        "coalition": [
            str(SCRIPTS / "bench_coalition.py"), *depth, "--length", "8192",
            "--json", str(out / "bench_coalition.json"),
        ],
        "search": [
            str(SCRIPTS / "bench_search.py"), "--depths", depths, "--json", str(out / "bench_search.json"),
        ],
    }  # fmt: skip


def main(
    only: Annotated[str | None, typer.Option(help="Parts, comma separated. Default: all.")] = None,
    layers: Annotated[int | None, typer.Option(min=1, help="Shallower models, to try the parts.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the figures.")] = Path("results/gpu"),
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
        status = subprocess.run([sys.executable, *commands[name]]).returncode
        ended[name] = status
        typer.echo(f"== {name} ended with status {status} after {time.monotonic() - started:.0f} s")
    raise typer.Exit(int(any(ended.values())))


if __name__ == "__main__":
    run_script(main)
