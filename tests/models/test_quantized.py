"""Quantised checkpoints: the library that one needs is named, and what nobody can read is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cokv_bench.errors import RequestError
from cokv_bench.models import load_model
from cokv_bench.models.quantized import lacking
from tests.conftest import random_ids, save_tiny
from tests.models.written import change


def refusal(folder: Path, settings: dict[str, Any]) -> str:
    change(folder / "config.json", quantization_config=settings)
    with pytest.raises(RequestError) as error:
        load_model(str(folder), device="cpu")
    found = str(error.value)
    assert len(found) <= 400
    assert found.endswith(".")
    assert found.count(". ") <= 1  # Of transformers' own sentence.
    return found


@pytest.mark.parametrize(
    ("settings", "library"),
    [
        ({"quant_method": "gptq", "bits": 4}, "pip install optimum"),
        ({"quant_method": "awq", "bits": 4}, "pip install gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "pip install -U bitsandbytes"),
        ({"load_in_8bit": True}, "pip install -U bitsandbytes"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "pip install compressed-tensors"),
        ({"quant_method": "aqlm"}, "pip install aqlm"),
        ({"quant_method": "quanto", "weights": "int8"}, "pip install optimum-quanto"),
        # Fails at an import, with no word on how to install it.
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "pip install torchao"),
    ],
)
def test_a_missing_library_is_named(tmp_path: Path, settings: dict[str, Any], library: str) -> None:
    kind = settings.get("quant_method", "bitsandbytes")
    found = refusal(save_tiny("llama", tmp_path), settings)
    assert f"quantised as '{kind}', which needs what is not installed here" in found
    assert library in found


@pytest.mark.parametrize("settings", [{"quant_method": "made-up"}, {"quant_method": "modelopt"}, {"bits": 4}])
def test_packed_numbers_are_not_taken_for_weights(tmp_path: Path, settings: dict[str, Any]) -> None:
    """transformers would load a checkpoint of a kind that it does not know as a plain one."""
    found = refusal(save_tiny("llama", tmp_path), settings)
    assert f"'{settings['quant_method']}'" in found if "quant_method" in settings else "does not name" in found
    assert "use a checkpoint in another format" in found


def test_what_is_lacking() -> None:
    missing = ModuleNotFoundError("No module named 'flute.kernels'", name="flute.kernels")
    assert str(lacking("higgs", missing)).endswith("No module named 'flute.kernels'; run: pip install flute-kernel")
    assert lacking("gptq", RuntimeError("GPU is required to quantize or run quantize model.")) is None
    assert lacking(None, missing) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the weights stay packed, and want other sizes")
def test_fp8_loads_without_a_gpu_as_the_numbers_that_it_stands_for(tmp_path: Path) -> None:
    plain, packed = save_tiny("llama", tmp_path / "plain"), save_tiny("llama", tmp_path / "packed")
    weights = load_file(plain / "model.safetensors")
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        stored[name] = tensor
        if "_proj." in name:
            blocks = tensor.unflatten(0, (-1, 16)).unflatten(2, (-1, 16))
            # Powers of two, so that nothing is rounded beyond the format itself.
            scales = torch.exp2(torch.ceil(torch.log2(blocks.abs().amax((1, 3)) / 448)))
            eighths = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
            stored[name] = eighths.flatten(2).flatten(0, 1)
            stored[f"{name}_scale_inv"] = scales
            whole = eighths.float() * scales[:, None, :, None]
            weights[name] = whole.flatten(2).flatten(0, 1).contiguous()
    save_file(weights, plain / "model.safetensors", metadata={"format": "pt"})
    save_file(stored, packed / "model.safetensors", metadata={"format": "pt"})
    change(packed / "config.json", quantization_config={"quant_method": "fp8", "weight_block_size": [16, 16]})
    assert json.loads((packed / "config.json").read_text())["quantization_config"]
    ids = torch.tensor([random_ids(40)])
    expected, found = (load_model(str(folder), device="cpu") for folder in (plain, packed))
    assert (found.network(ids).logits - expected.network(ids).logits).abs().max() < 1e-5
    # As libraries do that pack weights for their kernels when they are first used.
    again = load_model(str(packed), device="cpu")
    again.network.model.layers[0].mlp.down_proj.weight.zero_()
    assert again.fingerprint == found.fingerprint
