"""The test problems of scipy.odr, from its own starts: what it asserts, and what it leaves undone.

Figures are those of `scipy/odr/tests/test_odr.py` (SciPy 1.17); scipy.odr asserts them to six
decimals, and ends when a step gains less than 1.5e-8 of the sum of squares.
"""

import ast
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

import gradfit as gf
from oracles import refsets
from oracles.arrive import fit
from oracles.refsets import Formula

BACKENDS = ["eager", "native"]


def symmetric(rows: list[list[float]]) -> np.ndarray:
    """A matrix from its lower triangle."""
    size = len(rows)
    low = np.array([row + [0.0] * (size - len(row)) for row in rows])
    return low + np.tril(low, -1).T


ASSERTED: dict[str, tuple[str, list[float], list[float], list[list[float]]]] = {
    # problem: start, parameters, standard deviations, unscaled covariance
    "odrpack_ex1_sandstone": (
        "guide",
        [1.2646548050648876e3, -5.4018409956678255e1, -8.7849712165253724e-2],
        [1.0349270280543437, 1.583997785262061, 0.0063321988657267],
        [
            [4.4949592379003039e-1],
            [-3.7421976890364739e-1, 1.0529686462751804],
            [-8.0978217468468912e-4, -1.9453521827942002e-3, 1.6827336938454476e-5],
        ],
    ),
    "odrpack_ex2_ellipse": (
        "guide",
        [
            -0.9993809167281279,
            -2.9310484652026476,
            0.0875730502693354,
            0.0162299708984738,
            0.0797537982976416,
        ],
        [
            0.1113840353364371,
            0.1097673310686467,
            0.0041060738314314,
            0.0027500347539902,
            0.0034962501532468,
        ],
        [
            [2.1089274602333052],
            [-1.9437686411979040, 2.0481509222414456],
            [7.0263550868344446e-2, -6.1600515853057307e-2, 2.8659542561579308e-3],
            [
                -4.7175267373474862e-2,
                4.6268827806232933e-2,
                -1.4628662260014491e-3,
                1.2855592885514335e-3,
            ],
            [
                5.2515575927380355e-2,
                -5.8822307501391467e-2,
                1.4528860663055824e-3,
                -1.2692942951415293e-3,
                2.0778813389755596e-3,
            ],
        ],
    ),
    "odrpack_ex3_impedance": (
        "guide",
        [
            4.3799880305938963,
            2.4333057577497703,
            8.0028845899503978,
            0.5101147161764654,
            0.5173902330489161,
        ],
        [
            0.0130625231081944,
            0.0130499785273277,
            0.1167085962217757,
            0.0132642749596149,
            0.0288529201353984,
        ],
        [
            [0.0064918418231375],
            [0.0036159705923791, 0.0064793789429006],
            [0.0438637051470406, 0.0517610978353126, 0.5182263323095322],
            [-0.0058700836512467, -0.0051181304940204, -0.0563083340093696, 0.0066939246261263],
            [
                0.011281212888768,
                0.0130726943624117,
                0.1269490939468611,
                -0.0140184391377962,
                0.0316733013820852,
            ],
        ],
    ),
    "scipy_pearson_sd": (
        "scipy test",
        [5.4767400299231674, -0.4796082367610305],
        [0.3590121690702467, 0.0706291186037444],
        [[0.0854275622946333], [-0.0161807025443155, 0.003306337993922]],
    ),
    "scipy_pearson_sd_swapped": (
        "scipy test",
        [11.4192022410781231, -2.0850374506165474],
        [0.9820231665657161, 0.3070515616198911],
        [[0.6391799462548782], [-0.1955657291119177, 0.0624888159223392]],
    ),
    "scipy_lorentz": (
        "scipy test",
        [1.4306780846149925e3, 1.3390509034538309e-1, 3.7798193600109009],
        [7.3621186811330963e-1, 3.5068899941471650e-4, 2.4451209281408992e-4],
        [
            [2.4714409064597873e-1],
            [-6.9067261911110836e-5, 5.6077531517333009e-8],
            [-3.1236953270424990e-5, 3.6133261832722601e-8, 2.7261220025171730e-8],
        ],
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ASSERTED)
def test_what_scipy_asserts_of_its_problems(name: str, backend: str) -> None:
    start, beta, sd, cov = ASSERTED[name]
    problem, got = refsets.load(name), fit(name, start, backend=backend)
    assert got.success, got.message
    size = np.array([*got.stderr.values()])
    # What SciPy's test of convergence leaves undone is a small part of a standard deviation.
    np.testing.assert_allclose(np.array([*got.params.values()]) / size, beta / size, atol=1e-4)
    scale = np.outer(size, size)
    np.testing.assert_allclose(np.asarray(got.cov) / scale, symmetric(cov) / scale, atol=1e-4)
    # It counts a point of two responses as one.
    dof = problem.dof if problem.implicit else problem.x.shape[1] - len(beta)
    np.testing.assert_allclose(size * np.sqrt(got.chi2 / dof), sd, rtol=1e-4)


# Two responses of two inputs that are the same but for their errors -------------------------------

TRUE = np.array([1.0, 2.3, 1.1, -1.0, 1.3, 0.5])
ERROR_X, ERROR_Y = 0.01, 0.05
ERRORS_X = """
     0.00063445  0.00515731  0.00162719  0.01022866 -0.01624845
     0.00482652  0.00275988 -0.00714734 -0.00929201 -0.00687301
    -0.00831623 -0.00821211 -0.00203459  0.00938266 -0.00701829
     0.0032169   0.00259194 -0.00581017 -0.0030283   0.01014164
"""
ERRORS_Y = """
     0.05275304  0.04519563 -0.07524086  0.03575642  0.04745194
     0.03806645  0.07061601 -0.00753604 -0.02592543 -0.02394929
     0.03632366  0.06642266  0.08373122  0.03988822 -0.0092536
    -0.03750469 -0.03198903  0.01642066  0.01293648 -0.05627085
"""
X, Y = (np.array(text.split(), float).reshape(2, 10) for text in (ERRORS_X, ERRORS_Y))
X_TRUE = np.tile(np.linspace(1, 10, 10), (2, 1))
X += X_TRUE
SOLUTION = np.array(
    [
        2.62920235756665876536,
        -1.26608484996299608838e2,
        1.29703572775403074502e2,
        -1.88560985401185465804,
        7.83834160771274923718e1,
        -7.64124076838087091801e1,
    ]
)
PARTED = np.kron(np.eye(2), [[1, 0, 0], [0, 0.5, 1], [0, 0.5, -1]])
"""Parameters from an offset, the slope along what the inputs have in common, and the slope along
what they differ in: terms that the data determine one by one."""


def planes(b: Any, x: Any) -> np.ndarray:
    return np.stack([b[0] + b[1] * x[0] + b[2] * x[1], b[3] + b[4] * x[0] + b[5] * x[1]])


Y += planes(TRUE, X_TRUE)


def slopes(b: Any) -> np.ndarray:
    return np.array([[b[1], b[2]], [b[4], b[5]]])


def covariance_of_misfit(b: Any) -> np.ndarray:
    G = slopes(b)
    return ERROR_X**2 * (G @ G.T) + ERROR_Y**2 * np.eye(2)


def whitened(b: Any) -> np.ndarray:
    """Residuals with feet eliminated, a closed form since planes are straight; complex, too."""
    S, r = covariance_of_misfit(b), Y - planes(b, X)
    first = r[0] / np.sqrt(S[0, 0])
    rest = r[1] - S[0, 1] / S[0, 0] * r[0]
    return np.concatenate([first, rest / np.sqrt(S[1, 1] - S[0, 1] ** 2 / S[0, 0])])


def parted_jacobian(p: np.ndarray) -> np.ndarray:
    h = 1e-30
    return np.array([whitened(PARTED @ p + 1j * h * column).imag / h for column in PARTED.T]).T


def fit_planes(start: np.ndarray, backend: str) -> Any:
    def model(x: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
        return torch.stack([a + b * x[0] + c * x[1], d + e * x[0] + f * x[1]])

    given = dict(zip("abcdef", start, strict=True))
    return gf.fit(model, X, Y, start=given, sx=ERROR_X, sy=ERROR_Y, backend=backend)


@pytest.fixture(scope="module")
def minimum() -> tuple[np.ndarray, float]:
    """Parameters and sum of squares by dense least squares, in terms that the data determine."""
    found = least_squares(
        lambda p: whitened(PARTED @ p),
        np.linalg.solve(PARTED, SOLUTION),
        jac=parted_jacobian,
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    return PARTED @ found.x, 2 * found.cost


@pytest.mark.parametrize("backend", BACKENDS)
def test_collinear_inputs_end_where_scipy_ends(
    backend: str, minimum: tuple[np.ndarray, float]
) -> None:
    got = fit_planes(0.9 * TRUE, backend)
    assert got.success, got.message
    assert got.n_steps <= 25
    beta, size = np.array([*got.params.values()]), np.array([*got.stderr.values()])
    np.testing.assert_allclose((beta - minimum[0]) / size, 0, atol=1e-6)
    # Of twenty residuals of about 1, each is a difference of terms of 1e3, or 1e3 errors.
    assert got.chi2 == pytest.approx(minimum[1], rel=1e-11)
    left = (whitened(SOLUTION) ** 2).sum() - got.chi2
    assert 0 < left < 1e-7
    assert (np.abs(beta - SOLUTION) <= 2 * np.sqrt(left) * size).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_collinear_inputs_have_the_deviations_of_the_normal_equations(backend: str) -> None:
    got = fit_planes(0.9 * TRUE, backend)
    beta = np.array([*got.params.values()])
    weight = np.linalg.inv(covariance_of_misfit(beta))
    x_hat = X + ERROR_X**2 * slopes(beta).T @ weight @ (Y - planes(beta, X))
    np.testing.assert_allclose(got.x_hat, x_hat, rtol=0, atol=1e-10)
    rows = np.vstack([np.ones(10), x_hat])
    # Along what the inputs have in common and what they differ in, so that nothing cancels.
    own = PARTED[:3, :3].T @ rows
    cov = PARTED @ np.linalg.inv(np.kron(weight, own @ own.T)) @ PARTED.T
    sd = np.sqrt(np.diag(cov))
    np.testing.assert_allclose([*got.stderr.values()], sd, rtol=1e-8)
    np.testing.assert_allclose(got.cov / np.outer(sd, sd), cov / np.outer(sd, sd), atol=1e-8)


@pytest.mark.parametrize("seed", range(12))
def test_collinear_inputs_end_there_from_any_start_around(
    seed: int, minimum: tuple[np.ndarray, float]
) -> None:
    """SciPy itself goes to infinity, where the sum of squares is 3.7275, from a quarter of them."""
    got = fit_planes(np.random.default_rng(seed).uniform(0.3, 2, 6) * TRUE, "native")
    assert got.success, got.message
    assert got.chi2 == pytest.approx(minimum[1], rel=1e-10)


# Points without errors ----------------------------------------------------------------------------

EXACT = {
    # what scipy.odr calls it: formula, true parameters
    "ticket_1253": ("a*x + b", [2.0, 3.0]),
    "multilinear": ("a + b*x", [10.0, 5.0]),
    "exponential": ("a + exp(b*x)", [-10.0, 0.5]),
    "polynomial": ("a + b*x + c*x**2 + d*x**3", [1.0, 2.0, 3.0, 4.0]),
    "unilinear": ("a*x + b", [1.0, 2.0]),
    "quadratic": ("a*x**2 + b*x + c", [1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", EXACT)
def test_points_on_a_curve_give_it_back(name: str, backend: str) -> None:
    formula, true = EXACT[name]
    x = np.linspace(0, 10 if name == "ticket_1253" else 5)
    names = "abcd"[: len(true)]
    curve = Formula((), (ast.parse(formula, mode="eval"),), tuple(names), 1)
    y = curve([x], true, np)[0]
    got = gf.fit(formula, x, y, start=dict.fromkeys(names, 1.0), backend=backend)
    assert got.success, got.message
    np.testing.assert_allclose([*got.params.values()], true, rtol=1e-12)
    assert got.chi2 < 1e-24
