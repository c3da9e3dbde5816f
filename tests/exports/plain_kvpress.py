"""Runs where kvpress is: what its presses keep of a prompt in each head, by files that were exported.

Standard input is JSON: `model` (a path), `prompt` (ids), and either `curve` (a path), `window` and `ratios`, or `duo`
(a folder) and `sparsity`. Standard output is JSON: `version`, and `kept`, the tokens of each head [layers][kv_heads]
for each ratio, or for the folder; or `missing`, why there is nothing. kvpress loads these files from addresses, so this
program serves them to it.
"""

import json
import sys
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve(folder: Path) -> str:
    """The address at which the files of a folder are, until this process ends."""
    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def kept(model: Any, press: Any, prompt: list[int]) -> list[list[int]]:
    """Tokens that each head keeps; the press names the keys that it masks."""
    import torch
    import transformers

    with press(model), torch.no_grad():
        model(torch.tensor([prompt]), past_key_values=transformers.DynamicCache())
    table = []
    for layer in model.model.layers:
        if layer.self_attn.masked_key_indices is None:
            table.append([len(prompt)] * model.config.num_key_value_heads)
            continue
        _, heads, positions = layer.self_attn.masked_key_indices
        pruned = [int((heads == head).sum()) for head in range(model.config.num_key_value_heads)]
        # None is masked twice.
        assert len(set(zip(heads.tolist(), positions.tolist(), strict=True))) == sum(pruned)
        table.append([len(prompt) - count for count in pruned])
        layer.self_attn.masked_key_indices = None
    return table


def by_curve(model: Any, asked: dict[str, Any]) -> list[Any]:
    """By LUKVPress and a curve, for each ratio."""
    import kvpress
    from kvpress.presses import lukv_press

    curve = Path(asked["curve"])
    # The way that kvpress tells its users to add a curve.
    address = f"{serve(curve.parent)}/{curve.name}"
    lukv_press.BUDGET_CURVE_URLS[(model.config.name_or_path, "SnapKVPress")] = address
    found = []
    for ratio in asked["ratios"]:
        ranking = kvpress.SnapKVPress(compression_ratio=ratio, window_size=asked["window"])
        press = lukv_press.LUKVPress(press=ranking, compression_ratio=ratio, sink=0, window=asked["window"])
        found.append(kept(model, press, asked["prompt"]))
    return found


def by_classes(model: Any, asked: dict[str, Any]) -> list[Any]:
    """By DuoAttentionPress and a folder, whose address kvpress does not let anybody choose."""
    import kvpress
    import requests
    from kvpress.presses import duo_attention_press

    address, get = serve(Path(asked["duo"])), requests.get
    duo_attention_press.PATTERNS_DICT[model.config.name_or_path] = "any"
    duo_attention_press.requests.get = lambda url: get(f"{address}/{url.rpartition('/')[2]}")
    return [kept(model, kvpress.DuoAttentionPress(head_compression_ratio=asked["sparsity"]), asked["prompt"])]


def main() -> None:
    asked = json.load(sys.stdin)
    try:
        import_module("kvpress")
    except ImportError as error:
        print(json.dumps({"missing": f"kvpress cannot be imported ({error})"}))
        return
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(asked["model"], attn_implementation="sdpa")
    found = by_curve(model, asked) if "curve" in asked else by_classes(model, asked)
    print(json.dumps({"version": version("kvpress"), "kept": found}))


if __name__ == "__main__":
    main()
