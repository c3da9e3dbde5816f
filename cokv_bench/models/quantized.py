"""Quantised checkpoints: which kind one is, and what is missing to load it."""

from typing import Any

from cokv_bench.errors import RequestError, brief

# Packages that pip knows by another name than Python.
_PACKAGES = {"flute": "flute-kernel", "fbgemm_gpu": "fbgemm-gpu", "quark": "amd-quark"}


def quantization_of(config: Any, name: str) -> str | None:
    """The kind of quantisation that a checkpoint's config names, such as "gptq"; None for plain weights.

    Args:
        name: the model's, for errors.

    Raises:
        RequestError: a kind that transformers does not know. It would load the packed numbers as plain weights.
    """
    from transformers.quantizers import AutoHfQuantizer

    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    settings = settings if isinstance(settings, dict) else settings.to_dict()
    kind = settings.get("quant_method")
    # bitsandbytes is told by other settings as well.
    loads_in_bits = settings.get("load_in_4bit") or settings.get("load_in_8bit")
    if not loads_in_bits and (kind is None or not AutoHfQuantizer.supports_quant_method(settings)):
        how = "in a way that it does not name" if kind is None else f"as '{kind}'"
        raise RequestError(
            f"Model '{name}' is quantised {how} (quantization_config and quant_method in config.json), and the "
            "installed transformers cannot load that; upgrade transformers, or use a checkpoint in another format."
        )
    return "bitsandbytes" if kind is None else str(kind)


def lacking(kind: str | None, error: BaseException) -> str | None:
    """Which library a quantised checkpoint lacks, as the end of a sentence; None where another thing is wrong."""
    if kind is None or not isinstance(error, ImportError):
        return None
    told = brief(error)
    if isinstance(error, ModuleNotFoundError) and error.name and "pip install" not in told:
        package = error.name.split(".")[0]
        told = f"{told}; run: pip install {_PACKAGES.get(package, package)}"
    return f"they are quantised as '{kind}', which needs what is not installed here: {told}"
