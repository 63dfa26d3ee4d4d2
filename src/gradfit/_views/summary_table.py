"""Many fits as text: how they ended, and the first of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any, Protocol

import numpy as np

from gradfit._format import (
    columns,
    count,
    duration,
    folded,
    measured,
    number,
    plural,
    printable,
    probability,
)
from gradfit._model import Model
from gradfit._types import Status, message_of
from gradfit._views.fitted import Observations, as_array, equation
from gradfit._views.words import seen

WIDTH = 80
ROWS = 10
"""Fits that are printed."""
COLUMNS = 5
"""Parameters that are printed."""


class Table(Protocol):
    """Many fits, as a view sees them."""

    @property
    def keys(self) -> Sequence[Any]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def fixed(self) -> tuple[str, ...]: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def stderr(self) -> Mapping[str, Any]: ...
    @property
    def mswd(self) -> Any: ...
    @property
    def p_value(self) -> Any: ...
    @property
    def status(self) -> Any: ...
    @property
    def success(self) -> Any: ...
    @property
    def n_points(self) -> Any: ...
    @property
    def caution(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def backend(self) -> str: ...
    @property
    def observed(self) -> Observations: ...
    @property
    def model(self) -> Model: ...


def summary(many: Table) -> str:
    """Return counts by status, the first fits, and what they have in common."""
    title = f"Fits of {equation(many.model, many.observed)}"
    points = plural(int(np.sum(many.n_points)), "point")
    head = [
        *folded(title, WIDTH, indent="  "),
        f"{points} in {plural(len(many.keys), 'group')}, {seen(many.observed)}",
    ]
    parts = [head, endings(many), columns(first_rows(many), _align(many)), [_rest(many)]]
    if many.caution:
        parts.append(wrap(many.caution, WIDTH, initial_indent="! ", subsequent_indent="  "))
    return "\n\n".join("\n".join(part) for part in parts)


def endings(many: Table) -> list[str]:
    """Return how many fits ended how, good ones first."""
    counts = Counter(Status(int(status)) for status in many.status)
    rows: list[list[str]] = []
    for status in sorted(counts):
        lines = wrap(message_of(status, sought=len(many.fixed) < len(many.names)), 58)
        rows.append([count(counts[status]), status.name, lines[0]])
        rows += [["", "", text] for text in lines[1:3]]
    return columns(rows, "rll")


def _align(many: Table) -> str:
    return "lr" + "p" * len(many.names[:COLUMNS]) + "rrl"


def first_rows(many: Table) -> list[list[str]]:
    """Return a heading and the first fits as cells of text."""
    names = many.names[:COLUMNS]
    mswd, p_value = as_array(many.mswd), as_array(many.p_value)
    rows = [["group", "points", *names, "MSWD", "p-value", ""]]
    for g, key in enumerate(many.keys[:ROWS]):
        values = [measured(float(many.params[n][g]), float(many.stderr[n][g])) for n in names]
        good = bool(many.success[g])
        rows.append(
            [
                printable(str(key)),
                count(int(many.n_points[g])),
                *(values if good else ["-" if "nan" in value else value for value in values]),
                number(float(mswd[g]), 3) if np.isfinite(mswd[g]) else "-",
                probability(float(p_value[g])),
                "" if good else Status(int(many.status[g])).name,
            ]
        )
    return rows


def _rest(many: Table) -> str:
    more = len(many.keys) - ROWS
    left = f"{count(more)} more groups; to_frame() has all. " if more > 0 else ""
    return f"{left}{many.backend}, {duration(many.seconds)}"
