"""``gradfit fit``: a formula or a built-in model, and the columns of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from gradfit._asked import other_columns
from gradfit._fit import FitStep, fit
from gradfit._model import as_model
from gradfit.app import arguments, files, output, table


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is said of the parameters, as typed by the user."""

    start: Sequence[str] = ()
    fixed: Sequence[str] = ()
    bounds: Sequence[str] = ()
    relative: bool = False


def run(
    source: str,
    model: str,
    columns: table.Columns,
    options: Options,
    delivery: output.Delivery,
) -> int:
    """Fit, deliver, and return the exit code."""
    files.check_directory(delivery.out, output.SET)
    start = arguments.numbers("--start", options.start)
    fixed = arguments.numbers("--fix", options.fixed)
    bounds = arguments.bounds("--bounds", options.bounds)
    with output.remarks(delivery.quiet), output.progress("fitting", delivery.quiet) as say:
        whole = table.read(source)
        chosen = table.select(whole, columns)
        x_names = [chosen["x"]] if isinstance(chosen["x"], str) else chosen["x"]
        result = fit(
            as_model(model, x_names, other_columns(whole.frame, x_names, start, fixed, bounds)),
            **chosen,
            start=start or None,
            fixed=fixed or None,
            bounds=bounds or None,
            absolute_sigma=False if options.relative else None,
            on_step=None if say is None else lambda step: say(_progress(step)),
        )
    return output.deliver(result, delivery)


def _progress(step: FitStep) -> str:
    running = f", {step.n_running} fits to go" if step.n_running > 1 else ""
    return f"step {step.n_steps}{running}"
