"""What every page has: nothing is fetched, the theme is the reader's, and tables scroll where a window is narrow."""

from collections.abc import Iterable, Sequence
from importlib import resources

from cokv_bench.report.html.embedding import text

#: Nothing is fetched from anywhere, whatever a text in the page says.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

#: Key, title, and HTML below the title.
Section = tuple[str, str, str]


def document(
    title: str, sections: Sequence[Section], data: Iterable[str], scripts: Iterable[str], styles: Iterable[str]
) -> str:
    """A page that needs nothing but itself.

    Args:
        title: plain text.
        sections: linked from the top.
        data: elements for the scripts.
        scripts, styles: JavaScript and CSS, in their order.
    """
    links = "".join(f'<a href="#{key}">{text(name)}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{text(name)}</h2>{inner}</section>' for key, name, inner in sections)
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>{text(title)} · cokv-bench</title><style>{"".join(styles)}</style></head><body>'
        f'<header><h1>{text(title)}</h1><button id="theme" type="button" hidden>Dark or light</button>'
        f'<nav aria-label="Sections">{links}</nav></header><main>{body}</main>{"".join(data)}'
        f"{''.join(f'<script>{script}</script>' for script in scripts)}</body></html>\n"
    )


def packaged(name: str) -> str:
    """A script or style of this folder."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def wide(kind: str, label: str, header: Sequence[str], *sections: Iterable[str]) -> str:
    """A table that scrolls where the window is narrow, from its rows, each its cells or a whole row.

    Args:
        kind: its class.
        label: plain text that names it for those who do not see it.
        header: plain text.
        sections: rows of HTML.
    """
    head = "".join(f'<th scope="col">{breakable(name)}</th>' for name in header)
    body = "".join(f"<tbody>{''.join(map(_whole, rows))}</tbody>" for rows in sections)
    return f'{scrolling(label)}<table class="{kind}"><thead><tr>{head}</tr></thead>{body}</table></div>'


def _whole(row: str) -> str:
    return row if row.startswith("<tr") else f"<tr>{row}</tr>"


def scrolling(label: str) -> str:
    """The start of a box that scrolls by itself, also by keyboard; the label is plain text."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(label)}">'


def breakable(name: str) -> str:
    """Long names of tasks may break after their benchmark."""
    return text(name).replace("/", "/<wbr>")
