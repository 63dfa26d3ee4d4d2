"""Every reference problem with one explicit response, from every start its source gives."""

from typing import Any

import numpy as np
import pytest

import gradfit as gf
from gradfit import Status
from oracles import refsets
from oracles.arrive import chi2_noise, deviations, fit, noise

PROBLEMS = [s for s in refsets.explicit() if s.unique]
STARTS = [(s.name, start) for s in PROBLEMS for start in s.starts]

FAR = {
    ("strd_boxbod", "NIST 1"): "the first steps may reach b2 so large that exp(-b2*x) is 0",
    ("strd_mgh09", "NIST 1"): "100 times too large: a valley leads to a minimum at infinity",
}
"""Starts from which a fit may rightly end elsewhere, and why: what is asked there is honesty."""

COARSE = {
    "strd_filip": (7, "a polynomial of degree 10 with condition 1e15: 15 digits lose eight"),
    "trap_line_offset": (8, "x near 1e8 is rounded to 1.5e-8 when it is read"),
}
"""Fewer than nine digits (of the value or of its standard error), and why."""

ARRIVE = [case for case in STARTS if case not in FAR]


def allowed(problem: refsets.RefSet) -> np.ndarray:
    """Largest error of each parameter: rounding, and never fewer than nine digits.

    A parameter is known to the rounding of the residuals times its standard error. Beyond that a
    fit may stop at 1e-10 of the error that the scatter of the points leaves.
    """
    digits = COARSE.get(problem.name, (9, ""))[0]
    sd, scaled = deviations(problem), deviations(problem, "sd_gn_scaled")
    worst = 10.0**-digits * np.maximum(np.abs(problem.beta), np.maximum(sd, scaled))
    reach = 10 * noise(problem) * sd + 1e-10 * scaled + 1e-14 * np.abs(problem.beta) + 1e-300
    return np.minimum(worst, reach)


def close_chi2(problem: refsets.RefSet) -> Any:
    """What chi2 must be."""
    return pytest.approx(problem.chi2, rel=1e-13, abs=10 * chi2_noise(problem))


def values(mapping: Any) -> np.ndarray:
    return np.array(list(mapping.values()))


@pytest.mark.parametrize(("name", "start"), ARRIVE)
def test_fit_arrives_at_the_reference(name: str, start: str) -> None:
    problem, got = refsets.load(name), fit(name, start)
    assert got.success, got.message
    assert got.names == problem.names
    error = np.abs(values(got.params) - problem.beta)
    assert (error <= allowed(problem)).all(), error / np.maximum(np.abs(problem.beta), 1e-300)
    assert got.chi2 == close_chi2(problem)
    assert got.dof == problem.dof


@pytest.mark.parametrize(("name", "start"), ARRIVE)
def test_standard_errors_agree_to_eight_digits(name: str, start: str) -> None:
    problem, got = refsets.load(name), fit(name, start)
    rtol = {"strd_filip": 1e-7}.get(name, 1e-8)
    free = [problem.names.index(k) for k in problem.free]
    np.testing.assert_allclose(values(got.stderr)[free], problem.expected("sd_gn"), rtol=rtol)
    np.testing.assert_allclose(np.sqrt(np.diag(got.cov)), values(got.stderr), rtol=1e-15)
    scale = np.outer(problem.expected("sd_gn"), problem.expected("sd_gn"))
    np.testing.assert_allclose(
        got.cov[np.ix_(free, free)] / scale, problem.expected("cov_gn") / scale, atol=2 * rtol
    )


@pytest.mark.parametrize(
    "name", [s.name for s in PROBLEMS if s.expected("sd_gn_scaled") is not None]
)
def test_scaled_standard_errors_agree_to_eight_digits(name: str) -> None:
    problem = refsets.load(name)
    start = next(s for n, s in reversed(ARRIVE) if n == name)
    got = fit(name, start, absolute_sigma=False)
    free = [problem.names.index(k) for k in problem.free]
    expected = problem.expected("sd_gn_scaled")
    if problem.chi2 < 1e-20:  # exact data: the scale itself is rounding error
        scale = np.sqrt(10 * chi2_noise(problem) / problem.dof)
        assert (values(got.stderr)[free] <= scale * problem.expected("sd_gn")).all()
    else:
        rtol = 1e-8 + 5 * chi2_noise(problem) / problem.chi2
        np.testing.assert_allclose(values(got.stderr)[free], expected, rtol=rtol)
    assert got.absolute_sigma is False


