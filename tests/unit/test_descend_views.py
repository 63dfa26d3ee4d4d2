"""Pictures and progress of a descent."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from descents import START, line
from matplotlib.contour import ContourSet
from torch import nn

from gradfit import descend, sweep_lr
from gradfit._views.descent import contour_levels, level_names
from gradfit.errors import InputError

LINE = line()


@pytest.fixture(scope="module")
def crawl():
    return descend(LINE.loss, START, lr=1e-5, epochs=1000)


def rosenbrock(a, b):
    return (1 - a) ** 2 + 100 * (b - a * a) ** 2


def texts(axes):
    return [text.get_text() for text in axes.texts]


def drawn(figure, tmp_path):
    """Save, which lays out and draws everything; warnings are errors."""
    file = tmp_path / "picture.png"
    figure.savefig(file)
    assert file.stat().st_size > 10_000
    return figure


# -- losses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_loss_over_the_steps_is_logarithmic_and_marks_the_best(crawl, theme, tmp_path):
    figure = drawn(crawl.plot(theme=theme), tmp_path)
    loss, norm = figure.axes
    assert (loss.get_yscale(), norm.get_yscale()) == ("log", "log")
    assert "best: 3.5766 at step 1,000" in texts(loss)
    assert "Gradient descent, sgd, lr 1e-5" in texts(loss)
    assert any("not converged: crawling, condition number 1.36e4" in t for t in texts(loss))
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), crawl.losses)


def test_a_loss_within_a_decade_has_a_linear_axis(tmp_path):
    run = descend(lambda a: (a - 1) ** 2 + 5, {"a": 0.0}, lr=0.01, epochs=30)
    assert drawn(run.plot(), tmp_path).axes[0].get_yscale() == "linear"


def test_negative_losses_have_a_linear_axis(tmp_path):
    run = descend(lambda a: (a - 1) ** 4 - 1e3, {"a": 30.0}, lr=1e-5, epochs=30)
    assert drawn(run.plot(), tmp_path).axes[0].get_yscale() == "linear"


def test_a_changing_step_size_has_a_panel_of_its_own(tmp_path):
    run = descend(LINE.loss, START, lr=1e-5, schedule="cosine", epochs=50)
    figure = drawn(run.plot(), tmp_path)
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "gradient norm", "step size"]


def test_a_loss_that_reaches_zero_is_marked_at_the_foot_of_a_logarithmic_axis(tmp_path):
    run = descend(lambda a: a**2, {"a": 1.0}, lr=0.5)
    assert run.loss == 0
    assert "best: 0 at step 1" in texts(drawn(run.plot(), tmp_path).axes[0])


def test_where_a_loss_stopped_being_a_number_is_said(tmp_path):
    run = descend(lambda a: torch.log(a), {"a": 1.0}, lr=0.3, epochs=50)
    assert math.isnan(run.losses[-1])
    assert f"nan at step {run.n_steps}" in texts(drawn(run.plot(), tmp_path).axes[0])


@pytest.mark.parametrize(
    "run",
    [
        lambda: descend(LINE.loss, START, lr=1e-5, clear_grad=False),
        lambda: descend(LINE.loss, {"a": 2.4, "b": 0.0}, lr=2.2e-3, epochs=600),
        lambda: descend(rosenbrock, {"a": -1.2, "b": 1.0}, lr=0.01),
        lambda: descend(lambda a: torch.log(a), {"a": -1.0}, lr=0.1),
        lambda: descend(rosenbrock, START, lr=0.001, epochs=0),
        lambda: descend(lambda w: (w**2).sum(), {"w": np.ones(300)}, lr=0.1, epochs=5),
    ],
    ids=["swing", "oscillation", "divergence", "no number", "one point", "many parameters"],
)
def test_every_kind_of_descent_can_be_drawn(run, tmp_path):
    drawn(run().plot(), tmp_path)


def test_the_sum_of_gradients_is_called_that():
    run = descend(LINE.loss, START, lr=1e-5, clear_grad=False, epochs=20)
    assert run.plot().axes[1].get_ylabel() == "norm of the sum"


def test_an_unknown_theme_is_refused(crawl):
    with pytest.raises(InputError, match='`theme` must be "light" or "dark"'):
        crawl.plot(theme="pink")


# -- landscape -------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_landscape_shows_the_way_and_the_floor_of_the_valley(crawl, theme, tmp_path):
    figure = drawn(crawl.landscape(theme=theme), tmp_path)
    whole, floor = figure.axes
    assert "condition number 1.36e4" in texts(whole)
    assert (whole.get_xlabel(), whole.get_ylabel()) == ("a", "b")
    way = whole.lines[0]
    np.testing.assert_array_equal(way.get_xdata(), crawl.path["a"])
    minimum = whole.lines[-1]
    # The quadratic at the best step ends near the true minimum.
    assert minimum.get_xdata()[0] == pytest.approx(LINE.a, rel=1e-3)
    assert minimum.get_ydata()[0] == pytest.approx(LINE.b, abs=0.05)
    x0, x1 = floor.get_xlim()
    assert x0 < LINE.a < x1
    assert x1 - x0 < 0.1


@pytest.mark.parametrize("loss", [LINE.loss, rosenbrock])
@pytest.mark.parametrize("options", [{"lr": 1e-5, "epochs": 200}, {}])
def test_no_label_of_a_contour_touches_the_way_or_another(loss, options, tmp_path):
    figure = drawn(descend(loss, {"a": -1.0, "b": 2.0}, **options).landscape(), tmp_path)
    for ax in figure.axes:
        (contours,) = [c for c in ax.collections if isinstance(c, ContourSet) and c.labelTexts]
        assert len(contours.labelTexts) > 1
        share = np.linspace(0, 1, 200)[:, None, None]
        way = ax.transData.transform(ax.lines[0].get_xydata())
        drawn_at = (way[:-1] * (1 - share) + way[1:] * share).reshape(-1, 2)
        for k, text in enumerate(contours.labelTexts):
            others = [corners(other) for other in contours.labelTexts[k + 1 :]]
            assert not covers(text, np.concatenate([drawn_at, *others]))


def upright(text):
    """Return the box that a label would fill if it were not turned, and the turn (2, 2)."""
    angle = text.get_rotation()
    text.set_rotation(0)
    box = text.get_window_extent()
    text.set_rotation(angle)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return box, np.array([[c, s], [-s, c]])


def corners(text):
    box, turn = upright(text)
    centre = box.corners().mean(0)
    u, v = np.meshgrid(
        np.linspace(-0.5, 0.5, 20) * box.width, np.linspace(-0.5, 0.5, 5) * box.height
    )
    return np.stack([u.ravel(), v.ravel()], 1) @ turn + centre


def covers(text, points):
    """Whether a label, turned as it is, covers one of some points (K, 2) of the screen."""
    box, turn = upright(text)
    centre = box.corners().mean(0)
    off = np.abs((points - centre) @ turn.T)
    return bool(((off[:, 0] < box.width / 2) & (off[:, 1] < box.height / 2)).any())


def test_contours_are_values_of_the_loss(crawl, tmp_path):
    from gradfit._descend.landscape import panels

    panel = panels(crawl, "b", "a").panels[0]
    for i, j in ((0, 0), (3, 40), (-1, -1)):
        b, a = (torch.tensor(v, dtype=torch.float64) for v in (panel.x[j], panel.y[i]))
        assert panel.z[i, j] == pytest.approx(LINE.loss(a, b).item(), rel=1e-12)


def test_a_loss_that_cannot_be_vectorised_gives_the_same_contours():
    from gradfit._descend.landscape import panels

    def branchy(a, b):
        return rosenbrock(a, b) if a.item() < 1e9 else a

    start = {"a": -1.0, "b": 1.0}
    ours = panels(descend(branchy, start, lr=1e-3, epochs=20), None, None).panels[0]
    theirs = panels(descend(rosenbrock, start, lr=1e-3, epochs=20), None, None).panels[0]
    n, m = len(ours.x), len(theirs.x)
    assert n <= m
    np.testing.assert_allclose(
        [ours.z[0, 0], ours.z[-1, -1]], [theirs.z[0, 0], theirs.z[-1, -1]], rtol=1e-12
    )


def test_a_slow_loss_gets_a_coarse_grid(monkeypatch):
    from gradfit._descend import landscape

    monkeypatch.setattr(landscape, "time_of", lambda objective: 1.0)
    run = descend(rosenbrock, START, lr=1e-3, epochs=5)
    assert len(landscape.panels(run, None, None).panels[0].x) == landscape.COARSEST


def test_two_of_many_parameters_are_chosen_by_name(tmp_path):
    def loss(w, c):
        return ((w - torch.arange(3.0)) ** 2).sum() + (c - 1) ** 2 * 50

    run = descend(loss, {"w": np.zeros(3), "c": 0.0}, lr=0.005, epochs=20)
    figure = drawn(run.landscape("c", "w[2]"), tmp_path)
    assert figure.axes[0].get_xlabel() == "c"
    assert figure.axes[0].get_ylabel() == "w[2]"
    assert any("other parameters at the best step" in t for t in texts(figure.axes[0]))
    assert run.landscape(y="w[0]").axes[0].get_xlabel() == "w[1]"


def test_the_landscape_of_a_module_leaves_it_as_it_is(tmp_path):
    torch.manual_seed(0)
    net = nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 20)[:, None]
    run = descend(lambda: ((net(x) - 2 * x - 1) ** 2).mean(), net, lr=0.1, epochs=20)
    before = [p.detach().clone() for p in net.parameters()]
    drawn(run.landscape(), tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        ("q", None, "`x` must name a parameter; 'q' came. There are: a, b"),
        (None, "q", "`y` must name a parameter"),
        ("a", "a", "must name two different parameters; both are 'a'"),
    ],
)
def test_parameters_that_are_not_there_are_refused(crawl, x, y, match):
    with pytest.raises(InputError, match=match):
        crawl.landscape(x, y)


def test_one_parameter_has_no_landscape():
    run = descend(lambda a: a**2, {"a": 1.0}, lr=0.1, epochs=2)
    with pytest.raises(InputError, match="needs two parameters; there is one"):
        run.landscape()
    many = descend(lambda w: (w**2).sum(), {"w": np.ones(200)}, lr=0.1, epochs=2)
    with pytest.raises(InputError, match="the path of more than 128 is not recorded"):
        many.landscape()


@pytest.mark.parametrize(
    ("loss", "start"),
    [
        (lambda a, b: a**2 - b**2 + b**4, {"a": 1.0, "b": 0.1}),
        (lambda a, b: (a - 1) ** 2 + 0 * b, {"a": 0.0, "b": 3.0}),
        (lambda a, b: torch.log(a) ** 2 + b**2, {"a": 2.0, "b": 1.0}),
        (lambda a, b: a * 1e-12 + b * 1e-12 + 1, {"a": 0.0, "b": 0.0}),
    ],
    ids=["saddle", "flat", "undefined on one side", "almost constant"],
)
def test_odd_landscapes_can_be_drawn(loss, start, tmp_path):
    drawn(descend(loss, start, lr=0.05, epochs=10).landscape(), tmp_path)


def test_levels_grow_geometrically_above_the_lowest_and_have_names_of_their_own():
    x = np.linspace(-1, 1, 101)
    z = 3.5 + 1e-4 * (x[:, None] ** 2 + x**2)
    levels = contour_levels(z)
    above = levels - 3.5
    np.testing.assert_allclose(above[1:] / above[:-1], above[1] / above[0], rtol=1e-6)
    assert len(set(level_names(levels))) == len(levels)
    assert len(contour_levels(np.full((5, 5), 2.0))) == 0
    assert len(contour_levels(np.full((5, 5), np.nan))) == 0


# -- sweep -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_sweep_shades_the_range_that_works(theme, tmp_path):
    sweep = sweep_lr(lambda a, b: (a - 1) ** 2 + 10 * b**2, {"a": 0.0, "b": 1.0})
    figure = drawn(sweep.plot(theme=theme), tmp_path)
    fan, reached = figure.axes
    assert len(fan.lines) == len(sweep.lrs) + 1
    (shade,) = reached.patches
    assert shade.get_x() == pytest.approx(sweep.works[0])
    assert shade.get_x() + shade.get_width() == pytest.approx(sweep.works[1])
    assert "triangle: overshoots" in reached.get_title(loc="left")


# -- progress --------------------------------------------------------------------------------------


def test_progress_goes_to_standard_error_only(tmp_path):
    code = (
        "import gradfit as gf\n"
        "gf.descend(lambda a: (a - 1) ** 2, {'a': 0.0}, lr=0.01, epochs=300, progress=True)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"},
    )
    assert run.stdout == ""
    assert "300/300" in run.stderr


def test_without_progress_nothing_is_printed(capfd):
    descend(lambda a: (a - 1) ** 2, {"a": 0.0}, lr=0.01, epochs=10)
    assert capfd.readouterr() == ("", "")
