"""Files on the Hugging Face hub, fetched once into its cache and compared with the hash that the hub announced."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cokv_bench.errors import RequestError, brief, quoted

#: Before the name of a file or repository on the hub.
PREFIX = "hf:"
#: What a repository holds, as the hub's own client calls it.
Kind = Literal["model", "dataset"]
# The hub's name for a pull request, the only revision whose slashes need not be written as %2F.
_PULL_REQUEST = r"refs/pr/[0-9]+"
_NAME = re.compile(
    rf"hf:(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>{_PULL_REQUEST}|[^/]+))?(?:/(?P<file>.+))?", re.ASCII
)
_SHAPE = "hf:OWNER/REPO/FILE.json, or hf:OWNER/REPO@REVISION/FILE.json"


@dataclass(frozen=True)
class HubRepository:
    """A repository; `revision` is a branch, tag or commit, None for the default branch."""

    repository: str
    revision: str | None = None
    kind: Kind = "model"

    def __str__(self) -> str:
        if self.revision is None:
            return f"{PREFIX}{self.repository}"
        whole = re.fullmatch(_PULL_REQUEST, self.revision)
        return f"{PREFIX}{self.repository}@{self.revision if whole else self.revision.replace('/', '%2F')}"


@dataclass(frozen=True)
class HubFile:
    """A file of a hub repository; `revision` is a branch, tag or commit, None for the default branch."""

    repository: str
    file: str
    revision: str | None = None
    kind: Kind = "model"

    @classmethod
    def parse(cls, name: str) -> "HubFile":
        """From "hf:OWNER/REPO[@REVISION]/FILE". Raises `RequestError` for another shape."""
        found = parse(name)
        if not isinstance(found, HubFile):
            raise RequestError(f"{quoted(name)} does not name a file on the hub; write {_SHAPE}.")
        return found

    def __str__(self) -> str:
        return f"{HubRepository(self.repository, self.revision)}/{self.file}"


def parse(name: str, kind: Kind = "model") -> HubFile | HubRepository:
    """What "hf:OWNER/REPO[@REVISION][/FILE]" names. Raises `RequestError` for another shape.

    A slash in the revision is written %2F, as the hub's addresses have it, but for refs/pr/N.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise RequestError(f"{quoted(name)} does not name a file on the hub; write {_SHAPE}.")
    revision = None if found["revision"] is None else re.sub("%2F", "/", found["revision"], flags=re.IGNORECASE)
    if found["file"] is None:
        return HubRepository(found["repository"], revision, kind)
    return HubFile(found["repository"], found["file"], revision, kind)


def on_hub(path: str | Path) -> bool:
    """Whether a path that a user named means a file or repository on the hub."""
    return str(path).startswith(PREFIX)


@lru_cache
def fetch(file: HubFile) -> Path:
    """The local copy of a file, downloaded if the cache does not hold it; an interrupted download resumes.

    Without a network, or with HF_HUB_OFFLINE=1, a copy that is in the cache serves. HF_ENDPOINT and the usual variables
    for proxies are those of the hub's own client.

    Raises:
        RequestError: no such repository, revision or file, no network and no copy, or content that is not what the
            hub announced.
    """
    from huggingface_hub import hf_hub_download  # Takes a second, and most head files are local.
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        path = Path(hf_hub_download(file.repository, file.file, revision=file.revision, repo_type=file.kind))
    except LocalEntryNotFoundError:
        raise _unreachable(str(file)) from None
    except RepositoryNotFoundError:
        raise _no_repository(file.repository) from None
    except EntryNotFoundError:
        raise RequestError(f"The repository '{file.repository}' has no file '{file.file}' ({file}).") from None
    except Exception as error:  # The hub's client raises errors of several libraries.
        raise RequestError(f"{file} cannot be downloaded: {brief(error)}.") from error
    _check_content(file, path)
    return path


def fetch_folder(source: HubRepository, patterns: Sequence[str]) -> Path:
    """The local copy of a repository with the files that match some patterns, each fetched as `fetch` does it.

    Without a network the files that the cache holds serve, at least one for each pattern.

    Args:
        patterns: names of files, in which "*" also stands for "/".

    Raises:
        RequestError: as for `fetch`, or no file matches a pattern.
    """
    names = list_files(source)
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise RequestError(f"The repository {source} has no file '{pattern}'; check its name and revision.")
    folders = set()
    for name in sorted(name for name in names if any(fnmatch(name, pattern) for pattern in patterns)):
        copy = fetch(HubFile(source.repository, name, source.revision, source.kind))
        folders.add(copy.parents[name.count("/")])
    if len(folders) > 1:
        raise RequestError(f"The repository {source} changed during the download; run the same command again.")
    return folders.pop()


@lru_cache
def list_files(source: HubRepository) -> tuple[str, ...]:
    """The names of a repository's files; those in the cache where the hub cannot be reached.

    Raises:
        RequestError: no such repository or revision, or no network and nothing in the cache.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return tuple(HfApi().list_repo_files(source.repository, revision=source.revision, repo_type=source.kind))
    except RepositoryNotFoundError:
        raise _no_repository(source.repository) from None
    except RevisionNotFoundError:
        raise RequestError(f"The repository '{source.repository}' has no revision '{source.revision}'.") from None
    except Exception:  # Offline, no network, a proxy that refuses: the cache may do.
        try:
            folder = snapshot_download(
                source.repository, revision=source.revision, repo_type=source.kind, local_files_only=True
            )
        except LocalEntryNotFoundError:
            raise _unreachable(str(source)) from None
        return tuple(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def _unreachable(what: str) -> RequestError:
    return RequestError(
        f"{what} is not in the local cache, and the hub cannot be reached; check the network and HF_HUB_OFFLINE, "
        "or name a local file."
    )


def _no_repository(name: str) -> RequestError:
    return RequestError(
        f"The hub has no repository '{name}', or it is private; check the name, or log in with `hf auth login`."
    )


def _check_content(file: HubFile, path: Path) -> None:
    """Compare a copy with the hash that the hub gave, which the cache has for a name; a damaged copy is removed."""
    copy = path.resolve()
    if len(copy.name) not in (40, 64):
        return
    with copy.open("rb") as content:
        if len(copy.name) == 64:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        else:
            # As git names a file.
            digest = hashlib.sha1(b"blob %d\0" % copy.stat().st_size, usedforsecurity=False)
            while piece := content.read(2**20):
                digest.update(piece)
            found = digest.hexdigest()
    if found != copy.name:
        copy.unlink()
        raise RequestError(
            f"The copy of {file} is damaged: its hash is {found[:12]}, and the hub announced {copy.name[:12]}. It was "
            "removed; try again."
        )
