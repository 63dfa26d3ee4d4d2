"""The small systems of one fit, in place: p-by-p matrices row by row in memory.

What :mod:`gradfit._engine.solve` asks of LAPACK for many fits at once is a few loops for one. NaN
goes through them as through LAPACK: whatever it touches counts as unsafe.
"""

from typing import Any

import numpy as np

from gradfit._native.pointer import at

EPS = 2.0**-52
SWEEPS = 40
"""Sweeps of rotations, at most; each squares what is left."""


def solve(A: Any, g: Any, p: int, hard: float, L: Any, out: Any) -> bool:
    """Write the solution of ``A out = -g`` by Cholesky; return whether every pivot was safe.

    A pivot is safe that keeps more than the share ``hard`` of its diagonal. Where one is not
    positive the solution is NaN. The diagonal of ``L`` holds reciprocals: one division for each
    column.
    """
    safe = A[0] > 0.0
    for j in range(p):
        pivot = A[j * p + j]
        for k in range(j):
            pivot -= L[j * p + k] * L[j * p + k]
        safe = safe & (pivot > 0.0) & (pivot > hard * A[j * p + j])
        scale = 1.0 / np.sqrt(pivot)
        L[j * p + j] = scale
        for i in range(j + 1, p):
            s = A[i * p + j]
            for k in range(j):
                s -= L[i * p + k] * L[j * p + k]
            L[i * p + j] = s * scale
    for i in range(p):
        s = -g[i]
        for k in range(i):
            s -= L[i * p + k] * out[k]
        out[i] = s * L[i * p + i]
    for i in range(p - 1, -1, -1):
        s = out[i]
        for k in range(i + 1, p):
            s -= L[k * p + i] * out[k]
        out[i] = s * L[i * p + i]
    return safe


def diagonalise(A: Any, p: int, e: Any, V: Any) -> None:
    """Write eigenvalues and, in columns, eigenvectors of a symmetric matrix, which is used up.

    Jacobi's rotations (Golub and Van Loan, Matrix Computations, 8.5).
    """
    for i in range(p):
        for j in range(p):
            V[i * p + j] = 1.0 if i == j else 0.0
    for _ in range(SWEEPS):
        rest = 0.0
        for i in range(p):
            for j in range(i):
                size = abs(A[i * p + j])
                if size * size > 1e-34 * abs(A[i * p + i] * A[j * p + j]):
                    rest = max(rest, size)
                    _rotate(A, V, p, j, i)
        if not rest > 0.0:
            break
    for i in range(p):
        e[i] = A[i * p + i]


def _rotate(A: Any, V: Any, p: int, i: int, j: int) -> None:
    theta = (A[j * p + j] - A[i * p + i]) / (2.0 * A[i * p + j])
    t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
    t = t if theta >= 0.0 else -t
    c = 1.0 / np.sqrt(t * t + 1.0)
    s = t * c
    shift = t * A[i * p + j]
    A[i * p + i] -= shift
    A[j * p + j] += shift
    A[i * p + j] = 0.0
    A[j * p + i] = 0.0
    for k in range(p):
        if k != i and k != j:
            a, b = A[k * p + i], A[k * p + j]
            A[k * p + i] = A[i * p + k] = c * a - s * b
            A[k * p + j] = A[j * p + k] = s * a + c * b
        a, b = V[k * p + i], V[k * p + j]
        V[k * p + i] = c * a - s * b
        V[k * p + j] = s * a + c * b


def decompose(M: Any, p: int, V: Any) -> None:
    """Turn ``M`` into ``M V`` with columns at right angles: its singular values are their lengths.

    One-sided rotations, which keep the relative accuracy of small singular values (Demmel and
    Veselic, SIAM J. Matrix Anal. 13 (1992) 1204).
    """
    for i in range(p):
        for j in range(p):
            V[i * p + j] = 1.0 if i == j else 0.0
    for _ in range(SWEEPS):
        done = True
        for i in range(p):
            for j in range(i + 1, p):
                a, b, d = 0.0, 0.0, 0.0
                for k in range(p):
                    a += M[k * p + i] * M[k * p + i]
                    b += M[k * p + j] * M[k * p + j]
                    d += M[k * p + i] * M[k * p + j]
                if not abs(d) > EPS * np.sqrt(a * b) or d == 0.0:
                    continue
                done = False
                theta = (b - a) / (2.0 * d)
                t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                t = t if theta >= 0.0 else -t
                c = 1.0 / np.sqrt(t * t + 1.0)
                _turn(M, p, i, j, c, t * c)
                _turn(V, p, i, j, c, t * c)
        if done:
            break


def _turn(M: Any, p: int, i: int, j: int, c: float, s: float) -> None:
    for k in range(p):
        a, b = M[k * p + i], M[k * p + j]
        M[k * p + i] = c * a - s * b
        M[k * p + j] = s * a + c * b


def take_in(R: Any, row: Any, k: int) -> None:
    """Bring one more row (k) into the triangular factor (k, k); the row is used up."""
    for i in range(k):
        b = row[i]
        if b == 0.0:
            continue
        a = R[i * k + i]
        length = np.hypot(a, b)
        c, s = a / length, b / length
        for j in range(i, k):
            old = R[i * k + j]
            R[i * k + j] = c * old + s * row[j]
            row[j] = c * row[j] - s * old


def eliminate(K: Any, B: Any, k: int, c: int) -> None:
    """Write the solution of ``K X = B`` over ``B`` (k, c); ``K`` (k, k) is used up."""
    if k == 1:
        for j in range(c):
            B[j] /= K[0]
        return
    if k == 2:
        det = K[0] * K[3] - K[1] * K[1]
        for j in range(c):
            top = (B[j] * K[3] - B[c + j] * K[1]) / det
            B[c + j] = (B[c + j] * K[0] - B[j] * K[1]) / det
            B[j] = top
        return
    for i in range(k):
        pivot = i
        for r in range(i + 1, k):
            if abs(K[r * k + i]) > abs(K[pivot * k + i]):
                pivot = r
        if pivot != i:
            _swap(at(K, i * k), at(K, pivot * k), k)
            _swap(at(B, i * c), at(B, pivot * c), c)
        for r in range(i + 1, k):
            f = K[r * k + i] / K[i * k + i]
            for j in range(i + 1, k):
                K[r * k + j] -= f * K[i * k + j]
            for j in range(c):
                B[r * c + j] -= f * B[i * c + j]
    for i in range(k - 1, -1, -1):
        for j in range(c):
            s = B[i * c + j]
            for r in range(i + 1, k):
                s -= K[i * k + r] * B[r * c + j]
            B[i * c + j] = s / K[i * k + i]


def _swap(a: Any, b: Any, n: int) -> None:
    for j in range(n):
        old = a[j]
        a[j] = b[j]
        b[j] = old
