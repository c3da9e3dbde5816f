"""The code in the documentation runs, and its links lead somewhere."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cokv_bench.registries import ALLOCATORS, SCORERS
from tests.documented import FENCE, PAGES, ROOT, load


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert anchor in headings(page.parent / target if target else page), (target, anchor)


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_what_reproductions_take_is_what_the_dry_run_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours aside, which are the machine's; a table's row ends as the page's does."""
    from cokv_bench.cli import main

    text = (ROOT / "docs/reproducing.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `make reproduce-([\w.-]+)` \|[^|]*\|(.*)\|$", text, re.MULTILINE))
    assert set(rows) == {path.stem for path in (ROOT / "configs/reproduce").glob("*.yaml")}
    for name, row in rows.items():
        monkeypatch.setattr(sys, "argv", ["cokv-bench", "reproduce", name, "--dry-run"])
        with pytest.raises(SystemExit, match="0"):
            main()
        (total,) = re.findall(r"^ *all +(.*)$", capsys.readouterr().out, re.MULTILINE)
        prompts, _, answers, *rest = total.split()
        assert [cell.strip() for cell in row.split("|")] == [prompts, answers, *rest[:3]]


def test_the_api_page_names_what_can_be_imported() -> None:
    """Where a name is defined, which the page reads its text from, and where it is imported from are one object."""
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    entries = re.findall(r"^::: (\S+)\n    options:\n      heading: (\S+)$", text, re.MULTILINE)
    assert len(entries) == text.count(":::")
    for defined, public in entries:
        home, name = defined.rsplit(".", 1)
        package, public_name = public.rsplit(".", 1)
        assert getattr(importlib.import_module(package), public_name) is getattr(sys.modules[home], name)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    need_mkdocs()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.stem for page in PAGES} - {"README"}
    assert pages <= {page.stem for page in tmp_path.glob("*.html")}
    assert "cokv_bench.load_model" in (tmp_path / "api.html").read_text(encoding="utf-8")


def test_links_of_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file outside docs/ is copied, a folder is text, a page is a page, and code stays as it is."""
    need_mkdocs()
    hooks = load(ROOT / "docs/_hooks.py")
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    monkeypatch.setattr(hooks, "DOCS", tmp_path / "docs")
    for name in ("docs/game.md", "results/scores.csv", "CONTRIBUTING.md", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    code = "```\n[a](../results)\nx\n- y\n```"
    page = (
        "[a](game.md#b) [c\nd](../results/scores.csv) [e](../results) ![f](../none.png) [g](../CONTRIBUTING.md)\n"
        "[h](../README.md) [i](https://example.org)\n- j\n"
    )
    copied: list[str] = []
    assert hooks.for_site(page + code, tmp_path / "docs", copied.append) == (
        "[a](game.md#b) [c\nd](results/scores.csv) e (`results`) ![f](../none.png) [g](CONTRIBUTING.md)\n"
        "h (`README.md`) [i](https://example.org)\n\n- j\n" + code
    )
    assert copied == ["results/scores.csv", "CONTRIBUTING.md"]
    assert hooks.for_site("[a](docs/game.md)", tmp_path) == "[a](game.md)"


def need_mkdocs() -> None:
    for module in ("mkdocs", "material", "mkdocstrings_handlers"):
        pytest.importorskip(module, reason="the site is built by MkDocs: pip install 'cokv-bench[docs]'")


def test_the_examples_of_extending_are_the_files_that_the_tests_run() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
    files = {path.read_text(encoding="utf-8") for path in (ROOT / "examples" / "toys").glob("*.py")}
    assert set(shown) == files
    assert len(shown) == len(files)


def test_the_plug_in_of_the_tutorial_is_the_file_that_its_commands_name() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown == [(ROOT / "examples/tutorial/valued.py").read_text(encoding="utf-8")]


def test_every_method_and_command_of_the_documentation_exists() -> None:
    from cokv_bench.cli import make_app
    from cokv_bench.game import ESTIMATORS, SAMPLINGS
    from cokv_bench.game.utilities import UTILITIES
    from cokv_bench.policies import POLICIES

    def named(page: str) -> set[str]:
        return set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE))

    assert named("methods.md") == set(POLICIES)
    assert named("game.md") == {*ESTIMATORS, *SAMPLINGS, *UTILITIES}
    app = make_app()
    commands = {each.name for each in (*app.registered_commands, *app.registered_groups)}
    for page in PAGES:
        for command in re.findall(r"(?:^|`)cokv-bench ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert command in commands, (page.name, command)


@pytest.mark.model
def test_the_readme_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    decoded, generated = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(decoded, names)
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) >= 3
    assert "48213" in answers[0]
    exec(generated, names)
    assert "48213" in capsys.readouterr().out


def test_the_comparison_counts_the_rankings_and_splits_that_there_are() -> None:
    page = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    assert f"pairs of {len(list(SCORERS))} rankings" in page
    assert f"and {len(list(ALLOCATORS))} splits" in page
