"""Bootstrap and jackknife: every sample against a refit, intervals against SciPy's."""

import types
import warnings

import made
import numpy as np
import pytest
import scipy.stats
import torch

import gradfit as gf
from gradfit._dispatch import choose
from gradfit._uncertainty import bootstrap as module
from gradfit._uncertainty import refit
from gradfit._uncertainty.draw import drawer
from gradfit._uncertainty.restate import restate
from gradfit.errors import ConvergenceWarning, GradfitWarning, InputError

X, Y = made.PEARSON_X, made.PEARSON_Y


def straight():
    """Return an ordinary regression line, whose refits are closed forms."""
    return gf.fit("a + b*x", X, Y, sx=0, sy=1, absolute_sigma=False, start={"a": 5, "b": 0})


def samples(result):
    return np.stack([result.samples[n] for n in result.names])


def test_pairs_are_refits_of_drawn_points():
    found = straight().bootstrap(300, seed=5)
    index = np.random.default_rng(5).integers(0, 10, (300, 10))
    lines = np.stack([np.polyfit(X[i], Y[i], 1)[::-1] for i in index], 1)
    np.testing.assert_allclose(samples(found), lines, rtol=1e-8)


def test_residual_bootstrap_of_regression_draws_modified_residuals():
    found = straight().bootstrap(200, "residual", seed=5)
    rng = np.random.default_rng(5)
    rng.standard_normal((200, 1, 10))
    index = rng.integers(0, 10, (200, 10))
    A = np.stack([np.ones(10), X], 1)
    H = A @ np.linalg.pinv(A)
    e = (Y - H @ Y) / np.sqrt(1 - np.diag(H))
    lines = np.linalg.pinv(A) @ (H @ Y + (e - e.mean())[index]).T
    np.testing.assert_allclose(samples(found), lines, rtol=1e-8)


def test_parametric_samples_are_refits_of_simulated_points():
    fit = made.york()
    found = fit.bootstrap(20, "parametric", seed=2)
    z = np.random.default_rng(2).standard_normal((20, 2, 10))
    for k in (0, 7):
        x, y = fit.x_hat + made.YORK_SX * z[k, 0], fit.y_hat + made.YORK_SY * z[k, 1]
        again = gf.fit("a + b*x", x, y, sx=made.YORK_SX, sy=made.YORK_SY, start={"a": 5, "b": 0})
        np.testing.assert_allclose(samples(found)[:, k], list(again.params.values()), rtol=1e-7)


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_bca_and_percentile_intervals_are_those_of_scipy(level):
    fit = straight()
    found = fit.bootstrap(500, seed=1)

    def slope(x, y):
        return np.polyfit(x, y, 1)[0]

    for method, name in (("bca", "BCa"), ("percentile", "percentile")):
        expected = scipy.stats.bootstrap(
            (X, Y), slope, paired=True, vectorized=False, method=name, confidence_level=level,
            n_resamples=0,
            bootstrap_result=types.SimpleNamespace(bootstrap_distribution=found.samples["b"]),
        ).confidence_interval  # fmt: skip
        np.testing.assert_allclose(found.interval(level, method)["b"], expected, rtol=1e-7)


def test_acceleration_of_many_points_tends_to_that_of_the_jackknife(monkeypatch):
    fit = made.decay(60)
    jack = fit.bootstrap(20).acceleration
    monkeypatch.setattr(module, "LEAVE_ONE_OUT", 10)
    limit = fit.bootstrap(20).acceleration
    for n in fit.names:
        assert limit[n] == pytest.approx(jack[n], abs=0.02)


