"""Where GGUF files lie: folders, the hub, and the cache that they are converted into once."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cokv_bench.errors import Notice, RequestError
from cokv_bench.models.conversion import convert_once
from cokv_bench.models.gguf import convert as conversion
from cokv_bench.models.gguf.header import read_header
from tests.models.gguf_files import load, refusal, write

pytestmark = pytest.mark.filterwarnings("ignore::cokv_bench.errors.Notice")


def test_a_folder_with_one_file_and_one_with_two(tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(file, folder / "tiny-Q8_0.gguf")
    (folder / "mmproj-tiny.gguf").write_bytes(b"the image encoder")
    assert load(folder).folder_name == "folder"
    shutil.copy(file, folder / "tiny-F16.gguf")
    found = refusal(folder)
    assert "holds 2 GGUF files (tiny-F16.gguf, tiny-Q8_0.gguf)" in found
    assert f"'{folder}/tiny-F16.gguf'" in found
    assert load(folder / "tiny-Q8_0.gguf").folder_name == "tiny-Q8_0"


def test_a_folder_of_a_split_model(tmp_path: Path, llama: Path) -> None:
    for part in (1, 2):
        settings = {"split.count": 2, "split.no": part - 1}
        write(llama, tmp_path / "parts" / f"tiny-0000{part}-of-00002.gguf", settings=settings)
    assert "is one of 2 parts" in refusal(tmp_path / "parts")


def test_weights_in_safetensors_come_before_a_file_beside_them(tmp_path: Path, llama: Path) -> None:
    folder = shutil.copytree(llama, tmp_path / "both")
    (folder / "tiny.gguf").write_bytes(b"not looked at")
    assert load(folder).files == (folder / "model.safetensors",)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in (
        tmp_path / "none.gguf",
        "none.gguf",
        "./none.gguf",
        "~/none.gguf",
        "/no/such/none.gguf",
        "a/none.gguf",
    ):
        assert f"There is no file '{name}'." in refusal(name)
    assert "cannot be had from the hub" in refusal("nobody/nothing/none.gguf")


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 2000, "no\0name", "~nobody-of-that-name/model.gguf"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(RequestError) as error:
        load(name)
    assert len(str(error.value)) <= 400


def test_a_cache_that_is_only_read(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load(file).fingerprint["weights"]
    (known,) = (cache / "gguf").glob("known-*")
    known.unlink()

    def refuse(*_: object) -> None:
        raise RequestError("It cannot be written.")

    monkeypatch.setattr(conversion, "write_text", refuse)
    assert load(file).fingerprint["weights"] == weights


def test_hub_repositories_without_a_hub(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was downloaded loads by its repository's name, with a network or without."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--someone--tiny-GGUF"
    for commit in ("0" * 40, "1" * 40):
        (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "refs" / "both").write_text("1" * 40)
    shutil.copy(file, repository / "snapshots" / ("0" * 40) / "tiny-Q8_0.gguf")
    for name in ("tiny-Q8_0.gguf", "tiny-F16.gguf"):
        shutil.copy(file, repository / "snapshots" / ("1" * 40) / name)
    only = load("someone/tiny-GGUF")
    assert only.folder_name == "tiny-GGUF"
    named = load("someone/tiny-GGUF/tiny-F16.gguf", revision="both")
    assert named.fingerprint["weights"] == only.fingerprint["weights"]
    assert "'someone/tiny-GGUF/tiny-F16.gguf'" in refusal("someone/tiny-GGUF", revision="both")
    assert "no file 'someone/tiny-GGUF/tiny-F16.gguf'" in refusal("someone/tiny-GGUF/tiny-F16.gguf")


def test_a_file_is_converted_and_read_through_once(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Path] = []
    real = conversion.convert
    monkeypatch.setattr(conversion, "convert", lambda path, *rest: done.append(path) or real(path, *rest))
    first = load(file)
    assert len(done) == 1
    copy = shutil.copy(file, tmp_path / "renamed.gguf")
    assert load(copy).fingerprint["weights"] == first.fingerprint["weights"]
    assert len(done) == 1
    monkeypatch.setattr(conversion, "file_sha256", lambda path: pytest.fail("the whole file was read again"))
    load(file)
    assert len(done) == 1


def test_a_file_that_has_changed_is_converted_again(tmp_path: Path, llama: Path, cache: Path) -> None:
    path = write(llama, tmp_path / "tiny.gguf")
    first = load(path)
    content = bytearray(path.read_bytes())
    # In place and of the same length, as tools that edit a file's metadata do it.
    tensor = read_header(path, "tiny").tensors["blk.1.ffn_up.weight"]
    content[tensor.start : tensor.start + 4] = np.float32(0.5).tobytes()
    path.write_bytes(content)
    assert load(path).fingerprint["weights"] != first.fingerprint["weights"]
    assert len(list((cache / "gguf").glob("tiny-*"))) == 2


def test_the_disk_that_it_takes_is_said_before_it_is_taken(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(Notice, match=r"converted once, into 0\.0 GiB"):
        load(file)
    shutil.rmtree(cache)
    usage = shutil.disk_usage(file)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    found = refusal(file)
    assert "takes 0.0 GiB" in found
    assert "COKV_BENCH_CACHE" in found
    assert not [path for path in (cache / "gguf").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written(file: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert "cannot be written" in refusal(file)


def test_without_the_library(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "find_spec", lambda name: None)
    assert "run: pip install gguf" in refusal(file)


def fill(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        convert_once(tmp_path / "cache" / "model", fail)
    assert list((tmp_path / "cache").iterdir()) == []
    convert_once(tmp_path / "cache" / "model", fill)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model"]


_WORKER = """
import os, sys, time
from pathlib import Path
from cokv_bench.models.conversion import convert_once

target, death = Path(sys.argv[1]), sys.argv[2]

def convert(folder):
    with open(target.parent.parent / "log", "a") as log:
        log.write("converted\\n")
    (folder / "weights").write_text("half")
    if death == "dies":
        os.kill(os.getpid(), 9)
    time.sleep(0.5)
    (folder / "config.json").write_text("{}")

assert (convert_once(target, convert) / "weights").is_file()
"""


def test_of_several_processes_one_converts_and_the_others_find_it(tmp_path: Path) -> None:
    def worker(death: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", _WORKER, str(tmp_path / "cache" / "model"), death])

    assert worker("dies").wait() == -9
    assert [path.name[:8] for path in (tmp_path / "cache").iterdir()] == ["convert-"]
    workers = [worker("lives") for _ in range(3)]
    assert [each.wait() for each in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text().count("converted") == 2
    # What the killed one left is gone as well.
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["model"]
