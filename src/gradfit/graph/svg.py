"""A graph as SVG: cards with name, value and gradient, arrows that carry parts of gradients."""

import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from gradfit.graph.fold import Card, Link, Picture, fold, one_of
from gradfit.graph.graph import Detail, Graph, Theme
from gradfit.graph.layout import Layout, place

MARGIN, PAD, LINE, TITLE = 18.0, 10.0, 15.0, 13.0
WIDEST, NARROWEST = 320.0, 74.0
SMALL, GAP, BAND = 11.0, 14.0, 100.0
_SILENT = ("", "leaf", "constant", "[]", "[]=", "changed")
"""Operations that a title shows already."""

# Width of a character in em, by class; what is not listed is of middle width.
_NARROW, _WIDE = "iljtf.,:;'|!()[]{} r-", "mwMWGOQ@%"

LIGHT = {
    "paper": "#ffffff", "ink": "#1b2430", "muted": "#5b6675", "line": "#8a96a3",
    "card": "#f7f9fb", "edge": "#c5ced8", "grad": "#b3450a",
    "leaf": "#e4effc", "leaf-edge": "#0b65c2", "result": "#e2f4ec", "result-edge": "#00805c",
    "custom-edge": "#7a4bc2", "custom": "#f1eafb", "quiet": "#f2f3f5", "warn": "#c8500a",
}  # fmt: skip
DARK = {
    "paper": "#11161d", "ink": "#e8edf2", "muted": "#9aa6b2", "line": "#6f7d8b",
    "card": "#1a222c", "edge": "#3a4653", "grad": "#ff9a4d",
    "leaf": "#142c47", "leaf-edge": "#5fb0ff", "result": "#113529", "result-edge": "#3ccf9f",
    "custom-edge": "#b996ff", "custom": "#2a2140", "quiet": "#171d25", "warn": "#ff9a4d",
}  # fmt: skip


class Drawing(NamedTuple):
    """An SVG body with its picture and size."""

    body: str
    picture: Picture
    width: float
    height: float


def draw(graph: Graph, *, detail: Detail | None = None, theme: Theme = "auto") -> str:
    """Return a graph as a self-contained SVG document.

    Parameters
    ----------
    graph : Graph
    detail : "statement", "operation", "kernel" or None
        One card for each statement or operation; "kernel" adds what each backward runs. None
        chooses by size.
    theme : "auto", "light" or "dark"
        "auto" follows the reader's setting.
    """
    one_of("theme", theme, Theme)
    made = body(fold(graph, detail))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(graph.title)}" '
        f'width="{made.width:.0f}" height="{made.height:.0f}" '
        f'viewBox="0 0 {made.width:.0f} {made.height:.0f}" class="gradfit">'
        f"<title>Computational graph of {escape(graph.title)}</title>"
        f"<style>{styles(theme)}</style>"
        f'<rect class="paper" width="100%" height="100%"/>{made.body}</svg>'
    )


def body(picture: Picture, sizes: Sequence[tuple[float, float]] | None = None) -> Drawing:
    """Return arrows and cards of a graph, without the document around them."""
    sizes = sizes or [size_of(card) for card in picture.cards]
    layout = place(sizes, [(k.source, k.target) for k in picture.links])
    parts = [_arrow_head()]
    parts += [_arrow(k, link, layout) for k, link in enumerate(picture.links)]
    parts += _parts(picture, layout, sizes)
    parts += [_box(i, card, layout, sizes[i]) for i, card in enumerate(picture.cards)]
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    inner = "".join(parts)
    return Drawing(
        f'<g transform="translate({MARGIN:g} {MARGIN:g})">{inner}</g>', picture, width, height
    )


def styles(theme: Theme) -> str:
    """Return the style sheet: colours as variables, and how each kind of card looks."""

    def variables(colours: dict[str, str]) -> str:
        return "".join(f"--{name}:{value};" for name, value in colours.items())

    first = DARK if theme == "dark" else LIGHT
    sheet = f".gradfit{{{variables(first)}}}"
    if theme == "auto":
        sheet += f"@media(prefers-color-scheme:dark){{.gradfit{{{variables(DARK)}}}}}"
        # A page around the picture may choose.
        sheet += f"[data-theme=light] .gradfit{{{variables(LIGHT)}}}"
        sheet += f"[data-theme=dark] .gradfit{{{variables(DARK)}}}"
    return sheet + _RULES


