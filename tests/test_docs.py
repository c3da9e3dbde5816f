"""The code in the documentation runs, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_the_policy_example_runs_and_selects(tiny_llama) -> None:
    from cokv_bench.kvcache import prefill
    from cokv_bench.policies import POLICIES, get_policy

    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
    try:
        exec(code, {})
        choice = get_policy("key-norm").select(prefill(tiny_llama, list(range(3, 60))), budget=20)
        assert choice.total == 20 * tiny_llama.layers * tiny_llama.kv_heads
    finally:
        POLICIES.pop("key-norm", None)


def test_every_method_and_command_of_the_documentation_exists() -> None:
    from cokv_bench.cli import make_app
    from cokv_bench.game import ESTIMATORS, SAMPLINGS
    from cokv_bench.game.utilities import UTILITIES
    from cokv_bench.policies import POLICIES

    def named(page: str) -> set[str]:
        return set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE))

    assert named("methods.md") == set(POLICIES)
    assert named("game.md") == {*ESTIMATORS, *SAMPLINGS, *UTILITIES}
    commands = {command.name for command in make_app().registered_commands}
    for page in PAGES:
        for command in re.findall(r"(?:^|`)cokv-bench ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert command in commands, (page.name, command)


@pytest.mark.model
def test_the_readme_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    decoded, generated = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, object] = {}
    exec(decoded, names)
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) >= 3
    assert "48213" in answers[0]
    exec(generated, names)
    # The last method of the first example is CoKV as well; each generates as many tokens.
    assert capsys.readouterr().out.split() == answers[-1].split()
