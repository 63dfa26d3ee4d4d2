"""Standard errors of second order where y is far more precise than x, or the other way round.

The references are made in 60 digits: the squared distance of each point, minimised over its foot,
is differentiated by parameters and data numerically, with steps of 1e-25. They lie in
``precise_responses.json``; a slow test makes them again, ``python tests/oracles/
test_precise_responses.py`` writes them.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
import pytest

import gradfit as gf

DIGITS = 60
STEP = mp.mpf(10) ** -25
KINDS = ("observed", "propagated")
FILE = Path(__file__).parent / "precise_responses.json"
CASES = [
    *(("line", 10.0**-k, 0.0) for k in range(0, 15)),
    *(("decay", ratio, rho) for ratio in (1.0, 1e-3, 1e-8, 1e-12, 1e-14) for rho in (0.0, 0.6)),
    *(("two variables", ratio, 0.0) for ratio in (1.0, 1e-4, 1e-8, 1e-14)),
    *(("two responses", ratio, 0.0) for ratio in (1.0, 1e-2, 1e-4)),
]
"""Curve, sy over sx, and the correlation of their errors."""


class Curve(NamedTuple):
    """A model for both sides: ``f``, its slope by x and by the parameters in mpmath."""

    formula: Any
    truth: tuple[float, ...]
    names: str
    f: Callable[..., Any]
    by_x: Callable[..., Any]
    by_beta: Callable[..., Any]
    x: np.ndarray


def _exp(x: Any, a: Any, b: Any) -> Any:
    return a * mp.exp(-b * x[0])


CURVES = {
    "line": Curve(
        "a + b*x", (1.0, 2.0), "ab",
        lambda x, a, b: [a + b * x[0]],
        lambda x, a, b: [[b]],
        lambda x, a, b: [[1, x[0]]],
        np.linspace(0, 10, 9)[None],
    ),
    "decay": Curve(
        "a*exp(-b*x)", (4.0, 0.4), "ab",
        lambda x, a, b: [_exp(x, a, b)],
        lambda x, a, b: [[-b * _exp(x, a, b)]],
        lambda x, a, b: [[_exp(x, 1, b), -x[0] * _exp(x, a, b)]],
        np.linspace(0, 4, 8)[None],
    ),
    "two responses": Curve(
        "a*x, b*x**2", (2.0, 0.5), "ab",
        lambda x, a, b: [a * x[0], b * x[0] ** 2],
        lambda x, a, b: [[a], [2 * b * x[0]]],
        lambda x, a, b: [[x[0], 0], [0, x[0] ** 2]],
        np.linspace(1, 4, 6)[None],
    ),
    "two variables": Curve(
        lambda x, a, b: a * x[0] + b * x[0] * x[1], (2.0, 0.5), "ab",
        lambda x, a, b: [a * x[0] + b * x[0] * x[1]],
        lambda x, a, b: [[a + b * x[1], b * x[0]]],
        lambda x, a, b: [[x[0], x[0] * x[1]]],
        np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3.0, 1.0, 4.0, 1.0, 5.0, 2.0]]),
    ),
}  # fmt: skip


class Data(NamedTuple):
    """Points, and the covariance (k, k) that all of them have."""

    x: np.ndarray
    y: np.ndarray
    V: np.ndarray


def draw(name: str, ratio: float, rho: float = 0.0) -> Data:
    curve, rng = CURVES[name], np.random.default_rng(5)
    m = len(curve.x)
    truth = np.array(
        [curve.f([mp.mpf(float(v)) for v in at], *curve.truth) for at in curve.x.T], dtype=float
    ).T
    sigma = np.array([0.1] * m + [0.1 * ratio] * len(truth))
    V = np.diag(sigma**2)
    V[0, -1] = V[-1, 0] = rho * sigma[0] * sigma[-1]
    z = np.concatenate([curve.x, truth])
    e = np.linalg.cholesky(V) @ rng.standard_normal(z.shape)
    # Of responses that hang together both cannot scatter less than their one x allows.
    z = z + e
    return Data(z[:m], z[m:], V)


def foot(curve: Curve, z: Any, beta: Any, W: Any) -> Any:
    """Return the x at the foot of a point, by Gauss-Newton's steps in 60 digits."""
    m = len(curve.x)
    x = mp.matrix(z[:m])
    for _ in range(200):
        T = tangent(curve, x, beta)
        step = mp.lu_solve(T.T * W * T, T.T * W * (z - on_curve(curve, x, beta)))
        x += step
        if mp.norm(step) < mp.mpf(10) ** -50:
            return x
    raise AssertionError("no foot")


def on_curve(curve: Curve, x: Any, beta: Any) -> Any:
    return mp.matrix([*x, *curve.f(list(x), *beta)])


def tangent(curve: Curve, x: Any, beta: Any) -> Any:
    m = len(curve.x)
    eye = [[mp.mpf(i == j) for j in range(m)] for i in range(m)]
    return mp.matrix([*eye, *curve.by_x(list(x), *beta)])


