"""The pictures of the story that no result draws by itself."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._views.palette import LIGHT, style
from gradfit.app import tutorial
from gradfit.app.story.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.4
DECADES = (1.0, 1e5)
CLOSE = (44.0, 58.0)
"""The part of x that is shown enlarged."""
TALL = 1.3
"""Height of that panel, in units of its width."""


def _drawn(height: float, widths: Sequence[float], draw: Callable[..., None]) -> "Figure":
    """Let ``draw`` fill panels beside each other."""
    from matplotlib import rc_context

    from gradfit._views.figure import drawing

    with rc_context(style(LIGHT)):
        figure = drawing(WIDTH, height)
        draw(*figure.subplots(1, len(widths), width_ratios=list(widths), squeeze=False)[0])
    return figure


def _dot(colour: str, size: float = 7) -> dict[str, Any]:
    return {"ls": "", "marker": "o", "ms": size, "color": colour, "mec": LIGHT.paper, "zorder": 5}


def points(scene: Scene) -> "Figure":
    """Draw the points, and some of them enlarged with their ways to the true line."""
    a, b = tutorial.TRUE["a"], tutorial.TRUE["b"]
    x, y = scene.x, scene.y
    foot = (x + a * (y - b)) / (1 + a * a)
    middle, reach = sum(CLOSE) / 2, 1.4 * (CLOSE[1] - CLOSE[0])
    near = (foot > CLOSE[0]) & (foot < CLOSE[1])

    def draw(left: "Axes", right: "Axes") -> None:
        for ax in (left, right):
            ax.axline((0, b), slope=a, color=LIGHT.curve, lw=1.3, zorder=1)
            ax.set(xlabel="x", ylabel="y")
        left.plot(x, y, ".", ms=5, color=LIGHT.point)
        left.set(xlim=(-4, 104), ylim=(-9, 262))
        left.set_title("all points and the true line")
        ways = np.stack([[x, foot], [y, a * foot + b]])[..., near]
        right.plot(*ways, color=LIGHT.foot, lw=1.2, zorder=2)
        right.plot(x[near], y[near], **_dot(LIGHT.point, 5.5))
        # Right angles look right only where both axes have one scale.
        right.set(xlim=(middle - reach, middle + reach), box_aspect=TALL)
        right.set_ylim(a * middle + b - TALL * reach, a * middle + b + TALL * reach)
        right.set_title("some of them, both axes to one scale")

    return _drawn(3.6, (1.45, 1), draw)


def swing(scene: Scene) -> "Figure":
    """Draw losses of the printed loop and of the loop put right; and a swing below the rim."""

    def draw(left: "Axes", right: "Axes") -> None:
        left.plot(scene.printed.steps, scene.printed.losses, color=LIGHT.foot, lw=1.4)
        left.plot(scene.cleared.steps, scene.cleared.losses, color=LIGHT.curve, lw=1.4)
        left.axhline(scene.rim, color=LIGHT.muted, lw=0.8, ls=(0, (3, 3)))
        left.set(yscale="log", ylim=DECADES, xlabel="step", ylabel="loss")
        _note(left, "the rim: an upright line", 1000, scene.rim, LIGHT.muted, above=True)
        _note(left, "as printed", 1000, scene.printed.losses[-1], LIGHT.foot, above=False)
        _note(left, "cleared", 1000, scene.cleared.losses[-1], LIGHT.curve, above=True)
        left.set_title("from a = 0: over the rim")
        shown = scene.swinging.steps <= 300
        right.plot(
            scene.swinging.steps[shown], scene.swinging.path["a"][shown], color=LIGHT.foot, lw=1.3
        )
        right.axhline(scene.closed_form[0], color=LIGHT.muted, lw=0.8, ls=(0, (3, 3)))
        right.set(xlabel="step", ylabel="a")
        right.set_title("from a = 2: to and fro, never cleared")

    return _drawn(3.3, (1, 1), draw)


def _note(ax: "Axes", text: str, x: float, y: float, colour: str, *, above: bool) -> None:
    ax.annotate(
        text, (x, y), (0, 4 if above else -5), textcoords="offset points", ha="right",
        va="bottom" if above else "top", color=colour, fontsize=9,
    )  # fmt: skip


def floor(scene: Scene) -> "Figure":
    """Draw the lowest loss over the intercept, where the descent stopped and where it is least."""
    grid, lowest = scene.profile
    best, error = scene.closed_form[1], float(scene.fitted.stderr["intercept"])
    stopped = scene.cleared.params["b"]

    def draw(ax: "Axes") -> None:
        ax.axvspan(best - error, best + error, color=LIGHT.faint, lw=0, zorder=0)
        ax.plot(grid, lowest, color=LIGHT.curve, lw=1.5)
        ax.plot([best], [scene.automatic.loss], **_dot(LIGHT.curve))
        ax.plot([stopped], [scene.cleared.loss], **_dot(LIGHT.foot))
        ax.annotate(
            "the minimum", (best, scene.automatic.loss), (0, -7), textcoords="offset points",
            ha="center", va="top", color=LIGHT.curve,
        )  # fmt: skip
        ax.annotate(
            f"1,000 steps end here,\nat b = {stopped:.2f}", (stopped, scene.cleared.loss),
            (4, 24), textcoords="offset points", ha="left", color=LIGHT.foot,
        )  # fmt: skip
        ax.margins(y=0.14)
        ax.set(xlabel="b", ylabel="lowest loss that any a reaches")
        ax.set_title("along the floor of the valley; shaded: one standard deviation of b")

    return _drawn(3.2, (1,), draw)


def estimates(rows: Sequence[tuple[str, float, float, float, float]]) -> "Figure":
    """Draw slopes and intercepts with their errors, one method a row; NaN for no error."""
    names, a, da, b, db = zip(*rows, strict=True)
    heights = np.arange(len(rows))[::-1]

    def draw(left: "Axes", right: "Axes") -> None:
        for ax, values, errors, name in ((left, a, da, "a"), (right, b, db, "b")):
            ax.axvline(tutorial.TRUE[name], color=LIGHT.muted, lw=0.9, ls=(0, (3, 3)))
            ax.errorbar(values, heights, xerr=errors, fmt="o", ms=5.5, color=LIGHT.curve, lw=1.4)
            ax.set_xlabel(f"{name} (dashed: the truth, {tutorial.TRUE[name]:g})")
            ax.set_ylim(-0.6, len(rows) - 0.4)
            ax.spines["left"].set_visible(False)
            ax.tick_params(axis="y", length=0)
        left.set_yticks(heights, names)
        right.set_yticks(heights, [""] * len(rows))

    return _drawn(0.55 + 0.36 * len(rows), (1, 1), draw)
