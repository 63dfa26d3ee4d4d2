"""Many fits as one table, and each of them as one fit."""

import pickle

import made
import numpy as np
import pytest
import torch
from made import X, Y, same

from gradfit._fit import fit
from gradfit._result import FitTable
from gradfit.errors import ConvergenceWarning, FitError, InputError


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


@pytest.mark.parametrize("x", [2.5, [0.5, 1.0, 9.0]])
def test_predictions_of_many_are_those_of_each(x):
    many = made.runs(5)
    np.testing.assert_array_equal(many.predict(x), [many[key].predict(x) for key in many])


def test_predictions_of_many_keep_variables_responses_and_kind():
    def two(x, a, b):
        return torch.stack([a * x[0] + b * x[1], a - b + 0 * x[0]])

    rng = np.random.default_rng(0)
    x = rng.uniform(size=(2, 12))
    y = np.stack([2 * x[0] + x[1], np.ones(12)]) + 0.1 * rng.standard_normal((2, 12))
    many = fit(two, x, y, sy=0.1, groups=[0, 1, 2] * 4, start={"a": 1, "b": 1})
    at = torch.from_numpy(x[:, :4])
    told = many.predict(at)
    assert isinstance(told, torch.Tensor)
    assert told.shape == (3, 2, 4)
    for row, key in zip(told, many, strict=True):
        torch.testing.assert_close(row, many[key].predict(at), rtol=1e-14, atol=0)
    with pytest.raises(InputError, match=r"`x` must have shape \(2, N\)"):
        many.predict([1.0, 2.0, 3.0])


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


def test_an_undetermined_fit_of_a_table_says_where_its_combination_is_told():
    x = np.array([0.0, 1, 2, 3, 4, 2, 2, 2, 2, 2])
    y = 2 * x + 1 + 0.1 * np.cos(9 * x)
    with pytest.warns(ConvergenceWarning, match="1 SINGULAR"):
        many = fit("a + b*x", x, y, sy=0.1, groups=[0] * 5 + [1] * 5, start={"a": 0, "b": 1})
    one = many[1]
    assert one.message.endswith("(diagnostics() names the combination)")
    found = one.diagnostics()
    # With x = 2 alone a + 2 b is known; in units of their errors both weigh the same, 1/sqrt(2).
    assert found.weakest in ("0.71*a -0.71*b", "-0.71*a +0.71*b")
    # Of one combination of two, five points share one degree of freedom.
    assert found.leverage.mean() == pytest.approx(1 / 5, rel=1e-12)
    assert "at most 20 %, on average 20 %" in found.summary()
