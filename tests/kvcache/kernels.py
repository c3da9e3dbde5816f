"""Where kernels run in tests, and fixtures for them; a test module imports it after it has made sure of Triton."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from cokv_bench.kvcache import triton_decode

# Triton's own functions were made when it was imported, the kernels when their module was: the mode can have changed.
RUNS_HERE = torch.cuda.is_available() or not any(
    isinstance(each, triton.JITFunction) for each in (tl.max, triton_decode._attend)
)
INTERPRETED = not isinstance(tl.max, triton.JITFunction)
DEVICE = "cpu" if INTERPRETED or not RUNS_HERE else "cuda"


@pytest.fixture
def poisoned() -> Iterator[None]:
    """New memory is NaN: scratch and results that a kernel does not write show."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture
def whole_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mend what the interpreter lacks: products of bfloat16, and in Triton before 3.7, loop bounds with NumPy 2.4."""
    if not INTERPRETED:
        return
    from triton.runtime import interpreter

    create_dot, patch_tensor = interpreter.InterpreterBuilder.create_dot, interpreter._patch_lang_tensor

    def widened(operand: Any) -> Any:
        if operand.dtype.scalar != tl.bfloat16:
            return operand
        # It keeps bfloat16 as the upper 16 bits of float32, and would multiply these as integers.
        return interpreter.TensorHandle((operand.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return create_dot(self, widened(a), widened(b), *rest)

    def patch(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch)
