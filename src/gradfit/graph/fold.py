"""What is drawn: one card for each operation, for each statement, or for each line of a loop.

A graph of hundreds of operations is read as the lines that made it. Operations of one statement and
one call become a card; a line that ran again and again becomes one card that says how often.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gradfit.graph.graph import Detail, Graph
from gradfit.graph.record import Node, Snapshot

MANY = 25
"""Operations from which statements are drawn unless something else is asked for."""
TOO_MANY = 60
"""Cards from which lines that repeat are drawn once."""


@dataclass(frozen=True)
class Link:
    """An arrow between two cards.

    Attributes
    ----------
    source, target : int
        Numbers of the cards.
    part : Snapshot or None
        What comes back along it, where its source is used more than once.
    flows : bool
        Whether a gradient flows.
    """

    source: int
    target: int
    part: Snapshot | None = None
    flows: bool = False


@dataclass(frozen=True)
class Card:
    """A box of the picture.

    Attributes
    ----------
    kind : str
        ``leaf``, ``constant``, ``op``, ``result``, ``custom``, ``read`` or ``hidden``.
    title, note : str
        First line; what stands small behind it, such as the operation.
    node : Node
        The node whose value and gradient it shows: the last of its members.
    members : tuple of int
        Numbers of the nodes it stands for.
    times : int
        How often the line ran.
    """

    kind: str
    title: str
    note: str
    node: Node
    members: tuple[int, ...]
    times: int = 1


@dataclass(frozen=True)
class Picture:
    """Cards and links, links always from a lower number to a higher one."""

    cards: tuple[Card, ...]
    links: tuple[Link, ...]


def fold(graph: Graph, detail: Detail | None = None) -> Picture:
    """Choose the cards of a graph at a level of detail; by size when none is given."""
    drawn = [n for n in graph.nodes if _is_drawn(n, graph)]
    if detail is None:
        detail = "statement" if sum(n.kind == "op" for n in drawn) > MANY else "operation"
    if detail == "kernel" and not any(n.kernels for n in graph.nodes):
        graph = graph.with_kernels()
        drawn = [n for n in graph.nodes if _is_drawn(n, graph)]
    groups = [(n,) for n in drawn]
    if detail == "statement":
        groups = _by_statement(drawn)
        if len(groups) > TOO_MANY:
            groups = _by_line(groups)
    return _picture(graph, groups, kernels=detail == "kernel")


def _is_drawn(node: Node, graph: Graph) -> bool:
    return node.kind != "constant" or bool(graph.uses[node.id]) or node.is_result


def _by_statement(nodes: Sequence[Node]) -> list[tuple[Node, ...]]:
    """Join operations that belong to one statement of one call of a function."""
    groups: list[list[Node]] = []
    open_groups: dict[tuple[object, ...], int] = {}
    for node in nodes:
        source = node.source
        if node.kind not in ("op", "hidden") or source is None:
            groups.append([node])
            continue
        key = (source.file, source.statement_line, node.frame)
        if key in open_groups:
            groups[open_groups[key]].append(node)
        else:
            open_groups[key] = len(groups)
            groups.append([node])
        if source.is_whole_rhs:
            open_groups.pop(key, None)
    # A group ends up where its last member stands, so that links keep pointing forward.
    return [tuple(g) for g in sorted(groups, key=lambda g: g[-1].id)]


def _by_line(groups: Sequence[tuple[Node, ...]]) -> list[tuple[Node, ...]]:
    """Join runs of the same line; what only goes round inside a loop is not drawn."""
    joined: dict[tuple[object, ...], list[Node]] = {}
    for group in groups:
        source = group[-1].source
        leaf = group[0].kind in ("leaf", "constant")
        key = (group[0].id,) if source is None or leaf else (source.file, source.statement_line)
        joined.setdefault(key, []).extend(group)
    return [tuple(g) for g in joined.values()]


def _picture(graph: Graph, groups: Sequence[tuple[Node, ...]], *, kernels: bool) -> Picture:
    cards: list[Card] = []
    place: dict[int, int] = {}
    for group in groups:
        if group[0].kind == "constant" and not group[0].is_result:
            continue
        for node in group:
            place[node.id] = len(cards)
        cards.append(_card(group, kernels))
    return _connect(graph, cards, place)


def _connect(graph: Graph, cards: list[Card], place: dict[int, int]) -> Picture:
    """Link the cards; a tensor without gradient is repeated beside each of its uses."""
    links: dict[tuple[int, int], Link] = {}
    copies: dict[tuple[int, int], int] = {}
    uses = [len(graph.uses[n.id]) for n in graph.nodes]
    order: list[tuple[int, Card]] = []
    for target, card in enumerate(cards):
        for edge in (e for m in card.members for e in graph.nodes[m].inputs):
            source = place.get(edge.source)
            if source is None:
                node = graph.nodes[edge.source]
                if node.kind == "constant" and (edge.source, target) not in copies:
                    copies[edge.source, target] = len(order)
                    order.append((target, _card((node,), False)))
            elif source < target:
                part = edge.part if uses[edge.source] > 1 and edge.flows else None
                old = links.get((source, target))
                if old is None or (part is not None and old.part is None):
                    links[source, target] = Link(source, target, part, edge.flows)
    return _number(cards, links.values(), order)


def _number(
    cards: Sequence[Card], links: Iterable[Link], copies: Sequence[tuple[int, Card]]
) -> Picture:
    """Renumber all cards, each copy right before its use."""
    before: dict[int, list[Card]] = {}
    for target, card in copies:
        before.setdefault(target, []).append(card)
    out: list[Card] = []
    new: dict[int, int] = {}
    extra: list[Link] = []
    for i, card in enumerate(cards):
        first = len(out)
        out.extend(before.get(i, ()))
        new[i] = len(out)
        extra.extend(Link(k, new[i]) for k in range(first, len(out)))
        out.append(card)
    moved = [replace(k, source=new[k.source], target=new[k.target]) for k in links]
    return Picture(tuple(out), (*moved, *extra))


def _card(group: tuple[Node, ...], kernels: bool) -> Card:
    node = group[-1]
    lines = {(n.source.file, n.source.statement_line) for n in group if n.source}
    ends = [n for n in group if n.source is not None and n.source.is_whole_rhs]
    times = max(1, len(ends)) if len(group) > 1 and len(lines) == 1 else 1
    if len(group) == 1:
        title, note = node.label, "" if node.op in (node.label, "leaf", "constant") else node.op
    else:
        source = node.source
        text = " ".join(source.statement.split()) if source is not None else node.label
        title, note = text, f"{len(group)} operations"
    if kernels and node.kernels:
        note = " ".join(filter(None, [note, "backward: " + ", ".join(node.kernels)]))
    return Card(_kind(node), title, note, node, tuple(n.id for n in group), times)


def _kind(node: Node) -> str:
    if node.custom is not None:
        return "custom"
    if node.is_result and node.kind in ("op", "hidden"):
        return "result" if node.kind == "op" else "hidden"
    return node.kind
