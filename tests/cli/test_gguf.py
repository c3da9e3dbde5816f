"""The command line with nothing but a GGUF file."""

from pathlib import Path

import pytest

from tests.models.gguf_files import plain, write

NEEDLES = ("--tasks", "needle", "--lengths", "500", "--examples", "2", "--method", "full,snapkv", "--budget", "16")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    return write(plain("qwen2", folder / "plain", max_position_embeddings=2048), folder / "tiny-F32.gguf")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COKV_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_is_all_that_a_run_needs(cli, file: Path, cache: Path) -> None:
    status, _, err = cli("eval", "--model", file, *NEEDLES)
    assert status == 0, err
    assert f"is converted once, into 0.0 GiB in {cache}/gguf" in " ".join(err.split())
    assert [path.name.rsplit("-", 1)[0] for path in Path("results").iterdir()] == ["tiny-F32"]
    # The same command resumes the run, and says no more of a conversion.
    status, _, err = cli("eval", "--model", file, *NEEDLES)
    assert status == 0
    assert "converted" not in err


def test_a_damaged_file_is_one_sentence(cli, file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-5000])
    status, out, err = cli("eval", "--model", cut, *NEEDLES)
    assert status == 2
    assert out == ""
    assert "is cut short" in err
    assert len(err.splitlines()[-1]) <= 400 + len("Error: ")
    assert "Traceback" not in err
