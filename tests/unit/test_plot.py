"""Pictures hold what was measured and what was fitted, for any number of points."""

import dataclasses
import logging
import sys
from io import BytesIO

import made
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image

from gradfit._fit import fit
from gradfit._types import Status
from gradfit._views import palette
from gradfit._views.residuals import standardised
from gradfit.errors import InputError


def line_of(ax, colour):
    """Return the data of the widest line of a colour."""
    found = [
        line for line in ax.lines if to_hex(line.get_color()) == colour and len(line.get_xdata())
    ]
    return max(found, key=lambda line: len(line.get_xdata())).get_xydata().T


def points_of(ax):
    """Return the data of all marks."""
    marks = [line.get_xydata() for line in ax.lines if line.get_marker() == "o"]
    return np.concatenate(marks).T


def test_curve_and_band_are_those_of_the_fit():
    result = made.decay()
    main = result.plot(level=0.9).axes[0]
    x, y = line_of(main, palette.LIGHT.curve)
    np.testing.assert_allclose(y, result.predict(x))
    (band,) = [c for c in main.collections if isinstance(c, PolyCollection)]
    edges = band.get_paths()[0].vertices
    lower, upper = result.band(x, 0.9)
    for edge in (lower, upper):
        near = np.abs(edges[:, 1][:, None] - edge[None]).min(0)
        np.testing.assert_allclose(near, 0, atol=1e-9)


def test_points_bars_feet_and_residuals_are_those_of_the_data():
    result = made.york()
    main, lower = result.plot().axes
    np.testing.assert_array_equal(points_of(main), [made.PEARSON_X, made.PEARSON_Y])
    bars = [c for c in main.collections if isinstance(c, LineCollection)]
    ends = np.array([path.vertices for path in bars[0].get_paths()])
    np.testing.assert_allclose(np.ptp(ends[:, :, 0], axis=1) / 2, made.YORK_SX)
    feet = line_of(main, palette.LIGHT.foot).T.reshape(-1, 3, 2)
    np.testing.assert_array_equal(feet[:, 0].T, [made.PEARSON_X, made.PEARSON_Y])
    np.testing.assert_array_equal(feet[:, 1].T, [result.x_hat, result.y_hat])
    np.testing.assert_array_equal(points_of(lower)[1], standardised(result)[0])
    assert main.get_xlim() == lower.get_xlim()


def test_columns_name_the_axes_and_the_fit_is_told_above():
    figure = made.decay().plot()
    main, lower = figure.axes
    assert main.get_ylabel() == "signal [mV]"
    assert lower.get_xlabel() == "time [s]"
    assert lower.get_ylabel() == "residual / σ"
    assert [text.get_text() for text in main.texts] == ["signal [mV] = a*exp(-b*x) + c"]
    assert "b = 0.41 ± 0.04" in main.get_title(loc="left").replace("\u00a0", " ")
    assert "χ²/dof = 27.29/27" in main.get_title(loc="left").replace("\u00a0", " ")


def test_residuals_of_scaled_fits_are_told_in_units_of_the_scatter():
    lower = made.straight(made.PEARSON_X, made.PEARSON_Y).plot().axes[1]
    assert lower.get_ylabel() == "residual / scatter"


def test_a_figure_is_known_to_nobody_else():
    made.york().plot()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_settings_of_the_user_stay_as_they_are():
    before = dict(mpl.rcParams)
    made.york().plot(theme="dark").savefig(BytesIO(), format="svg")
    assert dict(mpl.rcParams) == before


def test_the_same_fit_gives_the_same_bytes(tmp_path):
    first, second = BytesIO(), BytesIO()
    made.york().plot().savefig(first, format="svg")
    made.york().plot().savefig(second, format="svg")
    assert first.getvalue() == second.getvalue()
    made.york().plot().savefig(tmp_path / "fit.svg")
    assert (tmp_path / "fit.svg").read_bytes() == first.getvalue()


def test_notebooks_show_a_figure():
    assert made.york().plot()._repr_png_().startswith(b"\x89PNG")


def test_axes_of_the_user_get_the_main_panel():
    figure = Figure()
    ax = figure.add_subplot()
    assert made.york().plot(ax) is figure
    assert figure.axes == [ax]
    np.testing.assert_array_equal(points_of(ax), [made.PEARSON_X, made.PEARSON_Y])


