"""What a result answers: predictions, bands, intervals, plain data, one fit of many."""

import copy
import json
import math
import pickle

import made
import numpy as np
import pytest
import scipy.stats
import torch

from gradfit._fit import fit
from gradfit._result import Band, FitResult, FitTable, Observed
from gradfit._views.residuals import standardised
from gradfit.errors import FitError, InputError, ModelError

X = np.array([0.5, 1.0, 2.2, 3.1, 4.7, 5.0, 6.4])
Y = np.array([1.1, 2.3, 4.1, 6.8, 9.0, 10.4, 12.2])


# -- residuals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "errors",
    [
        {"sy": 0.3},
        {"sx": 0.2},
        {"sx": 0.2, "sy": np.linspace(0.1, 0.5, 7)},
        {"sx": 0.2, "sy": 0.3, "rho": -0.6},
        {"cov": [[0.04, 0.03], [0.03, 0.09]]},
        {"cov": np.linspace(1, 3, 7)[:, None, None] * np.array([[0.04, -0.01], [-0.01, 0.09]])},
        {},
    ],
)
def test_squares_of_residuals_add_up_to_chi2(errors):
    result = fit("a + b*x**2", X, Y, start={"a": 1, "b": 1}, **errors)
    scale = 1 if result.absolute_sigma else result.mswd
    assert np.sum(standardised(result) ** 2) == pytest.approx(result.chi2 / scale, rel=1e-9)


def test_residuals_are_positive_above_the_curve():
    result = made.york()
    above = result.predict(made.PEARSON_X) < made.PEARSON_Y
    assert ((standardised(result)[0] > 0) == above).all()


def test_residuals_of_an_implicit_fit_are_distances_in_sigma():
    result = made.circle()
    u, v, r = result.params.values()
    distance = np.hypot(result.observed.x[0] - u, result.observed.x[1] - v) - r
    np.testing.assert_allclose(standardised(result)[0], distance / 0.1, rtol=1e-7, atol=1e-9)


def test_residuals_of_several_responses_use_the_variance_of_each():
    x, y = np.linspace(0, 1, 8), np.stack([X_SQUARED, -X_SQUARED])
    result = fit(two_lines, x, y, sx=0.1, sy=[0.2, 0.4], start={"a": 1.0, "b": -1.0})
    a, b = result.params.values()
    slope = np.array([[a], [b]])
    off = y - slope * x
    spread = np.sqrt(np.array([[0.2], [0.4]]) ** 2 + slope**2 * 0.1**2)
    np.testing.assert_allclose(standardised(result), off / spread, rtol=1e-9)


X_SQUARED = np.array([0.0, 0.02, 0.1, 0.2, 0.3, 0.5, 0.7, 1.1])


def two_lines(x, a, b):
    return torch.stack([a * x, b * x])


def test_rows_left_out_have_no_residual():
    y = Y.copy()
    y[2] = np.nan
    result = fit("a + b*x", X, y, sy=0.3, start={"a": 0, "b": 1}, nan_policy="omit")
    assert np.flatnonzero(np.isnan(standardised(result)[0])).tolist() == [2]
    assert result.observed.n_points == 6


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


# -- ending and looking ----------------------------------------------------------------------------


def test_raise_for_status_raises_only_for_a_failed_fit():
    made.york().raise_for_status()
    result = made.failed()
    with pytest.raises(FitError, match="MAX_STEPS: stopped at max_steps") as caught:
        result.raise_for_status()
    assert caught.value.result is result


def test_print_shows_the_summary_and_repr_one_line():
    result = made.straight(X, Y, 0.3)
    assert str(result) == result.summary()
    line = scipy.stats.linregress(X, Y)
    assert repr(result) == f"<FitResult GRADIENT: a={line.intercept:.6g}, b={line.slope:.6g}>"


def test_a_result_cannot_be_changed():
    with pytest.raises(AttributeError):
        made.straight(X, Y).chi2 = 0.0


