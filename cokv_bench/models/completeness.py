"""Whether a checkpoint gave a network all of its weights: what transformers had to make up or leave out is refused."""

from collections.abc import Collection, Mapping
from typing import Any

from cokv_bench.errors import RequestError

_TOLD = 3


def check_complete(name: str, network: Any, report: Mapping[str, Any], *, quantized: bool) -> None:
    """Refuse weights that were drawn at random because the checkpoint lacks them, and weights that it has in vain.

    Tensors that are tied to others or are no part of checkpoints are not missing. Of a quantised checkpoint the scales
    and packed tensors are its library's affair: only its `weight` and `bias` tensors count, and nothing is in excess.
    What lies outside the decoder's layers (a value head, say) changes no answer and may be in excess.

    Args:
        name: the model's, for errors.
        report: what `from_pretrained(output_loading_info=True)` tells, with mismatched sizes ignored.

    Raises:
        RequestError: tensors of another shape than the config's, missing ones, or layers' tensors in excess.
    """
    mismatched = {key: (tuple(there), tuple(wanted)) for key, there, wanted in report["mismatched_keys"]}
    if mismatched:
        key = min(mismatched)
        there, wanted = mismatched[key]
        raise RequestError(
            f"The weights of '{name}' do not fit its config.json: {key} is {_by(there)} in the weights and "
            f"{_by(wanted)} by config.json{_settings(network.config, there, wanted)}{_more(len(mismatched) - 1)}; "
            "correct config.json, or download the model again."
        )
    unexpected = set(report["unexpected_keys"])
    missing = {key for key in report["missing_keys"] if not quantized or key.endswith((".weight", ".bias"))}
    if missing:
        raise RequestError(f"The weights of '{name}' lack {_list(missing)}; {_remedy(network, missing, unexpected)}.")
    layers = f"{network.base_model_prefix}.layers."
    idle = {key for key in unexpected if key.startswith(layers)}
    if idle and not quantized:
        raise RequestError(
            f"The weights of '{name}' hold {_list(idle)}, for which its config.json has no place; correct config.json "
            "(number of layers, biases), or save the model without them."
        )


def _remedy(network: Any, missing: Collection[str], unexpected: Collection[str]) -> str:
    wrapped = {other.removesuffix(key) for key in missing for other in unexpected if other.endswith(f".{key}")}
    if len(wrapped) == 1:
        return f"their names begin with '{min(wrapped)}': save them again from the model inside its wrapper"
    head = network.get_output_embeddings()
    if set(missing) <= {f"{key}.weight" for key, module in network.named_modules() if module is head}:
        return (
            "save the model with its output head (AutoModelForCausalLM), or set tie_word_embeddings to true in "
            "config.json if it shares its input embeddings"
        )
    return "download or save the model again"


def _settings(config: Any, there: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Which settings have the size that differs, in brackets, if any have."""
    sizes = {want for want, have in zip(wanted, there, strict=False) if want != have}
    named = [key for key, value in config.to_dict().items() if type(value) is int and value in sizes]
    return f" ({' or '.join(named[:2])})" if named else ""


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _list(names: Collection[str]) -> str:
    first = sorted(names)[:_TOLD]
    return ", ".join(first) + _more(len(names) - len(first))


def _more(count: int) -> str:
    return f", and {count} more" if count else ""