def test_unknown_theme_and_impossible_level_are_refused():
    with pytest.raises(InputError, match='`theme` must be "light" or "dark", got .blue.'):
        made.york().plot(theme="blue")
    with pytest.raises(InputError, match="`level` must lie between 0 and 1"):
        made.york().plot(level=95)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_stands_out_from_its_paper(theme):
    colours = palette.palette(theme)
    assert to_hex(made.york().plot(theme=theme).get_facecolor()) == colours.paper
    for name in ("ink", "muted", "point", "curve", "foot"):
        # The ratio that WCAG 2.1 asks of graphics is 3, of text 4.5.
        least = 4.5 if name in ("ink", "muted") else 3
        assert contrast(getattr(colours, name), colours.paper) >= least, name
    for colour in colours.groups:
        assert contrast(colour, colours.paper) >= 3


def contrast(colour, paper):
    first, second = (luminance(each) for each in (colour, paper))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def luminance(colour):
    c = np.array(to_rgba(colour)[:3])
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


# -- few points and many ---------------------------------------------------------------------------


def noisy(n):
    rng = np.random.default_rng(n)
    x = np.linspace(0, 10, n)
    y = 1 + 2 * x + rng.normal(0, 0.5, n)
    return made.straight(x, y, 0.5)


@pytest.mark.parametrize("n", [2, 3, 30, 300, 3000, 10_000])
def test_every_point_is_drawn_while_marks_can_be_told_apart(n):
    main, lower = noisy(n).plot().axes
    assert points_of(main).shape[1] == n
    assert points_of(lower).shape[1] == n


def test_a_crowd_becomes_a_density_and_stays_small():
    result = noisy(100_000)
    figure, out = result.plot(), BytesIO()
    figure.savefig(out, format="svg")
    assert len(out.getvalue()) < 500_000
    counts = figure.axes[0].images[0].get_array()
    assert counts.sum() == 100_000


def test_typical_error_stands_for_bars_that_are_too_many():
    texts = [text.get_text() for text in noisy(10_000).plot().axes[0].texts]
    assert "median σ" in texts
    texts = [text.get_text() for text in noisy(100).plot().axes[0].texts]
    assert "median σ" not in texts


def test_outliers_are_hollow():
    x = np.arange(10.0)
    y = 0.1 * np.cos(7 * x)
    y[0] += 3
    main = fit("a + b*x", x, y, sy=0.1, loss="tukey", start={"a": 0, "b": 0}).plot().axes[0]
    filled = {
        to_hex(line.get_markerfacecolor()) for line in main.lines if len(line.get_xdata()) == 1
    }
    assert filled == {palette.LIGHT.paper}
    labels = [text.get_text() for text in main.get_legend().get_texts()]
    assert "farther than errors explain" in labels


@pytest.mark.parametrize("bad", ["x", "y"])
def test_rows_left_out_are_not_drawn(bad):
    data = {"x": made.PEARSON_X.copy(), "y": made.PEARSON_Y.copy()}
    data[bad][3] = np.nan
    result = fit("a + b*x", **data, sy=0.3, start={"a": 5, "b": 0}, nan_policy="omit")
    main, lower = result.plot().axes
    assert points_of(main).shape[1] == points_of(lower).shape[1] == 9


def test_a_fit_that_failed_shows_its_points_and_says_so():
    lost = dict.fromkeys("ab", np.nan)
    result = dataclasses.replace(
        noisy(10), params=lost, stderr=lost, status=Status.BAD_DATA, success=False,
        x_hat=np.full(10, np.nan), y_hat=np.full(10, np.nan), delta=np.full(10, np.nan),
        eps=np.full(10, np.nan), chi2=np.nan, mswd=np.nan,
    )  # fmt: skip
    main, lower = result.plot().axes
    assert points_of(main).shape[1] == 10
    assert main.get_title(loc="left") == "FAILED: BAD_DATA"
    assert not [line for line in lower.lines if line.get_marker() == "o"]


def test_a_curve_that_runs_away_does_not_stretch_the_axes():
    x = np.array([0.1, 1.0, 2.0, 3.0, 4.0])
    result = fit("a/x", x, [10.2, 1.0, 0.5, 0.3, 0.26], sy=0.05, start={"a": 1})
    low, high = result.plot().axes[0].get_ylim()
    assert -1 < low < high < 12


def test_equal_x_can_be_drawn():
    result = made.straight([1, 2], [1, 3], 0.1)
    alone = dataclasses.replace(
        result, observed=dataclasses.replace(result.observed, x=np.ones(2), y=np.ones(2))
    )
    alone.plot()


# -- other shapes ----------------------------------------------------------------------------------


def test_an_implicit_curve_is_drawn_where_the_model_is_zero():
    result = made.circle()
    main = result.plot().axes[0]
    (curve,) = [c for c in main.collections if isinstance(c, ContourSet) and not c.filled]
    at = np.concatenate([path.vertices for path in curve.get_paths()])
    u, v, r = result.params.values()
    np.testing.assert_allclose(np.hypot(at[:, 0] - u, at[:, 1] - v), r, atol=2e-4)
    assert main.get_aspect() == 1


