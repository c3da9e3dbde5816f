"""What a repository has around its code: versions agree, forms and workflows have what they need."""

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

import cokv_bench
from tests.documented import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str | Path) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {plain(name): pinned for name, _, pinned in (line.partition("==") for line in lines) if pinned}


def test_versions_agree() -> None:
    assert cokv_bench.__version__ == version("cokv-bench")
    assert cokv_bench.__version__ == PROJECT["version"], "the installation is older than pyproject.toml: make setup"
    assert read("CITATION.cff")["version"] == PROJECT["version"]


def test_no_module_states_the_version() -> None:
    stated = [
        path for path in (ROOT / "cokv_bench").rglob("*.py") if f'"{PROJECT["version"]}"' in path.read_text("utf-8")
    ]
    assert not stated


def test_every_dependency_is_pinned() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(each for needed in extras.values() for each in needed)]
    # PyTorch brings the Triton that it fits.
    missing = {plain(re.split(r"[\[<>=;, ]", each)[0]) for each in asked} - set(pins()) - {"triton"}
    assert not missing


def test_citation() -> None:
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["license"] == PROJECT["license"]
    papers = {each["url"].rpartition("/")[2] for each in citation["references"]}
    assert papers == {"2502.17501", "2407.11550"}
    for each in citation["references"]:
        assert {"type", "title", "authors"} <= each.keys()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_has_what_the_site_asks_of_it(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)
    assert any(field["validations"]["required"] for field in fields)


def test_forms_ask_for_what_an_answer_needs() -> None:
    required = {
        path.stem: {field["id"] for field in read(path)["body"] if field.get("validations", {}).get("required")}
        for path in FORMS
    }
    assert required.keys() == {"bug", "new-policy", "question"}
    assert required["new-policy"] == {"name", "paper", "formula", "code", "cost", "fails"}
    assert "doctor" in required["bug"]
    bug = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text(encoding="utf-8")
    assert "cokv-bench doctor" in bug
    assert "run.json" in bug
    assert read(".github/ISSUE_TEMPLATE/config.yml") == {"blank_issues_enabled": False}


def test_ci_runs_what_a_maintainer_runs() -> None:
    workflow = read(".github/workflows/ci.yml")
    # YAML 1.1 reads `on` as true.
    assert {"push", "pull_request", "workflow_call"} <= workflow[True].keys()
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    tested = {f"Programming Language :: Python :: {python}" for python in job["strategy"]["matrix"]["python"]}
    assert tested == {each for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_read_and_no_more(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert more == ({"publish": {"id-token": "write"}} if path.stem == "release" else {})


def test_a_release_is_checked_before_it_is_published() -> None:
    workflow = read(".github/workflows/release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    jobs = workflow["jobs"]
    assert jobs["check"]["uses"] == "./.github/workflows/ci.yml"
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("check", "build")
    commands = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    order = [commands.index(each) for each in ("GITHUB_REF_NAME", "python -m build", "twine check")]
    assert order == sorted(order)
    assert "twine upload" not in commands


def test_hooks_have_the_versions_of_the_constraints() -> None:
    hooks = {
        hook["id"]: repository.get("rev", "").removeprefix("v")
        for repository in read(".pre-commit-config.yaml")["repos"]
        for hook in repository["hooks"]
    }
    ruff, codespell = pins()["ruff"], pins()["codespell"]
    assert hooks == {"ruff-check": ruff, "ruff-format": ruff, "codespell": codespell, "mypy": ""}


def test_the_changelog_is_sorted() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[0] == "[Unreleased]"
    unreleased = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    assert re.findall(r"^### (.*)$", unreleased, re.MULTILINE) == ["Added", "Changed", "Fixed"]


def test_results_stay_small() -> None:
    """A clone brings all results along; tables that `report --recount` makes again need not be among them."""
    # What `make demo` has written there is no part of it.
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False)
    if not listed.stdout:
        pytest.skip("the files of the project are those that git lists")
    files = [path for path in map(ROOT.joinpath, listed.stdout.splitlines()) if path.exists()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert not [path for path in files if path.name in ("examples.jsonl", "records.jsonl")]
    merged = [path.parent for path in files if path.name == "records.jsonl.gz"]
    assert not [path for folder in merged for path in folder.glob("records-*.jsonl.gz")], "shards that were merged"