@pytest.mark.parametrize(
    "errors",
    [
        {"sx": 0.2, "sy": 0.3, "rho": -0.6},
        {"cov": [[0.04, 0.03], [0.03, 0.09]]},
        {"cov": [[0.04, 0.06], [0.06, 0.09]]},
        {"sx": 0.2, "sy": 0.0},
        {"sx": 0.2, "sy": 0.3, "systematic": {"x": 0.1, "y": 0.4}},
    ],
    ids=["rho", "cov", "singular", "exact", "systematic"],
)
def test_parametric_draws_have_the_covariance_of_the_errors(errors):
    fit = gf.fit("a + b*x", X, Y, start={"a": 5, "b": -0.5}, **errors)
    case = restate(fit, "drawing")
    points = drawer(case, "parametric", 1.0, np.random.default_rng(0))(20_000).points
    z = points.x[:2] if points.y is None else torch.cat([points.x[:1], points.y])
    draws = z.reshape(2, 20_000, 10)[:, :, 3].numpy()
    V = np.array(errors.get("cov", np.zeros((2, 2))))
    if "sx" in errors:
        sx, sy, rho = errors["sx"], errors["sy"], errors.get("rho", 0)
        V = np.array([[sx**2, rho * sx * sy], [rho * sx * sy, sy**2]])
    if "systematic" in errors:
        s = np.array([0.1, 0.4])
        V = V + np.outer(s, s)
    np.testing.assert_allclose(np.cov(draws), V, atol=0.04 * V.max())
    centre = np.array([fit.x_hat[3], fit.y_hat[3]])
    np.testing.assert_allclose(draws.mean(1), centre, atol=0.03 * np.sqrt(V.max()))


def test_a_joint_error_moves_all_points_of_a_draw_together():
    fit = gf.fit("a + b*x", X, Y, sx=0.01, sy=0.01, systematic={"y": 5.0}, start={"a": 5, "b": 0})
    found = fit.bootstrap(2000, "parametric")
    assert found.stderr["a"] == pytest.approx(fit.stderr["a"], rel=0.06)
    assert fit.stderr["a"] > 4.9


@pytest.mark.parametrize("kind", ["residual", "parametric"])
def test_spread_of_refits_is_the_propagated_covariance_where_errors_are_small(kind):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 6, 40)
    x, y = t + rng.normal(0, 0.02, 40), 3 * np.exp(-0.5 * t) + rng.normal(0, 0.03, 40)
    options = {"sx": 0.02, "sy": 0.03, "start": {"a": 3, "b": 0.5}, "cov_type": "propagated"}
    fit = gf.fit("a*exp(-b*x)", x, y, **options)
    found = fit.bootstrap(4000, kind)
    scale = {"parametric": 1.0, "residual": np.sqrt(fit.mswd)}[kind]
    for n in fit.names:
        assert found.stderr[n] == pytest.approx(scale * fit.stderr[n], rel=0.05)


@pytest.mark.parametrize("make", [made.circle, made.decay])
@pytest.mark.parametrize("kind", ["pairs", "residual", "parametric"])
def test_refits_by_machine_code_are_those_by_torch(make, kind, monkeypatch):
    fit = make()
    by_torch = []
    for kernels in (lambda *_: None, machine_now):
        monkeypatch.setattr(module, "machine_for", kernels)
        by_torch.append((fit.bootstrap(60, kind, seed=4), fit.jackknife()))
    (first, one), (second, other) = by_torch
    assert first.n_failed == second.n_failed
    error = np.array([[fit.stderr[n]] for n in fit.names])
    assert np.abs(samples(first) - samples(second)).max() < 1e-6 * error.max()
    assert np.abs(samples(one) - samples(other)).max() < 1e-6 * error.max()


def machine_now(case, times):
    kernels = choose(case.problem, case.beta, case.loss, "native", None)
    assert not isinstance(kernels, str)
    return kernels


@pytest.mark.parametrize("make", [made.circle, made.decay])
@pytest.mark.parametrize("kind", ["pairs", "residual", "parametric"])
def test_every_kind_fits_every_model(make, kind):
    fit = make()
    found = fit.bootstrap(100, kind)
    assert found.n == 100
    for n in fit.names:
        assert 0.5 * fit.stderr[n] < found.stderr[n] < 2 * fit.stderr[n]
        assert found.stderr[n] == pytest.approx(np.std(found.samples[n], ddof=1))
        assert found.bias[n] == pytest.approx(np.mean(found.samples[n]) - fit.params[n])


def test_several_responses_with_joint_covariance_are_drawn():
    V = 0.01 * np.array([[1.0, 0.3, -0.2], [0.3, 2.0, 0.5], [-0.2, 0.5, 1.5]])
    rng = np.random.default_rng(3)
    t = np.linspace(0.2, 2, 12)
    z = np.stack([t, 1.5 * t, 0.4 * t**2]) + np.linalg.cholesky(V) @ rng.normal(size=(3, 12))
    fit = gf.fit(both, z[0], z[1:], cov=V, start={"a": 1.5, "b": 0.4})
    for kind in ("residual", "parametric"):
        found = fit.bootstrap(1500, kind)
        for n in fit.names:
            assert found.stderr[n] == pytest.approx(fit.stderr[n], rel=0.35)


