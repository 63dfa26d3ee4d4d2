"""What a descent gives back: one frozen value that can explain, draw and open itself."""

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._descend.diagnose import Verdict
from gradfit._descend.landscape import panels
from gradfit._descend.opened import film, graph_at
from gradfit._descend.probe import Source
from gradfit._descend.status import DescentStatus
from gradfit._descend.valley import Valley
from gradfit._format import columns, count, duration, number, plural
from gradfit._types import FloatArray
from gradfit._views import descent
from gradfit.graph.surroundings import undisturbed_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gradfit.graph import Film, Graph

WIDTH = 80


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Descent:
    """A descent that has ended: where it got, how, and why no further.

    ``S`` counts recorded steps: all of them while the way is short, ever fewer as it grows long;
    start, best and last step are always among them. ``p`` counts the numbers to find.

    Attributes
    ----------
    names : tuple of str
        Parameters, in the order of ``start``.
    params : mapping of str to float, ndarray or tensor
        Values at the best step, of the kind they were given as.
    loss : float
        The loss there.
    best_step : int
        Which step that was; 0 is the start. Of steps whose losses agree to rounding error, the one
        with the smallest gradient.
    steps : ndarray (S,) int64
        Which steps were recorded.
    losses, grad_norms, lrs : ndarray (S,)
        Loss and norm of the gradient at these steps, and the step size that led there (NaN at the
        start).
    path, grads : mapping of str to ndarray (S, ...)
        Parameters and gradients at these steps. With ``clear_grad=False`` the gradients are what
        had added up, over batches they are those of the last batch. Empty for more than 128
        numbers.
    status : DescentStatus
        How it ended.
    success : bool
        ``status.ok``: the gradient vanished.
    message : str
        How it ended, at which step, and what to try.
    verdict : str
        What kind of descent it was, in one word: ``"converged"``, ``"flat"``, ``"saddle"``,
        ``"crawling"``, ``"improving"``, ``"oscillating"``, ``"uncleared"``, ``"noisy"``,
        ``"diverging"``, ``"undefined"``, ``"unbounded"`` or ``"stalled"``.
    diagnosis : str
        The verdict explained, with what to try.
    n_steps, n_eval : int
        Epochs done, and evaluations of the loss; those for the curvature are not counted.
    lr : float
        Step size at the start; NaN for automatic steps without ``lr``.
    optimizer, schedule : str
        As asked.
    gradient, hessian : ndarray (p,), (p, p)
        First and second derivatives of the loss at the best step, from the graph. NaN when they
        could not be had, empty for more than 32 numbers.
    columns : tuple of str
        Names of the p numbers: ``a``, ``w[0]``.
    valley : Valley
        The quadratic that touches the loss at the best step.
    seconds : float
        Wall time.
    source : Source
        The loss itself; a pickle drops it when it cannot be pickled.
    """

    names: tuple[str, ...]
    params: Mapping[str, Any]
    loss: float
    best_step: int
    steps: NDArray[np.int64]
    losses: FloatArray
    grad_norms: FloatArray
    lrs: FloatArray
    path: Mapping[str, FloatArray]
    grads: Mapping[str, FloatArray]
    status: DescentStatus
    success: bool
    message: str
    verdict: Verdict
    diagnosis: str
    n_steps: int
    n_eval: int
    lr: float
    optimizer: str
    schedule: str
    gradient: FloatArray
    hessian: FloatArray
    columns: tuple[str, ...]
    valley: Valley
    seconds: float
    source: Source

    @property
    def condition(self) -> float:
        """Condition number of the curvature at the best step; inf if flat, NaN if unknown."""
        return self.valley.condition

    def summary(self) -> str:
        """Return the descent as text: parameters, loss, curvature, work, and what to make of it."""
        return "\n".join(_summary(self))

    def __repr__(self) -> str:
        return self.summary()

    def plot(self, theme: str = "light") -> "Figure":
        """Draw loss, gradient and, where it changes, step size over the steps.

        Parameters
        ----------
        theme : str
            ``"light"`` or ``"dark"``.

        Returns
        -------
        matplotlib.figure.Figure
            The axis of the loss is logarithmic when it spans decades; the best step is marked.
        """
        best = int(np.searchsorted(self.steps, self.best_step))
        measure = "norm of the sum" if self.verdict == "uncleared" else "gradient norm"
        history = descent.History(self.steps, self.losses, self.grad_norms, self.lrs, best, measure)
        note = self.verdict if self.success else f"not converged: {self.verdict}"
        if self.valley.closed and len(self.columns) > 1:
            note += f", condition number {number(self.condition, 3)}"
        heading = descent.Heading(f"Gradient descent, {_setting(self)}", note)
        return descent.draw_losses(history, heading, theme)

    def landscape(
        self, x: str | None = None, y: str | None = None, theme: str = "light"
    ) -> "Figure":
        """Draw the loss over two parameters as contours, with the path on them.

        In a narrow valley a second panel shows its floor around the best step, stretched until it
        can be seen. Other parameters stand at the best step.

        Parameters
        ----------
        x, y : str, optional
            Names of two numbers, such as ``"a"`` or ``"w[0]"``; the first two by default.
        theme : str
            ``"light"`` or ``"dark"``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InputError
            An unknown name, or fewer than two parameters to draw.
        ModelError
            The loss did not survive a pickle.
        """
        drawn = panels(self, x, y)
        return descent.draw_landscape(drawn.panels, drawn.labels, drawn.heading, theme)

    def graph(self) -> "Graph":
        """Open the computational graph of the loss at the best step.

        Raises
        ------
        ModelError
            The loss did not survive a pickle.
        """
        return graph_at(self.source, self.params)

    def film(self, n: int = 10) -> "Film":
        """Open the graph of the loss at several steps on the way, as one page with a slider.

        Parameters
        ----------
        n : int
            How many of the recorded steps to show at most; first and last are among them.

        Returns
        -------
        Film
            ``film.show()`` opens the page, ``film[0]`` is the graph at the start.

        Raises
        ------
        InputError
            More than 128 numbers moved, so that the way was not recorded.
        ModelError
            The loss did not survive a pickle.

        Examples
        --------
        >>> import gradfit as gf
        >>> run = gf.descend(lambda a, b: (a - 1) ** 2 + (a * b - 2) ** 2, {"a": 0.5, "b": 0.5})
        >>> film = run.film(5)
        >>> [float(graph["a"].value) for graph in (film[0], film[-1])]
        [0.5, 1.0...]
        """
        return film(self.source, self.params, self.steps, self.path, n)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the loss itself as plain numbers, texts, lists and dicts."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        del kept["source"]
        plain = {name: _plain(value) for name, value in kept.items()}
        plain["status"] = self.status.name
        plain["valley"] = {k: _plain(v) for k, v in self.valley._asdict().items()}
        return plain

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        try:
            pickle.dumps(self.source)
        # What cannot be pickled says so in many ways: lambdas, closures, locks, open files.
        except (pickle.PicklingError, AttributeError, TypeError):
            state["source"] = replace(self.source, loss=None, batches=None, module=None)
        return state


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else value


