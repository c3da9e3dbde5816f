"""Profiling: sample coalitions into a ledger until told to stop, and turn them into head values."""

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cokv_bench.budgets import HeadValues
from cokv_bench.errors import RequestError
from cokv_bench.files import file_sha256
from cokv_bench.game.curves import alpha_curve
from cokv_bench.game.estimators import Estimate, Estimator, get_estimator
from cokv_bench.game.head_game import Game
from cokv_bench.game.ledger import Ledger, LedgerHeader, Row
from cokv_bench.game.sampling import SamplingPlan, get_sampling
from cokv_bench.game.stability import Stability, stability
from cokv_bench.game.step_journal import StepJournal, clear_mark, is_marked, mark_end
from cokv_bench.game.stopping import Stopping, note, status
from cokv_bench.models import Model
from cokv_bench.tasks import split_rule
from cokv_bench.tasks.base import contents, made_from
from cokv_bench.tasks.families import TaskFamily, check_some
from cokv_bench.tasks.prompts import reading

#: Called with evaluations (a coalition on an example) done, evaluations in all where they are known, and what is known.
Progress = Callable[[int, int | None, str], None]

# Bytes of a file's or folder's name, on all usual file systems.
_LONGEST_NAME = 255
#: Coalitions that are measured together and written together.
STEP = 256


def default_folder(model: Model, tasks: Sequence[str], ending: str = "") -> Path:
    """Where a profile goes unless told: profiles/<model>/<tasks>, with an ending such as "-search".

    Of a name longer than a file system takes, the end is replaced by a hash.
    """
    name = "+".join(re.sub(r"[^\w.+-]+", "-", task) for task in tasks)
    if len(f"{name}{ending}".encode()) > _LONGEST_NAME:
        hashed = f"...{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        beginning = name.encode()[: _LONGEST_NAME - len(f"{hashed}{ending}".encode())]
        name = f"{beginning.decode(errors='ignore')}{hashed}"
    return Path("profiles") / model.folder_name / f"{name}{ending}"


