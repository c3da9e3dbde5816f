"""Pages, help texts and the sentences of the program are in plain English: words and phrases to avoid.

A test can hold only what a pattern finds; CONTRIBUTING.md says the rest.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.documented import FENCE, PAGES, ROOT

# What a unit is counted by: "per head", never "a head".
_UNITS = "(?:KV )?(?:head|layer|task|token|row|example|prompt|step|method|coalition|benchmark|length|line|file|depth)"

# What to avoid, and what to write in its place.
AVOID = {
    r"beside": "alongside, compared with, next to",
    r"anew": "again, from scratch",
    r"mend(?:s|ed|ing)?": "fix",
    r"go(?:es)? on|went on": "resume, continue",
    r"affair": "say who decides",
    r"pass(?:es)? prefill": "is prefilled once",
    r"zeroed": "alpha",
    r"(?:token|head|step|row) more": "one extra token",
    rf"(?:one|two|three|bytes?|tokens?|rows?|needles?|budgets?|hours?|nats|\d+) an? {_UNITS}"
    r"(?=$|[,.;:)|]| (?:and|or|at|on|in|for|than|from|with|of|by)\b)": "per",
    r"an? (?:model|command|folder|file|copy|result|row) each": "one model per worker",
    r"(?:file|files|one|shares) of ours": "of this project, or leave it out",
    r"learn(?:ed|t)? by heart": "memorise",
    r"by turns": "take turns, alternate",
    r"adds? nothing that shows|hardly shows?|that shows\b(?=[.,;])": "brings no measurable gain",
    r"in \w+'s manner": "like",
    r"not any more": "no longer",
    r"by what is found": "say what is measured",
    r"whole mission": "the whole pipeline",
    r"(?:thereof|therein|whereof|wherefrom|hitherto|lest|albeit|nought|naught)": "a plainer word",
    r"for a release": "say until when",
    r"to speak of": "say how small",
    r"(?:are|is|and|be) level with": "equal to, no different from",
    r"what it does not (?:say|show)|what they do not (?:say|show)": "say what is open",
    r"serves? badly": "works badly",
    r"is the machine's": "depends on the machine",
}
PATTERN = re.compile("|".join(rf"(?P<w{n}>\b(?:{words})\b)" for n, words in enumerate(AVOID)), re.IGNORECASE)


def found(text: str) -> list[str]:
    """What a text has of the words to avoid, with some words around each and what to write in its place."""
    text = " ".join(text.split())
    instead = list(AVOID.values())
    return [
        f"...{text[max(0, match.start() - 30) : match.end() + 30]}... ({instead[int(str(match.lastgroup)[1:])]})"
        for match in PATTERN.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without blocks of code, code in its sentences, and where its links lead."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]*`", "CODE", re.sub(r"\]\([^)]*\)", "]", text))


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command with those that it groups."""
    yield name, command
    for called, part in getattr(command, "commands", {}).items():
        yield from commands(part, f"{name} {called}")


def sentences(path: Path) -> Iterator[str]:
    """Texts in a module that a user may read: strings of several words that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            alone |= {id(part) for part in node.values}
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            # One word is a key or a name, and may be one of earlier releases.
            yield node.value if " " in node.value else ""


@pytest.mark.parametrize("text", ["Start anew.", "Ours beside yours", "64 tokens a head, or more", "one a task."])
def test_what_is_avoided_is_found(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize("text", ["besides", "how many tokens a head keeps", "recommend", "a amendment"])
def test_what_looks_alike_is_not(text: str) -> None:
    assert not found(text)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_pages(page: Path) -> None:
    assert found(prose(page)) == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_pages_begin_with_a_sentence_and_end_with_where_to_go_next(page: Path) -> None:
    parts = page.read_text(encoding="utf-8").strip().split("\n\n")
    assert parts[0].startswith("# ")
    # Not with a heading, a table, a list or code.
    assert not parts[1].startswith(("#", "|", "- ", "```"))
    assert parts[-1].startswith("Next: ")


def test_help() -> None:
    from cokv_bench.cli import make_app

    for name, command in commands(typer.main.get_command(make_app()), "cokv-bench"):
        told = [command.help, *(getattr(option, "help", None) for option in command.params)]
        assert [hit for text in told for hit in found(text or "")] == [], name


@pytest.mark.parametrize("folder", sorted({path.parent for path in (ROOT / "cokv_bench").rglob("*.py")}))
def test_sentences_of_the_program(folder: Path) -> None:
    hits = {(path.name, hit) for path in folder.glob("*.py") for text in sentences(path) for hit in found(text)}
    assert hits == set()
