"""Prompts of a search that stay on the disk, so that the next search on the same examples begins at once."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.files import make_folder
from cokv_bench.kvcache import Prompt
from cokv_bench.kvcache.check import verify
from cokv_bench.kvcache.store import OnDisk
from cokv_bench.models import Model


@dataclass(frozen=True)
class Ranked:
    """A prompt in the order of a ranking.

    Attributes:
        order: name of that ranking.
        answers: int64 ids of each, one a utility.
        orders: those of other rankings by name, see `relative_order`.
    """

    prompt: Prompt
    order: str
    answers: Sequence[Tensor]
    orders: Mapping[str, Tensor]


class KeptPrompts:
    """A folder with a safetensors file a prompt, named by what it was made from.

    Keys and values are mapped into memory: the system keeps of them what fits, and several searches at a time share it.

    Args:
        settings: all that prompts of the same text would differ by, JSON.

    Raises:
        RequestError: the folder cannot be made, the model has layers whose state no file keeps, or it does not pass the
            check.
    """

    def __init__(self, folder: Path, model: Model, settings: Mapping[str, Any]) -> None:
        if model.hybrid:
            raise RequestError(
                f"'{model.name}' has layers that slide or keep a state, and what they hold of a prompt is not kept in "
                "files; search without --prompts."
            )
        # Prompts that are found are never prefilled, and it is prefill that decides how a model is run.
        verify(model)
        make_folder(folder)
        self._folder, self._model = folder, model
        self._settings = {
            **settings,
            "made_by": version("cokv-bench"),
            "model": model.fingerprint,
            "dtype": str(model.network.dtype),
        }

    def find(self, text: Mapping[str, Any], orders: Sequence[str]) -> tuple[OnDisk, Ranked] | None:
        """The prompt of a text, if it is there with these orders, in whichever of them.

        Raises:
            RequestError: its file is damaged.
        """
        path = self._path(text)
        if not path.exists():
            return None
        found = self._read(path)
        if not set(orders) <= {found.order, *found.orders}:
            return None
        layers = self._model.decoder.layers
        devices = [next(layer.parameters()).device for layer in layers]
        return OnDisk(found.prompt, devices), found

    def write(self, text: Mapping[str, Any], ranked: Ranked) -> None:
        """Keep the prompt of a text; where it is there in the same order, orders of other rankings stay.

        Raises:
            RequestError: the disk does not take it.
        """
        path, prompt = self._path(text), ranked.prompt
        there = self._read(path) if path.exists() else None
        earlier = there.orders if there is not None and there.order == ranked.order else {}
        parts = {"keys": prompt.keys, "values": prompt.values, "queries": prompt.window_queries}
        tensors = {f"{name}.{layer}": part for name, layers in parts.items() for layer, part in enumerate(layers)}
        tensors |= {f"answer.{place}": ids for place, ids in enumerate(ranked.answers)}
        tensors |= {f"order.{name}": order for name, order in {**earlier, **ranked.orders}.items()}
        tensors |= {f"sinks.{layer}": part for layer, part in enumerate(prompt.sink_logits or ())}
        tensors |= {"token_ids": prompt.token_ids, "logits": prompt.logits}
        told = {
            "order": ranked.order,
            "window": prompt.window,
            "scaling": prompt.scaling,
            "softcap": prompt.softcap,
            "question": prompt.question,
            "room": prompt.room,
            "read_again_after": prompt.read_again_after,
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            # Cloned, for tensors that share their memory are refused.
            save_file(
                {name: part.cpu().contiguous().clone() for name, part in tensors.items()},
                temporary,
                metadata={"prompt": json.dumps(told)},
            )
            os.replace(temporary, path)
        except (SafetensorError, OSError) as error:
            raise RequestError(
                f"{path} cannot be written ({error}); name a folder on a larger disk, or search without --prompts."
            ) from None
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, text: Mapping[str, Any]) -> Path:
        key = json.dumps([self._settings, text], sort_keys=True, ensure_ascii=False)
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def _read(self, path: Path) -> Ranked:
        try:
            with safe_open(path, framework="pt") as file, torch.inference_mode(False):
                told = json.loads(file.metadata()["prompt"])
                names = list(file.keys())
                tensors = {name: file.get_tensor(name) for name in names}
            layers = sum(name.startswith("keys.") for name in names)
            keys, values, queries = (
                [tensors[f"{name}.{layer}"] for layer in range(layers)] for name in ("keys", "values", "queries")
            )
            prompt = Prompt(
                token_ids=tensors["token_ids"],
                window=told["window"],
                keys=keys,
                values=values,
                window_queries=queries,
                accumulated_attention=None,
                logits=tensors["logits"],
                scaling=told["scaling"],
                softcap=told.get("softcap"),
                sink_logits=[tensors[f"sinks.{layer}"] for layer in range(layers) if f"sinks.{layer}" in tensors]
                or None,
                model=self._model,
                question=tuple(told["question"]),
                room=told["room"],
                read_again_after=told["read_again_after"],
            )
            order = str(told["order"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            raise RequestError(f"{path} is not a prompt of a search, or it is damaged; delete it.") from None
        answers = [tensors[f"answer.{place}"] for place in range(sum(name.startswith("answer.") for name in names))]
        orders = {name.removeprefix("order."): part for name, part in tensors.items() if name.startswith("order.")}
        return Ranked(prompt, order, answers, orders)
