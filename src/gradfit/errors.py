"""Exceptions and warnings, one family of each.

Wrong input raises before the first evaluation of a model. Numerical trouble inside a fit never
raises: the status of the result says what happened, and one :class:`ConvergenceWarning` sums it up.
"""

from typing import Any


class GradfitError(Exception):
    """Base of every exception that gradfit raises on purpose."""


class InputError(GradfitError, ValueError):
    """An argument is wrong: shape, sign, name, or a value that is not finite."""


class ModelError(GradfitError, RuntimeError):
    """The user's model failed, returned the wrong shape, mixes points or breaks its graph."""


class FitError(GradfitError, RuntimeError):
    """A fit that did not converge, raised by ``raise_for_status()`` only.

    Attributes
    ----------
    result : object
        The result that failed.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class TraceError(GradfitError, RuntimeError):
    """A function could not be traced, or a question to a graph has no answer."""


class BackendError(GradfitError, RuntimeError):
    """The backend that was asked for by name cannot be used in this process."""


class MissingDependencyError(GradfitError, ImportError):
    """An optional package is needed; the message names the command that installs it."""


class StopFit(Exception):  # noqa: N818 - control flow, not an error
    """Raise from ``on_step`` to end a fit or a descent and keep what there is."""


class GradfitWarning(UserWarning):
    """Base of every warning that gradfit gives."""


class ConvergenceWarning(GradfitWarning):
    """Some fits did not converge; one warning per call counts them by status."""


class ConditionWarning(GradfitWarning):
    """The data do not determine every parameter; uncertainties are not to be trusted."""


class CoverageWarning(GradfitWarning):
    """Intervals hold the truth less often than they say; the message names a better choice."""


class PrecisionWarning(GradfitWarning):
    """Numbers came in less precision than the fit needs."""
