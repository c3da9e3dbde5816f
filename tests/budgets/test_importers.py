"""Published slices and scores: what is read, which numbers come out, and what is refused in which words."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.budgets import HeadBudgets, HeadScores, HeadValues, embedded
from cokv_bench.budgets.fingerprint import check_same_model
from cokv_bench.budgets.from_profile import write_budgets
from cokv_bench.budgets.importers import Layout, convert
from cokv_bench.budgets.importers.layouts import model_id
from cokv_bench.errors import RequestError

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"
TOY = {"model": "toy", "layout": Layout(2, 3, 4)}


def entries(size=2, samples=9, players=6, seed=0):
    """A file's dictionary: coalitions of one size, drawn so that every player is in some."""
    chance = np.random.default_rng(seed)
    members = np.array([np.roll(np.arange(players) < size, shift + seed) for shift in range(samples)])
    contributions = chance.normal(size=(samples, 1))
    tables = {
        "cc_left": (members * contributions).sum(0),
        "cc_right": -(~members * contributions).sum(0),
        "count_left": members.sum(0),
        "count_right": (~members).sum(0),
    }
    return {key: np.append(table, 0).astype(float) for key, table in tables.items()} | {"sampling_count": samples}


def mean(one):
    return (one["cc_left"] / np.maximum(one["count_left"], 1))[:-1]


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, content, allow_pickle=True)
    return path


