"""Head files on the Hugging Face hub: the collection of a user, and publishing with a card."""

import os
from pathlib import Path

from cokv_bench.errors import RequestError, brief, quoted
from cokv_bench.hub import HubFile

#: Names a repository of head files, as hf:OWNER/REPO[@REVISION], for models whose files nobody names.
COLLECTION = "COKV_BENCH_HEADS"


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