# -- in words ------------------------------------------------------------------------------------


def _setting(run: Descent) -> str:
    """Say which optimizer, step size and schedule."""
    if run.schedule == "auto":
        return "automatic steps"
    lr = f", lr {number(run.lr, 3)}" if not math.isnan(run.lr) else ""
    return f"{run.optimizer}{lr}" + (f", {run.schedule}" if run.schedule != "constant" else "")


def _summary(run: Descent) -> list[str]:
    ended = "" if run.success else f"NOT CONVERGED ({run.status.name})"
    lines = [f"Gradient descent, {_setting(run)}", *([ended] if ended else []), ""]
    lines += columns([("parameter", "value"), *_values(run)], "ll")
    lines += ["", *columns(_facts(run), "ll"), ""]
    for text in (run.message, run.diagnosis):
        lines += [*wrap(text, WIDTH), ""]
    return lines[:-1]


def _values(run: Descent) -> list[tuple[str, str]]:
    shown: list[tuple[str, str]] = []
    for name in run.names[:12]:
        value = run.params[name]
        if isinstance(value, float) or np.ndim(value) == 0:
            shown.append((name, number(float(value), 10)))
        else:
            norm = float(np.linalg.norm(np.asarray(value.tolist()).ravel()))
            shown.append((name, f"shape {tuple(value.shape)}, norm {number(norm, 5)}"))
    more = len(run.names) - len(shown)
    return shown + ([(f"and {more} more", "")] if more else [])


def _facts(run: Descent) -> list[tuple[str, str]]:
    best = int(np.searchsorted(run.steps, run.best_step))
    facts = [
        (
            "loss",
            f"{number(run.loss, 8)} at step {count(run.best_step)} of {count(run.n_steps)}"
            f" (start {number(run.losses[0], 5)})",
        ),
        (
            "norm of the sum" if run.verdict == "uncleared" else "gradient norm",
            f"{number(run.grad_norms[best], 3)} (start {number(run.grad_norms[0], 3)})",
        ),
    ]
    if run.valley.known and len(run.columns) > 1:
        facts.append(("condition number", number(run.condition, 4)))
    work = f"{plural(run.n_eval, 'evaluation')} in {duration(run.seconds)}"
    return [*facts, ("work", work)]
