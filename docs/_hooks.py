"""MkDocs hooks: the pages are written for GitHub; on the site their links lead to the same files.

A link that leaves docs/ must name something that exists in the repository, or the build warns. A file gets a copy on
the site, a folder becomes plain text. CONTRIBUTING.md and CHANGELOG.md are pages of the site, README.md is not.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
#: Pages of the site that lie outside docs/.
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")

_FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
# GitHub lets a list follow a paragraph's line; Python-Markdown wants an empty line before it.
_LIST = re.compile(r"^((?![-#|>]|  ).+\n)(?=- )", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/ and every file that a page links to."""
    pages = {page.src_uri: DOCS / page.src_uri for page in files.documentation_pages()}
    pages |= {name: ROOT / name for name in PAGES}
    linked = set(PAGES)
    for path in pages.values():
        for_site(path.read_text(encoding="utf-8"), path.parent, linked.add)
    for name in sorted(linked):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page as the site has it."""
    return for_site(markdown, ROOT if page.file.src_uri in PAGES else DOCS)


def for_site(markdown: str, folder: Path, copied: Callable[[str], object] = lambda name: None) -> str:
    """Text of a page in `folder` with links as the site has them; `copied` is told each file outside docs/."""

    def link(match: re.Match[str]) -> str:
        path = (folder / match["target"]).resolve()
        if "://" in match["target"] or not path.exists():
            return match[0]
        if path.is_relative_to(DOCS):
            name = path.relative_to(DOCS).as_posix()
        else:
            name = path.relative_to(ROOT).as_posix()
            if path.is_dir() or (path.suffix == ".md" and name not in PAGES):
                return f"{match['text']} (`{name}`)"
            copied(name)
        return f"{match['image']}[{match['text']}]({name}{match['anchor'] or ''})"

    # Every second part is a fenced block.
    parts = _FENCE.split(markdown)
    parts[::2] = [_LIST.sub(r"\1\n", _LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts)
