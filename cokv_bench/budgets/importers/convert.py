"""From published files to head values, head scores and head curves on the disk."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cokv_bench.budgets.head_curves import HeadCurves
from cokv_bench.budgets.head_scores import HeadScores
from cokv_bench.budgets.head_values import HeadValues
from cokv_bench.budgets.importers.cokv_slices import Slice, head_values, oddities
from cokv_bench.budgets.importers.layouts import Layout, curves_fingerprint, scores_fingerprint, values_fingerprint
from cokv_bench.budgets.importers.recognise import Curves, Scores, read_published
from cokv_bench.errors import RequestError, unknown
from cokv_bench.files import write_text

Imported = HeadValues | HeadScores | HeadCurves


@dataclass(frozen=True)
class Import:
    """What one call wrote.

    Attributes:
        files: the files and what is in them, in order.
        oddities: sentences on the published files that a reader of the results should know.
    """

    files: list[tuple[Path, Imported]]
    oddities: list[str]


def convert(
    paths: Sequence[Path],
    *,
    model: str | None = None,
    task: str | None = None,
    layout: Layout | None = None,
    folder: Path | None = None,
) -> Import:
    """Write published scores as this project's files: `values.json` for CoKV, `*.head_scores.json` for HeadKV,
    `*.curves.json` for LU-KV.

    Args:
        paths: published files; all slices of one task and model make one `values.json`.
        model: id of the model as `cokv-bench eval` will be given it; None takes it from the files' names.
        task: only this task, by LongBench's name of the dataset; also the task of files whose name says none.
        layout: of the model's heads; what is None there is known for published models.
        folder: where to; default profiles/<model>/<task> for values and profiles/<model> for scores and curves.

    Raises:
        RequestError: a file that is damaged, hostile or of no known kind, an unknown model or layout, no such task,
            two results for one place, or another file in a result's place. Nothing is written then.
    """
    read = [read_published(path, model=model, dataset=task) for path in dict.fromkeys(paths)]
    scores = [one for one in read if isinstance(one, Scores)]
    curves = [one for one in read if isinstance(one, Curves)]
    slices = [one for many in read if isinstance(many, list) for one in many]
    if task and (scores or curves):
        what = f"{scores[0].path} holds HeadKV scores" if scores else f"{curves[0].path} holds LU-KV curves"
        raise RequestError(f"{what}, which belong to no single task; leave out --task.")
    chosen = [one for one in slices if task in (None, one.dataset)]
    if task and not chosen:
        raise unknown("task in these files", task, {one.dataset for one in slices})
    layout = layout or Layout()
    results: list[tuple[Path, Imported]] = [*_values(chosen, layout, folder)]
    published: list[Scores | Curves] = [*scores, *curves]
    for one in published:
        try:
            made = _scores(one, layout, folder) if isinstance(one, Scores) else _curves(one, layout, folder)
        except RequestError as error:
            raise RequestError(f"{one.path}: {error}") from None
        results.append(made)
    _write(results)
    return Import(results, [sentence for sentence, about in oddities(slices) if about & set(chosen)])


def _values(slices: Iterable[Slice], layout: Layout, folder: Path | None) -> list[tuple[Path, HeadValues]]:
    groups: dict[tuple[str, str], list[Slice]] = {}
    for one in slices:
        groups.setdefault((one.model, one.dataset), []).append(one)
    results = []
    for (model, dataset), group in groups.items():
        players = group[0].contributions.size
        for one in group:
            if one.contributions.size != players:
                raise RequestError(
                    f"{one.label} has {one.contributions.size} players and {group[0].label} has {players}; "
                    "expected slices of one model."
                )
        values = head_values(group, values_fingerprint(model, players, layout))
        target = folder or Path("profiles") / Path(model).name / dataset
        results.append((target / "values.json", values))
    return results


def _scores(one: Scores, layout: Layout, folder: Path | None) -> tuple[Path, HeadScores]:
    layers, heads = one.scores.shape
    fingerprint = scores_fingerprint(one.model, layers, heads, layout)
    source = f"HeadKV scores imported from {one.path.name} (sha256 {one.sha256}), mean over the samples"
    target = folder or Path("profiles") / Path(one.model).name
    return target / f"{one.path.stem}.head_scores.json", HeadScores(fingerprint, one.scores, source, (), ())


def _curves(one: Curves, layout: Layout, folder: Path | None) -> tuple[Path, HeadCurves]:
    _, layers, kv_heads = one.pruned.shape
    fingerprint = curves_fingerprint(one.model, layers, kv_heads, layout)
    source = f"LU-KV curves imported from {one.path.name} (sha256 {one.sha256})"
    target = folder or Path("profiles") / Path(one.model).name
    return target / f"{one.path.stem}.curves.json", HeadCurves(fingerprint, one.pruned, source)


def _write(results: Sequence[tuple[Path, Imported]]) -> None:
    """Write all files, or none where one of them would replace another file."""
    texts: dict[Path, str] = {}
    for path, content in results:
        if path in texts:
            raise RequestError(f"Several results would be {path}; choose one --task, or leave out --out.")
        texts[path] = _text(content)
        if path.is_file() and path.read_bytes() != texts[path].encode():
            raise RequestError(f"{path} exists and holds something else; choose another folder with --out.")
    for path, text in texts.items():
        write_text(path, text)


def _text(content: Imported) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "content.json"
        content.save(path)
        return path.read_text(encoding="utf-8")
