"""What is kept of the way: every step while it is short, ever fewer when it grows long."""

from typing import NamedTuple

import numpy as np

from gradfit._descend.objective import Point
from gradfit._types import FloatArray


class Kept(NamedTuple):
    """One recorded step."""

    step: int
    lr: float
    point: Point


class Record:
    """Between half of ``limit`` and ``limit`` steps, evenly spaced, however long the way."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stride = 1
        self.rows: list[Kept] = []

    def add(self, kept: Kept) -> None:
        """Keep a step, if it is its turn."""
        if kept.step % self.stride:
            return
        self.rows.append(kept)
        if len(self.rows) > self.limit:
            del self.rows[1::2]
            self.stride *= 2

    def with_steps(self, *others: Kept | None) -> list[Kept]:
        """Return what was recorded, and these steps in their places."""
        rows = {kept.step: kept for kept in (*self.rows, *others) if kept is not None}
        return [rows[step] for step in sorted(rows)]


def as_table(rows: list[Kept], n: int) -> FloatArray:
    """Write steps as numbers: step, lr, loss, norm, then values and gradients where listed."""
    listed = bool(rows) and rows[0].point.row is not None
    table = np.empty((len(rows), 4 + 2 * n * listed))
    for to, (step, lr, (loss, norm, row)) in zip(table, rows, strict=True):
        to[:4] = step, lr, loss, norm
        to[4:] = row or ()
    return table


def from_table(table: FloatArray) -> list[Kept]:
    """Read back what ``as_table`` wrote."""
    return [
        Kept(int(step), lr, Point(loss, norm, row or None))
        for step, lr, loss, norm, *row in table.tolist()
    ]
