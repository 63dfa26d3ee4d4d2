"""Start values for models of the user's own: what is told of a function, and how far it carries."""

import math
import warnings

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import _start
from gradfit._anatomy import examine
from gradfit._data import gather
from gradfit._model import as_model
from gradfit._start import POINTS, propose_starts
from gradfit.errors import ConvergenceWarning, ModelError

TWO_PI = 2 * math.pi
NAN = math.nan


def anatomy(text, x_names=("x",), q=1):
    model = as_model(text, x_names)

    def call(x, params):
        value = model.fn(x if len(x_names) > 1 else x[0], *params)
        return value.reshape(max(q, 1), -1)

    return examine(call, len(x_names), len(model.names), q=q), model.names


@pytest.mark.parametrize(
    ("text", "linear"),
    [
        ("a*exp(-b*x) + c", "ac"),
        ("a*b*x", "a"),
        ("a**2*x + b", "b"),
        ("a*x + b + c*x**2", "abc"),
        ("exp(a + b*x)", ""),
        ("c*sqrt(x**2 - a**2)", "c"),
        ("where(x < b, a*x, a*b)", "a"),
        ("a*sin(w*x + p) + b*cos(w*x + p)", "ab"),
    ],
)
def test_linear_parameters_are_found_as_far_as_they_are_linear_together(text, linear):
    found, names = anatomy(text)
    assert "".join(sorted(names[j] for j in found.linear)) == linear


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("a*exp(-b*x) + c", {"a": (0, 1), "b": (-1, 0), "c": (0, 1)}),
        ("a*exp(-((x - m)/s)**2)", {"a": (0, 1), "m": (1, 0), "s": (1, 0)}),
        ("a*x**n", {"a": (NAN, 1), "n": (0, 0)}),
        ("a*exp(-b*x**2)", {"b": (-2, 0)}),
        ("a*exp(-E/(8.314*x))", {"E": (1, 0)}),
        ("a**2*x", {"a": (-0.5, 0.5)}),
        ("sqrt(a**2 + (b*x)**2)", {"a": (0, 1), "b": (-1, 1)}),
        ("a*sin(w*x + p)", {"w": (-1, 0), "p": (0, 0)}),
    ],
)
def test_units_of_parameters_follow_from_the_function(text, units):
    found, names = anatomy(text)
    for name, (of_x, of_y) in units.items():
        j = names.index(name)
        assert found.of_x[j, 0].item() == pytest.approx(of_x, nan_ok=True)
        assert found.of_y[j].item() == pytest.approx(of_y, nan_ok=True)


def test_units_of_several_variables_are_told_apart():
    found, names = anatomy("a*exp(-b*u)*v**n/(v + c)", ("u", "v"))
    units = dict(zip(names, found.of_x.tolist(), strict=True))
    assert units["b"] == [-1, 0]
    assert units["c"] == [0, 1]


def test_a_radius_shares_the_unit_of_both_axes_and_a_center_is_a_place_on_one():
    found, names = anatomy("(x[0] - a)**2 + (x[1] - b)**2 - r**2", ("x[0]", "x[1]"), q=0)
    assert found.place == (0, 1, -1)
    assert found.of_x[names.index("r")].sum().item() == pytest.approx(1)
    assert found.linear == ()


def test_centers_are_places_and_widths_are_not():
    found, names = anatomy("a*exp(-(x - m)**2/(2*s**2)) + b/(1 + ((x - n)/g)**2)")
    assert {n for n, i in zip(names, found.place, strict=True) if i == 0} == {"m", "n"}


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("a*sin(w*x + p)*exp(-k*x) + c", {"w": TWO_PI, "p": TWO_PI}),
        ("a*sin(2*pi*f*x + p)", {"f": 1.0, "p": TWO_PI}),
        ("a*sin(2*pi*(f*x - p))", {"f": 1.0, "p": 1.0}),
        ("a*exp(-b*x)", {}),
    ],
)
def test_frequencies_and_phases_come_round(text, turns):
    found, names = anatomy(text)
    assert {n: t for n, t in zip(names, found.turn, strict=True) if t} == turns


