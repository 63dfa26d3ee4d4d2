"""Bias of second order: against Box's formula in full, closed forms and simulation."""

import dataclasses

import made
import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit._result import FitResult
from gradfit.errors import InputError

TRUTH = {"a": 1.0, "b": 0.5, "c": 1.0}
QUADRATIC = "a + b*x + c*x**2"


def box(whitened, eta, p):
    """Box's formula, with every parameter and foot point and all second derivatives at once."""
    F = torch.autograd.functional.jacobian(whitened, eta)
    C = torch.linalg.inv(F.T @ F)
    H = [
        torch.autograd.functional.hessian(lambda e, k=k: whitened(e)[k], eta) for k in range(len(F))
    ]
    d = torch.stack([(C * each).sum() for each in H])
    return (-C @ F.T @ d / 2)[:p]


def test_bias_of_errors_in_both_variables_is_that_of_all_unknowns_together():
    fit = made.decay(12)
    data = fit.observed
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)

    def whitened(eta):
        a, b, c = eta[:3]
        t = eta[3:]
        return torch.cat([(t - x) / data.sx, (a * torch.exp(-b * t) + c - y) / data.sy])

    eta = torch.cat([torch.tensor(list(fit.params.values())), torch.from_numpy(fit.x_hat)])
    np.testing.assert_allclose(list(fit.bias.values()), box(whitened, eta.double(), 3), rtol=1e-7)


def test_bias_with_correlated_errors_and_several_responses_is_that_of_all_unknowns_together():
    V = 0.01 * np.array([[1.0, 0.3, -0.2], [0.3, 2.0, 0.5], [-0.2, 0.5, 1.5]])
    rng = np.random.default_rng(3)
    t = np.linspace(0.2, 2, 6)
    z = np.stack([t, 1.5 * np.exp(0.4 * t), 0.4 * t**2])
    z = torch.from_numpy(z + np.linalg.cholesky(V) @ rng.normal(size=(3, 6)))
    fit = gf.fit(responses, z[0].numpy(), z[1:].numpy(), cov=V, start={"a": 1.5, "b": 0.4})
    inverse = torch.linalg.inv(torch.linalg.cholesky(torch.from_numpy(V)))

    def whitened(eta):
        here = torch.cat([eta[None, 2:], responses(eta[2:], eta[0], eta[1])])
        return (inverse @ (here - z)).reshape(-1)

    eta = torch.cat([torch.tensor(list(fit.params.values())), torch.from_numpy(fit.x_hat)])
    np.testing.assert_allclose(list(fit.bias.values()), box(whitened, eta.double(), 2), rtol=1e-7)


def responses(x, a, b):
    return torch.stack([a * torch.exp(b * x), b * x**2])


def test_bias_of_a_circle_is_half_the_variance_over_the_radius():
    # With many points all around, the radius comes out too large by s^2 / (2 r).
    t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    x = np.stack([2 + 3 * np.cos(t), 1 + 3 * np.sin(t)])
    fit = gf.fit(made.round_curve, x, sx=0.2, start={"u": 2.0, "v": 1.0, "r": 3.0})
    assert fit.bias["r"] == pytest.approx(0.2**2 / 6, rel=0.01)
    assert fit.bias["u"] == pytest.approx(0, abs=1e-12)


def test_bias_of_a_function_of_the_mean_has_its_closed_form():
    y, s, n = 0.5, 0.05, 8
    fit = gf.fit("exp(a) + 0*x", np.arange(n), np.full(n, y), sy=s, start={"a": 0})
    assert fit.bias["a"] == pytest.approx(-(s**2) / (2 * n * y**2), rel=1e-9)
    line = made.york(absolute_sigma=True)
    assert abs(line.bias["b"]) < 0.1 * line.stderr["b"]
    assert gf.fit("a + b*x", made.PEARSON_X, made.PEARSON_Y, sy=1).bias == {"a": 0, "b": 0}


def test_bias_is_scaled_with_the_covariance():
    data = made.decay(20).observed
    start = {"a": 3, "b": 0.3, "c": 0.5}
    given = gf.fit("a*exp(-b*x) + c", data.x, data.y, sx=0.1, sy=0.1, start=start)
    scaled = gf.fit("a*exp(-b*x) + c", data.x, data.y, start=start)
    for n in given.names:
        assert scaled.bias[n] == pytest.approx(given.bias[n] * given.mswd, rel=1e-6)


def simulated(sigma, pairs, n=30, **options):
    """Fit data sets with errors ``e`` and ``-e``, whose mean is free of odd orders."""
    x_true = np.linspace(-2, 2, n)
    e = sigma * np.random.default_rng(1).normal(size=(2, pairs, n))
    e = np.concatenate([e, -e], 1)
    y_true = 1 + x_true / 2 + x_true**2
    many = gf.fit(
        QUADRATIC, (x_true + e[0]).ravel(), (y_true + e[1]).ravel(), sx=sigma, sy=sigma,
        groups=np.repeat(np.arange(2 * pairs), n), start=TRUTH, **options,
    )  # fmt: skip
    off = np.stack([many.params[k] - TRUTH[k] for k in many.names], 1)
    off = (off[:pairs] + off[pairs:]) / 2
    off = off[many.success[:pairs] & many.success[pairs:]]
    return off.mean(0), off.std(0) / np.sqrt(len(off)), many


