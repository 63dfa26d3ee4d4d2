"""Every line of a trade answers for its own estimator, whatever it is asked."""

import math
import pickle

import numpy as np
import pytest

import gradfit as gf
from gradfit import lines
from gradfit.errors import InputError

N = 24


def points(shape: str = "plain"):
    """x, y, sx, sy of a straight relation with scatter of its own."""
    rng = np.random.default_rng(3)
    t = rng.uniform(1, 10, N)
    x = t + 0.2 * rng.standard_normal(N)
    y = 1 + 2 * t + 0.3 * rng.standard_normal(N) + 0.5 * rng.standard_normal(N)
    if shape == "outlier":
        y[4] += 9
    if shape == "far":
        x = x + 1000
    return x, y, np.full(N, 0.2), np.full(N, 0.3)


LINES = {
    "ols": lambda x, y, sx, sy: lines.ols(x, y),
    "inverse_ols": lambda x, y, sx, sy: lines.inverse_ols(x, y),
    "wls": lambda x, y, sx, sy: lines.wls(x, y, sy),
    "orthogonal": lambda x, y, sx, sy: lines.orthogonal(x, y),
    "york": lambda x, y, sx, sy: lines.york(x, y, sx, sy),
    "isochron 1": lambda x, y, sx, sy: lines.isochron(x, y, sx, sy),
    "isochron 2": lambda x, y, sx, sy: lines.isochron(x, y, sx, sy, model=2),
    "isochron 3": lambda x, y, sx, sy: lines.isochron(x, y, sx, sy, model=3),
    "iso28037": lambda x, y, sx, sy: lines.iso28037(x, y, sx, sy),
    "deming": lambda x, y, sx, sy: lines.deming(x, y, ratio=2.0),
    "passing_bablok": lambda x, y, sx, sy: lines.passing_bablok(x, y, n_resamples=100),
    "theil_sen": lambda x, y, sx, sy: lines.theil_sen(x, y),
    "scatter": lambda x, y, sx, sy: lines.scatter(x, y, sx, sy),
    "scatter flat": lambda x, y, sx, sy: lines.scatter(x, y, sx, sy, prior="flat"),
    "scatter across": lambda x, y, sx, sy: lines.scatter(x, y, sx, sy, direction="perpendicular"),
}
OF_RANKS = ("passing_bablok", "theil_sen")
OWN = (*OF_RANKS, "isochron 3", "scatter", "scatter flat", "scatter across")
SHAPES = (
    "plain",
    pytest.param("outlier", marks=pytest.mark.slow),
    pytest.param("far", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def found():
    class Found(dict):
        def __missing__(self, key):
            self[key] = LINES[key[0]](*points(key[1]))
            return self[key]

    return Found()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LINES)
def test_every_interval_holds_the_estimate_or_is_refused(found, name, shape) -> None:
    fit = found[name, shape]
    assert fit.success
    for method in (None, "t", "profile", "jackknife", "ranks"):
        if method in ("profile", "ranks") and (method == "ranks") != (name in OF_RANKS):
            with pytest.raises(InputError, match="which|is none") as e:
                fit.interval(method=method)
            assert "\n" not in str(e.value)
            assert fit.method in str(e.value)
            continue
        intervals = fit.interval(method=method)
        for p, (low, high) in intervals.items():
            assert low <= fit.params[p] <= high, (method, p)
            # One wild point of many makes errors that are known and those that are seen disagree.
            assert shape == "outlier" or 0.2 < (high - low) / (4 * fit.stderr[p]) < 5


@pytest.mark.parametrize("name", LINES)
def test_the_jackknife_is_the_same_call_without_each_point(found, name) -> None:
    data = points()
    left_out = [
        list(LINES[name](*(np.delete(v, i) for v in data)).params.values()) for i in range(N)
    ]
    samples = np.stack(list(found[name, "plain"].jackknife().samples.values()), 1)
    size = np.array(list(found[name, "plain"].stderr.values()))
    assert np.abs(samples - left_out).max(0) == pytest.approx(0, abs=1e-6 * size.min())


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("name", LINES)
def test_the_bootstrap_lies_around_the_estimate(found, name, shape) -> None:
    fit = found[name, shape]
    many = fit.bootstrap(300)
    for p in fit.names:
        middle, size = np.median(many.samples[p]), many.stderr[p]
        # The scatter of few points is biased low, as every maximum of a likelihood is.
        assert abs(middle - fit.params[p]) < (1.0 if p == "scatter" else 0.5) * size, p
    assert "pairs bootstrap of 300" in many.summary()


@pytest.mark.parametrize("name", OWN)
def test_what_has_no_meaning_is_refused_in_one_line_that_names_what_to_use(found, name) -> None:
    fit = found[name, "plain"]
    for asked, instead in (
        (fit.influence, "jackknife"),
        (fit.diagnostics, "jackknife"),
        (fit.graph, "gf.trace"),
        (lambda: fit.film([dict(fit.params)]), "gf.trace"),
        (lambda: fit.bootstrap(50, "parametric"), '"pairs"'),
        (lambda: fit.bootstrap(50, "residual"), '"pairs"'),
        (lambda: fit.bootstrap(5), "at least 10"),
        (lambda: fit.bootstrap(50, seed=-1), "`seed`"),
        (lambda: fit.interval(level="a"), "`level`"),
        (lambda: fit.interval(method="z"), "`method`"),
    ):
        with pytest.raises(InputError, match=instead) as e:
            asked()
        assert "\n" not in str(e.value)
    assert all(map(math.isnan, fit.bias.values()))


@pytest.mark.parametrize("name", LINES)
def test_text_page_notebook_json_and_pickle_speak_of_this_line(found, name) -> None:
    fit = found[name, "plain"]
    words = fit.method.replace("'", "&#x27;")
    assert fit.method in fit.summary()
    assert words in fit._repr_html_()
    page = fit.report().replace("\u00a0%", " %")
    assert words in page
    assert "off the curve by its errors and by nothing else" not in page
    for told, text in fit.told:
        assert told in page
        assert told in fit._repr_html_()
        assert text in fit.summary()
    back = lines.LineResult.from_json(fit.to_json())
    assert back.summary() == fit.summary()
    assert (back.method, back.estimator) == (fit.method, fit.estimator)
    assert back.predict(3.0) == fit.predict(3.0)
    assert back.interval() == fit.interval()
    assert pickle.loads(pickle.dumps(fit)).summary() == fit.summary()
    with pytest.raises(InputError, match="kind is 'line'"):
        gf.FitResult.from_json(fit.to_json())
    with pytest.raises(InputError, match="kind is 'fit'"):
        lines.LineResult.from_json(gf.line(*points()).to_json())


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"kind": "line"}'])
def test_what_is_no_line_is_refused_in_one_line(text) -> None:
    with pytest.raises(InputError) as e:
        lines.LineResult.from_json(text)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("dispersion", ["intercept", "slope"])
