"""Folders that are written whole or not at all."""

import os
from pathlib import Path
from typing import Any

import pytest

from cokv_bench.errors import RequestError
from cokv_bench.files import write_folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_replaces_an_earlier_one(tmp_path: Path) -> None:
    first, second = {"a/b.txt": b"1", "c.txt": b"2"}, {"a/b.txt": b"3", "c.txt": b"4", "d.txt": b"5"}
    for files in (first, second):
        write_folder(tmp_path / "new" / "out", files)
        assert content(tmp_path) == {f"new/out/{name}": text for name, text in files.items()}
    # One of its files is not written any more, so it may be somebody else's.
    with pytest.raises(RequestError, match=r"holds 'd.txt', which is not written here; name another folder with --out"):
        write_folder(tmp_path / "new" / "out", first)
    assert content(tmp_path / "new" / "out") == second


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_crash_leaves_the_earlier_folder_or_the_new_one(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, later = {"a": b"1", "b": b"2"}, {"a": b"3", "b": b"4"}
    write_folder(tmp_path / "out", earlier)
    replace, calls = os.replace, [0]

    def failing(source: Any, target: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise OSError(28, "No space left on device")
        replace(source, target)

    # Two files, the earlier folder out of the way, the new one in its place.
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(RequestError, match="No space left on device"):
        write_folder(tmp_path / "out", later)
    assert content(tmp_path) == {f"out/{name}": text for name, text in earlier.items()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
