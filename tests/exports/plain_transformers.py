"""Runs where cokv-bench is not: generate with exported folders, by transformers alone.

Standard input is a JSON list of cases: `model` and `folder` (paths), `prompts` (lists of ids), `budgets` and `new`
(tokens). Standard output is a JSON list for each case: for each prompt and budget the new ids (`ids`), what each head
kept (`counts`) and the bytes of the cache (`bytes`).
"""

import json
import sys
from typing import Any


def run(case: dict[str, Any]) -> list[dict[str, Any]]:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.float32)
    before = model.config._attn_implementation
    found = []
    for prompt in case["prompts"]:
        for budget in case["budgets"]:
            ids = torch.tensor([prompt])
            answer = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                custom_generate=case["folder"],
                trust_remote_code=True,
                budget=budget,
                max_new_tokens=case["new"],
                do_sample=False,
                return_dict_in_generate=True,
            )
            layers = answer.past_key_values.layers
            held = sum(part.nbytes for layer in layers for part in (*layer.keys_of, *layer.values_of))
            new = answer.sequences[0, len(prompt) :].tolist()
            found.append({"ids": new, "counts": [layer.counts for layer in layers], "bytes": held})
    assert model.config._attn_implementation == before
    return found


if __name__ == "__main__":
    # Nothing of the package may be imported, wherever it is installed.
    sys.modules["cokv_bench"] = None  # type: ignore[assignment]
    print(json.dumps([run(case) for case in json.load(sys.stdin)]))