def profile(
    game: Game,
    folder: Path,
    *,
    estimator: str,
    seed: int,
    stopping: Stopping,
    sampling: str | None = None,
    left_out: Sequence[TaskFamily] = (),
    progress: Progress = lambda done, total, note: None,
) -> HeadValues:
    """Sample coalitions into the folder's ledger, estimate head values, choose alpha, write `values.json`.

    The ledger has each coalition's utility for every example, so head values without a family of tasks are estimated
    from the same coalitions; only their curve of alpha is measured. They go to `without-NAME/values.json`.

    A ledger that is there already is gone on with. Coalitions depend on the seed and their number alone and
    are measured in fixed steps, so a process that was killed and started again ends with the same ledger, to the
    byte, as one that never stopped (on the same machine, for other machines round differently). One that was killed
    while it wrote head values has spent its time for sampling: the next call writes them and samples for no time limit.

    Args:
        sampling: a name of `SAMPLINGS`; default the one that the estimator is meant for.
        left_out: families of tasks without which, one by one, head values are written as well.
        progress: called after each example of a step, and of a choice of alpha.

    Returns:
        The head values of all examples.

    Raises:
        RequestError: unknown names, an estimator that cannot use the sampling, a ledger of something else or one that
            lacks a coalition, head values in the folder that are damaged or no profile's, a family that cannot be left
            out, see `_without`, or no prompt that is longer than the window.
    """
    chosen = get_estimator(estimator)
    name = chosen.sampling if sampling is None else sampling
    plan = get_sampling(name).plan(game.players, seed)
    chosen.check_sampling(name)
    parts = {family: _without(game, plan, name, family) for family in left_out}
    for indices in (game.indices(), *parts.values()):
        _check_window(game, indices)
    made = made_from(game.rows)
    header = LedgerHeader(
        model=game.model.fingerprint,
        tasks=made["tasks"],
        window=game.window,
        utility=game.utility.name,
        seed=seed,
        examples=made["examples"],
        players=(game.model.layers, game.model.kv_heads),
        config={
            **plan.config(),
            "step": STEP,
            "dtype": str(game.model.network.dtype).removeprefix("torch."),
            "max_length": game.encoding.max_length,
            "question_agnostic": game.encoding.question_agnostic,
            "reading": reading(game.model, [example for _, example in game.rows], game.encoding),
            "contents": contents(game.rows),
            **split_rule(task for task, _ in game.rows),
        },
    )
    path = folder / "ledger.jsonl"
    for place in (folder, *(folder / family.folder for family in left_out)):
        _refuse_foreign(place / "values.json")
    with Ledger.open(path, header) as ledger:
        ledger.refuse_gaps()
        result, stable, reason = _sample(game, ledger, folder, plan, chosen, stopping, progress)
        mark_end(folder, header, len(ledger.done))
    if not np.isfinite(result.values).all():
        clear_mark(folder, header, len(ledger.done))
        raise RequestError(
            f"{len(ledger.done)} coalitions are too few for the estimator '{estimator}' on {game.players} heads; they "
            f"are kept in {path}: repeat the command with more --samples."
        )
    digest = file_sha256(path)

    def write(place: Path, result: Estimate, stable: Stability, indices: Sequence[int], whose: str = "") -> HeadValues:
        head_values = HeadValues(
            values=result.values.reshape(header.players),
            standard_errors=result.standard_errors.reshape(header.players),
            estimator=estimator,
            samples=result.samples,
            seed=seed,
            utility=game.utility.name,
            window=game.window,
            model=header.model,
            ledger_sha256=digest,
            status=status(stable, game.players, reason, name),
            **made_from([game.rows[index] for index in indices]),
        )
        evaluations = len(ledger.done) * len(game.rows)

        def tell(done: int, total: int) -> None:
            progress(evaluations, evaluations, f"choosing alpha{whose}: example {done} of {total}")

        curve = _known_curve(place, head_values) or alpha_curve(
            game, head_values.values, indices=indices, progress=tell
        )
        head_values = replace(head_values, alphas=curve)
        head_values.save(place)
        return head_values

    head_values = write(folder / "values.json", result, stable, game.indices())
    for family, indices in parts.items():
        estimate = _judge(ledger, plan, chosen, indices)
        write(folder / family.folder / "values.json", *estimate, indices, f" without {family.name}")
    clear_mark(folder, header, len(ledger.done))
    return head_values


def _without(game: Game, plan: SamplingPlan, sampling: str, family: TaskFamily) -> list[int]:
    """Numbers of the examples that are neither of a family nor of its documents.

    Raises:
        RequestError: a task of the family is none of the game's, no other is left, or coalitions are chosen by what
            examples of the family say.
    """
    check_some(family.tasks, {task.name for task, _ in game.rows}, "this profile", "leave out")
    if plan.pilot_rows:
        raise RequestError(
            f"The sampling '{sampling}' chooses coalitions by the utilities of all examples, so nothing it "
            "measures is without a family; leave families out with another --sampling."
        )
    unseen = {example.document for task, example in game.rows if family.has(task.name)}
    indices = [index for index, (_, example) in enumerate(game.rows) if example.document not in unseen]
    if not indices:
        raise RequestError(
            f"Without the family '{family.name}' no example of this profile is left; name more --tasks, or fewer in "
            "the family."
        )
    return indices


def _check_window(game: Game, indices: Sequence[int]) -> None:
    """Raises `RequestError` where no prompt of some examples loses a token in any coalition: all values would be 0."""
    # The first prompt that is longer ends the search.
    if not any(game.prompt_tokens(index) > game.window for index in indices):
        longest = max(game.prompt_tokens(index) for index in indices)
        raise RequestError(
            f"No prompt is longer than the window of {game.window} tokens (the longest has {longest}), so every head "
            "keeps all of it; profile longer prompts, or with a smaller --window."
        )


