"""Measured points on axes, so that three look as good as a hundred thousand."""

from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gradfit._format import printable
from gradfit._types import FloatArray
from gradfit._views.fitted import Fitted, Observations
from gradfit._views.palette import Palette
from gradfit._views.residuals import outlying

Place: TypeAlias = Literal[
    "upper right",
    "upper left",
    "lower right",
    "lower left",
    "upper center",
    "lower center",
    "center right",
    "center left",
    "center",
]

WIDE = 5.4
"""Points that a character of a label takes on average, generously."""
FEW, SOME, MANY, CROWD = 40, 400, 3000, 20_000
"""Numbers of points from which marks get smaller, bars fainter, then no bars, then a density."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in a plane with their errors; all arrays (N,), finite.

    Attributes
    ----------
    x, y : ndarray
        Where they are.
    sx, sy : ndarray or None
        Half-lengths of bars; None for none.
    hollow : ndarray of bool
        Points that lie too far off.
    """

    x: FloatArray
    y: FloatArray
    sx: FloatArray | None
    sy: FloatArray | None
    hollow: Any

    @property
    def n(self) -> int:
        """Number of points."""
        return self.x.size

    def where(self, keep: Any) -> "Cloud":
        """Return some of the points."""
        sx, sy = (None if s is None else s[keep] for s in (self.sx, self.sy))
        return replace(self, x=self.x[keep], y=self.y[keep], sx=sx, sy=sy, hollow=self.hollow[keep])


def hollow(fit: Fitted) -> Any:
    """Return which points lie farther off than errors explain."""
    far = np.zeros(fit.observed.x.shape[-1], dtype=np.bool_)
    far[outlying(fit)] = True
    return far


def bar_lengths(data: Observations, sigma: Any) -> FloatArray | None:
    """Return a standard deviation for every row; None where none was given or all are 0."""
    given = any(each is not None for each in (data.sx, data.sy, data.rho, data.cov))
    if not given or not np.any(sigma):
        return None
    return np.broadcast_to(sigma, data.x.shape[-1:])


def scatter(ax: Axes, cloud: Cloud, colour: str, colours: Palette) -> None:
    """Draw points, with bars while there is room for them."""
    if cloud.n > CROWD:
        density(ax, cloud, colour)
        return
    if cloud.n <= MANY:
        bars(ax, cloud, colour)
    size = 4.6 if cloud.n <= FEW else 3.4 if cloud.n <= SOME else 2.4 if cloud.n <= MANY else 1.6
    opaque = 1.0 if cloud.n <= SOME else 0.65 if cloud.n <= MANY else 0.3
    # Thousands of vector marks make files that no viewer opens gladly. A few points lie above the
    # curve, a crowd below it.
    style: dict[str, Any] = {
        "ls": "",
        "marker": "o",
        "zorder": 6 if cloud.n <= SOME else 4,
        "rasterized": cloud.n > MANY,
    }
    full, hollow = cloud.where(~cloud.hollow), cloud.where(cloud.hollow)
    ax.plot(full.x, full.y, ms=size, mfc=colour, mec="none", alpha=opaque, **style)
    ax.plot(hollow.x, hollow.y, ms=size, mfc=colours.paper, mec=colour, mew=0.9, **style)


def bars(ax: Axes, cloud: Cloud, colour: str) -> None:
    """Draw one standard deviation to each side."""
    if cloud.sx is None and cloud.sy is None:
        return
    thin = 1.0 if cloud.n <= FEW else 0.8 if cloud.n <= SOME else 0.5
    opaque = 0.55 if cloud.n <= FEW else 0.4 if cloud.n <= SOME else 0.15
    ax.errorbar(
        cloud.x,
        cloud.y,
        xerr=cloud.sx,
        yerr=cloud.sy,
        ls="",
        ecolor=(colour, opaque),
        elinewidth=thin,
        zorder=3,
        rasterized=cloud.n > SOME,
    )


def density(ax: Axes, cloud: Cloud, colour: str) -> None:
    """Draw how many points lie where, in one colour from pale to full."""
    width, height = ax.get_window_extent().size
    counts, xs, ys = np.histogram2d(cloud.x, cloud.y, bins=(160, round(160 * height / width)))
    ramp = [to_rgba(colour, 0.12), to_rgba(colour, 0.95)]
    ax.imshow(
        np.ma.masked_equal(counts.T, 0),
        norm=LogNorm(1, max(2.0, float(counts.max()))),
        cmap=LinearSegmentedColormap.from_list("counts", ramp),
        extent=(xs[0], xs[-1], ys[0], ys[-1]),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        zorder=2,
    )


