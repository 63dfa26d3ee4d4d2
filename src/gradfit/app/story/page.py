"""The story as one page that needs nothing from outside."""

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from gradfit import __version__
from gradfit._views.palette import DARK, LIGHT, Palette
from gradfit.app.story.blocks import Block, Chapter, Code, Formula, Picture, Prose, Said, Table

TITLE = "A line through points that are noisy both ways"
LEAD = (
    "One loss, minimised by gradient descent on its own computational graph: first as it is often "
    "written, then right, and then beside what a fit makes of the same points."
)
SWITCH = (
    "const root = document.documentElement, dark = matchMedia('(prefers-color-scheme: dark)');"
    "document.getElementById('theme').onclick = () => {"
    "const now = root.dataset.theme || (dark.matches ? 'dark' : 'light');"
    "root.dataset.theme = now === 'dark' ? 'light' : 'dark'; };"
)
TINTS = {"light": "#f4f6f9", "dark": "#19212b"}


def page(chapters: Sequence[Chapter]) -> str:
    """Return the whole page."""
    contents = "".join(
        f'<li><a href="#c{k}">{escape(chapter.title)}</a></li>'
        for k, chapter in enumerate(chapters, 1)
    )
    body = "\n".join(_section(k, chapter) for k, chapter in enumerate(chapters, 1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>{_colours()}{_sheet()}</style></head>\n<body><main>"
        '<button id="theme" type="button">light / dark</button>'
        f"<header><h1>{TITLE}</h1><p>{LEAD}</p></header>\n"
        f'<nav aria-label="Chapters"><ol>{contents}</ol></nav>\n{body}\n'
        f"<footer>Told by gradfit {__version__} with <code>gradfit demo</code>. Every number on "
        "this page was computed when it was written; times are of that machine.</footer>"
        f"</main><script>{SWITCH}</script></body></html>\n"
    )


def _section(number: int, chapter: Chapter) -> str:
    inner = "\n".join(_block(block) for block in chapter.blocks)
    title = escape(chapter.title)
    return f'<section id="c{number}"><h2><span>{number}</span>{title}</h2>\n{inner}</section>'


def _block(block: Block) -> str:
    match block:
        case Prose(text):
            return f"<p>{_marked(text)}</p>"
        case Formula(text, mathml):
            math = f'<math display="block" aria-label="{escape(text)}">{mathml}</math>'
            return f'<div class="formula">{math}</div>'
        case Code(text):
            return f"<pre>{escape(text)}</pre>"
        case Said(call, text):
            return f'<div class="said"><cite>{escape(call)}</cite>{_words(text)}</div>'
        case Table(head, rows):
            return _table(head, rows)
        case Picture(svg, caption):
            return (
                f'<figure><div class="scroll">{svg}</div>'
                f"<figcaption>{_marked(caption)}</figcaption></figure>"
            )


def _marked(text: str) -> str:
    """Set a line of prose: code in its own type, and no line break inside ``a = 2.5``."""
    parts = escape(text).split("`")
    for k, part in enumerate(parts):
        if k % 2:
            parts[k] = f"<code>{part}</code>"
        else:
            parts[k] = re.sub(r"\b(\w) = (?=-?\d)", "\\1\u00a0=\u00a0", _whole(part))
    return "".join(parts)


def _whole(text: str) -> str:
    """Keep a line from ending inside a number such as ``1e-5``, or before its ``%``."""
    return re.sub(r"(?<=\d) (?=%)", "\u00a0", re.sub(r"(?<=\de)-(?=\d)", "\u2011", text))


def _words(text: str) -> str:
    """Set what was said as a paragraph, or line by line where its lines matter."""
    if "\n" in text:
        return f"<pre>{escape(text.replace('`', ''))}</pre>"
    return f"<p>{_marked(text)}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("".join(f"<td>{_whole(escape(cell))}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _colours() -> str:
    """Return the colours of the pictures as variables, for readers of either theme."""
    sheet = f":root{{{_variables(LIGHT, TINTS['light'])}--sans:system-ui,-apple-system,'Segoe UI',"
    sheet += "Roboto,'Helvetica Neue','DejaVu Sans',sans-serif}"
    dark = _variables(DARK, TINTS["dark"])
    sheet += f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    sheet += f":root[data-theme=light]{{{_variables(LIGHT, TINTS['light'])}}}"
    return sheet + f":root[data-theme=dark]{{{dark}}}"


def _variables(colours: Palette, tint: str) -> str:
    named = ("paper", "ink", "muted", "faint", "point", "curve", "foot")
    said = "".join(f"--{name}:{getattr(colours, name)};" for name in named)
    said += "".join(f"--group{k}:{colour};" for k, colour in enumerate(colours.groups))
    return f"{said}--tint:{tint};"


def _sheet() -> str:
    return files("gradfit.app.story").joinpath("page.css").read_text(encoding="utf-8")