def archive(path, rows, **changes):
    """A neutral archive of (dataset, nominal size, true size, dictionary) rows."""
    arrays = {key: np.stack([row[3][key][:-1] for row in rows]) for key in rows[0][3] if key != "sampling_count"}
    arrays |= {"count_left": arrays["count_left"].astype(np.int32), "dataset": np.array([row[0] for row in rows])}
    arrays |= {"nominal_slice": np.array([row[1] for row in rows]), "true_slice": np.array([row[2] for row in rows])}
    arrays |= {"sampling_count": np.array([row[3]["sampling_count"] for row in rows])}
    np.savez_compressed(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def test_the_slices_of_a_task_make_one_file(tmp_path):
    slices = {size: entries(size, samples=9 + size, seed=size) for size in (1, 2, 3)}
    paths = [save(tmp_path / f"cc_trec_{size}.npy", one) for size, one in slices.items()]
    result = convert(paths[::-1], **TOY, folder=tmp_path)
    ((path, values),) = result.files
    assert path == tmp_path / "values.json"
    assert result.oddities == []
    expected = sum(mean(one) for one in slices.values()) / 3  # in the order of the names' sizes
    np.testing.assert_array_equal(HeadValues.load(path).values, expected.reshape(2, 3))
    assert values.model == {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None}
    assert (values.estimator, values.samples, values.seed, values.utility) == ("ssv", 33, None, "metric")
    assert (values.window, values.tasks, values.examples, values.alphas) == (8, ("longbench/trec",), (), {})
    assert np.isnan(values.standard_errors).all()
    source = HeadValues.load(path).source
    assert [one["file"] for one in source["slices"]] == [f"cc_trec_{size}.npy" for size in (1, 2, 3)]
    assert [(one["size"], one["nominal_size"]) for one in source["slices"]] == [(1, 1), (2, 2), (3, 3)]
    assert len(source["slices"][0]["sha256"]) == 64
    assert source["mislabelled"] == []
    ((_, budgets),) = write_budgets(path, [64], zeroed=2, published_rounding=True)
    assert HeadBudgets.load(tmp_path / "cokv-64.budgets.json").window == 8
    assert (budgets.tokens == 8).sum() == 2


def test_wrong_names_and_repeated_files_are_told(tmp_path):
    one, other = entries(2), entries(3)
    paths = [save(tmp_path / f"cc_trec_{size}.npy", of) for size, of in ((1, one), (2, one), (3, other))]
    result = convert([*paths, paths[0]], **TOY, folder=tmp_path)
    assert result.oddities == [
        "cc_trec_1.npy says 1 and holds size 2",
        "cc_trec_1.npy and cc_trec_2.npy hold the same numbers",
    ]
    ((_, values),) = result.files
    assert values.source["mislabelled"] == ["cc_trec_1.npy"]
    np.testing.assert_array_equal(values.values.ravel(), (mean(one) + mean(one) + mean(other)) / 3)


def test_models_and_tasks_are_found_in_names(tmp_path):
    big = {"players": 256, "samples": 256}
    large = entries(256, players=512, samples=2, seed=1)
    large["count_left"] = np.append(np.ones(512), 0)  # two halves of 512 players
    paths = [
        save(tmp_path / "cc_llama" / "cc_passage_count_32.npy", entries(32, **big)),
        save(tmp_path / "cc_mistral_repobench-p_64.npy", entries(64, **big)),
        save(tmp_path / "cc_mistral_needle_64.npy", entries(64, seed=1, **big)),
        save(tmp_path / "cc_qwen3_gov_report_size_256.npy", large),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        files = dict(convert(paths).files)
    assert {str(path): (values.model["id"], *values.tasks) for path, values in files.items()} == {
        "profiles/Meta-Llama-3-8B-Instruct/passage_count/values.json": (LLAMA, "longbench/passage_count"),
        "profiles/Mistral-7B-Instruct-v0.2/repobench-p/values.json": (
            *("mistralai/Mistral-7B-Instruct-v0.2", "longbench/repobench-p"),
        ),
        "profiles/Mistral-7B-Instruct-v0.2/needle/values.json": ("mistralai/Mistral-7B-Instruct-v0.2", "needle"),
        "profiles/Qwen3-32B/gov_report/values.json": ("Qwen/Qwen3-32B", "longbench/gov_report"),
    }
    shapes = {values.model["id"]: values.values.shape for values in files.values()}
    assert shapes[LLAMA] == (32, 8)
    assert shapes["Qwen/Qwen3-32B"] == (64, 8)
    run = {"id": LLAMA, "layers": 32, "kv_heads": 8, "head_dim": 128, "weights": "ab12"}
    check_same_model(next(iter(files.values())).model, run, "the profile")


@pytest.mark.parametrize("name", ["cc_llama2_trec_1.npy", "Meta-Llama-3-8B-Instruct-262k.json", "llama.json", "a.npy"])
def test_a_name_that_only_resembles_says_no_model(name, tmp_path):
    with pytest.raises(RequestError, match="give its id with --model"):
        model_id(tmp_path / name, None)
    assert model_id(tmp_path / name, "a/b") == "a/b"


def test_a_file_whose_name_says_nothing(tmp_path):
    path = save(tmp_path / "shapley.npy", entries())
    with pytest.raises(RequestError, match=r"shapley\.npy: The file name contains no task"):
        convert([path], **TOY, folder=tmp_path)
    ((_, values),) = convert([path], task="trec", **TOY, folder=tmp_path).files
    assert values.tasks == ("longbench/trec",)
    assert values.source["slices"][0]["nominal_size"] is None
    with pytest.raises(RequestError, match=r"shapley\.npy: The file name does not say which model"):
        convert([path], task="trec")
    with pytest.raises(RequestError, match="6 players are of no known model; give --layers, --kv-heads and --head-dim"):
        convert([path], task="trec", model="toy")
    with pytest.raises(RequestError, match="There are 6 players, but 3 layers x 3 KV heads are 9"):
        convert([path], task="trec", model="toy", layout=Layout(3, 3, 4))


def changed(**changes):
    return {key: value for key, value in (entries() | changes).items() if value is not None}


def with_cell(key, value, place=0):
    table = entries()[key]
    table[place] = value
    return changed(**{key: table})


def deep():
    """A tuple with 2**60 leaves; to print it would not end."""
    tree = ()
    for _ in range(60):
        tree = (tree, tree)
    return tree


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (changed(count_left=None), "It lacks count_left and has nothing besides; expected exactly cc_left, cc_right"),
        (changed(extra=1), "It lacks nothing and has extra besides; expected exactly"),
        (changed(cc_left=[1.0]), "'cc_left' is list; expected an array of numbers with 1 dimensions"),
        (changed(cc_left=np.zeros((2, 3))), r"'cc_left' is float64 \[2, 3\]; expected"),
        (changed(cc_left=np.zeros(4)), "the tables are of the lengths {'cc_left': 3, 'cc_right': 6"),
        (changed(cc_left=np.zeros(1)), "expected players and then one empty entry"),
        (with_cell("cc_left", 1.0, -1), r"'cc_left' ends in \[1.0\]; expected players and then one empty entry"),
        (with_cell("cc_left", np.nan), "'cc_left' holds nan; expected finite numbers"),
        (with_cell("cc_right", np.inf), "'cc_right' holds inf; expected finite numbers"),
        (with_cell("count_left", 0, 4), "no sample contains the players 4; expected every player"),
        (with_cell("count_left", -1, 4), "no sample contains the players 4"),
        (with_cell("count_left", 0.5), "'count_left' holds 0.5; expected whole numbers up to the 9 samples"),
        (with_cell("count_left", 10), "'count_left' holds 10; expected whole numbers up to the 9 samples"),
        (with_cell("count_left", 4), "its counts sum to 19 over 9 samples, coalitions of 2.11111 players; expected a"),
        (changed(sampling_count=0), "'sampling_count' is 0; expected a whole number from 1"),
        (changed(sampling_count=2**200), "'sampling_count' is 16"),
        (changed(sampling_count=9.0), "'sampling_count' is 9.0"),
        (changed(sampling_count="9"), "'sampling_count' is a str"),
        (changed(sampling_count=deep()), "'sampling_count' is a tuple"),
        (changed(sampling_count=10), "coalitions of 1.8 players"),
        ([1], r"an array \[1\] of int64; expected one dictionary"),
        ("text", "expected one dictionary"),
        (np.zeros(3), "expected one dictionary"),
    ],
)
def test_each_damage_has_its_sentence(tmp_path, content, told):
    path = save(tmp_path / "cc_trec_2.npy", content)
    with pytest.raises(RequestError, match=told) as caught:
        convert([path], **TOY, folder=tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_hostile_files_do_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'marker'}",)

    path = save(tmp_path / "cc_trec_2.npy", changed(cc_left=Evil()))
    with pytest.raises(RequestError, match=r"cc_trec_2\.npy: The pickle asks for '\w+\.system', which is no part of"):
        convert([path], **TOY, folder=tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_slices_of_two_models_do_not_mix(tmp_path):
    paths = [save(tmp_path / f"cc_trec_{n}.npy", entries(players=n, samples=n)) for n in (6, 8)]
    with pytest.raises(RequestError, match=r"cc_trec_8\.npy has 8 players and cc_trec_6\.npy has 6"):
        convert(paths, **TOY, folder=tmp_path)


ROWS = [("trec", 1, 2, entries(2)), ("trec", 2, 2, entries(2)), ("needle", 3, 3, entries(3))]


def test_an_archive_gives_a_file_a_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "cc.npz", ROWS)
    result = convert([path], **TOY)
    assert {str(file): values.tasks for file, values in result.files} == {
        "profiles/toy/trec/values.json": ("longbench/trec",),
        "profiles/toy/needle/values.json": ("needle",),
    }
    assert result.oddities == [
        "cc.npz row 0 (trec) says 1 and holds size 2",
        "cc.npz row 0 (trec) and cc.npz row 1 (trec) hold the same numbers",
    ]
    needle = convert([path], task="needle", **TOY, folder=tmp_path)
    assert needle.oddities == []
    np.testing.assert_array_equal(needle.files[0][1].values.ravel(), mean(ROWS[2][3]))
    assert [one["row"] for one in needle.files[0][1].source["slices"]] == [2]
    with pytest.raises(RequestError, match="Unknown task in these files 'nedle'; did you mean needle"):
        convert([path], task="nedle", **TOY)
    with pytest.raises(RequestError, match=r"Several results would be .*values\.json; choose one --task"):
        convert([path], **TOY, folder=tmp_path / "one")
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dataset": None}, "It lacks dataset"),
        ({"more": np.zeros(3)}, "has more besides"),
        ({"dataset": np.array(["../../up", "a", "b"])}, r"A task is named '../../up'"),
        ({"dataset": np.array(["..", "a", "b"])}, r"A task is named '..'"),
        ({"dataset": np.zeros(3)}, "'dataset' is of type float64; expected names"),
        ({"nominal_slice": np.array([1, np.nan, 2])}, "'nominal_slice' is of type float64; expected integers"),
        ({"nominal_slice": np.zeros(2, int)}, r"'nominal_slice' has the shape \[2\]; expected 3 rows"),
        ({"sampling_count": np.array(3)}, r"'sampling_count' has the shape \[\]; expected 3 rows"),
        ({"nominal_slice": np.zeros((3, 1), int)}, r"'nominal_slice' has the shape \[3, 1\]"),
        ({"cc_left": np.zeros(3)}, "expected an array of numbers with 2 dimensions"),
        ({"true_slice": np.array([1, 2, 3])}, r"row 0 \(trec\): 'true_slice' is 1, but the counts are of size 2"),
        ({"sampling_count": np.zeros(3, int)}, r"row 0 \(trec\): 'sampling_count' is 0"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, changes, told):
    path = archive(tmp_path / "cc.npz", ROWS, **changes)
    with pytest.raises(RequestError, match=told) as caught:
        convert([path], **TOY)
    assert str(caught.value).startswith(f"{path}: ")


