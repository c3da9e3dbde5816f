"""Every file that a command reads, damaged in thousands of ways: it is read, or refused in one short sentence.

`KINDS` lists the files with a valid example each, and how a command reads them. Anything but a result or a
`RequestError` of at most 400 characters fails. `COKV_BENCH_FUZZ=1000` tries as many inputs of each kind.
"""

import contextlib
import io
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cokv_bench.errors import LONGEST, RequestError
from tests.mutations import damaged
from tests.reading import (
    ask,
    choose_knobs,
    compare,
    estimate_again,
    evaluate_with,
    export_file,
    head_map,
    hide_needles,
    import_file,
    inspect_file,
    inspect_run,
    longbench,
    make_budgets,
    own_rows,
    plan_reproduction,
    read_on,
    report_as_a_page,
    report_in_the_terminal,
    resume_profile,
    resume_run,
    resume_search,
    show_estimators,
)
from tests.valid_files import (
    a_bench,
    a_profile,
    a_reference,
    a_reproduction,
    a_run,
    a_search,
    estimator_quality,
    head_files,
    log_probabilities,
    needles,
    published,
    questions,
    rows,
)

INPUTS = int(os.environ.get("COKV_BENCH_FUZZ", "65"))


@dataclass(frozen=True)
class Kind:
    """A file that commands read.

    Attributes:
        file: which of those that `make` writes.
        uses: how commands read it.
        structure: for `damaged`; the file's own ending where it says enough.
    """

    make: Callable[[Path], None]
    file: str
    uses: tuple[Callable[[Path], None], ...]

    @property
    def structure(self) -> str:
        ending = Path(self.file).suffix.removeprefix(".")
        return {"npz": "zip"}.get(ending, ending)


def with_a_run(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        a_run(folder)
        make(folder)

    return both


READ_RUN = (inspect_run, report_in_the_terminal, report_as_a_page)
# Once a table is not used, it is counted again from the records, which takes long; the figures are the same.
READ_TABLES = (inspect_run, inspect_run, inspect_run, report_in_the_terminal)
KINDS = (
    Kind(a_run, "run/run.json", (*READ_RUN, resume_run)),
    Kind(a_run, "run/records.jsonl", (*READ_RUN, resume_run)),
    Kind(a_run, "run/scores.csv", READ_TABLES),
    Kind(a_run, "run/comparisons.csv", READ_TABLES),
    Kind(a_run, "run/needle.csv", READ_TABLES),
    Kind(a_run, "run/examples.jsonl", (report_as_a_page,)),
    Kind(log_probabilities, "run/run.json", READ_RUN),
    Kind(log_probabilities, "run/records.jsonl", READ_RUN),
    Kind(log_probabilities, "run/logprobs.csv", READ_TABLES),
    Kind(log_probabilities, "run/comparisons.csv", READ_TABLES),
    Kind(log_probabilities, "run/gaps.csv", READ_TABLES),
    Kind(a_bench, "run/bench.csv", READ_RUN),
    Kind(a_bench, "run/run.json", READ_RUN),
    Kind(a_profile, "ledger.jsonl", (estimate_again, resume_profile)),
    Kind(a_profile, "step.jsonl", (resume_profile,)),
    Kind(a_search, "search.jsonl", (resume_search,)),
    Kind(
        head_files,
        "values.json",
        (
            inspect_file("values.json"),
            make_budgets,
            evaluate_with("cokv", profiles="values.json"),
            head_map("values.json"),
            export_file("values.json"),
        ),
    ),
    Kind(
        head_files,
        "scores.json",
        (
            inspect_file("scores.json"),
            evaluate_with("headkv", head_scores="scores.json"),
            head_map("scores.json"),
            export_file("scores.json"),
        ),
    ),
    Kind(
        head_files,
        "shares.json",
        (
            inspect_file("shares.json"),
            evaluate_with("cokv-search", shares="shares.json"),
            head_map("shares.json"),
            export_file("shares.json"),
        ),
    ),
    Kind(
        head_files,
        "budgets.json",
        (
            inspect_file("budgets.json"),
            evaluate_with("cokv", budget_files="budgets.json"),
            head_map("budgets.json"),
            export_file("budgets.json"),
        ),
    ),
    Kind(head_files, "knobs.json", (inspect_file("knobs.json"), choose_knobs)),
    Kind(published, "cc_llama/cc_trec_32.npy", (import_file("cc_llama/cc_trec_32.npy"),)),
    Kind(published, "heads.json", (import_file("heads.json", "--model", "a/b", "--kv-heads", 2, "--head-dim", 4),)),
    Kind(published, "heads.npz", (import_file("heads.npz", "--model", "a/b", "--kv-heads", 2, "--head-dim", 4),)),
    Kind(a_reproduction, "steps.yaml", (plan_reproduction,)),
    Kind(rows, "rows.jsonl", (own_rows("rows.jsonl"), own_rows("rules.yaml"))),
    Kind(rows, "rules.yaml", (own_rows("rules.yaml"),)),
    Kind(rows, "trec.jsonl", (longbench("."),)),
    Kind(rows, "zip/data.zip", (longbench("zip"), longbench("zip/data.zip"))),
    Kind(questions, "squad.json", (ask("squad.json"),)),
    Kind(questions, "hotpot.json", (ask("hotpot.json"),)),
    Kind(needles, "needles.jsonl", (hide_needles,)),
    Kind(needles, "hay/a.txt", (hide_needles, read_on)),
    Kind(a_reference, "reference.csv", (compare,)),
    Kind(with_a_run(estimator_quality), "estimators.json", (show_estimators,)),
)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """The folder of a kind's valid files, made once."""
    made: dict[Callable[[Path], None], Path] = {}

    def folder(kind: Kind) -> Path:
        if kind.make not in made:
            made[kind.make] = tmp_path_factory.mktemp("valid")
            kind.make(made[kind.make])
        return made[kind.make]

    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a second of matrix products nor megabytes of Plotly for each input."""
    monkeypatch.setattr("cokv_bench.cli.estimates.matrix_speed", lambda *_: 1e9, raising=False)
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")


def attempt(kind: Kind, source: Path, rng: random.Random) -> str | None:
    """Damage a copy of the valid files and let a command read it; the refusal, None where it was read."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), contextlib.chdir(place):
        warnings.simplefilter("ignore")
        folder = Path(place) / "f"
        shutil.copytree(source, folder)
        path = folder / kind.file
        whole = path.read_bytes()
        path.unlink()
        what = rng.randint(0, 40)
        if what == 0:
            path.mkdir()
        elif what > 1:
            path.write_bytes(damaged(whole, kind.structure, rng))
        use = rng.choice(kind.uses)
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
                use(folder)
        except RequestError as error:
            return str(error)
        return None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.make.__name__}-{kind.file}")
def test_whole_files_are_read(kind: Kind, valid: Callable[[Kind], Path], tmp_path: Path) -> None:
    """What is damaged below is good to begin with."""
    shutil.copytree(valid(kind), tmp_path / "f")
    for use in kind.uses:
        use(tmp_path / "f")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.make.__name__}-{kind.file}")
def test_damaged_files_are_read_or_refused(kind: Kind, valid: Callable[[Kind], Path]) -> None:
    source = valid(kind)
    # Tables that are refused are counted again from the records, which takes most of the time.
    inputs = INPUTS // 2 if kind.uses is READ_TABLES else INPUTS

    @settings(max_examples=inputs, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64))
    def check(seed: int) -> None:
        refusal = attempt(kind, source, random.Random(seed))
        assert refusal is None or (0 < len(refusal) <= LONGEST and "\n" not in refusal), refusal

    check()