@pytest.mark.parametrize(
    ("result", "free"),
    [
        (made.york(), 2),
        (made.decay(fixed={"c": 1.0}), 2),
        (made.decay(loss="huber"), 3),
        (made.circle(), 3),
    ],
    ids=["line", "fixed", "robust", "implicit"],
)
def test_graph_is_chi2_with_gradients_of_zero(result, free):
    graph = result.graph()
    if result.loss == "linear":
        assert float(graph.result) == pytest.approx(result.chi2, rel=1e-9)
    leaves = [graph[name] for name in result.names if name not in result.fixed]
    assert len(leaves) == free
    for leaf, name in zip(leaves, (n for n in result.names if n not in result.fixed), strict=True):
        # One standard error away chi2 rises by about 1, so this is a gradient in its own units.
        assert abs(leaf.grad.item()) * result.stderr[name] < 1e-6
    assert all(not graph[name].requires_grad for name in result.fixed)


def test_graph_of_correlated_responses_is_chi2():
    x = np.linspace(0, 1, 8)
    cov = [[0.01, 0.0, 0.0], [0.0, 0.04, 0.03], [0.0, 0.03, 0.09]]
    result = fit(two_lines, x, np.stack([x, X_SQUARED]), cov=cov, start={"a": 1.0, "b": 1.0})
    assert float(result.graph().result) == pytest.approx(result.chi2, rel=1e-9)


# -- keeping ---------------------------------------------------------------------------------------


def same(first, second):
    """Return whether two results hold the same fields, NaN equal to NaN."""
    return first.to_dict() == second.to_dict() or json.dumps(first.to_dict()) == json.dumps(
        second.to_dict()
    )


@pytest.mark.parametrize(
    "result",
    [
        made.york(),
        made.decay(loss="huber"),
        made.straight([1, 2], [1, 3]),
        made.straight(X, Y, 0.3, condition=math.inf, cov=np.diag([math.inf, 1.0])),
        fit("a + b*x", torch.tensor(X), torch.tensor(Y), sy=0.3, start={"a": 0, "b": 1}),
        fit("line", X, Y, sx=0.1, sy=0.3, rho=np.linspace(-0.5, 0.5, 7)),
        fit("a + b*x", X, Y, cov=[[0.04, 0.024], [0.024, 0.09]], start={"a": 0, "b": 1}),
    ],
    ids=["york", "robust", "two points", "infinite", "torch", "built-in", "joint"],
)
def test_dict_json_and_pickle_give_back_the_same_result(result):
    for back in (
        FitResult.from_dict(result.to_dict()),
        FitResult.from_json(result.to_json()),
        FitResult.from_dict(json.loads(result.to_json())),
        pickle.loads(pickle.dumps(result)),
        copy.deepcopy(result),
    ):
        assert same(back, result)
        assert back.summary() == result.summary()
        assert type(back.cov) is type(result.cov)
        assert back.predict(1.5) == result.predict(1.5)
        assert back.status is result.status


def test_json_is_strict_and_says_which_version_wrote_it():
    result = made.straight([1, 2], [1, 3], condition=math.inf)

    def refuse(word):
        raise AssertionError(word)

    plain = json.loads(result.to_json(), parse_constant=refuse)
    assert plain["mswd"] is None
    assert plain["condition"] == "Infinity"
    assert plain["gradfit"].count(".") == 2


def test_dict_of_a_function_keeps_its_name_and_says_so_when_called():
    result = made.circle()
    back = FitResult.from_dict(result.to_dict())
    assert same(back, result)
    with pytest.raises(ModelError, match="the model 'round_curve' was code when its fit was writ"):
        back.model.fn(torch.zeros(2, 3), 0, 0, 1)


def test_dict_of_something_else_is_refused():
    with pytest.raises(InputError, match="this is no fit that to_dict.. wrote: kind is None"):
        FitResult.from_dict({})
    with pytest.raises(InputError, match="this is no fit that to_dict.. wrote: kind is 'table'"):
        FitResult.from_dict(made.runs().to_dict())
    plain = made.straight(X, Y).to_dict()
    del plain["cov"], plain["observed"]
    with pytest.raises(InputError, match="this fit is incomplete: cov, observed missing"):
        FitResult.from_dict(plain)


# -- many ------------------------------------------------------------------------------------------