def test_another_file_in_the_place_is_kept(tmp_path):
    path = save(tmp_path / "cc_trec_2.npy", entries())
    for _ in range(2):  # the same again is no harm
        convert([path], **TOY, folder=tmp_path)
    before = (tmp_path / "values.json").read_bytes()
    with pytest.raises(RequestError, match=r"values\.json exists and holds something else; choose another folder"):
        convert([save(path, entries(3))], **TOY, folder=tmp_path)
    assert (tmp_path / "values.json").read_bytes() == before


HEADS = {f"{layer}-{head}": [0.5 * layer, head, 0.25] for layer in range(2) for head in range(6)}


def test_headkv_scores_as_json_and_as_archive(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(HEADS))
    samples = np.array(list(HEADS.values())).reshape(2, 6, 3)
    np.savez(tmp_path / "scores_too.npz", samples=samples, mean=samples.mean(-1))
    result = convert([path, tmp_path / "scores_too.npz"], **TOY, folder=tmp_path / "out")
    assert [file.name for file, _ in result.files] == ["scores.head_scores.json", "scores_too.head_scores.json"]
    for file, _ in result.files:
        scores = HeadScores.load(file)
        np.testing.assert_array_equal(scores.scores, samples.mean(-1))
        assert scores.model == {**TOY_MODEL, "heads": 6}
        assert (scores.tasks, scores.examples) == ((), ())
        assert "(sha256 " in scores.source
        assert scores.budgets(64, window=8, beta=1.01).sum() == 64 * 6
    with pytest.raises(RequestError, match="leave out --task"):
        convert([path], task="trec", **TOY)


