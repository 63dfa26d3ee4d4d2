"""Machine code and torch take the same steps to the same answers, fit by fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from agreement import SHARE, assert_same_ends

from gradfit._data import gather
from gradfit._dispatch import kernels_for, run
from gradfit._engine.covariance import spread
from gradfit._engine.loss import Loss
from gradfit._engine.state import Options
from gradfit._model import as_model
from gradfit._native.plan import spread_of
from gradfit._problem import start_of, state_problem
from gradfit._promise import check_model
from gradfit._solve import solve
from gradfit._unfit import unfit

DECAY = "a*exp(-b*x) + c"
START = {"a": 3.5, "b": 0.35, "c": 0.6}


@pytest.fixture(autouse=True, scope="module")
def machine_code(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADFIT_CACHE_DIR", str(tmp_path_factory.mktemp("machine_code")))
        yield


def decay_points(n=30, sigma=0.05, seed=1):
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 8, n)
    y = 4 * np.exp(-0.4 * x) + 0.7
    return x + sigma * rng.standard_normal(n), y + sigma * rng.standard_normal(n)


def problem_of(model, x, y, start, *, groups=None, asked=None, **errors):
    data = gather(x, y, *(errors.get(k) for k in ("sx", "sy", "rho", "cov")), groups)
    given = {"fixed": None, "bounds": None, "fix_x": None, "absolute_sigma": None}
    problem = state_problem(data, as_model(model), **{**given, **(asked or {})})
    beta0 = start_of(problem, start)
    return check_model(problem, beta0), beta0


def assert_same(problem, beta0, loss=None, options=None):
    options = options or Options()
    with torch.enable_grad():
        work, moved = solve(problem, beta0, options, loss, ended=unfit(problem))
        wanted = spread(work, bounds=problem.limits())
    kernels = kernels_for(problem, beta0, loss)
    found = run(kernels, problem, beta0, options, loss)
    state = work.state
    ends = SimpleNamespace(status=found.column(0), n_steps=found.column(1))
    assert_same_ends(ends, state)
    more = found.column(2) != state.n_eval
    assert more.sum() <= max(1, SHARE * len(more))
    np.testing.assert_allclose(found.vector(0), state.beta.numpy(), 1e-9, 1e-13)
    np.testing.assert_allclose(found.column(3), state.sums.cost.numpy(), 1e-9, 1e-24)
    np.testing.assert_allclose(found.u, work.u.numpy(), 1e-6, 1e-9)
    assert found.column(4).sum() == moved.sum()
    told = spread_of(found)
    np.testing.assert_allclose(told.cov, wanted.cov, 1e-8, 1e-12)
    np.testing.assert_allclose(told.condition, wanted.condition, 1e-8)
    assert told.rank.tolist() == wanted.rank.tolist()
    assert told.free.tolist() == wanted.free.tolist()


V = np.array([[0.01, 0.004], [0.004, 0.02]])
SIZES = np.linspace(0.5, 2, 30)
ERRORS = {
    "both": {"sx": 0.05, "sy": 0.05},
    "y only": {"sy": 0.05},
    "none given": {},
    "one per point": {"sx": 0.05 * SIZES, "sy": 0.05 * SIZES[::-1]},
    "correlated": {"sx": 0.05, "sy": 0.05, "rho": 0.6},
    "covariance": {"cov": V},
    "covariances": {"cov": V * SIZES[:, None, None]},
    "singular covariance": {"cov": np.full((2, 2), 0.01)},
    "exact y": {"sx": 0.05, "sy": 0.0},
    "exact x in a covariance": {"cov": np.diag([0.0, 0.0025])},
    "much noise": {"sx": 1.0, "sy": 0.5},
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_kind_of_error(name):
    x, y = decay_points()
    assert_same(*problem_of(DECAY, x, y, START, **ERRORS[name]))


ASKED = {
    "fixed": {"fixed": {"c": 0.6}},
    "a bound that holds": {"bounds": {"c": (0.5, 0.65)}},
    "bounds on the way": {"bounds": {"c": (0.3, None), "b": (0.1, 1.5), "a": (0, 3.7)}},
    "exact coordinates": {"fix_x": np.arange(30) % 2 == 0},
}


@pytest.mark.parametrize("name", ASKED)
def test_every_restriction(name):
    x, y = decay_points()
    start = {k: v for k, v in START.items() if k not in ASKED[name].get("fixed", {})}
    assert_same(*problem_of(DECAY, x, y, start, asked=ASKED[name], sx=0.05, sy=0.05))


@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy", "tukey"])
def test_every_loss(loss):
    x, y = decay_points()
    y[::7] += 1.0
    problem, beta0 = problem_of(DECAY, x, y, START, sx=0.05, sy=0.05)
    assert_same(problem, beta0, Loss(loss, 4.685))


def circle(x, a, b, r):
    return (x[0] - a) ** 2 + (x[1] - b) ** 2 - r**2


@pytest.mark.parametrize(
    "errors", [{}, {"sx": np.array([0.05, 0.1])}, {"cov": V}], ids=["one", "two", "joint"]
)
def test_an_implicit_curve(errors, rng):
    angle = np.linspace(0, 6, 40)
    x = np.stack([2 + 3 * np.cos(angle), 1 + 3 * np.sin(angle)])
    x = x + 0.05 * rng.standard_normal(x.shape)
    assert_same(*problem_of(circle, x, None, {"a": 1.5, "b": 0.5, "r": 2.0}, **errors))


def surface(x, a, b, c):
    return a * torch.exp(-b * x[0]) + c * x[1]


def two_responses(x, a, b):
    return torch.stack([a * torch.exp(-b * x), a * b * x])


def test_two_variables(rng):
    x = rng.uniform(0, 3, (2, 50))
    y = 3 * np.exp(-0.7 * x[0]) + 0.5 * x[1] + 0.03 * rng.standard_normal(50)
    x = x + 0.03 * rng.standard_normal(x.shape)
    start = {"a": 2, "b": 0.5, "c": 1}
    assert_same(*problem_of(surface, x, y, start, sx=0.03, sy=0.03))


JOINT = np.array([[10.0, 4.0, 0.0], [4.0, 10.0, 3.0], [0.0, 3.0, 20.0]]) * 1e-4


@pytest.mark.parametrize(
    "errors", [{"sx": 0.03, "sy": np.array([0.03, 0.05])}, {"cov": JOINT}], ids=["own", "joint"]
)
def test_two_responses(errors, rng):
    x = np.linspace(0, 3, 40)
    y = np.stack([3 * np.exp(-0.7 * x), 2.1 * x]) + 0.03 * rng.standard_normal((2, 40))
    x = x + 0.03 * rng.standard_normal(40)
    assert_same(*problem_of(two_responses, x, y, {"a": 2, "b": 0.5}, **errors))


def test_responses_that_tell_about_each_other_at_exact_x(rng):
    x = np.linspace(0, 3, 40)
    cov = np.array([[0.0, 0.0, 0.0], [0.0, 9.0, 4.0], [0.0, 4.0, 9.0]]) * 1e-4
    y = np.stack([3 * np.exp(-0.7 * x), 2.1 * x]) + 0.03 * rng.standard_normal((2, 40))
    assert_same(*problem_of(two_responses, x, y, {"a": 2, "b": 0.5}, cov=cov))


def test_groups_of_any_sizes(rng):
    x, y = decay_points(600)
    groups = np.sort(rng.integers(0, 25, 600)) % 7 * 100 + np.arange(600) % 3
    assert_same(*problem_of(DECAY, x, y, START, groups=groups, sx=0.05, sy=0.05))


def test_feet_that_lie_behind_a_hill(rng):
    x = np.linspace(0, 10, 60)
    y = 2 * np.sin(2 * x + 0.3) + 0.1 * rng.standard_normal(60)
    x = x + 0.3 * rng.standard_normal(60)
    start = {"a": 1.5, "w": 1.9, "p": 0.0}
    assert_same(*problem_of("a*sin(w*x + p)", x, y, start, sx=0.3, sy=0.1))


def test_tolerances_and_too_few_steps():
    x, y = decay_points()
    problem, beta0 = problem_of(DECAY, x, y, START, sx=0.05, sy=0.05)
    assert_same(problem, beta0, options=Options(1e-11, 1e-12, 1e-12, 500))
    assert_same(problem, beta0, options=Options(max_steps=3))


def test_a_start_where_the_model_is_infinite():
    x, y = decay_points()
    problem, beta0 = problem_of(DECAY, x, y, {"a": 1.0, "b": -300.0, "c": 0.0}, sx=0.05, sy=0.05)
    found = run(kernels_for(problem, torch.ones_like(beta0), None), problem, beta0, Options(), None)
    assert found.column(0).tolist() == [15]


@pytest.mark.parametrize("name", ["both", "singular covariance"])
def test_the_same_text_runs_as_python(name, monkeypatch):
    monkeypatch.setenv("GRADFIT_JIT", "0")
    x, y = decay_points()
    assert_same(*problem_of(DECAY, x, y, START, **ERRORS[name]))


def test_one_large_fit_shared_by_threads_is_that_of_one_thread(monkeypatch):
    from gradfit._native import cpu

    x, y = decay_points(5000)
    problem, beta0 = problem_of(DECAY, x, y, START, sx=0.05, sy=0.05)
    assert_same(problem, beta0)
    monkeypatch.setattr(cpu, "PART", 1 << 10)
    monkeypatch.setattr(cpu, "SHARED", 1 << 10)
    assert_same(problem, beta0)
