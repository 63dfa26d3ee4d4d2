"""Fits of several variables, which no curve can show: predicted against observed, or residuals."""

import numpy as np
import torch
from matplotlib.axes import Axes

from gradfit._tangent import evaluate
from gradfit._views import marks, residuals
from gradfit._views.fitted import Fitted, rows
from gradfit._views.marks import Cloud
from gradfit._views.palette import Palette


def against(ax: Axes, fit: Fitted, colours: Palette) -> None:
    """Draw what was observed over what the model says at the observed x, with the line of equality.

    Bars are the errors of y only; those of x act through the slope and show in the residuals.
    """
    data = fit.observed
    x = torch.from_numpy(np.array(data.x))
    predicted = rows(evaluate(fit.model, list(fit.params.values()), x))
    seen = rows(data.y)
    sy = residuals.sigmas(data)[1]
    ends: list[float] = []
    for k, (f, y) in enumerate(zip(predicted, seen, strict=True)):
        used = np.isfinite(f) & np.isfinite(y)
        bar = marks.bar_lengths(data, sy[k % len(sy)])
        cloud = Cloud(f, y, None, bar, marks.hollow(fit)).where(used)
        colour = colours.point if len(seen) == 1 else colours.groups[k % len(colours.groups)]
        marks.scatter(ax, cloud, colour, colours)
        ends += [*f[used], *y[used]]
    if ends:
        ax.axline((min(ends), min(ends)), slope=1, color=colours.curve, lw=1.6, zorder=5)
    if len(seen) > 1:
        _name_responses(ax, fit, colours)
    names = _joined(data.y_names)
    marks.name_axes(ax, f"predicted {names}", f"observed {names}")


def _joined(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} ... {names[-1]}"


def _name_responses(ax: Axes, fit: Fitted, colours: Palette) -> None:
    for k, name in enumerate(fit.observed.y_names):
        colour = colours.groups[k % len(colours.groups)]
        ax.plot([], [], ls="", marker="o", ms=4.6, color=colour, label=marks.plain(name))
    ax.legend()


def spread(ax: Axes, fit: Fitted, colours: Palette) -> None:
    """Draw how residuals are distributed, with the normal density they should follow."""
    r = residuals.standardised(fit)
    shown = r[np.isfinite(r)]
    top = max(3.2, float(np.abs(shown).max(initial=0.0)))
    bins = int(np.clip(2 * np.sqrt(shown.size), 8, 60))
    ax.hist(shown, bins=bins, range=(-top, top), density=True, color=colours.point, alpha=0.35)
    z = np.linspace(-top, top, 300)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    ax.plot(z, density, color=colours.curve, lw=1.8, label="normal")
    ax.set_xlim(-top, top)
    ax.set_xlabel(f"residual / {'σ' if fit.absolute_sigma else 'scatter'}")
    ax.set_ylabel("density")
    ax.legend(loc="upper right")
