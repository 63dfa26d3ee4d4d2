"""The chapters in the middle: one loop, once as printed and once right, and what steps can do."""

import numpy as np

from gradfit._descend.result import Descent
from gradfit._format import count, number, percent
from gradfit.app.story import pictures
from gradfit.app.story.blocks import Block, Chapter, Code, Picture, Prose, Said, Table
from gradfit.app.story.inline import inline
from gradfit.app.story.loss import as_printed
from gradfit.app.story.scene import EPOCHS, LR, SMALL_LR, Scene


def _row(name: str, run: Descent) -> tuple[str, ...]:
    return (
        name,
        number(run.loss, 5),
        count(run.best_step),
        number(float(run.losses[-1]), 5),
        number(run.params["a"], 4),
        number(run.params["b"], 4),
    )


HEAD = ("", "best loss", "at step", "last loss", "a", "b")


def printed(scene: Scene) -> Chapter:
    """Run the loop as it is printed."""
    run = scene.printed
    same = np.abs(np.array(scene.printed_by_hand) / run.losses[:-1] - 1).max()
    predicted = 2 * np.pi / np.sqrt(LR * scene.swinging.valley.steepest)
    return Chapter(
        "The loop as printed: nothing ever brakes",
        [
            Prose(
                f"Now descend: start at zero, learning rate {number(LR)}, {count(EPOCHS)} epochs, "
                "best step kept. This is the loop as it is often printed."
            ),
            Code.of(as_printed),
            Prose(
                f"Its loss falls from {number(run.losses[0], 5)} to {number(run.loss, 4)} in "
                f"{run.best_step} steps, then rises again and stays high, at "
                f"{number(float(run.losses[-1]), 5)} in the end. It is tempting to blame the "
                "learning rate and to take a smaller one. That helps only by making everything "
                "slower:"
            ),
            Table(
                HEAD,
                [
                    _row(f"as printed, lr {number(LR)}", run),
                    _row(f"as printed, lr {number(SMALL_LR)}", scene.printed_slowly),
                    _row(f"gradients cleared, lr {number(LR)}", scene.cleared),
                ],
            ),
            *_named(scene),
            Picture(
                inline(pictures.swing(scene), "swing"),
                "Left: as printed and put right, with the same settings. Right: the printed loop "
                "let go from below the rim.",
            ),
            Prose(
                f"Below the rim it swings for ever, like a pendulum without friction. Let go at "
                f"a = 2, one swing takes {number(scene.period, 3)} steps; for a small swing the "
                f"curvature at the bottom predicts 2π/√(lr·curvature) = {number(predicted, 3)}, "
                "and a wide one takes longer."
            ),
            Prose(
                "Both tools recognise the mistake. The graph of two rounds of the loop, and "
                "descend, which walked the same way as the loop by hand (largest difference of "
                f"the losses {number(float(same), 2)}):"
            ),
            Said("graph.problems()", str(scene.problems)),
            Said("descend(..., clear_grad=False).diagnosis", run.diagnosis),
        ],
    )


def _named(scene: Scene) -> list[Block]:
    return [
        Prose(
            "The rate is not to blame. `backward()` adds to `.grad`, and nothing in the loop ever "
            "clears it, so each step is made with the sum of all gradients so far. That is a ball "
            "rolling without friction: the gradient is its acceleration, the sum its speed. It "
            "crosses the bottom at full speed and runs up the other side as high as it came "
            f"from. It came from {number(scene.printed.losses[0], 5)}, and the other side is not "
            "that high: the steeper the line, the nearer to upright, and the loss of an upright "
            f"line is only the mean of x², {number(scene.rim, 5)}. So it rolls over the rim, "
            f"the slope grows for ever (a = {number(float(scene.printed.path['a'][-1]), 3)} in "
            "the end), and the loss creeps up to that rim and never returns."
        )
    ]


def cleared(scene: Scene) -> Chapter:
    """Clear the gradients, and watch it crawl."""
    run, slope = scene.cleared, scene.closed_form[0]
    off = abs(run.params["a"] / slope - 1)
    return Chapter(
        "Gradients cleared: down at once, then a crawl",
        [
            Prose(
                "One line puts it right: `a.grad = None` before each pass, or "
                "`optimizer.zero_grad()`. descend does it by itself."
            ),
            Code('run = gf.descend(loss, {"a": 0, "b": 0}, lr=1e-5, epochs=1000)'),
            Prose(
                f"Now the loss falls and stays down: {number(run.loss, 5)} at "
                f"a = {number(run.params['a'], 4)}, b = {number(run.params['b'], 2)}. The slope is "
                f"within {percent(off)} of the solution. The intercept has hardly left its start, "
                "and that is no accident:"
            ),
            Said("run.diagnosis", run.diagnosis),
            Picture(
                inline(run.landscape(), "crawl"),
                "The loss over a and b with the way of the descent. It drops straight into the "
                "valley and stays where it landed; the minimum lies along the floor, which is "
                f"almost level: condition number {number(run.condition, 3)}.",
            ),
        ],
    )


def rates(scene: Scene) -> Chapter:
    """Try all rates, then rates that decay."""
    sweep = scene.sweep
    rows = [_row("constant 1e-5", scene.cleared)]
    rows += [_row(name, run) for name, run in scene.decaying.items()]
    best = scene.cleared.valley
    return Chapter(
        "What a learning rate can do, and what it cannot",
        [
            Prose(f"Is there a better rate? Try {len(sweep.lrs)} at once. {sweep.message}"),
            Picture(
                inline(sweep.plot(), "sweep"),
                "Each line on the left and each dot on the right is one learning rate.",
            ),
            Prose(
                "A rate that decays is the usual advice. It calms a descent that jumps about; it "
                "cannot speed up one that crawls, and a sum that is never cleared it does not "
                "brake either:"
            ),
            Table(HEAD, rows),
            Prose(
                "No schedule reaches b. Plain descent is stable only while the rate stays below 2 "
                f"over the largest curvature, {number(2 / best.steepest, 2)} at the floor of this "
                "valley. Along the floor, where the curvature is "
                f"{number(best.condition, 3)} times smaller, even the best constant step, "
                f"{number(best.best_lr, 2)}, needs about {_thousands(best.steps(best.best_lr))} "
                "steps to leave 1 % of the way."
            ),
        ],
    )


def _thousands(steps: float) -> str:
    return count(round(steps / 1000) * 1000)


def automatic(scene: Scene) -> Chapter:
    """Let steps find their own length."""
    run = scene.automatic
    a, b = scene.closed_form
    off = max(abs(run.params["a"] - a), abs(run.params["b"] - b))
    return Chapter(
        "Steps that find their own length",
        [
            Prose(
                "Leave the rate out, and descend chooses direction and length of every step by "
                "itself, from gradients alone: conjugate gradients with a line search, that is "
                "momentum with the right friction."
            ),
            Code('run = gf.descend(loss, {"a": 0, "b": 0})'),
            Prose(
                f"{run.n_steps} steps, {run.n_eval} evaluations, and it stands at the minimum: "
                f"a = {number(run.params['a'], 9)}, b = {number(run.params['b'], 9)}, which is "
                f"{number(off, 1)} away from the closed form of the next chapter."
            ),
            Picture(
                inline(run.landscape(), "auto"),
                "The same landscape, the same start. Once in the valley it turns and follows the "
                "floor.",
            ),
        ],
    )