def test_the_profile_of_a_likelihood_is_that_of_scipy(dispersion) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    x, y, sx, sy = points()
    fit = lines.isochron(x, y, sx, sy, model=3, dispersion=dispersion)
    factor = x**2 if dispersion == "slope" else 1.0

    def best(b: float) -> float:
        def negative(t) -> float:
            S = sy**2 + b * b * sx**2 + t[1] ** 2 * factor
            return float(0.5 * (np.log(S) + (y - t[0] - b * x) ** 2 / S).sum())

        start = [np.mean(y - b * x), fit.figures["w"]]
        tight = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000}
        return optimize.minimize(negative, start, method="Nelder-Mead", options=tight).fun

    lowest = best(fit.params["slope"])
    low, high = fit.interval(method="profile")["slope"]
    for end in (low, high):
        assert best(end) - lowest == pytest.approx(1.959963984540054**2 / 2, rel=1e-5)


def test_an_isochron_of_model_2_says_where_its_errors_come_from() -> None:
    x, y, sx, sy = points()
    fit = lines.isochron(x, y, sx, sy, model=2)
    assert fit.cov_type == "jackknife"
    assert "jackknife: each point left out in turn" in fit.summary()
    assert fit.stderr == pytest.approx(lines.deming(x, y).stderr, rel=1e-9)
    plain = lines.isochron(x, y, sx, sy, model=2, errors="scatter")
    assert plain.params == fit.params
    assert plain.stderr == pytest.approx(gf.line(x, y).stderr, rel=1e-12)
    anchored = lines.isochron(x, y, sx, sy, model=2, anchor={"intercept": 1.0})
    slopes = [
        lines.isochron(
            *(np.delete(v, i) for v in (x, y, sx, sy)), model=2, anchor={"intercept": 1.0}
        ).params["slope"]
        for i in range(N)
    ]
    expected = math.sqrt((N - 1) / N * np.sum((slopes - np.mean(slopes)) ** 2))
    assert anchored.stderr["slope"] == pytest.approx(expected, rel=1e-6)
    assert anchored.stderr["intercept"] == 0.0


def test_model_2_covers_where_the_scatter_grows_along_x() -> None:
    rng = np.random.default_rng(7)
    held = {"jackknife": 0, "scatter": 0}
    runs, n = 300, 20
    for _ in range(runs):
        t = np.linspace(0, 10, n)
        size = 0.02 + 0.1 * t
        x, y = t + size * rng.standard_normal(n), 1 + 0.5 * t + size * rng.standard_normal(n)
        for errors in held:
            fit = lines.isochron(x, y, 0.1, 0.1, model=2, errors=errors)
            held[errors] += abs(fit.params["slope"] - 0.5) <= fit.figures["ci[b]"]
    # Three standard errors of a share of 300 are 4 %.
    assert held["jackknife"] > 0.88 * runs
    assert held["scatter"] < held["jackknife"]
