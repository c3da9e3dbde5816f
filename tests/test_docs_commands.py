"""Every command that the pages tell to type is typed, with less work to do, and leaves what it says.

All of them are typed in one folder, in which what the pages stand for with a capital name (DATA, RUN, a model's id)
lies under that very name. Only what says how much work there is differs from the page: see SMALL in desk.py.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.bench import PRESETS
from cokv_bench.models.spec import ModelSpec
from cokv_bench.tasks import Example
from cokv_bench.tasks.longbench.specs import specs
from cokv_bench.tasks.text import TextTask
from tests.desk import Desk, furnished, run, run_step, words
from tests.documented import TYPED, made, parse, parser, plugins
from tests.harness.tasks import without_lm_evals_own
from tests.hub_server import local_hub

RUN = list(dict.fromkeys(line for lines in TYPED.values() for line in lines if not line.startswith("make ")))
MADE = list(dict.fromkeys(line for lines in TYPED.values() for line in lines if line.startswith("make ")))

# What a command says when it ends, with the place where it left something, and what is there then.
LEFT: dict[str, tuple[str, tuple[str, ...]]] = {
    "bench": (r"bench\.csv.* are in (.*)", ("bench.csv", "run.json")),
    "budgets": (r"Wrote (.*)", ("",)),
    "eval": (r"Tables, records and settings are in (.*)", ("run.json", "table.csv", "table.md")),
    "data": (r"The data of .* is in (.*); use it", ("README.md",)),
    "export": (r"Wrote ([^:]*):", ("",)),
    "head-scores": (r"Wrote ([^:]*):", ("",)),
    "import": (r"Wrote ([^:]*):", ("",)),
    "leaderboard": (r"Wrote (.*) \(", ("",)),
    "profile": (r"Ledger and head values are in (.*)", ("ledger.jsonl", "values.json")),
    "report": (r"Wrote (.*) \(", ("",)),
    "reproduce": (r"Tables, records and settings are in (.*)", ("run.json", "table.csv", "reference.csv")),
    "search": (r"the search's ledger are in (.*)", ("search.jsonl", "shares.json")),
    "submit": (r"Wrote ([^(]*) \(", ("README.md", "run.json", "records.jsonl.gz")),
    "tune": (r"Knobs and their curves are in (.*)", ("",)),
}
# What the others say.
SAID = {
    "overview": "# Overview",
    "bench_profile": "Seconds a coalition and example",
    "compare_runs": "p, corrected",
    "doctor": "embedded model",
    "eval --dry-run": "Hours are rough",
    "estimator_quality": "kernelshap",
    "inspect": "Most valuable of 90 heads",
    "lm-eval": "|TASK",
    "ls": "what it is",
    "push --dry-run": "--heads hf:OWNER/REPO/values.json",
    "report --terminal": "Points over snapkv",
    "reproduce --dry-run": "PFLOP",
}

NOT_RUN = {
    "python scripts/bench_gpu.py": "takes ten minutes of a GPU of 80 GB; tests/test_scripts.py checks its parts",
}
# Packages that a user may lack, and the commands that need them.
NEEDED = {
    "matplotlib": "--figures",
    "plotly": "^cokv-bench report (?!.*--terminal)",
    "ray": "--engine ray",
}


@pytest.fixture(scope="module")
def desk(texty_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return furnished(tmp_path_factory.mktemp("desk"), texty_folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster that another process has started."""
    code = (
        "import sys, ray; print(ray.init(address='local', num_cpus=2, include_dashboard=False, log_to_driver=False)"
        ".address_info['gcs_address'], flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(60)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub with what pages fetch from it, on this machine."""
    with local_hub(tmp_path, monkeypatch) as found:
        names = ("shortdep_qa", "longdep_qa", "longdep_summarization")
        files = [f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test-*\n" for name in names]
        found.files["datasets/simonjegou/loogle/README.md"] = f"---\nconfigs:\n{''.join(files)}---\n".encode()
        for name in names:
            found.files[f"datasets/simonjegou/loogle/{name}/test-0.parquet"] = b"PAR1"
        yield


@pytest.fixture
def reader(desk: Desk, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Desk:
    """The desk with someone at it: this process is in its folder, and answers and shapes are small."""
    monkeypatch.chdir(desk.folder)
    # What programs say in one line stays in one line.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("COKV_BENCH_DATA", str(desk.folder / "DATA"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "8")
    # No option says how long answers are, how many tasks "longbench" is, and how wide a shape. (The packages export
    # functions of the modules' names.)
    monkeypatch.setattr(ModelSpec, "load", lambda spec: desk.load(spec))
    begin = Example.__post_init__

    def short(example: Example) -> None:
        begin(example)
        object.__setattr__(example, "max_new_tokens", min(4, example.max_new_tokens))

    monkeypatch.setattr(Example, "__post_init__", short)
    few = {name: replace(spec, papers=name in ("qasper", "trec", "lcc")) for name, spec in specs().items()}
    monkeypatch.setattr(sys.modules["cokv_bench.tasks.longbench.specs"], "specs", lambda: few)
    defaults = TextTask.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "max_new_tokens", 8)
    narrow = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 100}
    monkeypatch.setitem(PRESETS, "llama3-8b", {**PRESETS["llama3-8b"], **narrow})
    monkeypatch.setattr(sys.modules["cokv_bench.cli.reproduce"], "spawned", run_step)
    line = request.node.callspec.params["line"]
    if any(map(plugins, [line, *before(line)])):
        request.getfixturevalue("registries_restored")
    for package, where in NEEDED.items():
        if re.search(where, line):
            pytest.importorskip(package, reason=f"`{line}` needs {package}, which is not installed")
    if line.startswith("cokv-bench data fetch"):
        request.getfixturevalue("hub")
    if line.startswith("cokv-bench lm-eval "):
        without_lm_evals_own(monkeypatch)
    if "--address" in line:
        address = request.getfixturevalue("cluster")
        monkeypatch.setenv("RAY_ADDRESS", address)
        for name, value in zip(("head", "port"), address.split(":"), strict=True):
            monkeypatch.setenv(name, value)
    return desk


def before(line: str) -> list[str]:
    """What the page tells to type before a line that reads what others have made."""
    page = next(lines for lines in TYPED.values() if line in lines)
    makers = [
        each for each in page[: page.index(line)] if re.match(r"cokv-bench (profile|search|tune|budgets|eval) ", each)
    ]
    places = ("profiles/", *re.findall(r"--out (\S+)", " ".join(makers)))
    reads = any(part.startswith(places) for part in shlex.split(re.sub(r"--(out|json) \S+", "", line)))
    return makers if reads else []


def with_the_embedded_model(line: str) -> bool:
    """Whether a command loads the model that is its default; scripts get a tiny one."""
    _, arguments = parser(line)
    loads = re.match("cokv-bench (profile|search|tune|eval|bench)( |$)", line)
    return bool(loads) and not {"--model", "--random-weights"} & set(arguments)


def misses_arguments(line: str) -> bool:
    """Whether a sentence only names a command, which needs more to run."""
    command, arguments = parser(line)
    return not arguments and any(option.required for option in command.params)


def marked(line: str) -> Any:
    marks = [pytest.mark.skip(reason=NOT_RUN[line])] if line in NOT_RUN else []
    if any(map(with_the_embedded_model, [line, *before(line)])):
        marks.append(pytest.mark.model)
    return pytest.param(line, marks=marks, id=line)


@pytest.mark.parametrize("line", [marked(line) for line in RUN if not misses_arguments(line)])
def test_what_is_typed_runs(line: str, reader: Desk) -> None:
    for earlier in before(line):
        reader.type(earlier)
    done = reader.type(line)
    _, name, *arguments = shlex.split(line)
    # What `doctor` finds, and so its status, is the machine's.
    assert done.status == 0 or (name == "doctor" and done.status == 1), done
    assert all(path.exists() for path in reader.written(line))
    name = Path(name).stem
    said = [words for key, words in SAID.items() if set(key.split()) <= {name, *arguments}]
    if said:
        assert said[0] in done.out, done
        return
    pattern, files = LEFT[name]
    if "--reference" in arguments:
        files = (*files, "reference.csv")
    places = re.findall(pattern, done.out)
    assert places, done
    for place in places:
        assert all((reader.folder / place / file).exists() for file in files), place


@pytest.mark.parametrize("line", [line for line in RUN if misses_arguments(line)])
def test_a_command_that_is_only_named_is_typed_in_full_elsewhere(line: str) -> None:
    assert any(other.startswith(f"{line} ") and other not in NOT_RUN for other in RUN)


def test_exceptions_are_of_commands_that_are_typed() -> None:
    assert set(NOT_RUN) <= set(RUN)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("line", MADE)
@pytest.mark.usefixtures("registries_restored")
def test_what_make_would_run_can_be_typed(line: str) -> None:
    """Nothing runs: most of it is hours of work, and the rest is set-up and tests."""
    for command in made(line):
        if re.match("cokv-bench |python scripts/", command):
            parse(command)
        else:
            assert re.match(r"(cmp|codespell|cp|echo|mkdir|mkdocs|mypy|pip|python3?|rm|ruff|touch|twine)\b", command), (
                command
            )
            # Nothing is removed but runs that another search has made stale.
            for removed in re.findall(r"\brm\b(.*)", command):
                assert re.fullmatch(r" -rf( results/search/[\w-]+)+", removed), command


@pytest.mark.model
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("line", ["make demo"])
def test_the_demonstration_runs_and_ends_with_what_it_found(line: str, reader: Desk) -> None:
    assert line in MADE
    commands = [command for command in made(line) if command.startswith("cokv-bench ")]
    for command in commands:
        # RULER's shortest prompts are longer than the pages' smallest.
        done = run([*words(command), *(["--lengths", "700"] if "ruler" in command else [])])
        assert done.status == 0 or command == "cokv-bench doctor", done
    assert commands[-1].startswith("cokv-bench report ")
    for benchmark in ("needles", "the 2 tasks of ruler", "essays"):
        assert benchmark in done.out
    assert "Wrote results/demo/report.html" in done.out
