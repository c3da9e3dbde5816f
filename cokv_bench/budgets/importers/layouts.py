"""Which model published scores belong to, and how its heads are laid out: the files themselves do not say."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cokv_bench.errors import RequestError

#: Hub ids of the models with published scores, by the name that the authors' files give them.
PUBLISHED_MODELS = {
    "llama": "meta-llama/Meta-Llama-3-8B-Instruct",
    "mistral": "mistralai/Mistral-7B-Instruct-v0.2",
    "qwen3": "Qwen/Qwen3-32B",
}


@dataclass(frozen=True)
class Layout:
    """Layers, KV heads a layer and head size of a model; None where not known."""

    layers: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None


# Meta-Llama-3-8B and Mistral-7B-v0.2, then Qwen3-32B.
_BY_PLAYERS = {256: Layout(32, 8, 128), 512: Layout(64, 8, 128)}
_BY_QUERY_HEADS = {(32, 32): Layout(32, 8, 128), (64, 64): Layout(64, 8, 128)}


def model_id(path: Path, given: str | None) -> str:
    """The id that was given, or else the published model that the name of the file or of its folder says.

    Raises:
        RequestError: neither says.
    """
    if given:
        return given
    for name in (path.stem, path.resolve().parent.name):
        for short, hub_id in PUBLISHED_MODELS.items():
            # Up to an underscore: Meta-Llama-3-8B-Instruct-262k is another model.
            own = re.escape(hub_id.partition("/")[2])
            if re.match(rf"(cc_{short}|headkv_{short}|{own})(_|$)", name, re.IGNORECASE):
                return hub_id
    raise RequestError("The file name does not say which model it is of; give its id with --model.")


def values_fingerprint(model: str, players: int, given: Layout) -> dict[str, Any]:
    """Fingerprint of a model by the number of its players, player = layer * KV heads + KV head.

    Raises:
        RequestError: the number is of no published layout and the given one is incomplete, or they do not agree.
    """
    known = _BY_PLAYERS.get(players, Layout())
    fingerprint = _fingerprint(model, given, known, f"{players} players are of no known model")
    layers, kv_heads = fingerprint["layers"], fingerprint["kv_heads"]
    if layers * kv_heads != players:
        raise RequestError(
            f"There are {players} players, but {layers} layers x {kv_heads} KV heads are {layers * kv_heads}; "
            "give the right --layers and --kv-heads."
        )
    return fingerprint


def scores_fingerprint(model: str, layers: int, heads: int, given: Layout) -> dict[str, Any]:
    """Fingerprint of a model by the layers and query heads of its scores; it has `heads` besides the usual fields.

    Raises:
        RequestError: the shape is of no published layout and the given one is incomplete, or they do not agree.
    """
    known = _BY_QUERY_HEADS.get((layers, heads), Layout(layers=layers))
    fingerprint = _fingerprint(model, given, known, f"{layers} layers x {heads} query heads are of no known model")
    kv_heads = fingerprint["kv_heads"]
    if fingerprint["layers"] != layers or heads % kv_heads:
        raise RequestError(
            f"There are {layers} layers x {heads} query heads, which do not fit {fingerprint['layers']} layers and "
            f"{kv_heads} KV heads per layer; give the right --layers and --kv-heads."
        )
    return {**fingerprint, "heads": heads}


def curves_fingerprint(model: str, layers: int, kv_heads: int, given: Layout) -> dict[str, Any]:
    """Fingerprint of a model by the layers and KV heads of its curves.

    Raises:
        RequestError: the shape is of no published layout and no head size is given, or another layout is.
    """
    published = _BY_PLAYERS.get(layers * kv_heads, Layout())
    known = Layout(layers, kv_heads, published.head_dim if published.layers == layers else None)
    fingerprint = _fingerprint(model, given, known, f"{layers} layers x {kv_heads} KV heads are of no known model")
    if (fingerprint["layers"], fingerprint["kv_heads"]) != (layers, kv_heads):
        raise RequestError(
            f"There are {layers} layers x {kv_heads} KV heads, not {fingerprint['layers']} x "
            f"{fingerprint['kv_heads']}; leave out --layers and --kv-heads."
        )
    return fingerprint


def _fingerprint(model: str, given: Layout, known: Layout, unknown: str) -> dict[str, Any]:
    layout = {
        "layers": given.layers or known.layers,
        "kv_heads": given.kv_heads or known.kv_heads,
        "head_dim": given.head_dim or known.head_dim,
    }
    if None in layout.values():
        raise RequestError(f"{unknown}; give --layers, --kv-heads and --head-dim.")
    return {"id": model, **layout, "weights": None}
