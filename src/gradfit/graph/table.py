"""A graph as rows of text."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from gradfit.graph.graph import Graph
from gradfit.graph.record import Node

Row = dict[str, Any]

_COLUMNS = ("#", "name", "expression", "op", "shape", "value", "grad", "why", "line")
_WIDEST = 44


@dataclass(frozen=True, repr=False)
class Table:
    """One row per node; prints as aligned text, and shows as a table in a notebook.

    Attributes
    ----------
    rows : tuple of dict
        Keys ``#``, ``name``, ``expression``, ``op``, ``shape``, ``value``, ``grad``,
        ``requires_grad``, ``why``, ``line``.
    """

    rows: tuple[Row, ...]
    title: str = ""

    @classmethod
    def of(cls, graph: Graph) -> "Table":
        """Make the table of a graph."""
        return cls(tuple(_row(node) for node in graph), graph.title)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __str__(self) -> str:
        cells = [list(_COLUMNS), *([_cell(row[key]) for key in _COLUMNS] for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(_COLUMNS))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in _COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row[key]))}</td>" for key in _COLUMNS) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(node: Node) -> Row:
    return {
        "#": node.id,
        "name": node.name or "",
        "expression": node.expr,
        "op": node.op or node.kind,
        "shape": None if node.value is None else node.value.shape,
        "value": node.read_answer if node.value is None else node.value,
        "grad": node.grad,
        "requires_grad": node.requires_grad,
        "why": node.reason,
        "line": node.source.line if node.source else None,
    }


def _cell(value: Any) -> str:
    text = "" if value is None else str(getattr(value, "brief", value))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
