"""Which GGUF file a model's name means: a file, the only one of a folder, or one of a hub repository."""

import re
from pathlib import Path

from cokv_bench.errors import RequestError, brief
from cokv_bench.files import at_home

SUFFIX = ".gguf"
# Beside a model lie the image encoder of a multimodal one and the later parts of a split one.
_BESIDE = re.compile(r"mmproj|-(?!0*1-of-)\d+-of-\d+\.gguf$", re.IGNORECASE)
_SHOWN = 3


def gguf_file(name: str, revision: str | None = None) -> Path | None:
    """The GGUF file of a model, downloaded if it is on the hub; None for a model in transformers' format.

    Args:
        name: a file, a folder, a hub id ("owner/name"), or a file of a hub repository ("owner/name/FILE.gguf").
        revision: branch, tag or commit of a hub repository.

    Raises:
        RequestError: no such file, it cannot be downloaded, or several files to choose from.
    """
    path = at_home(Path(name))
    if path.is_file():
        return path
    if path.is_dir():
        try:
            files = [file.name for file in path.iterdir()]
        except OSError as error:
            raise RequestError(f"The folder '{name}' cannot be read ({error.strerror}).") from error
        only = _only(files, name)
        return None if only is None else path / only
    parts = name.split("/")
    if name.lower().endswith(SUFFIX):
        if len(parts) < 3 or name.startswith((".", "/", "~")):
            raise RequestError(f"There is no file '{name}'.")
        return _download("/".join(parts[:2]), "/".join(parts[2:]), revision)
    if len(parts) != 2 or name.startswith((".", "~")):
        return None
    only = _only(_repository_files(name, revision), name)
    return None if only is None else _download(name, only, revision)


def _only(files: list[str], name: str) -> str | None:
    """The GGUF file among a folder's or repository's; None where the weights are safetensors or none is GGUF."""
    if any(file.endswith(".safetensors") for file in files):
        return None
    found = sorted(file for file in files if file.lower().endswith(SUFFIX) and not _BESIDE.search(file))
    if len(found) > 1:
        told = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        raise RequestError(f"'{name}' holds {len(found)} GGUF files ({told}); name one, such as '{name}/{found[0]}'.")
    return found[0] if found else None


def _repository_files(name: str, revision: str | None) -> list[str]:
    """Files of a hub repository, as the hub or else the local copy tells; none where neither does."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        local = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    except Exception:  # Not downloaded yet, or no name that a repository can have.
        local = []
    # The hub is asked only where the local copy leaves it open, or has one of several files.
    if any(file.endswith(".safetensors") for file in local):
        return local
    try:
        return list(HfApi().list_repo_files(name, revision=revision))
    except Exception:  # Offline, private or not there; loading says which.
        return local


def _download(repository: str, file: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # The hub's client raises errors of several libraries.
        raise RequestError(
            f"There is no file '{repository}/{file}', and it cannot be had from the hub: {brief(error)}."
        ) from error