_RULES = (
    ".gradfit{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    "svg.gradfit{max-width:100%;height:auto}.gradfit .paper{fill:var(--paper)}"
    ".gradfit text{fill:var(--ink);font-size:12px}"
    ".gradfit .title{font-size:13px;font-weight:600}"
    ".gradfit .note,.gradfit .none,.gradfit .op{fill:var(--muted);font-size:11px}"
    ".gradfit .grad{fill:var(--grad)}.gradfit .part{fill:var(--grad);font-size:10.5px}"
    ".gradfit .ground{fill:var(--paper);opacity:.92}"
    ".gradfit .card rect{fill:var(--card);stroke:var(--edge);stroke-width:1.2}"
    ".gradfit .leaf rect{fill:var(--leaf);stroke:var(--leaf-edge)}"
    ".gradfit .constant rect{fill:var(--quiet);stroke:var(--edge);stroke-dasharray:4 3}"
    ".gradfit .result rect{fill:var(--result);stroke:var(--result-edge)}"
    ".gradfit .custom rect{fill:var(--custom);stroke:var(--custom-edge);stroke-width:2}"
    ".gradfit .read rect{fill:none;stroke:var(--muted);stroke-dasharray:2 3}"
    ".gradfit .hidden rect{fill:var(--quiet);stroke:var(--warn);stroke-dasharray:6 3}"
    ".gradfit .nograd rect{stroke-dasharray:4 3}"
    ".gradfit .link{fill:none;stroke:var(--line);stroke-width:1.4}"
    ".gradfit .dry{stroke-dasharray:4 4;opacity:.75}.gradfit .tip{fill:var(--line)}"
)


def text_width(text: str, size: float = 12.0, mono: bool = True) -> float:
    """Return about how wide a text is, in pixels; a wide character counts twice."""
    if mono:
        em = sum(2.0 if unicodedata.east_asian_width(c) in "WF" else 1.0 for c in text)
        return 0.605 * size * em
    em = sum(0.33 if c in _NARROW else 0.86 if c in _WIDE else 0.56 for c in text)
    return size * em


def shorten(text: str, width: float, size: float = 12.0) -> str:
    """Cut a text in the middle so that it fits, keeping both ends."""
    if text_width(text, size) <= width:
        return text
    keep = max(4, int(width / (0.605 * size)) - 1)
    head = (keep + 1) // 2
    return f"{text[:head]}…{text[len(text) - (keep - head) :]}"


def rows_of(card: Card) -> list[tuple[str, str]]:
    """Return the texts of a card with the class of each: title, operation, value, gradient.

    The operation stands beside the title; every other text has a line of its own.
    """
    node, room = card.node, WIDEST - 2 * PAD
    times = "" if card.times == 1 else f"  × {card.times}"
    op = node.op if len(card.members) == 1 and node.kind != "read" else ""
    shown = op in (card.title, *_SILENT) or card.title.endswith(f": {op}")
    op = "" if shown else shorten(op, room / 3, SMALL)
    beside = text_width(op, SMALL) + GAP if op else 0.0
    title = shorten(card.title, room - beside - text_width(times, TITLE), TITLE)
    rows = [("title", title + times)]
    if op:
        rows.append(("op", op))
    value = _value(card)
    if value:
        rows.append(("value", shorten(f"= {value}", room)))
    rounds = f"next round: into {', '.join(card.rounds)}" if card.rounds else ""
    rows += [("note", shorten(note, room, SMALL)) for note in (card.note, rounds) if note]
    if node.kind == "read":
        rows.append(("none", "Python looked at the number"))
    elif node.grad is not None or card.grads:
        rows.append(("grad", shorten(f"grad {_gradient(card)}", room)))
    elif node.requires_grad:
        rows.append(("grad", "grad None: nothing came back"))
    else:
        rows.append(("none", "no grad" if not node.in_no_grad else "no_grad: not recorded"))
    return rows


def _value(card: Card) -> str:
    node = card.node
    if node.value is None:
        return node.read_answer or ""
    value = node.value.brief
    if node.value.shape:
        return f"{value} {node.value.shape}".replace(", ", ",\u00a0")
    first = card.first.value if card.first is not None else None
    return value if first is None or first.brief == value else f"{first.brief} → {value}"


def _gradient(card: Card) -> str:
    first, last = card.grads or (card.node.grad, card.node.grad)
    texts = list(dict.fromkeys(each.brief for each in (first, last) if each is not None))
    return " → ".join(texts) if last is None or last.n == 1 else texts[-1]


