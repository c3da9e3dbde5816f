"""The folder in which the commands of pages are typed, and how they are run there with less work to do."""

import io
import json
import os
import runpy
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cokv_bench.budgets import embedded
from cokv_bench.cli import main
from cokv_bench.cli.reproduce import line_of
from cokv_bench.costs.reproduction import Step
from cokv_bench.models import Model
from cokv_bench.models.embedded import NAMES
from cokv_bench.models.spec import ModelSpec
from cokv_bench.tasks.longbench.specs import plain_names
from tests.cli.test_import import write_slice
from tests.documented import ROOT, parse, parser, plugins
from tests.harness.tasks import add_choices
from tests.report.made_run import make_run

load = ModelSpec.load

# How little is enough, of options of commands and scripts that say how much work there is.
SMALL = {
    "coalitions": "8",
    "examples": "2",
    "length": "400",
    "limit": "1",
    "max_length": "160",
    "new_tokens": "2",
    "pairs": "4",
    "repeated": "2",
    "repeats": "1",
    "samples": "8",
    "steps": "1",
    "validation": "1",
}
# The same of one command, where a page leaves it out: every method has about sixty settings, at each of four budgets.
SMALL_OF = {"tune": {"method": "streaming-llm,snapkv", "budget": "64"}}
# The same where a page has them: alone they would mean something else.
SMALL_IF_GIVEN = {"layers": "1", "questions_per_context": "2", "time_limit": "1s", "workers": "1"}

# What FILE is on a page depends on who reads it.
FILES = {
    "export": "values.json",
    "import": "cc_llama_qasper_64.npy",
    "inspect": "values.json",
    "push": "values.json",
    "reproduce": "configs/reproduce/needle.yaml",
}

# Options that name what a command writes.
WRITTEN = ("out", "json", "figures")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """The folder in which commands are typed, how those ended that were, and the embedded model as they load it."""

    folder: Path
    done: dict[str, Done] = field(default_factory=dict)
    models: dict[ModelSpec, Model] = field(default_factory=dict)

    def load(self, spec: ModelSpec) -> Model:
        """For `ModelSpec.load`: the embedded model, on which about forty commands run, is read once."""
        if spec.name not in NAMES:
            return load(spec)
        if spec not in self.models:
            self.models[spec] = load(spec)
        return self.models[spec]

    def type(self, line: str) -> Done:
        """Run what a page tells to type, once: what it leaves lies there for those that follow."""
        if line not in self.done:
            # What another line of the page, or the project, has written there is not this one's.
            for path in self.written(line):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            self.done[line] = run(words(line))
        return self.done[line]

    def written(self, line: str) -> list[Path]:
        """The files and folders that the options of a command name as its own."""
        named = parse(line).params
        return [self.folder / named[option] for option in WRITTEN if named.get(option) is not None]


def words(line: str) -> list[str]:
    """A command as a shell reads it, with less to do."""
    return [word for part in smaller(line) for word in (sorted(map(str, Path().glob(part))) if "*" in part else [part])]


def smaller(line: str) -> list[str]:
    """The words of a command, followed by options that leave it less to do: the last value of an option counts."""
    program, name, *_ = shlex.split(line)
    command, arguments = parser(line)
    given = {part for part in arguments if part.startswith("--")}
    found = [program, name, *[command.name] * (name == "data")]
    found += [part for path in plugins(line) for part in ("--plugin", str(path))]
    found += [FILES[name] if part.startswith("FILE") else os.path.expandvars(part) for part in arguments]
    for option in command.params:
        flag = option.opts[0]
        called = flag.removeprefix("--").replace("-", "_")
        small = SMALL.get(called)
        if called == "lengths":
            # As many as the page has.
            lengths = str(parse(line).params["lengths"]).split(",")
            small = ",".join(str(300 + 20 * n) for n in range(len(lengths)))
        if called == "model" and program == "python":
            # A benchmark's work is mostly its model's, and its table has the same columns.
            small = "FOLDER"
        if flag in given:
            small = SMALL_IF_GIVEN.get(called, small)
        elif called in SMALL_OF.get(name, {}):
            small = SMALL_OF[name][called]
        elif called == "samples" and "--time-limit" in given:
            # What lies there is 8 pairs, and a time limit is looked at between hundreds.
            small = "12"
        if small is not None:
            found += [flag, small]
    return found