TOY_MODEL = {"id": "toy", "layers": 2, "kv_heads": 3, "head_dim": 4, "weights": None}


def test_the_layout_of_head_scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "Meta-Llama-3-8B-Instruct_retrieval_reasoning_heads.json"
    path.write_text(json.dumps({f"{layer}-{head}": [0.1] for layer in range(32) for head in range(32)}))
    ((file, scores),) = convert([path]).files
    assert str(file) == f"profiles/Meta-Llama-3-8B-Instruct/{path.stem}.head_scores.json"
    shape = {"layers": 32, "kv_heads": 8, "head_dim": 128, "heads": 32}
    assert scores.model == {"id": LLAMA, **shape, "weights": None}
    own = convert([path], model="a/b", layout=Layout(kv_heads=32, head_dim=64)).files[0][1]
    assert (own.model["kv_heads"], own.model["head_dim"]) == (32, 64)
    with pytest.raises(RequestError, match="32 layers x 32 query heads, which do not fit 32 layers and 5 KV heads"):
        convert([path], layout=Layout(kv_heads=5))
    with pytest.raises(RequestError, match="do not fit 31 layers"):
        convert([path], layout=Layout(layers=31))
    path.write_text(json.dumps(HEADS))
    with pytest.raises(RequestError, match="2 layers x 6 query heads are of no known model"):
        convert([path])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not JSON"),
        ('{"a": ' * 100_000, "not JSON"),
        ("{}", "no head scores"),
        ('{"0-0": [NaN]}', "not JSON"),
        ('{"head 3": [1]}', "'head 3' names no head"),
        ('{"kind": "head-scores"}', "'kind' names no head"),
        ('{"00-0": [1]}', "'00-0' names no head"),
        ('{"0-999999999": [1]}', "names no head"),
        ('{"9999-9999": [1]}', "has 1 heads; expected 10000 layers x 10000 query heads"),
        ('{"0-0": []}', "Head 0-0 has '\\[\\]'; expected a list of scores"),
        ('{"0-0": 1}', "expected a list of scores"),
        ('{"0-0": [true]}', "expected a list of scores"),
        ('{"0-0": [null]}', "expected a list of scores"),
        ('{"0-0": [1e999]}', "expected finite numbers"),
        (f'{{"0-0": [1{"0" * 400}]}}', "expected finite numbers"),
        ("[1]", "none of the published kinds"),
        ("", "none of the published kinds"),
        ("\x80\x04N.", "none of the published kinds"),
    ],
)
def test_other_json_has_its_sentence(tmp_path, content, told):
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(RequestError, match=told) as caught:
        convert([path], **TOY)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"samples": np.zeros((2, 6, 3))}, "It lacks mean"),
        ({"samples": np.zeros((2, 6)), "mean": np.zeros((2, 6))}, r"expected floats \[layers, heads, samples\]"),
        ({"samples": np.zeros((2, 6, 3)), "mean": np.zeros((6, 2))}, "expected floats"),
        ({"samples": np.zeros((2, 6, 3)), "mean": np.ones((2, 6))}, "'mean' is not the mean of 'samples'"),
    ],
)
def test_score_archives_that_do_not_fit(tmp_path, arrays, told):
    np.savez(tmp_path / "scores.npz", **arrays)
    with pytest.raises(RequestError, match=told):
        convert([tmp_path / "scores.npz"], **TOY)


