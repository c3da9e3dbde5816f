"""Which model a file belongs to: the fingerprint that profiles and budgets carry, and how two are compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cokv_bench.budgets.checked_json import is_integer, json_at
from cokv_bench.errors import RequestError, quoted


def check_fingerprint(model: Mapping[str, Any]) -> None:
    """Refuse a fingerprint without `id`, `layers`, `kv_heads`, `head_dim` or with a `weights` that is no hash.

    Args:
        model: `id` (string), `layers`, `kv_heads`, `head_dim` (positive integers), `weights` (hash of the weights,
            or None or absent where unknown). Further keys are kept and not compared.

    Raises:
        RequestError: naming the key, what was found and what was expected.
    """
    if not isinstance(model.get("id"), str):
        raise RequestError(f"The model fingerprint has id {model.get('id')!r:.60}; expected a string.")
    for key in ("layers", "kv_heads", "head_dim"):
        value = model.get(key)
        if not is_integer(value) or int(value) < 1:  # type: ignore[arg-type]
            raise RequestError(f"The model fingerprint has {key} {value!r:.60}; expected a positive integer.")
    weights = model.get("weights")
    if weights is not None and not isinstance(weights, str):
        raise RequestError(f"The model fingerprint has weights {weights!r:.60}; expected a hash or null.")


def check_replaced(path: Path, model: Mapping[str, Any]) -> None:
    """Refuse to write over a JSON file that is of another model; one that names none may be replaced.

    Args:
        path: of the file, which need not be there.
        model: fingerprint of the model to write for.

    Raises:
        RequestError: the file's model is another, see `check_same_model`.
    """
    content = json_at(path)
    there = content.get("model") if isinstance(content, dict) else None
    if not isinstance(there, dict):
        return
    try:
        check_same_model(there, model, str(path))
    except RequestError:
        raise RequestError(
            f"{path} is of another model ({quoted(there.get('id'))}, not {quoted(model['id'])}) and would be lost; "
            "name another place with --out."
        ) from None


def check_same_model(model: Mapping[str, Any], other: Mapping[str, Any], what: str) -> None:
    """Refuse to use `what`, made for `model`, with the model `other`.

    Shapes must be equal. Where both weights are hashed the hash decides, so that one model under two names (a hub
    id and a folder) is one model; otherwise the ids must be equal.

    Args:
        model, other: fingerprints as in `check_fingerprint`.
        what: subject of the sentence, such as "a.budgets.json".

    Raises:
        RequestError: "is of another shape" or "is of another model", with both sides.
    """
    check_fingerprint(model)
    check_fingerprint(other)
    shapes = [f"{m['layers']} layers x {m['kv_heads']} KV heads of size {m['head_dim']}" for m in (model, other)]
    if shapes[0] != shapes[1]:
        raise RequestError(
            f"{what} is of another shape: it is for {shapes[0]} ({model['id']:.60}), "
            f"but the model {other['id']:.60} has {shapes[1]}; profile this model first."
        )
    hashes = (model.get("weights"), other.get("weights"))
    if None not in hashes:
        if hashes[0] != hashes[1]:
            raise RequestError(
                f"{what} is of another model: it was made with weights {hashes[0]:.60} ({model['id']:.60}), "
                f"but the model {other['id']:.60} has weights {hashes[1]:.60}; profile this model first."
            )
    elif model["id"] != other["id"]:
        raise RequestError(
            f"{what} is of another model: it was made for {model['id']:.60}, not for {other['id']:.60}; "
            "profile this model first."
        )
