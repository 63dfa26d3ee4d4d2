"""The reference problems say what they mean: checked in 40 digits, and by a solver of 100 lines.

Nothing here calls gradfit.
"""

import mpmath
import numpy as np
import pytest

from oracles import refsets, tiny_odr, york

MP = mpmath.mp.clone()
MP.dps = 40

ALL = refsets.names()
ONE_POINT = [name for name in ALL if refsets.load(name).unique]
DENSE = [
    name
    for name in ONE_POINT
    if refsets.load(name).x.shape[1] <= 60
    and "sd_hess" in refsets.load(name).raw["expected"]
    and not (refsets.load(name).between or refsets.load(name).at_bound or refsets.load(name).fixed)
    and name not in {"ggs94_ellipse8", "trap_line_offset", "trap_parabola_symmetric"}
]
"""The three left out need more than a plain Newton step: a valley that leads to a parabola, an
intercept 1e8 away, and a foot point on a saddle."""


def numbers(values):
    return [[MP.mpf(v) for v in row] for row in values]


def foot_x_of_curve(problem):
    """Foot points of a one-response problem with independent errors, by Newton in float64.

    An error d of the foot changes chi2 by d squared, so float64 is plenty.
    """
    x, y = problem.x[0].astype(complex), problem.y[0]
    V = problem.covariance()
    vx, vy, h = V[:, 0, 0], V[:, 1, 1], 1e-30

    def f(at):
        return problem.formula([at], list(problem.beta), np)[0] + 0 * at

    def slope(at):
        return f(at + 1j * h).imag / h

    foot = x.real.copy()
    for _ in range(50):
        f1, f2 = slope(foot), (slope(foot + 1e-4) - slope(foot - 1e-4)) / 2e-4
        gap = f(foot).real - y
        foot -= ((foot - x.real) * vy + vx * gap * f1) / (vy + vx * (f1**2 + gap * f2))
    return foot[None]


def residuals(problem):
    """Residuals (x - x_hat, y - y_hat) of every point, in 40 digits, k per point."""
    x = numbers(problem.raw["data"]["x"])
    y = numbers(problem.raw["data"]["y"] or [])
    foot = problem.raw.get("foot")
    beta = [MP.mpf(b) for b in problem.raw["expected"]["beta"]]
    exact_x = not problem.covariance()[:, : len(x), : len(x)].any()
    if foot is not None:
        x_hat = numbers(foot["x"])
    elif exact_x:
        x_hat = x
    else:
        x_hat = [[MP.mpf(float(v)) for v in row] for row in foot_x_of_curve(problem)]
    points = list(zip(*x_hat, strict=True))
    on_curve = [problem.formula(list(point), beta, MP) for point in points]
    if problem.implicit:
        size = max(abs(v) for row in x for v in row)
        assert max(abs(g) for values in on_curve for g in values) < 1e-14 * max(size, 1) ** 2
        return [
            [a - b for a, b in zip(p, q, strict=True)]
            for p, q in zip(zip(*x, strict=True), points, strict=True)
        ]
    observed = zip(zip(*x, strict=True), zip(*y, strict=True), strict=True)
    rows = []
    for i, ((x_i, y_i), point, f_i) in enumerate(zip(observed, points, on_curve, strict=True)):
        if foot is not None:  # x_hat has 17 digits, so y_hat must follow from it, not be read
            printed = [MP.mpf(row[i]) for row in foot["y"]]
            assert max(abs(a - b) for a, b in zip(printed, f_i, strict=True)) <= 1e-13 * max(
                1, *map(abs, f_i)
            )
        rows.append(
            [a - b for a, b in zip(x_i, point, strict=True)]
            + [a - b for a, b in zip(y_i, f_i, strict=True)]
        )
    return rows


def chi2_between(problem, rows):
    """Chi-square where the errors of different points are correlated."""
    total = MP.mpf(0)
    for index, key in ((0, "x"), (1, "y")):
        r = MP.matrix([row[index] for row in rows])
        if key in problem.between:
            U = MP.matrix(
                [[MP.mpf(v) for v in row] for row in problem.raw["errors_between_points"][key]]
            )
            total += (r.T * MP.lu_solve(U, r))[0]
        else:
            assert max(map(abs, r)) == 0
    return total


