"""Prefilled prompts by number: made once, kept in memory up to a limit and in a file beyond it."""

import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cokv_bench.errors import RequestError
from cokv_bench.kvcache.prompt import Prompt


@dataclass(frozen=True)
class OnDisk:
    """A prompt whose keys and values are mapped from a file, and the device that uses each layer."""

    prompt: Prompt
    devices: list[torch.device]


class PromptStore:
    """The prompts of a game. Each is prefilled when it is first asked for, and never again.

    Keys and values that exceed the limit lie in a file without a name, mapped into memory: the system keeps of it
    what fits and reads the rest when it is needed, and nothing is left behind however the process ends. On a CPU they
    are used in place; for another device the last such prompt is copied there. What other layers hold stays in memory.

    Args:
        make: prefills the prompt of a number, or knows a file that has it.
        limit: bytes of keys and values that stay in memory.
        folder: where the file is made; default the system's temporary folder.
    """

    def __init__(self, make: Callable[[int], Prompt | OnDisk], *, limit: int, folder: Path | None = None) -> None:
        self._make, self._limit, self._folder = make, limit, folder
        self._prompts: dict[int, Prompt] = {}
        self._held = 0
        self._spilled: dict[int, OnDisk] = {}
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
        if number not in self._prompts and number not in self._spilled:
            self._keep(number, self._make(number))
        if number in self._prompts:
            return self._prompts[number]
        there = self._spilled[number]
        if all(device.type == "cpu" for device in there.devices):
            return there.prompt
        if self._near is None or self._near[0] != number:
            self._near = None  # Frees the device's memory before the next prompt needs it.
            self._near = number, _placed(there)
        return self._near[1]

    def kept(self, number: int) -> Prompt:
        """A prompt that has been asked for, where it is kept: keys and values of one in the file lie on the CPU."""
        return self._prompts[number] if number in self._prompts else self._spilled[number].prompt

    def _keep(self, number: int, made: Prompt | OnDisk) -> None:
        if isinstance(made, OnDisk):
            self._spilled[number] = made
        elif self._held + made.nbytes + made.others.nbytes <= self._limit:
            self._held += made.nbytes + made.others.nbytes
            self._prompts[number] = made
        else:
            self._spilled[number] = _spill(made, self._folder)


def _placed(there: OnDisk) -> Prompt:
    """The prompt with each layer on its device; what scorers have remembered of it stays the same object."""
    return replace(
        there.prompt,
        keys=[part.to(device) for part, device in zip(there.prompt.keys, there.devices, strict=True)],
        values=[part.to(device) for part, device in zip(there.prompt.values, there.devices, strict=True)],
    )


def _spill(prompt: Prompt, folder: Path | None) -> OnDisk:
    """The prompt with its keys and values in a file without a name."""
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

    devices = [keys.device for keys in prompt.keys]
    moved = replace(prompt, keys=[move(part) for part in prompt.keys], values=[move(part) for part in prompt.values])
    return OnDisk(moved, devices)
