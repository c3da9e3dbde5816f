"""What is allocated and what the most was: counters of the device's allocator, and of the system on a CPU.

Where a platform does not count, the answer is None, never a guess.
"""

import ctypes
import gc
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# What the kernel documents for /proc/PID/clear_refs: the peak of the resident set starts again from its size now.
_RESET_PEAK = "5"


class _Mallinfo2(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@dataclass(frozen=True)
class Meter:
    """Bytes beyond those that were there when the meter was started.

    Attributes:
        device: whose memory is read.
        allocated_before: bytes allocated at the start; None where they are not counted.
        peak_before: where the peak started from; None where it cannot be started anew.
    """

    device: torch.device
    allocated_before: int | None
    peak_before: int | None

    @classmethod
    def start(cls, device: torch.device) -> "Meter":
        """Free what nobody holds and begin to count on a device."""
        give_back(device)
        return cls(device, allocated(device), _start_peak(device))

    def held(self) -> int | None:
        """Bytes allocated now beyond the start, in tensors and whatever else uses the same allocator."""
        gc.collect()
        return _beyond(allocated(self.device), self.allocated_before)

    def peak(self) -> int | None:
        """The most bytes beyond the start so far: allocated on a GPU, resident on a CPU."""
        return _beyond(_peak(self.device), self.peak_before)


def _beyond(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else max(0, now - before)


def give_back(device: torch.device) -> None:
    """Free what nobody holds; on a CPU its pages go back to the system, so that the resident set is what is used.

    A GPU's counters count tensors, not the blocks that PyTorch keeps for the next ones, so these stay.
    """
    gc.collect()
    libc = _glibc("malloc_trim")
    if device.type == "cpu" and libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


def allocated(device: torch.device) -> int | None:
    """Bytes in use: PyTorch's count on a GPU, glibc's for this process on a CPU; None where neither counts."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    libc = _glibc("mallinfo2") if device.type == "cpu" else None
    if libc is None:
        return None
    libc.mallinfo2.restype = _Mallinfo2
    info = libc.mallinfo2()
    # Large tensors are mapped one by one and counted apart from the heap.
    return int(info.uordblks + info.hblkhd)


def _start_peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK)
        except OSError:
            return None
    return _peak(device)


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found and device.type == "cpu" else None


def _glibc(function: str) -> ctypes.CDLL | None:
    """The C library, if it has that function."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, function) else None
