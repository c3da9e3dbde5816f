"""A tiny Llama as a checkpoint and as a GGUF file, and a cache of its own for each test."""

from pathlib import Path

import pytest

from tests.models.gguf_files import plain, write


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COKV_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in transformers' format."""
    return plain("llama", tmp_path_factory.mktemp("gguf") / "llama")


@pytest.fixture(scope="module")
def file(llama: Path) -> Path:
    """Its GGUF file."""
    return write(llama, llama.parent / "tiny-llama.gguf")
