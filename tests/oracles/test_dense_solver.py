"""Every error structure against the dense solver of 100 lines, on random problems."""

import ast
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit as gf
from oracles import refsets, tiny_odr
from oracles.refsets import Formula

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=12)


def formula(texts: list[str], params: str, n_x: int = 1) -> Formula:
    return Formula((), tuple(ast.parse(t, mode="eval") for t in texts), tuple(params.split()), n_x)


def random_covariance(rng: np.random.Generator, n: int, k: int, size: float) -> np.ndarray:
    """Covariance matrices (n, k, k) with errors of `size` and condition below 100."""
    A = rng.standard_normal((n, k, k))
    V = A @ A.transpose(0, 2, 1) + 0.3 * np.eye(k)
    return size**2 * V / np.sqrt(np.einsum("nii->n", V))[:, None, None] ** 2 * k


def draw(rng: np.random.Generator, V: np.ndarray) -> np.ndarray:
    """Errors (k, n) with covariance V (n, k, k)."""
    values, vectors = np.linalg.eigh(V)
    u = rng.standard_normal(values.shape) * np.sqrt(values.clip(0))
    return np.einsum("nij,nj->in", vectors, u)


def residual(f: Formula, m: int) -> Any:
    """g(z, beta) of the tiny solver for an explicit (z = x, y) or implicit (z = x) problem."""

    def g(z: np.ndarray, beta: np.ndarray) -> np.ndarray:
        values = f(list(z[:m]), list(beta), np)
        return np.stack([v - z[m + j] for j, v in enumerate(values)] if len(z) > m else values)

    return g


def assert_equal(got: Any, expected: tiny_odr.Solution, names: list[str]) -> None:
    """Same parameters, chi2, expected and observed covariance."""
    assert got.success, got.message
    p = len(names)
    beta = np.array([got.params[n] for n in names])
    se = np.sqrt(np.diag(expected.cov))[:p]
    assert expected.kkt < 1e-8
    assert (np.abs(beta - expected.beta[:p]) <= 1e-9 * np.maximum(se, np.abs(beta))).all()
    assert got.chi2 == pytest.approx(expected.chi2, rel=1e-9)
    scale = np.outer(se, se)
    index = [list(got.names).index(n) for n in names]
    np.testing.assert_allclose(
        np.asarray(got.cov)[np.ix_(index, index)] / scale, expected.cov[:p, :p] / scale, atol=1e-6
    )


DECAYS = formula(["a*exp(-b*x)", "c - a*exp(-b*x)"], "a b c")
DECAYS_AT = {"a": 3.0, "b": 0.4, "c": 2.0}


def two_decays(rng: np.random.Generator, n: int = 14) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(0, 5, n)
    return x, np.array(DECAYS([x], DECAYS_AT.values(), np))


@FEW
@given(SEEDS)
def test_two_responses_with_any_joint_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = two_decays(rng)
    V = random_covariance(rng, len(x), 3, 0.04)
    z = np.vstack([x, y]) + draw(rng, V)
    expected = tiny_odr.solve(
        residual(DECAYS, 1), z, tiny_odr.root(V), np.array(list(DECAYS_AT.values()))
    )
    got = gf.fit(DECAYS.model(), z[0], z[1:], start=DECAYS_AT, cov=V)
    assert_equal(got, expected, ["a", "b", "c"])
    np.testing.assert_allclose(got.x_hat, expected.z_hat[0], atol=1e-8)
    np.testing.assert_allclose(got.y_hat, expected.z_hat[1:], atol=1e-8)
    assert got.dof == 2 * len(x) - 3


