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
    """A step that nothing holds back: minus it, its scaled length and promised reduction."""

    back: list[float]
    norm: float
    promise: float


def free_step(gram: Matrix, largest: list[float], hard: float) -> Small | None:
    """Solve ``A back = g`` by Cholesky; None where a pivot falls below ``hard`` of its diagonal.

    Parameters
    ----------
    gram : list of p + 2 lists
        Sums: normal matrix and half gradient, which elimination runs through like one more row.
    largest : list of p + 2 floats
        Squared length of every Jacobian column, by which steps are measured.
    hard : float
        Share of the diagonal below which a pivot is not safe.
    """
    p = len(gram) - 2
    L: Matrix = []
    for i in range(p + 1):
        given = gram[i]
        row: list[float] = []
        for j in range(min(i, p)):
            above, rest = L[j], given[j]
            for k in range(j):
                rest -= row[k] * above[k]
            row.append(rest / above[j])
        if i < p:
            pivot = given[i]
            for entry in row:
                pivot -= entry * entry
            if not pivot > hard * given[i]:
                return None
            row.append(math.sqrt(pivot))
        L.append(row)
    t = L[p]
    back = list(t)
    size = promise = 0.0
    for i in range(p - 1, -1, -1):
        for k in range(i + 1, p):
            back[i] -= L[k][i] * back[k]
        back[i] /= L[i][i]
        size += largest[i] * back[i] * back[i]
        promise += t[i] * t[i]
    return Small(back, math.sqrt(size), promise)
