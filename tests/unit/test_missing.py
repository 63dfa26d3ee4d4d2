"""Single responses that were not measured: what is told of them, and what is refused."""

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import gradfit as gf
from gradfit._data import gather
from gradfit.errors import GradfitWarning, InputError

X = np.linspace(0, 3, 8)
Y = np.stack([2 * np.exp(-0.8 * X), 2 + 0.5 * X]) + 0.02 * np.cos(7 * np.stack([X, X + 1]))
HOLES = Y.copy()
HOLES[0, 3] = HOLES[1, 5] = np.nan
START = {"a": 1.8, "b": 0.7, "c": 0.4}
INF = np.inf


def model(x: Any, a: Any, b: Any, c: Any) -> Any:
    return torch.stack([a * torch.exp(-b * x), a + c * x])


def errors_of(*holes: tuple[int, int], value: float = INF) -> Any:
    sy = np.full_like(Y, 0.1)
    for place in holes:
        sy[place] = value
    return sy


def fit(y: Any = HOLES, **changes: Any) -> Any:
    asked = {"sx": 0.05, "sy": 0.1, "start": START, "nan_policy": "omit"} | changes
    return gf.fit(model, X, y, **asked)


# -- the gate ----------------------------------------------------------------------------------


def test_only_the_response_is_left_out_and_the_point_where_nothing_is_left() -> None:
    y = HOLES.copy()
    y[:, 6] = np.nan
    x = X.copy()
    x[7] = np.nan
    data = gather(x, y, sy=0.1, nan_policy="omit")
    assert data.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.missing is not None
    assert data.missing.nonzero().tolist() == [[0, 3], [1, 5]]
    assert data.n_missing == 2
    assert torch.equal(data.filled.x, data.x)
    assert bool(torch.isfinite(data.filled.y).all())


def test_of_one_response_the_row_is_left_out() -> None:
    data = gather(X, Y[:1], sy=errors_of((0, 3))[:1], nan_policy="omit")
    assert data.missing is None
    assert data.index.tolist() == [0, 1, 2, 4, 5, 6, 7]


def test_empty_cells_of_one_column_leave_out_that_response() -> None:
    columns = {"t": X, "u": HOLES[0], "v": HOLES[1], "su": errors_of()[0], "sv": errors_of()[1]}
    columns["su"][3] = columns["sv"][5] = np.nan
    frame = pl.DataFrame(columns).fill_nan(None)
    asked = {"data": frame, "sx": 0.05, "start": START, "nan_policy": "omit"}
    found = gf.fit(model, "t", ["u", "v"], sy=["su", "sv"], **asked)
    assert found.params == pytest.approx(fit().params, rel=1e-12)
    assert found.dof == 14 - 3
    assert found.observed.y_names == ("u", "v")
    np.testing.assert_array_equal(found.observed.sy, errors_of((0, 3), (1, 5)))
    with pytest.raises(InputError, match=r"`y` \(column 'u'\) must be finite; 1 of 8 .*index 3: n"):
        gf.fit(model, "t", ["u", "v"], sy=["su", "sv"], **{**asked, "nan_policy": "raise"})


