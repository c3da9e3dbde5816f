"""The output projection by query head: the slices add up to what the module makes of all heads together."""

from types import SimpleNamespace

import pytest
import torch

from cokv_bench.errors import RequestError
from cokv_bench.models import Model
from cokv_bench.models.projection import output_projection


def test_slices_add_up_to_the_modules_output(tiny: Model) -> None:
    for layer in range(tiny.layers):
        slices = output_projection(tiny, layer)
        module = tiny.network.get_decoder().layers[layer].self_attn.o_proj
        outputs = torch.randn(slices.shape[:2], generator=torch.Generator().manual_seed(layer))
        assert slices.shape == (tiny.heads, tiny.head_dim, module.out_features)
        parts = torch.einsum("hd,hdw->hw", outputs, slices)
        with torch.no_grad():
            torch.testing.assert_close(parts.sum(0), module(outputs.flatten()), atol=1e-5, rtol=1e-5)


def test_what_is_no_matrix_is_refused(tiny_llama: Model) -> None:
    for module in (SimpleNamespace(), SimpleNamespace(o_proj=SimpleNamespace(weight=torch.zeros(4, dtype=torch.int8)))):
        block = SimpleNamespace(self_attn=module)
        decoder = SimpleNamespace(layers=[block])
        model = SimpleNamespace(name="packed", heads=2, decoder=decoder, evicted_layers=(0,))
        with pytest.raises(RequestError, match="choose a ranking that does not read it"):
            output_projection(model, 0)  # type: ignore[arg-type]