def typical(ax: Axes, cloud: Cloud, colours: Palette) -> None:
    """Draw the median error as one cross in a corner, where every bar would be too many."""
    if cloud.n <= MANY or (cloud.sx is None and cloud.sy is None):
        return
    sx, sy = (0.0 if s is None else float(np.median(s)) for s in (cloud.sx, cloud.sy))
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    if max(sx / (right - left), sy / (top - bottom)) < 0.004:
        return
    taken = vacant(ax, cloud)[0]
    corners = (place for place in vacant(ax, cloud, 0.22, 0.22) if "center" not in place)
    vertical, horizontal = next(place for place in corners if place != taken).split()
    inward, upward = 1 if horizontal == "left" else -1, 1 if vertical == "lower" else -1
    x = (left if inward > 0 else right) + inward * (0.04 * (right - left) + sx)
    y = (bottom if upward > 0 else top) + upward * (0.08 * (top - bottom) + sy)
    ax.errorbar(x, y, xerr=sx, yerr=sy, ecolor=colours.ink, elinewidth=1.1, zorder=6)
    ax.annotate(
        "median σ",
        (x + inward * sx, y),
        (5 * inward, 0),
        textcoords="offset points",
        ha=horizontal,
        va="center",
        fontsize=8.5,
    )


def join(
    ax: Axes, x: FloatArray, y: FloatArray, x_hat: FloatArray, y_hat: FloatArray, colours: Palette
) -> None:
    """Join each point to its foot point by a thin line."""
    gap = np.full_like(x, np.nan)
    xs, ys = (np.stack(parts, 1).ravel() for parts in ((x, x_hat, gap), (y, y_hat, gap)))
    ax.plot(xs, ys, color=colours.foot, lw=1.1, zorder=5.5, solid_capstyle="round")


def frame(ax: Axes, cloud: Cloud) -> None:
    """Fix the limits to what was measured, so that no curve can run away with them."""
    if not cloud.n:
        return
    for values, sigma, place in (
        (cloud.x, cloud.sx, ax.set_xlim),
        (cloud.y, cloud.sy, ax.set_ylim),
    ):
        reach = sigma if cloud.n <= MANY and sigma is not None else 0.0
        low, high = float(np.min(values - reach)), float(np.max(values + reach))
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
        place(low - margin, high + margin)


def plain(text: str) -> str:
    """Return a text of the user's as Matplotlib draws it as it stands: no formula of TeX."""
    return printable(text).replace("$", r"\$")


def name_axes(ax: Axes, x: str, y: str) -> None:
    """Write names along the axes: long ones on two lines, and cut where that is too little."""
    box, scale = ax.get_window_extent(), WIDE * ax.figure.dpi / 72
    for text, length, place in (
        (x, box.width / scale, ax.set_xlabel),
        (y, box.height / scale, ax.set_ylabel),
    ):
        text = plain(text)
        place("\n".join(wrap(text, max(18, int(length)), max_lines=2, placeholder=" …")))


def legend(
    ax: Axes, cloud: Cloud, colours: Palette, curve: str | None, level: float, joined: bool
) -> None:
    """Say what is what, where there is room; ``curve`` is its colour, None for no curve."""
    barred = cloud.n <= MANY and not (cloud.sx is None and cloud.sy is None)
    name = "measured, ± one σ" if barred else "measured"
    dot: dict[str, Any] = {"ls": "", "marker": "o", "ms": 4.6, "mec": colours.point}
    drawn: list[Any] = [Line2D([], [], mfc=colours.point, label=name, **dot)]
    if cloud.hollow.any():
        drawn.append(Line2D([], [], mfc=colours.paper, label="farther than errors explain", **dot))
    if joined:
        drawn.append(Line2D([], [], color=colours.foot, lw=1.1, label="to its foot point"))
    if curve is not None:
        drawn.append(Line2D([], [], color=curve, lw=1.8, label="fit"))
        band = f"{100 * level:.4g} % confidence band"
        drawn.append(Patch(fc=curve, alpha=0.18, label=band))
    ax.legend(handles=drawn, loc=vacant(ax, cloud)[0])


def vacant(ax: Axes, cloud: Cloud, wide: float = 0.4, high: float = 0.38) -> list[Place]:
    """Return places of the axes, the one with least drawn in it first; sizes are shares.

    Among equals corners come before the middles of edges.
    """
    drawn = [np.stack([cloud.x, cloud.y], 1), *(np.asarray(line.get_xydata()) for line in ax.lines)]
    for curve in ax.collections:
        if isinstance(curve, ContourSet):
            drawn += [np.asarray(path.vertices) for path in curve.get_paths()]
    at = np.concatenate(drawn).astype(np.float64)
    with np.errstate(invalid="ignore"):
        u, v = ax.transAxes.inverted().transform(ax.transData.transform(at)).T
        across = {"right": u > 1 - wide, "left": u < wide, "center": np.abs(u - 0.5) < wide / 2}
        down = {"upper": v > 1 - high, "lower": v < high, "center": np.abs(v - 0.5) < high / 2}
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)

    def filled(place: Place) -> int:
        vertical, _, horizontal = place.partition(" ")
        return int((inside & down[vertical] & across[horizontal or "center"]).sum())

    return sorted(get_args(Place), key=filled)