def test_files_that_cannot_be_read(tmp_path):
    for path, told in ((tmp_path / "none.npy", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(RequestError, match=f"Cannot read .*{told}"):
            convert([path])


def test_a_stream_without_an_end_is_not_read_to_it():
    with pytest.raises(RequestError, match="is longer than"):
        convert([Path("/dev/zero")])


def test_an_archive_with_a_string_that_is_no_text(tmp_path):
    path = archive(tmp_path / "cc.npz", ROWS, dataset=np.array([0xFFFFFF] * 3, np.uint32).view("U1"))
    with pytest.raises(RequestError, match=r"'dataset\.npy' holds strings beyond Unicode"):
        convert([path], **TOY)


def test_an_archive_that_is_none(tmp_path):
    path = tmp_path / "cc.npz"
    for content in (b"PK\x03\x04", archive(path, ROWS).read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=r"damaged \.npz archive"):
            convert([path], **TOY)


def test_files_from_before_imports_are_read(tmp_path):
    assert HeadValues.load(embedded.values_path()).source == {}
    convert([save(tmp_path / "cc_trec_2.npy", entries())], **TOY, folder=tmp_path)
    path = tmp_path / "values.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"source": 3}))
    with pytest.raises(RequestError, match="'source' is 3; expected an object"):
        HeadValues.load(path)
    del data["source"]
    path.write_text(json.dumps(data))
    assert HeadValues.load(path).source == {}
