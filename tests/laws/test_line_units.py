"""A line in other units is the same line: statuses, words and numbers; and success is finite."""

import warnings

import numpy as np
import pytest

import gradfit as gf

UNITS = (1e-15, 1e-13, 1e-3, 1e4, 1e9)


def noisy(n: int = 40, slope: float = 2.005) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, n)
    return x, slope * x + 1 + 0.3 * rng.standard_normal(n)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("absolute", [True, False])
def test_a_line_with_errors_is_the_same_in_every_unit(unit, backend, absolute) -> None:
    x, y = noisy()
    plain = gf.line(x, y, 0.1, 0.2, absolute_sigma=absolute, backend=backend)
    for u, v in ((unit, 1.0), (1.0, unit)):
        scaled = gf.line(u * x, v * y, 0.1 * u, 0.2 * v, absolute_sigma=absolute, backend=backend)
        assert scaled.message == plain.message
        for found, expected in ((scaled.params, plain.params), (scaled.stderr, plain.stderr)):
            assert found["slope"] * u / v == pytest.approx(expected["slope"], rel=1e-9)
            assert found["intercept"] / v == pytest.approx(expected["intercept"], rel=1e-9)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("unit", UNITS)
def test_without_errors_no_unit_makes_a_sharp_slope_vertical(unit, backend) -> None:
    x, y = noisy()
    for u, v in ((unit, 1.0), (1.0, unit)):
        found = gf.line(u * x, v * y, backend=backend)
        assert found.success
        assert "vertical" not in found.message
        assert found.stderr["slope"] < 0.01 * abs(found.params["slope"])
        assert np.isfinite(list(found.params.values())).all()
    assert "vertical" not in gf.line(*noisy(slope=22755.0), backend=backend).message


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("unit", UNITS)
def test_what_cannot_be_told_from_vertical_is_called_so_in_every_unit(unit, backend) -> None:
    rng = np.random.default_rng(2)
    y = np.linspace(0, 9, 30)
    x = 3 + 0.01 * rng.standard_normal(30)
    for u, v in ((unit, unit), (1.0, unit)):
        found = gf.line(u * x, v * y, 0.003 * u, 0.003 * v, absolute_sigma=False, backend=backend)
        assert "vertical within its uncertainty" in found.message
        assert found.success


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("x0", [0.0, 0.1, 1e9])
def test_a_vertical_line_is_no_success_and_says_what_to_use(x0, backend) -> None:
    x, y = np.full(6, x0), np.arange(6.0)
    for errors in ((), (0.1, 0.1)):
        with pytest.warns(gf.errors.ConvergenceWarning, match="vertical line"):
            found = gf.line(x, y, *errors, backend=backend)
        assert found.status == gf.Status.DEGENERATE
        assert "gf.shapes.line2d" in found.message
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            many = gf.line(
                np.r_[x, y], np.r_[y, y], *errors, groups=np.repeat([0, 1], 6), backend=backend
            )
        assert many.status.tolist()[0] == gf.Status.DEGENERATE
        assert many.success.tolist() == [False, True]
