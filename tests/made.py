"""Fits to look at: one from a textbook formula, without the engine; others from the engine."""

import dataclasses
import json
import warnings
from typing import Any

import numpy as np
import scipy.stats
import torch

import gradfit as gf
from gradfit._fit import fit
from gradfit._model import as_model
from gradfit._result import FitResult, Observed
from gradfit._types import Status

X = np.array([0.5, 1.0, 2.2, 3.1, 4.7, 5.0, 6.4])
Y = np.array([1.1, 2.3, 4.1, 6.8, 9.0, 10.4, 12.2])
X_SQUARED = np.array([0.0, 0.02, 0.1, 0.2, 0.3, 0.5, 0.7, 1.1])
PEARSON_X = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
PEARSON_Y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
YORK_SX = 1 / np.sqrt([1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1])
YORK_SY = 1 / np.sqrt([1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500])


def straight(x: Any, y: Any, sy: Any = None, **changes: Any) -> FitResult:
    """Return the weighted least-squares line y = a + b*x in closed form.

    Without ``sy`` the points are equally good and the covariance is scaled by their scatter.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    w = np.ones_like(x) if sy is None else np.broadcast_to(1 / np.asarray(sy, float) ** 2, x.shape)
    design = np.stack([np.ones_like(x), x], 1)
    cov = np.linalg.inv(design.T @ (w[:, None] * design))
    a, b = cov @ design.T @ (w * y)
    y_hat = a + b * x
    chi2, dof = float(np.sum(w * (y - y_hat) ** 2)), len(x) - 2
    mswd = chi2 / dof if dof else np.nan
    cov = cov * mswd if sy is None else cov
    stderr = np.sqrt(np.diag(cov))
    fields: dict[str, Any] = {
        "names": ("a", "b"),
        "params": {"a": float(a), "b": float(b)},
        "stderr": {"a": float(stderr[0]), "b": float(stderr[1])},
        "cov": cov,
        "chi2": chi2,
        "dof": dof,
        "mswd": mswd,
        "p_value": np.nan if sy is None or not dof else float(scipy.stats.chi2.sf(chi2, dof)),
        "delta": np.zeros_like(x),
        "eps": y_hat - y,
        "x_hat": x,
        "y_hat": y_hat,
        "weights": np.ones_like(x),
        "status": Status.GRADIENT,
        "success": True,
        "message": Status.GRADIENT.message,
        "n_steps": 1,
        "n_eval": 2,
        "condition": float(np.linalg.cond(design * np.sqrt(w)[:, None])),
        "rank": 2,
        "seconds": 0.0123,
        "backend": "closed form",
        "absolute_sigma": sy is not None,
        "cov_type": "expected",
        "loss": "linear",
        "fixed": (),
        "at_bound": (),
        "observed": Observed(x=x, y=y, sx=0.0, sy=1.0 if sy is None else sy),
        "model": as_model("a + b*x"),
    }
    return FitResult(**{**fields, **changes})


def settled(result: Any) -> Any:
    """Return a result whose effort is not told: steps and times may change, answers may not."""
    fields: dict[str, Any] = {"seconds": 0.0123, "backend": "eager"}
    if isinstance(result, FitResult):
        fields |= {"n_steps": 5, "n_eval": 7}
    return dataclasses.replace(result, **fields)


def york(**options: Any) -> FitResult:
    """Return Pearson's data with York's weights."""
    return fit(
        "a + b*x", PEARSON_X, PEARSON_Y, sx=YORK_SX, sy=YORK_SY, start={"a": 5, "b": 0}, **options
    )


def decay(n: int = 30, **options: Any) -> FitResult:
    """Return an exponential decay with errors in both coordinates."""
    rng = np.random.default_rng(n)
    t = np.sort(rng.uniform(0, 10, n))
    x = t + rng.normal(0, 0.15, n)
    y = 4 * np.exp(-0.45 * t) + 1 + rng.normal(0, 0.12, n)
    data = {"time [s]": x, "signal [mV]": y}
    given = {"sx": 0.15, "sy": 0.12, "start": {"a": 3, "b": 0.3, "c": 0.5}, **options}
    return fit("a*exp(-b*x) + c", data=data, x="time [s]", y="signal [mV]", **given)


def circle(n: int = 25) -> FitResult:
    """Return an implicit circle around (2, 1) with radius 3."""
    rng = np.random.default_rng(n)
    t = rng.uniform(0, 5, n)
    x = np.stack([2 + 3 * np.cos(t), 1 + 3 * np.sin(t)]) + rng.normal(0, 0.1, (2, n))
    return fit(round_curve, x, sx=0.1, start={"u": 1.0, "v": 0.5, "r": 2.0})


def round_curve(x, u, v, r):
    return (x[0] - u) ** 2 + (x[1] - v) ** 2 - r**2


def failed() -> FitResult:
    """Return a fit that was stopped before it converged."""
    status = Status.MAX_STEPS
    return dataclasses.replace(york(), status=status, success=False, message=status.message)


def runs(n_groups: int = 4, n: int = 15) -> Any:
    """Return one line per run; from the seventh run on one has no number and one no points."""
    rng = np.random.default_rng(n_groups)
    x = rng.uniform(0, 10, n_groups * n)
    run = np.repeat(np.arange(n_groups), n)
    y = 2 * x + run + rng.normal(0, 0.3, x.size)
    if n_groups > 6:
        y[2 * n] = np.nan
        x, y, run = np.append(x, 1.0), np.append(y, 1.0), np.append(run, n_groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.ConvergenceWarning)
        return fit("a + b*x", x, y, sx=0.1, sy=0.3, groups=run, start={"a": 0, "b": 1})


def two_lines(x: Any, a: Any, b: Any) -> Any:
    """Two responses that meet at the origin."""
    return torch.stack([a * x, b * x])


def same(first: Any, second: Any) -> bool:
    """Return whether two results hold the same fields, NaN equal to NaN."""
    return first.to_dict() == second.to_dict() or json.dumps(first.to_dict()) == json.dumps(
        second.to_dict()
    )


def two_decays(x: Any, a: Any, b: Any, c: Any) -> Any:
    """Return two responses."""
    return torch.stack([a * torch.exp(-b * x) + c, a * b * x])


def decades_apart(seed: int, fits: int, most: int, least: int) -> tuple[Any, Any, dict[str, Any]]:
    """Return x and y of two decays with up to ``most`` points, and what a fit is given beside them.

    Joint errors go from 0.1 down to ``10**least``, in every direction.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(6, most, fits)
    n = sizes.sum()
    root = rng.standard_normal((n, 3, 3)) * 10.0 ** rng.uniform(least, -1, (n, 1, 3))
    z = rng.uniform(0.3, 4, n) * np.ones((3, 1))
    z[1:] = two_decays(torch.tensor(z[0]), 4.0, 0.5, 0.7)
    z += np.einsum("nij,nj->in", root, rng.standard_normal((n, 3)))
    given = {
        "cov": root @ root.transpose(0, 2, 1),
        "start": {"a": 3.9, "b": 0.48, "c": 0.68},
        "groups": np.repeat(range(fits), sizes),
    }
    return z[0], z[1:], given