def test_variances_of_a_joint_covariance_may_be_infinite_or_unknown() -> None:
    cov = np.tile(np.diag([0.0025, 0.01, 0.01]), (8, 1, 1))
    cov[3, 1] = cov[3, :, 1] = np.nan
    cov[5, 2, 2] = INF
    assert fit(Y, cov=cov, sx=None, sy=None).params == pytest.approx(fit().params, rel=1e-12)
    cov[3, 1] = cov[3, :, 1] = 0
    cov[3, 1, 1] = INF
    told = fit(Y, cov=cov, sx=None, sy=None, nan_policy="raise")
    assert told.params == pytest.approx(fit().params, rel=1e-12)
    cov[3, 0, 2] = cov[3, 2, 0] = 1.0
    with pytest.raises(InputError, match=r"`cov` is not positive semidefinite; 1 of 8 .*index 3"):
        fit(Y, cov=cov, sx=None, sy=None)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"nan_policy": "raise"},
        r"`y` must be finite; 2 of 16 values are wrong \(first at index \(0, 3\): nan\)\. "
        'Clean the data, or give such responses an `sy` of inf, or .* nan_policy="omit"',
    ),
    (
        {"y": Y, "sy": errors_of((0, 2), (1, 2)), "nan_policy": "raise"},
        r"`sy` must be finite; 2 of 16 .*index \(0, 2\): inf\)\. A point needs one response at le",
    ),
    (
        {"y": Y, "sy": errors_of((0, 2), value=np.nan), "nan_policy": "raise"},
        r"`sy` must be finite; 1 of 16 values is wrong \(first at index \(0, 2\): nan\)",
    ),
    ({"sy": errors_of((0, 2), value=-1.0)}, r"`sy` must not be negative; 1 of 16"),
    ({"sy": errors_of((0, 2), value=-INF)}, r"`sy` must not be negative; 1 of 16"),
    ({"y": Y, "sy": INF}, "every row holds NaN or inf"),
    ({"y": Y, "sy": INF, "nan_policy": "raise"}, "`sy` must be finite"),
    (
        {"sy": errors_of((1, 7), value=0.0)},
        r"'y\[0\]' was not measured at index 3.* exact\. Give every response a standard deviation",
    ),
    (
        {"sy": None},
        "`model` has 2 equations for each point, but only 1 of 3 coordinates .* at 6 of 8 points",
    ),
    (
        {"y": np.where(np.arange(8) < 1, [[1], [np.nan]], np.nan)},
        r"1 point with 1 responses? in all cannot determine 3 parameters \(a, b, c\)",
    ),
]


@pytest.mark.parametrize(("changes", "told"), REFUSED)
def test_what_cannot_be_fitted_is_refused_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        fit(**changes)
    assert "\n" not in str(caught.value)


# -- results -----------------------------------------------------------------------------------


def test_the_prediction_stays_and_the_residual_is_nan() -> None:
    found = fit()
    gone = np.isnan(HOLES)
    np.testing.assert_array_equal(np.isnan(found.eps), gone)
    np.testing.assert_array_equal(np.isnan(found.observed.y), gone)
    np.testing.assert_allclose(found.y_hat, found.predict(found.x_hat), rtol=1e-13)
    assert (found.observed.n_points, found.observed.n_missing) == (8, 2)


def test_what_was_not_measured_is_told() -> None:
    assert "8 points, 2 responses not measured, errors in x and y" in fit().summary()
    assert "not measured" not in fit(Y).summary()
    assert "2 responses not measured" in fit().report()


def test_it_survives_pickle_and_json() -> None:
    found = fit()
    again = pickle.loads(pickle.dumps(found))
    read = gf.FitResult.from_json(found.to_json())
    for one in (again, read):
        np.testing.assert_array_equal(one.eps, found.eps)
        np.testing.assert_array_equal(one.observed.y, found.observed.y)
    sy = errors_of((0, 3), (1, 5))
    read = gf.FitResult.from_json(fit(Y, sy=sy).to_json())
    np.testing.assert_array_equal(read.observed.sy, sy)


