"""Reference problems with implicit curves, several responses, exact coordinates and bounds."""

from typing import Any

import numpy as np
import pytest

import gradfit as gf
from oracles import refsets
from oracles.arrive import fit
from oracles.test_reference_fits import values

ALL = [refsets.load(name) for name in refsets.names()]
IMPLICIT = [s for s in ALL if s.implicit]
RESPONSES = [s for s in ALL if not s.implicit and len(s.formula.equations) > 1]
BOUNDED = [s for s in ALL if s.bounds]


def starts(problems: list[refsets.RefSet]) -> list[tuple[str, str]]:
    return [
        (s.name, start) for s in problems for start in s.starts if start not in s.odrpack_misses
    ]


def assert_parameters(got: Any, problem: refsets.RefSet, digits: int = 9) -> None:
    sd = np.zeros(len(problem.beta))
    sd[[problem.names.index(k) for k in problem.free]] = problem.expected("sd_gn")
    error = np.abs(values(got.params) - problem.beta)
    assert (error <= 10.0**-digits * np.maximum(np.abs(problem.beta), sd)).all(), error


def assert_uncertainties(got: Any, problem: refsets.RefSet) -> None:
    free = [problem.names.index(k) for k in problem.free]
    np.testing.assert_allclose(values(got.stderr)[free], problem.expected("sd_gn"), rtol=1e-8)


@pytest.mark.parametrize(("name", "start"), starts(IMPLICIT))
def test_implicit_fit_arrives_with_its_foot_points_on_the_curve(name: str, start: str) -> None:
    problem, got = refsets.load(name), fit(name, start)
    assert got.success, got.message
    assert_parameters(got, problem)
    assert_uncertainties(got, problem)
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-10)
    assert got.dof == problem.dof
    x_hat = np.asarray(got.x_hat)
    np.testing.assert_allclose(x_hat, problem.foot_x, rtol=1e-9, atol=1e-8)
    left = problem.formula(list(x_hat), list(got.params.values()), np)
    assert np.abs(left).max() < 1e-12 * max(1.0, np.abs(problem.x).max() ** 2)


@pytest.mark.parametrize(("name", "start"), starts(RESPONSES))
def test_fit_of_several_responses_arrives(name: str, start: str) -> None:
    problem, got = refsets.load(name), fit(name, start)
    assert got.success, got.message
    assert_parameters(got, problem)
    assert_uncertainties(got, problem)
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-10)
    assert got.dof == problem.dof == problem.y.size - len(problem.free)
    if problem.foot_x is not None:
        np.testing.assert_allclose(np.atleast_2d(got.x_hat), problem.foot_x, rtol=1e-8)
        np.testing.assert_allclose(got.y_hat, problem.foot_y, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "start"), starts([s for s in BOUNDED if not s.implicit]))
def test_bounded_fit_arrives_and_names_the_bound(name: str, start: str) -> None:
    problem, got = refsets.load(name), fit(name, start)
    assert got.success, got.message
    assert_parameters(got, problem)
    assert got.at_bound == problem.at_bound
    for key in problem.at_bound:
        assert got.params[key] in problem.bounds[key]
    assert got.chi2 == pytest.approx(problem.chi2, rel=1e-10, abs=1e-20)
    assert_uncertainties(got, problem)


PUBLISHED = [
    (s.name, item["source"])
    for s in IMPLICIT + RESPONSES + BOUNDED
    for item in s.raw.get("published", ())
    if "beta" in item
]


@pytest.mark.parametrize(("name", "source"), PUBLISHED)
def test_published_figures_agree_to_their_digits(name: str, source: str) -> None:
    """As far as they are the solution: ODRPACK's penalty leaves 1e-6 of its own."""
    problem = refsets.load(name)
    item = next(i for i in problem.raw["published"] if i["source"] == source)
    got = fit(name, list(problem.starts)[-1])
    printed = np.array(item["beta"], float)
    np.testing.assert_allclose(
        values(got.params), printed, rtol=10 ** -item["beta_digits"], atol=1e-12
    )
    if item.get("sd_is") == "gn_scaled":
        scaled = fit(name, list(problem.starts)[-1], absolute_sigma=False)
        limit = 10 ** -item["sd_digits"]
        np.testing.assert_allclose(values(scaled.stderr), np.array(item["sd"], float), rtol=limit)


def test_fixed_coordinates_are_exact_coordinates() -> None:
    problem = refsets.load("odrpack_ex1_sandstone")
    expected = fit(problem.name, "near")
    got = gf.fit(
        problem.formula.model(),
        problem.x[0],
        problem.y[0],
        start=problem.start("near"),
        sx=1.0,
        sy=1.0,
        fix_x=problem.sx == 0,
    )
    np.testing.assert_allclose(values(got.params), values(expected.params), rtol=1e-12)
    np.testing.assert_array_equal(got.delta[problem.sx == 0], 0)


def test_fixed_variable_of_an_implicit_curve() -> None:
    problem = refsets.load("scipy_implicit_fixed_x")
    got = gf.fit(
        problem.formula.model(),
        problem.x,
        start=problem.start("other"),
        sx=1.0,
        fix_x=[True, False],
    )
    assert got.success
    assert_parameters(got, problem)
    np.testing.assert_array_equal(got.x_hat[0], problem.x[0])