def test_one_of_many_is_the_fit_of_its_points_alone():
    many = made.runs(5)
    observed = many.observed
    for key in many:
        own = many.group == key
        alone = fit(
            "a + b*x", observed.x[own], observed.y[own], sx=0.1, sy=0.3, start={"a": 0, "b": 1}
        )
        one = many[key]
        np.testing.assert_array_equal(one.observed.x, alone.observed.x)
        for name in ("delta", "eps", "x_hat", "y_hat", "weights", "cov", "corr"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(alone, name), rtol=1e-7, atol=1e-10
            )
        for name in ("chi2", "mswd", "p_value"):
            assert getattr(one, name) == pytest.approx(getattr(alone, name), rel=1e-9)
        assert one.dof == alone.dof
        assert one.params == pytest.approx(alone.params, rel=1e-9)
        assert one.stderr == pytest.approx(alone.stderr, rel=1e-9)


def test_per_point_errors_go_with_their_group():
    run = np.array(["b", "a"] * 5)
    many = fit(
        "a + b*x", made.PEARSON_X, made.PEARSON_Y, sx=made.YORK_SX, sy=made.YORK_SY,
        rho=np.linspace(-0.5, 0.5, 10), groups=run, start={"a": 5, "b": -0.5},
    )  # fmt: skip
    assert list(many) == ["b", "a"]
    for key in ("a", "b"):
        own, one = run == key, many[key].observed
        np.testing.assert_array_equal(one.sx, made.YORK_SX[own])
        np.testing.assert_array_equal(one.sy, made.YORK_SY[own])
        np.testing.assert_array_equal(one.rho, np.linspace(-0.5, 0.5, 10)[own])


def test_a_table_is_asked_like_a_mapping():
    many = made.runs(8)
    assert len(many) == 9
    assert 3 in many
    assert "three" not in many
    assert many.n_points.tolist() == [15] * 8 + [1]
    with pytest.raises(
        KeyError, match="there is no group 'three'; there are 0, 1, 2, 3, 4, 5, ..."
    ):
        many["three"]
    assert repr(many) == "<FitTable of 9 fits, 7 converged>"


def test_fits_that_failed_say_so_alone_and_together():
    many = made.runs(8)
    assert many[2].status.name == "BAD_DATA"
    assert many.message[2] == many[2].message
    with pytest.raises(FitError, match="2 of 9 fits failed; the first is 2: BAD_DATA") as caught:
        many.raise_for_status()
    assert caught.value.result is many
    made.runs(4).raise_for_status()


@pytest.mark.parametrize("absolute", [True, False])
def test_intervals_of_many_are_those_of_each(absolute):
    x, y = np.tile(X, 2), np.concatenate([Y, Y + X**2])
    run = np.repeat([0, 1], len(X))
    many = fit(
        "a + b*x", x[:-1], y[:-1], sy=0.3, groups=run[:-1], start={"a": 0, "b": 1},
        absolute_sigma=absolute,
    )  # fmt: skip
    low, high = many.interval(0.9)["b"]
    for key in many:
        assert (low[key], high[key]) == pytest.approx(many[key].interval(0.9)["b"], rel=1e-12)
    with pytest.raises(InputError, match="`method` must be one of t; got 'magic'"):
        many.interval(method="magic")


def test_frame_has_one_row_per_fit():
    many = made.runs(8)
    frame = many.to_frame()
    assert frame.columns[:6] == ["key", "n_points", "a", "a_stderr", "b", "b_stderr"]
    assert frame["key"].to_list() == list(range(9))
    assert frame["b"][3] == many[3].params["b"]
    assert frame["status"][2] == "BAD_DATA"


def test_table_gives_itself_back_from_dict_json_and_pickle():
    many = made.runs(8)
    for back in (
        FitTable.from_dict(many.to_dict()),
        FitTable.from_json(many.to_json()),
        pickle.loads(pickle.dumps(many)),
    ):
        assert same(back, many)
        assert back.summary() == many.summary()
        assert back[3].summary() == many[3].summary()
        assert back.success.dtype == bool
        assert back.dof.dtype == np.int64


def test_table_of_tensors_answers_with_tensors():
    x, y = torch.tensor(X).repeat(2), torch.tensor(Y).repeat(2)
    many = fit("a + b*x", x, y, sy=0.3, groups=[0] * 7 + [1] * 7, start={"a": 0, "b": 1})
    assert isinstance(many.params["a"], torch.Tensor)
    assert isinstance(many.interval()["a"][0], torch.Tensor)
    assert isinstance(many[1].eps, torch.Tensor)
    assert same(FitTable.from_json(many.to_json()), many)


