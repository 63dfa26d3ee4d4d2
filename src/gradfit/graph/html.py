"""A graph, or a film of graphs, as one page that needs nothing from outside."""

import json
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from gradfit.graph.film import Film
from gradfit.graph.fold import Card, fold
from gradfit.graph.graph import Detail, Graph
from gradfit.graph.svg import Drawing, body, rows_of, size_of, styles


def page(graph: Graph | Film, *, detail: Detail | None = None, title: str | None = None) -> str:
    """Return one self-contained interactive page.

    Pan by dragging, zoom with the wheel, hover to see what a value depends on and what depends on
    it, step through the operations forward and the gradients backward, and, for a film, slide
    through its frames.

    Parameters
    ----------
    graph : Graph or Film
    detail : "statement", "operation", "kernel" or None
        As for pictures.
    title : str, optional
        Heading; the name of the function when left out.
    """
    frames = list(graph) if isinstance(graph, Film) else [graph]
    labels = graph.labels if isinstance(graph, Film) else ("",)
    drawings = _drawings(frames, detail)
    head = title or f"Computational graph of {frames[0].title or 'a function'}"
    film = {
        "width": max(d.width for d in drawings),
        "height": max(d.height for d in drawings),
        "frames": _frames(frames, drawings, labels),
    }
    data = json.dumps(film, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    hidden = "" if len(frames) > 1 else " hidden"
    return (
        '<!doctype html><html lang="en" class="gradfit"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(head)}</title><style>{_theme()}{_asset('page.css')}</style></head><body>"
        f"<header><h1>{escape(head)}</h1>"
        f'<div class="slide"{hidden}><input id="frame" type="range" aria-label="frame" '
        f'min="0" max="{len(frames) - 1}" value="0"><output id="label" for="frame"></output></div>'
        '<div class="bar" role="toolbar" aria-label="graph">'
        '<button id="backward" type="button">◀ backward</button>'
        '<button id="forward" type="button">forward ▶</button>'
        '<button id="farther" type="button" aria-label="smaller">−</button>'
        '<button id="closer" type="button" aria-label="larger">+</button>'
        '<button id="fit" type="button">whole</button>'
        '<button id="theme" type="button">light / dark</button></div></header>'
        '<main><svg id="stage" role="group" aria-label="graph"><g id="camera"><g id="drawing" '
        f'data-base="0">{drawings[0].body}</g></g></svg></main>'
        f'<aside id="details" aria-live="polite">{_LEGEND}</aside>'
        f'<script id="film" type="application/json">{data}</script>'
        f"<script>{_asset('page.js')}</script></body></html>"
    )


_LEGEND = (
    "<p>Choose a card to see its value, its gradient and where it was written. Right arrow: the "
    "next operation forward; left arrow: the gradient back; Escape: all of it.</p>"
    '<ul class="key"><li><span class="k-leaf"></span>leaf that requires grad</li>'
    '<li><span class="k-none"></span>no gradient</li>'
    "<li><span></span>operation</li>"
    '<li><span class="k-result"></span>result</li>'
    '<li><span class="k-custom"></span>custom Function</li>'
    '<li><span class="k-hidden"></span>not seen by the trace</li>'
    "<li><b>−1.5</b> on an arrow: what comes back along it</li></ul>"
)


def show(graph: Graph | Film) -> None:
    """Show the page: in the notebook, or in a browser tab."""
    display = _notebook()
    if display is not None:
        frame = 'style="width:100%;height:640px;border:0" title="computational graph"'
        # An element around it, since IPython warns of HTML that is a bare frame.
        inner = f'<iframe {frame} srcdoc="{escape(page(graph))}"></iframe>'
        display.display(display.HTML(f"<div>{inner}</div>"))
        return
    with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as file:
        file.write(page(graph))
    webbrowser.open(Path(file.name).as_uri())


def _notebook() -> Any:
    """Return what shows things in the notebook that runs, if one runs."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.modules.get("IPython.display") if hasattr(shell, "kernel") else None


def _theme() -> str:
    """Return the colours of the picture, for the page as well."""
    sheet = styles("auto")
    return sheet.replace("[data-theme=light] .gradfit", ".gradfit[data-theme=light]").replace(
        "[data-theme=dark] .gradfit", ".gradfit[data-theme=dark]"
    )


def _asset(name: str) -> str:
    return files("gradfit.graph").joinpath(name).read_text(encoding="utf-8")


def _drawings(frames: Sequence[Graph], detail: Detail | None) -> list[Drawing]:
    """Draw each frame whose structure is new; frames of one structure share their cards' places."""
    made: list[Drawing] = []
    for _, group in groupby(frames, key=lambda frame: frame.structure):
        pictures = [fold(frame, detail) for frame in group]
        cards = zip(*(picture.cards for picture in pictures), strict=True)
        drawing = body(pictures[0], [_widest(alike) for alike in cards])
        made += [drawing._replace(picture=picture) for picture in pictures]
    return made


def _widest(cards: Sequence[Card]) -> tuple[float, float]:
    """Return a size that a card can keep while its numbers change."""
    sizes = [size_of(card) for card in cards]
    return max(w for w, _ in sizes), max(h for _, h in sizes)


def _frames(
    frames: Sequence[Graph], drawings: Sequence[Drawing], labels: Sequence[str]
) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    base = 0
    for i, (frame, drawing, label) in enumerate(zip(frames, drawings, labels, strict=True)):
        new = i == 0 or frame.structure != frames[i - 1].structure
        base = i if new else base
        told: dict[str, Any] = {
            "label": label,
            "base": base,
            "changed": new and i > 0,
            "cards": [_told(card, frame) for card in drawing.picture.cards],
        }
        if new:
            told["body"] = drawing.body
        if len(frames) > 1:
            told["texts"] = [[t for _, t in rows_of(card)] for card in drawing.picture.cards]
            told["parts"] = {
                k: link.part.brief
                for k, link in enumerate(drawing.picture.links)
                if link.part is not None
            }
        out.append(told)
    return out


def _told(card: Card, graph: Graph) -> dict[str, Any]:
    """Return what the side panel says of a card."""
    node = card.node
    rows: list[tuple[str, str]] = []
    if node.value is not None:
        shape = f", shape {node.value.shape}" if node.value.shape else ""
        rows.append(("value", f"{node.value.brief} ({node.value.dtype}{shape})"))
    if node.grad is not None:
        rows.append(("gradient", node.grad.brief))
    if len(node.parts) > 1:
        rows += [(f"through {text}", part.brief) for text, part in node.parts.items()]
    if node.reason:
        rows.append(("why", node.reason))
    if node.read_answer is not None:
        rows.append(("answer", node.read_answer))
    if node.custom is not None:
        rows += [("forward", node.custom.forward), ("backward", node.custom.backward)]
    if node.kernels:
        rows.append(("backward runs", ", ".join(node.kernels)))
    if node.source is not None:
        rows.append(("written", f"{Path(node.source.file).name}, line {node.source.line}"))
        rows.append(("statement", " ".join(node.source.statement.split())))
    if len(card.members) > 1:
        steps = [graph.nodes[m] for m in card.members]
        rows.append(("operations", ", ".join(n.expr or n.op for n in steps[:12])))
    return {"title": card.title, "rows": rows, "grad": int(node.grad is not None)}
