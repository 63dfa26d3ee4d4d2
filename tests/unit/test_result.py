"""How a result ends, shows itself and is kept, and what it keeps of the question."""

import copy
import json
import math
import pickle

import made
import numpy as np
import pytest
import scipy.stats
import torch
from made import X_SQUARED, X, Y, same, two_lines

from gradfit._fit import fit
from gradfit._result import FitResult, Observed
from gradfit.errors import FitError, InputError, ModelError

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


def test_observed_counts_points_that_were_used():
    x = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]])
    assert Observed(x=x, y=None).n_points == 2


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


def test_a_parameter_correlates_with_itself_to_the_last_bit():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(0, 6, 30))
    for seed in range(5):
        y = 4 * np.exp(-0.5 * x) + 1 + 0.05 * np.cos(9 * x + seed)
        result = fit("a*exp(-b*x) + c", x, y, sx=0.05, start={"a": 4, "b": 0.5, "c": 1})
        assert (np.diag(result.corr) == 1).all()
        held = fit("a*exp(-b*x) + c", x, y, start={"a": 4, "b": 0.5}, fixed={"c": 1})
        assert np.diag(held.corr).tolist() == [1, 1, 0]
