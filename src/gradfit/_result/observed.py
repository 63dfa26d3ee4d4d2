"""What was measured, as a result keeps it."""

from dataclasses import dataclass

import numpy as np

from gradfit._types import FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """What was measured, as the fit used it: every row of the user, in the user's order.

    Attributes
    ----------
    x : ndarray (N,) or (m, N)
        NaN in rows that were left out.
    y : ndarray (N,) or (q, N), or None
        NaN in rows that were left out, and where one of several responses was not measured; None
        for an implicit model.
    sx, sy : float, ndarray that broadcasts against x (y), or None
        Standard deviations; 0 where ``fix_x`` made a coordinate exact. None where none was given:
        with neither ``sx``, ``sy`` nor ``cov`` all are 1, otherwise what is not given is exact.
    rho : float, ndarray (N,), or None
        Correlation of the errors of x and y.
    cov : ndarray (k, k, N) or (k, k, 1), or None
        Joint covariance of x and y, ``k = m + q``.
    systematic : ndarray (K, k, N) or None
        One-sigma shifts of x, then y, by each of K errors that points share.
    x_names, y_names : tuple of str
        Names of columns, kept as given; they become labels of axes.
    kind : str
        Library whose table came, ``"pandas"``, ``"polars"`` or ``"pyarrow"``; empty for arrays.
    """

    x: FloatArray
    y: FloatArray | None
    sx: FloatArray | float | None = None
    sy: FloatArray | float | None = None
    rho: FloatArray | float | None = None
    cov: FloatArray | None = None
    systematic: FloatArray | None = None
    x_names: tuple[str, ...] = ("x",)
    y_names: tuple[str, ...] = ("y",)
    kind: str = ""

    @property
    def n_points(self) -> int:
        """Number of rows that were not left out."""
        return int(np.isfinite(np.atleast_2d(self.x)).all(0).sum())

    @property
    def n_missing(self) -> int:
        """Number of responses in those rows that were not measured."""
        if self.y is None or self.y.ndim == 1:
            return 0
        used = np.isfinite(np.atleast_2d(self.x)).all(0)
        return int(np.isnan(self.y[:, used]).sum())