def test_bias_of_a_quadratic_is_within_a_tenth_of_the_simulated_one():
    seen, error, many = simulated(0.1, 3000)
    told = np.mean([list(many[k].bias.values()) for k in range(40)], 0)
    assert (np.abs(told - seen) < 0.1 * np.abs(seen) + 2 * error).all()
    assert (error[[0, 2]] < 0.03 * np.abs(seen[[0, 2]])).all()
    assert abs(told[0] - seen[0]) < 0.1 * abs(seen[0])
    assert abs(told[2] - seen[2]) < 0.1 * abs(seen[2])


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "left"), [(0.1, 0.1), (0.2, 0.25), (0.4, 0.5)])
@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
def test_correction_takes_most_of_the_bias_off(sigma, left):
    seen, error, _ = simulated(sigma, 3000)
    rest, _, _ = simulated(sigma, 3000, bias_correction=True)
    assert (np.abs(rest) < left * np.abs(seen) + 3 * error).all()


def test_a_corrected_fit_has_moved_by_its_bias_and_its_foot_points_with_it():
    plain, fixed = made.decay(), made.decay(bias_correction=True)
    for n in plain.names:
        assert fixed.params[n] == pytest.approx(plain.params[n] - plain.bias[n], rel=1e-10)
        assert fixed.bias[n] == fixed.correction[n] == pytest.approx(plain.bias[n], rel=1e-9)
    np.testing.assert_allclose(fixed.predict(fixed.x_hat), fixed.y_hat, rtol=1e-12)
    assert fixed.chi2 > plain.chi2
    weighted = np.sum((fixed.delta / 0.15) ** 2 + (fixed.eps / 0.12) ** 2)
    assert fixed.chi2 == pytest.approx(weighted, rel=1e-9)
    a, b, _ = fixed.params.values()
    slope = -a * b * np.exp(-b * fixed.x_hat)
    np.testing.assert_allclose(fixed.delta / 0.15**2, -slope * fixed.eps / 0.12**2, atol=1e-6)


def test_a_correction_is_kept_through_text_and_in_tables():
    fixed = made.decay(bias_correction=True)
    assert FitResult.from_json(fixed.to_json()).correction == fixed.correction
    many = simulated(0.1, 3, bias_correction=True)[2]
    assert many[2].correction == {n: taken[2] for n, taken in many.correction.items()}
    assert many[2].bias == many[2].correction
    assert type(many).from_json(many.to_json()).correction["a"][2] == many.correction["a"][2]


def test_a_correction_stays_within_bounds():
    plain = made.decay()
    limit = plain.params["a"] - plain.bias["a"] / 2
    bounds = {"a": (limit, None)} if plain.bias["a"] > 0 else {"a": (None, limit)}
    fixed = made.decay(bias_correction=True, bounds=bounds, start=plain.params)
    assert fixed.params["a"] == pytest.approx(limit, rel=1e-14)
    assert fixed.correction["a"] == pytest.approx(plain.bias["a"] / 2, rel=1e-6)


def test_what_needs_the_minimum_refuses_a_corrected_fit():
    fixed = made.decay(bias_correction=True)
    with pytest.raises(InputError, match=r"bias_correction moved this fit off it. Fit without"):
        fixed.interval(0.95, "profile")


def test_bias_that_cannot_be_told_is_nan_or_refused():
    assert np.isnan(made.decay(loss="huber").bias["a"])
    lost = FitResult.from_json(made.circle().to_json())
    assert np.isnan(lost.bias["r"])
    with pytest.raises(InputError, match=r"`bias_correction` needs loss=\"linear\""):
        made.decay(loss="huber", bias_correction=True)
    with pytest.raises(InputError, match="cannot be used with `shared`"):
        gf.fit("a + b*x", np.arange(8.0), np.arange(8.0), sy=0.1, groups=[0] * 4 + [1] * 4,
               shared="b", start={"a": 0, "b": 1}, bias_correction=True)  # fmt: skip


def bent(n=1000):
    x = np.linspace(-2, 2, n)
    x, y = gf.simulate(QUADRATIC, TRUTH, x, sx=0.4, sy=0.4)
    return gf.fit(QUADRATIC, x, y, sx=0.4, sy=0.4, start=TRUTH)


def test_a_bias_beyond_a_standard_error_is_a_warning_and_one_beyond_a_quarter_is_told():
    text = bent().summary()
    assert "a, c are off by more than a standard error on average" in text
    small = bent(30).summary()
    assert "bias -0.1" in small
    assert "standard error on average" not in small
    assert "bias" not in made.decay().summary()


def test_a_summary_says_what_was_corrected():
    text = made.decay(bias_correction=True).summary()
    assert "! corrected for bias of second order, taken off: a" in text


def test_a_summary_of_very_many_points_does_not_wait_for_the_bias(monkeypatch):
    monkeypatch.setattr("gradfit._views.words.MANY", 10)
    assert "bias" not in bent(30).summary()


def test_bias_is_told_again_of_a_changed_result():
    fit = made.decay()
    assert fit.bias == fit.bias
    other = dataclasses.replace(fit, absolute_sigma=False)
    assert other.bias["a"] == pytest.approx(fit.bias["a"] * fit.mswd)