def test_pictures_leave_out_what_was_not_measured() -> None:
    figure = fit(Y, sy=errors_of((0, 3), (1, 5))).plot()
    drawn = [
        max(len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o")
        for ax in figure.axes[:2]
    ]
    assert drawn == [7, 7]


def test_a_band_for_new_measurements_takes_the_common_error() -> None:
    lower, upper = fit().band(1.0, kind="prediction")
    assert np.isfinite([lower, upper]).all()


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_groups_say_what_their_responses_leave_open(backend: str) -> None:
    x, y = np.tile(X, 3), np.tile(Y, 3)
    ids = np.repeat([0, 1, 2], 8)
    y[1, ids == 1] = np.nan
    y[:, ids == 2] = np.where(np.arange(8) < 1, Y, np.nan)
    asked: dict[str, Any] = {"sy": 0.1, "start": START, "backend": backend, "groups": ids}
    with pytest.warns(GradfitWarning, match="2 of 3 fits did not converge"):
        many = gf.fit(model, x, y, nan_policy="omit", **asked)
    assert [gf.Status(s).name for s in many.status[1:]] == ["SINGULAR", "TOO_FEW_POINTS"]
    assert many.success[0]
    assert "17 points in 3 groups, 8 responses not measured, errors in y only" in many.summary()
    assert many.dof.tolist() == [16 - 3, 8 - 3, 2 - 3]
    with pytest.warns(GradfitWarning, match=r"undetermined: 1\*c"):
        fit(np.where([[0], [1]], np.nan, Y))
    with pytest.warns(GradfitWarning, match="2 BAD_DATA"):
        kept = gf.fit(model, x, y, **asked)
    assert kept.success.tolist() == [True, False, False]
    sy = np.where(np.isnan(y) & (ids == 1), INF, 0.1)
    with pytest.warns(GradfitWarning, match="1 SINGULAR, 1 BAD_DATA"):
        gf.fit(model, x, y, **{**asked, "sy": sy})


def test_a_group_that_shares_parameters_may_lack_a_response() -> None:
    ids = np.repeat([0, 1], 8)
    x, y = np.tile(X, 2), np.tile(Y, 2)
    y[1, ids == 1] = np.nan
    asked: dict[str, Any] = {"sy": 0.1, "start": START, "groups": ids, "nan_policy": "omit"}
    many = gf.fit(model, x, y, shared=["c"], **asked)
    assert many.success.all()
    assert many.dof.tolist() == [24 - 5, 24 - 5]


# -- other doors -------------------------------------------------------------------------------


def test_prepared_fits_leave_out_what_their_errors_say() -> None:
    sy = errors_of((0, 3), (1, 5))
    fitter = gf.prepare(model, start=START, sx=0.05, sy=sy)
    for y in (HOLES, Y):
        quick = fitter(X, y)
        wanted = fit(y, sy=sy, nan_policy="raise", backend="native")
        assert quick.params == wanted.params
        assert quick.dof == wanted.dof == 14 - 3
        np.testing.assert_array_equal(quick.full.eps, wanted.eps)
        np.testing.assert_array_equal(quick.cov, wanted.cov)
    y = Y.copy()
    y[1, 3] = np.nan
    with pytest.raises(InputError, match=r"`y` must be finite; .* index \(1, 3\)"):
        fitter(X, y)


def test_simulated_responses_are_nan_where_nobody_measures() -> None:
    truth = {"a": 2.0, "b": 0.8, "c": 0.5}
    x, y = gf.simulate(model, truth, X, sx=0.05, sy=errors_of((0, 3), (1, 5)), seed=1)
    whole = gf.simulate(model, truth, X, sx=0.05, sy=0.1, seed=1)
    np.testing.assert_array_equal(x, whole[0])
    np.testing.assert_array_equal(y, np.where(np.isnan(HOLES), np.nan, whole[1]))


def test_gradients_are_zero_where_nothing_was_measured() -> None:
    x, y, sy = (torch.tensor(t, requires_grad=True) for t in (X, HOLES, errors_of()))
    params, _ = gf.differentiable(model, x, y, sx=0.05, sy=sy, start=START, nan_policy="omit")
    params["a"].backward()
    gone = np.isnan(HOLES)
    for grad in (y.grad, sy.grad):
        assert grad is not None
        np.testing.assert_array_equal(grad[gone], 0)
        assert bool((grad[~gone] != 0).all())
    step = 1e-5
    up, down = (fit(HOLES + d * (np.arange(8) == 2), sy=errors_of()) for d in (step, -step))
    slope = (up.params["a"] - down.params["a"]) / (2 * step)
    assert float(y.grad[:, 2].sum()) == pytest.approx(slope, rel=1e-6)  # pyright: ignore


def test_shared_errors_act_on_what_was_measured() -> None:
    offset = [{"y": [0.1, 0.2]}]
    with_it = fit(systematic=offset)
    by_hand = fit(Y, systematic=offset, sy=errors_of((0, 3), (1, 5), value=1e8))
    assert with_it.params == pytest.approx(by_hand.params, rel=1e-8)
    assert with_it.dof == 14 - 3
