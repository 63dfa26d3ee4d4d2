"""A descent as pictures: its losses, the landscape it went through, and a sweep of step sizes.

Plain numbers come in. Matplotlib is imported inside functions, since results know this module.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._format import count, number
from gradfit._types import FloatArray
from gradfit._views.palette import Palette, palette, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.4
DECADES = 30.0
"""An axis is logarithmic when its numbers span more than this factor."""
FEW = 40
"""Up to so many steps each one gets a dot."""
DENSE = 150
"""Turns from which on a line is drawn thin."""
LEVELS = 13
EDGE, ROOM = 0.08, 0.085
"""Shares of a panel that a label of a contour keeps from its edge, and from what is drawn there."""
TRIED, SHOWN = 60, 500
"""Places along a contour that are tried for its label, and steps of the way that are looked at."""


class Heading(NamedTuple):
    """What stands above a picture: a title, and a line below it."""

    title: str
    note: str


class History(NamedTuple):
    """Losses, norms of gradients and step sizes over the recorded steps (S,).

    ``best`` is the row of the best step; ``measure`` names the norms.
    """

    steps: NDArray[np.int64]
    losses: FloatArray
    norms: FloatArray
    lrs: FloatArray
    best: int
    measure: str


class Panel(NamedTuple):
    """A loss on a grid ``z`` (len(y), len(x)), with the way (S, 2) and its best row on it."""

    x: FloatArray
    y: FloatArray
    z: FloatArray
    way: FloatArray
    best: int
    minimum: FloatArray | None
    title: str


class Trials(NamedTuple):
    """Losses (S, L) at steps (S,) for learning rates (L,).

    ``works`` is the first and the last rate that works, ``None`` when none does; ``best`` the
    column of the best; ``start`` the loss at the start.
    """

    lrs: FloatArray
    steps: NDArray[np.int64]
    losses: FloatArray
    works: tuple[float, float] | None
    best: int
    start: float


def _head(ax: "Axes", heading: Heading, colours: Palette, lift: float = 0) -> None:
    """Write above a panel, ``lift`` points higher where it has a title of its own."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    note = ax.annotate(
        heading.note, (0, 1), (0, 9 + lift), color=colours.muted, fontsize=9, **place
    )
    title = ax.annotate(
        heading.title, (0, 1), (0, 26 + lift), fontsize=11.5, fontweight="bold", **place
    )
    # The layout would widen the panel to the width of the text; room above is kept by blank lines.
    for text in (note, title):
        text.set_in_layout(False)
    ax.figure.suptitle("\n\n" if lift else "\n", fontsize=12)


def _spans(values: FloatArray) -> bool:
    """Whether numbers are better seen on a logarithmic axis."""
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() < 0 or not (finite > 0).any():
        return False
    return bool(finite.max() > DECADES * finite[finite > 0].min())


def _scale(ax: "Axes", values: FloatArray) -> None:
    """Make an axis logarithmic where its numbers span decades."""
    if _spans(values):
        ax.set_yscale("log")


# -- losses --------------------------------------------------------------------------------------


def draw_losses(history: History, heading: Heading, theme: str) -> "Figure":
    """Draw the loss, the gradient's norm and, where it changes, the step size over the steps."""
    from matplotlib import rc_context

    from gradfit._views.figure import drawing

    colours = palette(theme)
    lrs = history.lrs[np.isfinite(history.lrs)]
    varied = len(lrs) > 1 and lrs.max() > 1.01 * lrs.min()
    with rc_context(style(colours)):
        figure = drawing(WIDTH, 5.0 + varied)
        heights = (3.0, 1.3, 1.0) if varied else (3.0, 1.3)
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        first = figure.add_subplot(grid[0])
        panels = [
            first,
            *(figure.add_subplot(grid[k], sharex=first) for k in range(1, len(heights))),
        ]
        _losses(first, history, colours)
        _curve(panels[1], history.steps, history.norms, colours.groups[2])
        panels[1].set_ylabel(history.measure)
        if varied:
            _curve(panels[2], history.steps, history.lrs, colours.groups[3])
            panels[2].set_ylabel("step size")
        for panel in panels[:-1]:
            panel.tick_params(labelbottom=False)
        panels[-1].set_xlabel("step")
        figure.align_ylabels(panels)
        _head(first, heading, colours)
    return figure


