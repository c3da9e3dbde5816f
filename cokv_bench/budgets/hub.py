"""Head files on the Hugging Face hub: fetched once into its cache, and published with a card."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cokv_bench.errors import RequestError, brief, quoted

#: Before the name of a file on the hub.
PREFIX = "hf:"
#: Names a repository of head files, as hf:OWNER/REPO[@REVISION], for models whose files nobody names.
COLLECTION = "COKV_BENCH_HEADS"
_SHAPE = "hf:OWNER/REPO/FILE.json, or hf:OWNER/REPO@REVISION/FILE.json"
_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[^/]+))?/(?P<file>.+)", re.ASCII)


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository; `revision` is a branch, tag or commit, None for the default branch."""

    repository: str
    file: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str) -> "HubFile":
        """From "hf:OWNER/REPO[@REVISION]/FILE". Raises `RequestError` for another shape."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise RequestError(f"{quoted(name)} does not name a file on the hub; write {_SHAPE}.")
        return cls(found["repository"], found["file"], found["revision"])

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{revision}/{self.file}"


def in_collection(model: str, rule: str) -> HubFile | None:
    """The file of a model's id and of a rule, such as Qwen--Qwen3-8B.cokv.json, where the user has a collection.

    Raises:
        RequestError: the environment variable does not name a repository.
    """
    collection = os.environ.get(COLLECTION)
    if not collection:
        return None
    try:
        return HubFile.parse(f"{collection.rstrip('/')}/{model.strip('/').replace('/', '--')}.{rule}.json")
    except RequestError:
        raise RequestError(f"{COLLECTION} is {quoted(collection)}; it names a repository as hf:OWNER/REPO.") from None


def on_hub(path: Path) -> bool:
    """Whether a path that a user named means a file on the hub."""
    return str(path).startswith(PREFIX)


@lru_cache
def fetch(file: HubFile) -> Path:
    """The local copy of a file, downloaded if the cache does not hold it; an interrupted download resumes.

    Without a network, or with HF_HUB_OFFLINE=1, a copy that is in the cache serves.

    Raises:
        RequestError: no such repository, revision or file, no network and no copy, or content that is not what the
            hub announced.
    """
    from huggingface_hub import hf_hub_download  # Takes a second, and most head files are local.
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        path = Path(hf_hub_download(file.repository, file.file, revision=file.revision))
    except LocalEntryNotFoundError:
        raise RequestError(
            f"{file} is not in the local cache, and the hub cannot be reached; check the network and HF_HUB_OFFLINE, "
            "or name a local file."
        ) from None
    except RepositoryNotFoundError:
        raise RequestError(
            f"The hub has no repository '{file.repository}', or it is private; check the name, or log in with "
            "`hf auth login`."
        ) from None
    except EntryNotFoundError:
        raise RequestError(f"The repository '{file.repository}' has no file '{file.file}' ({file}).") from None
    except Exception as error:  # The hub's client raises errors of several libraries.
        raise RequestError(f"{file} cannot be downloaded: {brief(error)}.") from error
    _check_content(file, path)
    return path


def _check_content(file: HubFile, path: Path) -> None:
    """Compare a copy with the hash that the hub gave, which the cache has for a name; a damaged copy is removed."""
    copy = path.resolve()
    content = copy.read_bytes()
    if len(copy.name) == 64:
        found = hashlib.sha256(content).hexdigest()
    elif len(copy.name) == 40:
        # As git names a file.
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return
    if found != copy.name:
        copy.unlink()
        raise RequestError(
            f"The copy of {file} is damaged: its hash is {found[:12]}, and the hub announced {copy.name[:12]}. It was "
            "removed; try again."
        )


def push(path: Path, repository: str, section: str, *, private: bool = False) -> str:
    """Publish a head file, with its section of the repository's card.

    Args:
        repository: "OWNER/REPO"; made if it is not there.
        section: Markdown about the file, which replaces an earlier section about a file of that name.

    Returns:
        How users name the file.

    Raises:
        RequestError: not logged in, no right to write, no network.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        card = with_section(_card(repository), path.name, section)
        files = [
            CommitOperationAdd(path.name, path.read_bytes()),
            CommitOperationAdd("README.md", card.encode()),
        ]
        api.create_commit(repository, files, commit_message=f"Head file {path.name}")
    except Exception as error:  # See `fetch`.
        raise RequestError(
            f"{path.name} cannot be published in '{repository}': {brief(error)}. Log in with `hf auth login` as a user "
            "who may write there."
        ) from error
    return str(HubFile(repository, path.name))


def _card(repository: str) -> str:
    """The repository's card, or the beginning of one."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repository, "README.md")).read_text(encoding="utf-8")
    except EntryNotFoundError:
        name = repository.split("/")[-1]
        return (
            "---\nlibrary_name: cokv-bench\ntags:\n- kv-cache\n- cokv-bench\n---\n"
            f"# {name}\n\nHead files of cokv-bench: how many tokens of its KV cache each attention head of a model "
            "keeps.\n"
        )


def with_section(card: str, name: str, section: str) -> str:
    """A card with a section about a file, in place of an earlier one about it."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{section.strip()}\n{end}"
    if begin in card and end in card:
        before, rest = card.split(begin, 1)
        return before + block + rest.split(end, 1)[1]
    return f"{card.rstrip()}\n\n{block}\n"