@pytest.mark.parametrize("name", ONE_POINT)
def test_stated_errors_and_foot_points_give_the_stated_chi2(name):
    problem = refsets.load(name)
    rows = residuals(problem)
    if problem.between:
        total = chi2_between(problem, rows)
    else:
        total = MP.mpf(0)
        for r, V in zip(rows, problem.covariance(), strict=True):
            wrong = [i for i in range(len(r)) if V[i, i] > 0]
            assert all(abs(r[i]) < 1e-15 for i in range(len(r)) if i not in wrong)
            if wrong:
                part = MP.matrix([r[i] for i in wrong])
                total += (part.T * MP.lu_solve(MP.matrix(V[np.ix_(wrong, wrong)].tolist()), part))[
                    0
                ]
    expected = MP.mpf(problem.raw["expected"]["chi2"])
    assert abs(total - expected) <= 1e-12 * expected + 1e-26  # exact data: residuals of 1e-13
    n_equations = problem.x.shape[1] * len(problem.formula.equations)
    assert problem.dof == n_equations - len(problem.free)


def test_valleys_of_the_two_problems_without_a_unique_answer():
    square = refsets.load("analytic_square4")
    for angle in (0.1, 1.0, 2.5):
        slope = np.tan(angle)
        chi2 = ((square.y[0] - slope * square.x[0]) ** 2).sum() / (1 + slope**2)
        assert chi2 == pytest.approx(square.chi2, rel=1e-14)
    rank_1 = refsets.load("analytic_rank_deficient")
    slope = float(rank_1.raw["expected"]["b1_plus_b2"])
    chi2 = ((rank_1.y[0] - slope * rank_1.x[0]) ** 2).sum() / (1 + slope**2)
    assert chi2 == pytest.approx(rank_1.chi2, rel=1e-13)


def constraint(problem):
    """The equations of a problem as the tiny solver wants them."""
    m = len(problem.x)

    def g(z, beta):
        values = problem.formula(list(z[:m]), list(beta), np)
        if problem.implicit:
            return np.stack(values)
        return np.stack([f - y for f, y in zip(values, z[m:], strict=True)])

    return g


@pytest.mark.parametrize("name", DENSE)
def test_tiny_solver_reaches_the_reference(name):
    problem = refsets.load(name)
    near = list(problem.starts.values())[min(1, len(problem.starts) - 1)]
    z = problem.x if problem.implicit else np.vstack([problem.x, problem.y])
    with np.errstate(all="ignore"):  # a long step may overflow before it is shortened
        got = tiny_odr.solve(
            constraint(problem),
            z,
            tiny_odr.root(problem.covariance()),
            np.array(list(near.values())),
        )
    se = problem.expected("sd_gn")
    assert (np.abs(got.beta - problem.beta) <= 1e-10 * se).all()
    # Residuals of strd_lanczos2 are a millionth of y, so that rounding is 1e-10 of them.
    rtol = 1e-9 if name == "strd_lanczos2" else 1e-11
    assert got.chi2 == pytest.approx(problem.chi2, rel=rtol, abs=1e-25)
    np.testing.assert_allclose(np.sqrt(np.diag(got.cov)), se, rtol=1e-6)
    np.testing.assert_allclose(
        np.sqrt(np.diag(got.cov_observed)), problem.expected("sd_hess"), rtol=1e-6
    )


LINES = [
    name
    for name in ONE_POINT
    if refsets.load(name).raw["model"]["expr"] == ["b1+b2*x"]
    and refsets.load(name).sx is not None
    and np.all(refsets.load(name).sx)
    and np.all(refsets.load(name).sy)
    and name != "trap_line_offset"
]


@pytest.mark.parametrize("name", LINES)
def test_yorks_iteration_reaches_the_reference(name):
    problem = refsets.load(name)
    rho = 0.0 if problem.rho is None else problem.rho
    got = york.york(problem.x[0], problem.y[0], problem.sx, problem.sy, rho)
    se = problem.expected("sd_gn")
    np.testing.assert_allclose(
        [got.intercept, got.slope], problem.beta, rtol=1e-9, atol=1e-9 * se.max()
    )
    np.testing.assert_allclose([got.se_intercept, got.se_slope], se, rtol=1e-7)
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-9, abs=1e-25)
