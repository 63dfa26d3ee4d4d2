"""What is drawn: one card for each operation, for each statement, or for each line of a loop.

A graph of hundreds of operations is read as the lines that made it. Operations of one statement and
one call become a card; a line that ran again and again becomes one card that says how often.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import get_args

from gradfit.errors import TraceError
from gradfit.graph.graph import Detail, Graph
from gradfit.graph.record import Node
from gradfit.graph.snapshot import plus
from gradfit.graph.values import Snapshot, Stats

MANY = 25
"""Operations from which statements are drawn unless something else is asked for."""
TOO_MANY = 60
"""Cards from which lines that repeat are drawn once."""
MANY_MODULES = 5
"""Modules of the library in one statement from which each is a card."""
ALIKE = 4
"""Leaves that differ in a number only, and go to the same cards, from which they are one card."""

Group = tuple[Node, ...]
_NUMBER, _INDEX = re.compile(r"\d+"), re.compile(r"(?<![A-Za-z_\d])\d+")


@dataclass(frozen=True)
class Link:
    """An arrow between two cards.

    Attributes
    ----------
    source, target : int
        Numbers of the cards.
    part : Snapshot or None
        What comes back along it, where its source has more than one way on.
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
        First line; what stands small below it, such as how many operations it stands for.
    node : Node
        The node whose value and gradient it shows: the last of its members.
    members : tuple of int
        Numbers of the nodes it stands for.
    times : int
        How often the line ran, or how many alike were joined.
    first : Node or None
        The same as ``node`` in the first round, where the line ran several times.
    grads : tuple of Snapshot
        Gradients in the first and last round that has one.
    rounds : tuple of str
        What it goes into in the next round of a loop.
    """

    kind: str
    title: str
    note: str
    node: Node
    members: tuple[int, ...]
    times: int = 1
    first: Node | None = None
    grads: tuple[Snapshot, ...] = ()
    rounds: tuple[str, ...] = ()


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
    one_of("detail", detail, Detail)
    if detail == "kernel" and not any(n.kernels for n in graph.nodes):
        graph = graph.with_kernels()
        drawn = [n for n in graph.nodes if _is_drawn(n, graph)]
    groups: list[Group] = [(n,) for n in drawn]
    if detail == "statement":
        groups = _by_statement(drawn)
        groups = [part for group in groups for part in _by_module(group)]
        groups = _untangled(groups)
        if len(groups) > TOO_MANY:
            groups = _by_line(groups)
        groups = _joined(graph, groups)
    return _picture(graph, groups, kernels=detail == "kernel")


def one_of(argument: str, value: str, known: object) -> None:
    """Raise unless ``value`` is one of the words of a ``Literal``."""
    if value not in get_args(known):
        words = ", ".join(map(repr, get_args(known)))
        raise TraceError(f"`{argument}` must be one of {words}; got {value!r}")


def _is_drawn(node: Node, graph: Graph) -> bool:
    return node.kind != "constant" or bool(graph.uses[node.id]) or node.is_result


def _by_statement(nodes: Sequence[Node]) -> list[Group]:
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
    return [tuple(group) for group in groups]


def _untangled(groups: list[Group]) -> list[Group]:
    """Split statements around what they call, so that no card is both before and after another."""
    while True:
        groups = sorted(groups, key=lambda group: group[-1].id)
        place = {node.id: k for k, group in enumerate(groups) for node in group}
        cuts: dict[int, int] = {}
        for k, group in enumerate(groups):
            for node in group:
                for source in (place.get(edge.source, k) for edge in node.inputs):
                    if source > k:
                        cuts.setdefault(source, node.id)
        if not cuts:
            return groups
        groups = [
            part
            for k, group in enumerate(groups)
            for part in (
                tuple(n for n in group if n.id < cuts.get(k, 0)),
                tuple(n for n in group if n.id >= cuts.get(k, 0)),
            )
            if part
        ]


def _by_module(group: Group) -> list[Group]:
    """Take a statement apart that ran many modules of the library, such as a ``Sequential``."""
    runs = [tuple(run) for _, run in groupby(group, key=lambda node: node.module)]
    if len(runs) < MANY_MODULES:
        return [group]
    return [run if run[0].module is None else tuple(map(_without_expression, run)) for run in runs]


def _without_expression(node: Node) -> Node:
    """Leave a module its own name: the last one would be called what the whole line is called."""
    return node.with_(source=node.source and replace(node.source, expr="", is_whole_rhs=False))


def _by_line(groups: Sequence[Group]) -> list[Group]:
    """Join runs of the same line; what only goes round inside a loop is not drawn."""
    joined: dict[tuple[object, ...], list[Node]] = {}
    for group in groups:
        source, module = group[-1].source, group[-1].module
        key: tuple[object, ...] = (group[0].id,)
        if source is not None and group[0].kind not in ("leaf", "constant"):
            alike = (_pattern(module), *(n.op for n in group)) if _is_library(group) else None
            key = source.file, source.statement_line, alike
        joined.setdefault(key, []).extend(group)
    return [tuple(g) for g in joined.values()]


def _joined(graph: Graph, groups: Sequence[Group]) -> list[Group]:
    """Join leaves and constants that are alike and go to the same cards: weights of many layers."""
    place = {node.id: k for k, group in enumerate(groups) for node in group}
    alike: dict[tuple[object, ...], list[int]] = {}
    for k, group in enumerate(groups):
        if len(group) == 1 and group[0].kind in ("leaf", "constant"):
            node = group[0]
            uses = frozenset(place[use] for use in graph.uses[node.id])
            alike.setdefault((node.kind, _pattern(node.label), node.reason, uses), []).append(k)
    lists = [list(group) for group in groups]
    for first, *others in alike.values():
        if len(others) + 1 >= ALIKE:
            for k in others:
                lists[first] += lists[k]
                lists[k] = []
    return [tuple(group) for group in lists if group]


def _is_library(group: Group) -> bool:
    """Whether the operations were called by a module of the library, not by the line itself."""
    return group[-1].module is not None and not group[-1].expr


def _pattern(name: str | None) -> str:
    return _numbers(name or "").sub("*", name or "")


def _numbers(name: str) -> re.Pattern[str]:
    """Return what counts: ``w1``, ``w2``; but in ``layers.3.norm1`` only which layer it is."""
    return _NUMBER if name.isidentifier() else _INDEX


def _picture(graph: Graph, groups: Sequence[Group], *, kernels: bool) -> Picture:
    cards: list[Card] = []
    place: dict[int, int] = {}
    constants: dict[int, Card] = {}
    for group in groups:
        card = _card(group, kernels=kernels)
        if group[0].kind == "constant" and not group[0].is_result:
            constants.update((node.id, card) for node in group)
            continue
        place.update((node.id, len(cards)) for node in group)
        cards.append(card)
    return _connect(graph, cards, place, constants)


def _connect(
    graph: Graph, cards: list[Card], place: dict[int, int], constants: dict[int, Card]
) -> Picture:
    """Link the cards; a tensor without gradient is repeated beside each of its uses."""
    links: dict[tuple[int, int], Link] = {}
    copies: dict[tuple[int, int], tuple[int, Card]] = {}
    rounds: dict[int, dict[str, None]] = {}
    for target, card in enumerate(cards):
        for edge in (e for m in card.members for e in graph.nodes[m].inputs):
            source = place.get(edge.source)
            if source is None:
                constant = constants.get(edge.source)
                if constant is not None:
                    copies.setdefault((constant.members[0], target), (target, constant))
            elif source < target:
                old = links.get((source, target), Link(source, target))
                shown = edge.flows and edge.source == cards[source].node.id
                part = plus(old.part, edge.part) if shown and edge.part is not None else old.part
                links[source, target] = Link(source, target, part, old.flows or edge.flows)
            elif card.times > 1 and (source > target or _is_whole(graph[edge.source])):
                rounds.setdefault(source, {})[card.node.label] = None
    cards = [replace(c, rounds=tuple(rounds.get(k, ()))) for k, c in enumerate(cards)]
    # Where all that comes back comes along one arrow, the card says it already.
    ways = Counter(link.source for link in links.values() if link.flows)
    told = [k if ways[k.source] > 1 else replace(k, part=None) for k in links.values()]
    return _number(cards, told, list(copies.values()))


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


def _card(group: Group, *, kernels: bool) -> Card:
    node = group[-1]
    members = tuple(n.id for n in group)
    if node.kind in ("leaf", "constant") and len(group) > 1:
        return Card(node.kind, _span(group), "", _merged(group), members, len(group))
    if len(group) == 1:
        title, note = _title(node), ""
        if node.writes is not None and node.name:
            note = f"a new version of {node.name}" if node.call else "after the write"
        if kernels and node.kernels:
            note = "backward: " + ", ".join(node.kernels)
        return Card(_kind(node), title, note, node, members)
    ends = [n for n in group if _ends(n, group)]
    times = max(1, len(ends)) if len({_line(n) for n in group}) == 1 else 1
    each, rest = divmod(len(group), times)
    title = _in_module(group)
    if node.source is not None and not _is_library(group):
        title = " ".join(node.source.statement.split())
    counted = len(group) if rest else each
    note = f"{counted} operations" if counted > 1 else ""
    card = Card(_kind(node), title, note, node, members, times)
    if times == 1:
        return card
    grads = [n.grad for n in ends if n.grad is not None]
    return replace(card, first=ends[0], grads=(grads[0], grads[-1]) if grads else ())


def _ends(node: Node, group: Group) -> bool:
    """Whether one run of the line ends here."""
    if not _is_library(group):
        return _is_whole(node)
    return (node.op, _pattern(node.module)) == (group[-1].op, _pattern(group[-1].module))


def _is_whole(node: Node) -> bool:
    return node.source is not None and node.source.is_whole_rhs


def _title(node: Node) -> str:
    """Return what the user wrote: ``r = a*x - y``, ``h.mul_(2)``, or only the name."""
    if node.writes is not None and node.call is not None and node.expr:
        return node.expr
    if (
        node.kind == "op"
        and node.name
        and node.expr
        and node.source is not None
        and node.source.target == node.name
    ):
        return f"{node.name} = {node.expr}"
    if node.kind == "op" and node.module and not node.expr:
        return f"{node.module}: {node.op}"
    return node.label


def _in_module(group: Group) -> str:
    modules = list(dict.fromkeys(n.module or "" for n in group))
    ops = list(dict.fromkeys(n.op for n in group))
    return f"{_range(modules)}: {', '.join(ops)}"


def _span(group: Group) -> str:
    return _range([n.label for n in group])


def _range(names: Sequence[str]) -> str:
    """Write names that differ in one number as one: ``layers.0 … 29.weight``."""
    if len(set(names)) == 1:
        return names[0]
    number = _numbers(names[0])
    first, last = (number.split(name) for name in (names[0], names[-1]))
    numbers = [number.findall(name) for name in (names[0], names[-1])]
    if first != last:
        return f"{names[0]} … {names[-1]}"
    ends = [a if a == b else f"{a} … {b}" for a, b in zip(*numbers, strict=True)]
    return "".join(text for pair in zip(first, [*ends, ""], strict=True) for text in pair)


def _merged(group: Group) -> Node:
    """Return one node that stands for many: its value and gradient span theirs."""
    value = _over([n.value for n in group])
    return group[-1].with_(value=value, grad=_over([n.grad for n in group]), parts={}, source=None)


def _over(snapshots: Sequence[Snapshot | None]) -> Snapshot | None:
    kept = [each for each in snapshots if each is not None]
    if not kept:
        return None
    stats = [each.stats for each in kept]
    shape = kept[0].shape if len({each.shape for each in kept}) == 1 else ()
    low, high = min(s.low for s in stats), max(s.high for s in stats)
    mean = sum(s.mean * each.n for s, each in zip(stats, kept, strict=True))
    total = Stats(low, high, mean / max(1, sum(each.n for each in kept)), sum(s[3] for s in stats))
    return Snapshot(shape, kept[0].dtype, kept[0].device, None, total)


def _line(node: Node) -> tuple[str, int] | None:
    return (node.source.file, node.source.statement_line) if node.source else None


def _kind(node: Node) -> str:
    if node.custom is not None:
        return "custom"
    if node.is_result and node.kind in ("op", "hidden"):
        return "result" if node.kind == "op" else "hidden"
    return node.kind
