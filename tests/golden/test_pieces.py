"""The pieces in data/ are small, and they are what the whole collection has."""

import json
from pathlib import Path

import numpy as np

from tests.golden.pieces import load, write
from tests.golden.places import PIECES, SHARED, whole

LIMIT = 100_000


def files_of(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_they_are_small_and_hold_no_code() -> None:
    files = files_of(PIECES)
    assert sum(path.stat().st_size for path in files.values()) < LIMIT
    assert {path.suffix for path in files.values()} == {".md", ".json", ".npz"}


def test_every_case_names_its_source() -> None:
    readme = (PIECES / "README.md").read_text(encoding="utf-8")
    for case in json.loads((PIECES / "policies" / "index.json").read_text())["cases"]:
        assert case["source"]["repo"] in readme
        assert case["source"]["commit"] in readme
        assert (PIECES / "policies" / case["file"]).is_file()


@whole("policies")
def test_they_are_pieces_of_the_whole(tmp_path: Path) -> None:
    write(SHARED, tmp_path)
    there, again = files_of(PIECES), files_of(tmp_path)
    assert set(there) - {"README.md"} == set(again)
    for name, path in again.items():
        if path.suffix == ".json":
            assert json.loads(there[name].read_text(encoding="utf-8")) == json.loads(path.read_text(encoding="utf-8"))
            continue
        ours, theirs = load(there[name]), load(path)
        assert ours.keys() == theirs.keys()
        for key, array in theirs.items():
            np.testing.assert_array_equal(ours[key], array, strict=True)
