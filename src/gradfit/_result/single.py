"""One fit: its numbers, and what to ask of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gradfit._format import number
from gradfit._result import plain
from gradfit._result.asking import Asking
from gradfit._types import Status
from gradfit.errors import FitError, InputError
from gradfit.graph.surroundings import undisturbed_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradfit.graph import Film, Graph

Theme: TypeAlias = Literal["light", "dark"]


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitResult(Asking):
    r"""A model fitted to data: parameters, their uncertainties, and how well it all agrees.

    NumPy in, NumPy out; tensors in, tensors out. ``p`` counts all parameters, ``N`` all rows of the
    user's data; rows left out hold NaN.

    Attributes
    ----------
    names : tuple of str
        Parameters, in the order of the model.
    params, stderr : mapping of str to float
        Values and standard errors, ``stderr[n] == sqrt(cov[n, n])``; 0 where fixed, and NaN where
        at a bound, to one side of which there is nothing: ask :meth:`interval`.
    cov, corr : (p, p)
        Covariance and correlation; rows of parameters that are fixed or at a bound are 0, for the
        others are told with these kept there.
    chi2 : float
        Weighted squared distance at the solution.
    dof : int
        Degrees of freedom: responses that were measured, ``N*q`` if all were, minus ``p_free``.
    mswd : float
        ``chi2 / dof``; NaN when ``dof`` is 0.
    p_value : float
        Probability of a larger ``chi2`` if model and sigmas are right; NaN where no sigmas were
        given or they are relative, for a robust loss, and when ``dof`` is 0.
    delta, x_hat : (N,) or (m, N)
        ``x_hat - x``, and the foot points on the curve.
    eps, y_hat : (N,) or (q, N), or None
        ``y_hat - y``, and the model at the foot points; None for an implicit model. ``eps`` is NaN
        where a response was not measured.
    weights : (N,)
        Weights of a robust loss in 0..1; all 1 for ``loss="linear"``.
    status : Status
        How the fit ended.
    success : bool
        ``status.ok``.
    message : str
        What happened and, where it failed, what to try.
    n_steps, n_eval : int
        Steps tried, evaluations of the model.
    condition : float
        Ratio of the largest to the smallest singular value of the column-scaled Jacobian.
    rank : int
        Number of parameters, or combinations of them, that the data determine.
    seconds : float
        Wall time of the fit.
    backend : str
        What ran it.
    absolute_sigma : bool
        Whether the sigmas were taken as they are (True), or as large as the points scatter: then
        ``cov`` is scaled by ``mswd``, and of a robust loss the distances by ``scale``.
    cov_type, loss : str
        As asked.
    loss_scale : float
        In sigmas; NaN for ``loss="linear"``.
    scale : float
        Of a robust loss with relative sigmas, or none: by how much sigmas, or distances, were
        scaled, 1.4826 times the median absolute distance from the curve; NaN otherwise.
    fixed, at_bound : tuple of str
        Parameters that were held, and those that ended at a bound.
    bounds : mapping of str to (float, float)
        Limits of parameters; infinite where there is none.
    shared : tuple of str
        Parameters that were fitted jointly with other groups.
    correction : mapping of str to float
        What ``bias_correction`` took off each parameter; empty if it was not asked for.
    moved : ndarray of int64
        Rows of points that the search at the end moved to a nearer foot; machine code names them in
        calls of up to 65,536 points.
    outliers : ndarray of int64
        Rows of points that lie too far off, farthest first.
    observed : Observed
        The data.
    model : Model
        The model.
    """

    # -- looking ---------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return the fit as text for a lab book; ``print(fit)`` shows the same."""
        from gradfit._views.summary import summary

        return summary(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        values = ", ".join(f"{n}={number(value)}" for n, value in self.params.items())
        return f"<FitResult {self.status.name}: {values}>"

    def _repr_html_(self) -> str:
        from gradfit._views.html import fit_fragment

        return fit_fragment(self)

    def plot(self, ax: "Axes | None" = None, *, level: float = 0.95, theme: Theme = "light") -> Any:
        """Draw points with their errors, curve, confidence band and residuals in units of sigma.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Draw points, curve and band there, without the residual panel.
        level : float
            Of the confidence band.
        theme : "light" or "dark"
            Colours of a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            Shown by notebooks; ``.savefig("fit.svg")`` writes it.
        """
        from gradfit._views.plot import plot_fit

        return plot_fit(self, ax, level, theme)

    def report(self, path: str | Path | None = None) -> str:
        """Return one self-contained HTML page about this fit; write it to ``path`` if given."""
        from gradfit._views.report import page

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def graph(self) -> "Graph":
        """Return the computational graph of chi-square at the solution.

        Each residual is the distance from the tangent at the foot point, so that the value is
        ``chi2`` and every gradient is 0 up to rounding. Robust weights enter as they are.
        """
        from gradfit._result.objective import trace_objective

        return trace_objective(self)

    def film(self, path: Sequence[Mapping[str, float]]) -> "Film":
        """Return the graph of chi-square at every step of the way here, as a film.

        Foot points and their tangents are those of the solution, so that only the parameters move.

        Parameters
        ----------
        path : sequence of mappings
            Parameters by name at each step, as ``on_step`` is told them.

        Raises
        ------
        InputError
            No steps, or a name that is no parameter.

        Examples
        --------
        >>> import gradfit as gf
        >>> steps = []
        >>> x, y = [0, 1, 2, 3], [2, 1.2, 0.8, 0.5]
        >>> start = {"a": 1, "b": 1}
        >>> fit = gf.fit(
        ...     "a*exp(-b*x)", x, y, start=start, on_step=lambda s: steps.append(s.params)
        ... )
        >>> film = fit.film(steps)
        >>> len(film) == len(steps)
        True
        """
        from gradfit._result.objective import film_objective

        if not path:
            raise InputError("`path` has no steps: give the parameters of at least one.")
        for at in path:
            unknown = [n for n in at if n not in self.names]
            if unknown:
                raise InputError(
                    f"`path` names {unknown[0]!r}, which is no parameter; "
                    f"they are {', '.join(self.names)}."
                )
        return film_objective(self, path)

    # -- judging ---------------------------------------------------------------------------------

    def raise_for_status(self) -> None:
        """Raise a :class:`gradfit.errors.FitError` unless the fit converged.

        Raises
        ------
        FitError
            Carries this result as ``.result``.
        """
        if not self.success:
            raise FitError(f"{self.status.name}: {self.message}", self)

    # -- keeping ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return every field as numbers, text, lists and dictionaries.

        A formula is kept as its text; of a function only the name is.
        """
        return plain.to_dict(self, "fit")

    def to_json(self) -> str:
        """Return every field as JSON; NaN becomes null, infinities become text."""
        return plain.to_json(self.to_dict())

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "FitResult":
        """Return the result that :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            The fields are not those of a fit.
        """
        return cls(**plain.to_fields(fields, "fit", _READERS))

    @classmethod
    def from_json(cls, text: str) -> "FitResult":
        """Return the result that :meth:`to_json` wrote.

        Raises
        ------
        InputError
            The fields are not those of a fit.
        """
        return cls.from_dict(plain.load(text, "fit"))


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("names", "fixed", "at_bound"), plain.texts),
    **dict.fromkeys(("params", "stderr"), plain.reals),
    **dict.fromkeys(("cov", "delta", "eps", "x_hat", "y_hat", "weights"), plain.array),
    **dict.fromkeys(("chi2", "mswd", "p_value", "condition", "seconds"), plain.real),
    **dict.fromkeys(("dof", "n_steps", "n_eval", "rank"), plain.integer),
    **dict.fromkeys(("success", "absolute_sigma"), plain.flag),
    **dict.fromkeys(("message", "backend", "cov_type", "loss"), plain.text),
    "status": Status.__getitem__,
    "loss_scale": plain.real,
    "scale": plain.real,
    "bounds": plain.pairs,
    "shared": plain.texts,
    "moved": plain.whole,
    "correction": plain.reals,
}
