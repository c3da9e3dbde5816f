"""Models in GGUF files: converted once to a folder in transformers' format, in float32."""

import hashlib
import shutil
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cokv_bench.errors import Notice, RequestError, brief
from cokv_bench.files import file_sha256, write_text
from cokv_bench.models.conversion import cache_folder, convert_once
from cokv_bench.models.gguf.header import Header, read_header
from cokv_bench.models.gguf.tokenizer import stop_ids, write_tokenizer

# Goes up where a conversion gives another model than before, so that old ones are made again.
_VERSION = 1
_BYTES = 4
_ENDS = 1 << 16
_NAMED = 60


def converted_folder(path: Path, shown: str) -> Path:
    """The folder in transformers' format of a GGUF file, made on first use.

    It takes 4 bytes of disk per weight, and more memory than that while it is made: the numbers that a quantised file
    stands for are exact in float32 only. The folder is found by the hash of the file's content, so that
    a copy under another name is not converted again and a file that has changed is.

    Args:
        shown: the model's name, for errors.

    Raises:
        RequestError: the file is damaged, cut short or no model, its architecture or a setting cannot be read, or the
            cache folder has no room.
    """
    folder = cache_folder() / "gguf"
    kind = f"{_content(path, folder)[:16]}-float32-v{_VERSION}"
    found = next(folder.glob(f"*-{kind}"), folder / f"{path.stem[:_NAMED]}-{kind}")
    return convert_once(found, lambda target: convert(path, target, shown))


def convert(path: Path, target: Path, shown: str, stops: list[int] | None = None) -> None:
    """Write the model of a GGUF file into a folder: config, weights in float32, tokenizer and chat template.

    Args:
        path: of the file.
        target: an empty folder.
        shown: the model's name, for errors.
        stops: tokens that end an answer; by default all whose names say so.

    Raises:
        RequestError: as `converted_folder`.
    """
    if find_spec("gguf") is None:
        raise RequestError(f"'{shown}' is a GGUF file, and the library that reads it is missing; run: pip install gguf")
    header = read_header(path, shown)
    for key in ("general.architecture", "tokenizer.ggml.tokens"):
        if key not in header.values:
            raise RequestError(
                f"'{shown}' lacks the setting '{key}', so it is not a language model; name another file."
            )
    config = _config(header, shown)
    _check_room(header, target, shown)
    try:
        _write(header, config, target, shown, sorted(stop_ids(header)) if stops is None else stops)
    except RequestError:
        raise
    except Exception as error:  # Of transformers, gguf, tokenizers and safetensors, each with errors of its own.
        if isinstance(error, OSError) and error.errno is not None:
            # Of the disk; the libraries' own have no number.
            raise
        raise RequestError(
            f"'{shown}' cannot be converted: {brief(error)}; download it again, or use the checkpoint in safetensors "
            "format."
        ) from error


def _content(path: Path, folder: Path) -> str:
    """Hex SHA-256 of a file's bytes, remembered under its path, size, time of change and both ends.

    A load would otherwise read the whole file only to find that it is converted already.
    """
    try:
        state = path.stat()
        with path.open("rb") as file:
            ends = file.read(_ENDS)
            file.seek(max(0, state.st_size - _ENDS))
            ends += file.read()
    except OSError as error:
        raise RequestError(f"'{path}' cannot be read ({error.strerror}).") from error
    key = hashlib.sha256(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0".encode() + ends).hexdigest()
    known = folder / f"known-{key[:32]}"
    try:
        content = known.read_text()
    except (OSError, UnicodeDecodeError):
        content = ""
    if len(content) != 64 or not content.isalnum():
        content = file_sha256(path)
        with suppress(RequestError):
            # A cache that cannot be written may still have the model.
            write_text(known, content)
    return content


def _config(header: Header, shown: str) -> Any:
    from transformers import AutoConfig

    from cokv_bench.models.gguf.config import check_settings, complete
    from cokv_bench.models.support import check_supported

    check_settings(header, shown)
    try:
        config = AutoConfig.from_pretrained(header.path.parent, gguf_file=header.path.name)
        complete(config, header, _frequencies(header), shown)
    except RequestError:
        raise
    except Exception as error:  # Whatever line meets the setting that is missing, or of another type.
        raise RequestError(
            f"'{shown}' cannot be converted: {brief(error)}; use the checkpoint in safetensors format."
        ) from error
    # Before minutes are spent on its weights.
    check_supported(config, shown)
    return config


def _frequencies(header: Header) -> Any:
    """What the file divides the rotary frequencies by, None where it does not."""
    import numpy as np

    tensor = header.tensors.get("rope_freqs.weight")
    if tensor is None:
        return None
    return np.fromfile(header.path, dtype="<f4", count=tensor.elements, offset=tensor.start)


def _check_room(header: Header, target: Path, shown: str) -> None:
    need, free = _BYTES * header.elements, shutil.disk_usage(target).free
    cache = target.parent
    if need > free:
        raise RequestError(
            f"The conversion of '{shown}' takes {need / 2**30:.1f} GiB, and {cache} has {free / 2**30:.1f} GiB left; "
            "set COKV_BENCH_CACHE to a folder with room."
        )
    warnings.warn(
        f"{shown} is converted once, into {need / 2**30:.1f} GiB in {cache}; this takes more memory than that, and "
        "some minutes per billion weights.",
        Notice,
        stacklevel=2,
    )


def _write(header: Header, config: Any, target: Path, shown: str, stops: list[int]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from cokv_bench.models.completeness import check_complete

    source, file = header.path.parent, header.path.name
    network, report = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=file,
        config=config,
        dtype=torch.float32,
        # Told by name below; by itself transformers draws them at random.
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    check_complete(shown, network, report, quantized=False)
    _check_used(header, network, shown)
    # The weights are plain float32 by now, but transformers still calls the model quantized and refuses to save it.
    plain_config = network.config
    del plain_config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(plain_config, dtype=torch.float32)
    plain.load_state_dict(network.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = GenerationConfig(
        eos_token_id=stops[0] if len(stops) == 1 else stops or None,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
    )
    plain.save_pretrained(target)
    write_tokenizer(header, target, shown)


def _check_used(header: Header, network: Any, shown: str) -> None:
    """Refuse a file with weights that the network has no place for; transformers passes over them in silence."""
    told = {tensor.data_ptr(): tensor.numel() for tensor in network.state_dict().values()}
    given = sum(tensor.elements for name, tensor in header.tensors.items() if name != "rope_freqs.weight")
    if given > sum(told.values()):
        raise RequestError(
            f"'{shown}' cannot be converted: it has {given - sum(told.values()):,} weights that transformers has no "
            f"place for in a '{network.config.model_type}' model; use the checkpoint in safetensors format."
        )