CASES = {
    "two decays": ("a*exp(-b*x) + c*exp(-d*x)", {"a": 3, "b": 0.4, "c": 5, "d": 4}),
    "two peaks": (
        "a*exp(-(x-m)**2/(2*s**2)) + b*exp(-(x-n)**2/(2*t**2)) + c",
        {"a": 3, "m": 3, "s": 0.4, "b": -2, "n": 6, "t": 0.8, "c": 1},
    ),
    "damped": ("a*sin(w*x + p)*exp(-k*x) + c", {"a": 3, "w": 7, "p": 1, "k": 0.3, "c": 2}),
    "cycles": ("a*sin(2*pi*f*x) + b*cos(2*pi*f*x)", {"a": 3, "f": 2.3, "b": 1}),
    "two sines": (
        "a*sin(u*x+p) + b*sin(v*x+q)", {"a": 2, "u": 2, "p": 0.3, "b": 1, "v": 5.3, "q": -1}
    ),
    "kink": ("where(x < b, a*x, a*b) + c", {"b": 4, "a": 2, "c": 1}),
    "vee": ("a*abs(x - b) + c", {"a": 2, "b": 6, "c": 1}),
    "hyperbola": ("sqrt(a**2 + (b*x)**2)", {"a": 2, "b": 0.7}),
    "in an exponent": ("exp(a + b*x)", {"a": 2, "b": -0.7}),
    "in a logarithm": ("log(a*x + b)", {"a": 2, "b": 3}),
    "tanh": ("a*tanh(b*(x - c)) + d", {"a": 2, "b": 1.5, "c": 6, "d": 1}),
    "pole outside": ("a + b/(x + c)", {"a": 2, "b": 3, "c": 0.5}),
    "planck": ("a*x**3/(exp(b*x) - 1)", {"a": 2, "b": 1.2}),
    "diode": ("i0*(exp(x/v) - 1)", {"i0": 1e-3, "v": 2}),
    "stretched": ("a*exp(-(x/t)**n)", {"a": 2, "t": 3, "n": 0.7}),
    "weibull": ("1 - exp(-(x/t)**n)", {"t": 3, "n": 1.7}),
    "edge": ("a*erf((x - m)/s) + c", {"a": 2, "m": 4, "s": 1, "c": 3}),
    "gompertz": ("a*exp(-b*exp(-k*x))", {"a": 2, "b": 5, "k": 1}),
    "rational": ("(a + b*x)/(1 + c*x)", {"a": 1, "b": 2, "c": 0.6}),
}  # fmt: skip


def arrives(name: str, seed: int) -> bool:
    """Whether a fit without start ends as low as one from the true parameters."""
    text, middle = CASES[name]
    rng = np.random.default_rng(seed)
    truth = {k: v * math.exp(0.1 * rng.normal()) for k, v in middle.items()}
    x, y = gf.simulate(text, truth, np.sort(rng.uniform(0.1, 10, 60)))
    sy = 0.02 * np.ptp(y)
    y = y + sy * rng.normal(size=60)
    with warnings.catch_warnings():
        # A kink is no place where a gradient vanishes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        alone, led = gf.fit(text, x, y, sy=sy), gf.fit(text, x, y, sy=sy, start=truth)
    return alone.chi2 <= led.chi2 + 1e-6