def size_of(card: Card) -> tuple[float, float]:
    """Return width and height of a card."""
    rows = dict(rows_of(card))
    sizes = {"title": TITLE * 1.03, "note": SMALL, "none": SMALL, "op": SMALL}
    widths = {kind: text_width(text, sizes.get(kind, 12.0)) for kind, text in rows_of(card)}
    if "op" in rows:
        widths["title"] += GAP + widths["op"]
    lines = sum(kind != "op" for kind, _ in rows_of(card))
    return max(NARROWEST, max(widths.values()) + 2 * PAD), 2 * PAD + LINE * lines


def _box(index: int, card: Card, layout: Layout, size: tuple[float, float]) -> str:
    node = card.node
    kinds = f"card {card.kind}"
    if not node.requires_grad and card.kind in ("op", "result"):
        kinds += " nograd"
    lines = "".join(_lines(card, size[0]))
    spoken = escape(f"{card.title}: {node.reason}" if node.reason else card.title)
    at = f"translate({layout.x[index]:.1f} {layout.y[index]:.1f})"
    return (
        f'<g class="{kinds}" data-card="{index}" tabindex="0" role="button" aria-label="{spoken}" '
        f'transform="{at}"><title>{spoken}</title>'
        f'<rect width="{size[0]:.1f}" height="{size[1]:.1f}" rx="7"/>{lines}</g>'
    )


def _lines(card: Card, width: float) -> Iterator[str]:
    y = PAD + 11 - LINE
    for kind, text in rows_of(card):
        y += LINE if kind != "op" else 0
        place = f'x="{PAD:g}"' if kind != "op" else f'x="{width - PAD:.1f}" text-anchor="end"'
        yield f'<text class="{kind}" {place} y="{y:g}">{escape(text)}</text>'


def _arrow_head() -> str:
    return (
        '<defs><marker id="gradfit-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="10" '
        'markerHeight="10" markerUnits="userSpaceOnUse" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
    )


def _arrow(index: int, link: Link, layout: Layout) -> str:
    path = layout.paths[index]
    x, y = path[0]
    d = [f"M{x:.1f} {y:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(path):
        if abs(x0 - x1) < 0.05 or abs(y0 - y1) < 0.05:
            d.append(f"L{x1:.1f} {y1:.1f}")
        else:
            middle = (y0 + y1) / 2
            d.append(f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}")
    kind = "link" if link.flows else "link dry"
    return (
        f'<path class="{kind}" data-from="{link.source}" data-to="{link.target}" '
        f'marker-end="url(#gradfit-tip)" d="{"".join(d)}"/>'
    )


def _parts(picture: Picture, layout: Layout, sizes: Sequence[tuple[float, float]]) -> list[str]:
    """Write on arrows what comes back along them, wherever there is room for it."""
    taken = _Taken()
    for x, y, (w, h) in zip(layout.x, layout.y, sizes, strict=True):
        taken.add((x, y, x + w, y + h))
    out: list[str] = []
    for k, link in enumerate(picture.links):
        if link.part is None:
            continue
        text = link.part.brief
        half = text_width(text, 10.5) / 2 + 3
        for x, y in _spots(layout.paths[k]):
            box = (x - half, y - 8, x + half, y + 6)
            if taken.has_room_for(box):
                taken.add((box[0] - 4, box[1], box[2] + 4, box[3]))
                out.append(
                    f'<rect class="ground" x="{box[0]:.1f}" y="{box[1]:.1f}" '
                    f'width="{2 * half:.1f}" height="14" rx="3"/>'
                    f'<text class="part" data-link="{k}" x="{x:.1f}" y="{y + 3:.1f}" '
                    f'text-anchor="middle">{escape(text)}</text>'
                )
                break
    return out


Box = tuple[float, float, float, float]


class _Taken:
    """Boxes that are drawn already, by the bands of the picture that they touch."""

    def __init__(self) -> None:
        self._bands: dict[int, list[Box]] = {}

    def add(self, box: Box) -> None:
        for band in self._touched(box):
            self._bands.setdefault(band, []).append(box)

    def has_room_for(self, box: Box) -> bool:
        return all(
            box[2] <= t[0] or t[2] <= box[0] or box[3] <= t[1] or t[3] <= box[1]
            for band in self._touched(box)
            for t in self._bands.get(band, ())
        )

    def _touched(self, box: Box) -> range:
        return range(int(box[1] // BAND), int(box[3] // BAND) + 1)


def _spots(path: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Places along an arrow, from its source on."""
    for (x0, y0), (x1, y1) in pairwise(path):
        for t in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8):
            bend = t * t * (3 - 2 * t)
            yield x0 + bend * (x1 - x0), y0 + t * (y1 - y0)
