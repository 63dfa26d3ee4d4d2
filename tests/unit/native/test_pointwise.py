"""What kernels say of a point is what the engine says."""

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import _fit
from gradfit._engine.field import Field
from gradfit._engine.loop import init
from gradfit._native.kernel import Kernel

DECAY = "a*exp(-b*x) + c"
START = {"a": 4.0, "b": 0.4, "c": 0.7}


def plane(x, a, b, c):
    return a * x[0] + b * (x[1] / 3).sin() + c


def two(x, a, b, c):
    return torch.stack([a * (-b * x).exp(), c * x])


def circle(x, a, b, c):
    return (x[0] - a) ** 2 + (x[1] - b) ** 2 - (5 * c) ** 2


JOINT = np.array([[0.02, 0.003, 0.004], [0.003, 0.03, -0.002], [0.004, -0.002, 0.01]])
KINDS = {
    "plain": (DECAY, 1, 1, {"sx": 0.1, "sy": 0.2}),
    "exact x": (DECAY, 1, 1, {"sy": 0.2}),
    "some of x exact": (DECAY, 1, 1, {"sx": [0.1, 0.0, 0.2, 0.1, 0.0, 0.3, 0.1], "sy": 0.2}),
    "correlated": (DECAY, 1, 1, {"sx": 0.1, "sy": 0.2, "rho": 0.6}),
    "fixed": (DECAY, 1, 1, {"sx": 0.1, "sy": 0.2, "fixed": {"b": 0.4}}),
    "two variables": (plane, 2, 1, {"sx": [0.1, 0.3], "sy": 0.2}),
    "one of two exact": (plane, 2, 1, {"sx": [0.1, 0.0], "sy": 0.2}),
    "joint covariance": (plane, 2, 1, {"cov": JOINT}),
    "two responses": (two, 1, 2, {"sx": 0.1, "sy": [0.2, 0.3]}),
    "implicit": (circle, 2, 0, {"sx": [0.1, 0.2]}),
}


@pytest.fixture
def posed(monkeypatch):
    """Return a function that gives the problem and the kernels of a fit."""

    def pose(*args, **options):
        known, choose = {}, _fit.choose

        def spy(problem, *rest):
            known["found"] = problem, choose(problem, *rest)
            return known["found"][1]

        monkeypatch.setattr(_fit, "choose", spy)
        gf.fit(*args, **options, backend="native", max_steps=1)
        return known["found"]

    return pose


def rows_of(points, u):
    """Return what a kernel is given of each point."""
    given = points.x, points.y, points.scale_x, points.weight_y, points.cross, u
    parts = [t.flatten(0, -2).expand(-1, points.n) for t in given if t is not None]
    return torch.cat(parts).numpy()


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_rounding_errors_are_those_of_the_engine(kind, rng, posed):
    model, m, q, options = KINDS[kind]
    n = 7
    x = rng.uniform(1, 8, (m, n) if m > 1 else n)
    y = rng.uniform(1, 4, (q, n) if q > 1 else n) if q else None
    fixed = options.get("fixed", {})
    start = {k: v for k, v in START.items() if k not in fixed}
    problem, kernels = posed(model, x, y, start=start, **options)
    point, free = kernels.pointwise, list(start.values())
    u = torch.from_numpy(rng.normal(size=(len(problem.points.rows), n)))
    field = Field.of(problem.points, problem.function(), 1, len(free), None)
    work = init(field, torch.tensor([free], dtype=torch.float64), u)
    wanted = field.noise(work.state.beta, work.u, work.kept)
    pars = np.zeros(len(point.pars))
    pars[: len(START)] = list(START.values())
    kernel = Kernel("noise", point.rows, point.pars, [point.noise])
    found = kernel.evaluate(rows_of(problem.points, work.u), pars)
    np.testing.assert_allclose(found.sum(), float(np.asarray(wanted).sum()), rtol=1e-13)