def _curve(ax: "Axes", steps: NDArray[np.int64], values: FloatArray, colour: str) -> None:
    marker = "." if len(steps) <= FEW else ""
    with np.errstate(invalid="ignore"):
        shown = np.where(np.isfinite(values), values, math.nan)
    turns = np.count_nonzero(np.diff(np.sign(np.diff(shown))))
    # A line that turns at most of many steps would fill the panel like paint.
    width = 0.35 if turns > DENSE else 1.3
    ax.plot(steps, shown, color=colour, lw=width, marker=marker, ms=4)
    _scale(ax, values)
    ax.grid(axis="y", color=ax.spines["left"].get_edgecolor(), alpha=0.15, lw=0.6)


def _losses(ax: "Axes", history: History, colours: Palette) -> None:
    from matplotlib.ticker import MaxNLocator

    steps, losses, best = history.steps, history.losses, history.best
    _curve(ax, steps, losses, colours.curve)
    ax.set_ylabel("loss")
    ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    ax.margins(x=0.03, y=0.08)
    if math.isfinite(losses[best]):
        _mark_best(ax, history, colours)
    if not math.isfinite(losses[-1]):
        ax.axvline(steps[-1], color=colours.muted, lw=1, ls=(0, (2, 2)))
        early = steps[-1] < 0.6 * max(steps[-1], 1)
        ax.annotate(
            f"{number(losses[-1])} at step {count(int(steps[-1]))}",
            (float(steps[-1]), 1),
            (6 if early else -6, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if early else "right",
            va="top",
            color=colours.muted,
            fontsize=8.5,
        )


def _mark_best(ax: "Axes", history: History, colours: Palette) -> None:
    """Put a dot at the best step and say so beside it, where there is room."""
    step, loss = int(history.steps[history.best]), float(history.losses[history.best])
    on_axis = loss <= 0 and ax.get_yscale() == "log"
    where: Any = ("data", "axes fraction") if on_axis else "data"
    at = (step, 0.0 if on_axis else loss)
    ax.plot(
        [at[0]],
        [at[1]],
        "o",
        ms=6.5,
        color=colours.foot,
        mec=colours.paper,
        mew=1,
        zorder=5,
        clip_on=False,
        transform=ax.get_xaxis_transform() if on_axis else ax.transData,
    )
    first, last = int(history.steps[0]), int(history.steps[-1])
    share = (step - first) / max(last - first, 1)
    place = "left" if share < 0.25 else "right" if share > 0.75 else "center"
    ax.annotate(
        f"best: {number(loss, 6)} at step {count(step)}",
        at,
        ({"left": 8, "right": 0, "center": 0}[place], 9),
        xycoords=where,
        textcoords="offset points",
        ha=place,
        va="bottom",
        color=colours.foot,
        fontsize=9,
        bbox={"facecolor": colours.paper, "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=6,
    )


# -- landscape -----------------------------------------------------------------------------------


def draw_landscape(
    panels: list[Panel], labels: tuple[str, str], heading: Heading, theme: str
) -> "Figure":
    """Draw the loss over two parameters as contours, and the way through them."""
    from matplotlib import rc_context

    from gradfit._views.figure import drawing

    colours = palette(theme)
    with rc_context(style(colours)):
        figure = drawing(WIDTH if len(panels) > 1 else 5.4, 4.5)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, panel in zip(axes, panels, strict=True):
            _contours(ax, panel, colours)
            _way(ax, panel, colours)
            ax.set(xlabel=labels[0], ylabel=labels[1])
            ax.set_title(panel.title, color=colours.muted, loc="left")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=len(names))
        _head(axes[0], heading, colours, lift=18)
    return figure


def _tints(colours: Palette, n: int) -> list[Any]:
    """Return n colours from that of curves, where the loss is low, to paper."""
    from matplotlib.colors import to_rgb

    paper, full = np.array(to_rgb(colours.paper)), np.array(to_rgb(colours.curve))
    return [tuple(paper + share * (full - paper)) for share in np.linspace(0.55, 0.03, n)]


def _contours(ax: "Axes", panel: Panel, colours: Palette) -> None:
    levels = contour_levels(panel.z)
    ax.set_xlim(panel.x[0], panel.x[-1])
    ax.set_ylim(panel.y[0], panel.y[-1])
    if len(levels) < 3:
        return
    z = np.ma.masked_invalid(panel.z)
    edges = np.concatenate(([float(z.min())], levels, [float(z.max())]))
    tints = _tints(colours, len(edges) - 1)
    ax.contourf(panel.x, panel.y, z, levels=edges, colors=tints, zorder=0)
    lines = ax.contour(
        panel.x, panel.y, z, levels=levels, colors=[colours.curve], linewidths=0.6, alpha=0.7
    )
    texts = dict(zip(levels, level_names(levels), strict=True))
    paths = [path.vertices for path in lines.get_paths()]
    at = label_places(panel, paths[3::2])
    if at:
        ax.clabel(lines, fmt=texts, fontsize=7, inline_spacing=4, colors=[colours.ink], manual=at)


def label_places(panel: Panel, paths: Sequence[Any]) -> list[tuple[float, float]]:
    """Return where on each contour (K, 2) its label keeps farthest from the way and other labels.

    A contour that has no such place gets none.
    """
    low = np.array([panel.x[0], panel.y[0]])
    size = np.array([panel.x[-1], panel.y[-1]]) - low
    # A line between two places of the way is as much in the way of a label as its ends.
    way = (np.asarray(panel.way, dtype=np.float64) - low) / size
    way = way[:: 1 + len(way) // SHOWN]
    share = np.linspace(0, 1, 25)[:, None, None]
    taken = [(way[:-1] * (1 - share) + way[1:] * share).reshape(-1, 2), way]
    if panel.minimum is not None:
        taken.append(((np.asarray(panel.minimum) - low) / size)[None])
    drawn, labels = np.concatenate(taken), np.empty((0, 2))
    for path in paths:
        spots = (np.asarray(path, dtype=np.float64) - low) / size
        spots = spots[(np.abs(spots - 0.5) < 0.5 - EDGE).all(1)]
        spots = spots[:: max(1, len(spots) // TRIED)]
        if not len(spots):
            continue
        # Of two labels each needs its room.
        room = np.minimum(_distance(spots, drawn), _distance(spots, labels) / 2)
        best = int(room.argmax())
        if room[best] >= ROOM:
            labels = np.concatenate([labels, spots[best : best + 1]])
    return [(float(x), float(y)) for x, y in low + labels * size]


def _distance(spots: FloatArray, others: FloatArray) -> FloatArray:
    """Return how far each of the spots (K, 2) is from the nearest of the others (L, 2)."""
    apart = np.linalg.norm(spots[:, None] - others, axis=2)
    return apart.min(1, initial=math.inf)


def contour_levels(z: FloatArray) -> FloatArray:
    """Return levels whose distance from the lowest value grows by equal factors."""
    finite = z[np.isfinite(z)]
    if not len(finite):
        return np.empty(0)
    low, high = float(finite.min()), float(finite.max())
    above = finite[finite > low] - low
    if not len(above) or high - low <= 1e-13 * max(abs(low), abs(high)):
        return np.empty(0)
    nearest = max(float(np.quantile(above, 0.01)), 1e-4 * (high - low))
    return np.unique(low + np.geomspace(nearest, high - low, LEVELS)[:-1])


def level_names(levels: FloatArray) -> list[str]:
    """Write levels with as many digits as it takes to tell neighbours apart."""
    for digits in range(3, 15):
        names = [number(float(level), digits) for level in levels]
        if len(set(names)) == len(names):
            return names
    return [number(float(level), 15) for level in levels]


def _way(ax: "Axes", panel: Panel, colours: Palette) -> None:
    way = panel.way
    few = len(way) <= FEW
    ax.plot(*way.T, color=colours.foot, lw=1.3, marker="o" if few else "", ms=2.8, zorder=3)
    marks: list[tuple[str, FloatArray, dict[str, Any]]] = [
        ("start", way[0], {"marker": "o", "ms": 7, "mfc": colours.paper, "mec": colours.foot}),
        ("best step", way[panel.best], {"marker": "o", "ms": 7.5, "mfc": colours.foot}),
    ]
    if panel.minimum is not None:
        cross = {"marker": "P", "ms": 8, "mfc": colours.ink}
        marks.append(("minimum, by the curvature at the best step", panel.minimum, cross))
    for label, (x, y), look in marks:
        edge: dict[str, Any] = (
            {"mec": colours.paper, "mew": 1.0} if "mec" not in look else {"mew": 1.5}
        )
        ax.plot([x], [y], ls="", zorder=5, label=label, **(look | edge))


# -- sweep ---------------------------------------------------------------------------------------


def draw_sweep(trials: Trials, heading: Heading, theme: str) -> "Figure":
    """Draw the loss over the steps for every learning rate, and what each one reached."""
    from matplotlib import rc_context

    from gradfit._views.figure import drawing

    colours = palette(theme)
    with rc_context(style(colours)):
        figure = drawing(WIDTH, 4.4)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15), sharey=True)
        _scale(left, trials.losses[:, trials.best])
        left.set_ylim(*_window(trials, left.get_yscale() == "log"))
        notes = _fan(left, trials, colours), _reached(right, trials, colours)
        for ax, note in zip((left, right), notes, strict=True):
            ax.set_title(note, color=colours.muted).set_in_layout(False)
        _head(left, heading, colours, lift=18)
    return figure


def _window(trials: Trials, log: bool) -> tuple[float, float]:
    """Return limits for the loss: what runs away does so out of sight."""
    best = trials.losses[:, trials.best]
    low = float(np.nanmin(best))
    if log:
        low = float(np.nanmin(best[best > 0]))
        return low / 2, trials.start * 10
    span = (trials.start - low) or abs(low) or 1.0
    return low - 0.08 * span, trials.start + 0.4 * span


def _fan(ax: "Axes", trials: Trials, colours: Palette) -> str:
    from matplotlib.colors import to_rgb

    pale, full = np.array(to_rgb(colours.faint)), np.array(to_rgb(colours.curve))
    tints = [tuple(pale + share * (full - pale)) for share in np.linspace(0.2, 1, len(trials.lrs))]
    lost = ~(trials.losses[-1] <= trials.start)
    for k, tint in enumerate(tints):
        look: dict[str, Any] = {"color": colours.muted, "ls": ":"} if lost[k] else {"color": tint}
        shown = np.where(np.isfinite(trials.losses[:, k]), trials.losses[:, k], math.nan)
        ax.plot(trials.steps, shown, lw=0.9, **look)
    ax.plot(trials.steps, trials.losses[:, trials.best], color=colours.foot, lw=1.8, zorder=4)
    ax.set(xlabel="step", ylabel="loss")
    return "one line per rate; the stronger, the larger"


def _reached(ax: "Axes", trials: Trials, colours: Palette) -> str:
    last, best = trials.losses[-1], trials.best
    fine = last <= trials.start
    ax.set_xscale("log")
    if trials.works is not None:
        ax.axvspan(*trials.works, color=colours.curve, alpha=0.13, lw=0, zorder=0)
    ax.axhline(trials.start, color=colours.muted, lw=0.8, ls=(0, (3, 3)))
    ax.annotate(
        "at the start", (0, trials.start), (4, 5), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=8, color=colours.muted,
    ).set_in_layout(False)  # fmt: skip
    ax.plot(trials.lrs, np.where(fine, last, math.nan), "o-", ms=3.5, lw=1.1, color=colours.curve)
    high = ax.get_xaxis_transform()
    lost = trials.lrs[~fine]
    ax.plot(lost, np.full(len(lost), 0.97), "^", ms=5, color=colours.muted, transform=high)
    if fine[best]:
        ax.plot(trials.lrs[best], last[best], "o", ms=7, color=colours.foot, mec=colours.paper)
    ax.set_xlabel("learning rate")
    ax.tick_params(labelleft=False)
    said = f"after {count(int(trials.steps[-1]))} steps; shaded: works"
    return said + ("; triangle: overshoots" if len(lost) else "")