def test_observed_counts_points_that_were_used():
    x = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]])
    assert Observed(x=x, y=None).n_points == 2


def test_residuals_of_more_points_than_pass_at_once_are_those_of_each(monkeypatch):
    from gradfit._views import residuals

    results = [
        made.york(),
        made.circle(),
        fit("a + b*x", X, Y, sx=0.2, sy=0.3, rho=np.linspace(-0.5, 0.5, 7), start={"a": 1, "b": 1}),
        fit("a + b*x", X, Y, cov=X[:, None, None] * np.eye(2), start={"a": 1, "b": 1}),
    ]
    whole = [standardised(result) for result in results]
    monkeypatch.setattr(residuals, "CHUNK", 3)
    for result, expected in zip(results, whole, strict=True):
        np.testing.assert_array_equal(standardised(result), expected)


def test_graph_leaves_out_rows_that_were_left_out():
    y = Y.copy()
    y[2] = np.nan
    result = fit("a + b*x", X, y, sx=0.1, sy=0.3, start={"a": 0, "b": 1}, nan_policy="omit")
    assert float(result.graph().result) == pytest.approx(result.chi2, rel=1e-9)


def test_film_shows_chi_square_on_the_way_to_the_solution() -> None:
    import gradfit as gf

    d = gf.datasets.pearson_york
    steps = []
    fit = gf.fit(
        "a + b*x", d.x, d.y, sx=d.sx, sy=d.sy, start={"a": 5, "b": 0},
        on_step=lambda step: steps.append(step.params),
    )  # fmt: skip
    film = fit.film([*steps, fit.params])
    assert len(film) == len(steps) + 1
    assert film.changes == ()
    values = [float(g.nodes[g.results[0]].value) for g in film]
    assert values[-1] == pytest.approx(fit.chi2, rel=1e-10)
    assert values[0] > values[-1]
    assert len(film.to_html().encode()) < 100_000


def test_film_refuses_what_is_no_path() -> None:
    import gradfit as gf

    fit = gf.line([0, 1, 2, 3.0], [1, 3, 5.2, 6.9])
    with pytest.raises(gf.errors.InputError, match="has no steps"):
        fit.film([])
    with pytest.raises(gf.errors.InputError, match="names 'tilt'"):
        fit.film([{"tilt": 1.0}])


# -- what a result keeps of the question ----------------------------------------------------------


def test_exact_coordinates_are_kept_as_errors_of_zero():
    exact = np.arange(7) < 2
    start = {"a": 1, "b": 1}
    given = fit("a + b*x", X, Y, sx=0.2, sy=0.3, fix_x=exact, start=start)
    assert given.observed.sx.tolist() == [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2]
    none = fit("a + b*x", X, Y, fix_x=exact, start=start)
    assert none.observed.sx.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert none.observed.sy == 1
    V = [[0.04, 0.03], [0.03, 0.09]]
    joint = fit("a + b*x", X, Y, cov=V, fix_x=exact, start=start).observed.cov
    np.testing.assert_array_equal(joint[:, :, 0], [[0, 0], [0, 0.09]])
    np.testing.assert_array_equal(joint[:, :, 6], V)


def test_squares_of_residuals_add_up_to_chi2_with_exact_coordinates():
    result = fit("a + b*x**2", X, Y, sx=0.2, sy=0.3, fix_x=np.arange(7) < 3, start={"a": 1, "b": 1})
    assert np.sum(standardised(result) ** 2) == pytest.approx(result.chi2, rel=1e-9)


def test_bounds_scales_and_shared_errors_are_kept_through_text():
    result = fit(
        "a + b*x", X, Y, sx=0.2, sy=0.3, start={"a": 1, "b": 1}, bounds={"b": (0, None)},
        loss=("huber", 2.0), systematic={"y": 0.5},
    )  # fmt: skip
    again = FitResult.from_json(result.to_json())
    assert again.bounds == {"b": (0.0, math.inf)}
    assert again.loss_scale == 2.0
    np.testing.assert_array_equal(again.observed.systematic, result.observed.systematic)
    np.testing.assert_array_equal(result.observed.systematic[0], [[0.0] * 7, [0.5] * 7])
