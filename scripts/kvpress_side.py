"""kvpress's side of `compare_kvpress.py`: runs where kvpress is, and finds nothing of this project.

Standard input and output are lines of JSON. The first line in is a request with `model` (a folder); its answer has
`versions`, or `missing`, why nothing can be run. Then every line is a request about a prompt, and so is its answer:

    {"ids": [...], "cells": [...], "eager": false}    what each cell keeps, all from one prefill
    {"ids": [...], "kvzip": {...}, "ratios": [...]}   the same for KVzip with these options, which reads a prompt twice
    {"cell": {...}, "new": 24, "stops": [2]}          one cell alone, as users run it, on the prompt of the last `cells`

A cell is `{"press": tree, "ratio": 0.9}`. A tree is `[class, options]`, or `[class, options, tree]` for a press around
another one; where the press is null nothing is compressed. Answers have `kept`, positions [layers][kv_heads][tokens] of
each cell or of the one. A cell that runs alone also has `bytes` of keys and values that the cache holds after the
prefill, `ids` that are generated, and `prefill` and `decode`, the CPU seconds of its one thread.
"""

import contextlib
import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any


def main() -> None:
    # What libraries print is no answer.
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    asked = json.loads(sys.stdin.readline())
    try:
        import_module("kvpress")
    except ImportError as error:
        say({"missing": f"kvpress cannot be imported ({error})"})
        return
    side = Side(asked["model"])
    say({"versions": {name: version(name) for name in ("kvpress", "transformers", "torch")}})
    for line in sys.stdin:
        asked = json.loads(line)
        way = side.alone if "cell" in asked else side.kvzip if "kvzip" in asked else side.together
        say(way(**asked))


class Side:
    """A model as kvpress wants it, and the prompt that is worked on."""

    def __init__(self, folder: str) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        )
        self.model.eval()
        self.attentions = [layer.self_attn for layer in self.model.model.layers]
        self.ids = torch.empty(1, 0, dtype=torch.long)
        #: Of each layer and KV head, the position of every key of the prompt.
        self.places: list[list[dict[bytes, int]]] = []

    def together(self, ids: list[int], cells: list[dict[str, Any]], eager: bool) -> dict[str, Any]:
        """What each press keeps, asked of all in turn while the prompt is read once: none changes what is read."""
        import torch
        from kvpress import BasePress

        presses = [made(cell["press"], cell["ratio"]) for cell in cells]
        found: list[list[list[list[int]]]] = [[] for _ in cells]
        self.ids, self.places = torch.tensor([ids]), []
        places = self.places

        class Together(BasePress):
            def post_init_from_model(self, model: Any) -> None:
                for press in presses:
                    press.post_init_from_model(model)

            def compress(self, module: Any, states: Any, keys: Any, values: Any, attentions: Any, kwargs: Any) -> Any:
                places.append(places_of(keys[0]))
                for press, tables in zip(presses, found, strict=True):
                    module.masked_key_indices = None
                    kept, _ = press.compress(module, states, keys, values, attentions, kwargs)
                    tables.append(positions(kept[0], module.masked_key_indices, places[-1]))
                module.masked_key_indices = None
                return keys, values

        self.model.set_attn_implementation("eager" if eager else "sdpa")
        with Together()(self.model), torch.no_grad():
            self.read()
        self.model.set_attn_implementation("sdpa")
        return {"kept": found}

    def kvzip(self, ids: list[int], kvzip: dict[str, Any], ratios: list[float]) -> dict[str, Any]:
        """What KVzip keeps at each ratio, from one reading and one repetition of the prompt."""
        import torch
        from kvpress import KVzipPress

        found: list[list[list[list[int]]]] = []
        self.ids, attentions = torch.tensor([ids]), self.attentions
        heads = self.model.config.num_key_value_heads

        class EachRatio(KVzipPress):
            def compress_post(self, model: Any) -> None:
                for self.compression_ratio in ratios:
                    super().compress_post(model)
                    found.append([remaining(each.masked_key_indices, len(ids), heads) for each in attentions])

        with torch.no_grad(), EachRatio(compression_ratio=ratios[0], **kvzip)(self.model):
            self.read()
        return {"kept": found}

    def alone(self, cell: dict[str, Any], new: int, stops: list[int]) -> dict[str, Any]:
        """One cell: a prefill of its own under its press, and a greedy answer of at most `new` tokens."""
        import torch

        press = made(cell["press"], cell["ratio"]) if cell["press"] else None
        with torch.no_grad():
            started = time.process_time()
            with press(self.model) if press else contextlib.nullcontext():
                logits, cache = self.read()
            read = time.process_time()
            # Before decoding, which adds to the cache and writes over masked keys.
            held = [
                (layer.keys[0].clone(), attention.masked_key_indices)
                for layer, attention in zip(cache.layers, self.attentions, strict=True)
            ]
            storages = [part.untyped_storage() for layer in cache.layers for part in (layer.keys, layer.values)]
            size = sum(storage.nbytes() for storage in storages)
            begun = time.process_time()
            answer = [int(logits[0, -1].argmax())]
            while len(answer) < new and answer[-1] not in stops:
                place = torch.tensor([[self.ids.shape[1] + len(answer) - 1]])
                step = self.model(torch.tensor([answer[-1:]]), past_key_values=cache, position_ids=place)
                answer.append(int(step.logits[0, -1].argmax()))
            done = time.process_time()
        kept = [positions(*each, places) for each, places in zip(held, self.places, strict=True)]
        return {"kept": kept, "bytes": size, "ids": answer, "prefill": read - started, "decode": done - begun}

    def read(self) -> tuple[Any, Any]:
        """Logits after the prompt, and its cache."""
        import transformers

        cache = transformers.DynamicCache()
        for attention in self.attentions:
            attention.masked_key_indices = None
        return self.model(self.ids, past_key_values=cache, logits_to_keep=1).logits, cache


def made(tree: list[Any], ratio: float) -> Any:
    """The press of a tree; the innermost one has the ratio, which those around it read there."""
    import kvpress

    name, options, *inner = tree
    within = {"press": made(inner[0], ratio)} if inner else {"compression_ratio": ratio}
    return getattr(kvpress, name)(**options, **within)


def places_of(keys: Any) -> list[dict[bytes, int]]:
    """Position of each key [kv_heads, tokens, dim] by its bytes; rotary makes all of them different."""
    found = [{row.tobytes(): place for place, row in enumerate(head)} for head in keys.cpu().numpy()]
    assert all(len(head) == keys.shape[1] for head in found)
    return found


def positions(kept: Any, masked: Any, places: list[dict[bytes, int]]) -> list[list[int]]:
    """Positions that each head keeps, ascending, from keys [kv_heads, kept, dim] and those that the press masks."""
    if masked is not None:
        return remaining(masked, kept.shape[1], len(places))
    return [
        sorted(place[row.tobytes()] for row in head) for head, place in zip(kept.cpu().numpy(), places, strict=True)
    ]


def remaining(masked: Any, tokens: int, kv_heads: int) -> list[list[int]]:
    """Positions that each head keeps, ascending, where a press masks others: (rows, heads, positions)."""
    left = [set(range(tokens)) for _ in range(kv_heads)]
    for head, place in zip(masked[1].tolist(), masked[2].tolist(), strict=True):
        left[head].remove(place)
    return [sorted(head) for head in left]


if __name__ == "__main__":
    main()
