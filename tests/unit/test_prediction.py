"""What a result predicts, with bands, and the intervals of its parameters."""

import math

import made
import numpy as np
import pytest
import scipy.stats
import torch
from made import X, Y, two_lines

from gradfit._fit import fit
from gradfit._result import Band
from gradfit.errors import InputError

# -- predict ---------------------------------------------------------------------------------------


def test_predict_gives_back_what_it_is_given():
    result = made.straight(X, Y, 0.3)
    a, b = result.params.values()
    assert result.predict(2) == pytest.approx(a + 2 * b, rel=1e-15)
    assert type(result.predict(2.0)) is float
    np.testing.assert_allclose(result.predict([1, 2]), [a + b, a + 2 * b], rtol=1e-15)
    found = result.predict(torch.tensor([1.0, 2.0]))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float64
    assert result.predict(np.array([])).shape == (0,)


def test_predict_takes_one_row_per_variable():
    x = np.stack([X, X[::-1] ** 2])
    result = fit(plane, x, Y, sy=0.3, start={"a": 1.0, "b": 1.0, "c": 0.0})
    a, b, c = result.params.values()
    assert result.predict([2.0, 3.0]) == pytest.approx(2 * a + 3 * b + c)
    np.testing.assert_allclose(result.predict(x), a * x[0] + b * x[1] + c)
    with pytest.raises(
        InputError, match=r"`x` must have shape \(2, N\), as in the fit; got \(3,\)"
    ):
        result.predict([1.0, 2.0, 3.0])


def plane(x, a, b, c):
    return a * x[0] + b * x[1] + c


def test_predict_gives_one_row_per_response():
    x = np.linspace(0, 1, 8)
    result = fit(two_lines, x, np.stack([x, -x]), sy=0.1, start={"a": 0.5, "b": 0.5})
    assert result.predict(x).shape == (2, 8)
    assert result.predict(0.5) == pytest.approx([0.5, -0.5])
    lower, upper = result.band(x)
    assert lower.shape == upper.shape == (2, 8)


