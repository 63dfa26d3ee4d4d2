"""Tails and quantiles against SciPy, and against mpmath where SciPy itself is not exact enough."""

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch

from gradfit._distributions import (
    NORMAL_LIMIT,
    PART,
    chi2_quantile,
    chi2_sf,
    chi2_sf_one,
    normal_quantile,
    t_quantile,
    t_sf,
)

DOFS = [1, 2, 3, 4, 5, 7, 10, 30, 39, 40, 41, 42, 57, 100, 199, 200, 201, 1000, 9999]
HUGE = [NORMAL_LIMIT + 1, 10**5, 10**7]
LEVELS = [0.6, 0.75, 0.8413447460685429, 0.95, 0.975, 0.995, 1 - 1e-7, 1 - 1e-10]


@pytest.mark.parametrize("dof", DOFS + HUGE)
def test_t_quantile_equals_scipy(dof):
    found = [t_quantile(level, dof) for level in LEVELS]
    assert found == pytest.approx(scipy.stats.t.ppf(LEVELS, dof), rel=1e-12)


@pytest.mark.parametrize("dof", [1, 2, 5, 50, 500])
def test_t_tail_equals_mpmath_from_the_middle_to_far_out(dof):
    with mpmath.workdps(40):
        for t in (0.0, 1e-3, 0.5, 1.0, 1.7, 1.8, 3.0, 8.0, 40.0):
            x = mpmath.mpf(dof) / (dof + mpmath.mpf(t) ** 2)
            half = mpmath.mpf(1) / 2
            exact = float(mpmath.betainc(mpmath.mpf(dof) / 2, half, 0, x, regularized=True) / 2)
            assert t_sf(t, dof) == pytest.approx(exact, rel=1e-12)


def test_t_quantile_near_the_median_equals_the_closed_form_of_four_degrees_of_freedom():
    # Shaw, Journal of Computational Finance 9 (2006) 37, equation 37.
    level = 0.5001
    alpha = 4 * level * (1 - level)
    cosine = np.cos(np.arccos(np.sqrt(alpha)) / 3) / np.sqrt(alpha)
    assert t_quantile(level, 4) == pytest.approx(2 * np.sqrt(cosine - 1), rel=1e-7)
    assert t_sf(t_quantile(level, 4), 4) == pytest.approx(1 - level, rel=1e-15)


@pytest.mark.parametrize("dof", [1, 3, 40, 20_000])
def test_t_is_symmetric(dof):
    assert t_quantile(0.5, dof) == 0
    assert t_quantile(0.03125, dof) == -t_quantile(0.96875, dof)
    assert t_sf(-1.5, dof) == 1 - t_sf(1.5, dof)


def test_quantiles_at_the_ends_are_infinite():
    assert t_quantile(1.0, 5) == np.inf
    assert t_quantile(0.0, 5) == -np.inf


def test_t_with_infinite_dof_is_normal():
    assert t_quantile(0.975, np.inf) == normal_quantile(0.975)
    assert normal_quantile(0.975) == pytest.approx(scipy.stats.norm.ppf(0.975), rel=1e-14)


@pytest.mark.parametrize("dof", DOFS)
def test_chi2_tail_equals_mpmath(dof):
    ratios = [1e-3, 0.1, 0.5, 0.7, 0.9, 1.0, 1.01, 1.1, 1.29, 1.5, 2.0]
    chi2 = torch.tensor([dof * ratio for ratio in ratios], dtype=torch.float64)
    found = chi2_sf(chi2, torch.full_like(chi2, dof)).tolist()
    with mpmath.workdps(40):
        for value, c in zip(found, chi2.tolist(), strict=True):
            a, x = mpmath.mpf(dof) / 2, mpmath.mpf(c) / 2
            exact = float(mpmath.gammainc(a, x, mpmath.inf, regularized=True))
            assert value == pytest.approx(exact, rel=1e-12)
            assert chi2_sf_one(c, dof) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("dof", [1, 2, 5, 17, 40, 41, 79, 80, 81, 82, 201])
def test_chi2_tail_of_two_numbers_far_out_equals_mpmath(dof):
    for chi2 in (1e-3, 0.5, dof, 3.0 * dof, 150.0, 1150.0, 1300.0):
        with mpmath.workdps(60):
            a, x = mpmath.mpf(dof) / 2, mpmath.mpf(chi2) / 2
            exact = float(mpmath.gammainc(a, x, mpmath.inf, regularized=True))
        assert chi2_sf_one(chi2, dof) == pytest.approx(exact, rel=2e-12), chi2
    assert chi2_sf_one(0.0, dof) == 1.0
    assert chi2_sf_one(float("inf"), dof) == 0.0
    assert np.isnan(chi2_sf_one(float("nan"), dof))


def test_chi2_tail_of_many_and_large_dof_equals_scipy():
    generator = np.random.default_rng(1)
    dof = generator.integers(1, 300, 10_000).astype(float)
    dof[:3] = 1e5, 1e6, 1e7
    chi2 = dof + generator.normal(0, 2, dof.size) * np.sqrt(2 * dof)
    chi2 = np.maximum(chi2, 0)
    found = chi2_sf(torch.tensor(chi2), torch.tensor(dof)).numpy()
    np.testing.assert_allclose(found, scipy.stats.chi2.sf(chi2, dof), rtol=2e-12)


@pytest.mark.parametrize("dof", [1, 18, 80, 81])
def test_chi2_tail_of_more_than_are_worked_on_together_equals_scipy(dof, rng):
    chi2 = rng.chisquare(dof, PART + 11)
    found = chi2_sf(torch.tensor(chi2), torch.full((PART + 11,), float(dof)).double()).numpy()
    np.testing.assert_allclose(found, scipy.stats.chi2.sf(chi2, dof), rtol=2e-12)


def test_chi2_tail_is_undefined_without_degrees_of_freedom():
    chi2 = torch.tensor([1.0, 2.0, torch.nan], dtype=torch.float64)
    dof = torch.tensor([0.0, 2.0, 2.0], dtype=torch.float64)
    found = chi2_sf(chi2, dof)
    assert found.isnan().tolist() == [True, False, True]
    assert found[1] == pytest.approx(np.exp(-1), rel=1e-15)


def test_chi2_tail_keeps_the_shape():
    chi2 = torch.ones(2, 3, dtype=torch.float64)
    assert chi2_sf(chi2, chi2).shape == (2, 3)
    assert chi2_sf(chi2[0, 0], chi2[0, 0]).shape == ()


@pytest.mark.parametrize("dof", DOFS)
def test_chi2_quantile_equals_scipy(dof):
    levels = [1e-6, 0.01, 0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.999, 1 - 1e-7]
    found = [chi2_quantile(level, dof) for level in levels]
    assert found == pytest.approx(scipy.stats.chi2.ppf(levels, dof), rel=1e-12)


@pytest.mark.parametrize("dof", [1, 7, 60, 397, 4001])
@pytest.mark.parametrize("chi2", [5e-324, 1e-300, 5.5e-28, 1e-12])
def test_a_chi_square_of_almost_nothing_is_sure(chi2, dof):
    wanted = 1.0 if dof > 1 else 1 - np.sqrt(2 * chi2 / np.pi)
    assert chi2_sf_one(chi2, dof) == pytest.approx(wanted, abs=1e-15)
