"""Head files on the hub, spoken to by a server on this machine that knows its protocol."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from cokv_bench.budgets import HeadValues, embedded, hub, load_head_file
from cokv_bench.budgets.card import card_section
from cokv_bench.budgets.from_profile import write_budgets
from cokv_bench.budgets.head_file import head_file_path
from cokv_bench.budgets.hub import push, with_section
from cokv_bench.errors import RequestError
from cokv_bench.hub import HubFile, HubRepository, fetch, on_hub, parse
from cokv_bench.models import Model
from cokv_bench.runs.heads import HeadSources
from cokv_bench.runs.sources import static_budgets
from tests.hub_server import Hub, local_hub, offline

SHARES = embedded.shares_path()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub of this process, with one repository, and an empty cache."""
    with local_hub(tmp_path / "cache", monkeypatch) as found:
        found.files["me/heads/shares.json"] = SHARES.read_bytes()
        yield found


def same(name: str) -> bool:
    """Whether a name's file reads as a head file, and is the one that the hub has."""
    load_head_file(Path(name))
    return head_file_path(Path(name)).read_bytes() == SHARES.read_bytes()


def refused(name: str) -> str:
    with pytest.raises(RequestError) as told:
        load_head_file(Path(name))
    assert len(str(told.value)) <= 400
    return str(told.value)


def test_a_file_is_had_by_name_once(here: Hub) -> None:
    for name in ("hf:me/heads/shares.json", "hf:me/heads@v1/shares.json", "hf:me/heads/shares.json"):
        assert same(name)
    assert load_head_file("hf:me/heads/shares.json").method == "cokv-search"
    # The hub's client may ask for other things of its own accord, now and then.
    assert sum(command == "GET" and "shares.json" in path for command, path in here.asked) == 1


@pytest.mark.parametrize("revision", ["refs/pr/3", "refs%2Fpr%2F3", "my%2Fbranch"])
def test_a_revision_may_have_slashes(here: Hub, revision: str) -> None:
    assert same(f"hf:me/heads@{revision}/shares.json")
    assert f"hf:me/heads@{revision.replace('refs%2Fpr%2F3', 'refs/pr/3')}/b.json" in refused(
        f"hf:me/heads@{revision}/b.json"
    )


def test_budgets_of_a_published_profile_are_written_here(
    here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.files["me/heads/values.json"] = embedded.values_path().read_bytes()
    monkeypatch.chdir(tmp_path)
    for profile in ("hf:me/heads/values.json", Path("hf:me/heads/values.json")):
        ((path, _),) = write_budgets(profile, [64])
        assert path == Path("cokv-64.budgets.json")
        (tmp_path / path).unlink()


def test_an_interrupted_download_resumes(here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    # What has arrived is written in pieces of this size.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    here.cut = 2
    assert same("hf:me/heads/shares.json")
    assert here.ranges
    assert all(asked.startswith("bytes=") and not asked.startswith("bytes=0-") for asked in here.ranges)


def test_a_copy_with_another_hash_is_refused_and_removed(here: Hub) -> None:
    here.spoiled = True
    assert "is damaged" in refused("hf:me/heads/shares.json")
    here.spoiled = False
    assert same("hf:me/heads/shares.json")


def test_what_is_not_there_is_told(here: Hub) -> None:
    assert "no file 'other.json'" in refused("hf:me/heads/other.json")
    assert "no repository 'you/heads'" in refused("hf:you/heads/shares.json")
    assert "hf:me/heads@v7/shares.json cannot be downloaded" in refused("hf:me/heads@v7/shares.json")
    here.files["me/heads/text.json"] = b"[]"
    assert "is of kind" in refused("hf:me/heads/text.json")
    for name in ("hf:heads.json", "hf:me/heads", "hf:a b/c/d.json"):
        assert "write hf:OWNER/REPO/FILE.json" in refused(name)


def test_offline_a_copy_serves_and_nothing_else(here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    load_head_file(Path("hf:me/heads/shares.json"))
    offline(monkeypatch, True)
    asked = len(here.asked)
    assert same("hf:me/heads/shares.json")
    assert "not in the local cache" in refused("hf:me/heads/other.json")
    assert len(here.asked) == asked


def test_published_files_come_back_and_share_a_card(here: Hub) -> None:
    values = embedded.values_path()
    for path, table in ((SHARES, None), (values, "| method | needle |"), (SHARES, "| new |")):
        section = card_section(load_head_file(path), path.name, "me/new", table)
        name = push(path, "me/new", section, private=True)
        fetch.cache_clear()
    assert name == f"hf:me/new/{SHARES.name}"
    assert here.private == {"me/new": True}
    assert same(name)
    card = here.files["me/new/README.md"].decode()
    assert card.startswith("---\nlibrary_name: cokv-bench\n")
    assert card.count("\n## ") == 2
    assert card.index(SHARES.name) < card.index(values.name)
    assert "| new |" in card
    assert "30 layers x 3 KV heads" in card
    assert f"--heads hf:me/new/{values.name}" in card


def test_a_server_that_refuses_is_one_sentence(here: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RequestError, match=r"cannot be published in 'me/x'.*hf auth login"):
        push(SHARES, "me/x", "")


def test_a_collection_has_files_by_model_and_rule(
    here: Hub, texty: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> int:
        return get_budgets(32).sum()

    def get_budgets(budget: int) -> Any:
        made = static_budgets(
            "cokv", texty, [budget], ["needle"], window=8, published_rounding=False, sources=HeadSources(zeroed=1)
        )
        return made["needle"].tokens(budget, window=8, knobs={})

    with pytest.raises(RequestError, match="No head budgets for 'cokv'"):
        kept()
    monkeypatch.setenv(hub.COLLECTION, "hf:me/heads")
    with pytest.raises(RequestError, match="no file"):
        kept()
    values = load_head_file(embedded.values_path())
    assert isinstance(values, HeadValues)
    shape = (texty.layers, texty.kv_heads)
    mine = replace(
        values,
        model=texty.fingerprint,
        values=values.values[: shape[0], : shape[1]],
        standard_errors=values.standard_errors[: shape[0], : shape[1]],
    )
    mine.save(tmp_path / "mine.json")
    name = texty.name.strip("/").replace("/", "--")
    here.files[f"me/heads/{name}.cokv.json"] = (tmp_path / "mine.json").read_bytes()
    assert kept() == 32 * texty.layers * texty.kv_heads
    monkeypatch.setenv(hub.COLLECTION, "me")
    with pytest.raises(RequestError, match="COKV_BENCH_HEADS is 'me'; it names a repository"):
        kept()


def test_names_are_read_and_written() -> None:
    revisions = {"@v1.0": "v1.0", "@refs/pr/12": "refs/pr/12", "@my%2Fown": "my/own", "": None, "@refs": "refs"}
    for written, revision in revisions.items():
        for file in ("b.json", "a/b.json", "pr/x/b.json"):
            name = f"hf:me/heads{written}/{file}"
            found = HubFile.parse(name)
            assert (found.revision, found.file, str(found)) == (revision, file, name)
        assert parse(f"hf:me/heads{written}") == HubRepository("me/heads", revision)
    assert HubFile.parse("hf:me/heads@refs%2fpr%2f3/b.json").revision == "refs/pr/3"
    assert not on_hub(Path("hf/me/heads.json"))


def test_a_section_replaces_its_own_alone() -> None:
    card = with_section(with_section("# Title\n", "a.json", "one"), "b.json", "two")
    again = with_section(card, "a.json", "three")
    assert "one" not in again
    assert again.index("three") < again.index("two")
