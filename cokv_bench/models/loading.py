"""Loading a causal language model: embedded, from a folder, from a GGUF file, or from the hub."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cokv_bench.errors import RequestError, brief, unknown
from cokv_bench.files import at_home
from cokv_bench.models import embedded
from cokv_bench.models.attention import IMPLEMENTATION
from cokv_bench.models.checkpoint import WHERE, checkpoint_files, damage
from cokv_bench.models.completeness import check_complete
from cokv_bench.models.gguf.convert import converted_folder
from cokv_bench.models.gguf.source import gguf_file
from cokv_bench.models.greedy import make_greedy
from cokv_bench.models.model import Model
from cokv_bench.models.quantized import lacking, quantization_of
from cokv_bench.models.support import check_supported

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
# Characters of a name in a message, from its end: an error stays one sentence that can be read.
_SHOWN = 80


def load_model(
    name: str | Path = "smollm2-135m",
    *,
    revision: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    trust_remote_code: bool = False,
    skip_check: bool = False,
    **options: Any,
) -> Model:
    """Load a decoder and its tokenizer, ready for `prefill`.

    Its network decodes greedily, without penalties that the checkpoint's generation config asks for; see
    `Model.ignored_generation_settings`.

    Args:
        name: an embedded name ("smollm2-135m"), a folder in transformers' format (also "~/..."), a GGUF file, a hub id
            ("owner/name"), or a GGUF file of the hub ("owner/name/FILE.gguf"). Folders and repositories without
            safetensors may hold one GGUF file. It is converted once, which takes 4 bytes of disk per weight.
        revision: branch, tag or commit of a hub model.
        dtype: "float32", "bfloat16", "float16", "auto" or a torch dtype; default float32 on the CPU, the
            checkpoint's elsewhere.
        device: "cpu", "cuda", "cuda:1"; default CUDA where there is one.
        device_map: passed to transformers instead of `device` (several devices, offloading).
        trust_remote_code: run code that a model brings along; off unless asked for.
        skip_check: do not compare the model's logits with plain transformers' before its first prompt; see
            `cokv_bench.kvcache.check`.
        **options: passed to `from_pretrained`, such as `quantization_config`.

    Raises:
        RequestError: no name, no such model, an architecture or layer type that is not supported, a device that is
            not there, a revision of files that are on this machine, weights that are incomplete, damaged or neither
            safetensors nor GGUF (pickled weights are never loaded), a quantisation whose library is not installed,
            several GGUF files to choose from, or whatever else keeps transformers from loading it.
    """
    name = str(name)
    if not name.strip():
        # Not the folder at hand, which an empty path would be: a variable that is not set must not choose a model.
        raise RequestError(
            "The name of the model is empty; name an embedded one, a folder, a GGUF file or a hub id (owner/name)."
        )
    shown = name if len(name) <= _SHOWN else f"...{name[-_SHOWN:]}"
    if revision is not None and (name in embedded.NAMES or at_home(Path(name)).exists()):
        raise RequestError(f"'{shown}' is on this machine and has no revisions; leave the revision out.")
    source = _source(name, shown, revision)
    shared: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if revision is not None:
        shared["revision"] = revision
    # The configuration and the tokenizer lie where the weights do.
    shared.update({name: options[name] for name in WHERE if name in options})
    config = _config(source, shown, shared)
    check_supported(config, shown)
    kind = quantization_of(config, shown)
    if device is not None and device_map is not None:
        raise RequestError("A device map says where every part of the model is; leave the device out, or the map.")
    if "torch_dtype" in options or "attn_implementation" in options:
        raise RequestError("The dtype is given as dtype=, and attention is always the project's own; leave both out.")
    place = _place(device)
    if dtype is None:
        dtype = torch.float32 if device_map is None and place.type == "cpu" else "auto"
    if device_map is None and (kind is not None or "quantization_config" in options):
        # Packed weights are put in place while they are loaded; most libraries cannot move them.
        device_map = {"": place}
    request = {
        "config": config,
        "dtype": _dtype(dtype),
        "device_map": device_map,
        "attn_implementation": IMPLEMENTATION,
        "use_safetensors": True,
        **shared,
        **options,
        # Told by name below; by itself transformers draws them at random.
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    try:
        network, report = AutoModelForCausalLM.from_pretrained(source, **request)
    except Exception as error:  # Each quantisation library and file format has errors of its own.
        reason = damage(checkpoint_files(source, {**shared, **options})) or lacking(kind, error) or brief(error)
        raise RequestError(f"The weights of '{shown}' cannot be loaded: {reason}.") from error
    quantized = getattr(network.config, "quantization_config", None) is not None
    check_complete(shown, network, report, quantized=quantized)
    if device_map is None:
        network = _moved(network, place, shown)
    files = checkpoint_files(source, {**shared, **options})
    # Nobody trains the weights; a search differentiates by budgets alone.
    network = network.eval().requires_grad_(False)
    model = Model(name, network, _tokenizer(source, shown, shared), files, make_greedy(network), skip_check)
    if quantized:
        # Libraries may pack weights in another way on first use, and bitsandbytes spoils them if asked for them then.
        _ = model.fingerprint
    return model


def _source(name: str, shown: str, revision: str | None) -> str:
    if name in embedded.NAMES:
        return str(embedded.embedded_folder())
    file = gguf_file(name, revision)
    if file is not None:
        return str(converted_folder(file, shown))
    folder = at_home(Path(name))
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise RequestError(f"There is no model folder '{name}'.")
    if "/" not in name:
        raise unknown("model", name, embedded.NAMES)
    return name


def _config(source: str, name: str, shared: dict[str, Any]) -> Any:
    try:
        return AutoConfig.from_pretrained(source, **shared)
    except Exception as error:  # A setting of the wrong type meets whichever line reads it first.
        raise RequestError(f"Model '{name}' cannot be read: {brief(error, 240)}.") from error


def _dtype(dtype: str | torch.dtype) -> torch.dtype | Literal["auto"]:
    if dtype == "auto":
        return "auto"
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise RequestError(f"'{dtype}' is not a dtype to compute in; use float32, bfloat16, float16 or auto.")
    return found


def _place(device: str | None) -> torch.device:
    """Where to load to, known to be there before anything is loaded."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return torch.device("cuda" if cuda else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise RequestError(f"'{device}' is not a device; use cpu, cuda or cuda:1.") from None
    there = {"cuda": cuda, "mps": int(torch.backends.mps.is_available())}.get(place.type)
    if there is not None and (place.index or 0) >= there:
        has = f"{there} {place.type} device{'s' if there > 1 else ''}" if there else f"no {place.type} device"
        raise RequestError(
            f"There is no device '{device}': PyTorch finds {has} here; use another, such as --device cpu."
        )
    return place


def _moved(network: Any, place: torch.device, name: str) -> Any:
    try:
        return network.to(place)
    except Exception as error:  # Among them devices that PyTorch knows and this build or machine lacks.
        raise RequestError(
            f"Model '{name}' cannot be moved to device '{place}' ({brief(error)}); use another, such as --device cpu."
        ) from error


def _tokenizer(source: str, name: str, shared: dict[str, Any]) -> Any | None:
    # For a folder without tokenizer files transformers makes up an empty one from the architecture alone.
    folder = Path(source, shared.get("subfolder") or "")
    if folder.is_dir() and not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        return None
    try:
        return AutoTokenizer.from_pretrained(source, **shared)
    except Exception as error:  # tokenizers raises bare exceptions.
        raise RequestError(
            f"The tokenizer of '{name}' cannot be loaded: {brief(error)}; download its tokenizer files again, or "
            "upgrade tokenizers and transformers to what wrote them."
        ) from error