def gradient(curve: Curve, z: Any, beta: Any, W: Any) -> Any:
    """Return half the gradient of one squared distance."""
    x = foot(curve, z, beta, W)
    off = W * (on_curve(curve, x, beta) - z)
    return mp.matrix(curve.by_beta(list(x), *beta)).T * off[len(curve.x) :]


def by(function: Callable[[Any], Any], at: Any) -> Any:
    """Differentiate a vector by a vector."""
    columns = []
    for j in range(len(at)):
        step = mp.matrix(len(at), 1)
        step[j] = STEP
        columns.append(list((function(at + step) - function(at - step)) / (2 * STEP)))
    return mp.matrix(columns).T


def reference(name: str, data: Data) -> dict[str, list[Any]]:
    """Return standard errors of every kind at the minimum."""
    curve, p = CURVES[name], len(CURVES[name].truth)
    with mp.workdps(DIGITS):
        V = mp.matrix(data.V.tolist())
        W = V**-1
        points = [mp.matrix([*map(mp.mpf, at)]) for at in np.vstack(data[:2]).T.tolist()]
        beta = mp.matrix([mp.mpf(v) for v in curve.truth])
        for _ in range(40):
            g, H = mp.matrix(p, 1), mp.matrix(p, p)
            for z in points:
                g += gradient(curve, z, beta, W)
                H += by(lambda b, z=z: gradient(curve, z, b, W), beta)
            step = mp.lu_solve(H, g)
            beta -= step
            if mp.norm(step) < mp.mpf(10) ** -40:
                break
        M = mp.matrix(p, p)
        for z in points:
            moved = by(lambda at: gradient(curve, at, beta, W), z)
            M += moved * V * moved.T
        inverse = H**-1
        carried = inverse * M * inverse
        return {
            "observed": [mp.sqrt(inverse[j, j]) for j in range(p)],
            "propagated": [mp.sqrt(carried[j, j]) for j in range(p)],
        }


def fitted(name: str, data: Data, kind: str, backend: str) -> gf.FitResult:
    curve = CURVES[name]
    m = len(data.x)
    x, y = data.x[0] if m == 1 else data.x, data.y[0] if len(data.y) == 1 else data.y
    if np.count_nonzero(data.V) == len(data.V):
        sigma = np.sqrt(np.diag(data.V))
        given: dict[str, Any] = {"sx": sigma[0], "sy": sigma[-1]}
    else:
        given = {"cov": data.V}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = gf.fit(
            curve.formula, x, y, **given, cov_type=kind, backend=backend,
            start=dict(zip(curve.names, curve.truth, strict=True)),
        )  # fmt: skip
    assert isinstance(got, gf.FitResult)
    return got


def key(name: str, ratio: float, rho: float) -> str:
    return f"{name}, {ratio:g}, {rho:g}"


KNOWN: dict[str, dict[str, list[float]]] = json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize(("name", "ratio", "rho"), CASES)
def test_second_order_keeps_its_digits_however_far_errors_are_apart(
    name: str, ratio: float, rho: float, backend: str
) -> None:
    data, wanted = draw(name, ratio, rho), KNOWN[key(name, ratio, rho)]
    for kind in KINDS:
        got = fitted(name, data, kind, backend)
        np.testing.assert_allclose(list(got.stderr.values()), wanted[kind], rtol=1e-6, err_msg=kind)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ratio", "rho"), CASES)
def test_the_references_are_those_of_sixty_digits(name: str, ratio: float, rho: float) -> None:
    again = reference(name, draw(name, ratio, rho))
    for kind in KINDS:
        assert [float(v) for v in again[kind]] == KNOWN[key(name, ratio, rho)][kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_response_is_the_limit_of_precise_ones(kind: str) -> None:
    data = draw("line", 1e-14)
    x, y = data.x[0], data.y[0]
    limit = gf.fit("a + b*x", x, y, sx=0.1, sy=1e-15, cov_type=kind, start=(1, 2))
    exact = gf.fit("a + b*x", x, y, sx=0.1, sy=0.0, cov_type=kind, start=(1, 2))
    for name, error in exact.stderr.items():
        assert limit.stderr[name] == pytest.approx(error, rel=1e-9)


def test_influence_keeps_its_digits_however_precise_y_is() -> None:
    data, h = draw("line", 1e-10), 1e-4
    x, y, at = data.x[0], data.y[0], np.arange(9) == 3
    given = {"sx": 0.1, "sy": 1e-11, "start": (1, 2)}
    told = gf.fit("a + b*x", x, y, **given).influence().x["b"][3]
    up, down = (gf.fit("a + b*x", x + s * h * at, y, **given).params["b"] for s in (1, -1))
    assert told == pytest.approx((up - down) / (2 * h), rel=1e-6)


if __name__ == "__main__":
    made = {
        key(*case): {k: [float(v) for v in found] for k, found in reference(*which).items()}
        for case in CASES
        for which in [(case[0], draw(*case))]
    }
    FILE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
