"""Errors in variables by Lagrange and Newton, dense and short enough to check by eye.

Observations z (k variables, N points) have errors with any joint covariance V = L L^T, between
points too. With z_hat = z + L u the fit is

    minimise |u|^2 / 2   subject to   g(z_hat, beta) = 0          (explicit: g = f(x) - y)

and the unknowns are beta, u and one multiplier per equation. First derivatives are complex steps,
exact to rounding, so `g` must take complex numbers; second ones are differences and only steer.
"""

from typing import NamedTuple

import numpy as np


class Solution(NamedTuple):
    beta: np.ndarray
    z_hat: np.ndarray  # foot points (k, N)
    chi2: float
    cov: np.ndarray  # inverse of the expected information, sigmas as they are
    cov_observed: np.ndarray  # inverse of the observed information
    kkt: float  # largest stationarity condition that is left


def root(V):
    """Return L with L L^T = V for V (N, k, k), laid out for z.ravel() of z (k, N)."""
    n, k, _ = V.shape
    values, vectors = np.linalg.eigh(V)
    L = np.zeros((k, n, n, k))
    L[:, range(n), range(n)] = (vectors * np.sqrt(values.clip(0))[:, None]).transpose(1, 0, 2)
    L = L.reshape(k * n, n * k)
    return L[:, (L != 0).any(0)]


def jacobians(g, z, beta):
    """Derivatives of g (q, N) at every point: by beta (q, p, N) and by z (q, k, N)."""
    h = 1e-30
    G_b = [g(z + 0j, beta + 1j * h * e).imag / h for e in np.eye(len(beta))]
    G_z = [g(z + 1j * h * e[:, None], beta + 0j).imag / h for e in np.eye(len(z))]
    return np.stack(G_b, 1), np.stack(G_z, 1)


def curvature(g, z, beta, lam):
    """Second derivatives of lam . g by (beta, z.ravel())."""
    p, (k, n) = len(beta), z.shape
    H, at = np.zeros((p + k * n, p + k * n)), np.arange(n)

    def change(dz, db):  # of the slopes of lam . g along a short way dz, db
        ends = [jacobians(g, z + s * dz, beta + s * db) for s in (1, -1)]
        by_b, by_z = (up - down for up, down in zip(*ends, strict=True))
        return np.einsum("qpn,qn->p", by_b, lam), np.einsum("qkn,qn->kn", by_z, lam)

    for j in range(p):
        h = 1e-5 * max(abs(beta[j]), 1e-3)
        by_b, by_z = change(np.zeros_like(z), h * np.eye(p)[j])
        H[:p, j], H[p:, j] = H[j, :p], H[j, p:] = by_b / (2 * h), by_z.ravel() / (2 * h)
    for a in range(k):
        dz = np.where(np.arange(k)[:, None] == a, 1e-5 * np.maximum(np.abs(z), 1e-3), 0.0)
        for b, row in enumerate(change(dz, np.zeros(p))[1]):
            H[p + b * n + at, p + a * n + at] = row / (2 * dz[a])
    return (H + H.T) / 2


def solve(g, z, L, beta, steps=300):
    """Fit beta, from the start `beta`, to z (k, N) with errors L u."""
    p, r, (k, n) = len(beta), L.shape[1], z.shape
    u, lam, best = np.zeros(r), np.zeros(np.shape(g(z, beta))), None
    W, zero = np.diag(np.r_[np.zeros(p), np.ones(r)]), np.zeros((lam.size, lam.size))
    for _ in range(steps):
        z_hat = z + (L @ u).reshape(k, n)
        G_b, G_z = jacobians(g, z_hat, beta)
        unit = 1 / np.sqrt((G_b**2).sum((0, 2)))  # columns of length 1 for beta
        J_z = np.einsum("qkn,nm->qnkm", G_z, np.eye(n)).reshape(lam.size, k * n) @ L
        J = np.hstack([G_b.transpose(0, 2, 1).reshape(lam.size, p) * unit, J_z])
        T = np.block([[np.diag(unit), np.zeros((p, k * n))], [np.zeros((r, p)), L.T]])
        H = W + T @ curvature(g, z_hat, beta, lam) @ T.T
        residual = np.r_[W @ np.r_[beta, u] + J.T @ lam.ravel(), g(z_hat, beta).ravel()]
        kkt = np.abs(residual).max()
        if best is None or kkt < best[0]:
            best = (kkt, beta, z_hat, u @ u, unit, H, J)
        elif kkt < 1e-9 * max(1.0, np.abs(u).max()):
            break  # rounding error: no further progress
        on_curve = np.linalg.svd(J)[2][lam.size :].T  # directions that keep g = 0
        convex = np.linalg.eigvalsh(on_curve.T @ H @ on_curve).min() > 0
        step = np.linalg.lstsq(np.block([[H if convex else W, J.T], [J, zero]]), -residual)[0]
        d_beta, d_u, d_lam = unit * step[:p], step[p : p + r], step[p + r :].reshape(lam.shape)
        penalty, t, worth = 2 * np.abs(lam + d_lam).max(), 1.0, []
        while t > 1e-8:  # shorten the step until |u|^2/2 + penalty * |g| falls
            for s in (t,) if worth else (0.0, t):
                moved = g(z + (L @ (u + s * d_u)).reshape(k, n), beta + s * d_beta)
                worth.append((u + s * d_u) @ (u + s * d_u) / 2 + penalty * np.abs(moved).sum())
            if worth[-1] <= worth[0] * (1 + 1e-12):
                break
            t /= 2
        beta, u, lam = beta + t * d_beta, u + t * d_u, lam + t * d_lam
    kkt, beta, z_hat, chi2, unit, H, J = best
    J = J / np.linalg.norm(J, axis=1, keepdims=True)  # the equations may have any unit
    covs = [np.linalg.pinv(np.block([[M, J.T], [J, zero]]), 1e-15)[:p, :p] for M in (W, H)]
    return Solution(beta, z_hat, chi2, *(np.outer(unit, unit) * C for C in covs), kkt)
