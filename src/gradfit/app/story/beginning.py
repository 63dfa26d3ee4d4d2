"""The first chapters: the points, the distance, the graph."""

from gradfit._format import number
from gradfit.app import tutorial
from gradfit.app.story import formulas, pictures
from gradfit.app.story.blocks import Chapter, Code, Picture, Prose, Said, Table
from gradfit.app.story.inline import inline
from gradfit.app.story.loss import by_hand, loss
from gradfit.app.story.scene import START, Scene

PLACES = ((0.0, 0.0), (1.0, 0.0), (2.5, 1.0))
"""Where derivatives are compared."""
STEP = 1e-6


def points(scene: Scene) -> Chapter:
    """Show the points."""
    a, b, noise = tutorial.TRUE["a"], tutorial.TRUE["b"], tutorial.NOISE
    return Chapter(
        "Points with noise in both coordinates",
        [
            Prose(
                f"Take {tutorial.POINTS} points of the line y = {a:g} x + {b:g}, with x from 0 to "
                f"100, and add noise with a standard deviation of {noise:g} to both coordinates of "
                "each. What is left of the line is what an experiment would show: neither x nor y "
                "is exact. The seed is fixed, so every run sees the same points, and every number "
                "below was computed in this run."
            ),
            Code(
                f'x, y = gf.simulate("{tutorial.MODEL}", {{"a": {a:g}, "b": {b:g}}},\n'
                f"                   np.linspace(0, 100, {tutorial.POINTS}), "
                f"sx={noise:g}, sy={noise:g}, seed={tutorial.SEED})"
            ),
            Picture(
                inline(pictures.points(scene), "points"),
                "The points, and for some of them the shortest way to the true line. That way is "
                "perpendicular to the line, because noise of equal size moved the point in every "
                "direction alike.",
            ),
        ],
    )


def distance(scene: Scene) -> Chapter:
    """Derive the loss by hand, and compare with the graph."""
    rows: list[tuple[str, ...]] = []
    for a, b in PLACES:
        hand = by_hand(a, b, scene.x, scene.y)
        graph = scene.graph_at(a, b)
        for k, name in enumerate("ab"):
            opened = graph[name].grad
            if opened is None:
                raise RuntimeError(f"the loss never touches {name}")
            differences = _difference(scene, (a, b), k)
            cells = (hand[k], float(opened), differences)
            rows.append((f"∂L/∂{name} at ({a:g}, {b:g})", *(number(cell, 9) for cell in cells)))
    return Chapter(
        "The perpendicular distance, and why its derivative is ugly",
        [
            Prose(
                "The loss is the mean of the squared perpendicular distances from the line. The "
                "vertical distance is r; the perpendicular one is shorter by the factor "
                "√(a² + 1), and so the slope stands below the fraction, too."
            ),
            formulas.LOSS,
            Prose(
                "That is what makes the derivative ugly: by a it takes the quotient rule, and "
                "every change to the loss means to do it again, on paper, without a mistake."
            ),
            formulas.BY_A,
            formulas.BY_B,
            Prose(
                "Nobody has to. The loss is forward code; running it builds a graph, and walking "
                "that graph backwards gives both derivatives, exact to rounding:"
            ),
            Code.of(loss),
            Table(("", "by hand", "by the graph", "by central differences"), rows),
        ],
    )


def _difference(scene: Scene, at: tuple[float, float], k: int) -> float:
    """Return a derivative of the loss by central differences."""
    import torch

    def value(side: float) -> float:
        moved = [v + side * STEP * (i == k) for i, v in enumerate(at)]
        return float(
            scene.loss(*(torch.tensor(v, dtype=torch.float64, device="cpu") for v in moved))
        )

    return (value(1) - value(-1)) / (2 * STEP)


def graph(scene: Scene) -> Chapter:
    """Show the graph where the descent starts."""
    a, b = START["a"], START["b"]
    one = scene.graph_at(1.0, 0.0)
    return Chapter(
        "The graph at the start",
        [
            Prose(
                f"The descent starts at a = {a:g}, b = {b:g}. This is the graph of the loss there. "
                "Values flow down; gradients, on the arrows, flow back up. Parameters are the "
                "leaves that ask for a gradient, data do not, and nothing is computed for them."
            ),
            Picture(
                scene.graph.to_svg(),
                "One run of the loss, opened up by gf.trace: every operation as it was written, "
                "its value and its gradient.",
            ),
            Prose(
                "Slope a reaches the loss on two ways, through the numerator and through the "
                "denominator, and its gradient is the sum of what comes back on both: the two "
                "terms of the derivative by hand. At a = 0 the second term vanishes; at a = 1 "
                "both are there:"
            ),
            Said('graph.explain("a")', one.explain("a")),
        ],
    )