@pytest.mark.parametrize("name", CASES)
def test_a_formula_is_fitted_without_start_values(name):
    assert arrives(name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_formula_is_fitted_without_start_values_in_19_of_20_cases(name):
    assert sum(arrives(name, seed) for seed in range(2, 42)) >= 38


def test_every_group_has_a_start_of_its_own():
    rng = np.random.default_rng(3)
    rate = np.exp(rng.uniform(-2, 2, 40))
    x = np.tile(np.linspace(0, 3, 25), 40)
    label = np.repeat(np.arange(40), 25)
    y = 4 * np.exp(-rate[label] * x) + 1
    starts = propose_starts(as_model("a*exp(-b*x) + c"), gather(x, y, groups=label))
    assert starts.shape == (40, 1, 3)
    np.testing.assert_allclose(starts[:, 0, 1], rate, rtol=0.1)


def test_many_groups_learn_from_a_few_that_are_searched_thoroughly(monkeypatch):
    # So little for each that it would not do without the others.
    monkeypatch.setattr(_start, "BUDGET", 1 << 18)
    rng = np.random.default_rng(4)
    G, n = 300, 20
    center, label = rng.uniform(0.3, 0.7, G), np.repeat(np.arange(G), n)
    x = np.tile(np.linspace(0, 1, n), G)
    y = np.exp(-(((x - center[label]) / 0.1) ** 2))
    starts = propose_starts(as_model("gaussian"), gather(x, y, groups=label))
    assert np.mean(np.abs(starts[:, 0, 1].numpy() - center) < 0.05) > 0.99


def test_groups_that_hold_nothing_leave_the_others_alone():
    x = np.tile(np.linspace(0, 3, 25), 3)
    y = np.exp(-x)
    y[25:50] = np.nan
    x[60:] = 1.0
    label = np.repeat(["good", "bad", "worse"], 25)
    model = as_model("a*exp(-b*x)")
    alone = propose_starts(model, gather(x[:25], y[:25]))
    starts = propose_starts(model, gather(x, y, groups=label))
    torch.testing.assert_close(starts[0], alone[0], rtol=0.1, atol=0)


def test_the_same_seed_gives_the_same_starts_and_all_differ():
    rng = np.random.default_rng(5)
    data = gather(rng.uniform(0, 5, 50), rng.normal(size=50))
    model = as_model("a*sin(w*x + p) + c")
    one, again = (propose_starts(model, data, 8, seed=3) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, propose_starts(model, data, 8, seed=4))
    assert one.shape == (1, 8, 4)
    marks = one[0][:, [1, 2]]
    gap = (marks[:, None] - marks[None]).abs() / torch.maximum(marks[:, None].abs(), marks.abs())
    assert (gap.amax(2) + torch.eye(8) > 0.1).all()


def test_a_linear_model_has_one_start_and_that_is_its_answer():
    x = np.linspace(1e3, 1e3 + 1, 30)
    y = 1e6 + 3 * (x - 1e3) - 2 * (x - 1e3) ** 2
    starts = propose_starts(as_model("a + b*x + c*x**2"), gather(x, y), 8)
    assert starts.shape == (1, 1, 3)
    a, b, c = starts[0, 0].tolist()
    np.testing.assert_allclose(a + b * x + c * x**2, y, rtol=1e-9)


def test_known_parameters_keep_their_value_and_the_others_their_bounds():
    x = np.linspace(0, 5, 40)
    y = 3 * np.exp(-2 * x) + 1
    model = as_model(lambda x, a, b, c=0.5: a * torch.exp(-b * x) + c)
    starts = propose_starts(model, gather(x, y), 4, known={"a": 7.0}, bounds={"b": (0.1, 1.5)})[0]
    assert (starts[:, 0] == 7).all()
    assert (starts[:, 2] == 0.5).all()
    assert ((starts[:, 1] >= 0.1) & (starts[:, 1] <= 1.5)).all()
    falling = propose_starts(model, gather(x, y), bounds={"b": (None, -0.2), "a": (5.0, None)})[0]
    assert falling[0, 1] <= -0.2
    assert falling[0, 0] >= 5


def test_points_marked_bad_by_their_sigma_have_no_say():
    x = np.linspace(0, 5, 40)
    y, sy = 2 * x + 1, np.ones(40)
    y[5], sy[5] = 1e6, 1e9
    a, b = propose_starts(as_model("a*x + b"), gather(x, y, sy=sy))[0, 0].tolist()
    assert a == pytest.approx(2, rel=1e-3)
    assert b == pytest.approx(1, rel=1e-2)


def test_a_fast_oscillation_and_a_narrow_peak_are_seen_among_many_points():
    n = 40 * POINTS
    x = np.linspace(0, 1, n)
    fast = propose_starts(as_model("sine"), gather(x, np.sin(TWO_PI * 3217.3 * x)))[0, 0]
    assert fast[1].item() == pytest.approx(3217.3, abs=0.5)
    peak = propose_starts(as_model("gaussian"), gather(x, np.exp(-(((x - 0.3) / 3e-4) ** 2))))[0, 0]
    assert peak[1].item() == pytest.approx(0.3, abs=3e-4)


def test_aliases_are_not_taken_for_the_oscillation():
    for n in (12, 13, 40):
        x = np.arange(n) / n
        start = propose_starts(as_model("a*sin(w*x + p)"), gather(x, np.sin(20 * x + 1)))[0, 0]
        assert abs(start[1].item()) == pytest.approx(20, rel=0.1)


def test_several_variables_responses_and_implicit_models_are_searched():
    rng = np.random.default_rng(6)
    x = rng.uniform(0.5, 2, (2, 60))
    y = 3 * np.exp(-2 * x[0]) * x[1] ** 1.5
    a, b, n = propose_starts(as_model("a*exp(-b*u)*v**n", ["u", "v"]), gather(x, y), 8)[
        0, 0
    ].tolist()
    assert (b, n) == pytest.approx((2, 1.5), rel=0.2)
    assert a == pytest.approx(3, rel=0.5)

    def both(x, a, b, k):
        return torch.stack([a * torch.exp(-k * x), b * torch.exp(-k * x)])

    y = np.stack([1e6 * np.exp(-0.7 * x[0]), 1e-3 * np.exp(-0.7 * x[0])])
    a, b, k = propose_starts(as_model(both), gather(x[0], y))[0, 0].tolist()
    assert k == pytest.approx(0.7, rel=0.05)
    assert (a, b) == pytest.approx((1e6, 1e-3), rel=0.05)

    angle = rng.uniform(0, 2, 40)
    circle = np.stack([100 + 3 * np.cos(angle), -7 + 3 * np.sin(angle)])
    text = "(x[0] - a)**2 + (x[1] - b)**2 - r**2"
    fit = gf.fit(text, circle + 0.01 * rng.normal(size=(2, 40)))
    assert [abs(v) for v in fit.params.values()] == pytest.approx([100, 7, 3], abs=0.05)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points_give_starts_nevertheless(n):
    x, y = np.ones(n), np.arange(n)
    for text in ("gaussian", "sine", "a*x**b + c", "line"):
        starts = propose_starts(as_model(text), gather(x, y), 3)
        assert torch.isfinite(starts).all()


def test_a_model_that_fails_or_has_the_wrong_shape_is_told():
    data = gather(np.arange(5.0), np.arange(5.0))
    with pytest.raises(ModelError, match="failed with ValueError: no"):
        propose_starts(as_model(fails), data)
    with pytest.raises(ModelError, match=r"one value per point; it returned \(3,\)"):
        propose_starts(as_model(lambda x, a: a[:3] * x[:3]), data)
    with pytest.raises(ModelError, match=r"must return shape \(N,\), one value per point"):
        propose_starts(as_model(lambda x, a: torch.stack([a * x, x])), data)


def test_points_where_no_parameters_help_are_told_by_their_index():
    x = np.array([3.0, 1.0, 0.0, 2.0, 0.0])
    said = r"at 2 of 5 points for all .* index 2, x = 0\.0\)\. Leave such points out"
    with pytest.raises(gf.errors.InputError, match=said):
        gf.fit("a*log(x) + b", x, x, sy=1)
    with pytest.raises(gf.errors.InputError, match="no fit got under way"):
        gf.fit("a*log(0*x) + b", x, x, sy=1)


def fails(x, a):
    raise ValueError("no")


def test_start_is_found_where_some_parameters_are_fixed_and_some_bounded() -> None:
    x = np.linspace(0.1, 7, 9)
    y = 5 * np.exp(-0.5 * x) + 1
    for fixed in ({"c": 1.0}, {"b": 0.5}, {"a": 5.0}):
        rest = {"a": (0, None), "b": (0, None), "c": (None, 3)}
        bounds = {k: v for k, v in rest.items() if k not in fixed}
        for some in (bounds, dict(list(bounds.items())[:1]), dict(list(bounds.items())[1:])):
            fit = gf.fit("a*exp(-b*x) + c", x, y, fixed=fixed, bounds=some)
            assert fit.params == pytest.approx({"a": 5, "b": 0.5, "c": 1}, rel=1e-9)


def test_a_start_that_is_one_number_is_told_what_is_missing() -> None:
    with pytest.raises(gf.errors.InputError, match="`start` must give a number for each of a, b"):
        gf.fit("a + b*x", [0, 1, 2, 3], [1, 2, 3, 5], start=3.0)