@pytest.mark.parametrize("name", [s.name for s in PROBLEMS if s.foot_x is not None])
def test_foot_points_agree(name: str) -> None:
    problem = refsets.load(name)
    start = next(s for n, s in reversed(ARRIVE) if n == name)
    got = fit(name, start)
    x_hat = np.atleast_2d(got.x_hat)
    y_hat = np.atleast_2d(got.y_hat)
    sigma = np.sqrt(np.einsum("nii->in", problem.covariance()))
    m = len(x_hat)
    atol = 1e-7 * sigma + 1e-13 * np.abs(np.vstack([problem.x, problem.y]))
    assert (np.abs(x_hat - problem.foot_x) <= atol[:m]).all()
    spread = 1e-7 * np.ptp(problem.y, axis=1, keepdims=True) + 1e-9 * np.abs(problem.y)
    assert (np.abs(y_hat - problem.foot_y) <= np.maximum(atol[m:], spread)).all()
    digits = {"rtol": 1e-9, "atol": 4e-16 * np.abs(problem.x).max()}
    np.testing.assert_allclose(got.delta, got.x_hat - problem.x.reshape(got.x_hat.shape), **digits)
    digits["atol"] = 4e-16 * np.abs(problem.y).max()
    np.testing.assert_allclose(got.eps, got.y_hat - problem.y.reshape(got.y_hat.shape), **digits)


PUBLISHED = [
    (s.name, item["source"])
    for s in PROBLEMS
    for item in s.raw.get("published", ())
    if "beta" in item or "sd_is" in item
]


@pytest.mark.parametrize(("name", "source"), PUBLISHED)
def test_published_figures_agree_to_their_digits(name: str, source: str) -> None:
    problem = refsets.load(name)
    item = next(i for i in problem.raw["published"] if i["source"] == source)
    start = next(s for n, s in reversed(ARRIVE) if n == name)
    free = [problem.names.index(k) for k in problem.free]
    if "beta" in item:
        got, printed = values(fit(name, start).params), np.array(item["beta"], float)
        limit = 10 ** -item["beta_digits"] * np.abs(printed) + allowed(problem)
        assert (np.abs(got - printed) <= limit).all()
    scaled = item.get("sd_is") == "gn_scaled"
    if scaled or item.get("sd_is") == "gn_unscaled":
        got = values(fit(name, start, absolute_sigma=not scaled).stderr)[free]
        rtol = 10 ** -min(item["sd_digits"], 8 if name not in COARSE else 7)
        np.testing.assert_allclose(got, np.array(item["sd"], float), rtol=rtol)


@pytest.mark.parametrize(("name", "start"), [case for case in ARRIVE if "strd" in case[0]])
def test_certified_values_agree_to_eight_digits(name: str, start: str) -> None:
    problem, got = refsets.load(name), values(fit(name, start).params)
    digits = min(8, COARSE.get(name, (8, ""))[0])
    assert (np.abs(got - problem.beta) <= 10.0**-digits * np.abs(problem.beta)).all()


@pytest.mark.parametrize(("name", "start"), FAR)
@pytest.mark.filterwarnings("ignore::gradfit.errors.GradfitWarning")
def test_fit_from_far_away_arrives_or_says_that_it_did_not(name: str, start: str) -> None:
    problem, got = refsets.load(name), fit(name, start)
    if got.success:
        assert (np.abs(values(got.params) - problem.beta) <= allowed(problem)).all()
        assert got.chi2 == close_chi2(problem)
    else:
        assert got.status in {
            Status.DEGENERATE,
            Status.SINGULAR,
            Status.STALLED,
            Status.MAX_STEPS,
        }


def test_parameters_that_only_matter_as_a_sum_are_told() -> None:
    problem = refsets.load("analytic_rank_deficient")
    with pytest.warns(gf.errors.GradfitWarning, match="determine"):
        got = gf.fit(problem.formula.model(), start=problem.start("a"), **problem.keywords())
    assert got.rank == 1
    total = float(problem.raw["expected"]["b1_plus_b2"])
    assert sum(got.params.values()) == pytest.approx(total, rel=1e-9)
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-10)


@pytest.mark.parametrize("start", ["a", "b"])
def test_square_has_no_best_slope_and_the_fit_says_so(start: str) -> None:
    problem = refsets.load("analytic_square4")
    with pytest.warns(gf.errors.GradfitWarning):
        got = gf.fit(problem.formula.model(), start=problem.start(start), **problem.keywords())
    assert got.chi2 == pytest.approx(4, rel=1e-12)
    assert not got.success or not np.isfinite(got.stderr["b2"]) or got.rank < 2


LINES = [
    s.name
    for s in PROBLEMS
    if s.raw["model"]["expr"] == ["b1+b2*x"] and s.cov is None and not s.fixed
]


@pytest.mark.parametrize("name", LINES)
def test_line_needs_no_start(name: str) -> None:
    problem = refsets.load(name)
    got = gf.line(**problem.keywords(), absolute_sigma=True)
    assert got.success, got.message
    error = np.abs([got.params["intercept"], got.params["slope"]] - problem.beta)
    assert (error <= allowed(problem)).all(), error
    np.testing.assert_allclose(
        [got.stderr["intercept"], got.stderr["slope"]], problem.expected("sd_gn"), rtol=1e-8
    )
    assert got.chi2 == close_chi2(problem)