def both(x, a, b):
    return torch.stack([a * x, b * x**2])


def test_the_seed_decides_and_memory_does_not(monkeypatch):
    fit = made.york()
    for kind in ("pairs", "parametric"):
        first = samples(fit.bootstrap(50, kind, seed=3))
        assert np.array_equal(first, samples(fit.bootstrap(50, kind, seed=3)))
        assert not np.array_equal(first, samples(fit.bootstrap(50, kind, seed=4)))
        with monkeypatch.context() as patch:
            patch.setattr(refit, "TOGETHER", 70)
            np.testing.assert_allclose(samples(fit.bootstrap(50, kind, seed=3)), first, rtol=1e-9)


def test_fixed_parameters_stay_and_scaled_errors_are_scaled():
    fit = gf.fit(
        "a + b*x + c", X, Y, fixed={"c": 0.5}, start={"a": 5, "b": 0}, absolute_sigma=False
    )
    found = fit.bootstrap(1000, "parametric")
    assert (found.samples["c"] == 0.5).all()
    assert found.interval()["c"] == (0.5, 0.5)
    assert found.stderr["b"] == pytest.approx(fit.stderr["b"], rel=0.12)
    assert found.cov[2].tolist() == [0, 0, 0]


def test_an_interrupt_keeps_what_is_done(monkeypatch):
    fit = made.york()
    monkeypatch.setattr(refit, "TOGETHER", 200)
    calls = []

    def until_interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return refit.estimate(*args, **options)

    monkeypatch.setattr(module, "estimate", until_interrupted)
    with pytest.warns(GradfitWarning, match="interrupted after 40 of 1,000 refits"):
        found = fit.bootstrap(1000, "parametric")
    assert found.n == 40
    calls.append(1)
    monkeypatch.setattr(module, "estimate", lambda *a, **k: until_interrupted(*a[:0]))
    calls[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt):
        fit.bootstrap(1000, "parametric")


def test_progress_is_shown_on_standard_error(capsys):
    made.york().bootstrap(30, progress=True)
    shown = capsys.readouterr()
    assert "pairs bootstrap" in shown.err
    assert "30/30" in shown.err
    assert shown.out == ""


def test_draws_that_determine_nothing_are_counted_and_told():
    fit = gf.fit("a + b*x", [0, 1, 2.0], [0, 1.1, 1.9], sy=0.1, start={"a": 0, "b": 1})
    with pytest.warns(ConvergenceWarning, match="of 300 refits failed and are left out"):
        found = fit.bootstrap(300)
    drawn = np.random.default_rng(0).integers(0, 3, (300, 3))
    assert found.n_failed == sum(len(set(i)) == 1 for i in drawn.tolist())
    assert f"{found.n_failed} refits failed" in found.summary()


def test_wrong_questions_are_refused():
    fit = made.york()
    with pytest.raises(InputError, match="`n` must be at least 10"):
        fit.bootstrap(5)
    with pytest.raises(InputError, match="`kind` must be one of pairs, residual, parametric"):
        fit.bootstrap(100, "wild")
    found = fit.bootstrap(20)
    with pytest.raises(InputError, match="`method` must be one of bca, percentile"):
        found.interval(0.9, "basic")
    with pytest.raises(InputError, match="`level` must lie between 0 and 1"):
        found.interval(95)
    shared = gf.fit("a + b*x", X, Y, sy=0.1, systematic={"y": 0.1}, start={"a": 5, "b": 0})
    with pytest.raises(InputError, match="these share errors. Use kind='parametric'"):
        shared.bootstrap(100)
    with pytest.raises(InputError, match=r"jackknife\(\) leaves points out"):
        shared.jackknife()


def test_fits_without_a_solution_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        many = gf.fit("a + b*x", [0, 1, 2.0, 3], [1, np.nan, 1, 2], groups=[0, 0, 1, 1],
                      start={"a": 0, "b": 0})  # fmt: skip
    with pytest.raises(InputError, match="needs a solution; this fit ended with BAD_DATA"):
        many[0].bootstrap()