def run(typed: list[str]) -> Done:
    """Run a command in this process, as its program would."""
    program, name, *arguments = typed
    before, paths = sys.argv, list(sys.path)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            if program == "python":
                sys.argv = [name, *arguments]
                sys.path.insert(0, str(ROOT / "scripts"))
                runpy.run_path(str(ROOT / name), run_name="__main__")
            else:
                sys.argv = typed
                main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            sys.argv, sys.path[:] = before, paths
    return Done(status, out.getvalue(), err.getvalue())


def run_step(step: Step, request: Mapping[str, Any]) -> int:
    """For a step of a reproduction: here, and with less to do as what is typed has."""
    done = run(smaller(line_of(step)))
    print(done.out, done.err)
    return done.status


def furnished(folder: Path, tiny: Path) -> Desk:
    """The desk in an empty folder, with all that the pages presuppose; what is the reader's has the names of the pages.

    Args:
        tiny: folder of the model that stands for others.
    """
    (folder / "TASKS").mkdir()
    add_choices(folder / "TASKS", "TASK")
    write_rows(folder / "DATA")
    # FOLDER is a model on one line and data on another.
    shutil.copytree(tiny, folder / "FOLDER")
    shutil.copytree(folder / "DATA", folder / "FOLDER" / "data")
    for model in ("mistralai/Mistral-7B-Instruct-v0.2", "meta-llama/Meta-Llama-3-8B-Instruct"):
        shutil.copytree(tiny, folder / model)
    shutil.copytree(ROOT / "cokv_bench/tasks/made/haystack", folder / "FOLDER_OF_TXT")
    for number in ("", "1", "2"):
        make_run(folder / f"RUN{number}")
    asked = {"model": "FOLDER", "tasks": "needle", "lengths": 300, "method": ["full", "snapkv"]}
    (folder / "run.yaml").write_text(yaml.safe_dump({**asked, "budget": [64, 128]}), encoding="utf-8")
    run_json = folder / "RUN" / "run.json"
    run_json.write_text(json.dumps({**json.loads(run_json.read_text(encoding="utf-8")), "request": asked}))
    shutil.copytree(ROOT / "results/gpu/decode", folder / "BENCH")
    for run in ("smollm2-135m", "rankings/hidden", "rankings/needles"):
        shutil.copytree(ROOT / "results" / run, folder / "results" / run)
    shutil.copy(embedded.values_path(), folder / "values.json")
    shutil.copy(embedded.shares_path(), folder / "shares.json")
    for name in ("trec_32", "trec_64", "qasper_64"):
        write_slice(folder / f"cc_llama_{name}.npy")
    shutil.copytree(ROOT / "configs", folder / "configs")
    # A step a task would be minutes.
    config = folder / "configs/reproduce/llama3-8b.yaml"
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    config.write_text(yaml.safe_dump({**content, "tasks": content["tasks"][:1]}), encoding="utf-8")
    return Desk(folder)


def write_rows(folder: Path) -> None:
    """Rows of every task of LongBench; an answer that each metric can read."""
    folder.mkdir()
    places = [f"Paragraph {number}" for number in range(1, 5)]
    for name in plain_names():
        lines = []
        for number in range(40):
            context = " ".join(f"In {place} a boat of {number + 7} feet waits for the tide." for place in places * 2)
            row = {"input": f"Which boat? {number}", "context": context, "answers": [places[number % 4]]}
            labels = {"all_classes": places, "length": 88, "dataset": name, "language": "en", "_id": str(number)}
            lines.append(json.dumps({**row, **labels}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
