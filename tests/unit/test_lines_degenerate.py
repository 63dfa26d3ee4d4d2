"""Columns that determine no line: one clear sentence or a status, never a number that is none."""

import numpy as np
import pytest

import gradfit as gf
from gradfit import lines
from gradfit.errors import InputError

T = np.arange(1.0, 7.0)
SAME = np.full(6, 2.0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: lines.passing_bablok(SAME, T), "`x` has one value only"),
        (lambda: lines.passing_bablok(T, SAME), "`y` has one value only"),
        (lambda: lines.deming(SAME, T), "`x` has one value only"),
        (lambda: lines.theil_sen(SAME, T), "`x` has one value only"),
        (lambda: lines.scatter(SAME, T, 0.1, 0.1), "`x` has one value only"),
        (lambda: lines.scatter(T, SAME), "no scatter to find"),
        (lambda: lines.deming(T, T, ratio="abc"), "`ratio` must be one number"),
        (lambda: lines.deming(T, T, level="a"), "`level`"),
        (lambda: gf.mnr("a + b*x", [1.0], [2.0], sx=0.1), "cannot tell"),
        (lambda: gf.mnr("a + b*x", SAME, T, sx=0.1), "`x` has one value only"),
    ],
)
def test_what_determines_no_line_is_told_in_one_line(call, match) -> None:
    with pytest.raises(InputError, match=match) as e:
        call()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("ratio", [1e-300, 1e-9, 1.0, 1e300])
def test_deming_of_constant_y_is_flat_for_every_ratio(ratio) -> None:
    found = lines.deming(T, SAME, ratio=ratio)
    assert found.params == {"slope": 0.0, "intercept": 2.0}


@pytest.mark.parametrize("seed", [1009, 1031, 1043, 1045])
def test_scatter_converges_on_ordinary_points(seed) -> None:
    rng = np.random.default_rng(seed)
    t = rng.normal(0, 3, 40)
    x, y = t + 0.5 * rng.standard_normal(40), 1 + 0.5 * t + 0.36 * rng.standard_normal(40)
    found = lines.scatter(x, y, 0.5, 0.3)
    assert found.success
    if found.params["scatter"] == 0:
        assert "no scatter beyond the errors; scatter <" in found.summary()
        assert found.figures["scatter_limit"] > 0
    assert len(found.outliers) <= 1
