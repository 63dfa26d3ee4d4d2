"""Many fits: one row per group."""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradfit._format import plural
from gradfit._model import Model
from gradfit._result import plain, prediction
from gradfit._result.correlation import Array, Correlated
from gradfit._result.observed import Observed
from gradfit._result.single import FitResult
from gradfit._types import Status, message_of
from gradfit._views import words
from gradfit._views.fitted import as_array
from gradfit._views.words import weightless
from gradfit.errors import CoverageWarning, FitError
from gradfit.graph.surroundings import undisturbed_methods

Theme: TypeAlias = Literal["light", "dark"]


@undisturbed_methods
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitTable(Correlated):
    """One fit per group: the names of :class:`FitResult`, one row per group.

    ``many[key]`` is one fit, ``for key in many`` goes over the keys, ``len(many)`` counts groups.

    Attributes
    ----------
    keys : sequence
        Labels of the groups, in order of first appearance.
    group : ndarray (N,) int64
        Which key each row of the user belongs to; -1 for rows left out.
    names : tuple of str
    params, stderr : mapping of str to (G,)
    cov, corr : (G, p, p)
    chi2, mswd, p_value, condition, scale : (G,)
    dof, status, n_steps, n_eval, rank : ndarray (G,) int64
    success : ndarray (G,) bool
    delta, eps, x_hat, y_hat, weights
        Per point, in the user's row order, as in :class:`FitResult`.
    correction : mapping of str to (G,)
        What ``bias_correction`` took off each parameter; empty if it was not asked for.
    at_bound : ndarray (G, p) bool
        Parameters that ended at a bound.
    moved : ndarray of int64
        Rows of points that the search at the end moved to a nearer foot.
    seconds : float
        Wall time of all fits together.
    backend, absolute_sigma, cov_type, loss, loss_scale, fixed, bounds, shared, observed, model
        As in :class:`FitResult`; the same for every group.
    """

    keys: Sequence[Hashable]
    group: NDArray[np.int64]
    names: tuple[str, ...]
    params: Mapping[str, Array]
    stderr: Mapping[str, Array]
    cov: Array
    chi2: Array
    dof: NDArray[np.int64]
    mswd: Array
    p_value: Array
    delta: Array
    eps: Array | None
    x_hat: Array
    y_hat: Array | None
    weights: Array
    status: NDArray[np.int64]
    success: NDArray[np.bool_]
    n_steps: NDArray[np.int64]
    n_eval: NDArray[np.int64]
    condition: Array
    rank: NDArray[np.int64]
    seconds: float
    backend: str
    absolute_sigma: bool
    cov_type: str
    loss: str
    fixed: tuple[str, ...]
    at_bound: NDArray[np.bool_]
    observed: Observed
    model: Model
    loss_scale: float = math.nan
    bounds: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    scale: Array = field(default_factory=lambda: np.empty(0))
    shared: tuple[str, ...] = ()
    correction: Mapping[str, Array] = field(default_factory=dict[str, Array])
    moved: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    # -- one fit ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __getitem__(self, key: Hashable) -> FitResult:
        """Return the fit of one group, with its own points."""
        if key not in self._places:
            some = ", ".join(map(repr, self.keys[:6])) + (", ..." if len(self) > 6 else "")
            raise KeyError(f"there is no group {key!r}; there are {some}")
        g = self._places[key]
        status = Status(int(self.status[g]))
        take = self._rows[self._first[g] : self._first[g + 1]]
        points: dict[str, Any] = {
            name: None if values is None else values[..., take]
            for name in ("delta", "eps", "x_hat", "y_hat", "weights")
            for values in [getattr(self, name)]
        }
        given_up = ""
        if status == Status.SINGULAR:
            given_up = weightless(self.loss, self.loss_scale, points["weights"])
        return FitResult(
            names=self.names,
            params={n: float(self.params[n][g]) for n in self.names},
            stderr={n: float(self.stderr[n][g]) for n in self.names},
            cov=self.cov[g],
            chi2=float(self.chi2[g]),
            dof=int(self.dof[g]),
            mswd=float(self.mswd[g]),
            p_value=float(self.p_value[g]),
            status=status,
            success=bool(self.success[g]),
            message=given_up or self._message_of(g),
            n_steps=int(self.n_steps[g]),
            n_eval=int(self.n_eval[g]),
            condition=float(self.condition[g]),
            rank=int(self.rank[g]),
            seconds=self.seconds,
            backend=self.backend,
            absolute_sigma=self.absolute_sigma,
            cov_type=self.cov_type,
            loss=self.loss,
            fixed=self.fixed,
            at_bound=tuple(n for n, held in zip(self.names, self.at_bound[g], strict=True) if held),
            observed=_taken(self.observed, take),
            model=self.model,
            loss_scale=self.loss_scale,
            scale=float(self.scale[g]),
            bounds=self.bounds,
            shared=self.shared,
            correction={n: float(taken[g]) for n, taken in self.correction.items()},
            moved=np.flatnonzero(np.isin(take, self.moved)),
            **points,
        )

    @cached_property
    def _places(self) -> dict[Hashable, int]:
        return {key: g for g, key in enumerate(self.keys)}

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """Rows of the user, group by group, those left out last."""
        far = np.where(self.group < 0, len(self), self.group)
        return np.argsort(far, kind="stable")

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """Where the rows of each group begin."""
        counts = np.bincount(self.group[self.group >= 0], minlength=len(self))
        return np.concatenate([[0], np.cumsum(counts)])

    @property
    def n_points(self) -> NDArray[np.int64]:
        """Number of points (G,) of each group."""
        return np.diff(self._first)

    def _message_of(self, g: int) -> str:
        """Return what happened to one fit; its open combination is found when it is asked for."""
        status = Status(int(self.status[g]))
        hint = " (diagnostics() names the combination)"
        told = message_of(status, sought=len(self.fixed) < len(self.names))
        return told + hint * (status == Status.SINGULAR and not self.shared)

    @property
    def message(self) -> tuple[str, ...]:
        """What happened to each fit and, where it failed, what to try."""
        sought = len(self.fixed) < len(self.names)
        return tuple(message_of(Status(int(status)), sought=sought) for status in self.status)

    # -- looking ---------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return counts by status, and the first rows; ``print(many)`` shows the same."""
        from gradfit._views.summary_table import summary

        return summary(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        good = int(self.success.sum())
        return f"<FitTable of {plural(len(self), 'fit')}, {good:,} converged>"

    def _repr_html_(self) -> str:
        from gradfit._views.html import table_fragment

        return table_fragment(self)

    def plot(self, *, level: float = 0.95, theme: Theme = "light") -> Any:
        """Draw the groups on one figure: in one panel while they are few, else in small ones.

        Parameters
        ----------
        level : float
            Of the confidence bands.
        theme : "light" or "dark"

        Returns
        -------
        matplotlib.figure.Figure
        """
        from gradfit._views.groups import SHOWN, plot_groups

        shown = self.keys[:SHOWN]
        fits, labels = [self[key] for key in shown], [str(key) for key in shown]
        return plot_groups(fits, labels, len(self), level, theme)

    # -- asking ----------------------------------------------------------------------------------

    def predict(self, x: Any) -> Any:
        """Return every fitted model at the same x; NaN for groups that were not fitted.

        Parameters
        ----------
        x : number, (N,) or (m, N)
            In the unit of the data; NumPy in, NumPy out, tensors in, tensors out.

        Returns
        -------
        (G,), (G, N) or (G, q, N)
            One row per group, in the shape of :meth:`FitResult.predict`.

        Raises
        ------
        InputError
            Wrong shape, or an implicit model, which has no y.

        Examples
        --------
        >>> import gradfit as gf
        >>> x, y = [0, 1, 2, 0, 1, 2], [1.0, 3.1, 4.9, 0.0, 1.0, 2.0]
        >>> many = gf.fit("a*x + b", x, y, sy=0.1, groups=[7, 7, 7, 8, 8, 8])
        >>> print(many.predict([3.0, 4.0]).round(6).tolist())
        [[6.9, 8.85], [3.0, 4.0]]
        """
        params = [self.params[name] for name in self.names]
        return prediction.predict_each(self.model, params, prediction.places(x, self.observed))

    def interval(self, level: float = 0.95, method: str = "t") -> dict[str, tuple[Any, Any]]:
        """Return a confidence interval for every parameter: name to (low (G,), high (G,)).

        As :meth:`FitResult.interval` with ``method="t"``, row by row; ask ``many[key]`` for others.
        Of the ten first fits it is looked whether errors of x make them too short.

        Raises
        ------
        InputError
            Unknown method, or a level outside 0..1.
        """
        prediction.check_method(method, ("t",))
        known = self.absolute_sigma and self.loss == "linear"
        dofs = np.full(len(self), np.inf) if known else self.dof
        known = {dof: prediction.quantile(level, dof) for dof in np.unique(dofs).tolist()}
        width: Any = np.array([known[dof] for dof in dofs.tolist()])
        if isinstance(self.cov, Tensor):
            width = self.cov.new_tensor(width)
        ends = {
            n: (self.params[n] - width * self.stderr[n], self.params[n] + width * self.stderr[n])
            for n in self.names
        }
        if self.caution:
            warnings.warn(self.caution, CoverageWarning, stacklevel=2)
        for g in np.flatnonzero(self.at_bound.any(1) & self.success):
            one = self[self.keys[int(g)]]
            found = one.interval(level)
            for n in one.at_bound:
                ends[n][0][g], ends[n][1][g] = found[n]
        return ends

    @property
    def caution(self) -> str:
        """What the first ten fits tell of errors of x that make intervals too short, if they do."""
        return self._caution

    @cached_property
    def _caution(self) -> str:
        said = [words.short(self[key]) for key in self.keys[:10]]
        found = [text for text in said if text]
        if not found:
            return ""
        return f"in {len(found)} of {plural(len(said), 'fit')} looked at {found[0]}"

    def raise_for_status(self) -> None:
        """Raise a :class:`gradfit.errors.FitError` unless every fit converged.

        Raises
        ------
        FitError
            Carries this table as ``.result``.
        """
        bad = np.flatnonzero(~self.success)
        if bad.size:
            status = Status(int(self.status[bad[0]]))
            raise FitError(
                f"{bad.size:,} of {len(self):,} fits failed; the first is "
                f"{self.keys[bad[0]]!r}: {status.name}, {status.message}",
                self,
            )

    # -- keeping ---------------------------------------------------------------------------------

    def to_frame(self) -> Any:
        """Return one row per fit: key, values, errors, quality and status.

        Returns
        -------
        pandas.DataFrame, polars.DataFrame or pyarrow.Table
            Of the library whose table or columns were fitted; of Polars for arrays, lists, tensors
            and mappings of them.
        """
        columns = self.to_dict_of_columns()
        if self.observed.kind == "pyarrow":
            return import_module("pyarrow").table(columns)
        return import_module(self.observed.kind or "polars").DataFrame(columns)

    def to_dict_of_columns(self) -> dict[str, Any]:
        """Return what :meth:`to_frame` holds, as a dict of arrays and lists by column."""
        quality = {name: as_array(getattr(self, name)) for name in ("chi2", "mswd", "p_value")}
        values = {n: as_array(self.params[n]) for n in self.names}
        errors = {f"{n}_stderr": as_array(self.stderr[n]) for n in self.names}
        return {
            "key": list(self.keys),
            "n_points": self.n_points,
            **{name: (values | errors)[name] for n in self.names for name in (n, f"{n}_stderr")},
            "dof": self.dof,
            **quality,
            "status": [Status(int(status)).name for status in self.status],
            "success": self.success,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return every field as numbers, text, lists and dictionaries."""
        return plain.to_dict(self, "table")

    def to_json(self) -> str:
        """Return every field as JSON; NaN becomes null, infinities become text."""
        return plain.to_json(self.to_dict())

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "FitTable":
        """Return the table that :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            The fields are not those of a table.
        """
        return cls(**plain.to_fields(fields, "table", _READERS))

    @classmethod
    def from_json(cls, text: str) -> "FitTable":
        """Return the table that :meth:`to_json` wrote.

        Raises
        ------
        InputError
            The fields are not those of a table.
        """
        return cls.from_dict(plain.load(text, "table"))


_READERS: dict[str, Callable[[Any], Any]] = {
    "keys": plain.items,
    **dict.fromkeys(("names", "fixed"), plain.texts),
    **dict.fromkeys(("params", "stderr"), plain.arrays),
    **dict.fromkeys(
        ("cov", "chi2", "mswd", "p_value", "condition", "delta", "eps", "x_hat", "y_hat"),
        plain.array,
    ),
    "weights": plain.array,
    **dict.fromkeys(("group", "dof", "status", "n_steps", "n_eval", "rank"), plain.whole),
    **dict.fromkeys(("success", "at_bound"), plain.truth),
    "seconds": plain.real,
    "absolute_sigma": plain.flag,
    **dict.fromkeys(("backend", "cov_type", "loss"), plain.text),
    "loss_scale": plain.real,
    "scale": plain.array,
    "bounds": plain.pairs,
    "shared": plain.texts,
    "moved": plain.whole,
    "correction": plain.arrays,
}


def _taken(observed: Observed, take: NDArray[np.int64]) -> Observed:
    """Return the rows of one group."""
    n = observed.x.shape[-1]
    changed = {
        each.name: values[..., take]
        for each in fields(observed)
        if isinstance(values := getattr(observed, each.name), np.ndarray) and values.shape[-1] == n
    }
    return replace(observed, **changed)
