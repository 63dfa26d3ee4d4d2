"""Fit a reference problem through the public door, and say how near double precision can come."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import gradfit as gf
from oracles.refsets import RefSet, load

EPS = np.finfo(float).eps


FAR_TOO_PRECISE = {"strd_lanczos2", "strd_lanczos3"}
"""Data right to a millionth: were their errors 1, as written, they would determine nothing."""


@cache
def fit(name: str, start: str, **options: Any) -> Any:
    """Fit problem `name` from its start values `start`; deviations are taken as they are."""
    problem = load(name)
    options = {"absolute_sigma": True} | options
    exactly = name in FAR_TOO_PRECISE and options["absolute_sigma"]
    if exactly:
        options["absolute_sigma"] = False
    found = gf.fit(
        problem.formula.model(), start=problem.start(start), **problem.keywords(), **options
    )
    if exactly:
        size = found.mswd
        stderr = {n: e / size**0.5 for n, e in found.stderr.items()}
        found = replace(found, stderr=stderr, cov=found.cov / size, absolute_sigma=True)
    return found


def _terms(problem: RefSet) -> tuple[np.ndarray, np.ndarray]:
    """Size of all terms of each residual, and derivatives by x, of a problem with one response."""
    h, beta = 1e-30, problem.beta.astype(complex)
    x = (problem.x if problem.foot_x is None else problem.foot_x).astype(complex)

    def f(at: np.ndarray, b: np.ndarray) -> np.ndarray:
        return problem.formula(list(at), list(b), np)[0] + 0 * at[0]

    by_beta = np.array([f(x, beta + 1j * h * e).imag / h for e in np.eye(len(beta))])
    by_x = np.array([f(x + 1j * h * e[:, None], beta).imag / h for e in np.eye(len(x))])
    terms = np.abs(problem.y[0]) + np.abs(by_beta * problem.beta[:, None]).sum(0)
    return terms + np.abs(by_x * problem.x).sum(0), by_x


def noise(problem: RefSet) -> float:
    """Rounding error of all residuals together, in standard deviations (one response).

    Every residual is a sum of terms, each known to eps of its size.
    """
    terms, by_x = _terms(problem)
    G = np.vstack([by_x, -np.ones_like(by_x[:1])]).T
    S = np.einsum("ni,nij,nj->n", G, problem.covariance(), G)
    return float(EPS * np.sqrt((terms**2 / S).sum()))


def chi2_noise(problem: RefSet) -> float:
    """Change of chi2 by rounding alone: of the residuals, and of each coordinate of the feet."""
    terms, _ = _terms(problem)
    sizes = np.vstack([np.abs(problem.x), terms])
    variance = np.einsum("nii->in", problem.covariance())
    own = np.divide(sizes**2, variance, out=np.zeros_like(sizes), where=variance > 0).sum()
    return 2 * noise(problem) * np.sqrt(problem.chi2) + EPS**2 * float(own)


def deviations(problem: RefSet, key: str = "sd_gn") -> np.ndarray:
    """Expected standard errors of all parameters, 0 where fixed."""
    sd = np.zeros(len(problem.beta))
    expected = problem.expected(key)
    if expected is not None:
        sd[[problem.names.index(k) for k in problem.free]] = expected
    return sd
