"""Every exit has a status of its own, and no fit goes on for ever without getting on."""

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import Status
from gradfit._engine.linearize import bow, evaluate
from gradfit._engine.points import Points
from laws.fits import quiet

BACKENDS = pytest.mark.parametrize("backend", ["eager", "native"])
X = np.linspace(1, 2, 9)


def jump(x, a):
    """Be higher by a thousand everywhere but at the start."""
    return a * x + torch.where(a == 1.0, 0.0, 1e3)


def edge(x, a):
    """Be NaN everywhere but at the start."""
    return torch.where(a == 1.0, a * x, torch.nan)


@BACKENDS
@pytest.mark.parametrize("sx", [0, 0.1])
@pytest.mark.parametrize(
    ("model", "status"), [(jump, Status.STALLED), (edge, Status.NONFINITE)], ids=["jump", "edge"]
)
def test_refused_steps_end_by_what_they_led_to(model, status, sx, backend):
    with quiet():
        found = gf.fit(model, X, 2 * X, start={"a": 1.0}, sx=sx, sy=1, backend=backend)
    assert found.status is status


@BACKENDS
def test_the_other_exits_are_told_apart(backend):
    given = {"sx": 0, "sy": 1, "backend": backend}
    with quiet():
        short = gf.fit("exp(a*x)", X, np.exp(X), start={"a": 3.0}, max_steps=2, **given)
        done = gf.fit("exp(a*x) + b", X, np.exp(X) + X, start={"a": 0.9, "b": 0.1}, **given)
        still = gf.fit(
            "a*x", X, 2 * X + np.sin(9 * X), start={"a": 1.0}, gtol=0, xtol=1e-6, **given
        )
    assert short.status is Status.MAX_STEPS
    assert done.status is Status.GRADIENT
    assert still.status in {Status.STEP, Status.COST}


@BACKENDS
@pytest.mark.parametrize("sx", [0, 0.1])
@pytest.mark.parametrize("formula", ["(a*x)**3", "(a*x)**2 + 1", "cos(a*x)"])
def test_a_start_on_a_stationary_point_is_no_minimum(formula, sx, backend):
    y = {"(a*x)**3": 8 * X**3, "(a*x)**2 + 1": 4 * X**2 + 1, "cos(a*x)": np.cos(0.7 * X)}[formula]
    with quiet():
        found = gf.fit(formula, X, y, start={"a": 0.0}, sx=sx, sy=1, backend=backend)
    assert not found.success


def crest(seed):
    """Points of a peak, one of them above its crest, and a start."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-3, 3, 25)
    y = 5 * np.exp(-(x**2) / 2)
    x, y = x + 0.3 * rng.standard_normal(25), y + 0.1 * rng.standard_normal(25)
    y[12] += 1
    start = {"a": rng.uniform(1, 10), "m": rng.uniform(-2, 2), "s": rng.uniform(0.3, 3)}
    return x, y, start


@pytest.mark.parametrize("seed", [17, 70, 46, 3])
def test_feet_find_a_point_above_the_crest_of_a_peak(seed):
    x, y, start = crest(seed)
    found = gf.fit("a*exp(-(x-m)**2/(2*s**2))", x, y, start=start, sx=0.3, sy=0.1, backend="eager")
    assert found.success
    assert found.n_steps <= 150


def test_a_foot_on_a_kink_ends_a_fit_after_bounded_work():
    rng = np.random.default_rng(3)
    x = np.linspace(-3, 3, 25)
    y = 2 * np.abs(x - 0.5) + 1 + 0.1 * rng.standard_normal(25)
    x += 0.1 * rng.standard_normal(25)
    with quiet():
        found = gf.fit("a*abs(x-b)+c", x, y, start={"a": 1, "b": 0, "c": 0}, sx=0.1, sy=0.1,
                       backend="eager")  # fmt: skip
    assert found.status is Status.STALLED or found.success
    assert found.n_eval <= 1000


def test_two_responses_with_an_exact_x_from_a_far_start():
    rng = np.random.default_rng(0)
    x = np.stack([np.linspace(0, 4, 15), np.linspace(1, 2, 15)])

    def model(x, a, b, c):
        first = a * torch.exp(-b * x[0]) + c * x[1]
        return torch.stack([first, a * torch.exp(-c * x[0]) * x[1]])

    y = model(torch.from_numpy(x), *map(torch.tensor, (2.0, 0.7, 0.4))).numpy()
    y = y + 0.05 * rng.standard_normal(y.shape)
    x[0] += 0.05 * rng.standard_normal(15)
    sx = np.array([0.05, 0.0])
    found = gf.fit(model, x, y, start={"a": 5, "b": 5, "c": 5}, sx=sx, sy=0.05, backend="eager")
    assert found.success
    assert found.n_steps <= 27


def test_residuals_bend_along_a_step_as_differences_say():
    rng = np.random.default_rng(1)
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape))  # noqa: E731
    points = Points(
        draw(1, 5), draw(2, 5), (0,), abs(draw(1, 1)), draw(2, 2, 5), draw(2, 1, 5), None
    )

    def model(x, b):
        return torch.stack([b[0] * torch.exp(b[1] * x), torch.sin(b[0] * x) * b[1]])

    u, beta, du, db = draw(1, 5), draw(2, 1), draw(1, 5), draw(2, 1)
    with torch.enable_grad():
        bent = bow(points, model, u, beta, (du, db))[1]
    h = 1e-4
    there = [evaluate(points, model, u + k * h * du, beta + k * h * db) for k in (-1, 0, 1)]
    torch.testing.assert_close(
        bent, (there[0] - 2 * there[1] + there[2]) / h**2, rtol=1e-5, atol=1e-5
    )
