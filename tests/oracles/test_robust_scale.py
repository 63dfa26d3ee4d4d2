"""Robust fits without known sigmas against MASS::rlm, and their errors against simulation.

Figures of R 4.2.2 with MASS 7.3-58.2 and sandwich 3.0-2: ``rlm(..., maxit=5000, acc=1e-14)`` with
``psi.huber``, ``psi.bisquare`` and, for the others, the weights ``1/(1+(u/2.385)^2)`` and
``1/sqrt(1+u^2)``; ``vcovHC(lm(...), type)``. Data: ``phones`` of MASS, Brownlee's ``stackloss``.
"""

import numpy as np
import pytest

import gradfit as gf
from gradfit.errors import InputError

YEAR = np.arange(50.0, 74.0)
CALLS = np.array(
    [4.4, 4.7, 4.7, 5.9, 6.6, 7.3, 8.1, 8.8, 10.6, 12.0, 13.5, 14.9, 16.1, 21.2, 119.0, 124.0,
     142.0, 159.0, 182.0, 212.0, 43.0, 24.0, 27.0, 29.0]
)  # fmt: skip
AIR = np.array(
    [80, 80, 75, 62, 62, 62, 62, 62, 58, 58, 58, 58, 58, 58, 50, 50, 50, 50, 50, 56, 70.0]
)
WATER = np.array(
    [27, 27, 25, 24, 22, 23, 24, 24, 23, 18, 18, 17, 18, 19, 18, 18, 19, 19, 20, 20, 20.0]
)
ACID = np.array(
    [89, 88, 90, 87, 87, 87, 93, 93, 87, 80, 89, 88, 82, 93, 89, 86, 72, 79, 80, 82, 91.0]
)
LOSS = np.array([42, 37, 37, 28, 18, 18, 19, 20, 15, 14, 14, 13, 11, 12, 8, 7, 8, 8, 9, 15, 15.0])
LOSSES = {"huber": 1.345, "soft_l1": 1.0, "cauchy": 2.385, "tukey": 4.685}
PHONES = {
    "huber": (-102.529638118093, 2.03960046572059, 9.00902830582914),
    "tukey": (-52.3025106822401, 1.09804648483075, 1.65545571377125),
    "cauchy": (-53.5765313839163, 1.12144912658938, 1.63620877164355),
    "soft_l1": (-109.123513024267, 2.15742365463688, 9.62667817142732),
}
STACKLOSS = {
    "huber": (-41.0264853732951, 0.829385770253855, 0.926059415548606, -0.127846317965416,
              2.44048904599281),
    "tukey": (-42.2853215364912, 0.927558992802422, 0.650711198390212, -0.112333123035659,
              2.28185331456694),
    "cauchy": (-40.6586480416436, 0.834598565375638, 0.876473936475634, -0.123838492826589,
               2.36462674306393),
    "soft_l1": (-39.6356709515045, 0.823866351735109, 0.831426294286204, -0.11853241365764,
                2.10986114478007),
}  # fmt: skip
ROUNDED = 0.6744897501960817 / 0.6745
"""MASS divides the median by 0.6745: its scale is this much smaller, and its bends lie nearer."""


def phones(**asked):
    return gf.fit("a + b*x", YEAR, CALLS, fix_x=True, **asked)


def stackloss(**asked):
    x = np.stack([AIR, WATER, ACID])
    return gf.fit("a + b*x[0] + c*x[1] + d*x[2]", x, LOSS, sy=1.0, absolute_sigma=False, **asked)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("loss", LOSSES)
def test_without_sigmas_the_scale_and_the_fit_are_those_of_rlm(loss, backend):
    for fit, figures in ((phones, PHONES[loss]), (stackloss, STACKLOSS[loss])):
        got = fit(loss=(loss, LOSSES[loss] * ROUNDED), backend=backend)
        assert got.success
        assert (*got.params.values(), got.scale * ROUNDED) == pytest.approx(figures, rel=1e-7)


