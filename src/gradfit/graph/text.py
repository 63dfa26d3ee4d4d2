"""A graph for other tools: Graphviz and Mermaid."""

import json

from gradfit.graph.fold import Card, fold
from gradfit.graph.graph import Graph
from gradfit.graph.svg import rows_of

_SHAPES = {"leaf": "lightblue", "result": "palegreen", "custom": "plum", "constant": "gray90"}


def to_dot(graph: Graph) -> str:
    """Return the graph in the language of Graphviz, one box for each card."""
    picture = fold(graph)
    lines = [
        f"digraph {json.dumps(graph.title or 'graph')} {{",
        "  node [shape=box, style=filled];",
    ]
    for i, card in enumerate(picture.cards):
        label = json.dumps("\n".join(_lines(card)), ensure_ascii=False)
        lines.append(f"  n{i} [label={label}, fillcolor={_SHAPES.get(card.kind, 'white')}];")
    for link in picture.links:
        label = f", label={json.dumps(link.part.brief)}" if link.part is not None else ""
        style = "solid" if link.flows else "dashed"
        lines.append(f"  n{link.source} -> n{link.target} [style={style}{label}];")
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: Graph) -> str:
    """Return the graph as a Mermaid flowchart, which GitHub and many editors draw."""
    picture = fold(graph)
    lines = ["flowchart TD"]
    for i, card in enumerate(picture.cards):
        lines.append(f'  n{i}["{_mermaid(card)}"]')
    for link in picture.links:
        arrow = "-->" if link.flows else "-.->"
        label = f'|"{link.part.brief}"|' if link.part is not None else ""
        lines.append(f"  n{link.source} {arrow}{label} n{link.target}")
    return "\n".join([*lines, ""])


def _mermaid(card: Card) -> str:
    text = "<br/>".join(_lines(card))
    return text.replace('"', "#quot;").replace("**", "#42;#42;")


def _lines(card: Card) -> list[str]:
    return [text for kind, text in rows_of(card) if kind != "op"]