def test_predict_follows_gradients_of_x():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    result = made.straight(X, Y, 0.3)
    result.predict(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [result.params["b"]] * 2


def test_a_model_that_is_constant_predicts_every_point():
    result = fit("a + 0*x", X, Y, sy=0.3, start={"a": 0})
    assert result.predict([1.0, 2.0]) == pytest.approx([result.params["a"]] * 2)


def test_predict_refuses_what_has_no_answer():
    with pytest.raises(InputError, match="an implicit model has no y to predict"):
        made.circle().predict(1.0)
    with pytest.raises(
        InputError, match=r"`x` must have shape \(N,\), as in the fit; got \(2, 3\)"
    ):
        made.straight(X, Y).predict(np.ones((2, 3)))
    with pytest.raises(InputError, match="`x` must hold numbers"):
        made.straight(X, Y).predict(["one"])


# -- bands and intervals ---------------------------------------------------------------------------


def textbook_band(x, level, new):
    """Half-width of the band of an ordinary regression line (Draper and Smith, section 1.4)."""
    n, mean = len(X), X.mean()
    slope, intercept, *_ = scipy.stats.linregress(X, Y)
    s = np.sqrt(np.sum((Y - intercept - slope * X) ** 2) / (n - 2))
    share = new + 1 / n + (x - mean) ** 2 / np.sum((X - mean) ** 2)
    half = scipy.stats.t.ppf((1 + level) / 2, n - 2) * s * np.sqrt(share)
    return intercept + slope * x - half, intercept + slope * x + half


@pytest.mark.parametrize("level", [0.5, 0.6827, 0.95, 0.999])
def test_bands_of_a_regression_line_are_those_of_the_textbook(level):
    result = fit("a + b*x", X, Y, fix_x=True, start={"a": 0, "b": 1})
    x = np.linspace(-3, 10, 9)
    for kind, new in (("confidence", 0), ("prediction", 1)):
        np.testing.assert_allclose(
            result.band(x, level, kind, sx=0.0 if new else None),
            textbook_band(x, level, new),
            rtol=1e-9,
        )


def test_band_of_known_sigmas_uses_the_normal_distribution_and_the_whole_covariance():
    result = made.decay()
    a, b, _ = result.params.values()
    x = np.array([0.5, 3.0, 12.0])
    J = np.stack([np.exp(-b * x), -a * x * np.exp(-b * x), np.ones(3)])
    half = scipy.stats.norm.ppf(0.95) * np.sqrt(np.einsum("pn,pr,rn->n", J, result.cov, J))
    lower, upper = result.band(x, 0.9)
    np.testing.assert_allclose(upper - lower, 2 * half, rtol=1e-10)
    np.testing.assert_allclose((upper + lower) / 2, result.predict(x), rtol=1e-13)


def test_prediction_band_adds_the_errors_of_one_more_measurement():
    result = fit("a + b*x", X, Y, sx=0.2, sy=0.3, rho=0.4, start={"a": 0, "b": 1})
    b, z = result.params["b"], scipy.stats.norm.ppf(0.975)
    inner, outer = result.band(2.0), result.band(2.0, kind="prediction")
    noise = 0.3**2 + b**2 * 0.2**2 - 2 * b * 0.4 * 0.2 * 0.3
    squares = ((inner.upper - inner.lower) / 2 / z) ** 2 + noise
    assert (outer.upper - outer.lower) / 2 == pytest.approx(z * math.sqrt(squares), rel=1e-12)
    wide = result.band(2.0, kind="prediction", sx=1.0, sy=0.0)
    squares = ((inner.upper - inner.lower) / 2 / z) ** 2 + b**2
    assert (wide.upper - wide.lower) / 2 == pytest.approx(z * math.sqrt(squares), rel=1e-12)


def test_prediction_band_from_a_joint_covariance_equals_that_from_its_parts():
    parts = fit("a + b*x", X, Y, sx=0.2, sy=0.3, rho=0.4, start={"a": 0, "b": 1})
    joint = fit("a + b*x", X, Y, cov=[[0.04, 0.024], [0.024, 0.09]], start={"a": 0, "b": 1})
    assert joint.band(3.0, kind="prediction") == pytest.approx(
        parts.band(3.0, kind="prediction"), rel=1e-9
    )


def test_prediction_band_asks_for_errors_that_differ_from_point_to_point():
    result = made.york()
    with pytest.raises(InputError, match="`sx` differs from point to point. Give `sx` and `sy`"):
        result.band(1.0, kind="prediction")
    lower, upper = result.band(1.0, kind="prediction", sx=0.1, sy=0.2)
    assert lower < result.predict(1.0) < upper
    with pytest.raises(InputError, match=r"`sy` must not be negative; got -0.2"):
        result.band(1.0, kind="prediction", sx=0.1, sy=-0.2)
    covs = np.linspace(1, 2, 7)[:, None, None] * np.eye(2)
    result = fit("a + b*x", X, Y, cov=covs, start={"a": 0, "b": 1})
    with pytest.raises(InputError, match="`cov` differs from point to point"):
        result.band(1.0, kind="prediction")
    result = fit(
        "a + b*x", X, Y, sx=0.1, sy=0.1, rho=np.linspace(0, 0.5, 7), start={"a": 0, "b": 1}
    )
    with pytest.raises(InputError, match="`rho` differs from point to point"):
        result.band(1.0, kind="prediction")


def test_band_knows_its_kinds_and_levels():
    result = made.straight(X, Y)
    with pytest.raises(InputError, match='`kind` must be "confidence" or "prediction", got .both.'):
        result.band(1.0, kind="both")
    for level in (0, 1, 95):
        with pytest.raises(InputError, match="`level` must lie between 0 and 1"):
            result.band(1.0, level)


def test_band_of_tensors_is_tensors_and_of_a_number_numbers():
    result = made.straight(X, Y, 0.3)
    band = result.band(torch.tensor([1.0, 2.0]))
    assert isinstance(band, Band)
    assert isinstance(band.lower, torch.Tensor)
    assert type(result.band(1.0).upper) is float


def test_intervals_use_t_for_scaled_and_normal_for_known_sigmas():
    line = scipy.stats.linregress(X, Y)
    scaled = made.straight(X, Y).interval(0.9)["b"]
    half = scipy.stats.t.ppf(0.95, len(X) - 2) * line.stderr
    assert scaled == pytest.approx((line.slope - half, line.slope + half), rel=1e-12)
    known = made.straight(X, Y, 0.3)
    low, high = known.interval(0.9)["b"]
    assert (high - low) / 2 == pytest.approx(scipy.stats.norm.ppf(0.95) * known.stderr["b"])


def test_intervals_without_freedom_are_undefined_when_scaled():
    low, high = made.straight([1, 2], [1, 3]).interval()["a"]
    assert math.isnan(low)
    assert math.isnan(high)


def test_unknown_interval_method_lists_what_exists():
    with pytest.raises(
        InputError, match="`method` must be one of t, profile, bootstrap, jackknife; got 'magic'"
    ):
        made.straight(X, Y).interval(method="magic")
