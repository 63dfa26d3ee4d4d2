"""Fits that go eight abreast are those that go alone."""

import numpy as np
import pytest
from agreement import SHARE, assert_same_ends

import gradfit as gf
from gradfit._native import abreast, carry, cpu, eights, place, sweep
from gradfit._native.lower import LANES
from gradfit._native.place import Spec
from gradfit.errors import ConvergenceWarning

DECAY = "a*exp(-b*x) + c"
START = {"a": 3.5, "b": 0.35, "c": 0.6}
ENDS = ("rank", "dof")
NUMBERS = ("chi2", "cov", "condition", "delta", "eps", "x_hat", "y_hat", "weights")


def decays(rng, sizes, noise=0.05):
    """Return points of decays and the group of each."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    x = np.concatenate([np.linspace(0, 8, n) for n in sizes])
    y = 4 * np.exp(-0.4 * x) + 0.7 + noise * rng.standard_normal(x.size)
    return x + noise * rng.standard_normal(x.size), y, group


@pytest.fixture
def alone(monkeypatch):
    """Return a function that has fits go alone."""

    def fit(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "_goes_abreast", lambda s, count: False)
            return gf.fit(*args, **options, backend="native")

    return fit


def assert_same(found, wanted, ties=()):
    """Compare; the evaluations of ``ties`` are up to the last bits."""
    assert_same_ends(found, wanted)
    for name in ENDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)
    more = np.delete(found.n_eval != wanted.n_eval, np.array(ties, int))
    assert more.sum() <= max(1, SHARE * more.size)
    good = wanted.status < 10
    for name, value in found.params.items():
        np.testing.assert_allclose(value[good], wanted.params[name][good], 1e-9, err_msg=name)
    for name in NUMBERS:
        a, b = getattr(found, name), getattr(wanted, name)
        scale = 1e-9 if name != "cov" else 1e-7
        np.testing.assert_allclose(a, b, scale, 1e-11, err_msg=name)


@pytest.mark.parametrize("count", [LANES, LANES + 3, 5 * LANES - 1])
def test_ragged_fits_of_any_number(count, rng, alone):
    sizes = rng.integers(8, 30, count)
    x, y, group = decays(rng, sizes)
    options = {"start": START, "sx": 0.05, "sy": 0.05, "groups": group}
    assert_same(gf.fit(DECAY, x, y, **options, backend="native"), alone(DECAY, x, y, **options))


def test_long_fits_among_short_ones(rng, alone):
    sizes = rng.integers(8, 30, 3 * LANES)
    sizes[[0, 11]] = eights.MOST, eights.MOST + 1
    x, y, group = decays(rng, sizes)
    options = {"start": START, "sx": 0.05, "sy": 0.05, "groups": group}
    assert_same(gf.fit(DECAY, x, y, **options, backend="native"), alone(DECAY, x, y, **options))


def two(x, a, b, c):
    return a * (-b * x[0]).exp() + c * x[1]


KINDS = {
    "exact x": (DECAY, {"sy": 0.05}),
    "exact y": (DECAY, {"sx": 0.05, "sy": 0.0}),
    "correlated": (DECAY, {"sx": 0.05, "sy": 0.05, "rho": 0.4}),
    "correlated at each point": (DECAY, {"sx": 0.05, "sy": 0.05, "rho": "each"}),
    "fixed": (DECAY, {"sx": 0.05, "sy": 0.05, "fixed": {"c": 0.7}}),
    "Huber's loss": (DECAY, {"sx": 0.05, "sy": 0.05, "loss": "huber"}),
    "a soft loss": (DECAY, {"sx": 0.05, "sy": 0.05, "loss": "soft_l1"}),
    "Cauchy's loss, two variables": (two, {"sx": [0.05, 0.02], "sy": 0.05, "loss": "cauchy"}),
    "Tukey's loss, x exact": (DECAY, {"sy": 0.05, "loss": "tukey"}),
    "bounded": (DECAY, {"sx": 0.05, "sy": 0.05, "bounds": {"b": (0.2, 0.41)}}),
    "two variables": (two, {"sx": [0.05, 0.02], "sy": 0.05}),
    "joint covariance": (two, {"cov": np.diag([0.0025, 0.0004, 0.0025]) + 1e-4}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fit(kind, rng, alone):
    model, options = KINDS[kind]
    sizes = rng.integers(10, 20, 3 * LANES)
    x, y, group = decays(rng, sizes)
    if model is two:
        x = np.stack([x, rng.uniform(0, 1, x.size)])
        y = y + 0.3 * x[1]
    if "loss" in options:
        y[::7] += 1.0
    if options.get("rho") == "each":
        options = {**options, "rho": rng.uniform(-0.6, 0.6, x.size)}
    start = {k: v for k, v in START.items() if k not in options.get("fixed", {})}
    options = {**options, "start": start, "groups": group}
    assert_same(gf.fit(model, x, y, **options, backend="native"), alone(model, x, y, **options))


def test_who_needs_more_than_ordinary_steps_goes_on_alone(rng, alone, monkeypatch):
    """Far starts, few steps allowed, points on the curve, and all points the same."""
    sizes = np.full(4 * LANES, 12)
    x, y, group = decays(rng, sizes)
    y[group == 3] = np.nan
    y[group == 5] = (4 * np.exp(-0.4 * x) + 0.7)[group == 5]
    x[group == 17], y[group == 17] = 1.0, 2.0
    start = {k: np.full(len(sizes), v) for k, v in START.items()}
    start["b"][20:] = np.linspace(0.01, 20, 12)
    went, go_on_alone = [], eights.go_on_alone
    monkeypatch.setattr(eights, "go_on_alone", lambda *args: went.append(1) or go_on_alone(*args))
    options = {"start": start, "sx": 0.05, "sy": 0.05, "groups": group}
    for steps in (500, 3):
        with pytest.warns(ConvergenceWarning):
            wanted = alone(DECAY, x, y, **options, max_steps=steps)
        with pytest.warns(ConvergenceWarning):
            found = gf.fit(DECAY, x, y, **options, max_steps=steps, backend="native")
        # On the curve, and where nothing is to be found, rounding error alone makes the steps.
        assert_same(found, wanted, ties=[5, 17])
    monkeypatch.setenv("GRADFIT_JIT", "0")
    went.clear()
    with pytest.warns(ConvergenceWarning):
        gf.fit(DECAY, x, y, **options, backend="native")
    assert 0 < len(went) < len(sizes)


def test_waves_with_several_feet_are_searched(rng, alone):
    x = np.tile(np.linspace(0, 10, 40), 2 * LANES)
    group = np.repeat(np.arange(2 * LANES), 40)
    y = 2 * np.sin(2 * x + 0.3) + 0.1 * rng.standard_normal(x.size)
    x = x + 0.3 * rng.standard_normal(x.size)
    options = {"start": {"a": 1.5, "w": 1.95, "p": 0.2}, "sx": 0.3, "sy": 0.1, "groups": group}
    found = gf.fit("a*sin(w*x + p)", x, y, **options, backend="native")
    wanted = alone("a*sin(w*x + p)", x, y, **options)
    assert len(wanted.moved)
    assert_same(found, wanted)


def test_a_fit_does_not_see_its_neighbours(rng):
    sizes = rng.integers(8, 30, 3 * LANES)
    x, y, group = decays(rng, sizes)
    options = {"start": START, "sx": 0.05, "sy": 0.05, "backend": "native"}
    found = gf.fit(DECAY, x, y, **options, groups=group)
    order = rng.permutation(len(sizes))
    places = np.concatenate([np.flatnonzero(group == g) for g in order])
    other = gf.fit(DECAY, x[places], y[places], **options, groups=group[places])
    for name in ("a", "b", "c"):
        np.testing.assert_array_equal(other.params[name], found.params[name][order])


@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_lanes_lie_where_registers_do(p):
    """Whatever begins elsewhere lies in two lines of the cache."""
    kind = Spec(**(dict.fromkeys(Spec._fields, 1) | {"p": p, "everything": p}))
    before = place.shared_room(kind), place.own_room(kind), carry.fit_room(p)
    lanes = eights.room_at(kind, np.zeros(eights.lanes_room(kind)))
    behind = [lanes.memory.size - room.size for room in lanes]
    assert not any(n % LANES for n in (*before, *behind))


def test_one_kernel_serves_eight_fits_for_each_step(rng, monkeypatch):
    """Work that is counted: calls of kernels for lanes, and no other kernel at all."""
    monkeypatch.setenv("GRADFIT_JIT", "0")
    calls, call = [], abreast.call
    monkeypatch.setattr(
        abreast, "call", lambda function, *args: calls.append(1) or call(function, *args)
    )
    single = []
    monkeypatch.setattr(sweep, "call", lambda *args: single.append(1))
    x, y, group = decays(rng, np.full(LANES, 20))
    options = {"start": START, "sx": 0.05, "sy": 0.05, "groups": group, "backend": "native"}
    fit = gf.fit(DECAY, x, y, **options)
    assert fit.success.all()
    # One look, one kernel for each step, and noise, bends and the model at the end.
    assert len(calls) <= fit.n_steps.max() + 1 + 2 + 2
    assert not single
