"""``gradfit demo``: points of a known line with noise in both coordinates, fitted and compared."""

from gradfit._fit import fit
from gradfit.app import output
from gradfit.app.tutorial import MODEL, NOISE, POINTS, TRUE, points


def run(delivery: output.Delivery) -> int:
    """Simulate, fit, compare with the truth, deliver, and return the exit code."""
    output.check_directory(delivery.out)
    with output.remarks(delivery.quiet), output.progress("fitting", delivery.quiet):
        x, y = points()
        result = fit(MODEL, x, y, sx=NOISE, sy=NOISE)
    talk = not delivery.as_json and not delivery.quiet
    if talk:
        truth = ", ".join(f"{name} = {value:g}" for name, value in TRUE.items())
        output.show(
            f"{POINTS} points of y = {MODEL} with {truth}, x from 0 to 100,\n"
            f"noise of standard deviation {NOISE:g} in x and in y.\n"
        )
    code = output.deliver(result, delivery)
    if talk:
        output.show("")
        for name, truth in TRUE.items():
            sigmas = (float(result.params[name]) - truth) / float(result.stderr[name])
            side = "above" if sigmas > 0 else "below"
            output.show(f"{name} is {abs(sigmas):.1f} sigma {side} the truth, {truth:g}.")
    return code