# -- jackknife -------------------------------------------------------------------------------------


def test_jackknife_of_regression_has_its_closed_form():
    fit = straight()
    found = fit.jackknife()
    keep = [np.arange(10) != i for i in range(10)]
    lines = np.stack([np.polyfit(X[k], Y[k], 1)[::-1] for k in keep], 1)
    np.testing.assert_allclose(samples(found), lines, rtol=1e-9)
    away = lines - lines.mean(1, keepdims=True)
    np.testing.assert_allclose(found.cov, 0.9 * away @ away.T, rtol=1e-7)
    whole = np.polyfit(X, Y, 1)[::-1]
    np.testing.assert_allclose(
        list(found.bias.values()), 9 * (lines.mean(1) - whole), rtol=1e-5, atol=1e-8
    )
    width = scipy.stats.t.ppf(0.975, 8)
    assert found.interval()["b"] == pytest.approx(
        (whole[1] - width * found.stderr["b"], whole[1] + width * found.stderr["b"]), rel=1e-9
    )


def test_jackknife_of_the_mean_is_the_standard_error():
    fit = gf.fit("a + 0*x", X, Y, sy=1, start={"a": 5})
    found = fit.jackknife()
    assert found.stderr["a"] == pytest.approx(np.std(Y, ddof=1) / np.sqrt(10), rel=1e-10)
    assert found.bias["a"] == pytest.approx(0, abs=1e-12)


def test_jackknife_needs_points_to_spare():
    fit = gf.fit("a + b*x", [0, 1.0], [0, 1.0], sy=0.1, start={"a": 0, "b": 1})
    with pytest.raises(InputError, match="more points than parameters"):
        fit.jackknife()


def test_intervals_by_method_are_those_of_the_samples():
    fit = made.york()
    assert fit.interval(0.9, "bootstrap") == fit.bootstrap().interval(0.9)
    assert fit.interval(0.9, "jackknife") == fit.jackknife().interval(0.9)


def test_summaries_read_well():
    text = str(made.york().jackknife())
    assert text.startswith("jackknife of 10 refits\n\nparameter  value ± error")
    assert "parametric bootstrap of 20 refits" in made.york().bootstrap(20, "parametric").summary()
    assert repr(made.york().bootstrap(20)) == "<Bootstrap of 20 refits>"


def test_a_parameter_that_is_the_same_in_all_refits_has_an_interval_of_no_width():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 6, 20)
    y = 4.3 * np.exp(-0.5 * x) + 1 + 0.02 * rng.normal(size=20)
    start = {"a": 4, "b": 0.5, "c": 1}
    held = gf.fit("a*exp(-b*x)+c", x, y, start=start, sx=0.02, sy=0.02, bounds={"a": (None, 4)})
    assert held.at_bound == ("a",)
    samples = held.bootstrap(200, "pairs")
    assert np.ptp(samples.samples["a"]) == 0
    assert samples.acceleration["a"] == 0
    for method in ("bca", "percentile"):
        assert samples.interval(method=method)["a"] == (4, 4)
    fixed = gf.fit("4*exp(-b*x)+c", x, y, start={"b": 0.5, "c": 1}, sx=0.02, sy=0.02)
    others = fixed.bootstrap(200, "pairs").interval()
    for name, interval in others.items():
        np.testing.assert_allclose(samples.interval()[name], interval, rtol=1e-5)


@pytest.mark.parametrize("kind", ["residual", "parametric"])
def test_a_bound_that_holds_some_refits_ends_their_interval(kind):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 6, 20)
    y = 4.1 * np.exp(-0.5 * x) + 1 + 0.03 * rng.normal(size=20)
    start = {"a": 4, "b": 0.5, "c": 1}
    fit = gf.fit("a*exp(-b*x)+c", x, y, start=start, sx=0.1, sy=0.05, bounds={"a": (None, 4)})
    low, high = fit.bootstrap(200, kind).interval()["a"]
    assert low < high == 4


@pytest.mark.slow
def test_ten_thousand_refits_take_less_than_half_a_minute():
    import time

    fit = made.decay(50)
    began = time.perf_counter()
    assert fit.bootstrap(10_000, "parametric").n == 10_000
    assert time.perf_counter() - began < 30
