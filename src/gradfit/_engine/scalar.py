"""The step of one small fit on Python's numbers.

A tensor operation on nine numbers takes as long as one on a thousand, and a step of one fit is
thirty of them. What is computed is what :func:`gradfit._engine.solve.solve` computes.
"""

import math
from typing import NamedTuple

FEW = 8
"""Parameters up to which Python is faster."""

Matrix = list[list[float]]


class Small(NamedTuple):
    """A step that nothing holds back: its parameters, scaled length and promised reduction."""

    db: list[float]
    norm: float
    promise: float


def free_step(A: Matrix, g: list[float], D: list[float], hard: float) -> Small | None:
    """Solve ``A db = -g`` by Cholesky; None where a pivot falls below ``hard`` of its diagonal.

    Parameters
    ----------
    A : list of p lists
        Normal matrix.
    g : list of p floats
        Half gradient.
    D : list of p floats
        Length of every Jacobian column.
    hard : float
        Share of the diagonal below which a pivot is not safe.
    """
    p = len(g)
    L: Matrix = []
    t: list[float] = []
    for i in range(p):
        row: list[float] = []
        for j in range(i):
            s = A[i][j]
            for k in range(j):
                s -= row[k] * L[j][k]
            row.append(s / L[j][j])
        pivot, rest = A[i][i], -g[i]
        for k in range(i):
            pivot -= row[k] * row[k]
            rest -= row[k] * t[k]
        if not pivot > hard * A[i][i]:
            return None
        row.append(math.sqrt(pivot))
        L.append(row)
        t.append(rest / row[i])
    db = list(t)
    for i in reversed(range(p)):
        for k in range(i + 1, p):
            db[i] -= L[k][i] * db[k]
        db[i] /= L[i][i]
    norm = math.sqrt(sum((d * b) ** 2 for d, b in zip(D, db, strict=True)))
    return Small(db, norm, sum(s * s for s in t))
