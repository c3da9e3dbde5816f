"""`export --to kvpress`: kvpress's own LUKVPress keeps in each head what the head file asks for."""

from pathlib import Path

import numpy as np
import pytest

from cokv_bench.errors import RequestError
from cokv_bench.exports import Request
from cokv_bench.exports.custom_generate import heads_of
from cokv_bench.exports.kvpress import write
from cokv_bench.exports.programs.generate import tokens_per_head
from tests.conftest import random_ids, save_tiny
from tests.exports.made import TOY, shares, with_kvpress

PROMPT, RATIOS = 200, (0.5, 0.75, 0.9)


@pytest.mark.parametrize("spread", [0.4, 1.2])
def test_lukvpress_keeps_what_the_file_asks_for(spread: float, tmp_path: Path) -> None:
    file = shares(TOY, spread=spread)
    curve = write(Request(file, Path("toy.json"), prompt=PROMPT, out=tmp_path / "toy.npy")).path
    model = save_tiny("llama", tmp_path / "model", max_position_embeddings=1024)
    asked = {"model": str(model), "curve": str(curve), "prompt": random_ids(PROMPT), "window": 4, "ratios": RATIOS}
    found = with_kvpress(asked, tmp_path)
    for ratio, kept in zip(RATIOS, found, strict=True):
        budget = round(PROMPT * (1 - ratio))
        wanted = file.tokens_at(budget)
        assert len(np.unique(wanted)) > 3
        # No head keeps more than the prompt; the others then share what is left.
        capped = tokens_per_head(heads_of(Request(file, Path("toy.json"))), budget, PROMPT)
        np.testing.assert_array_equal(kept, capped)
        assert (wanted.max() > PROMPT) == (spread > 1 and ratio == 0.5)
        if wanted.max() <= PROMPT:
            np.testing.assert_array_equal(kept, wanted)


def test_a_curve_depends_on_no_budget(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="to 'kvpress' does not depend on --budget"):
        write(Request(shares(TOY), Path("toy.json"), (64,), out=tmp_path / "toy.npy"))
    assert not list(tmp_path.iterdir())