def _sample(
    game: Game,
    ledger: Ledger,
    folder: Path,
    plan: SamplingPlan,
    estimator: Estimator,
    stopping: Stopping,
    progress: Progress,
) -> tuple[Estimate, Stability, str]:
    """Measure step after step until a criterion is met; the estimate, its stability and the criterion's name."""
    ended = is_marked(folder, ledger.header, len(ledger.done))
    started = -math.inf if ended else time.monotonic()
    examples = len(game.rows)
    total = None if stopping.rows is None else stopping.rows * examples
    start, known = 0, "first coalitions"
    while True:
        stop = _end_of_step(start, plan.pilot_rows, stopping.rows)
        if stop > len(ledger.done):

            def step(done: int, start: int = start, stop: int = stop, known: str = known) -> None:
                progress(start * examples + done * (stop - start), total, known)

            _measure(game, ledger, folder, plan, start, stop, step)
        # Steps before the ledger's end were judged by the call that measured them.
        if stop >= len(ledger.done) or stop == stopping.rows:
            result, stable = _judge(ledger, plan, estimator)
            known = note(stable, game.players)
            reason = stopping.met(stop, time.monotonic() - started, stable, game.players)
            progress(stop * examples, total if reason is None else stop * examples, known)
            if reason is not None:
                return result, stable, reason
        start = stop


def _end_of_step(start: int, pilot_rows: int, rows: int | None) -> int:
    """Where the step ends that begins at `start`: a step neither straddles the end of the pilot nor of all rows."""
    first = 0 if start < pilot_rows else pilot_rows
    stop = first + ((start - first) // STEP + 1) * STEP
    ends = [stop] if rows is None else [stop, rows]
    return min([*ends, pilot_rows] if start < pilot_rows else ends)


def _measure(
    game: Game,
    ledger: Ledger,
    folder: Path,
    plan: SamplingPlan,
    start: int,
    stop: int,
    progress: Callable[[int], None],
) -> None:
    """Measure the rows of a step, example by example, and append those that the ledger lacks.

    All of them are measured, also where a crash has left some in the ledger: a batch of other rows would round
    differently. Examples that a stopped process has measured for this step are not measured again.
    """
    pilot = ledger.utilities()[: plan.pilot_rows].mean(axis=1) if start >= plan.pilot_rows > 0 else None
    members = plan.coalitions(start, stop, pilot)
    sizes = plan.row_sizes(start, stop, pilot)
    with StepJournal.open(folder, ledger.header, start, stop) as journal:
        missing = [index for index in range(len(game.rows)) if index not in journal.columns]
        progress(len(journal.columns))
        for index, column in game.columns(missing, game.coalitions(members)):
            journal.append(index, column)
            progress(len(journal.columns))
    utilities = zip(*(journal.columns[index] for index in range(len(game.rows))), strict=True)
    rows = zip(range(start, stop), sizes.tolist(), members, utilities, strict=True)
    ledger.append(Row(k, size, inside, values) for k, size, inside, values in rows if k not in ledger.done)


def _judge(
    ledger: Ledger, plan: SamplingPlan, estimator: Estimator, indices: Sequence[int] | None = None
) -> tuple[Estimate, Stability]:
    """The estimate from the mean utility over all examples, or over those of some numbers, and its stability."""
    utilities = ledger.utilities()
    if indices is not None:
        utilities = utilities.take(indices, axis=1)
    units = plan.units(0, len(ledger.done))
    return stability(estimator, ledger.coalitions(), utilities.mean(axis=1), units, ledger.sizes())


def _refuse_foreign(path: Path) -> None:
    """Raises `RequestError` for head values that no profile has written, before hours are spent beside them."""
    if path.exists() and HeadValues.load(path).ledger_sha256 is None:
        raise RequestError(
            f"{path} has head values that no profile has measured, and this one would write over them; choose another "
            "folder with --out."
        )


def _known_curve(path: Path, values: HeadValues) -> Mapping[int, Mapping[int, float]] | None:
    """The curve of alpha that an earlier call has measured for the same values, None where there is none."""
    if not path.exists():
        return None
    earlier = HeadValues.load(path)
    same = (earlier.ledger_sha256, earlier.examples) == (values.ledger_sha256, values.examples)
    return earlier.alphas if same and np.array_equal(earlier.values, values.values) else None