def test_sandwiches_are_those_of_r():
    """vcovHC of the two least-squares fits."""
    hc0 = [95.20402798484673, 1.70262312574616]
    hc3 = [107.77327304621598, 1.92395334532196]
    wide0 = [6.4116494648401767, 0.1589442605294983, 0.4465276886346058, 0.0864294755695947]
    wide3 = [9.001105108948918, 0.213421198116520, 0.588753796732082, 0.120580229004299]
    for kind, narrow, wide in (("HC0", hc0, wide0), ("HC3", hc3, wide3)):
        assert list(phones(cov_type=kind).stderr.values()) == pytest.approx(narrow, rel=1e-9)
        assert list(stackloss(cov_type=kind).stderr.values()) == pytest.approx(wide, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sigmas", [{"sy": 0.2}, {"sy": 1.0, "absolute_sigma": False}])
@pytest.mark.parametrize("share", [0.0, pytest.param(0.1, marks=pytest.mark.slow), 0.3])
def test_standard_errors_are_those_of_a_simulation(loss, sigmas, share):
    """Within 10 %, for a share of errors that are ten times as large."""
    count, n = 800, 40
    rng = np.random.default_rng(11)
    x = np.tile(np.linspace(0, 10, n), count)
    e = 0.2 * rng.standard_normal(count * n)
    e[rng.random(count * n) < share] *= 10
    groups = np.repeat(np.arange(count), n)
    for kind in ("expected", "observed", "propagated", "sandwich", "HC3"):
        many = gf.fit(
            "a + b*x", x, 1 + 2 * x + e, groups=groups, loss=loss, start=[0, 1], cov_type=kind,
            backend="native", **sigmas,
        )  # fmt: skip
        assert many.success.all()
        for name in "ab":
            told = np.sqrt(np.mean(many.stderr[name] ** 2))
            assert told == pytest.approx(np.std(many.params[name]), rel=0.1)
        if kind == "expected" and loss != "huber":
            break


@pytest.mark.parametrize("loss", LOSSES)
def test_another_unit_of_y_changes_nothing_of_a_robust_fit(loss):
    rng = np.random.default_rng(0)
    x = np.linspace(0, 10, 30)
    y = 1 + 2 * x + 0.01 * rng.standard_normal(30)
    y[[5, 12, 26]] += 0.5, 0.9, -0.7
    doors = {
        "eager": lambda c: gf.fit(
            "a+b*x", x, c * y, fix_x=True, loss=loss, backend="eager", start=[0, 0]
        ),
        "native": lambda c: gf.fit(
            "a+b*x", x, c * y, fix_x=True, loss=loss, backend="native", start=[0, 0]
        ),
        "HC3": lambda c: gf.fit(
            "a+b*x", x, c * y, fix_x=True, loss=loss, cov_type="HC3", start=[0, 0]
        ),
        "line": lambda c: gf.line(x, c * y, 0.0, 1.0, absolute_sigma=False, loss=loss),
        "prepare": lambda c: (
            gf.prepare("a+b*x", fix_x=True, loss=loss, start=[0, 0])(x, c * y).full
        ),
        "orthogonal": lambda c: gf.line(c * x, c * y, loss=loss),
    }
    for name, door in doors.items():
        plain = door(1.0)
        assert sorted(plain.outliers.tolist()) == [5, 12, 26]
        for c in (1e-15, 1e-3, 1e9):
            fit = door(c)
            slope = 1.0 if name == "orthogonal" else c
            flat, steep = ("intercept", "slope") if "slope" in fit.names else ("a", "b")
            for field in ("params", "stderr"):
                one, other = getattr(plain, field), getattr(fit, field)
                assert other[steep] == pytest.approx(slope * one[steep], rel=1e-6)
                assert other[flat] == pytest.approx(c * one[flat], rel=1e-6)
            assert fit.scale == pytest.approx(c * plain.scale, rel=1e-6)
            assert fit.outliers.tolist() == plain.outliers.tolist()
            assert fit.weights == pytest.approx(plain.weights, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_orthogonal_distances_tell_the_scale_where_x_and_y_are_uncertain_alike(loss):
    """Exchanging x and y turns the line over and leaves the scale alone."""
    rng = np.random.default_rng(2)
    t = np.linspace(0, 10, 40)
    x, y = t + 0.05 * rng.standard_normal(40), 1 + 0.7 * t + 0.05 * rng.standard_normal(40)
    y[[4, 30]] += 2.0, -1.5
    one, other = gf.line(x, y, loss=loss), gf.line(y, x, loss=loss)
    assert other.params["slope"] == pytest.approx(1 / one.params["slope"], rel=1e-8)
    assert other.scale == pytest.approx(one.scale, rel=1e-8)
    off = (one.params["intercept"] + one.params["slope"] * x - y) / np.hypot(1, one.params["slope"])
    assert one.scale == pytest.approx(np.median(np.abs(off)) / 0.6744897501960817, rel=1e-8)


@pytest.mark.parametrize("loss", ["huber", "tukey"])
def test_a_robust_fit_of_a_batch_is_the_fit_alone(loss):
    rng = np.random.default_rng(5)
    sizes = [12, 30, 17, 5]
    x = np.concatenate([np.linspace(0, 5, n) for n in sizes])
    groups = np.repeat(range(4), sizes)
    y = 3 * np.exp(-0.4 * x) + 0.05 * rng.standard_normal(len(x))
    y[[3, 20, 50]] += 2.0
    given = {"loss": loss, "sy": 1.0, "absolute_sigma": False, "start": [2, 0.6]}
    for backend in ("eager", "native"):
        many = gf.fit("a*exp(-b*x)", x, y, groups=groups, backend=backend, **given)
        for g in range(4):
            at = groups == g
            one = gf.fit("a*exp(-b*x)", x[at], y[at], backend="eager", **given)
            assert many.scale[g] == pytest.approx(one.scale, rel=1e-6)
            assert many[g].scale == many.scale[g]
            for name in "ab":
                assert many.params[name][g] == pytest.approx(one.params[name], rel=1e-7)
                assert many.stderr[name][g] == pytest.approx(one.stderr[name], rel=1e-5)


def test_the_jackknife_of_a_robust_fit_is_the_same_call_without_each_point():
    rng = np.random.default_rng(7)
    x = np.linspace(0, 10, 15)
    y = 1 + 2 * x + 0.1 * rng.standard_normal(15)
    y[4] += 2
    for loss in ("huber", "tukey"):
        given = {"loss": loss, "fix_x": True, "start": [0, 0]}
        found = gf.fit("a+b*x", x, y, **given).jackknife()
        for i in (0, 4, 9):
            rest = np.arange(15) != i
            one = gf.fit("a+b*x", x[rest], y[rest], **given)
            assert found.samples["b"][i] == pytest.approx(one.params["b"], rel=1e-6)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("sigmas", [{"sy": 0.05}, {"fix_x": True}])
def test_a_quarter_of_far_leverage_points_does_not_turn_a_line_of_tukey(backend, sigmas):
    rng = np.random.default_rng(3)
    x = np.r_[np.linspace(0, 1, 30), np.full(10, 5.0)]
    y = 1 + 2 * x + 0.05 * rng.standard_normal(40)
    y[30:] -= 9
    fit = gf.fit("a+b*x", x, y, loss="tukey", backend=backend, start=[0, 0], **sigmas)
    assert fit.success
    assert abs(fit.params["b"] - 2) < 4 * fit.stderr["b"] < 0.4
    assert fit.outliers.size == 10


@pytest.mark.parametrize("sigmas", [{"sy": 0.1}, {"fix_x": True}])
def test_a_line_with_one_outlier_in_twelve_is_determined(sigmas):
    rng = np.random.default_rng(0)
    count = 100
    x = np.tile(np.linspace(0, 10, 12), count)
    y = 1 + 2 * x + 0.1 * rng.standard_normal(x.size)
    y[np.arange(count) * 12 + rng.integers(0, 12, count)] += rng.choice([-1, 1], count) * 5
    many = gf.fit(
        "a+b*x",
        x,
        y,
        groups=np.repeat(np.arange(count), 12),
        loss="tukey",
        start=[30, -3],
        **sigmas,
    )
    assert many.success.all()
    assert (np.abs(many.params["b"] - 2) < 0.1).all()


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("off", [1.3, 0.7])
def test_exponentials_with_outliers_from_a_poor_start_end_where_they_should(count, off):
    rng = np.random.default_rng(3)
    x = np.tile(np.linspace(0, 8, 20), count)
    y = 3 * np.exp(-0.7 * x) + 0.5 + 0.05 * rng.standard_normal(x.size)
    bad = rng.random(x.size) < 0.05
    y[bad] += rng.choice([-1, 1], bad.sum()) * rng.uniform(0.5, 3, bad.sum())
    many = gf.fit(
        "a*exp(-b*x)+c", x, y, groups=np.repeat(np.arange(count), 20), sy=0.05, loss="tukey",
        start={"a": 3 * off, "b": 0.7 * 1.3, "c": 0.5 * off}, backend="native",
    )  # fmt: skip
    assert many.success.mean() >= 0.999
    assert (np.abs(many.params["c"] - 0.5) < 0.2).mean() >= 0.998


@pytest.mark.parametrize("loss", LOSSES)
def test_exact_points_have_no_scale_and_outliers_among_them_no_pull(loss):
    x = np.arange(12.0)
    y = 1 + 2 * x
    fit = gf.fit("a+b*x", x, y, fix_x=True, loss=loss, start=[0, 0])
    assert fit.success
    assert list(fit.params.values()) == pytest.approx([1, 2], rel=1e-12)
    y[3] += 5
    fit = gf.fit("a+b*x", x, y, fix_x=True, loss=loss, start=[0, 0])
    assert list(fit.params.values()) == pytest.approx([1, 2], rel=1e-6)


def test_weights_of_nothing_are_told_as_such():
    x = np.linspace(0, 10, 40)
    fit = gf.fit("a*x**2", x, 1 + 2 * x, sy=1e-9, loss="tukey", start=[1])
    many = gf.fit("a*x**2", x, 1 + 2 * x, sy=1e-9, loss="tukey", start=[1], groups=[0] * 40)
    for one in (fit, many[0]):
        if not one.success:
            assert "no point has any weight" in one.message
        assert "count by more than half" in one.summary() or not one.success


def test_a_scale_is_a_part_of_the_result_and_of_its_words():
    fit = phones(loss="tukey")
    assert gf.FitResult.from_json(fit.to_json()).scale == fit.scale
    assert "scale    1.655, 1.4826 times the median distance" in fit.summary()
    assert np.isnan(phones().scale)
    assert np.isnan(gf.fit("a+b*x", YEAR, CALLS, sy=2.0, loss="tukey").scale)
    many = gf.fit("a+b*x", YEAR, CALLS, fix_x=True, loss="tukey", groups=[0, 1] * 12, start=[0, 0])
    again = gf.FitTable.from_json(many.to_json())
    assert again.scale.tolist() == many.scale.tolist()
    assert many.scale.shape == (2,)


@pytest.mark.parametrize("loss", ["cauchy", "tukey"])
def test_shapes_without_sigmas_stay_with_most_of_the_points(loss):
    rng = np.random.default_rng(3)
    t = np.linspace(0, 6, 40)
    x = 4 + 3 * np.cos(t) + 0.02 * rng.standard_normal(40)
    y = -2 + 3 * np.sin(t) + 0.02 * rng.standard_normal(40)
    x[:10] += rng.uniform(0.5, 3, 10)
    for c in (1.0, 1e-12, 1e9):
        fit = gf.shapes.circle(c * x, c * y, loss=loss)
        assert fit.params["radius"] / c == pytest.approx(3.0, abs=0.02)
        assert 0.015 < fit.scale / c < 0.05
        assert abs(fit.params["radius"] / c - 3.0) < 4 * fit.stderr["radius"] / c


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_group_without_points_enough_has_no_scale(loss):
    x = np.linspace(0, 5, 12)
    y = 1 + 2 * x + 0.1 * np.cos(9 * x)
    groups = [0] * 12 + [1]
    many = gf.fit("a+b*x", np.r_[x, 1], np.r_[y, 3], groups=groups, loss=loss, fix_x=True)
    assert np.isnan(many.scale).tolist() == [False, True]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_point_where_the_model_does_not_exist_is_named(loss):
    x = np.arange(12.0)
    with pytest.raises(InputError, match="first at index 0, x = 0.0"):
        gf.fit("a+b*log(x)", x, x, sy=1.0, loss=loss, start=[0.25, 0.5])
