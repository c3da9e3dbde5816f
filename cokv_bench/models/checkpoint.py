"""The files that a model's weights come from: which they are, what is wrong with them, a sample of what they hold."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import cached_file

#: Options of `from_pretrained` that say where files lie and how they are had.
WHERE = ("subfolder", "cache_dir", "token", "local_files_only", "force_download", "proxies")
_SAMPLE = 8
_POINTER = b"version https://git-lfs"


def checkpoint_files(source: str, options: Mapping[str, Any]) -> tuple[Path, ...]:
    """The safetensors files of a folder or of a hub model that is in the cache; none where they cannot be told.

    Args:
        options: those of `from_pretrained` that say where files lie (revision, subfolder, variant, cache_dir).
    """
    where = {key: options[key] for key in ("revision", "subfolder", "cache_dir") if options.get(key) is not None}

    def find(name: str) -> Path | None:
        try:
            # Whoever asks has just loaded the model, so what it needs is here.
            found = cached_file(source, name, local_files_only=True, **where)
        except OSError:
            return None
        return None if found is None else Path(found)

    stem = f"model.{options['variant']}" if options.get("variant") else "model"
    whole = find("model.safetensors" if stem == "model" else f"{stem}.safetensors")
    if whole is not None:
        return (whole,)
    suffix = stem.removeprefix("model")
    index = find(f"model.safetensors.index{suffix}.json")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())) if index else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    return tuple(found for found in map(find, names) if found is not None)


def damage(files: Sequence[Path]) -> str | None:
    """What is wrong with the first file that is no safetensors file, as the end of a sentence; None where all are."""
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError):
            try:
                with path.open("rb") as file:
                    pointer = file.read(len(_POINTER)) == _POINTER
            except OSError as error:
                return f"{path.name} cannot be read ({error.strerror})"
            if pointer:
                return f"{path.name} is a Git LFS pointer, not the weights; run `git lfs pull` or download it again"
            return f"{path.name} is damaged or cut short; download it again"
    return None


def weights_hash(network: Any, files: Sequence[Path]) -> str:
    """16 hex digits of a network's tensors: of their names, and of the first values of each as float32.

    The values are those of the checkpoint's files, so that it is one model in whatever dtype it is loaded. A tensor
    that the files do not have under its name or that of one it is tied to, or that quantisation has packed, counts
    with the network's own values.
    """
    state: dict[str, Tensor] = network.state_dict()
    tied: dict[tuple[int, torch.Size], list[str]] = defaultdict(list)
    for name, tensor in state.items():
        tied[_pointer(tensor), tensor.shape].append(name)
    # A decoder that was saved without its output head has names without the prefix that it has beneath one.
    prefix = f"{network.base_model_prefix}."
    digest = hashlib.sha256()
    with ExitStack() as stack:
        stored: dict[str, Any] = {}
        for path in files:
            file = stack.enter_context(safe_open(path, framework="pt"))
            stored.update(dict.fromkeys(file.keys(), file))
        for name, tensor in state.items():
            names = [name, *tied[_pointer(tensor), tensor.shape]] if _pointer(tensor) else [name]
            candidates = [key for each in names for key in (each, each.removeprefix(prefix)) if key in stored]
            values = _first(stored[candidates[0]], candidates[0], tensor) if candidates else None
            values = tensor.flatten()[:_SAMPLE].cpu() if values is None else values
            digest.update(name.encode())
            digest.update(values.to(torch.float32).numpy().tobytes())
    return digest.hexdigest()[:16]


def _pointer(tensor: Tensor) -> int:
    """Where a tensor lies; 0 where it lies nowhere (offloaded) or its class does not tell (quantised)."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def _first(file: Any, name: str, tensor: Tensor) -> Tensor | None:
    """The first values of a tensor in a file, None where it is not the one that the network has made its own of."""
    stored = file.get_slice(name)
    shape = stored.get_shape()
    if not tensor.is_floating_point() or list(tensor.shape) != shape:
        return None
    if not shape:
        return file.get_tensor(name).flatten()
    # As few rows as have the sample; the rest of the file is not read.
    rows = math.ceil(_SAMPLE / max(1, math.prod(shape[1:])))
    values: Tensor = stored[:rows]
    return values.flatten()[:_SAMPLE]
