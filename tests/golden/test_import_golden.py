"""Imported published scores give the published budgets, from the neutral archives and from the authors' own format."""

import json
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadValues, from_head_scores
from cokv_bench.budgets.from_profile import write_budgets
from cokv_bench.budgets.importers import convert

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDEN = SHARED / "golden" / "policies"
PUBLISHED = SHARED / "published_scores"


def cases_of(family):
    index = GOLDEN / "index.json"
    cases = json.loads(index.read_text())["cases"] if index.exists() else []
    return [case for case in cases if case["family"] == family and "scores_file" in case["params"]]


INDEX = json.loads((PUBLISHED / "index.json").read_text()) if (PUBLISHED / "index.json").exists() else {}
ARCHIVES = {entry["file"]: entry for entry in INDEX.get("complementary_contributions", [])}
COKV, HEADKV = cases_of("cokv_budget"), cases_of("headkv_budget")
pytestmark = pytest.mark.skipif(
    not (COKV and ARCHIVES), reason="the golden files (shared/golden, shared/published_scores) are not there"
)
each_cokv_case = pytest.mark.parametrize("case", COKV, ids=[case["id"] for case in COKV])


def write_originals(folder, archive, rows):
    """Files as the authors saved them, under their names, from rows of the neutral archive."""
    arrays = np.load(PUBLISHED / archive)
    paths = []
    for row in rows:
        original = ARCHIVES[archive]["rows"][row]["source_path"]
        content = {
            key: np.append(arrays[key][row].astype(float), 0.0)
            for key in ("cc_left", "cc_right", "count_left", "count_right")
        }
        path = folder.joinpath(*Path(original).parts[-2:])
        path.parent.mkdir(exist_ok=True)
        np.save(path, content | {"sampling_count": int(arrays["sampling_count"][row])}, allow_pickle=True)
        paths.append(path)
    return paths


@each_cokv_case
def test_imported_values_give_the_published_budgets(case, tmp_path):
    parameters, arrays = case["params"], np.load(GOLDEN / case["file"])
    convert([SHARED / parameters["scores_file"]], task=parameters["dataset"], folder=tmp_path)
    values = HeadValues.load(tmp_path / "values.json")
    assert [one["row"] for one in values.source["slices"]] == parameters["rows"]
    assert [one["size"] for one in values.source["slices"]] == parameters["true_slices"]
    assert values.model["id"].endswith(parameters["model"])
    for a, zeroed in enumerate(parameters["alphas_kth"]):
        write_budgets(tmp_path, parameters["budgets"], zeroed=zeroed, published_rounding=True)
        for b, budget in enumerate(parameters["budgets"]):
            file = HeadBudgets.load(tmp_path / f"cokv-{budget}.budgets.json")
            np.testing.assert_array_equal(file.tokens - parameters["window"], arrays["size_excl_window"][b, a])


@each_cokv_case
def test_the_authors_files_give_the_same_values(case, tmp_path):
    parameters = case["params"]
    archive = Path(parameters["scores_file"]).name
    paths = write_originals(tmp_path, archive, parameters["rows"])
    # The shell's order: 128 before 32.
    ((_, values),) = convert(sorted(paths), folder=tmp_path / "originals").files
    ((_, neutral),) = convert([PUBLISHED / archive], task=parameters["dataset"], folder=tmp_path / "neutral").files
    np.testing.assert_array_equal(values.values, neutral.values)
    assert values.model == neutral.model
    assert (values.tasks, values.samples) == (neutral.tasks, neutral.samples)


@pytest.mark.parametrize("archive", ARCHIVES)
def test_every_mislabelled_and_repeated_file_is_named(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ARCHIVES[archive]["rows"]
    paths = write_originals(tmp_path, archive, [row["row"] for row in rows])
    result = convert(paths)
    assert len(result.files) == len({row["dataset"] for row in rows})
    expected = [
        f"{path.name} says {row['nominal_slice']} and holds size {row['true_slice']}"
        for path, row in zip(paths, rows, strict=True)
        if row["mislabelled"]
    ]
    expected += [
        f"{paths[row['identical_to_row']].name} and {path.name} hold the same numbers"
        for path, row in zip(paths, rows, strict=True)
        if row["identical_to_row"] is not None
    ]
    assert sorted(result.oddities) == sorted(expected)
    assert {"cc_llama.npz": 8, "cc_mistral.npz": 20, "cc_qwen3.npz": 1}[archive] == len(expected)


@pytest.mark.parametrize("case", HEADKV, ids=[case["id"] for case in HEADKV])
def test_imported_scores_give_the_published_budgets(case, tmp_path):
    parameters, arrays = case["params"], np.load(GOLDEN / case["file"])
    sizes = arrays["size_excl_window"]
    published = SHARED / parameters["scores_file"]
    samples = np.load(published)["samples"]
    original = tmp_path / f"{published.stem}.json"
    heads = {f"{layer}-{head}": samples[layer, head].tolist() for layer, head in np.ndindex(samples.shape[:2])}
    original.write_text(json.dumps(heads))
    for path in (published, original):
        ((file, _),) = convert([path], folder=tmp_path / path.suffix).files
        scores = HeadScores.load(file)
        assert (scores.model["layers"], scores.model["heads"], scores.model["kv_heads"]) == (*samples.shape[:2], 8)
        shares = (scores.scores / scores.scores.sum()) ** parameters.get("temp", 1)
        for e, beta in enumerate(parameters["betas"]):
            for b, budget in enumerate(parameters["budgets"]):
                official = from_head_scores(
                    shares,
                    budget,
                    window=parameters["window"],
                    beta=beta,
                    kv_heads=sizes.shape[-1],
                    published_rounding=True,
                )
                np.testing.assert_array_equal(official - parameters["window"], sizes[e, b])
