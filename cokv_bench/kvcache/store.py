"""Prefilled prompts by number: made once, kept in memory up to a limit and in a file beyond it."""

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.prompt import Prompt


class PromptStore:
    """The prompts of a game. Each is prefilled when it is first asked for, and never again.

    Keys and values that exceed the limit lie in a file without a name, mapped into memory: the system keeps of it
    what fits and reads the rest when it is needed, and nothing is left behind however the process ends. On a CPU they
    are used in place; for another device the last such prompt is copied there.

    Args:
        make: prefills the prompt of a number.
        limit: bytes of keys and values that stay in memory.
        folder: where the file is made; default the system's temporary folder.
    """

    def __init__(self, make: Callable[[int], Prompt], *, limit: int, folder: Path | None = None) -> None:
        self._make, self._limit, self._folder = make, limit, folder
        self._prompts: dict[int, Prompt] = {}
        self._held = 0
        self._spilled: dict[int, list[torch.device]] = {}
        self._near: tuple[int, Prompt] | None = None

    @property
    def spilled(self) -> int:
        """Number of prompts in the file."""
        return len(self._spilled)

    def get(self, number: int) -> Prompt:
        """The prompt of a number.

        Raises:
            RequestError: prefill refuses it, or the disk has no room for it.
        """
        if number not in self._prompts:
            self._keep(number, self._make(number))
        prompt = self._prompts[number]
        devices = self._spilled.get(number)
        if devices is None or all(device.type == "cpu" for device in devices):
            return prompt
        if self._near is None or self._near[0] != number:
            self._near = None  # Frees the device's memory before the next prompt needs it.
            self._near = number, _placed(prompt, devices)
        return self._near[1]

    def _keep(self, number: int, prompt: Prompt) -> None:
        if self._held + prompt.nbytes <= self._limit:
            self._held += prompt.nbytes
        else:
            self._spilled[number] = [keys.device for keys in prompt.keys]
            prompt = _spill(prompt, self._folder)
        self._prompts[number] = prompt


def _placed(prompt: Prompt, devices: list[torch.device]) -> Prompt:
    """The prompt with each layer on its device; what scorers have remembered of it stays the same object."""
    return replace(
        prompt,
        keys=[part.to(device) for part, device in zip(prompt.keys, devices, strict=True)],
        values=[part.to(device) for part, device in zip(prompt.values, devices, strict=True)],
    )


def _spill(prompt: Prompt, folder: Path | None) -> Prompt:
    """The prompt with its keys and values in a file."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            # A mapped file that the disk has no room for would end the process at the first write to it.
            os.posix_fallocate(stream.fileno(), 0, prompt.nbytes)
            mapped = mmap.mmap(stream.fileno(), prompt.nbytes)
    except OSError as error:
        raise RequestError(
            f"The disk has no room for a prompt of {prompt.nbytes / 2**20:.0f} MiB ({error.strerror}); "
            "allow more memory, or use fewer or shorter examples."
        ) from None
    offset = 0

    def move(part: Tensor) -> Tensor:
        nonlocal offset
        target = torch.frombuffer(mapped, dtype=part.dtype, count=part.numel(), offset=offset).view(part.shape)
        target.copy_(part)
        offset += part.nbytes
        return target

    return replace(prompt, keys=[move(part) for part in prompt.keys], values=[move(part) for part in prompt.values])
