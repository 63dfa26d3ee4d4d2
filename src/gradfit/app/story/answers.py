"""The last chapters: the solution with its uncertainties, what was missed, and what it costs."""

import math

from gradfit._format import count, duration, measured, number, percent
from gradfit._result import FitResult
from gradfit.app import tutorial
from gradfit.app.story import pictures
from gradfit.app.story.blocks import Chapter, Code, Picture, Prose, Said, Table
from gradfit.app.story.inline import inline
from gradfit.app.story.loss import total_least_squares
from gradfit.app.story.scene import Scene


def _of(found: FitResult, name: str) -> tuple[float, float]:
    return float(found.params[name]), float(found.stderr[name])


def solutions(scene: Scene) -> Chapter:
    """Put the solutions side by side."""
    a, b = scene.closed_form
    methods = {"gf.line": scene.fitted, "ordinary least squares": scene.ordinary}
    descents = {"descent, cleared": scene.cleared, "descent, automatic": scene.automatic}
    rows = [(name, run.params["a"], math.nan, run.params["b"], math.nan)
            for name, run in descents.items()]  # fmt: skip
    rows += [("total least squares", a, math.nan, b, math.nan)]
    rows += [(n, *_of(fit, "slope"), *_of(fit, "intercept")) for n, fit in methods.items()]
    told = [(n, _cell(a, da), _cell(b, db)) for n, a, da, b, db in rows]
    spread = float(scene.x.var()) - tutorial.NOISE**2
    shrink = spread / (spread + tutorial.NOISE**2)
    return Chapter(
        "The closed form, and fits that know how sure they are",
        [
            Prose(
                "For a line and equal errors there is a closed form, total least squares: the "
                "line through the centre of the points along which they scatter most. It needs no "
                "step at all."
            ),
            Code.of(total_least_squares),
            Prose(
                "gf.line finds the same line and says how sure it is. Ordinary least squares takes "
                "x as exact: its slope is too flat by design, in the mean by the factor "
                f"{number(shrink, 4)} here, where x spreads far beyond its noise; with x between 0 "
                f"and 10 it would be {number(_shrunk(10.0), 3)}. Its error bars know nothing of it."
            ),
            Table(("", "a", "b"), told),
            Picture(
                inline(pictures.estimates(rows), "estimates"),
                "Slope and intercept by each method, with one standard deviation where there is "
                "one. A descent and a closed form give none.",
            ),
        ],
    )


def _shrunk(width: float) -> float:
    """Return the factor by which least squares flattens a slope when x fills a width evenly."""
    spread = width**2 / 12
    return spread / (spread + tutorial.NOISE**2)


def _cell(value: float, error: float) -> str:
    return number(value, 7) if math.isnan(error) else measured(value, error)


def missed(scene: Scene) -> Chapter:
    """Explain what the descent missed in b."""
    run, best = scene.cleared, scene.automatic
    error = float(scene.fitted.stderr["intercept"])
    left = abs(run.params["b"] - best.params["b"])
    centred, square = scene.centred, float((scene.x**2).mean())
    line = scene.centred_line
    return Chapter(
        "What the descent missed in b, and why",
        [
            Prose(
                f"The descent left b at {number(run.params['b'], 2)}; the minimum has "
                f"{number(best.params['b'], 4)}. Changing b by 1 while a follows costs next to "
                "nothing: from where the descent stopped to the minimum the loss falls from "
                f"{number(run.loss, 5)} to {number(best.loss, 5)}, by "
                f"{percent(1 - best.loss / run.loss)}."
            ),
            Picture(
                inline(pictures.floor(scene), "floor"),
                "The floor of the valley, seen from the side.",
            ),
            Prose(
                "Why so flat? x runs from 0 to 100, so a change of slope moves the points much "
                f"farther than the same change of intercept: the loss feels it {number(square, 4)} "
                "times as strongly, the mean of x². And most of what b does a can undo, by turning "
                "the line about its middle. Together that makes a valley with the condition number "
                f"{number(best.condition, 4)}, measured at the minimum. It is a matter of units "
                "and of where x is counted from, not of the data."
            ),
            Prose(
                f"The points themselves know b only to ± {number(error, 2)}, so the descent is "
                f"{number(left / error, 2)} standard deviations off: not absurd, but wrong, and "
                "nothing in the loop says so. Errors of slope and intercept hang together "
                f"(correlation {number(float(scene.fitted.corr[0, 1]), 3)}) for the same reason."
            ),
            Prose(
                "The remedy costs one line: count x from its mean, in units of its spread. The "
                f"condition number becomes {number(centred.condition, 4)}, and plain descent with "
                f"a constant rate arrives in {centred.n_steps} steps, at a = {number(line[0], 7)}, "
                f"b = {number(line[1], 7)}. A second-order fit, `gf.fit` or `gf.line`, divides by "
                "the curvature and does not notice units at all."
            ),
        ],
    )


def speed(scene: Scene) -> Chapter:
    """Time the graph made anew in every pass, and the graph kept."""
    s = scene.speed
    compared = scene.comparison
    gained = compared.eager_seconds - compared.captured_seconds
    pays = (
        f"Capturing took {duration(compared.capture_seconds)} and pays off after "
        f"{count(math.ceil(compared.capture_seconds / gained))} passes."
        if gained > 0
        else f"Capturing took {duration(compared.capture_seconds)}, and for a loss as small as "
        "this one it buys nothing."
    )
    rows = [
        ("dynamic: the graph is built in every pass", duration(s.dynamic), _times(1.0)),
        ("static: captured by torch.export", duration(s.exported), _times(s.exported / s.dynamic)),
        ("no graph: the formula by hand", duration(s.formula), _times(s.formula / s.dynamic)),
    ]
    steps = [
        ("the loop by hand", duration(s.step_by_hand), _times(1.0)),
        ("gf.descend", duration(s.step_of_descend), _times(s.step_of_descend / s.step_by_hand)),
    ]
    return Chapter(
        "The graph made anew, and the graph kept",
        [
            Prose(
                "PyTorch builds the graph while the loss runs and throws it away after the "
                "backward pass: dynamic. It can also be captured once and kept: static. Both give "
                "the same numbers; what they cost, measured just now on this machine:"
            ),
            Table(("one forward and backward pass", "time", "beside dynamic"), rows),
            Prose(
                f"{pays} The arithmetic on {tutorial.POINTS} points is a matter of microseconds; "
                "the rest is the price of building and walking a graph of "
                f"{compared.n_eager} operations from Python."
            ),
            Said('graph.compare("export")', str(compared).split("\nline")[0]),
            Prose(
                "And what descend adds to a step, for the record of the way, the best step kept "
                "and every exit asked:"
            ),
            Table(("one step of the descent", "time", "beside the loop by hand"), steps),
        ],
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f} ×"
