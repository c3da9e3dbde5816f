"""Loading a causal language model: embedded, from a folder, or from the hub."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cokv_bench.errors import RequestError, unknown
from cokv_bench.models import embedded
from cokv_bench.models.attention import IMPLEMENTATION
from cokv_bench.models.greedy import make_greedy
from cokv_bench.models.model import Model
from cokv_bench.models.support import check_supported

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


def load_model(
    name: str = "smollm2-135m",
    *,
    revision: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    trust_remote_code: bool = False,
    **options: Any,
) -> Model:
    """Load a decoder and its tokenizer, ready for `prefill`.

    Its network decodes greedily, without penalties that the checkpoint's generation config asks for; see
    `Model.ignored_generation_settings`.

    Args:
        name: an embedded name ("smollm2-135m"), a folder in transformers' format, or a hub id ("owner/name").
        revision: branch, tag or commit of a hub model.
        dtype: "float32", "bfloat16", "auto" or a torch dtype; default float32 on the CPU, the checkpoint's elsewhere.
        device: "cpu", "cuda", "cuda:1"; default CUDA where there is one.
        device_map: passed to transformers instead of `device` (several devices, offloading).
        trust_remote_code: run code that a model brings along; off unless asked for.
        **options: passed to `from_pretrained`, such as `quantization_config`.

    Raises:
        RequestError: no such model, an architecture or layer type that is not supported, or weights that are not
            safetensors (pickled weights are never loaded).
    """
    source = _source(name)
    shared: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if revision is not None:
        shared["revision"] = revision
    try:
        config = AutoConfig.from_pretrained(source, **shared)
    except (OSError, ValueError) as error:
        raise RequestError(f"Model '{name}' cannot be read: {_first_sentence(error)}") from error
    check_supported(config, name)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype is None:
        dtype = torch.float32 if device_map is None and torch.device(place).type == "cpu" else "auto"
    try:
        network = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype,
            device_map=device_map,
            attn_implementation=IMPLEMENTATION,
            use_safetensors=True,
            **shared,
            **options,
        )
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"The weights of '{name}' cannot be loaded: {_first_sentence(error)}") from error
    if device_map is None and "quantization_config" not in options:
        network = network.to(place)
    # Nobody trains the weights; a search differentiates by budgets alone.
    return Model(name, network.eval().requires_grad_(False), _tokenizer(source, shared), make_greedy(network))


def _source(name: str) -> str:
    if name in embedded.NAMES:
        return str(embedded.embedded_folder())
    if Path(name).is_dir():
        return name
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise RequestError(f"There is no model folder '{name}'.")
    if "/" not in name:
        raise unknown("model", name, embedded.NAMES)
    return name


def _tokenizer(source: str, shared: dict[str, Any]) -> Any | None:
    # For a folder without tokenizer files transformers makes up an empty one from the architecture alone.
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, **shared)
    except (OSError, ValueError, ImportError) as error:
        raise RequestError(f"The tokenizer of '{source}' cannot be loaded: {_first_sentence(error)}") from error


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:240].rsplit(" ", 1)[0] + " ..."