def test_drawing_an_implicit_fit_says_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        made.circle().plot().savefig(BytesIO(), format="svg")
    assert caplog.text == ""


def test_several_responses_get_a_panel_each():
    import torch

    x = np.linspace(0, 6, 20)
    y = np.stack([np.cos(x), np.sin(x)])
    result = fit(lambda x, a, b: torch.stack([a * torch.cos(x), b * torch.sin(x)]), x, y, sy=0.1,
                 start={"a": 0.9, "b": 0.9})  # fmt: skip
    first, second, lower = result.plot().axes
    np.testing.assert_array_equal(points_of(second), [x, y[1]])
    assert (first.get_ylabel(), second.get_ylabel()) == ("y[0]", "y[1]")
    assert points_of(lower).shape[1] == 40
    with pytest.raises(InputError, match="`ax` is one panel"):
        result.plot(first)


def test_several_variables_are_drawn_as_predicted_against_observed():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 5, (2, 40))
    y = 1 + 2 * x[0] - x[1] + rng.normal(0, 0.1, 40)
    result = fit(lambda x, a, b, c: a + b * x[0] + c * x[1], x, y, sx=0.05, sy=0.1,
                 start={"a": 1.0, "b": 1.0, "c": 0.0})  # fmt: skip
    main, lower = result.plot().axes
    np.testing.assert_allclose(points_of(main), [result.predict(x), y])
    assert main.get_xlabel() == "predicted y"
    np.testing.assert_array_equal(points_of(lower)[1], standardised(result)[0])


def test_implicit_surfaces_show_how_residuals_are_spread():
    rng = np.random.default_rng(1)
    v = rng.normal(size=(3, 80))
    x = 2 * v / np.linalg.norm(v, axis=0) + rng.normal(0, 0.1, (3, 80))
    result = fit(lambda x, r: (x**2).sum(0) - r * r, x, sx=0.1, start={"r": 1.5})
    main = result.plot().axes[0]
    areas = [patch.get_width() * patch.get_height() for patch in main.patches]
    assert sum(areas) == pytest.approx(1)


# -- groups ----------------------------------------------------------------------------------------


def test_few_groups_share_one_panel():
    many = made.runs(4)
    (ax,) = many.plot().axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2", "3"]
    assert points_of(ax).shape[1] >= 60
    for key, colour in zip(many, palette.LIGHT.groups, strict=False):
        x, y = line_of(ax, colour)
        if len(x) > 100:
            np.testing.assert_allclose(y, many[key].predict(x))


def test_many_groups_get_small_panels_and_the_rest_is_told():
    many = made.runs(40, 8)
    figure = many.plot(theme="dark")
    assert len(figure.axes) == 24
    assert figure.get_suptitle() == "y = a + b*x, first 24 of 41 groups"
    assert figure.axes[2].get_title(loc="left") == "2: BAD_DATA"
    assert points_of(figure.axes[5]).shape[1] == 8


def test_groups_of_implicit_fits_can_be_drawn():
    x = np.concatenate([made.circle(12).observed.x + shift for shift in (0, 5)], 1)
    start = {"u": [2.0, 7.0], "v": [1.0, 6.0], "r": 3.0}
    many = fit(made.round_curve, x, sx=0.1, groups=[0] * 12 + [1] * 12, start=start)
    assert len(many.plot().axes) == 2


def test_points_without_x_are_counted_in_whole_rows():
    ticks = made.circle().plot().axes[1].get_xticks()
    assert (ticks == ticks.round()).all()


def test_a_fit_without_freedom_divides_nothing_by_zero():
    title = made.straight([0, 1], [1, 3], sy=0.1).plot().axes[0].get_title(loc="left")
    assert "no degrees of freedom" in title.replace("\u00a0", " ")
    assert "/0" not in title


def long_names():
    x, y = (
        "time since the start of the run at the upper detector / s",
        "signal of the photodiode / mV",
    )
    table = {x: made.PEARSON_X, f"mean {y} after subtraction of the dark current": made.PEARSON_Y}
    text = "height_of_the_signal*exp(-rate_of_the_decay*x) + offset_of_the_amplifier_when_warm"
    return fit(text, data=table, x=x, y=list(table)[1], sy=0.3)


def test_no_two_texts_of_a_picture_overlap(tmp_path):
    for name, result in {
        "long": long_names(),
        "decay": made.decay(),
        "circle": made.circle(),
        "crowd": noisy(30_000),
    }.items():
        figure = result.plot()
        figure.savefig(tmp_path / f"{name}.png")
        boxes = [
            text.get_window_extent()
            for ax in figure.axes
            for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)
            if text.get_text()
        ]
        for k, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[k + 1 :])
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 700