@FEW
@given(SEEDS, st.integers(0, 2))
def test_two_responses_of_which_one_coordinate_is_exact(seed: int, exact: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = two_decays(rng)
    V = random_covariance(rng, len(x), 3, 0.04)
    V[:, exact] = V[:, :, exact] = 0
    z = np.vstack([x, y]) + draw(rng, V)
    expected = tiny_odr.solve(
        residual(DECAYS, 1), z, tiny_odr.root(V), np.array(list(DECAYS_AT.values()))
    )
    got = gf.fit(DECAYS.model(), z[0], z[1:], start=DECAYS_AT, cov=V)
    assert_equal(got, expected, ["a", "b", "c"])


@FEW
@given(SEEDS)
def test_errors_that_are_wholly_dependent(seed: int) -> None:
    """The covariance of each point has rank 1: both errors come from one source."""
    rng = np.random.default_rng(seed)
    f = formula(["a + b*x + c*x**2"], "a b c")
    x = np.linspace(-2, 2, 12)
    direction = rng.uniform(0.02, 0.05, (len(x), 2)) * rng.choice([-1, 1], (len(x), 2))
    V = np.einsum("ni,nj->nij", direction, direction)
    z = np.array([x, 1 + 0.5 * x + 0.3 * x**2]) + direction.T * rng.standard_normal(len(x))
    start = {"a": 1.0, "b": 0.5, "c": 0.3}
    expected = tiny_odr.solve(residual(f, 1), z, tiny_odr.root(V), np.array(list(start.values())))
    got = gf.fit(f.model(), z[0], z[1], start=start, cov=V)
    assert_equal(got, expected, ["a", "b", "c"])


@FEW
@given(SEEDS)
def test_two_inputs_with_any_joint_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = formula(["a*x1 + b*exp(c*x2)"], "a b c", n_x=2)
    x = rng.uniform([[0], [0]], [[4], [2]], (2, 16))
    truth = {"a": 1.5, "b": 2.0, "c": 0.6}
    V = random_covariance(rng, 16, 3, 0.05)
    z = np.vstack([x, f(list(x), truth.values(), np)[0]]) + draw(rng, V)
    expected = tiny_odr.solve(residual(f, 2), z, tiny_odr.root(V), np.array(list(truth.values())))
    got = gf.fit(f.model(), z[:2], z[2], start=truth, cov=V)
    assert_equal(got, expected, ["a", "b", "c"])
    np.testing.assert_allclose(got.x_hat, expected.z_hat[:2], atol=1e-8)


@FEW
@given(SEEDS)
def test_implicit_ellipse_with_any_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    f = formula(["(x1-a)**2/c**2 + (x2-b)**2/d**2 - 1"], "a b c d", n_x=2)
    t = np.sort(rng.uniform(0, 2 * np.pi, 20))
    truth = {"a": 1.0, "b": -0.5, "c": 3.0, "d": 2.0}
    V = random_covariance(rng, 20, 2, 0.06)
    z = np.array([1 + 3 * np.cos(t), -0.5 + 2 * np.sin(t)]) + draw(rng, V)
    expected = tiny_odr.solve(residual(f, 2), z, tiny_odr.root(V), np.array(list(truth.values())))
    got = gf.fit(f.model(), z, start=truth, cov=V)
    assert_equal(got, expected, ["a", "b", "c", "d"])
    np.testing.assert_allclose(got.x_hat, expected.z_hat, atol=1e-8)
    assert np.abs(f(list(got.x_hat), got.params.values(), np)[0]).max() < 1e-12


DECAY = formula(["a*exp(-b*x) + c"], "a b c")
DECAY_AT = {"a": 4.0, "b": 0.5, "c": 0.5}


def decay(rng: np.random.Generator, n: int = 15, error: float = 0.03) -> np.ndarray:
    x = np.linspace(0, 6, n)
    z = np.array([x, DECAY([x], DECAY_AT.values(), np)[0]])
    return z + error * rng.standard_normal((2, n))


@FEW
@given(SEEDS)
def test_systematic_errors_are_columns_of_the_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = decay(rng)
    n = z.shape[1]
    scale_of_x, offset_of_y = 0.01 * z[0], np.full(n, 0.05)
    both = np.array([0.02 * np.ones(n), 0.03 * z[1]])
    z[0] += scale_of_x * rng.standard_normal()
    z[1] += offset_of_y * rng.standard_normal()
    V = np.broadcast_to(0.03**2 * np.eye(2), (n, 2, 2))
    zero = np.zeros(n)
    shifts = np.array([np.r_[scale_of_x, zero], np.r_[zero, offset_of_y], both.ravel()]).T
    L = np.hstack([tiny_odr.root(V), shifts])
    expected = tiny_odr.solve(residual(DECAY, 1), z, L, np.array(list(DECAY_AT.values())))
    got = gf.fit(
        DECAY.model(),
        z[0],
        z[1],
        start=DECAY_AT,
        sx=0.03,
        sy=0.03,
        systematic=[{"x": scale_of_x}, {"y": offset_of_y}, {"x": both[0], "y": both[1]}],
    )
    assert_equal(got, expected, ["a", "b", "c"])
    assert got.dof == n - 3
    table = {"t": z[0], "v": z[1], "scale": scale_of_x, "both": both[1]}
    named = gf.fit(
        DECAY.model(),
        data=table,
        x="t",
        y="v",
        start=DECAY_AT,
        sx=0.03,
        sy=0.03,
        systematic=[{"x": "scale"}, {"y": 0.05}, {"x": 0.02, "y": "both"}],
    )
    assert_equal(named, expected, ["a", "b", "c"])


@settings(max_examples=8)
@given(SEEDS)
def test_full_covariance_over_all_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = decay(rng, n=10)
    A = rng.standard_normal((20, 20))
    V = 0.03**2 * (A @ A.T / 20 + 0.2 * np.eye(20))
    expected = tiny_odr.solve(
        residual(DECAY, 1), z, np.linalg.cholesky(V), np.array(list(DECAY_AT.values()))
    )
    got = gf.fit(DECAY.model(), z[0], z[1], start=DECAY_AT, cov_joint=V)
    assert_equal(got, expected, ["a", "b", "c"])
    np.testing.assert_allclose(got.x_hat, expected.z_hat[0], atol=1e-7)


@FEW
@given(SEEDS, st.integers(2, 4))
def test_parameters_that_groups_share(seed: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    n = 9
    ids = np.repeat(np.arange(n_groups), n)
    x = np.tile(np.linspace(0, 6, n), n_groups)
    height = rng.uniform(2, 5, n_groups)
    z = np.array([x, height[ids] * np.exp(-0.5 * x) + 0.5])
    z += 0.03 * rng.standard_normal(z.shape)

    def g(z: np.ndarray, beta: np.ndarray) -> np.ndarray:
        b, c, a = beta[0], beta[1], beta[2:]
        return (a[ids] * np.exp(-b * z[0]) + c - z[1])[None]

    V = np.broadcast_to(0.03**2 * np.eye(2), (len(x), 2, 2))
    expected = tiny_odr.solve(g, z, tiny_odr.root(V), np.r_[0.5, 0.5, height])
    got = gf.fit(
        DECAY.model(),
        z[0],
        z[1],
        start={"a": height, "b": 0.5, "c": 0.5},
        sx=0.03,
        sy=0.03,
        groups=ids,
        shared=["b", "c"],
    )
    assert np.all(got.success)
    beta = np.r_[got[0].params["b"], got[0].params["c"], got.params["a"]]
    se = np.sqrt(np.diag(expected.cov))
    assert (np.abs(beta - expected.beta) <= 1e-9 * np.maximum(se, np.abs(beta))).all()
    np.testing.assert_allclose(np.asarray(got.stderr["a"]), se[2:], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(got.stderr["b"]), se[0], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(got.params["b"]), beta[0], rtol=1e-15)
    np.testing.assert_allclose(np.asarray(got.chi2), expected.chi2, rtol=1e-9)
    assert (np.asarray(got.dof) == len(x) - 2 - n_groups).all()


@pytest.mark.parametrize("name", ["iso28037_c9", "oliver_pharr_blocks"])
def test_reference_problems_with_errors_between_points(name: str) -> None:
    problem = refsets.load(name)
    n = problem.x.shape[1]
    V = np.zeros((2 * n, 2 * n))
    V[:n, :n] = problem.between.get("x", np.zeros((n, n)))
    V[n:, n:] = problem.between["y"]
    for start in problem.starts:
        got = gf.fit(
            problem.formula.model(),
            problem.x[0],
            problem.y[0],
            start=problem.start(start),
            cov_joint=V,
            absolute_sigma=True,
        )
        assert got.success, got.message
        sd = problem.expected("sd_gn")
        beta = np.array(list(got.params.values()))
        assert (np.abs(beta - problem.beta) <= 1e-9 * np.maximum(np.abs(beta), sd)).all()
        np.testing.assert_allclose(list(got.stderr.values()), sd, rtol=1e-8)
        assert got.chi2 == pytest.approx(problem.chi2, rel=1e-10)
        assert got.dof == problem.dof
        np.testing.assert_allclose(got.x_hat, problem.foot_x[0], atol=1e-8)
